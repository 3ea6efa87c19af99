//! A guest that breaks the rules of its ring is seen in what an operator looks at.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use serde_json::Value;

use crate::support::front_end::{FrontEnd, RING_ENTRIES};
use crate::support::messages::SET_VRING_CALL;
use crate::support::switch::{Switch, guests};
use crate::support::wait_for;

/// A switch on which the guest of `mallory` has broken its transmitq.
fn with_broken_ring() -> (Switch, FrontEnd) {
    let switch = Switch::with_config(&guests(&["alice", "mallory"]));
    let mut mallory = FrontEnd::plug_in(&switch.path("mallory.sock"));
    mallory.driver(1).set_available_index(RING_ENTRIES + 1);
    mallory.kick(1);
    wait_for("the log", || (switch.log_lines("transmitq 0 stopped") > 0).then_some(()));
    (switch, mallory)
}

#[test]
fn broken_ring_is_in_what_is_shown_of_its_port() {
    let (switch, _mallory) = with_broken_ring();

    let shown = switch.shown("mallory");
    let table = switch.run(&["port", "show", "mallory"]);

    assert_eq!((&shown["faults"], &shown["rings_running"]), (&1.into(), &1.into()), "{shown}");
    let last = shown["last_fault"]["cause"].as_str().unwrap();
    assert!(shown["last_fault"]["ring"] == "transmitq 0" && !last.is_empty(), "{shown}");
    assert!(table.contains("faults") && table.contains(last), "{table}");
}

#[test]
fn statistics_have_a_line_for_a_broken_ring_and_for_that_port_alone() {
    let (switch, _mallory) = with_broken_ring();

    let table = switch.run(&["stats"]);

    let told: Vec<&str> = table.lines().filter(|line| line.contains("broke the rules")).collect();
    assert!(told.len() == 1 && told[0].contains("mallory"), "{table}");
}

#[test]
fn port_without_a_broken_ring_has_no_last_fault() {
    let switch = Switch::with_config(&guests(&["alice"]));

    let shown = switch.shown("alice");

    assert_eq!((&shown["faults"], &shown["last_fault"]), (&Value::from(0), &Value::Null));
}

#[test]
fn fault_after_many_others_is_logged_again() {
    let (switch, mut mallory) = with_broken_ring();
    let call = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
    let mut break_again = |faults: u64| {
        // The ring is started anew with its descriptor, as broken as it was.
        mallory.send_descriptor(SET_VRING_CALL, 1, call.as_fd());
        wait_for("the fault", || (switch.counter("mallory", "faults") == faults).then_some(()));
    };

    (2..=150).for_each(&mut break_again);
    let before = switch.log_lines("transmitq 0 stopped");
    std::thread::sleep(Duration::from_millis(1_100));
    break_again(151);

    wait_for("a line", || (switch.log_lines("transmitq 0 stopped") > before).then_some(()));
    assert!(before < 100, "{before} lines");
}
