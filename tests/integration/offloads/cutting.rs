//! Interfaces that cut large TCP frames themselves get them whole, as long as nobody behind them
//! would mind, and in the order in which all frames were sent.

use virtio::offload::NetHeader;

use crate::support::flow::{ACK, Flow, TCP4, assert_ready};
use crate::support::front_end::FrontEnd;
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests, interface};
use crate::support::wire::{OUTSIDE, UPLINK, Wire};
use crate::support::{BROADCAST, wait_for};

use super::abilities::{ASKS, Sent, assert_same, merging};
use super::assert_accounted;

/// To whoever is behind the uplink.
const FLOW: Flow = Flow { to: BROADCAST, flags: ACK, ..TCP4 };

/// A large frame of so many bytes.
fn large(flow: Flow, length: usize, size: u16) -> Sent {
    let payload = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
    Sent { flow, payload, is_partial: true, size: Some(size) }
}

/// A guest that leaves cutting to the switch, and the uplink.
fn config() -> String {
    guests(&["vm"]) + &interface("up", UPLINK)
}

/// A switch with this setting of the uplink's port, and the host behind it.
fn start(wire: &Wire, setting: &str) -> (Switch, PacketSocket) {
    let switch = Switch::in_namespace(Some(&wire.namespace), &(config() + setting));
    let socket = wire.socket();
    socket.prepare_for_offloads();
    (switch, socket)
}

fn plug_in(switch: &Switch) -> FrontEnd {
    FrontEnd::plug_in_as(&switch.path("vm.sock"), merging(ASKS))
}

/// The next frame behind the uplink.
fn told(socket: &PacketSocket) -> (NetHeader, Vec<u8>) {
    wait_for("a frame behind the uplink", || socket.try_receive_told())
}

/// Sends large and small frames alternately in one burst, and awaits the large ones whole or in
/// pieces, all in order.
fn assert_in_order(switch: &Switch, guest: &mut FrontEnd, socket: &PacketSocket, is_whole: bool) {
    let small = Flow { is_udp: true, ..FLOW };
    let sent = [4_000, 30_000, 65_000].map(|length| large(FLOW, length, 1_400));

    switch.pause();
    for (number, sent) in (0..).zip(&sent) {
        guest.send(&small.ready(&[number; 100]));
        let (net_header, frame) = sent.packet();
        guest.send_asking(net_header, &frame);
    }
    switch.resume();

    for (number, sent) in (0..).zip(&sent) {
        assert_same(&told(socket).1, &small.ready(&[number; 100]), "small");
        let wanted = if is_whole { vec![sent.packet().1] } else { sent.ready() };
        for wanted in wanted {
            let (net_header, frame) = told(socket);
            assert_same(&frame, &wanted, "large");
            assert_eq!(net_header.gso_size, if is_whole { 1_400 } else { 0 });
        }
    }
}

#[test]
fn large_frames_leave_whole_and_in_order_also_after_a_take_over() {
    let wire = Wire::new();
    let (mut switch, socket) = start(&wire, "");
    let mut guest = plug_in(&switch);
    assert_in_order(&switch, &mut guest, &socket, true);

    let successor = switch.start_successor(&[]);
    switch.succeed(successor);
    guest.come_back(&switch.path("vm.sock"));

    assert_in_order(&switch, &mut guest, &socket, true);
    assert_accounted(&switch, "up");
}

#[test]
fn large_frames_are_cut_here_for_interfaces_that_do_not() {
    let wire = Wire::new();
    wire.switch_off(UPLINK, "tso");
    let (switch, socket) = start(&wire, "");
    assert_in_order(&switch, &mut plug_in(&switch), &socket, false);
}

#[test]
fn large_frames_are_cut_here_when_the_interface_stops_doing_it() {
    let wire = Wire::new();
    let (switch, socket) = start(&wire, "");
    let mut guest = plug_in(&switch);
    assert_in_order(&switch, &mut guest, &socket, true);

    wire.switch_off(UPLINK, "tso");

    assert_in_order(&switch, &mut guest, &socket, false);
    assert_eq!(assert_accounted(&switch, "up")["drops_out"], 0);
}

#[test]
fn large_frames_are_cut_here_for_a_port_without_offloads() {
    let wire = Wire::new();
    let (switch, socket) = start(&wire, "offloads = false\n");
    assert_in_order(&switch, &mut plug_in(&switch), &socket, false);
}

#[test]
fn another_switch_behind_the_interface_gets_ready_frames() {
    let wire = Wire::new();
    let first = Switch::in_namespace(Some(&wire.namespace), &config());
    let mut sender = plug_in(&first);
    // It attaches a program to the other end after the first one has looked.
    let beyond = guests(&["vm"]) + &interface("up", OUTSIDE);
    let second = Switch::in_namespace(Some(&wire.namespace), &beyond);
    let mut receiver = FrontEnd::plug_in(&second.path("vm.sock"));

    for sent in [large(FLOW, 20_000, 1_000), large(Flow { is_v6: true, ..FLOW }, 50_000, 1_400)] {
        let (net_header, frame) = sent.packet();
        sender.send_asking(net_header, &frame);
        for wanted in sent.ready() {
            let came = receiver.receive();
            assert_same(&came, &wanted, "beyond");
            assert_ready(&came);
        }
    }
    assert_eq!(assert_accounted(&first, "up")["drops_out"], 0);
}

#[test]
fn pieces_longer_than_the_mtu_are_dropped_whoever_would_cut_them() {
    drop_too_long("", 1_500);
    drop_too_long("mtu = 1400\n", 1_400);
}

/// Sends frames to a port with this setting whose pieces are just too long, and just short enough.
fn drop_too_long(setting: &str, mtu: usize) {
    let wire = Wire::new();
    let (switch, socket) = start(&wire, setting);
    let mut guest = plug_in(&switch);
    // Options that are behind the bytes which the switch has looked at when the frame came in.
    let flow = Flow { is_v6: true, options: 10, ..FLOW };
    let most = u16::try_from(14 + mtu - flow.head_bytes()).unwrap();

    for size in [most + 1, most] {
        let (net_header, frame) = large(flow, 7 * usize::from(size), size).packet();
        guest.send_asking(net_header, &frame);
    }

    let (net_header, _) = told(&socket);
    assert_eq!(net_header.gso_size, most);
    assert!(switch.drops("up", "egress_oversized") > 0);
    assert_accounted(&switch, "up");
}
