//! Checksums and segmentation that one side leaves to the other (VIRTIO 1.2, 5.1.6.2 and 5.1.6.4).

use virtio::Features;
use virtio::offload::NetHeader;

use crate::back_end::BackEnd;
use crate::guest::{Guest, PLAIN, Plan, Received};
use crate::support::flow::{Flow, PROTOCOLS, TCP4, assert_ready};

const CSUM: Plan = PLAIN.with(Features::NET_CSUM);
const GUEST_CSUM: Plan = PLAIN.with(Features::NET_GUEST_CSUM);
const HOST_TSO: Plan = CSUM.with(Features::NET_HOST_TSO4);
const GUEST_TSO: Plan = GUEST_CSUM.with(Features::NET_GUEST_TSO4).with(Features::NET_MRG_RXBUF);

/// Payload of a large frame, and of the pieces that it is to be cut into.
const LARGE_BYTES: usize = 8_000;
const PIECE_BYTES: u16 = 1_000;

fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

/// Frames until so much payload has come.
fn receive_large(bob: &mut Guest) -> Vec<Received> {
    let (mut frames, mut came) = (vec![], 0);
    while came < LARGE_BYTES {
        let received = bob.receive();
        came += received.frame.len() - TCP4.head_bytes();
        frames.push(received);
    }
    frames
}

fn assert_whole_payload(frames: &[Received]) {
    let parts = frames.iter().map(|received| &received.frame[TCP4.head_bytes()..]);
    assert!(parts.collect::<Vec<_>>().concat() == payload(LARGE_BYTES), "payload, in order");
}

/// With CSUM a driver leaves checksums to the device: one that does not take them so gets them
/// complete, and its header says nothing.
#[test]
fn virtio_5_1_6_2_2_partial_checksum_is_completed() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair_of(CSUM, PLAIN) else { return };

    for flow in PROTOCOLS {
        alice.send_asking(flow.net_header(None), &flow.partial(&payload(333)));
        let received = bob.receive();
        assert_eq!(received.net_header.flags, 0, "{flow:?}");
        assert!(received.frame == flow.ready(&payload(333)), "{flow:?}");
    }
}

/// With GUEST_CSUM a device may pass it on as it is, and then says where it is to be completed.
#[test]
fn virtio_5_1_6_4_1_partial_checksum_is_told_or_completed() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair_of(CSUM, GUEST_CSUM) else { return };

    alice.send_asking(TCP4.net_header(None), &TCP4.partial(&payload(333)));

    assert_told_or_complete(&TCP4, &bob.receive());
}

fn assert_told_or_complete(flow: &Flow, received: &Received) {
    let told = received.net_header;
    if told.flags & NetHeader::NEEDS_CSUM != 0 {
        let wanted = flow.net_header(None);
        assert_eq!(told.csum_start, wanted.csum_start);
        assert_eq!(told.csum_offset, wanted.csum_offset);
        assert!(received.frame == flow.partial(&payload(333)));
    } else {
        assert!(received.frame == flow.ready(&payload(333)));
    }
}

/// With HOST_TSO4 a device cuts large frames: a driver that does not take them gets pieces of at most
/// gso_size, each a frame by itself, and gso_type NONE.
#[test]
fn virtio_5_1_6_2_2_large_frame_is_cut_for_a_driver_that_takes_none() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair_of(HOST_TSO, PLAIN) else { return };

    alice.send_asking(TCP4.net_header(Some(PIECE_BYTES)), &TCP4.partial(&payload(LARGE_BYTES)));
    let frames = receive_large(&mut bob);

    for received in &frames {
        assert_eq!(received.net_header.gso_type, NetHeader::GSO_NONE);
        assert!(received.frame.len() <= TCP4.head_bytes() + usize::from(PIECE_BYTES));
        assert_ready(&received.frame);
    }
    assert_whole_payload(&frames);
}

/// With GUEST_TSO4 a device may pass it on whole, and then says what the pieces' size is.
#[test]
fn virtio_5_1_6_4_1_large_frame_is_told_or_cut() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair_of(HOST_TSO, GUEST_TSO) else { return };

    alice.send_asking(TCP4.net_header(Some(PIECE_BYTES)), &TCP4.partial(&payload(LARGE_BYTES)));
    let frames = receive_large(&mut bob);

    for received in &frames {
        let told = received.net_header;
        let is_whole = told.gso_type == NetHeader::GSO_TCPV4 && told.gso_size == PIECE_BYTES;
        assert!(is_whole || told.gso_type == NetHeader::GSO_NONE, "{told:?}");
        assert!(is_whole || received.frame.len() <= TCP4.head_bytes() + usize::from(PIECE_BYTES));
    }
    assert_whole_payload(&frames);
}
