//! What the settings of a port change for its offloads, while traffic flows.

use std::sync::atomic::{AtomicBool, Ordering};

use virtio::offload::NetHeader;

use crate::support::flow::{Flow, TCP4};
use crate::support::front_end::{FrontEnd, MODERN, Manner, Received};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, frame, wait_for};

use super::abilities::{
    ASKS, Sent, TAKES_ALL, TAKES_ALL_MERGED, arriving, assert_arrived, merging,
};
use super::assert_accounted;

/// Payload of a piece that fits an MTU of 1,500 bytes, with 12 bytes of options.
const FITTING: u16 = 1_448;

struct Lab {
    switch: Switch,
    alice: FrontEnd,
    bob: FrontEnd,
    manner: Manner,
}

impl Lab {
    fn new(manner: Manner) -> Self {
        let switch = Switch::with_config(&guests(&["alice", "bob"]));
        let alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), merging(ASKS));
        let bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);
        Self { switch, alice, bob, manner }
    }

    fn send(&mut self, sent: &Sent) {
        let (net_header, frame) = sent.packet();
        self.alice.send_asking(net_header, &frame);
    }

    fn next(&mut self) -> Received {
        wait_for("a frame", || self.bob.try_receive_told())
    }

    /// Sends a frame that comes whole.
    fn comes_whole(&mut self, sent: &Sent) {
        self.send(sent);
        let wanted = arriving(self.manner, sent.packet().0, sent.packet().1);
        assert_arrived(&self.next(), &wanted, "whole");
    }

    /// Sends a frame that comes ready for a wire.
    fn comes_ready(&mut self, sent: &Sent) {
        self.send(sent);
        for piece in sent.ready() {
            let wanted = arriving(self.manner, NetHeader::default(), piece);
            assert_arrived(&self.next(), &wanted, "ready");
        }
    }

    /// Sends a frame that comes either way. Says whether it came whole.
    fn comes(&mut self, sent: &Sent) -> bool {
        self.send(sent);
        let first = self.next();
        let is_whole = first.net_header != NetHeader::default();
        let wanted = if is_whole { vec![sent.packet().1] } else { sent.ready() };
        assert!(first.frame == wanted[0]);
        wanted[1..].iter().for_each(|piece| assert!(self.next().frame == *piece));
        is_whole
    }

    /// Sends a frame that a port drops.
    fn is_dropped(&mut self, sent: &Sent, port: &str, reason: &str) {
        let before = self.switch.drops(port, reason);
        self.send(sent);
        self.alice.await_sent();
        assert_eq!(self.switch.drops(port, reason), before + 1, "{port}: {reason}");
        assert_eq!(self.bob.try_receive_told(), None);
    }

    fn finish(self) {
        for port in ["alice", "bob"] {
            assert_accounted(&self.switch, port);
        }
    }
}

/// A large frame to be cut into pieces of so many bytes.
fn large(size: u16) -> Sent {
    Sent { flow: TCP4, payload: vec![7; 20_000], is_partial: true, size: Some(size) }
}

/// A frame of so many bytes that is ready, Ethernet header included.
fn ready(bytes: usize) -> Sent {
    let payload = vec![7; bytes - TCP4.head_bytes()];
    Sent { flow: TCP4, payload, is_partial: false, size: None }
}

#[test]
fn offloads_are_switched_off_and_on_while_traffic_flows() {
    let mut lab = Lab::new(TAKES_ALL_MERGED);
    let mut number = 0;
    let mut next = || {
        number += 1;
        Sent { flow: Flow { sequence: number * 20_000, ..TCP4 }, ..large(FITTING) }
    };
    for switched in ["off", "on"] {
        lab.comes(&next());
        let is_set = AtomicBool::new(false);
        let control = lab.switch.path("control.sock");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut client = std::process::Command::new(env!("CARGO_BIN_EXE_ringway"));
                client.arg("--control").arg(control);
                client.args(["port", "set", "bob", "--offloads", switched]);
                assert!(client.status().unwrap().success());
                is_set.store(true, Ordering::Relaxed);
            });
            while !is_set.load(Ordering::Relaxed) {
                lab.comes(&next());
            }
        });
        for _ in 0..50 {
            assert_eq!(lab.comes(&next()), switched == "on");
        }
    }

    lab.switch.run(&["port", "set", "bob", "--offloads", "off"]);
    lab.comes_ready(&next());
    lab.comes_ready(&Sent { size: None, payload: vec![1; 100], ..next() });
    lab.finish();
}

#[test]
fn frames_longer_than_the_mtu_are_dropped_in_both_directions() {
    for (port, reason) in [("alice", "oversized"), ("bob", "egress_oversized")] {
        let mut lab = Lab::new(TAKES_ALL);
        lab.comes_ready(&ready(9_000));

        lab.switch.run(&["port", "set", port, "--mtu", "1500"]);

        lab.comes_ready(&ready(1_514));
        lab.is_dropped(&ready(1_515), port, reason);
        lab.is_dropped(&Sent { is_partial: true, ..ready(1_515) }, port, reason);
        lab.comes_whole(&large(FITTING));
        lab.is_dropped(&large(1_500), port, reason);
        lab.finish();
    }
}

#[test]
fn pieces_that_fit_the_mtu_are_cut_for_whoever_takes_no_large_frames() {
    let mut lab = Lab::new(MODERN);
    lab.switch.run(&["port", "set", "bob", "--mtu", "1500"]);

    lab.comes_ready(&large(FITTING));
    // Options of TCP are known when the frame is cut: only the last piece fits.
    lab.send(&large(FITTING + 1));
    lab.alice.await_sent();
    let pieces = large(FITTING + 1).ready();
    assert_eq!(lab.next().frame, *pieces.last().unwrap());

    let dropped = u64::try_from(pieces.len()).unwrap() - 1;
    assert_eq!(lab.switch.drops("bob", "egress_oversized"), dropped);
    lab.finish();
}

#[test]
fn front_end_may_tell_an_mtu_that_the_port_takes_and_no_other() {
    let mut lab = Lab::new(TAKES_ALL);
    lab.switch.run(&["port", "set", "bob", "--mtu", "1500"]);

    assert_eq!(lab.bob.set_mtu(1_501), 1);
    assert_eq!(lab.bob.set_mtu(1_500), 0);

    lab.alice.send(&frame(BOB, ALICE, &[1; 46]));
    assert_eq!(lab.next().frame, frame(BOB, ALICE, &[1; 46]));
    // It is logged after the answer.
    let is_logged = || (lab.switch.log_lines("wants an MTU of 1501") > 0).then_some(());
    wait_for("the refused MTU in the log", is_logged);
}
