//! Front ends whose dirty log is not what they say it is.

use virtio::testing::{TestLog, TestMemory};

use crate::support::front_end::FrontEnd;
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, frame};

fn pair(switch: &Switch) -> (FrontEnd, FrontEnd) {
    let alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    ["alice", "bob"].iter().for_each(|port| switch.await_up(port));
    (alice, bob)
}

fn frames_pass(alice: &mut FrontEnd, bob: &mut FrontEnd) {
    for number in 0..100u32 {
        let sent = frame(BOB, ALICE, &number.to_le_bytes());
        alice.send(&sent);
        assert_eq!(bob.receive(), sent);
    }
}

#[test]
fn log_that_ends_before_the_guest_s_memory_is_written_to_its_end_only_and_reported_once() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch);
    // The used ring's page has a bit, and nothing behind it.
    let log = TestLog::up_to(TestMemory::GUEST_BASE + 1);

    bob.share_log(&log);
    bob.set_logging(true);
    frames_pass(&mut alice, &mut bob);
    // Nothing new to say: the log is the same, and so is the memory.
    bob.set_logging(false);
    bob.set_logging(true);

    let reported =
        "port bob: the dirty log ends at guest address 0x40040000, and memory at 0x41400000";
    assert_eq!(switch.log_lines(reported), 1, "{}", switch.log());
    let marked = log.take();
    assert!(marked.contains(&TestMemory::GUEST_BASE), "{marked:x?}");
    assert!(marked.iter().all(|&page| page < TestMemory::GUEST_BASE + 64 * TestLog::PAGE_BYTES));
}

#[test]
fn log_that_becomes_too_short_with_more_memory_is_reported() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch);
    let log = bob.new_log();
    bob.share_log(&log);
    bob.set_logging(true);
    frames_pass(&mut alice, &mut bob);
    let before = switch.log_lines("dirty log ends");

    assert_eq!(bob.add_page(0), 0);
    bob.synchronise();
    frames_pass(&mut alice, &mut bob);

    assert_eq!((before, switch.log_lines("port bob: the dirty log ends")), (0, 1));
}

#[test]
fn log_that_is_truncated_while_it_is_written_to_harms_nobody() {
    let mut switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch);
    let log = bob.new_log();
    bob.share_log(&log);
    bob.set_logging(true);
    frames_pass(&mut alice, &mut bob);

    rustix::fs::ftruncate(log.file(), 0).unwrap();
    frames_pass(&mut alice, &mut bob);

    assert!(switch.is_alive());
    assert_eq!(["alice", "bob"].map(|port| switch.counter(port, "faults")), [0, 0]);
}

#[test]
fn log_of_absurd_extent_ends_the_session_of_its_front_end_alone() {
    for (size_bytes, offset) in
        [(0, 0), (u64::MAX, 0), (1 << 62, 0), (8, u64::MAX), (8, 1 << 62), (u64::MAX, u64::MAX)]
    {
        let mut switch = Switch::with_config(&guests(&["alice", "bob"]));
        let (mut alice, mut bob) = pair(&switch);
        let log = bob.new_log();

        bob.offer_log(&log, size_bytes, offset);
        bob.await_end();
        let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
        switch.await_up("bob");
        frames_pass(&mut alice, &mut bob);

        assert!(switch.is_alive());
        assert_eq!(switch.log_lines("refused SET_LOG_BASE: dirty log: "), 1, "{}", switch.log());
    }
}

#[test]
fn used_ring_that_is_logged_at_an_absurd_address_is_not_logged() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let (mut alice, mut bob) = pair(&switch);
    let log = bob.new_log();
    bob.share_log(&log);

    bob.send_log_fd();
    bob.set_logging_at(u64::MAX - 1);
    frames_pass(&mut alice, &mut bob);

    let marked = log.take();
    assert!(!marked.contains(&TestMemory::GUEST_BASE), "{marked:x?}");
    assert!(!marked.is_empty());
}
