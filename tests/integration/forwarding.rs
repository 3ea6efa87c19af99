//! Frames between guests: every length, every manner of working a ring, every queue.

use virtio::Features;

use crate::support::front_end::{FrontEnd, MODERN, Manner, RING_ENTRIES};
use crate::support::switch::Switch;
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, wait_for};

const THREE_GUESTS: &str = r#"
[[port]]
name = "alice"
type = "vhost-user"
socket = "DIR/alice.sock"
queues = 4
[[port]]
name = "bob"
type = "vhost-user"
socket = "DIR/bob.sock"
queues = 4
[[port]]
name = "carol"
type = "vhost-user"
socket = "DIR/carol.sock"
"#;

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Sends frames of many lengths both ways and compares every byte.
fn exchange(manner: Manner, lengths: &[usize]) {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), manner);
    let mut bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);

    for &length in lengths {
        let there = frame(BOB, ALICE, &payload(length));
        alice.send(&there);
        assert!(bob.receive() == there, "{length} bytes of payload, there");
        let back = frame(ALICE, BOB, &payload(length));
        bob.send(&back);
        assert!(alice.receive() == back, "{length} bytes of payload, back");
    }
    alice.await_sent();
    bob.await_sent();
}

#[test]
fn frames_of_every_length_arrive_byte_for_byte() {
    exchange(MODERN, &(0..=1_500).collect::<Vec<_>>());
}

#[test]
fn jumbo_frames_arrive_byte_for_byte() {
    exchange(Manner { buffer_bytes: 12 << 10, ..MODERN }, &[1_501, 4_096, 8_986, 9_000, 9_202]);
}

#[test]
fn legacy_drivers_are_served_with_a_header_of_ten_bytes() {
    exchange(Manner { features: Features::NONE, ..MODERN }, &[0, 46, 51, 1_500]);
}

#[test]
fn legacy_drivers_that_merge_buffers_are_served_with_a_header_of_twelve() {
    exchange(Manner { features: Features::NET_MRG_RXBUF, ..MODERN }, &[0, 46, 51, 1_500]);
}

#[test]
fn frames_longer_than_a_buffer_are_spread_over_merged_ones() {
    let features = MODERN.features | Features::NET_MRG_RXBUF;
    exchange(Manner { features, buffer_bytes: 256, ..MODERN }, &[0, 229, 230, 231, 1_500, 9_000]);
}

/// Every kind of ring with every feature that changes how it is worked.
fn manners() -> impl Iterator<Item = Manner> {
    (0..32u8).map(|choice| {
        let pick = |bit: u8, feature| if choice & 1 << bit != 0 { feature } else { Features::NONE };
        let features = Features::VERSION_1
            | pick(0, Features::RING_PACKED)
            | pick(1, Features::RING_EVENT_IDX)
            | pick(2, Features::NET_MRG_RXBUF)
            | pick(3, Features::RING_INDIRECT_DESC)
            | pick(4, Features::IN_ORDER);
        let indirect = features.contains(Features::RING_INDIRECT_DESC);
        Manner { features, indirect, ..MODERN }
    })
}

#[test]
fn drivers_are_served_over_every_kind_of_ring() {
    for manner in manners() {
        // More frames than the ring is long, both ways.
        exchange(manner, &[0, 46, 51, 1_500].repeat(40));
    }
}

#[test]
fn rings_go_on_where_they_stopped() {
    let switch = Switch::with_config(THREE_GUESTS);
    for manner in manners() {
        let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), manner);
        let mut bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);

        for round in 0..100 {
            alice.send(&frame(BOB, ALICE, &[round; 46]));
            assert!(bob.receive() == frame(BOB, ALICE, &[round; 46]), "{manner:?}");
            alice.restart(1);
            bob.restart(0);
        }
    }
}

#[test]
fn packed_ring_of_a_front_end_that_does_not_know_where_it_stopped_is_refused() {
    let switch = Switch::with_config(THREE_GUESTS);
    let features = MODERN.features | Features::RING_PACKED;
    let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), Manner { features, ..MODERN });
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    alice.await_sent();

    alice.come_back(&switch.path("alice.sock"));

    let told = "refused SET_VRING_KICK: ring 1: a packed ring was worked before";
    wait_for("the refusal in the log", || (switch.log_lines(told) > 0).then_some(()));
}

#[test]
fn unknown_addresses_flood_and_known_ones_do_not() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    let mut carol = FrontEnd::plug_in(&switch.path("carol.sock"));

    alice.send(&frame(BOB, ALICE, &[1; 46]));
    assert_eq!(bob.receive(), frame(BOB, ALICE, &[1; 46]));
    assert_eq!(carol.receive(), frame(BOB, ALICE, &[1; 46]));
    bob.send(&frame(ALICE, BOB, &[2; 46]));
    assert_eq!(alice.receive(), frame(ALICE, BOB, &[2; 46]));

    assert!(carol.stays_silent());
    let known = switch.run(&["fdb", "list"]);
    assert!(known.contains("52:54:00:00:00:0a") && known.contains("alice"), "{known}");
}

#[test]
fn station_that_moves_is_followed_and_a_set_address_is_not_moved() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    switch.run(&["fdb", "add", "52:54:00:00:00:0c", "--vlan", "1", "--port", "alice"]);
    let port_of = |mac: &str| {
        let list = switch.run(&["fdb", "list"]);
        let line = list.lines().find(|line| line.contains(mac)).unwrap_or_default().to_owned();
        if line.contains("alice") { "alice" } else { "bob" }
    };

    alice.send(&frame(BROADCAST, BOB, &[0; 46]));
    bob.receive();
    assert_eq!(port_of("52:54:00:00:00:0b"), "alice");
    bob.send(&frame(BROADCAST, BOB, &[0; 46]));
    bob.send(&frame(BROADCAST, CAROL, &[0; 46]));
    alice.receive();
    alice.receive();

    assert_eq!(port_of("52:54:00:00:00:0b"), "bob");
    assert_eq!(port_of("52:54:00:00:00:0c"), "alice");
}

#[test]
fn addresses_age() {
    let switch = Switch::with_config(&format!("[bridge]\nageing_seconds = 10\n{THREE_GUESTS}"));
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    alice.send(&frame(BROADCAST, ALICE, &[0; 46]));
    alice.await_sent();
    let is_known = || switch.run(&["fdb", "list"]).contains("52:54:00:00:00:0a");
    assert!(is_known());

    let longest = std::time::Duration::from_secs(20);
    crate::support::wait_at_most(longest, "the address's end", || (!is_known()).then_some(()));
}

#[test]
fn a_flow_comes_back_on_the_pair_it_was_sent_from() {
    let switch = Switch::with_config(THREE_GUESTS);
    let features = MODERN.features | Features::NET_MQ;
    let several = Manner { features, queue_pairs: 4, ..MODERN };
    let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), several);
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    for pair in 0..4 {
        alice.send_on(pair, &frame(BOB, ALICE, &[7; 46]));
        bob.receive();
        bob.send(&frame(ALICE, BOB, &[8; 46]));
        let came = wait_for("the answer", || alice.try_receive());
        assert_eq!(came, (pair, frame(ALICE, BOB, &[8; 46])));
    }
}

#[test]
fn thirty_two_queue_pairs_are_served_over_either_ring() {
    for ring in [Features::NONE, Features::RING_PACKED] {
        let switch = Switch::with_config(&THREE_GUESTS.replace("queues = 4", "queues = 32"));
        let features = MODERN.features | Features::NET_MQ | ring;
        let most = Manner { features, queue_pairs: 32, ..MODERN };
        let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), most);
        let mut bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), most);

        for pair in 0..32u8 {
            let (there, back) = (frame(BOB, ALICE, &[pair; 46]), frame(ALICE, BOB, &[pair; 46]));
            alice.send_on(pair.into(), &there);
            let (came_by, came) = wait_for("the frame", || bob.try_receive());
            assert_eq!(came, there);
            bob.send_on(came_by, &back);
            let came = wait_for("the answer", || alice.try_receive());
            assert_eq!(came, (pair.into(), back));
        }
    }
}

#[test]
fn queues_are_switched_off_and_on_while_running() {
    let switch = Switch::with_config(THREE_GUESTS);
    let features = MODERN.features | Features::NET_MQ;
    let several = Manner { features, queue_pairs: 2, ..MODERN };
    let mut alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), several);
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    alice.send_on(1, &frame(BOB, ALICE, &[7; 46]));
    bob.receive();

    [2, 3].into_iter().for_each(|ring| alice.enable(ring, false));
    alice.synchronise();
    bob.send(&frame(ALICE, BOB, &[1; 46]));
    assert_eq!(wait_for("the frame", || alice.try_receive()).0, 0);
    alice.send_on(1, &frame(BOB, ALICE, &[2; 46]));
    alice.await_sent();
    assert!(bob.stays_silent());
    assert_eq!(switch.drops("alice", "queue_disabled"), 1);
    [2, 3].into_iter().for_each(|ring| alice.enable(ring, true));
    alice.synchronise();
    alice.send_on(1, &frame(BOB, ALICE, &[3; 46]));

    assert_eq!(bob.receive(), frame(BOB, ALICE, &[3; 46]));
}

#[test]
fn memory_comes_in_as_many_slots_as_there_are() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    // One is there already.
    assert!((1..509).all(|number| alice.add_page(number) == 0));
    assert_ne!(alice.add_page(509), 0);

    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn memory_goes_and_comes_under_live_rings() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    for round in 0..50 {
        alice.remove_region();
        alice.synchronise();
        alice.send(&frame(BROADCAST, ALICE, &[round; 46]));
        assert_eq!(bob.try_receive(), None);
        alice.add_region();
        assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[round; 46]));
        bob.send(&frame(ALICE, BOB, &[round; 46]));
        assert_eq!(alice.receive(), frame(ALICE, BOB, &[round; 46]));
    }
}

#[test]
fn regions_sent_once_for_each_queue_pair_are_no_mistake() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    for _ in 0..2 {
        alice.remove_region();
    }
    for _ in 0..2 {
        alice.add_region();
    }
    alice.send(&frame(BROADCAST, ALICE, &[7; 46]));

    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[7; 46]));
    assert_eq!(switch.log_lines("refused"), 0, "{}", switch.log());
}

#[test]
fn guest_that_stops_reading_loses_its_frames_with_a_reason_and_nobody_else_does() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    let mut carol = FrontEnd::plug_in(&switch.path("carol.sock"));
    bob.send(&frame(ALICE, BOB, &[0; 46]));
    carol.send(&frame(ALICE, CAROL, &[0; 46]));
    alice.receive();
    alice.receive();
    bob.await_sent();
    carol.await_sent();
    let before = switch.counter("bob", "frames_out");

    for _ in 0..500 {
        alice.send(&frame(BOB, ALICE, &[1; 46]));
        alice.send(&frame(CAROL, ALICE, &[2; 46]));
        assert_eq!(wait_for("a frame for Carol", || carol.try_receive_to(CAROL)).len(), 60);
    }
    alice.await_sent();

    let taken = switch.counter("bob", "frames_out") - before;
    assert!(taken <= u64::from(RING_ENTRIES));
    assert_eq!(switch.drops("bob", "no_receive_buffer"), 500 - taken);
}

#[test]
fn counters_add_up() {
    let switch = Switch::with_config(THREE_GUESTS);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    alice.send(&frame(BROADCAST, ALICE, &[0; 46]));
    bob.receive();
    alice.send(&frame([1, 0x80, 0xc2, 0, 0, 1], ALICE, &[0; 46]));
    alice.send(&[0; 13]);
    alice.send(&frame(ALICE, BROADCAST, &[0; 46]));
    alice.send(&frame(ALICE, ALICE, &[0; 46]));
    alice.send(&[&frame(BOB, ALICE, &[0; 46])[..12], &[0x81, 0, 0, 1]].concat());
    alice.await_sent();

    let number = |port: &serde_json::Value, name: &str| port[name].as_u64().unwrap();
    let (alices, bobs) = (switch.statistics("alice"), switch.statistics("bob"));
    assert_eq!(number(&alices, "frames_in"), 6);
    for (reason, count) in
        [("reserved_group", 1), ("runt", 2), ("source_is_group", 1), ("no_egress_port", 1)]
    {
        assert_eq!(alices["drops"][reason], count, "{reason}: {alices}");
    }
    let accounted = number(&alices, "drops_in") + number(&alices, "decided");
    assert_eq!(number(&alices, "frames_in"), accounted);
    let accounted = number(&bobs, "frames_out") + number(&bobs, "drops_out");
    assert_eq!(number(&bobs, "copies_ordered"), accounted);
}
