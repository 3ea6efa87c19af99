//! Bursts of frames of all kinds, in every order: chains that are single pieces are taken apart from
//! others, which must not show.

use super::*;

/// What a guest makes available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A frame of so many bytes in one buffer.
    Single(usize),
    /// The same with a tag.
    Tagged(usize),
    /// In a buffer for the header, one for the frame.
    Chain(usize),
    /// An offload that was not negotiated: it is dropped.
    Asking,
}

use Kind::{Asking, Chain, Single, Tagged};

/// Different frames, so that one cannot pass for another.
fn bytes_of(number: usize, kind: Kind) -> Vec<u8> {
    let (Single(length) | Tagged(length) | Chain(length)) = kind else { return frame_of(100) };
    let mut bytes = frame_of(length);
    bytes[..6].fill(u8::try_from(number).unwrap());
    bytes
}

/// Sends a frame, by which the queue finds the memory that all others lie in.
fn find_memory(guest: &mut Guest) {
    send(guest, 15, Single(64));
    assert_eq!(guest.receive(), Ok(1));
    guest.queue.complete_burst();
    guest.queue.release();
    assert!(guest.driver.take_used().is_some());
}

/// Makes a frame available. Returns what the switch sees of it, if that is not dropped.
fn send(guest: &mut Guest, number: u16, kind: Kind) -> Option<Vec<u8>> {
    let bytes = bytes_of(number.into(), kind);
    let (offset, head) = (u64::from(number) * 0x4000, 2 * number);
    let mut sent = bytes.clone();
    if let Tagged(_) = kind {
        sent.splice(12..12, [0x81, 0, 0, 7]);
    }
    let at = guest.put_frame(offset, &sent);
    let length = u32::try_from(sent.len()).unwrap();
    let header_length = u32::try_from(NET_HEADER_BYTES).unwrap();
    let whole = header_length + length;
    match kind {
        Single(_) | Tagged(_) => guest.driver.describe(head, Buffer::readable(at, whole)),
        Chain(_) => {
            let behind = at + NET_HEADER_BYTES as u64;
            let header = Buffer::readable(at, header_length);
            guest.driver.describe_chain(head, &[header, Buffer::readable(behind, length)]);
        }
        Asking => {
            guest.memory.write(at, &[1]);
            guest.driver.describe(head, Buffer::readable(at, whole));
        }
    }
    guest.driver.make_available(head);
    (kind != Asking).then_some(bytes)
}

fn frames_of_all_kinds_arrive_in_their_order(ring: Features) {
    let kinds = [Single(64), Tagged(64), Single(1_514), Chain(700), Asking, Single(40), Tagged(90)];
    for order in 0..kinds.len() * kinds.len() {
        let mut guest = guest(ring, 32);
        find_memory(&mut guest);
        // Every kind is first once, and every kind follows every other.
        let turned = (0..kinds.len())
            .map(|at| kinds[(order % kinds.len() + at * (1 + order / kinds.len())) % kinds.len()]);
        let expected: Vec<Vec<u8>> =
            (0..).zip(turned).filter_map(|(number, kind)| send(&mut guest, number, kind)).collect();

        assert_eq!(guest.receive(), Ok(expected.len()));

        let frames = guest.burst.frames.to_vec();
        let found: Vec<Vec<u8>> = frames.iter().map(|frame| guest.bytes_of(frame)).collect();
        assert_eq!(found, expected, "order {order}");
        let dropped = u32::try_from(kinds.len() - expected.len()).unwrap();
        assert_eq!(guest.burst.dropped.of(DropReason::OffloadNotNegotiated), dropped);
        guest.queue.complete_burst();
        assert!(guest.queue.release());
        let heads: Vec<u32> =
            std::iter::from_fn(|| guest.driver.take_used()).map(|used| used.head).collect();
        assert_eq!(heads, [0, 2, 4, 6, 8, 10, 12], "order {order}");
    }
}

fn burst_that_goes_back_takes_none_along_that_is_still_out(ring: Features) {
    let mut guest = guest(ring, 32);
    find_memory(&mut guest);
    send(&mut guest, 0, Single(64));
    guest.receive().unwrap();
    let lent = guest.burst.frames[0].token;
    send(&mut guest, 1, Single(64));
    guest.receive().unwrap();

    guest.queue.complete_burst();
    guest.queue.release();
    assert_eq!(guest.driver.take_used(), None);
    assert_eq!(guest.queue.outstanding(), 2);
    // Nothing was taken since.
    assert_eq!(guest.receive(), Ok(0));
    guest.queue.complete_burst();
    guest.queue.release();
    assert_eq!(guest.queue.outstanding(), 2);

    guest.queue.complete(lent);
    guest.queue.release();
    assert_eq!(guest.queue.outstanding(), 0);
}

over_both_rings! {
    frames_of_all_kinds_arrive_in_their_order,
    burst_that_goes_back_takes_none_along_that_is_still_out,
}
