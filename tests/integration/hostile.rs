//! Front ends that send rubbish and guests that break their rings: each loses its own session or
//! queue, and nothing else. Every test ends by forwarding between two that behave.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use serde_json::json;
use virtio::testing::{Buffer, TestMemory};

use crate::support::front_end::{FrontEnd, RING_ENTRIES};
use crate::support::messages::{Conversation, SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, numbers, wait_for};

/// Most lines that the log has of a port before a second has passed: 20 of its front ends, one for
/// the second that had begun before, and that the port was added.
const LINES_AT_ONCE: usize = 22;

/// Two guests that behave and a port for one that does not.
struct Lab {
    switch: Switch,
    alice: FrontEnd,
    bob: FrontEnd,
}

impl Lab {
    fn new() -> Self {
        let switch = Switch::with_config(&guests(&["alice", "bob", "mallory"]));
        let alice = FrontEnd::plug_in(&switch.path("alice.sock"));
        let bob = FrontEnd::plug_in(&switch.path("bob.sock"));
        Self { switch, alice, bob }
    }

    /// Waits until no front end is at Mallory's port. A process that another test has just
    /// forked may hold a closed connection open for a moment.
    fn await_free(&self) {
        let mut rpc = self.switch.connect();
        wait_for("the former front end's end", || {
            let port = rpc.call("port.show", &json!({ "name": "mallory" }));
            port["result"].to_string().contains("not connected").then_some(())
        });
    }

    fn mallory(&self) -> FrontEnd {
        self.await_free();
        FrontEnd::plug_in(&self.switch.path("mallory.sock"))
    }

    fn talk(&self) -> Conversation {
        self.await_free();
        self.second_talk()
    }

    fn second_talk(&self) -> Conversation {
        Conversation::connect(&self.switch.path("mallory.sock"))
    }

    /// The others forward on, and the port takes a front end that behaves.
    fn assert_unharmed(mut self) {
        self.assert_others_unharmed();
        let mut reformed = self.mallory();
        self.alice.send(&frame(BROADCAST, ALICE, &[9; 46]));
        assert_eq!(reformed.receive(), frame(BROADCAST, ALICE, &[9; 46]));
    }

    fn assert_others_unharmed(&mut self) {
        assert!(self.switch.is_alive(), "{}", self.switch.log());
        while self.bob.try_receive().is_some() {}
        self.alice.send(&frame(BOB, ALICE, &[8; 46]));
        let sent = frame(BOB, ALICE, &[8; 46]);
        wait_for("a frame between the others", || {
            self.bob.try_receive().filter(|(_, came)| *came == sent)
        });
        self.bob.send(&frame(ALICE, BOB, &[7; 46]));
        let sent = frame(ALICE, BOB, &[7; 46]);
        wait_for("a frame back", || self.alice.try_receive().filter(|(_, came)| *came == sent));
    }

    /// The queue stops, counted and logged once.
    fn assert_stopped_once(&self) {
        wait_for("the queue's stop", || {
            (self.switch.counter("mallory", "faults") == 1).then_some(())
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(self.switch.counter("mallory", "faults"), 1);
        wait_for("the log", || (self.switch.log_lines("mallory: ") > 0).then_some(()));
        let log = self.switch.log();
        let told = log.lines().filter(|line| line.contains("mallory") && line.contains("stopped"));
        assert_eq!(told.count(), 1, "{log}");
    }

    /// The others forward on, and the switch answers and ends while the one that does not behave
    /// is there still.
    fn assert_others_unharmed_to_the_end(mut self) {
        self.assert_others_unharmed();
        self.switch.run(&["port", "show", "mallory"]);
        drop(self.switch);
    }

    /// Lines of the log that are about Mallory's port.
    fn log_lines(&self) -> usize {
        self.switch.log_lines("port mallory: ")
    }
}

/// An eventfd as QEMU makes them.
fn new_eventfd() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// Fills an eventfd and makes it block: its next writer waits until somebody reads it.
fn make_writers_wait(eventfd: &OwnedFd) {
    let _ = rustix::io::read(eventfd, &mut [0; 8]);
    rustix::io::write(eventfd, &(u64::MAX - 1).to_ne_bytes()).unwrap();
    fcntl_setfl(eventfd, OFlags::empty()).unwrap();
}

/// A pipe whose next writer waits until somebody reads it.
fn full_pipe() -> (OwnedFd, OwnedFd) {
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let size = rustix::pipe::fcntl_setpipe_size(&writer, 4_096).unwrap();
    rustix::io::write(&writer, &vec![0; size]).unwrap();
    (reader, writer)
}

#[test]
fn rubbish_in_place_of_messages_ends_the_session_alone() {
    let lab = Lab::new();

    for seed in 1..200 {
        let bytes: Vec<u8> = numbers(seed).take(40).flat_map(u64::to_le_bytes).collect();
        let mut talk = lab.talk();
        talk.send_raw(&bytes, &[]);
        talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
        talk.await_end();
    }

    lab.assert_unharmed();
}

#[test]
fn messages_of_every_kind_with_rubbish_inside_end_the_session_at_worst() {
    let lab = Lab::new();
    let (descriptors, threads, _) = lab.switch.footprint();

    for request in 0..64 {
        for size in [0, 4, 8, 12, 32, 40, 264] {
            let body: Vec<u8> = numbers(u64::from(request) * 997 + size + 1)
                .flat_map(u64::to_le_bytes)
                .take(usize::try_from(size).unwrap())
                .collect();
            let mut talk = lab.talk();
            talk.send(request, &body, &[]);
            talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
            talk.await_end();
        }
    }

    wait_for("the descriptors", || (lab.switch.footprint().0 == descriptors).then_some(()));
    assert_eq!(lab.switch.footprint().1, threads);
    lab.assert_unharmed();
}

#[test]
fn half_a_message_stalls_nobody_and_may_end_there() {
    let mut lab = Lab::new();
    let talk = lab.talk();

    talk.send_raw(&[1, 0, 0, 0, 1], &[]);
    lab.assert_others_unharmed();
    drop(talk);

    lab.assert_unharmed();
}

#[test]
fn descriptors_that_nobody_asked_for_are_closed() {
    let lab = Lab::new();
    let memory = TestMemory::new(4_096);
    let (descriptors, ..) = lab.switch.footprint();

    for count in [1, 8, 32, 200] {
        for request in [1, 3, 8, SET_VRING_KICK, SET_VRING_CALL, 15] {
            let mut talk = lab.talk();
            talk.send(request, &[0; 8], &vec![memory.file().as_fd(); count]);
            talk.stream.shutdown(std::net::Shutdown::Write).unwrap();
            talk.await_end();
        }
    }

    wait_for("the descriptors", || (lab.switch.footprint().0 == descriptors).then_some(()));
    lab.assert_unharmed();
}

#[test]
fn front_end_that_comes_while_one_is_there_is_turned_away() {
    let mut lab = Lab::new();
    let mut first = lab.mallory();

    lab.second_talk().await_end();

    lab.alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(first.receive(), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn available_index_that_jumps_stops_the_queue() {
    let mut lab = Lab::new();
    let mut mallory = lab.mallory();

    mallory.driver(1).set_available_index(RING_ENTRIES + 1);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed();
    drop(mallory);
    lab.assert_unharmed();
}

#[test]
fn front_end_that_wants_to_hear_of_a_broken_ring_does() {
    let lab = Lab::new();
    let mut mallory = lab.mallory();
    let err = new_eventfd();
    mallory.send_descriptor(SET_VRING_ERR, 1, err.as_fd());

    mallory.driver(1).set_available_index(RING_ENTRIES + 1);
    mallory.kick(1);

    let mut count = [0; 8];
    wait_for("word of the broken ring", || rustix::io::read(&err, &mut count).ok());
}

#[test]
fn full_pipe_in_place_of_the_err_eventfd_stalls_nobody() {
    let lab = Lab::new();
    let mut mallory = lab.mallory();
    let (_reader, err) = full_pipe();
    mallory.send_descriptor(SET_VRING_ERR, 1, err.as_fd());

    mallory.driver(1).set_available_index(RING_ENTRIES + 1);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed_to_the_end();
}

#[test]
fn full_err_eventfd_that_blocks_stalls_nobody() {
    let lab = Lab::new();
    let mut mallory = lab.mallory();
    let err = new_eventfd();
    mallory.send_descriptor(SET_VRING_ERR, 1, err.as_fd());
    make_writers_wait(&err);

    mallory.driver(1).set_available_index(RING_ENTRIES + 1);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed_to_the_end();
}

#[test]
fn full_call_eventfd_that_blocks_stalls_nobody() {
    let lab = Lab::new();
    let mut mallory = lab.mallory();
    let call = new_eventfd();
    mallory.send_descriptor(SET_VRING_CALL, 1, call.as_fd());
    make_writers_wait(&call);

    mallory.send(&frame(BROADCAST, CAROL, &[6; 46]));
    mallory.await_sent();

    lab.assert_others_unharmed_to_the_end();
}

#[test]
fn front_ends_that_come_with_rubbish_and_go_fill_no_log() {
    let lab = Lab::new();
    let start = Instant::now();

    for _ in 0..500 {
        let mut talk = lab.second_talk();
        talk.send_raw(&[0xff; 64], &[]);
        talk.await_end();
    }

    let allowed = LINES_AT_ONCE + start.elapsed().as_secs().try_into().unwrap_or(usize::MAX);
    assert!(lab.log_lines() <= allowed, "{} lines", lab.log_lines());
    lab.assert_unharmed();
}

#[test]
fn descriptors_that_are_no_eventfds_are_told_of_and_fill_no_log() {
    let lab = Lab::new();
    let mut mallory = lab.mallory();
    let (_reader, pipe) = full_pipe();
    let start = Instant::now();

    for _ in 0..500 {
        mallory.send_descriptor(SET_VRING_CALL, 1, pipe.as_fd());
    }

    let allowed = LINES_AT_ONCE + start.elapsed().as_secs().try_into().unwrap_or(usize::MAX);
    assert!(lab.log_lines() <= allowed, "{} lines", lab.log_lines());
    assert!(lab.switch.log_lines("call descriptor of ring 1") > 0, "{}", lab.switch.log());
    drop(mallory);
    lab.assert_unharmed();
}

#[test]
fn chain_that_loops_stops_the_queue() {
    let mut lab = Lab::new();
    let mut mallory = lab.mallory();
    let buffer = mallory.buffer(1);

    mallory.driver(1).describe(0, Buffer::readable(buffer, 60).then(1));
    mallory.driver(1).describe(1, Buffer::readable(buffer, 60).then(0));
    mallory.driver(1).make_available(0);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed();
}

#[test]
fn head_outside_the_table_stops_the_queue() {
    let mut lab = Lab::new();
    let mut mallory = lab.mallory();

    mallory.driver(1).make_available(RING_ENTRIES);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed();
}

#[test]
fn buffer_outside_memory_stops_the_queue() {
    let mut lab = Lab::new();
    let mut mallory = lab.mallory();

    mallory.driver(1).describe(0, Buffer::readable(u64::MAX - 100, 1_000));
    mallory.driver(1).make_available(0);
    mallory.kick(1);

    lab.assert_stopped_once();
    lab.assert_others_unharmed();
}

#[test]
fn receive_buffer_outside_memory_stops_the_receiveq() {
    let mut lab = Lab::new();
    let mut mallory = lab.mallory();

    for head in 0..RING_ENTRIES {
        mallory.driver(0).describe(head, Buffer::writable(1, 2_048));
    }
    lab.alice.send(&frame(BROADCAST, ALICE, &[1; 46]));

    lab.assert_stopped_once();
    lab.assert_others_unharmed();
}

#[test]
fn memory_that_is_truncated_under_the_switch_kills_nobody() {
    let mut lab = Lab::new();
    let mallory = lab.mallory();

    rustix::fs::ftruncate(mallory.memory.file(), 0).unwrap();
    mallory.kick(1);
    for _ in 0..10 {
        lab.alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    }

    lab.assert_others_unharmed();
    // Its memory is gone, so its driver must not be dropped through it.
    std::mem::forget(std::sync::Arc::clone(&mallory.memory));
    drop(mallory);
    lab.assert_unharmed();
}

#[test]
fn ring_full_of_rubbish_harms_nobody_for_two_seconds() {
    let mut lab = Lab::new();
    let mut random = numbers(4_711);
    let start = Instant::now();

    while start.elapsed() < Duration::from_secs(2) {
        let mut mallory = lab.mallory();
        let [table, available, _] = mallory.driver(1).parts();
        for _ in 0..8 {
            let rubbish: Vec<u8> = random
                .by_ref()
                .take(64)
                .flat_map(|number| (number & random_mask(number)).to_le_bytes())
                .collect();
            mallory.memory.write(table, &rubbish);
            mallory.memory.write(available + 4, &rubbish[..128]);
            let index = u16::try_from(random.next().unwrap() % 64).unwrap();
            mallory.driver(1).set_available_index(index);
            mallory.kick(1);
            lab.alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
        }
        drop(mallory);
        while lab.bob.try_receive().is_some() {}
    }

    lab.assert_unharmed();
}

/// Makes some of the rubbish small, so that it gets further.
const fn random_mask(number: u64) -> u64 {
    match number >> 62 {
        0 => 0xffff,
        1 => 0x4fff_ffff,
        2 => 0x0003_0fff_4000_ffff,
        _ => u64::MAX,
    }
}
