//! The dirty log, as the front end of a guest that is being migrated sees it: it copies the pages that
//! are marked while frames go on coming, and in the end its copy is the guest's memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use virtio::Features;
use virtio::testing::{TestLog, TestMemory};

use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::page_copy::PageCopy;
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, CAROL, frame, numbers, wait_for};

/// Copies pages as they are marked, on a thread of its own, as QEMU does while the guest runs.
struct Migration {
    memory: Arc<TestMemory>,
    log: Arc<TestLog>,
    is_over: Arc<AtomicBool>,
    copying: JoinHandle<PageCopy>,
}

impl Migration {
    /// Has the guest's writes logged, and begins with a copy of everything.
    fn begin(guest: &mut FrontEnd) -> Self {
        let log = Arc::new(guest.new_log());
        guest.share_log(&log);
        guest.set_logging(true);
        let (memory, is_over) = (Arc::clone(&guest.memory), Arc::new(AtomicBool::new(false)));
        let copying = {
            let (memory, log, is_over) =
                (Arc::clone(&memory), Arc::clone(&log), Arc::clone(&is_over));
            std::thread::spawn(move || copy(&memory, &log, &is_over))
        };
        Self { memory, log, is_over, copying }
    }

    /// Stops the guest's rings, copies what is marked still, and compares.
    fn end(self, guest: &mut FrontEnd, rings: usize) -> PageCopy {
        for ring in 0..rings {
            guest.stop(ring);
        }
        self.is_over.store(true, Ordering::Relaxed);
        let mut copied = self.copying.join().unwrap();
        copied.take(&self.memory, &self.log);
        for range in guest.written_by_switch() {
            copied.compare(&self.memory, &range);
        }
        copied
    }
}

fn copy(memory: &TestMemory, log: &TestLog, is_over: &AtomicBool) -> PageCopy {
    let map = memory.map();
    let region = &map.regions()[0];
    let all = region.guest_address()..region.guest_address() + region.size_bytes();
    let mut copied = PageCopy::default();
    copied.copy(memory, &all);
    while !is_over.load(Ordering::Relaxed) {
        copied.take(memory, log);
    }
    copied
}

/// Frames of any length go from Alice to Bob and back, by `rounds` bursts each way.
fn exchange(alice: &mut FrontEnd, bob: &mut FrontEnd, rounds: u64) {
    let mut lengths = numbers(0x2545_f491_4f6c_dd1d);
    for round in 0..rounds {
        send_burst(alice, bob, [BOB, ALICE], round, &mut lengths);
        send_burst(bob, alice, [ALICE, BOB], round, &mut lengths);
    }
}

fn send_burst(
    sender: &mut FrontEnd,
    receiver: &mut FrontEnd,
    [to, from]: [[u8; 6]; 2],
    round: u64,
    lengths: &mut impl Iterator<Item = u64>,
) {
    let payload = |(number, length): (u64, u64)| {
        let number = [round.to_le_bytes(), number.to_le_bytes()].concat();
        [number, vec![0xa5; usize::try_from(length % 1_400).unwrap()]].concat()
    };
    // A receiveq has buffers for them all, however many each takes.
    let payloads = (0..16).zip(lengths).map(payload);
    let frames: Vec<Vec<u8>> = payloads.map(|payload| frame(to, from, &payload)).collect();
    frames.iter().for_each(|frame| sender.send(frame));
    for frame in &frames {
        assert_eq!(&wait_for("a frame", || receiver.try_receive_to(to)), frame);
    }
}

fn pair(switch: &Switch, manner: Manner) -> (FrontEnd, FrontEnd) {
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);
    ["alice", "bob"].iter().for_each(|port| switch.await_up(port));
    // Both are learned, so that nothing is flooded.
    alice.send(&frame(BOB, ALICE, b"hello"));
    bob.send(&frame(ALICE, BOB, b"hello"));
    wait_for("a frame", || alice.try_receive_to(ALICE));
    wait_for("a frame", || bob.try_receive_to(BOB));
    (alice, bob)
}

/// Ways in which a driver has its memory written to.
fn manners() -> Vec<Manner> {
    let merged = Features(MODERN.features.0 | Features::NET_MRG_RXBUF.0);
    vec![
        MODERN,
        Manner { features: Features::VERSION_1, ..MODERN },
        // Frames take up to six buffers.
        Manner { features: merged, buffer_bytes: 256, ..MODERN },
        Manner { features: Features::NONE, ..MODERN },
    ]
}

#[test]
fn copy_of_marked_pages_is_the_guest_s_memory_in_the_end() {
    for manner in manners() {
        let switch = Switch::with_config(&guests(&["alice", "bob"]));
        let (mut alice, mut bob) = pair(&switch, manner);
        exchange(&mut alice, &mut bob, 4);

        let migration = Migration::begin(&mut bob);
        exchange(&mut alice, &mut bob, 200);
        let copied = migration.end(&mut bob, 2);

        // The used rings alone are two pages.
        assert!(copied.marked > 100, "{manner:?}: {}", copied.marked);
    }
}

#[test]
fn no_frame_is_lost_when_logging_begins_and_ends() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch, MODERN);
    let log = bob.new_log();
    let before = switch.statistics("bob");

    for round in 0..100u32 {
        for number in 0..100u32 {
            alice.send(&frame(BOB, ALICE, &(round * 100 + number).to_le_bytes()));
            if number == 30 {
                bob.share_log(&log);
                bob.set_logging(true);
            }
            if number == 60 {
                bob.set_logging(false);
            }
        }
        for number in 0..100u32 {
            let expected = frame(BOB, ALICE, &(round * 100 + number).to_le_bytes());
            let came = wait_for("a frame", || bob.try_receive_to(BOB));
            assert_eq!(came[..expected.len()], expected);
        }
    }

    let after = switch.statistics("bob");
    assert_eq!(before["drops"], after["drops"]);
}

#[test]
fn nothing_is_logged_before_it_is_asked_for_nor_after() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch, MODERN);
    let log = bob.new_log();

    bob.share_log(&log);
    exchange(&mut alice, &mut bob, 2);
    let before = log.take();
    bob.set_logging(true);
    exchange(&mut alice, &mut bob, 2);
    bob.set_logging(false);
    let during = log.take();
    exchange(&mut alice, &mut bob, 2);
    let after = log.take();

    assert!(before.is_empty(), "{before:x?}");
    assert!(during.len() > 10, "{during:x?}");
    assert!(after.is_empty(), "{after:x?}");
}

#[test]
fn log_that_is_replaced_is_written_to_no_more() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch, MODERN);
    let (first, second) = (bob.new_log(), bob.new_log());
    bob.share_log(&first);
    bob.set_logging(true);
    exchange(&mut alice, &mut bob, 2);

    bob.share_log(&second);
    let from_first = first.take();
    exchange(&mut alice, &mut bob, 2);

    assert!(!from_first.is_empty());
    assert!(first.take().is_empty());
    assert!(!second.take().is_empty());
}

#[test]
fn rings_that_start_while_logging_is_on_are_logged() {
    let switch = Switch::with_config(&guests(&["alice", "bob", "carol"]));
    let (mut alice, mut bob) = pair(&switch, MODERN);
    let log = bob.new_log();
    bob.share_log(&log);
    bob.set_logging(true);

    // The memory goes and comes under live rings, which stop and start for it.
    bob.remove_region();
    bob.add_region();
    bob.synchronise();
    drop(log.take());
    alice.send(&frame(BOB, CAROL, b"after"));
    wait_for("a frame", || bob.try_receive_to(BOB));

    let marked = log.take();
    let of_switch = bob.written_by_switch();
    let is_marked = |ring: usize| {
        let start = of_switch[ring].start;
        marked.contains(&(start - start % TestLog::PAGE_BYTES))
    };
    assert!(is_marked(0) && marked.len() > 1, "{marked:x?}");
}
