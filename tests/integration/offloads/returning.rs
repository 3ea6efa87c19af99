//! Front ends that come back with a driver that has offloads, to a port that offers none any more.

use virtio::Features;
use virtio::offload::NetHeader;

use super::abilities::{ASKS, Sent, TAKES_ALL_MERGED, arriving, assert_arrived, merging};
use super::assert_accounted;
use crate::support::flow::TCP4;
use crate::support::front_end::{FrontEnd, Manner};
use crate::support::messages::{Conversation, GET_FEATURES};
use crate::support::switch::{Switch, guests};
use crate::support::wait_for;

/// Everything that drivers have.
const HAS: Manner = merging(Features(ASKS.0 | TAKES_ALL_MERGED.features.0));

fn switch() -> Switch {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    for port in ["alice", "bob"] {
        switch.run(&["port", "set", port, "--offloads", "off"]);
    }
    switch
}

/// Alice's large frame comes cut and ready to Bob, though he took large ones.
fn assert_served(switch: &Switch, mut alice: FrontEnd, mut bob: FrontEnd) {
    let sent = Sent { flow: TCP4, payload: vec![7; 20_000], is_partial: true, size: Some(1_400) };

    let (net_header, frame) = sent.packet();
    alice.send_asking(net_header, &frame);

    for piece in sent.ready() {
        let came = wait_for("a piece", || bob.try_receive_told());
        assert_arrived(&came, &arriving(HAS, NetHeader::default(), piece), "piece");
    }
    for port in ["alice", "bob"] {
        assert_accounted(switch, port);
    }
}

/// Looks at what a port offers, and hangs up, as QEMU does where something is missing.
fn look(switch: &Switch, port: &str) -> Features {
    let mut talk = Conversation::connect(&switch.path(&format!("{port}.sock")));
    talk.send(GET_FEATURES, &[], &[]);
    Features(talk.reply_u64())
}

#[test]
fn driver_keeps_offloads_whatever_its_port_offers() {
    let switch = switch();
    let manner = Manner { insists: true, ..HAS };

    let plug_in = |name| FrontEnd::plug_in_as(&switch.path(name), manner);
    let (alice, bob) = (plug_in("alice.sock"), plug_in("bob.sock"));

    assert_served(&switch, alice, bob);
}

#[test]
fn front_end_that_leaves_an_offer_without_offloads_is_offered_them_when_it_comes_back() {
    let switch = switch();

    let first = ["alice", "bob"].map(|port| look(&switch, port));
    let plug_in = |name| FrontEnd::plug_in_as(&switch.path(name), HAS);
    let (alice, bob) = (plug_in("alice.sock"), plug_in("bob.sock"));

    let offloads = first.map(|offered| offered.0 & Features::OFFLOADS.0);
    assert_eq!(offloads, [0, 0]);
    assert_served(&switch, alice, bob);
    assert_eq!(switch.log_lines("left an offer without offloads"), 2, "{}", switch.log());
}

#[test]
fn front_end_of_another_guest_is_offered_none() {
    let switch = switch();

    look(&switch, "alice");
    let offered = look(&switch, "alice");
    drop(FrontEnd::plug_in(&switch.path("alice.sock")));
    let narrow = look(&switch, "alice");

    assert!(offered.contains(Features::OFFLOADS), "{offered}");
    assert_eq!(narrow.0 & Features::OFFLOADS.0, 0, "{narrow}");
}
