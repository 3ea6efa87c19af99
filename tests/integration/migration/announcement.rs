//! A guest that has come by migration and cannot say so itself: the switch says it (SEND_RARP).

use crate::support::front_end::FrontEnd;
use crate::support::switch::{Switch, guests};
use crate::support::wire::Wire;
use crate::support::{ALICE, BOB, CAROL, frame, wait_for};

/// RFC 903: a request of Carol for her own protocol address, in a frame of the shortest length.
fn request() -> Vec<u8> {
    let parts: [&[u8]; 8] = [
        &[0xff; 6],
        &CAROL,
        &[0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3],
        &CAROL,
        &[0; 4],
        &CAROL,
        &[0; 4],
        &[0; 18],
    ];
    parts.concat()
}

#[test]
fn announcement_reaches_all_others_once_and_is_learned_from() {
    for threads in ["", "[threads]\ncores = [0, 1]\n"] {
        let switch =
            Switch::with_config(&format!("{threads}{}", guests(&["alice", "bob", "carol"])));
        let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
        let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
        let mut carol = FrontEnd::plug_in(&switch.path("carol.sock"));
        ["alice", "bob", "carol"].iter().for_each(|port| switch.await_up(port));
        // She was behind another port before.
        bob.send(&frame(ALICE, CAROL, b"before"));
        assert_eq!(alice.receive(), frame(ALICE, CAROL, b"before"));
        while carol.try_receive().is_some() {}

        carol.send_rarp(CAROL);

        assert_eq!(alice.receive(), request());
        assert_eq!(bob.receive(), request());
        alice.send(&frame(CAROL, ALICE, b"after"));
        let after = wait_for("a frame", || carol.try_receive());
        assert_eq!(after.1, frame(CAROL, ALICE, b"after"));
        assert!(alice.stays_silent() && bob.stays_silent() && carol.stays_silent());
    }
}

#[test]
fn announcement_before_the_rings_start_leaves_by_the_uplink() {
    let wire = Wire::new();
    let config =
        format!("{}[[port]]\nname='up'\ntype='af-xdp'\ninterface='uplink'\n", guests(&["carol"]));
    let switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let sniffer = wire.sniff();

    FrontEnd::connect_only(&switch.path("carol.sock")).send_rarp(CAROL);

    let line = sniffer.line_with("52:54:00:00:00:0c");
    assert!(line.contains("Reverse ARP") || line.contains("0x8035"), "{line}");
    let learned = switch.run(&["fdb", "list", "--json"]);
    assert!(learned.contains("52:54:00:00:00:0c"), "{learned}");
}

#[test]
fn announcement_from_a_group_address_teaches_nothing() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let _alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    bob.send_rarp([0xff; 6]);
    bob.send_rarp(BOB);

    let learned = switch.run(&["fdb", "list", "--json"]);
    assert!(!learned.contains("ff:ff"), "{learned}");
    assert!(learned.contains("52:54:00:00:00:0b"), "{learned}");
}
