//! Large frames and partial checksums between the host and everybody else: whole to whoever takes
//! them, cut and ready to all others. What must come is made field by field (`support/flow.rs`).

use virtio::Features;
use virtio::offload::NetHeader;

use super::{Lab, PORT, SHAPES, assert_accounted, assert_all_accounted, host};
use crate::support::flow::{Flow, PROTOCOLS, TCP4, assert_ready};
use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::UPLINK;
use crate::support::{ALICE, BOB, CAROL, wait_for};

/// Payload of a segment: with all headers less than a wire's MTU.
const SIZE: u16 = 1_400;

/// Payload of a frame that is nearly as long as IP can say: 46 segments.
const LARGE_BYTES: usize = 64_000;

/// An address behind the wire.
const DAVE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0d];

/// A driver that leaves everything to us.
const ASKING: Manner = with(
    Features::NET_CSUM.0
        | Features::NET_HOST_TSO4.0
        | Features::NET_HOST_TSO6.0
        | Features::NET_HOST_USO.0,
);

/// A driver that takes everything.
const TAKING: Manner = with(
    Features::NET_MRG_RXBUF.0
        | Features::NET_GUEST_CSUM.0
        | Features::NET_GUEST_TSO4.0
        | Features::NET_GUEST_TSO6.0
        | Features::NET_GUEST_USO4.0
        | Features::NET_GUEST_USO6.0,
);

const fn with(features: u64) -> Manner {
    Manner { features: Features(MODERN.features.0 | features), ..MODERN }
}

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// The next frame from this source, with what is left to do to it.
fn told(socket: &PacketSocket, source: [u8; 6]) -> (NetHeader, Vec<u8>) {
    wait_for("a frame", || socket.try_receive_told().filter(|(_, frame)| frame[6..12] == source))
}

/// The same, without what the sender may choose: how many bytes of headers there are is a hint.
fn essential(net_header: NetHeader) -> NetHeader {
    NetHeader { hdr_len: 0, ..net_header }
}

#[test]
fn large_frames_of_guests_reach_the_host_whole() {
    for shape in SHAPES {
        let mut lab = Lab::new(shape, "", ASKING);
        lab.socket.prepare_for_offloads();

        for flow in PROTOCOLS {
            let asked = flow.net_header(Some(SIZE));
            let sent = flow.partial(&payload(LARGE_BYTES));
            lab.alice.send_asking(asked, &sent);
            let (left, came) = told(&lab.socket, ALICE);
            assert!(came == sent, "{shape:?} {flow:?}: {} bytes came", came.len());
            assert_eq!(essential(left), essential(asked), "{shape:?} {flow:?}");
        }

        lab.alice.await_sent();
        assert_eq!(assert_accounted(&lab.switch, "host")["frames_out"], 4);
    }
}

#[test]
fn partial_checksums_of_guests_are_left_to_the_host() {
    let mut lab = Lab::new(SHAPES[0], "", ASKING);
    lab.socket.prepare_for_offloads();

    for flow in PROTOCOLS {
        let sent = flow.partial(&payload(1_000));
        lab.alice.send_asking(flow.net_header(None), &sent);
        assert_eq!(told(&lab.socket, ALICE), (flow.net_header(None), sent));
    }
}

#[test]
fn host_without_offloads_gets_large_frames_cut_and_ready() {
    let mut lab = Lab::new(SHAPES[1], "offloads = false\n", ASKING);
    lab.socket.prepare_for_offloads();

    for flow in PROTOCOLS {
        lab.alice.send_asking(flow.net_header(Some(SIZE)), &flow.partial(&payload(LARGE_BYTES)));
        for piece in flow.pieces(&payload(LARGE_BYTES), SIZE) {
            assert_ready(&piece);
            assert_eq!(told(&lab.socket, ALICE), (NetHeader::default(), piece), "{flow:?}");
        }
    }

    assert_accounted(&lab.switch, "host");
}

#[test]
fn large_frames_of_the_host_reach_everybody_as_they_take_them() {
    ["[0]", "[0, 1]"].into_iter().for_each(send_from_host);
}

/// From the host to a guest that takes large frames, one that does not, and a wire.
fn send_from_host(cores: &str) {
    let host = host();
    host.switch_off(UPLINK, "tso");
    let ports = guests(&["taking", "plain"]);
    let config = format!("[threads]\ncores = {cores}\n{ports}{PORT}{}", interface("up", UPLINK));
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    let mut taking = FrontEnd::plug_in_as(&switch.path("taking.sock"), TAKING);
    let mut plain = FrontEnd::plug_in(&switch.path("plain.sock"));
    let (tap, outside) = (host.socket_on("tap0"), host.socket());
    tap.prepare_for_offloads();
    outside.prepare_for_offloads();
    let stations = [
        ("52:54:00:00:00:0b", "taking"),
        ("52:54:00:00:00:0c", "plain"),
        ("52:54:00:00:00:0d", "up"),
    ];
    for (mac, port) in stations {
        switch.run(&["fdb", "add", mac, "--vlan", "1", "--port", port]);
    }

    for flow in PROTOCOLS {
        let asked = flow.net_header(Some(SIZE));
        let send = |to| tap.send_asking(asked, &Flow { to, ..flow }.partial(&payload(LARGE_BYTES)));
        send(BOB);
        let came = wait_for("the whole frame", || taking.try_receive_told());
        assert!(came.frame == flow.partial(&payload(LARGE_BYTES)), "{flow:?}");
        assert_eq!(essential(came.net_header), essential(asked), "{flow:?}");
        send(CAROL);
        for piece in (Flow { to: CAROL, ..flow }).pieces(&payload(LARGE_BYTES), SIZE) {
            assert_ready(&piece);
            assert!(plain.receive() == piece, "{flow:?}");
        }
        send(DAVE);
        for piece in (Flow { to: DAVE, ..flow }).pieces(&payload(LARGE_BYTES), SIZE) {
            assert_eq!(told(&outside, ALICE), (NetHeader::default(), piece), "{flow:?}");
        }
    }

    let counted = assert_accounted(&switch, "host");
    assert_eq!((&counted["frames_in"], &counted["drops_in"]), (&12.into(), &0.into()), "{counted}");
    assert_all_accounted(&switch, &["taking", "plain", "up"]);
}

#[test]
fn segments_off_a_wire_are_joined_for_the_host_if_it_takes_large_frames() {
    const SEGMENTS: usize = 40;
    let bytes = payload(SEGMENTS * usize::from(SIZE));
    for (keys, most_frames) in [("", 5), ("offloads = false\n", SEGMENTS)] {
        let host = host();
        let up = interface("up", UPLINK);
        let switch = Switch::in_namespace(Some(&host.namespace), &format!("{PORT}{keys}{up}"));
        let (tap, outside) = (host.socket_on("tap0"), host.socket());
        tap.prepare_for_offloads();
        switch.run(&["fdb", "add", "52:54:00:00:00:0b", "--vlan", "1", "--port", "host"]);

        // All at once.
        switch.pause();
        TCP4.pieces(&bytes, SIZE).iter().for_each(|piece| outside.send(piece));
        switch.resume();

        let (mut frames, mut came) = (0, Vec::new());
        while came.len() < bytes.len() {
            let (left, frame) = told(&tap, ALICE);
            let head = TCP4.head_bytes();
            let is_large = frame.len() > head + usize::from(SIZE);
            assert_eq!(left.gso_type == NetHeader::GSO_TCPV4, is_large, "{left:?}");
            assert_eq!(left.gso_size, if is_large { SIZE } else { 0 });
            came.extend_from_slice(&frame[head..]);
            frames += 1;
        }
        assert!(came == bytes);
        assert!(frames <= most_frames, "{frames} frames of {SEGMENTS}");
        assert!(most_frames < SEGMENTS || frames == SEGMENTS, "{frames} frames without offloads");
        assert_accounted(&switch, "host");
    }
}
