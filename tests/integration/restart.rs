//! A switch that is killed under load: guests lose nothing, and get at most a burst twice.
//!
//! A frame's buffer goes back to its sender only when the receiver can see the frame, and buffers go
//! back in order, so the used index in the sender's ring is where the next switch begins.

use std::time::{Duration, Instant};

use crate::support::front_end::MODERN;
use crate::support::numbered::{BURST_FRAMES, LENT_FRAMES, NumberedPair};
use crate::support::numbers;
use crate::support::switch::{Switch, guests};

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
