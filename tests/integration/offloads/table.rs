//! Every pair of sender and receiver, every protocol, with and without tags, with frames of a usual
//! wire and of one for jumbo frames: what arrives is what was sent, in the form that its receiver
//! takes.
//!
//! ```text
//!   guest that asks ─┐                            ┌─ guests of all abilities
//!   plain guest ─────┤                            ├─ wire
//!   wire ────────────┼─ VLAN 100, tagged or not ──┼─ wire whose interface cuts large frames
//!                    │                            ├─ tap
//!   tap that asks ───┤                            └─ tap without offloads
//!   plain tap ───────┘
//! ```

mod lab;

use crate::support::BROADCAST;
use crate::support::flow::{Flow, PROTOCOLS};

use lab::{Lab, RECEIVER_COUNT, Sender, Shape, Vlan, address};

/// Frames of each protocol from each sender to each receiver.
const FRAMES: usize = 6;

/// The usual MTU.
const ETHERNET: usize = 1_500;

/// What makes frames of 9,216 bytes, the longest that wires carry.
const JUMBO: usize = 9_202;

/// Sends from everybody to everybody, one frame at a time.
fn exchange(shape: Shape) {
    let mut lab = Lab::new(shape);
    for sender in Sender::ALL {
        for flow in PROTOCOLS {
            for number in 0..RECEIVER_COUNT {
                for _ in 0..FRAMES {
                    let sent = lab.frame(sender, Flow { to: address(number), ..flow });
                    lab.send(sender, &sent);
                    lab.assert_received(number, &sent);
                }
            }
        }
    }
    lab.finish();
}

/// Sends large frames to everybody at once.
fn flood(shape: Shape) {
    let mut lab = Lab::new(shape);
    for flow in PROTOCOLS {
        for _ in 0..FRAMES {
            let sent = lab.frame(Sender::Guest, Flow { to: BROADCAST, ..flow });
            lab.send(Sender::Guest, &sent);
            (0..RECEIVER_COUNT).for_each(|number| lab.assert_received(number, &sent));
            lab.drain_others();
        }
    }
    lab.finish();
}

const fn shape(cores: &'static str, vlans: [Vlan; 2], mtu: usize) -> Shape {
    let [sender_vlan, receiver_vlan] = vlans;
    Shape { cores, sender_vlan, receiver_vlan, mtu }
}

#[test]
fn everybody_gets_the_form_he_takes_without_tags() {
    exchange(shape("[0]", [Vlan::Access, Vlan::Access], ETHERNET));
}

#[test]
fn everybody_gets_the_form_he_takes_when_tags_are_inserted() {
    exchange(shape("[0]", [Vlan::Access, Vlan::Trunk], ETHERNET));
}

#[test]
fn everybody_gets_the_form_he_takes_when_tags_are_removed() {
    exchange(shape("[0]", [Vlan::Trunk, Vlan::Access], ETHERNET));
}

#[test]
fn everybody_gets_the_form_he_takes_over_two_poll_threads() {
    exchange(shape("[0, 1]", [Vlan::Trunk, Vlan::Trunk], ETHERNET));
}

#[test]
fn everybody_gets_the_form_he_takes_of_jumbo_frames() {
    exchange(shape("[0]", [Vlan::Access, Vlan::Access], JUMBO));
}

#[test]
fn everybody_gets_the_form_he_takes_of_jumbo_frames_when_tags_are_inserted() {
    exchange(shape("[0, 1]", [Vlan::Access, Vlan::Trunk], JUMBO));
}

#[test]
fn everybody_gets_the_form_he_takes_of_tagged_jumbo_frames() {
    exchange(shape("[0]", [Vlan::Trunk, Vlan::Trunk], JUMBO));
}

#[test]
fn everybody_gets_his_own_form_of_a_flood() {
    flood(shape("[0]", [Vlan::Access, Vlan::Trunk], ETHERNET));
}

#[test]
fn everybody_gets_his_own_form_of_a_flood_from_another_thread() {
    flood(shape("[0, 1]", [Vlan::Trunk, Vlan::Access], ETHERNET));
}

#[test]
fn everybody_gets_his_own_form_of_a_flood_of_jumbo_frames() {
    flood(shape("[0]", [Vlan::Trunk, Vlan::Access], JUMBO));
}
