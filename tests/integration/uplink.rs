//! The wire: both ways, over every queue, and what is left when the switch is killed.

use crate::support::front_end::FrontEnd;
use crate::support::switch::Switch;
use crate::support::wire::{OUTSIDE, UPLINK, Wire};
use crate::support::{ALICE, BOB, BROADCAST, frame, wait_for};

const GUEST_AND_UPLINK: &str = r#"
[[port]]
name = "vm"
type = "vhost-user"
socket = "DIR/vm.sock"
[[port]]
name = "up"
type = "af-xdp"
interface = "uplink"
"#;

#[test]
fn frames_of_every_length_cross_between_guest_and_wire() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));

    for length in (46..=1_500).step_by(13).chain([1_500]) {
        let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let out = frame(BROADCAST, ALICE, &payload);
        guest.send(&out);
        assert!(socket.receive_from(ALICE) == out, "{length} bytes of payload out");
        let back = frame(ALICE, BOB, &payload);
        socket.send(&back);
        assert!(guest.receive() == back, "{length} bytes of payload in");
    }
}

#[test]
fn short_frames_are_padded_for_the_wire() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));

    guest.send(&frame(BROADCAST, ALICE, &[9; 28]));

    let padded = [frame(BROADCAST, ALICE, &[9; 28]), vec![0; 18]].concat();
    assert_eq!(socket.receive_from(ALICE), padded);
}

#[test]
fn every_queue_of_the_interface_is_served() {
    let wire = Wire::with_queues(2);
    let switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));

    for number in 0..64 {
        socket.send(&frame(BROADCAST, [2, 0, 0, 0, 1, number], &[number; 46]));
        guest.receive();
    }

    let statistics = switch.statistics("up");
    assert_eq!(statistics["queues"].as_array().unwrap().len(), 2, "{statistics}");
}

#[test]
fn port_says_its_mode_and_the_interfaces_own_drops() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);

    let shown = switch.run(&["port", "show", "up", "--json"]);

    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["mode"], "copy", "{shown}");
    assert_eq!(shown["interface"]["rx_dropped"], 0, "{shown}");
}

#[test]
fn killed_switch_leaves_no_program_and_a_new_one_starts() {
    let wire = Wire::new();
    let mut switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);
    let has_program = || wire.ip(&["-d", "link", "show", UPLINK]).contains("xdp");
    assert!(has_program());

    switch.kill();
    wait_for("the program's end", || (!has_program()).then_some(()));
    switch.kill_and_start();

    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    guest.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn next_switch_starts_while_the_killed_one_is_still_going() {
    let wire = Wire::with_queues(2);
    let mut switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);

    for _ in 0..10 {
        // Not waited for: its program and sockets stay for some 50 ms.
        switch.begin_kill();
        switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);
    }

    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    guest.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn removed_uplink_leaves_the_interface_as_it_was() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), GUEST_AND_UPLINK);

    switch.run(&["port", "remove", "up"]);
    assert!(!wire.ip(&["-d", "link", "show", UPLINK]).contains("xdp"));
    switch.run(&["port", "add", "up", "af-xdp", "--interface", UPLINK]);

    assert!(wire.ip(&["-d", "link", "show", UPLINK]).contains("xdp"));
}

#[test]
fn frames_cross_from_wire_to_wire() {
    let wire = Wire::new();
    wire.ip(&["link", "add", "uplink2", "type", "veth", "peer", "name", "outside2"]);
    wire.ip(&["link", "set", "uplink2", "up"]);
    wire.ip(&["link", "set", "outside2", "up"]);
    let config = "[[port]]\nname='a'\ntype='af-xdp'\ninterface='uplink'\n\
                  [[port]]\nname='b'\ntype='af-xdp'\ninterface='uplink2'\n";
    let switch = Switch::in_namespace(Some(&wire.namespace), config);
    let (here, there) = (wire.socket_on(OUTSIDE), wire.socket_on("outside2"));

    here.send(&frame(BROADCAST, ALICE, &[3; 1_400]));
    assert_eq!(there.receive_from(ALICE), frame(BROADCAST, ALICE, &[3; 1_400]));
    there.send(&frame(ALICE, BOB, &[4; 46]));
    assert_eq!(here.receive_from(BOB), frame(ALICE, BOB, &[4; 46]));

    assert_eq!(switch.log_lines("loop"), 1, "{}", switch.log());
}

#[test]
fn interface_that_the_host_uses_or_that_has_a_program_is_refused() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), "");
    let other = Switch::in_namespace(Some(&wire.namespace), "");
    let add = ["port", "add", "up", "af-xdp", "--interface", UPLINK];

    wire.ip(&["address", "add", "192.0.2.1/24", "dev", UPLINK]);
    let text = switch.refused(&add);
    assert!(text.contains("IPv4 address") && text.contains("force"), "{text}");
    wire.ip(&["address", "flush", "dev", UPLINK]);
    other.run(&add);
    let text = switch.refused(&add);
    assert!(text.contains("XDP program"), "{text}");
    let text = switch.refused(&["port", "add", "x", "af-xdp", "--interface", "nosuch0"]);
    assert!(text.contains("nosuch0"), "{text}");

    assert_eq!(switch.run(&["port", "list", "--json"]).matches("\"name\"").count(), 0);
}
