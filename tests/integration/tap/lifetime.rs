//! Interfaces that come and go with their ports, and those that were there before.

use serde_json::{Value, json};

use super::{ADD, PORT, TAP, host, json};
use crate::support::switch::Switch;
use crate::support::wire::Wire;
use crate::support::{BOB, BROADCAST, frame, wait_for};

fn is_up(host: &Wire) -> bool {
    host.link(TAP).is_some_and(|link| link.contains("LOWER_UP") && link.contains(" tun type tap "))
}

/// A port that is there from the beginning, or added by a command, has an interface as long as it
/// and the switch are there.
fn come_and_go(config: &str, commands: &[&[&str]]) {
    let host = host();
    let mut switch = Switch::in_namespace(Some(&host.namespace), config);
    for command in commands {
        switch.run(command);
    }

    assert!(is_up(&host), "{:?}", host.link(TAP));
    switch.run(&["port", "remove", "host"]);
    assert_eq!(host.link(TAP), None);
    switch.run(&ADD);
    assert!(is_up(&host), "{:?}", host.link(TAP));
    switch.kill();
    wait_for("the interface's end", || host.link(TAP).is_none().then_some(()));
}

#[test]
fn interface_of_a_configured_port_is_made_up_and_goes_with_it_and_with_a_killed_switch() {
    come_and_go(PORT, &[]);
}

#[test]
fn interface_of_an_added_port_is_made_up_and_goes_with_it_and_with_a_killed_switch() {
    come_and_go("", &[&ADD]);
}

#[test]
fn next_switch_takes_the_tap_of_one_that_is_killed() {
    let host = host();
    host.ip(&["tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue", "vnet_hdr"]);
    let mut switch = Switch::in_namespace(Some(&host.namespace), PORT);

    for _ in 0..5 {
        switch.begin_kill();
        switch = Switch::in_namespace(Some(&host.namespace), PORT);
    }

    assert_eq!(json(&switch, &["port", "show", "host"])["state"], "up");
}

#[test]
fn persistent_tap_is_taken_and_left_as_it_was() {
    let host = host();
    host.ip(&["tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue", "vnet_hdr"]);
    host.ip(&["link", "set", TAP, "mtu", "4000", "address", "02:00:00:00:00:77"]);
    host.ip(&["link", "set", TAP, "up"]);
    let before = host.link(TAP);
    let switch = Switch::in_namespace(Some(&host.namespace), PORT);

    wait_for("its carrier", || is_up(&host).then_some(()));
    let shown = json(&switch, &["port", "show", "host"]);
    assert_eq!((&shown["persistent"], &shown["mtu"]), (&json!(true), &json!(4_000)), "{shown}");
    host.socket_on(TAP).send(&frame(BROADCAST, BOB, &[1; 46]));
    wait_for("the frame", || (switch.counter("host", "frames_in") == 1).then_some(()));
    switch.run(&["port", "remove", "host"]);

    wait_for("the tap as it was", || (host.link(TAP) == before).then_some(()));
}

#[test]
fn persistent_tap_that_is_down_is_not_set_up() {
    let host = host();
    host.ip(&["tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue", "vnet_hdr"]);

    let _switch = Switch::in_namespace(Some(&host.namespace), PORT);

    assert!(!is_up(&host), "{:?}", host.link(TAP));
}

#[test]
fn mtu_of_the_port_is_its_interfaces() {
    let host = host();
    let switch = Switch::in_namespace(Some(&host.namespace), "");
    let mtu = |switch: &Switch| json(switch, &["port", "show", "host"])["mtu"].clone();
    let has = |mtu: u32| host.link(TAP).unwrap().contains(&format!(" mtu {mtu} "));

    switch.run(&[&ADD[..], &["--mtu", "1400"]].concat());
    assert!(has(1_400) && mtu(&switch) == 1_400);
    switch.run(&["port", "set", "host", "--mtu", "9000"]);
    assert!(has(9_000) && mtu(&switch) == 9_000);
    // And the other way round.
    host.ip(&["link", "set", TAP, "mtu", "1300"]);
    assert_eq!(mtu(&switch), 1_300);
}

#[test]
fn configuration_with_a_tap_is_saved_and_starts_the_same_switch() {
    let host = host();
    let mut switch = Switch::in_namespace(Some(&host.namespace), "");
    let options = ["--queues", "2", "--mtu", "1400", "--offloads", "off", "--access", "100"];
    switch.run(&[&ADD[..], &options].concat());
    let shown = switch.run(&["config", "show"]);

    switch.run(&["config", "save"]);
    switch.kill_and_start();

    for line in ["type = \"tap\"", "queues = 2", "mtu = 1400", "offloads = false"] {
        assert!(shown.contains(line), "{line}: {shown}");
    }
    assert_eq!(switch.run(&["config", "show"]), shown);
    assert!(is_up(&host), "{:?}", host.link(TAP));
}

#[test]
fn a_hundred_taps_added_and_removed_leave_nothing() {
    let host = host();
    let switch = Switch::in_namespace(Some(&host.namespace), "");
    let mut rpc = switch.connect();
    let mut rounds = |count| {
        let add = json!({ "name": "host", "type": "tap", "interface": TAP, "queues": 2 });
        let remove = json!({ "name": "host" });
        for (method, params) in [("port.add", &add), ("port.remove", &remove)].repeat(count) {
            let answer = rpc.call(method, params);
            assert_eq!(answer["error"], Value::Null, "{method}");
        }
    };

    rounds(10);
    let (descriptors, threads, memory) = switch.footprint();
    rounds(100);
    let after = switch.footprint();

    assert_eq!((after.0, after.1), (descriptors, threads));
    // KiB; the buffers of one queue that stayed mapped would be 17,000.
    assert!(after.2 < memory + 1_024, "{memory} KiB before, {} KiB after", after.2);
    assert_eq!(host.link(TAP), None);
}
