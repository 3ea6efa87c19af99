//! A new switch takes over from a running one, under traffic.

mod beginner;
mod failures;
mod uplinks;

use std::time::{Duration, Instant};

use serde_json::Value;
use virtio::Features;

use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::guest::{Guest, Plan};
use crate::support::numbered::{BURST_FRAMES, LENT_FRAMES, NumberedPair};
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::{UPLINK, Wire};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, wait_for};

/// Alice and Bob at a switch, with their sockets.
fn lab(config: &str) -> (Switch, NumberedPair) {
    lab_as(config, MODERN)
}

/// The same with drivers of this manner.
fn lab_as(config: &str, manner: Manner) -> (Switch, NumberedPair) {
    let switch = Switch::with_config(&format!("{config}{}", guests(&["alice", "bob"])));
    let sockets = ["alice.sock", "bob.sock"].map(|name| switch.path(name));
    let window = if config.contains("[0, 1]") { LENT_FRAMES } else { BURST_FRAMES };
    let paths = sockets.each_ref().map(|path| path.as_path());
    let pair = NumberedPair::plug_in(paths, window, manner);
    (switch, pair)
}

/// Lets another switch take over while the guests go on, and returns their longest pause.
fn take_over(switch: &mut Switch, pair: &mut NumberedPair) -> Duration {
    pair.exchange(1_000);
    let successor = switch.start_successor(&[]);
    let pause = pair.exchange_until(|| !switch.is_alive());
    switch.succeed(successor);
    pair.exchange(1_000);
    pair.await_all();
    pause
}

/// What the old switch's log says of the pauses.
fn pauses(switch: &Switch) -> Vec<String> {
    let log = switch.log();
    log.lines().filter_map(|line| Some(line.split_once("no ring ran for ")?.1.to_owned())).collect()
}

fn take_over_three_times(config: &str, manner: Manner) {
    let (mut switch, mut pair) = lab_as(config, manner);

    // What the machine does to the guests without anybody's taking over.
    let start = Instant::now();
    let quiet = pair.exchange_until(|| start.elapsed() > Duration::from_millis(300));
    let seen: Vec<Duration> = (0..3).map(|_| take_over(&mut switch, &mut pair)).collect();

    println!(
        "pauses seen by the guests: {seen:?}, before: {quiet:?}; by the switches: {:?}",
        pauses(&switch)
    );
    assert_eq!(pair.tallies.each_ref().map(|tally| tally.repeated), [0, 0]);
    assert_eq!(switch.log_lines("front end connected"), 2, "{}", switch.log());
}

#[test]
fn guests_lose_nothing_and_get_nothing_twice_when_a_new_switch_takes_over() {
    take_over_three_times("", MODERN);
}

#[test]
fn guests_lose_nothing_and_get_nothing_twice_when_several_threads_take_over() {
    take_over_three_times("[threads]\ncores = [0, 1]\n", MODERN);
}

#[test]
fn guests_with_packed_rings_lose_nothing_and_get_nothing_twice() {
    let features = MODERN.features | Features::RING_PACKED | Features::NET_MRG_RXBUF;
    take_over_three_times("", Manner { features, ..MODERN });
}

#[test]
fn new_switch_has_the_ports_addresses_and_settings_of_the_old_one() {
    let (mut switch, mut pair) = lab("[bridge]\nageing_seconds = 200\n");
    let socket = switch.path("late.sock");
    let late = ["port", "add", "late", "vhost-user", "--socket", socket.to_str().unwrap()];
    switch.run(&[&late[..], &["--trunk", "7,9", "--queues", "2"]].concat());
    switch.run(&["port", "set", "bob", "--mtu", "1600"]);
    switch.run(&["fdb", "add", "52:54:00:00:00:0c", "--vlan", "7", "--port", "late"]);
    pair.exchange(10);
    let shown = |switch: &Switch| switch.run(&["config", "show"]);
    let addresses = |switch: &Switch| {
        let text = switch.run(&["fdb", "list", "--json"]);
        let list: Value = serde_json::from_str(&text).unwrap();
        let entries = list["entries"].as_array().unwrap().iter();
        entries
            .map(|entry| [&entry["mac"], &entry["port"]].map(Value::to_string))
            .collect::<Vec<_>>()
    };
    let before = (shown(&switch), addresses(&switch));

    // Idle guests: what their frames teach would hide what was handed over.
    let successor = switch.start_successor(&[]);
    switch.succeed(successor);

    assert_eq!((shown(&switch), addresses(&switch)), before);
    assert_eq!(before.1.len(), 3);
    take_over(&mut switch, &mut pair);
    let mut carol = FrontEnd::plug_in(&socket);
    carol.send(&frame(BROADCAST, CAROL, &[1; 46]));
    switch.await_up("late");
    switch.run(&["config", "save"]);
}

#[test]
fn tap_goes_on_in_the_new_switch_with_all_that_was_sent_meanwhile() {
    let host = Wire::new();
    host.keep_quiet();
    let config = format!(
        "{}[[port]]\nname = 'host'\ntype = 'tap'\ninterface = 'tap0'\n",
        guests(&["alice"])
    );
    let mut switch = Switch::in_namespace(Some(&host.namespace), &config);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let socket = host.socket_on("tap0");
    alice.send(&frame(BROADCAST, ALICE, &[0; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[0; 46]));
    let interface = host.link("tap0");

    let successor = switch.start_successor(&[]);
    let mut sent = 0u32;
    let mut received = 0u32;
    let next = |alice: &mut FrontEnd, received: &mut u32| {
        if let Some(got) = alice.try_receive_to(ALICE) {
            assert_eq!(got[14..18], received.to_be_bytes(), "a frame is lost or repeated");
            *received += 1;
        }
    };
    while switch.is_alive() || received < sent {
        // No more than Alice has buffers for.
        if switch.is_alive() && sent - received < 64 {
            socket.send(&frame(ALICE, BOB, &[&sent.to_be_bytes()[..], &[0; 42]].concat()));
            sent += 1;
        }
        next(&mut alice, &mut received);
    }
    switch.succeed(successor);

    println!("{sent} frames from the host while a switch took over");
    assert_eq!(host.link("tap0"), interface);
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn uplink_goes_on_and_its_addresses_are_kept() {
    let wire = Wire::new();
    let config = guests(&["vm"]) + &interface("up", UPLINK);
    let mut switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    guest.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[1; 46]));
    socket.send(&frame(ALICE, BOB, &[2; 46]));
    assert_eq!(guest.receive(), frame(ALICE, BOB, &[2; 46]));

    let successor = switch.start_successor(&[]);
    switch.succeed(successor);

    assert!(switch.run(&["fdb", "list", "--port", "up"]).contains("52:54:00:00:00:0b"));
    guest.send(&frame(BOB, ALICE, &[3; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BOB, ALICE, &[3; 46]));
    socket.send(&frame(ALICE, BOB, &[4; 46]));
    assert_eq!(guest.receive(), frame(ALICE, BOB, &[4; 46]));
}

#[test]
fn emulated_guests_ping_across_a_take_over() {
    let mut switch = Switch::with_config(&guests(&["vm1", "vm2"]));
    let directory = switch.path("");
    let [mut vm1, mut vm2] = [("vm1", 1), ("vm2", 2)].map(|(name, number)| {
        let plan = Plan { name, number, server: false, queues: 1, namespace: None, more: &[] };
        Guest::boot(plan, &switch.path(&format!("{name}.sock")), &directory)
    });
    vm1.await_booted();
    vm2.await_booted();
    vm1.run(15, "ping -c 2 -i 0.3 -W 2 10.99.0.2");

    let pinging = std::thread::spawn(move || {
        let answers = vm2.try_run(Duration::from_secs(30), "ping -c 100 -i 0.05 -W 2 10.99.0.1");
        (vm2, answers.1)
    });
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        let successor = switch.start_successor(&[]);
        switch.succeed(successor);
    }
    let (_vm2, answers) = pinging.join().unwrap();

    println!("pauses: {:?}", pauses(&switch));
    assert_eq!(answers.matches("seq=").count(), 100, "{answers}");
    assert!(!answers.contains("DUP"), "{answers}");
    wait_for("the guests' sessions", || (switch.log_lines("disconnected") == 0).then_some(()));
}
