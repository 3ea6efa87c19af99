//! Guest memory of every kind: huge pages, files in memory and on disk; whole, and in regions that begin
//! and end within a huge page, lowest or highest first.
//!
//! The drivers here map a file as a whole, the switch in the regions that it is told of. If it put one
//! of them in the wrong place, they would not read what it writes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use virtio::testing::TestMemory;

use crate::support::front_end::{FrontEnd, MODERN};
use crate::support::guest::{Guest, Plan};
use crate::support::huge_pages::{HUGE_PAGE_BYTES, HugePages};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, CAROL, frame, numbers, wait_for};

/// Huge pages of a guest in this process: as many as its rings need.
const HUGE_PAGES: u64 = 10;
const MEMORY_BYTES: u64 = HUGE_PAGES * HUGE_PAGE_BYTES;

/// Rings and their buffers that regions end in.
const CUTS: [(usize, u16); 4] = [(0, 3), (0, 77), (1, 9), (1, 100)];

/// Frames each way: every buffer is used several times.
const FRAMES: usize = 500;

/// Memory in a file of this length.
fn memory(file: OwnedFd) -> Arc<TestMemory> {
    ftruncate(&file, MEMORY_BYTES).unwrap();
    TestMemory::in_file(file, TestMemory::GUEST_BASE, MEMORY_BYTES)
}

fn huge_file() -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    memfd_create("ringway-test", flags).unwrap()
}

/// A file without a name.
fn file_in(directory: &str) -> OwnedFd {
    File::into(tempfile::tempfile_in(directory).unwrap())
}

/// Frames of all lengths go from Alice to a guest with this memory, and back, as they are.
fn frames_pass(file: OwnedFd, cuts: &[(usize, u16)]) {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let memory = memory(file);
    let mut bob = FrontEnd::plug_in_with(&switch.path("bob.sock"), MODERN, memory, cuts);
    ["alice", "bob"].iter().for_each(|port| switch.await_up(port));
    alice.send(&frame(BOB, ALICE, b"hello"));
    bob.receive();

    for number in numbers(0x6b8b_4567).take(FRAMES) {
        let bytes = usize::try_from(number % 1_400).unwrap();
        let payload: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(46 + bytes).collect();
        let (there, back) = (frame(BOB, ALICE, &payload), frame(ALICE, BOB, &payload));
        alice.send(&there);
        assert_eq!(bob.receive(), there);
        bob.send(&back);
        assert_eq!(alice.receive(), back);
    }

    assert_eq!(switch.shown("bob")["memory_bytes"], MEMORY_BYTES);
    assert_eq!(switch.counter("bob", "faults"), 0);
    bob.leave();
    wait_for("the memory's end", || (switch.shown("bob")["memory_bytes"] == 0).then_some(()));
}

#[test]
fn guest_in_huge_pages_talks_however_they_are_cut_and_they_are_given_back() {
    let _pages = HugePages::reserve(HUGE_PAGES);
    let free = HugePages::free();

    frames_pass(huge_file(), &[]);
    frames_pass(huge_file(), &CUTS);

    wait_for("the huge pages", || (HugePages::free() == free).then_some(()));
}

#[test]
fn guest_in_a_file_on_disk_and_in_memory_talks_however_it_is_cut() {
    let disk = std::env::temp_dir();
    for directory in [disk.to_str().unwrap(), "/dev/shm"] {
        frames_pass(file_in(directory), &[]);
        frames_pass(file_in(directory), &CUTS);
    }
}

/// Nobody has set the pages aside that the switch writes to, and there are none.
#[test]
fn huge_pages_that_run_out_under_the_switch_and_that_are_truncated_kill_nobody() {
    // Enough for the rings.
    let _pages = HugePages::reserve(2);
    let mut switch = Switch::with_config(&guests(&["alice", "bob", "carol"]));
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut carol = FrontEnd::plug_in(&switch.path("carol.sock"));
    let file = huge_file();
    let truncated = file.try_clone().unwrap();
    let bob = FrontEnd::plug_in_with(&switch.path("bob.sock"), MODERN, memory(file), &[]);
    switch.await_up("bob");

    for number in 0..200u8 {
        alice.send(&frame(BOB, ALICE, &[number; 1_000]));
    }
    alice.await_sent();
    ftruncate(&truncated, 0).unwrap();
    alice.send(&frame(BOB, ALICE, &[1; 1_000]));
    alice.await_sent();
    while carol.try_receive().is_some() {}
    carol.send(&frame(ALICE, CAROL, b"hello"));

    assert_eq!(wait_for("a frame", || alice.try_receive_to(ALICE)), frame(ALICE, CAROL, b"hello"));
    assert!(switch.is_alive());
    // Its memory is gone, so its driver must not look at it again.
    std::mem::forget(bob);
}

/// QEMU's memory in a file on disk, and in one on hugetlbfs.
#[test]
fn qemu_guests_in_files_on_disk_and_in_huge_pages_talk() {
    let _pages = HugePages::reserve(128);
    let switch = Switch::with_config(&guests(&["vm1", "vm2"]));
    let directory = switch.path("");
    let [disk, huge] = ["disk", "huge"].map(|name| {
        std::fs::create_dir(switch.path(name)).unwrap();
        switch.path(name).display().to_string()
    });
    let plan =
        |name, number, more| Plan { name, number, server: false, queues: 1, namespace: None, more };
    let on_disk = ["--memory-directory", disk.as_str()];
    let in_huge_pages = ["--memory-directory", huge.as_str(), "--huge-pages"];
    let mut vm1 = Guest::boot(plan("vm1", 1, &on_disk), &switch.path("vm1.sock"), &directory);
    let mut vm2 = Guest::boot(plan("vm2", 2, &in_huge_pages), &switch.path("vm2.sock"), &directory);
    vm1.await_booted();
    vm2.await_booted();

    vm1.run(15, &format!("ping -c 3 -i 0.3 -W 2 {}", Guest::address(2)));
    let command = format!("iperf3 --client {} --bidir --time 3 --json", Guest::address(1));
    let report: serde_json::Value = serde_json::from_str(&vm2.run(30, &command)).unwrap();

    assert!(HugePages::free() < 128);
    for way in ["sum_received", "sum_received_bidir_reverse"] {
        assert!(report["end"][way]["bytes"].as_u64() > Some(1_000_000), "{way}: {report}");
    }
    assert_eq!(["vm1", "vm2"].map(|port| switch.counter(port, "faults")), [0, 0]);
}
