//! Uplinks go on in the new switch: nothing is lost between a wire and a guest, nor between two wires.
//!
//! The streams send at a steady pace, and no further ahead than fits the shortest queue on their way,
//! so that what is lost was lost by the switch: a veth drops what its ring of 256 frames does not
//! hold (drivers/net/veth.c), a guest has 128 buffers, and a socket's rx ring holds 1,024 frames, which
//! is all that may arrive by a queue while no switch works.

use std::time::{Duration, Instant};

use crate::support::front_end::FrontEnd;
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::{UPLINK, Wire};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, PATIENCE, frame};
use crate::uplink::two_wires;

/// Frames of one stream that may be on their way: of a guest's 128 buffers, 32 may be lent to another
/// thread.
const WINDOW: u64 = 30;

/// Time between two frames of a stream.
const PACE: Duration = Duration::from_micros(100);

/// Far above what a pause is; on this machine it is milliseconds. The aim is 50 ms.
const PAUSE_LIMIT: Duration = Duration::from_secs(1);

/// Alice is a guest, Bob and Carol are behind the uplinks.
fn ports() -> String {
    [guests(&["vm"]), interface("up", UPLINK), interface("up2", "uplink2")].concat()
}

/// Who sends and receives.
#[derive(Debug)]
pub(super) struct Stations {
    alice: FrontEnd,
    wires: [PacketSocket; 2],
}

/// Numbered frames from one station to another.
#[derive(Debug)]
struct Stream {
    from: [u8; 6],
    to: [u8; 6],
    length_bytes: usize,
    sent: u64,
    received: u64,
    next_due: Instant,
    last: Instant,
    /// Longest time between two frames that arrived.
    pause: Duration,
}

impl Stations {
    pub(super) fn send(&mut self, from: [u8; 6], frame: &[u8]) {
        match from {
            ALICE => self.alice.send(frame),
            BOB => self.wires[0].send(frame),
            _ => self.wires[1].send(frame),
        }
    }

    /// Everything that has arrived, with the station where it did.
    fn arrived(&mut self) -> Vec<([u8; 6], Vec<u8>)> {
        let mut arrived = Vec::new();
        while let Some((_, frame)) = self.alice.try_receive() {
            arrived.push((ALICE, frame));
        }
        for (station, wire) in [BOB, CAROL].into_iter().zip(&self.wires) {
            while let Some(frame) = wire.try_receive() {
                arrived.push((station, frame));
            }
        }
        arrived
    }
}

/// The streams, and what they run over.
pub(super) struct Lab {
    pub(super) wire: Wire,
    pub(super) switch: Switch,
    pub(super) stations: Stations,
    streams: Vec<Stream>,
}

impl Lab {
    /// With frames of this length between the wires, and settings of the switch.
    pub(super) fn new(wire: Wire, settings: &str, length_bytes: usize) -> Self {
        let switch = Switch::in_namespace(Some(&wire.namespace), &format!("{settings}{}", ports()));
        let wires = ["outside", "outside2"].map(|end| wire.socket_on(end));
        wires.iter().for_each(PacketSocket::prepare_for_tags);
        let alice = FrontEnd::plug_in(&switch.path("vm.sock"));
        let now = Instant::now();
        let stream = |from, to, length_bytes| Stream {
            from,
            to,
            length_bytes,
            sent: 0,
            received: 0,
            next_due: now,
            last: now,
            pause: Duration::ZERO,
        };
        let streams = vec![
            stream(ALICE, BOB, 900),
            stream(BOB, ALICE, 900),
            stream(BOB, CAROL, length_bytes),
            stream(CAROL, BOB, length_bytes),
        ];
        let mut lab = Self { wire, switch, stations: Stations { alice, wires }, streams };
        // Everybody is learned before a frame is for somebody.
        for station in [ALICE, BOB, CAROL] {
            lab.stations.send(station, &frame(BROADCAST, station, &[0; 46]));
        }
        let mut greetings = 0;
        let start = Instant::now();
        while greetings < 6 {
            greetings +=
                lab.stations.arrived().iter().filter(|(_, it)| it[..6] == BROADCAST).count();
            assert!(start.elapsed() < PATIENCE, "{greetings} of 6 greetings");
        }
        lab
    }

    /// Sends what is due, and notes what has arrived.
    fn step(&mut self, sends: bool) {
        let now = Instant::now();
        for stream in &mut self.streams {
            let Stream { from, to, length_bytes, .. } = *stream;
            // What has arrived may still be lent.
            let lent = if from == ALICE { self.stations.alice.in_flight().into() } else { 0 };
            let ahead = lent.max(stream.sent - stream.received);
            if sends && now >= stream.next_due && ahead < WINDOW {
                let mut payload = stream.sent.to_be_bytes().to_vec();
                payload.resize(length_bytes - 14, from[5]);
                self.stations.send(from, &frame(to, from, &payload));
                stream.sent += 1;
                stream.next_due = now + PACE;
            }
        }
        for (station, frame) in self.stations.arrived() {
            let found =
                self.streams.iter_mut().find(|it| frame[..6] == it.to && frame[6..12] == it.from);
            let Some(stream) = found.filter(|it| it.to == station) else { continue };
            let number = u64::from_be_bytes(frame[14..22].try_into().unwrap());
            assert_eq!(number, stream.received, "lost or repeated on the way to {:x?}", stream.to);
            assert_eq!(frame.len(), stream.length_bytes);
            stream.received += 1;
            let now = Instant::now();
            stream.pause = stream.pause.max(now - stream.last);
            stream.last = now;
        }
    }

    /// Lets the streams flow until this is so. Returns the longest pause that one of them made.
    pub(super) fn flow_until(&mut self, mut is_over: impl FnMut(&mut Switch) -> bool) -> Duration {
        let start = Instant::now();
        for stream in &mut self.streams {
            (stream.pause, stream.last) = (Duration::ZERO, start);
        }
        while !is_over(&mut self.switch) {
            self.step(true);
            assert!(start.elapsed() < 3 * PATIENCE, "no end of it: {:?}", self.streams);
        }
        self.streams.iter().map(|stream| stream.pause).max().unwrap_or_default()
    }

    pub(super) fn flow_for(&mut self, time: Duration) -> Duration {
        let start = Instant::now();
        self.flow_until(|_| start.elapsed() > time)
    }

    /// Waits until all that was sent has arrived.
    pub(super) fn await_all(&mut self) {
        let start = Instant::now();
        while self.streams.iter().any(|stream| stream.received < stream.sent) {
            self.step(false);
            assert!(start.elapsed() < PATIENCE, "frames are lost: {:?}", self.streams);
        }
    }

    /// Lets another switch take over while frames flow, and returns the longest pause.
    pub(super) fn take_over(&mut self) -> Duration {
        let successor = self.switch.start_successor(&[]);
        let pause = self.flow_until(|switch| !switch.is_alive());
        self.switch.succeed(successor);
        let after = self.flow_for(Duration::from_millis(100));
        pause.max(after)
    }

    /// Five times in a row, with nothing lost nor repeated.
    fn take_over_five_times(&mut self) {
        let quiet = self.flow_for(Duration::from_millis(300));
        let pauses: Vec<Duration> = (0..5).map(|_| self.take_over()).collect();
        self.await_all();

        let sent: u64 = self.streams.iter().map(|stream| stream.sent).sum();
        println!(
            "pauses of {sent} frames: {pauses:?}, before: {quiet:?}; by the switches: {:?}",
            super::pauses(&self.switch)
        );
        assert_eq!(self.switch.log_lines("taken over, uplink"), 10, "{}", self.switch.log());
        assert_eq!(self.switch.log_lines("anew"), 0, "{}", self.switch.log());
        assert!(pauses.into_iter().all(|pause| pause < PAUSE_LIMIT));
    }

    /// How many times the memory of four queues, 64 MiB, the switch has for frames.
    pub(super) fn umems(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.switch.process()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with("RssShmem:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib >> 16
    }
}

#[test]
fn nothing_is_lost_between_wires_and_guest_when_switches_take_over_five_times() {
    let mut lab = Lab::new(two_wires(), "", 900);
    for name in ["uplink3", "uplink4"] {
        lab.wire.ip(&[
            "link",
            "add",
            name,
            "type",
            "veth",
            "peer",
            "name",
            &name.replace("up", "out"),
        ]);
        lab.wire.set_up(name);
    }
    assert_eq!(lab.umems(), 1);

    lab.take_over_five_times();

    // The memory has room for four queues. If a chunk was missing, the fourth would need another.
    for port in ["up", "up2"] {
        lab.switch.run(&["port", "remove", port]);
        let interface = port.replace("up", "uplink");
        lab.switch.run(&["port", "add", port, "af-xdp", "--interface", &interface]);
    }
    for number in ["3", "4"] {
        let (port, interface) = (format!("up{number}"), format!("uplink{number}"));
        lab.switch.run(&["port", "add", &port, "af-xdp", "--interface", &interface]);
    }
    assert_eq!(lab.umems(), 1);
    for station in [BOB, CAROL] {
        lab.stations.send(station, &frame(BROADCAST, station, &[0; 46]));
    }
    lab.flow_for(Duration::from_millis(100));
    lab.await_all();
}

#[test]
fn nothing_is_lost_when_queues_belong_to_several_threads() {
    let wire = Wire::with_queues(2);
    let queues = ["numrxqueues", "2", "numtxqueues", "2"];
    let add = [
        &["link", "add", "uplink2"][..],
        &queues,
        &["type", "veth", "peer", "name", "outside2"],
        &queues,
    ];
    wire.ip(&add.concat());
    wire.set_up("uplink2");
    wire.set_up("outside2");
    let mut lab = Lab::new(wire, "[threads]\ncores = [0, 1]\n", 900);

    lab.take_over_five_times();
}

#[test]
fn jumbo_frames_in_several_buffers_come_along() {
    let wire = two_wires();
    for interface in ["uplink", "outside", "uplink2", "outside2"] {
        wire.ip(&["link", "set", interface, "mtu", "9000"]);
    }
    let mut lab = Lab::new(wire, "", 9_000);

    lab.take_over_five_times();
}

#[test]
fn uplink_of_another_namespace_is_opened_anew_and_the_log_says_so() {
    let wire = Wire::new();
    let elsewhere = Wire::empty();
    // Another index than the first one's.
    elsewhere.ip(&["link", "add", "other", "type", "veth", "peer", "name", "outside"]);
    elsewhere.ip(&["link", "add", "uplink", "type", "veth", "peer", "name", "outside2"]);
    let config = interface("up", UPLINK);
    let mut switch = Switch::in_namespace(Some(&wire.namespace), &config);

    let starter = ["ip", "netns", "exec", &elsewhere.namespace];
    let successor = switch.start_successor_under(&starter, &[]);
    switch.succeed(successor);

    let log = switch.log();
    assert!(
        log.contains("port up: will be opened anew: uplink cannot be taken over as it is"),
        "{log}"
    );
    assert!(log.contains("port up: up, uplink in copy mode"), "{log}");
    let has_program =
        |wire: &Wire| wire.ip(&["link", "show", "dev", "uplink"]).contains("prog/xdp");
    assert!(!has_program(&wire) && has_program(&elsewhere));
}
