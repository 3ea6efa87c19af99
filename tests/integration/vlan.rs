//! VLANs as interface.md has them, seen by tcpdump on the uplink's side: by an independent parser.

use serde_json::json;

use crate::support::front_end::{FrontEnd, RING_ENTRIES};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests};
use crate::support::wire::{Sniffer, Wire};
use crate::support::{ALICE, BOB, BROADCAST, frame, tagged, wait_for};

/// Changes of a VLAN while frames are on their way.
const CHANGES: usize = 400;

const OUTSIDER: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xee];

/// A guest and an uplink, in VLANs of the test's choice.
struct Lab {
    guest: FrontEnd,
    switch: Switch,
    socket: PacketSocket,
    sniffer: Sniffer,
    // The namespace goes last.
    _wire: Wire,
}

fn lab(guest_vlan: &str, uplink_vlan: &str) -> Lab {
    let wire = Wire::new();
    let config = format!(
        "[[port]]\nname = 'vm'\ntype = 'vhost-user'\nsocket = 'DIR/vm.sock'\nvlan = {guest_vlan}\n\
         [[port]]\nname = 'up'\ntype = 'af-xdp'\ninterface = 'uplink'\nvlan = {uplink_vlan}\n"
    );
    let switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let (socket, sniffer) = (wire.socket(), wire.sniff());
    let guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    switch.await_up("vm");
    Lab { guest, switch, socket, sniffer, _wire: wire }
}

impl Lab {
    /// What tcpdump says of a frame that the guest sends.
    fn seen_from_guest(&mut self, frame: &[u8]) -> String {
        self.guest.send(frame);
        self.sniffer.line_with("52:54:00:00:00:0a >")
    }

    /// Sends from the guest what must be dropped for a reason.
    fn dropped_from_guest(&mut self, frame: &[u8], reason: &str) {
        let before = self.switch.drops("vm", reason);
        self.guest.send(frame);
        self.guest.await_sent();
        assert_eq!(self.switch.drops("vm", reason), before + 1, "{reason}");
    }

    /// Sends from outside what must be dropped for a reason.
    fn dropped_from_outside(&mut self, frame: &[u8], reason: &str) {
        let before = self.switch.drops("up", reason);
        self.socket.send(frame);
        wait_for(reason, || (self.switch.drops("up", reason) == before + 1).then_some(()));
        assert!(self.guest.stays_silent());
    }
}

#[test]
fn access_port_is_untagged_and_its_vlan_is_tagged_on_a_trunk() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");

    let line = lab.seen_from_guest(&frame(BROADCAST, ALICE, &[5; 46]));
    lab.socket.send(&tagged(ALICE, OUTSIDER, 100, &[6; 46]));

    assert!(line.contains("vlan 100, p 0"), "{line}");
    assert_eq!(lab.guest.receive(), frame(ALICE, OUTSIDER, &[6; 46]));
}

#[test]
fn native_vlan_leaves_a_trunk_untagged_and_comes_in_so() {
    let mut lab = lab("{ access = 7 }", "{ trunk = [100, '200-299'], native = 7 }");

    let line = lab.seen_from_guest(&frame(BROADCAST, ALICE, &[5; 46]));
    lab.socket.send(&frame(ALICE, OUTSIDER, &[6; 46]));
    assert_eq!(lab.guest.receive(), frame(ALICE, OUTSIDER, &[6; 46]));
    lab.socket.send(&tagged(ALICE, OUTSIDER, 7, &[7; 46]));

    assert!(!line.contains("vlan"), "{line}");
    assert_eq!(lab.guest.receive(), frame(ALICE, OUTSIDER, &[7; 46]));
}

#[test]
fn tags_that_the_guest_sends_itself_cross_a_trunk_with_their_priority() {
    let mut lab = lab("{ trunk = [100, 200] }", "{ trunk = ['1-4094'] }");

    let line = lab.seen_from_guest(&tagged(BROADCAST, ALICE, 5 << 13 | 200, &[5; 46]));
    lab.socket.send(&tagged(ALICE, OUTSIDER, 3 << 13 | 100, &[6; 46]));

    assert!(line.contains("vlan 200, p 5"), "{line}");
    assert_eq!(lab.guest.receive(), tagged(ALICE, OUTSIDER, 3 << 13 | 100, &[6; 46]));
}

#[test]
fn priority_tag_is_untagged_traffic_and_keeps_its_priority() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");

    let line = lab.seen_from_guest(&tagged(BROADCAST, ALICE, 6 << 13, &[5; 46]));

    assert!(line.contains("vlan 100, p 6"), "{line}");
}

#[test]
fn access_port_drops_tags() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100, 200] }");

    lab.dropped_from_guest(&tagged(BROADCAST, ALICE, 100, &[0; 46]), "tag_not_admitted");
    lab.dropped_from_guest(&tagged(BROADCAST, ALICE, 200, &[0; 46]), "tag_not_admitted");
}

#[test]
fn trunk_without_native_drops_what_is_untagged() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");

    lab.dropped_from_outside(&frame(ALICE, OUTSIDER, &[0; 46]), "untagged_not_admitted");
}

#[test]
fn vlan_that_the_port_is_not_in_is_dropped() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");

    lab.dropped_from_outside(&tagged(ALICE, OUTSIDER, 101, &[0; 46]), "vlan_not_member");
}

#[test]
fn vid_4095_is_dropped() {
    let mut lab = lab("{ trunk = ['1-4094'] }", "{ trunk = ['1-4094'] }");

    lab.dropped_from_guest(&tagged(BROADCAST, ALICE, 4_095, &[0; 46]), "vid_reserved");
}

#[test]
fn service_tag_is_payload() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");
    let inner = [&BROADCAST[..], &ALICE, &[0x88, 0xa8, 0, 9, 0x88, 0xb5], &[5; 46]].concat();

    let line = lab.seen_from_guest(&inner);

    assert!(line.contains("vlan 100") && line.contains("802.1Q-QinQ"), "{line}");
}

#[test]
fn second_tag_is_payload_and_reaches_no_other_vlan() {
    let mut lab = lab("{ trunk = [100], native = 1 }", "{ trunk = [100, 200] }");

    let inner = [&BROADCAST[..], &ALICE, &[0x81, 0, 0, 100, 0x81, 0, 0, 200, 0x88, 0xb5], &[5; 46]];
    let line = lab.seen_from_guest(&inner.concat());

    assert!(line.contains("vlan 100, p 0") && line.contains("vlan 200"), "{line}");
}

#[test]
fn addresses_are_learned_by_vlan() {
    let mut lab = lab("{ trunk = [100, 200] }", "{ trunk = [100, 200] }");

    lab.seen_from_guest(&tagged(BROADCAST, ALICE, 100, &[5; 46]));
    lab.socket.send(&tagged(BROADCAST, ALICE, 200, &[6; 46]));
    lab.guest.receive();

    let known = lab.switch.run(&["fdb", "list"]);
    let lines: Vec<&str> = known.lines().filter(|line| line.contains(":0a")).collect();
    assert_eq!(lines.len(), 2, "{known}");
    assert!(lines[0].contains("100") && lines[0].contains("vm"), "{known}");
    assert!(lines[1].contains("200") && lines[1].contains("up"), "{known}");
}

#[test]
fn vlans_change_while_traffic_flows() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100, 200] }");

    lab.switch.run(&["port", "set", "vm", "--access", "200"]);
    let line = lab.seen_from_guest(&frame(BROADCAST, ALICE, &[5; 46]));

    assert!(line.contains("vlan 200"), "{line}");
}

#[test]
fn reserved_group_addresses_are_not_forwarded() {
    let mut lab = lab("{ access = 100 }", "{ trunk = [100] }");

    for last in 0..=0x0f {
        let to = [0x01, 0x80, 0xc2, 0, 0, last];
        lab.dropped_from_guest(&frame(to, ALICE, &[0; 46]), "reserved_group");
    }
    let line = lab.seen_from_guest(&frame([1, 0x80, 0xc2, 0, 0, 0x10], ALICE, &[0; 46]));

    assert!(line.contains("vlan 100"), "{line}");
}

#[test]
fn guest_that_has_left_a_vlan_gets_no_frame_that_was_on_its_way() {
    let config = format!("[threads]\ncores = [0, 1]\n{}", guests(&["alice", "bob"]));
    let switch = Switch::with_config(&config);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    let mut rpc = switch.connect();

    for vlan in [2, 1].into_iter().cycle().take(CHANGES) {
        bob.send(&frame(ALICE, BOB, &[1; 46]));
        (0..RING_ENTRIES).for_each(|_| alice.send(&frame(BOB, ALICE, &[2; 46])));
        let answer = rpc.call("port.set", &json!({ "name": "bob", "access": vlan }));
        assert!(answer.get("error").is_none(), "{answer}");
        alice.await_sent();
        while let Some((_, got)) = bob.try_receive() {
            assert!(got == frame(BOB, ALICE, &[2; 46]), "in VLAN {vlan}: {got:02x?}");
        }
    }

    let lost = switch.drops("bob", "port_left_vlan");
    println!("{lost} frames were on their way when Bob left, in {CHANGES} changes");
}
