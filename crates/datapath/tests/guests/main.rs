//! The data path with guests that are drivers in this process: real poll threads, real rings.

mod driver;

use std::time::{Duration, Instant};

use datapath::{Datapath, Event, PollMode, PortTraits};
use driver::{
    ALICE, BOB, BROADCAST, CAROL, Guest, NO_LIMIT, QUEUE_ENTRIES, access, frame, start, wait_for,
};
use frame::DropReason;

/// Alice, Bob and Carol; the switch knows where Bob and Carol are.
fn alice_and_two_whom_she_heard(datapath: &mut Datapath) -> [Guest; 3] {
    let [mut alice, mut bob, mut carol] = [(); 3].map(|()| Guest::plug_in(datapath, &access(1)));
    bob.send(&frame(ALICE, BOB, &[0; 46]));
    carol.send(&frame(ALICE, CAROL, &[0; 46]));
    alice.receive();
    alice.receive();
    [alice, bob, carol]
}

/// Frames of every length class cross both ways, byte for byte.
fn exchange(threads: usize, poll: PollMode) {
    let mut datapath = start(threads, poll);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    alice.send(&frame(BROADCAST, ALICE, &[0; 46]));
    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[0; 46]));

    for length in [0, 1, 46, 49, 50, 51, 200, 1_500] {
        let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        bob.send(&frame(ALICE, BOB, &payload));
        assert_eq!(alice.receive(), frame(ALICE, BOB, &payload));
        alice.send(&frame(BOB, ALICE, &payload));
        assert_eq!(bob.receive(), frame(BOB, ALICE, &payload));
        alice.await_sent();
        bob.await_sent();
    }
    alice.await_sent();
    let total = datapath.statistics(alice.port).total;
    assert_eq!((total.ingress_frames, total.egress_frames), (9, 8));
    assert_eq!((total.decided_frames, total.ordered_copies), (9, 8));
}

#[test]
fn frames_cross_on_one_thread() {
    exchange(1, PollMode::Adaptive);
}

#[test]
fn frames_cross_between_two_threads() {
    exchange(2, PollMode::Adaptive);
}

#[test]
fn frames_cross_between_threads_that_never_sleep() {
    exchange(2, PollMode::Always);
}

#[test]
fn frame_after_silence_wakes_the_switch() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    let asleep = |datapath: &Datapath| datapath.threads().iter().all(|thread| thread.sleeps > 0);

    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(5));
        alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
        bob.receive();
        alice.await_sent();
    }

    assert!(asleep(&datapath));
}

#[test]
fn loans_come_back_so_that_they_never_run_out() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));

    for _ in 0..3_000 {
        alice.send(&frame(BROADCAST, ALICE, &[5; 46]));
        bob.receive();
        alice.await_sent();
    }

    assert_eq!(datapath.statistics(bob.port).total.egress_frames, 3_000);
}

#[test]
fn no_frame_is_lost_to_a_queue_that_is_falling_asleep() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));

    // Gaps from nothing to 100 µs sweep over the moment at which queues and threads go to sleep. A
    // lost wake-up would leave `receive` without its frame until its patience ends.
    for gap in (0..4_000).map(|round| Duration::from_nanos(25 * round)) {
        let start = Instant::now();
        while start.elapsed() < gap {
            std::hint::spin_loop();
        }
        alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
        bob.receive();
        alice.await_sent();
    }

    assert!(datapath.threads().iter().any(|thread| thread.sleeps > 0));
}

#[test]
fn frame_goes_its_own_way_after_one_to_the_same_address_that_was_too_long() {
    let mut datapath = start(1, PollMode::Adaptive);
    let [mut alice, mut bob, mut carol] = alice_and_two_whom_she_heard(&mut datapath);
    let traits = PortTraits { limit_bytes: 1_514, ..PortTraits::default() };
    datapath.set_port(alice.port, &access(1), NO_LIMIT, traits);
    let to_carol = |length| frame(CAROL, ALICE, &vec![2; length]);

    alice.send_at_once(&[to_carol(1_501), to_carol(46)]);
    alice.send_at_once(&[frame(BOB, ALICE, &[1; 46]), to_carol(1_501), to_carol(47)]);

    // Until she was heard, frames for Alice were flooded.
    let from_alice = |guest: &mut Guest| {
        wait_for("Alice's", || guest.try_receive().filter(|frame| frame[6..12] == ALICE))
    };
    assert_eq!(from_alice(&mut carol), to_carol(46));
    assert_eq!(from_alice(&mut carol), to_carol(47));
    assert_eq!(from_alice(&mut bob), frame(BOB, ALICE, &[1; 46]));
    assert_eq!(datapath.statistics(alice.port).total.drops(DropReason::Oversized), 2);
    assert!(bob.try_receive().is_none(), "Bob got no frame of Carol's");
}

#[test]
fn flood_reaches_every_port_of_its_vlan_once_whatever_thread_owns_it() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut others: Vec<Guest> =
        (0..4).map(|_| Guest::plug_in(&mut datapath, &access(1))).collect();
    let mut stranger = Guest::plug_in(&mut datapath, &access(2));

    alice.send(&frame(BROADCAST, ALICE, &[7; 100]));

    for guest in &mut others {
        assert_eq!(guest.receive(), frame(BROADCAST, ALICE, &[7; 100]));
        assert_eq!(guest.try_receive(), None);
    }
    alice.await_sent();
    assert_eq!(stranger.try_receive(), None);
}

#[test]
fn flood_beyond_the_budget_drops_whole_and_the_first_always_passes() {
    const OTHERS: usize = 40;
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let others: Vec<Guest> =
        (0..OTHERS).map(|_| Guest::plug_in(&mut datapath, &access(1))).collect();

    // 64 at once to 40 ports each: more than 2,048 copies.
    alice.send_at_once(&vec![frame(BROADCAST, ALICE, &[7; 46]); 64]);
    (0..64).for_each(|_| alice.await_sent());

    let total = datapath.statistics(alice.port).total;
    let dropped = total.drops(DropReason::FloodBudget);
    assert!(dropped >= 64 - 2_048 / 40, "{dropped} dropped");
    assert_eq!(total.decided_frames, 64 - dropped);
    for guest in &others {
        assert_eq!(datapath.statistics(guest.port).total.egress_frames, 64 - dropped);
    }
}

#[test]
fn burst_of_many_trains_reaches_everyone_it_is_for_in_order() {
    let mut datapath = start(1, PollMode::Adaptive);
    let [mut alice, mut bob, mut carol] = alice_and_two_whom_she_heard(&mut datapath);
    // They flooded, for nobody had heard Alice.
    carol.receive();
    bob.receive();

    // Trains of one frame, of two, and one with a source that is not to be learned.
    let to = |destination, at| frame(destination, ALICE, &[at; 46]);
    let mut burst: Vec<Vec<u8>> =
        (0..20u8).flat_map(|at| [to(BOB, at), to(CAROL, at), to(CAROL, at + 100)]).collect();
    burst.insert(7, frame(BOB, BROADCAST, &[0; 46]));
    alice.send_at_once(&burst);

    for at in 0..20u8 {
        assert_eq!(bob.receive(), to(BOB, at));
        assert_eq!(carol.receive(), to(CAROL, at));
        assert_eq!(carol.receive(), to(CAROL, at + 100));
    }
    assert_eq!(bob.try_receive(), None);
    let total = datapath.statistics(alice.port).total;
    assert_eq!(total.drops(DropReason::SourceIsGroup), 1);
}

#[test]
fn burst_of_floods_to_32_ports_is_within_the_budget() {
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let _others: Vec<Guest> = (0..32).map(|_| Guest::plug_in(&mut datapath, &access(1))).collect();

    alice.send_at_once(&vec![frame(BROADCAST, ALICE, &[7; 46]); 64]);
    (0..64).for_each(|_| alice.await_sent());

    assert_eq!(datapath.statistics(alice.port).total.decided_frames, 64);
}

#[test]
fn guest_that_stops_reading_loses_its_own_frames_only() {
    let mut datapath = start(1, PollMode::Adaptive);
    let [mut alice, bob, mut carol] = alice_and_two_whom_she_heard(&mut datapath);
    let silent_before = datapath.statistics(bob.port).total.egress_frames;

    for _ in 0..100 {
        alice.send(&frame(BOB, ALICE, &[0; 46]));
        alice.send(&frame(CAROL, ALICE, &[0; 46]));
        carol.receive();
        alice.await_sent();
        alice.await_sent();
    }

    let bobs = datapath.statistics(bob.port).total;
    let taken = bobs.egress_frames - silent_before;
    assert_eq!(bobs.drops(DropReason::NoReceiveBuffer), 100 - taken);
    assert!(taken <= u64::from(QUEUE_ENTRIES));
}

#[test]
fn stopped_ring_goes_on_where_it_stopped() {
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    bob.receive();
    alice.await_sent();

    let next = datapath.stop_vring(alice.port, 1);
    alice.send(&frame(BROADCAST, ALICE, &[2; 46]));
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(bob.try_receive(), None);
    let setup = alice.transmitq.driver.setup();
    let kick = Some(alice.transmitq.kick_eventfd());
    datapath.start_vring(alice.port, 1, setup, kick, None, true).unwrap();

    assert_eq!(next, Some(1));
    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[2; 46]));
    assert_eq!(datapath.stop_vring(alice.port, 3), None);
}

#[test]
fn disabled_transmitq_is_served_without_effect() {
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));

    datapath.enable_vring(alice.port, 1, false);
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    alice.await_sent();
    datapath.enable_vring(alice.port, 1, true);
    alice.send(&frame(BROADCAST, ALICE, &[2; 46]));

    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[2; 46]));
    let total = datapath.statistics(alice.port).total;
    assert_eq!(total.drops(DropReason::QueueDisabled), 1);
}

#[test]
fn broken_ring_stops_itself_is_told_once_and_harms_nobody() {
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    let mut mallory = Guest::plug_in(&mut datapath, &access(1));

    mallory.transmitq.driver.set_available_index(u16::MAX / 2);
    rustix::io::write(&mallory.transmitq.kick, &1u64.to_ne_bytes()).unwrap();

    let events = wait_for("the event", || Some(datapath.take_events()).filter(|e| !e.is_empty()));
    let [Event::QueueFault { port, vring, .. }] = events[..] else { panic!("{events:?}") };
    assert_eq!((port, vring), (mallory.port, 1));
    assert_eq!(datapath.statistics(mallory.port).total.faults, 1);
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    bob.receive();
    assert_eq!(mallory.receive(), frame(BROADCAST, ALICE, &[1; 46]));
    assert!(datapath.take_events().is_empty());
}

#[test]
fn removed_port_gets_nothing_and_its_slot_serves_the_next() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    let mut dave = Guest::plug_in(&mut datapath, &access(1));
    bob.send(&frame(BROADCAST, BOB, &[0; 46]));
    alice.receive();
    dave.receive();

    datapath.remove_port(bob.port);
    let mut carol = Guest::plug_in(&mut datapath, &access(1));
    alice.send(&frame(BOB, ALICE, &[3; 46]));

    assert_eq!(carol.port.slot, bob.port.slot);
    assert_ne!(carol.port, bob.port);
    // Bob's address was forgotten with him: it leads to nobody, so the frame floods.
    assert_eq!(carol.receive(), frame(BOB, ALICE, &[3; 46]));
    assert_eq!(dave.receive(), frame(BOB, ALICE, &[3; 46]));
    assert_eq!(bob.try_receive(), None);
}

#[test]
fn port_that_changes_its_vlan_is_forgotten_in_the_old_one() {
    let mut datapath = start(1, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));
    let mut carol = Guest::plug_in(&mut datapath, &access(1));
    bob.send(&frame(BROADCAST, BOB, &[0; 46]));
    alice.receive();
    carol.receive();

    datapath.set_port(bob.port, &access(2), NO_LIMIT, PortTraits::default());
    alice.send(&frame(BOB, ALICE, &[4; 46]));

    assert_eq!(carol.receive(), frame(BOB, ALICE, &[4; 46]));
    assert_eq!(bob.try_receive(), None);
}

#[test]
fn ports_come_and_go_while_others_lose_nothing() {
    let mut datapath = start(2, PollMode::Adaptive);
    let mut alice = Guest::plug_in(&mut datapath, &access(1));
    let mut bob = Guest::plug_in(&mut datapath, &access(1));

    for round in 0..200u8 {
        let passing = Guest::plug_in(&mut datapath, &access(2));
        alice.send(&frame(BROADCAST, ALICE, &[round; 46]));
        datapath.remove_port(passing.port);
        assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[round; 46]));
        alice.await_sent();
    }

    assert_eq!(datapath.statistics(bob.port).total.egress_frames, 200);
}
