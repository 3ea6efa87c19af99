//! Interfaces that somebody deletes under the switch.

use std::time::Duration;

use super::{ADD, PORT, SHAPES, TAP, assert_all_accounted, host, json};
use crate::support::front_end::FrontEnd;
use crate::support::stream::Stream;
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, wait_for};

#[test]
fn deleted_interface_takes_its_port_down_with_one_line_and_disturbs_nobody() {
    SHAPES.iter().for_each(|&shape| delete(shape));
}

fn delete((cores, queues): (&str, u16)) {
    let host = host();
    let ports = guests(&["alice", "bob", "carol"]);
    let config = format!("[threads]\ncores = {cores}\n{ports}{PORT}queues = {queues}\n");
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    let plug_in = |name| FrontEnd::plug_in(&switch.path(name));
    let stream = Stream::start(plug_in("alice.sock"), plug_in("bob.sock"));
    let mut carol = plug_in("carol.sock");
    let is_down = || json(&switch, &["port", "show", "host"])["state"] == "down";
    let flows_on = || {
        let before = stream.received();
        wait_for("the stream", || (stream.received() > before + 500).then_some(()));
    };

    for round in 1..=2 {
        flows_on();
        assert!(!is_down());
        host.ip(&["link", "delete", TAP]);
        wait_for("the port's end", || is_down().then_some(()));
        flows_on();
        carol.send(&frame(BROADCAST, CAROL, &[1; 46]));
        carol.await_sent();
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(switch.log_lines("somebody removed the tap tap0"), round, "{}", switch.log());
        switch.run(&["port", "remove", "host"]);
        switch.run(&ADD);
        let socket = host.socket_on(TAP);
        carol.send(&frame([2, 0, 0, 0, 0, 1], CAROL, &[2; 46]));
        assert_eq!(socket.receive_from(CAROL), frame([2, 0, 0, 0, 0, 1], CAROL, &[2; 46]));
    }

    stream.finish();
    assert_all_accounted(&switch, &["alice", "bob", "carol", "host"]);
}

#[test]
fn idle_port_without_its_interface_sleeps_and_drops_with_a_reason() {
    let host = host();
    let config = format!("{}{PORT}", guests(&["alice"]));
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    host.socket_on(TAP).send(&frame(BROADCAST, BOB, &[1; 46]));
    alice.receive();

    host.ip(&["link", "delete", TAP]);
    wait_for("the port's end", || (switch.log_lines("somebody removed") == 1).then_some(()));
    alice.send(&frame(BOB, ALICE, &[2; 46]));
    alice.await_sent();

    assert_eq!(switch.drops("host", "port_down"), 1, "{}", switch.statistics("host"));
    wait_for("sleep", || {
        let turns = || json(&switch, &["threads"])["threads"][1]["turns"].as_u64().unwrap();
        let before = turns();
        std::thread::sleep(Duration::from_millis(20));
        (turns() == before).then_some(())
    });
}
