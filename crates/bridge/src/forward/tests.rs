//! Decisions, each from two addresses, a port and a time.

use super::*;
use frame::MacAddr;

use crate::{DEFAULT_AGEING, VlanSet};

const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const A: u16 = 0;
const B: u16 = 5;
const C: u16 = 1_023;
const NO_LIMIT: u32 = u32::MAX;
const NOW: Seconds = Seconds(100);
const LATER: Seconds = Seconds(101);
/// PCP 5 with DEI set.
const PRIORITY: u16 = 0xb000;

fn vid(number: u16) -> VlanId {
    VlanId::try_from(number).unwrap()
}

fn access(number: u16) -> VlanPolicy {
    VlanPolicy::Access(vid(number))
}

fn trunk(members: &str, native: Option<u16>) -> VlanPolicy {
    VlanPolicy::Trunk { members: members.parse().unwrap(), native: native.map(vid) }
}

fn empty_bridge() -> Bridge {
    Bridge::new(Arc::new(Fdb::with_seed(1_000, DEFAULT_AGEING, 1)))
}

fn bridge(ports: &[(u16, VlanPolicy)]) -> Bridge {
    let mut bridge = empty_bridge();
    for (slot, policy) in ports {
        bridge.set_port(*slot, policy, NO_LIMIT);
    }
    bridge
}

fn bridge_of_three() -> Bridge {
    bridge(&[(A, access(1)), (B, access(1)), (C, access(1))])
}

fn header(source: MacAddr, destination: MacAddr, tag: Option<u16>) -> Header {
    let mut frame = [destination.0, source.0].concat();
    if let Some(tag) = tag {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.resize(64, 0);
    Header::parse(&frame).unwrap()
}

fn untagged(source: MacAddr, destination: MacAddr) -> Header {
    header(source, destination, None)
}

#[test]
fn frame_for_an_unknown_address_floods() {
    let forward = bridge_of_three().decide(A, &untagged(ALICE, BOB), NOW).unwrap();

    let expected = Forward { vid: vid(1), tag: VlanTag::from(vid(1)), egress: Egress::Flood };
    assert_eq!(forward, expected);
}

#[test]
fn frame_for_a_learned_address_leaves_by_its_port_alone() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, MacAddr::BROADCAST), NOW);

    let forward = bridge.decide(B, &untagged(BOB, ALICE), NOW).unwrap();

    assert_eq!(forward.egress, Egress::Port(A));
}

#[test]
fn frame_for_a_group_floods_its_vlan_alone() {
    let mut bridge = bridge(&[(A, access(1)), (B, access(2)), (C, trunk("1", None))]);

    let forward = bridge.decide(A, &untagged(ALICE, MacAddr::BROADCAST), NOW).unwrap();

    assert_eq!(forward.egress, Egress::Flood);
    assert_eq!(bridge.flood_members(forward.vid).iter().collect::<Vec<_>>(), [A, C]);
}

#[test]
fn frame_never_leaves_by_the_port_it_came_from() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);

    let decision = bridge.decide(A, &untagged(BOB, ALICE), NOW);

    assert_eq!(decision, Err(DropReason::NoEgressPort));
}

#[test]
fn frame_in_a_vlan_without_other_member_has_no_egress_port() {
    let mut bridge = bridge(&[(A, access(1)), (B, access(2))]);

    let decision = bridge.decide(A, &untagged(ALICE, MacAddr::BROADCAST), NOW);

    assert_eq!(decision, Err(DropReason::NoEgressPort));
}

#[test]
fn frame_for_a_port_that_left_the_vlan_has_no_egress_port() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);

    bridge.set_port(A, &access(2), NO_LIMIT);

    assert_eq!(bridge.decide(B, &untagged(BOB, ALICE), NOW), Err(DropReason::NoEgressPort));
}

#[test]
fn frame_for_a_port_that_was_removed_has_no_egress_port() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);

    bridge.remove_port(A);

    assert_eq!(bridge.decide(B, &untagged(BOB, ALICE), NOW), Err(DropReason::NoEgressPort));
}

#[test]
fn reserved_group_is_not_forwarded_nor_its_source_learned() {
    let mut bridge = bridge_of_three();
    let lldp = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

    let decision = bridge.decide(A, &untagged(ALICE, lldp), NOW);

    assert_eq!(decision, Err(DropReason::ReservedGroup));
    assert_eq!(bridge.fdb().look_up(vid(1), ALICE), None);
}

#[test]
fn frame_from_a_group_address_is_dropped() {
    let decision = bridge_of_three().decide(A, &untagged(MacAddr::BROADCAST, BOB), NOW);

    assert_eq!(decision, Err(DropReason::SourceIsGroup));
}

#[test]
fn frame_from_a_slot_without_port_is_dropped() {
    let mut bridge = bridge_of_three();

    assert_eq!(bridge.decide(7, &untagged(ALICE, BOB), NOW), Err(DropReason::VlanNotMember));
    assert_eq!(bridge.decide(1_024, &untagged(ALICE, BOB), NOW), Err(DropReason::VlanNotMember));
}

#[test]
fn frame_that_is_not_admitted_teaches_nothing() {
    let mut bridge = bridge_of_three();

    let decision = bridge.decide(A, &header(ALICE, BOB, Some(1)), NOW);

    assert_eq!(decision, Err(DropReason::TagNotAdmitted));
    assert_eq!(bridge.fdb().statistics().entries, 0);
}

#[test]
fn same_address_in_two_vlans_is_two_stations() {
    let mut bridge = bridge(&[(A, access(1)), (B, access(2)), (C, trunk("1-2", None))]);
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);
    let _ = bridge.decide(B, &untagged(ALICE, BOB), NOW);

    let first = bridge.decide(C, &header(BOB, ALICE, Some(1)), NOW).unwrap();
    let second = bridge.decide(C, &header(BOB, ALICE, Some(2)), NOW).unwrap();

    assert_eq!((first.egress, second.egress), (Egress::Port(A), Egress::Port(B)));
}

#[test]
fn priority_of_a_priority_tag_leaves_with_the_tag_of_a_trunk() {
    let mut bridge = bridge(&[(A, access(100)), (B, access(100)), (C, trunk("100", Some(1)))]);

    let forward = bridge.decide(A, &header(ALICE, BOB, Some(PRIORITY)), NOW).unwrap();

    assert_eq!(bridge.egress_tag(B, &forward), None);
    assert_eq!(bridge.egress_tag(C, &forward), Some(VlanTag::from_bits(PRIORITY | 100)));
}

#[test]
fn native_vlan_leaves_one_trunk_untagged_and_another_tagged() {
    let mut bridge = bridge(&[(A, trunk("100", Some(1))), (B, trunk("1", None)), (C, access(1))]);

    let forward = bridge.decide(C, &untagged(ALICE, BOB), NOW).unwrap();

    assert_eq!(bridge.egress_tag(A, &forward), None);
    assert_eq!(bridge.egress_tag(B, &forward), Some(VlanTag::from(vid(1))));
}

#[test]
fn service_tag_is_payload_and_travels_in_the_ports_vlan() {
    let mut bridge = bridge_of_three();
    let mut frame = [BOB.0, ALICE.0].concat();
    frame.extend([0x88, 0xa8, 0x00, 0x64, 0x08, 0x00]);

    let forward = bridge.decide(A, &Header::parse(&frame).unwrap(), NOW).unwrap();

    assert_eq!(forward.vid, vid(1));
}

#[test]
fn station_that_moves_is_reached_at_its_new_port() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);
    let _ = bridge.decide(B, &untagged(ALICE, BOB), NOW);

    let forward = bridge.decide(C, &untagged(BOB, ALICE), NOW).unwrap();

    assert_eq!(forward.egress, Egress::Port(B));
}

#[test]
fn station_that_moves_away_and_back_is_learned_back_in_the_next_second() {
    let mut bridge = bridge_of_three();
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);
    let _ = bridge.decide(B, &untagged(ALICE, BOB), NOW);

    let _ = bridge.decide(A, &untagged(ALICE, BOB), LATER);

    assert_eq!(bridge.fdb().look_up(vid(1), ALICE), Some(A));
}

#[test]
fn port_learns_no_more_addresses_than_its_limit() {
    let mut bridge = bridge_of_three();
    bridge.set_port(A, &access(1), 1);
    let _ = bridge.decide(A, &untagged(ALICE, BOB), NOW);
    let _ = bridge.decide(A, &untagged(BOB, ALICE), NOW);

    assert_eq!(bridge.fdb().look_up(vid(1), BOB), None);
    assert_eq!(bridge.fdb().statistics().refused_limit, 1);
}

#[test]
fn port_that_is_set_anew_keeps_none_of_its_former_vlans() {
    let mut bridge = empty_bridge();
    bridge.set_port(A, &trunk("1-4094", Some(1)), NO_LIMIT);

    bridge.set_port(A, &access(7), NO_LIMIT);

    let vlans: Vec<_> =
        VlanSet::all().iter().filter(|&vid| bridge.flood_members(vid).contains(A)).collect();
    assert_eq!(vlans, [vid(7)]);
}

#[test]
fn removed_port_is_a_member_of_no_vlan() {
    let mut bridge = empty_bridge();
    bridge.set_port(A, &trunk("1-4094", Some(1)), NO_LIMIT);

    bridge.remove_port(A);
    bridge.remove_port(A);

    assert!(VlanSet::all().iter().all(|vid| bridge.flood_members(vid).is_empty()));
}

#[test]
fn two_threads_bridges_share_what_they_learn() {
    let fdb = Arc::new(Fdb::new(1_000, DEFAULT_AGEING));
    let [mut one, mut other] = [Bridge::new(Arc::clone(&fdb)), Bridge::new(fdb)];
    for bridge in [&mut one, &mut other] {
        bridge.set_port(A, &access(1), NO_LIMIT);
        bridge.set_port(B, &access(1), NO_LIMIT);
    }
    let _ = one.decide(A, &untagged(ALICE, BOB), NOW);

    let forward = other.decide(B, &untagged(BOB, ALICE), NOW).unwrap();

    assert_eq!(forward.egress, Egress::Port(A));
}

#[test]
fn burst_goes_where_its_frames_would_go_one_by_one() {
    let tagged = |source, destination| header(source, destination, Some(5));
    let burst = [
        untagged(ALICE, BOB),
        untagged(BOB, ALICE),
        untagged(ALICE, BOB),
        tagged(ALICE, BOB),
        untagged(ALICE, MacAddr::BROADCAST),
        untagged(MacAddr::BROADCAST, ALICE),
        untagged(BOB, BOB),
    ];
    let ports = [(A, access(1)), (B, trunk("1,5", Some(1)))];

    for ingress in [A, B, C] {
        let (mut single, mut several) = (bridge(&ports), bridge(&ports));
        let _ = single.decide(B, &untagged(BOB, ALICE), NOW);
        let _ = several.decide(B, &untagged(BOB, ALICE), NOW);

        let one_by_one = burst.map(|header| single.decide(ingress, &header, NOW));
        let mut decisions = Decisions::default();
        several.decide_all(ingress, burst.iter().enumerate(), NOW, &mut decisions);

        let run_of = |at| decisions.runs().find(|run| at < run.end).unwrap();
        let together: Vec<_> = (0..burst.len()).map(|at| run_of(at).decision).collect();
        assert_eq!(together, one_by_one);
    }
}
