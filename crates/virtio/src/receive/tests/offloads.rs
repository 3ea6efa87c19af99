//! Frames that are not ready, or became ready on the way: what a driver finds in its buffers.

use frame::{Completing, Joined, Outgoing, Place, Sum, Zero};
use proptest::prelude::*;

use super::*;
use crate::offload::NetHeader;

/// Offers buffers one behind the other, so that what was written can be read at once.
fn offer_in_a_row(guest: &mut Guest, lengths: &[u32]) {
    let mut at = guest.buffer;
    for (head, &length) in (0..).zip(lengths) {
        guest.driver.describe(head, Buffer::writable(at, length));
        guest.driver.make_available(head);
        at += u64::from(length);
    }
}

fn net_header_is_passed_on_with_the_number_of_buffers(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    guest.offer(&[40, 100]);
    let net_header = NetHeader {
        flags: 1,
        gso_type: 4,
        hdr_len: 54,
        gso_size: 5,
        csum_start: 6,
        csum_offset: 7,
    };

    let outcome = guest.queue.deliver_with(net_header, &Outgoing::new(&frame_of(60), &[]));

    assert_eq!(outcome, Ok(()));
    assert_eq!(guest.buffer_bytes(0, 12), [1, 4, 54, 0, 5, 0, 6, 0, 7, 0, 2, 0]);
}

fn joined_frames_arrive_as_one(ring: Features) {
    let mut guest = guest(ring | MODERN);
    guest.offer(&[1526]);
    let (first, second) = (frame_of(30), frame_of(20));
    let payloads = [&first, &second].map(|bytes| Outgoing::new(bytes, &[]).reader());
    let frame = Joined::new(&[1, 2, 3], payloads.into_iter());

    let outcome = guest.queue.deliver_joined(NetHeader::default(), 53, frame);
    let _ = guest.queue.release();

    assert_eq!(outcome, Ok(()));
    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 65 }));
    assert_eq!(guest.buffer_bytes(0, 65)[12..], [vec![1, 2, 3], first, second].concat());
}

proptest! {
    /// The driver's features hold for the header in the first chain, which is not split.
    #[test]
    fn checksum_is_completed_wherever_buffers_end(
        pieces in proptest::collection::vec(1u32..60, 8),
        payload_bytes in 0usize..200,
        ring in prop_oneof![Just(Features::NONE), Just(Features::RING_PACKED)],
    ) {
        let mut guest = guest(ring | MERGEABLE);
        let lengths: Vec<u32> = [vec![12 + pieces[0]], pieces[1..].to_vec()].concat();
        offer_in_a_row(&mut guest, &lengths);
        let payload = frame_of(payload_bytes);
        let mut head = frame_of(40);
        head[16..18].fill(0);
        let whole = [&head[..], &payload].concat();
        let reader = Outgoing::new(&payload, &[]).reader();
        let place = Place { start: 14, field: 16 };
        let frame = Completing::new(&mut head, reader, payload_bytes, place, Zero::Kept).unwrap();
        let fits = lengths.iter().sum::<u32>() as usize >= 12 + whole.len();

        let outcome = guest.queue.deliver_completing(frame);
        let _ = guest.queue.release();

        prop_assert_eq!(outcome.is_ok(), fits);
        let used: Vec<Used> = std::iter::from_fn(|| guest.driver.take_used()).collect();
        let written_bytes: u32 = used.iter().map(|used| used.written_bytes).sum();
        if fits {
            let arrived = guest.memory.read(guest.buffer, 12 + whole.len());
            let mut sum = Sum::ZERO;
            sum.add(&arrived[12 + 14..]);
            prop_assert_eq!(written_bytes as usize, arrived.len());
            prop_assert_eq!(usize::from(arrived[10]), used.len());
            prop_assert_eq!(sum.checksum(), 0);
            prop_assert_eq!(&arrived[12..28], &whole[..16]);
            prop_assert_eq!(&arrived[30..], &whole[18..]);
        } else {
            prop_assert_eq!(written_bytes, 0);
        }
    }
}

over_both_rings! {
    net_header_is_passed_on_with_the_number_of_buffers,
    joined_frames_arrive_as_one,
}
