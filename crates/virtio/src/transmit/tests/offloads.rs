//! Frames that a driver leaves something to be done to.

use frame::{Checksum, MAX_LARGE_FRAME_BYTES, Offload};

use super::*;
use crate::offload::NetHeader;
use crate::offload::tests::{Flow, GUEST, TCP4, payload};

fn offloading(ring: Features, entries: u32) -> Guest {
    guest_of(TestMemory::new(0x40_0000), entries, MODERN | ring | GUEST.features)
}

/// Makes a frame of this flow available, with what the driver says of it.
fn send(guest: &mut Guest, head: u16, flow: &Flow, length: usize, size: Option<u16>) {
    let bytes = flow.partial(&payload(length));
    guest.send(head, &bytes);
    let at = guest.buffer + u64::from(head) * 0x4000;
    guest.memory.write(at, &flow.net_header(size).to_bytes(0));
}

fn large_frame_is_taken_with_what_is_left_to_do(ring: Features) {
    let mut guest = offloading(ring, 4);
    send(&mut guest, 0, &TCP4, 65_000, Some(1_448));

    assert_eq!(guest.receive(), Ok(1));

    let frame = &guest.burst.frames[0];
    let cut = frame.offload.segmentation.unwrap();
    assert_eq!((cut.size.get(), cut.kind.is_tcp(), cut.has_cwr), (1_448, true, false));
    assert_eq!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    assert_eq!(frame.length_bytes, 66 + 65_000);
}

fn plain_frame_has_nothing_left_to_do(ring: Features) {
    let mut guest = offloading(ring, 4);
    guest.send(0, &frame_of(60));

    assert_eq!(guest.receive(), Ok(1));

    assert_eq!(guest.burst.frames[0].offload, Offload::NONE);
}

fn only_a_frame_that_will_be_cut_may_be_longer_than_a_wire_takes(ring: Features) {
    for (length, size, taken) in
        [(9_200, None, 0), (9_200, Some(9_199), 1), (9_200, Some(9_200), 0), (9_100, None, 1)]
    {
        let mut guest = offloading(ring, 4);
        send(&mut guest, 0, &TCP4, length, size);

        assert_eq!(guest.receive(), Ok(taken), "{length} bytes to be cut into {size:?}");
        let dropped = u32::from(taken == 0);
        assert_eq!(guest.burst.dropped.of(DropReason::Oversized), dropped);
    }
}

fn nothing_is_longer_than_ip_can_say(ring: Features) {
    let mut guest = offloading(ring, 4);
    guest.send(0, &frame_of(MAX_LARGE_FRAME_BYTES + 5));
    let net_header = NetHeader { flags: 1, gso_type: 1, gso_size: 1_448, ..NetHeader::default() };
    guest.memory.write(guest.buffer, &net_header.to_bytes(0));

    assert_eq!(guest.receive(), Ok(0));

    assert_eq!(guest.burst.dropped.of(DropReason::Oversized), 1);
}

fn burst_of_large_frames_ends_after_as_many_bytes_as_one_of_jumbo_frames(ring: Features) {
    let mut guest = offloading(ring, 32);
    let bytes = TCP4.partial(&payload(65_000));
    let at = guest.put_frame(0, &bytes);
    guest.memory.write(at, &TCP4.net_header(Some(1_448)).to_bytes(0));
    let length = u32::try_from(NET_HEADER_BYTES + bytes.len()).unwrap();
    for head in 0..32 {
        guest.driver.describe(head, Buffer::readable(at, length));
        guest.driver.make_available(head);
    }

    assert_eq!(guest.receive(), Ok(10));
    assert_eq!(guest.receive(), Ok(10));
}

fn burst_ends_after_as_many_pieces_as_keep_nobody_waiting(ring: Features) {
    let mut guest = offloading(ring, 32);
    for head in 0..6 {
        send(&mut guest, head, &TCP4, 1_300, Some(1));
    }

    // The first burst finds where the guest's buffers lie; those behind are taken as single pieces.
    for (tokens, outstanding) in [([0, 1], 2), ([2, 3], 4), ([4, 5], 6)] {
        assert_eq!(guest.receive(), Ok(2));

        assert_eq!(guest.burst.frames.iter().map(|frame| frame.token).collect::<Vec<_>>(), tokens);
        assert_eq!(guest.queue.outstanding(), outstanding);
    }
}

over_both_rings! {
    large_frame_is_taken_with_what_is_left_to_do,
    plain_frame_has_nothing_left_to_do,
    only_a_frame_that_will_be_cut_may_be_longer_than_a_wire_takes,
    nothing_is_longer_than_ip_can_say,
    burst_of_large_frames_ends_after_as_many_bytes_as_one_of_jumbo_frames,
    burst_ends_after_as_many_pieces_as_keep_nobody_waiting,
}
