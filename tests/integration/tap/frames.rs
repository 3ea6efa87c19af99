//! Frames between the host and guests or a wire, which nothing is left to be done to.

use super::{Lab, PORT, SHAPES, assert_accounted, host};
use crate::support::front_end::MODERN;
use crate::support::switch::Switch;
use crate::support::{ALICE, BOB, BROADCAST, frame, tagged, wait_for};

#[test]
fn frames_of_every_length_cross_between_host_and_guest() {
    SHAPES.iter().for_each(|&shape| exchange(shape));
}

fn exchange(shape: (&str, u16)) {
    let mut lab = Lab::new(shape, "", MODERN);

    for length in (0..1_500).step_by(31).chain([1_500]) {
        let payload: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let there = frame(BOB, ALICE, &payload);
        lab.alice.send(&there);
        assert!(lab.socket.receive_from(ALICE) == there, "{shape:?}: {length} bytes to the host");
        let back = frame(ALICE, BOB, &payload);
        lab.socket.send(&back);
        assert!(lab.alice.receive() == back, "{shape:?}: {length} bytes from the host");
    }

    lab.alice.await_sent();
    let counted = assert_accounted(&lab.switch, "host");
    assert_eq!((&counted["drops_in"], &counted["drops_out"]), (&0.into(), &0.into()), "{counted}");
    assert_accounted(&lab.switch, "alice");
    assert!(lab.switch.run(&["fdb", "list", "--port", "host"]).contains("52:54:00:00:00:0b"));
}

#[test]
fn frames_longer_than_the_mtu_of_the_port_are_dropped_and_counted() {
    let mut lab = Lab::new(SHAPES[0], "mtu = 1400\n", MODERN);

    lab.alice.send(&frame(BOB, ALICE, &[1; 1_401]));
    lab.alice.send(&frame(BOB, ALICE, &[2; 1_400]));

    assert_eq!(lab.socket.receive_from(ALICE), frame(BOB, ALICE, &[2; 1_400]));
    assert_eq!(lab.switch.drops("host", "egress_oversized"), 1);
    assert_accounted(&lab.switch, "host");
}

#[test]
fn queues_of_a_tap_all_carry_flows() {
    let mut lab = Lab::new(("[0]", 2), "", MODERN);

    for number in 0..64 {
        let from = [2, 0, 0, 0, 1, number];
        lab.socket.send(
            &crate::support::flow::Flow {
                to: ALICE,
                from,
                port: 1_000 + u16::from(number),
                ..crate::support::flow::TCP4
            }
            .ready(&[number; 46]),
        );
        assert_eq!(lab.alice.receive()[6..12], from);
    }

    let counted = lab.switch.statistics("host");
    let queues = counted["queues"].as_array().unwrap();
    let frames: Vec<_> = queues.iter().map(|queue| queue["frames_in"].as_u64().unwrap()).collect();
    assert!(frames.len() == 2 && frames.iter().all(|&frames| frames > 0), "{counted}");
    assert_eq!(frames.iter().sum::<u64>(), 64, "{counted}");
}

#[test]
fn host_in_a_vlan_is_tagged_on_a_trunk_and_nowhere_else() {
    let host = host();
    let config = format!(
        "{PORT}vlan = {{ access = 100 }}\n[[port]]\nname = 'up'\ntype = 'af-xdp'\n\
         interface = 'uplink'\nvlan = {{ trunk = [100, 200] }}\n"
    );
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    let (tap, outside) = (host.socket_on("tap0"), host.socket());
    let sniffers = (host.sniff(), host.sniff_on("tap0"));

    tap.send(&frame(BROADCAST, BOB, &[1; 46]));
    let line = sniffers.0.line_with("52:54:00:00:00:0b >");
    assert!(line.contains("vlan 100"), "{line}");
    outside.send(&tagged(BOB, ALICE, 200, &[2; 46]));
    outside.send(&tagged(BOB, ALICE, 100, &[3; 46]));

    // What came in VLAN 200 did not come.
    assert_eq!(tap.receive_from(ALICE), frame(BOB, ALICE, &[3; 46]));
    let line = sniffers.1.line_with("52:54:00:00:00:0a >");
    assert!(!line.contains("vlan"), "{line}");
    tap.send(&tagged(BROADCAST, BOB, 100, &[4; 46]));
    wait_for("a drop", || (switch.counter("host", "drops_in") == 1).then_some(()));
}
