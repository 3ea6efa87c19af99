//! The switch, its guests, and the wire, under load.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::audit::Audit;
use super::guest::{Guest, Time};
use super::host::Host;
use super::manners::{MANNERS, MOST_PAIRS};
use super::story::Story;
use super::traffic::{HOST, Label, Ledger, Receipt, WIRE, address};
use super::watch::PollThreads;
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, interface};
use crate::support::wire::{UPLINK, Wire};

/// How long guests may be kept from sending after a switch has died: until all are back, or 1.5 s
/// have passed. The rest is for their coming back.
const GRACE: Duration = Duration::from_secs(3);

/// One round of so many has a guest that is teased, which takes longer than all the rest.
const ROUNDS_A_TEASING: usize = 4;

/// A port that no guest is at first: one can move to it.
const SPARE: &str = "spare";

/// Frames that come by the wire, and from the host, in one go.
const WIRE_AT_ONCE: usize = 16;

pub(super) struct World {
    pub(super) story: Story,
    pub(super) guests: Vec<Guest>,
    /// The port that no guest is at, and its socket.
    pub(super) spare: (String, PathBuf),
    pub(super) host: Host,
    pub(super) ledger: Ledger,
    pub(super) audit: Audit,
    pub(super) time: Time,
    pub(super) switch: Switch,
    threads: PollThreads,
    grace_until: Instant,
    wire_sent: u64,
    take_overs: u64,
    pub(super) moves: u64,
    socket: PacketSocket,
    // Last, so that the switch has gone when the namespace goes.
    _wire: Wire,
}

impl World {
    pub(super) fn new(story: Story) -> Self {
        let wire = Wire::new();
        let mut host = Host::new(&wire);
        let switch = Switch::in_namespace(Some(&wire.namespace), &config());
        let socket = wire.socket();
        socket.prepare_for_tags();
        host.warm_up(Time::default());
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
            spare: (SPARE.to_owned(), switch.path(&format!("{SPARE}.sock"))),
            host,
            ledger: Ledger::default(),
            audit,
            time: Time::default(),
            threads: PollThreads::of(switch.process()),
            switch,
            grace_until: Instant::now(),
            wire_sent: 0,
            take_overs: 0,
            moves: 0,
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
        for _ in 0..self.story.frames.below(WIRE_AT_ONCE) {
            self.send_by_host();
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
            guest.receive(&mut self.ledger, self.time);
            guest.check_served(&self.threads, self.time);
        }
        let Time { epoch, kills, ms, .. } = self.time;
        for (guest, socket) in [(WIRE, &self.socket), (HOST, &self.host.socket)] {
            while let Some(frame) = socket.try_receive() {
                let receipt = Receipt { guest, pair: 0, vlan: 1, epoch, kills, ms };
                self.ledger.note(&frame, receipt);
            }
        }
        self.ledger.received > before
    }

    fn keep_time(&mut self) {
        self.threads.sample();
        self.time.ms = u32::try_from(self.story.now()).unwrap();
        self.time.is_grace = Instant::now() < self.grace_until;
    }

    fn send_by_wire(&mut self) {
        self.wire_sent += 1;
        let frame = self.frame_from_outside(WIRE, self.wire_sent);
        self.socket.send(&frame);
    }

    fn send_by_host(&mut self) {
        self.host.sent += 1;
        let frame = self.frame_from_outside(HOST, self.host.sent);
        self.host.socket.try_send(&frame);
    }

    /// A frame to some guest.
    fn frame_from_outside(&mut self, from: u8, number: u64) -> Vec<u8> {
        let guest = self.story.frames.below(self.guests.len());
        let pair = self.story.frames.below(self.guests[guest].pairs.len());
        let to = address(self.guests[guest].index, u8::try_from(pair).unwrap());
        let Time { epoch, kills, ms, .. } = self.time;
        let label = Label { guest: from, pair: 0, vlan: 1, epoch, kills, number, ms };
        let length = self.story.frames.below(1_000);
        label.frame(to, u16::try_from(length).unwrap())
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
            "name": guest.name, "type": "vhost-user", "socket": guest.socket, "queues": MOST_PAIRS,
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
        self.host.warm_up(self.time);
        self.audit.begin_anew(&self.switch);
        self.begin_with_another();
        self.host.until = None;
        for guest in &mut self.guests {
            guest.vlan = 1;
            guest.has_port = true;
            guest.wake_up();
            if guest.away_until.is_some() {
                continue;
            }
            // A packed ring does not tell where its switch died.
            if guest.is_packed() {
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
        self.take_overs += 1;
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
             most {} of a ring), {} take-overs, {} moves of guests and {} announcements; {} \
             comparisons of counters, {} of what the switch holds",
            story.step,
            story.now(),
            ledger.received,
            ledger.flooded,
            time.kills,
            ledger.repeated,
            ledger.most_repeated,
            self.take_overs,
            self.moves,
            ledger.announcements,
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
    let port = |name: String| {
        format!(
            "[[port]]\nname = '{name}'\ntype = 'vhost-user'\nsocket = 'DIR/{name}.sock'\n\
             queues = {MOST_PAIRS}\n"
        )
    };
    let names = (0..u8::try_from(MANNERS.len()).unwrap()).map(name);
    let guests: String = names.chain([SPARE.to_owned()]).map(port).collect();
    let uplink = interface("up", UPLINK);
    format!("[threads]\ncores = [0, 1]\n{guests}{uplink}{}", Host::PORT)
}
