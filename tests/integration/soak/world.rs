//! The switch, its guests, and the wire, under load.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit::Audit;
use super::guest::{Guest, Time};
use super::manners::MANNERS;
use super::story::Story;
use super::traffic::{Label, Ledger, Receipt, WIRE, address};
use super::watch::PollThreads;
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::Switch;
use crate::support::wire::Wire;

/// Queue pairs that every port offers.
const QUEUES: u16 = 4;

/// How long guests may be kept from sending after a switch has died: until all are back, or 1.5 s
/// have passed. The rest is for their coming back.
const GRACE: Duration = Duration::from_secs(3);

/// One round of so many has a guest that is teased, which takes longer than all the rest.
const ROUNDS_A_TEASING: usize = 4;

/// Frames that come by the wire in one go.
const WIRE_AT_ONCE: usize = 16;

pub(super) struct World {
    pub(super) story: Story,
    pub(super) guests: Vec<Guest>,
    pub(super) ledger: Ledger,
    pub(super) audit: Audit,
    pub(super) time: Time,
    pub(super) switch: Switch,
    threads: PollThreads,
    grace_until: Instant,
    wire_sent: u64,
    socket: PacketSocket,
    // Last, so that the switch has gone when the namespace goes.
    _wire: Wire,
}

impl World {
    pub(super) fn new(story: Story) -> Self {
        let wire = Wire::new();
        let switch = Switch::in_namespace(Some(&wire.namespace), &config());
        let socket = wire.socket();
        socket.prepare_for_tags();
        let mut audit = Audit::default();
        audit.begin_anew(&switch);
        let plug_in = |index| {
            let name = name(index);
            let socket = switch.path(&format!("{name}.sock"));
            Guest::plug_in(index, name, socket)
        };
        let guests = (0..u8::try_from(MANNERS.len()).unwrap()).map(plug_in).collect();
        Self {
            story,
            guests,
            ledger: Ledger::default(),
            audit,
            time: Time::default(),
            threads: PollThreads::of(switch.process()),
            switch,
            grace_until: Instant::now(),
            wire_sent: 0,
            socket,
            _wire: wire,
        }
    }

    /// Everybody sends and receives a little.
    pub(super) fn pump(&mut self) {
        self.keep_time();
        for guest in &mut self.guests {
            guest.send(&mut self.story.frames, self.time);
        }
        for _ in 0..self.story.frames.below(WIRE_AT_ONCE) {
            self.send_by_wire();
        }
        self.receive();
        let index = self.story.frames.below(ROUNDS_A_TEASING * self.guests.len());
        let Some(guest) = self.guests.get_mut(index) else { return };
        guest.tease(&mut self.story.frames, &mut self.threads, self.time);
    }

    /// Everybody takes what has come. Returns whether there was anything.
    pub(super) fn receive(&mut self) -> bool {
        self.keep_time();
        let before = self.ledger.received;
        for guest in &mut self.guests {
            if guest.deaf_until.is_none() {
                guest.receive(&mut self.ledger, self.time);
            }
            guest.check_served(&self.threads, self.time);
        }
        while let Some(frame) = self.socket.try_receive() {
            let Time { epoch, kills, ms, .. } = self.time;
            let receipt = Receipt { guest: WIRE, pair: 0, vlan: 1, epoch, kills, ms };
            self.ledger.note(&frame, receipt);
        }
        self.ledger.received > before
    }

    fn keep_time(&mut self) {
        self.threads.sample();
        self.time.ms = u32::try_from(self.story.now()).unwrap();
        self.time.is_grace = Instant::now() < self.grace_until;
    }

    fn send_by_wire(&mut self) {
        let guest = self.story.frames.below(self.guests.len());
        let pair = self.story.frames.below(self.guests[guest].pairs.len());
        let to = address(self.guests[guest].index, u8::try_from(pair).unwrap());
        self.wire_sent += 1;
        let Time { epoch, kills, ms, .. } = self.time;
        let number = self.wire_sent;
        let label = Label { guest: WIRE, pair: 0, vlan: 1, epoch, kills, number, ms };
        let length = self.story.frames.below(1_000);
        self.socket.send(&label.frame(to, u16::try_from(length).unwrap()));
    }

    /// Asks the switch for something that it must do.
    pub(super) fn ask(&self, method: &str, params: &Value) -> Value {
        let mut answer = self.switch.connect().call(method, params);
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].take()
    }

    /// Adds the port of a guest again.
    pub(super) fn add_port(&mut self, index: usize) {
        let guest = &self.guests[index];
        let params = json!({
            "name": guest.name, "type": "vhost-user", "socket": guest.socket, "queues": QUEUES,
        });
        self.ask("port.add", &params);
        self.guests[index].has_port = true;
        self.guests[index].vlan = 1;
        self.time.epoch += 1;
    }

    /// Kills the switch and starts it, and lets the guests come back.
    pub(super) fn kill(&mut self) {
        self.switch.kill_and_start();
        self.time.kills += 1;
        self.time.epoch += 1;
        self.audit.begin_anew(&self.switch);
        self.begin_with_another();
        for guest in &mut self.guests {
            guest.vlan = 1;
            guest.has_port = true;
            guest.wake_up();
            if guest.away_until.is_some() {
                continue;
            }
            // A packed ring does not tell where its switch died.
            if guest.is_packed {
                guest.harvest(&mut self.ledger, self.time);
                guest.front_end.boot(&guest.socket);
            } else {
                guest.front_end.reconnect(&guest.socket);
            }
            guest.begin_session();
        }
    }

    /// Lets another switch take over, under load.
    pub(super) fn take_over(&mut self) {
        let successor = self.switch.start_successor(&[]);
        let start = Instant::now();
        // Which of the two serves whom is not to be seen from here.
        self.threads = PollThreads::none();
        self.grace_until = Instant::now() + Duration::from_secs(3_600);
        while self.switch.is_alive() {
            self.pump();
            assert!(start.elapsed() < 3 * crate::support::PATIENCE, "nobody takes over");
        }
        self.switch.succeed(successor);
        self.audit.forget_all();
        self.begin_with_another();
        // Sessions go on: nobody has to come back.
        self.grace_until = Instant::now();
    }

    /// What it was about.
    pub(super) fn report(&self) {
        let Self { story, ledger, audit, time, .. } = self;
        println!(
            "soak: {} steps in {} ms, {} frames received ({} flooded), {} kills, {} repeated (at \
             most {} of a ring); {} comparisons of counters, {} of what the switch holds",
            story.step,
            story.now(),
            ledger.received,
            ledger.flooded,
            time.kills,
            ledger.repeated,
            ledger.most_repeated,
            audit.compared,
            audit.footprints,
        );
    }

    fn begin_with_another(&mut self) {
        self.threads = PollThreads::of(self.switch.process());
        self.guests.iter_mut().for_each(Guest::forget_watches);
        self.grace_until = Instant::now() + GRACE;
    }
}

fn name(index: u8) -> String {
    format!("guest{index}")
}

fn config() -> String {
    let port = |index| {
        let name = name(index);
        format!(
            "[[port]]\nname = '{name}'\ntype = 'vhost-user'\nsocket = 'DIR/{name}.sock'\n\
             queues = {QUEUES}\n"
        )
    };
    let guests: String = (0..u8::try_from(MANNERS.len()).unwrap()).map(port).collect();
    let uplink = "[[port]]\nname = 'up'\ntype = 'af-xdp'\ninterface = 'uplink'\n";
    format!("[threads]\ncores = [0, 1]\n{guests}{uplink}")
}
