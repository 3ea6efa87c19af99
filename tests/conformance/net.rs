//! The net header and frames of all lengths (VIRTIO 1.2, 5.1.6).

use virtio::Features;
use virtio::offload::NetHeader;

use crate::back_end::BackEnd;
use crate::guest::{PLAIN, Plan};
use crate::support::{ALICE, BOB, frame, wait_for};

const MERGING: Plan = PLAIN.with(Features::NET_MRG_RXBUF);
const LEGACY: Plan = Plan { features: Features::NONE, ..PLAIN };

/// Longest frame without a VLAN tag at the standard's MTU.
const ORDINARY_PAYLOAD: usize = 1_500;

fn of_length(payload: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..payload).map(|at| u8::try_from(at % 251).unwrap()).collect();
    frame(BOB, ALICE, &payload)
}

/// Sends frames with payload of these lengths and compares every byte.
fn exchange(plan: Plan, lengths: impl IntoIterator<Item = usize>) {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(plan) else { return };

    for length in lengths {
        alice.send(&of_length(length));
        assert!(bob.receive().frame == of_length(length), "{length} bytes of payload");
    }
}

/// The header has twelve bytes with VERSION_1, whatever else was negotiated.
#[test]
fn virtio_5_1_6_header_of_a_modern_driver_has_12_bytes() {
    exchange(PLAIN, [46, 500]);
}

/// A legacy driver's header has ten.
#[test]
fn virtio_5_1_6_1_header_of_a_legacy_driver_has_10_bytes() {
    exchange(LEGACY, [46, 500]);
}

/// With mergeable buffers its header has twelve, too.
#[test]
fn virtio_5_1_6_1_header_of_a_legacy_driver_that_merges_has_12_bytes() {
    exchange(LEGACY.with(Features::NET_MRG_RXBUF), [46, 500]);
}

/// A frame is sent as it is: nothing is padded, cut or added.
#[test]
fn virtio_5_1_6_2_frames_of_all_lengths_pass_unchanged() {
    exchange(PLAIN, (0..=ORDINARY_PAYLOAD).step_by(7).chain([46, ORDINARY_PAYLOAD]));
}

/// What is no frame at all comes back and does no harm: nothing behind the header, or too little.
#[test]
fn virtio_5_1_6_2_buffer_without_a_frame_is_given_back() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    for length in [0, 1, 13] {
        alice.send(&of_length(46)[..length]);
    }
    alice.await_sent();
    alice.send(&of_length(100));

    // What has come of the others is the back end's affair.
    wait_for("the frame", || bob.try_receive().filter(|came| came.frame == of_length(100)));
}

/// A device does not rely on hdr_len, nor use csum_start and csum_offset without NEEDS_CSUM.
#[test]
fn virtio_5_1_6_2_2_fields_without_their_flags_are_not_used() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let rubbish = NetHeader {
        hdr_len: 0xffff,
        gso_size: 0xffff,
        csum_start: 14,
        csum_offset: 6,
        ..NetHeader::default()
    };

    alice.send_asking(rubbish, &of_length(100));

    assert_eq!(bob.receive().frame, of_length(100));
}

/// A device ignores flags that it does not know.
#[test]
fn virtio_5_1_6_2_2_unknown_flags_are_ignored() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.send_asking(NetHeader { flags: 0xf8, ..NetHeader::default() }, &of_length(100));

    assert_eq!(bob.receive().frame, of_length(100));
}

/// Without GUEST_CSUM a received frame's flags are zero; without large frames its gso_type is NONE.
#[test]
fn virtio_5_1_6_4_1_net_header_of_received_frame_is_zero_without_offloads() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.send(&of_length(100));
    let header = bob.receive().net_header;

    assert_eq!((header.flags, header.gso_type), (0, NetHeader::GSO_NONE));
}

/// Without mergeable buffers num_buffers is 1.
#[test]
fn virtio_5_1_6_4_1_num_buffers_is_1_without_mergeable_buffers() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.send(&of_length(100));

    assert_eq!(bob.receive().num_buffers, 1);
}

/// A frame that one buffer has room for takes one, with mergeable buffers as well.
#[test]
fn virtio_5_1_6_4_1_frame_that_fits_takes_one_mergeable_buffer() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(MERGING) else { return };

    alice.send(&of_length(100));
    let received = bob.receive();

    assert_eq!((received.num_buffers, received.written.len()), (1, 1));
}

/// A longer one takes several, as many as num_buffers says, and only the last is not filled.
#[test]
fn virtio_5_1_6_4_1_frame_that_does_not_fit_fills_merged_buffers_in_turn() {
    let back_end = BackEnd::start();
    let small = Plan { buffer_bytes: 256, ..MERGING };
    let Some((mut alice, mut bob)) = back_end.pair(small) else { return };

    alice.send(&of_length(990));
    let received = bob.receive();

    assert_eq!(received.frame, of_length(990));
    assert_eq!(received.num_buffers, 4);
    assert_eq!(received.written, [256, 256, 256, 12 + 14 + 990 - 3 * 256]);
}

/// The same in a packed ring.
#[test]
fn virtio_2_8_9_merged_buffers_of_a_packed_ring_come_together() {
    let small = Plan { buffer_bytes: 256, ..MERGING.with(Features::RING_PACKED) };
    exchange(small, (0..=ORDINARY_PAYLOAD).step_by(37));
}

/// Receive buffers of the least size that a driver without mergeable buffers posts, 1526 bytes, hold
/// every frame at the standard's MTU.
#[test]
fn virtio_5_1_6_3_1_buffers_of_1526_bytes_hold_every_ordinary_frame() {
    exchange(Plan { buffer_bytes: 1_526, ..PLAIN }, [46, ORDINARY_PAYLOAD - 1, ORDINARY_PAYLOAD]);
}
