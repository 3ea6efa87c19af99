//! A switch that is killed under load: guests lose nothing, and get at most a burst twice.
//!
//! A frame's buffer goes back to its sender only when the receiver can see the frame, and buffers go
//! back in order, so the used index in the sender's ring is where the next switch begins.

use std::time::{Duration, Instant};

use crate::support::front_end::{FrontEnd, MODERN, RING_ENTRIES};
use crate::support::numbered::{BURST_FRAMES, LENT_FRAMES, NumberedPair};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::{UPLINK, Wire};
use crate::support::{ALICE, BROADCAST, PATIENCE, frame, numbers};

const KILLS: usize = 12;

/// Kills the switch under load and starts it, again and again.
fn kill_under_load(threads: &str, window: u64) {
    let mut switch = Switch::with_config(&format!("{threads}{}", guests(&["alice", "bob"])));
    let sockets = ["alice.sock", "bob.sock"].map(|name| switch.path(name));
    let mut pair =
        NumberedPair::plug_in(sockets.each_ref().map(|path| path.as_path()), window, MODERN);
    let mut repeated = Vec::new();

    for number in numbers(0x5eed).take(KILLS) {
        pair.exchange(1_000 + number % 1_000);
        let before = pair.tallies.clone();
        // Full rings when it wakes, and its end while it works on them.
        switch.pause();
        (0..window).for_each(|_| [0, 1].into_iter().for_each(|way| pair.send_one(way)));
        switch.resume();
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(number % 500) {
            pair.receive();
        }
        switch.kill_and_start();
        for (guest, socket) in pair.guests.iter_mut().zip(&sockets) {
            guest.reconnect(socket);
        }
        pair.exchange(1_000);
        pair.await_all();
        repeated.extend([0, 1].map(|way| pair.tallies[way].repeated - before[way].repeated));
    }

    println!("repeated after each kill, both ways: {repeated:?}; {:?}", pair.tallies);
    assert!(repeated.iter().all(|&frames| frames <= BURST_FRAMES), "{repeated:?}");
}

#[test]
fn switch_killed_under_load_loses_no_frame_and_repeats_at_most_a_burst() {
    kill_under_load("", BURST_FRAMES);
}

#[test]
fn switch_with_two_threads_killed_under_load_loses_no_frame_and_repeats_at_most_a_burst() {
    kill_under_load("[threads]\ncores = [0, 1]\n", LENT_FRAMES);
}

/// Frames that an uplink's tx ring has at a time at this pace: what is put in it is sent with the
/// burst. They are given back to their sender before.
const TX_RING_FRAMES: u64 = BURST_FRAMES;

/// What came of numbered frames that a guest sent to the network.
#[derive(Debug, Default)]
struct Outcome {
    /// Up to here all came or are lost.
    next: u64,
    lost: u64,
    repeated: u64,
}

impl Outcome {
    /// Takes what has come.
    fn take(&mut self, outside: &PacketSocket) {
        while let Some(frame) = outside.try_receive() {
            if frame[6..12] != ALICE {
                continue;
            }
            let number = u64::from_be_bytes(frame[14..22].try_into().unwrap());
            if number < self.next {
                self.repeated += 1;
            } else {
                self.lost += number - self.next;
                self.next = number + 1;
            }
        }
    }
}

#[test]
fn switch_killed_under_load_loses_towards_the_network_at_most_what_lay_in_the_tx_ring() {
    let wire = Wire::new();
    let config = guests(&["alice"]) + &interface("up", UPLINK);
    let mut switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let socket = switch.path("alice.sock");
    let outside = wire.socket();
    let mut guest = FrontEnd::plug_in_as(&socket, MODERN);
    let mut sent = 0u64;
    let mut send = |guest: &mut FrontEnd| {
        guest.send(&frame(BROADCAST, ALICE, &sent.to_be_bytes()));
        sent += 1;
        sent
    };
    let mut outcomes = Vec::new();

    for number in numbers(0xf00d).take(KILLS) {
        let mut outcome = Outcome { next: send(&mut guest) - 1, ..Outcome::default() };
        // A full ring when it wakes, and its end while it works on it.
        switch.pause();
        while guest.in_flight() < RING_ENTRIES - 2 {
            send(&mut guest);
        }
        switch.resume();
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(number % 200) {
            outcome.take(&outside);
        }
        switch.kill_and_start();
        guest.reconnect(&socket);
        guest.await_sent();
        let last = send(&mut guest);
        let start = Instant::now();
        while outcome.next < last {
            outcome.take(&outside);
            assert!(start.elapsed() < PATIENCE, "nothing comes any more: {outcome:?} of {last}");
        }
        outcomes.push(outcome);
    }

    println!("{outcomes:?}");
    for Outcome { lost, repeated, .. } in outcomes {
        assert!(lost <= TX_RING_FRAMES, "{lost} lost");
        assert!(repeated <= BURST_FRAMES, "{repeated} repeated");
    }
}
