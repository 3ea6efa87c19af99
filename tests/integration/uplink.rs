//! The wire: both ways, over every queue, and what is left when the switch is killed.

use std::time::Duration;

use serde_json::json;

use crate::support::front_end::FrontEnd;
use crate::support::packet_socket::PacketSocket;
use crate::support::stream::Stream;
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::{OUTSIDE, UPLINK, Wire};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, tagged, wait_for};

/// A guest's port, and one for the wire.
fn guest_and_uplink() -> String {
    guests(&["vm"]) + &interface("up", UPLINK)
}

/// A wire, and a second one in the same namespace between `uplink2` and `outside2`.
pub(crate) fn two_wires() -> Wire {
    let wire = Wire::new();
    wire.add(2);
    wire
}

/// Those, and one more between `uplink3` and `outside3`.
pub(crate) fn three_wires() -> Wire {
    let wire = two_wires();
    wire.add(3);
    wire
}

#[test]
fn frames_of_every_length_cross_between_guest_and_wire() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
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
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));

    guest.send(&frame(BROADCAST, ALICE, &[9; 28]));

    let padded = [frame(BROADCAST, ALICE, &[9; 28]), vec![0; 18]].concat();
    assert_eq!(socket.receive_from(ALICE), padded);
}

#[test]
fn every_queue_of_the_interface_is_served() {
    let wire = Wire::with_queues(2);
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
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
fn every_flow_leaves_by_an_interface_with_fewer_queues_to_send_than_to_receive() {
    let wire = Wire::with_channels(4, 1);
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));

    for number in 0..64 {
        let sent = frame(BROADCAST, [2, 0, 0, 0, 1, number], &[number; 46]);
        guest.send(&sent);
        assert_eq!(socket.receive_from([2, 0, 0, 0, 1, number]), sent);
    }

    let statistics = switch.statistics("up");
    assert_eq!(statistics["queues"].as_array().unwrap().len(), 4, "{statistics}");
}

#[test]
fn port_says_its_mode_and_what_its_interface_dropped() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    let shown = || switch.shown("up");
    assert_eq!(shown()["mode"], "copy");
    assert_eq!(shown()["interface"]["tx_dropped"], 0);

    // A wire that is cut: the interface has nobody to send to.
    wire.ip(&["link", "set", OUTSIDE, "down"]);
    for _ in 0..3 {
        guest.send(&frame(BROADCAST, ALICE, &[1; 46]));
    }

    wait_for("the interface's drops", || (shown()["interface"]["tx_dropped"] == 3).then_some(()));
    assert_eq!(switch.statistics("up")["interface"]["tx_dropped"], 3);
}

#[test]
fn frames_for_which_the_switch_was_too_slow_are_counted_at_the_socket() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
    let socket = wire.socket();

    // More than the 2,048 slots of its rx ring, while it does not look.
    switch.pause();
    for _ in 0..3_000 {
        socket.send(&frame(BROADCAST, ALICE, &[1; 46]));
    }
    switch.resume();

    let statistics = switch.statistics("up");
    for lost in
        [&statistics["queues"][0]["socket"]["rx_ring_full"], &statistics["interface"]["rx_dropped"]]
    {
        assert!(lost.as_u64() > Some(0), "{statistics}");
    }
}

#[test]
fn killed_switch_leaves_no_program_and_a_new_one_starts() {
    let wire = Wire::new();
    let mut switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
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
    let mut switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());

    for _ in 0..10 {
        // Not waited for: its program and sockets stay for some 50 ms.
        switch.begin_kill();
        switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());
    }

    let socket = wire.socket();
    let mut guest = FrontEnd::plug_in(&switch.path("vm.sock"));
    guest.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(socket.receive_from(ALICE), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn removed_uplink_leaves_the_interface_as_it_was() {
    let wire = Wire::new();
    let switch = Switch::in_namespace(Some(&wire.namespace), &guest_and_uplink());

    switch.run(&["port", "remove", "up"]);
    assert!(!wire.ip(&["-d", "link", "show", UPLINK]).contains("xdp"));
    switch.run(&["port", "add", "up", "af-xdp", "--interface", UPLINK]);

    assert!(wire.ip(&["-d", "link", "show", UPLINK]).contains("xdp"));
}

#[test]
fn frames_cross_from_wire_to_wire() {
    let wire = two_wires();
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
fn frames_between_uplinks_arrive_whole_with_the_tag_that_each_wants() {
    cross_between_trunk_and_access(&[0]);
}

#[test]
fn frames_between_uplinks_of_two_threads_arrive_whole_with_the_tag_that_each_wants() {
    cross_between_trunk_and_access(&[0, 1]);
}

/// More frames than the uplinks have chunks, to and fro at once, before and after one of them was
/// removed and added again: moved if they go to a known address, and copied into chunks that others
/// were moved from if they are flooded.
fn cross_between_trunk_and_access(cores: &[u32]) {
    let wire = two_wires();
    let config = format!(
        "[threads]\ncores = {cores:?}\n[[port]]\nname='trunk'\ntype='af-xdp'\n\
         interface='uplink'\nvlan = {{ trunk = [100] }}\n"
    );
    let switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let (trunk, access) = (wire.socket(), wire.socket_on("outside2"));

    for _ in 0..2 {
        let to_access = ["access", "af-xdp", "--interface", "uplink2", "--access", "100"];
        switch.run(&[&["port", "add"], &to_access[..]].concat());
        see_tags(&wire, &trunk, &access);
        for round in 0..200 {
            // So many at once that their chunks are in use together.
            switch.pause();
            let payloads: Vec<_> = (0..100).map(|at| numbered(round * 100 + at)).collect();
            let to = |known, at: usize| if at.is_multiple_of(3) { BROADCAST } else { known };
            for (at, payload) in payloads.iter().enumerate() {
                trunk.send(&tagged(to(BOB, at), ALICE, 100, payload));
                access.send(&frame(to(ALICE, at), BOB, payload));
            }
            switch.resume();
            // A packet socket gives frames without their tag.
            for (at, payload) in payloads.iter().enumerate() {
                let (here, there) = (access.receive_from(ALICE), trunk.receive_from(BOB));
                assert!(here == frame(to(BOB, at), ALICE, payload), "round {round}");
                assert!(there == frame(to(ALICE, at), BOB, payload), "round {round}");
            }
        }
        switch.run(&["port", "remove", "access"]);
    }
}

/// Lets the switch learn Bob behind the access port and Alice behind the trunk, whose frames must
/// leave with and without a tag.
fn see_tags(wire: &Wire, trunk: &PacketSocket, access: &PacketSocket) {
    let sniffers = (wire.sniff(), wire.sniff_on("outside2"));
    access.send(&frame(BROADCAST, BOB, &[0; 46]));
    assert_eq!(trunk.receive_from(BOB), frame(BROADCAST, BOB, &[0; 46]));
    let _ = sniffers.0.line_with("52:54:00:00:00:0b >");

    trunk.send(&tagged(BOB, ALICE, 100, &[1; 100]));
    access.send(&frame(ALICE, BOB, &[2; 100]));

    assert_eq!(access.receive_from(ALICE), frame(BOB, ALICE, &[1; 100]));
    assert_eq!(trunk.receive_from(BOB), frame(ALICE, BOB, &[2; 100]));
    let line = sniffers.0.line_with("52:54:00:00:00:0b >");
    assert!(line.contains("vlan 100"), "{line}");
    let line = sniffers.1.line_with("52:54:00:00:00:0a >");
    assert!(!line.contains("vlan"), "{line}");
}

/// A payload of 46 to 145 bytes that differs from that of every other number.
fn numbered(number: u32) -> Vec<u8> {
    let length = 46 + number as usize * 37 % 100;
    let bytes = (0u32..).flat_map(|at| (number ^ at.wrapping_mul(0x9e37_79b1)).to_be_bytes());
    bytes.take(length).collect()
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

#[test]
fn ports_come_and_go_while_a_stream_between_others_loses_no_frame() {
    stream_while_ports_come_and_go(&[0]);
}

#[test]
fn ports_come_and_go_while_a_stream_between_threads_loses_no_frame() {
    stream_while_ports_come_and_go(&[0, 1]);
}

/// A stream from Alice to Bob; meanwhile a guest's port and an uplink are added, used and removed.
fn stream_while_ports_come_and_go(cores: &[u32]) {
    let wire = Wire::new();
    let config = format!("[threads]\ncores = {cores:?}\n{}", guests(&["alice", "bob"]));
    let switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let (alice, bob) = (switch.path("alice.sock"), switch.path("bob.sock"));
    let stream = Stream::start(FrontEnd::plug_in(&alice), FrontEnd::plug_in(&bob));
    let socket = switch.path("passing.sock");
    let mut rpc = switch.connect();
    let mut call = |method, params| {
        let before = stream.received();
        let answer = rpc.call(method, &params);
        assert_eq!(answer["error"], json!(null), "{method} {params}");
        // It flows on, before the next change.
        wait_for("frames of the stream", || (stream.received() > before + 500).then_some(()));
    };

    for _ in 0..10 {
        let port = json!({ "name": "passing", "type": "vhost-user", "socket": socket });
        call("port.add", port);
        let mut carol = FrontEnd::plug_in(&socket);
        call("port.add", json!({ "name": "up", "type": "af-xdp", "interface": UPLINK }));
        let outside = wire.socket();
        // Sent until it comes: the socket overflows with what the stream floods.
        wait_for("Carol's frame on the wire", || {
            carol.send(&frame(BROADCAST, CAROL, &[2; 46]));
            std::thread::sleep(Duration::from_millis(5));
            let mut came = std::iter::from_fn(|| outside.try_receive());
            came.any(|frame| frame[6..12] == CAROL).then_some(())
        });
        call("port.remove", json!({ "name": "passing" }));
        call("port.remove", json!({ "name": "up" }));
    }

    let sent = stream.finish();
    assert_eq!(switch.counter("alice", "frames_in"), sent);
}
