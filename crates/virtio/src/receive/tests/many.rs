//! Frames that are delivered one after the other in one call.

use super::*;

/// Frames of these lengths, told apart by their first byte, in as many segments as they say; what the
/// guest is to get of each.
fn frames(lengths: &[(usize, usize)]) -> Vec<(Vec<u8>, usize)> {
    let frame = |(number, &(length, segments)): (usize, &(usize, usize))| {
        let mut bytes = frame_of(length);
        bytes[0] = u8::try_from(number).unwrap();
        (bytes, segments)
    };
    lengths.iter().enumerate().map(frame).collect()
}

/// Delivers as many as go in one call.
fn deliver_many(guest: &mut Guest, frames: &[(Vec<u8>, usize)]) -> usize {
    let parts: Vec<(&[u8], Vec<Segment>)> = frames
        .iter()
        .map(|(bytes, count)| {
            let (head, payload) = bytes.split_at(20);
            let step = payload.len().div_ceil((*count).max(1)).max(1);
            let segment = |part: &[u8]| {
                let length_bytes = u32::try_from(part.len()).unwrap();
                // SAFETY: `frames` outlives the call.
                unsafe { Segment::new(part.as_ptr(), length_bytes) }
            };
            (head, payload.chunks(step).map(segment).collect())
        })
        .collect();
    let outgoing = parts.iter().map(|(head, segments)| Outgoing::new(head, segments));
    guest.queue.deliver_many(outgoing)
}

/// Fills a buffer, by which the queue finds the memory that all others lie in.
fn find_memory(guest: &mut Guest) {
    let at = guest.buffer + 0x7000;
    guest.driver.describe(7, Buffer::writable(at, 200));
    guest.driver.make_available(7);
    guest.deliver(&frame_of(60)).unwrap();
    guest.queue.release();
    assert_eq!(arrived(guest), [(7, 72)]);
}

fn arrived(guest: &mut Guest) -> Vec<(u32, u32)> {
    let used = std::iter::from_fn(|| guest.driver.take_used());
    used.map(|used| (used.head, used.written_bytes)).collect()
}

fn frames_are_delivered_in_their_order_each_into_a_buffer(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    find_memory(&mut guest);
    guest.offer(&[1526, 1526, 1526, 1526]);
    guest.queue.prepare(3, 0);
    let frames = frames(&[(60, 1), (1_514, 1), (20, 0)]);

    assert_eq!(deliver_many(&mut guest, &frames), 3);
    guest.queue.release();

    assert_eq!(arrived(&mut guest), [(0, 72), (1, 1_526), (2, 32)]);
    for (number, (bytes, _)) in (0..).zip(&frames) {
        let expected = [vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], bytes.clone()].concat();
        assert_eq!(guest.buffer_bytes(number, expected.len()), expected);
    }
    assert_eq!(guest.queue.base(), guest.driver.base());
}

fn frame_that_is_not_simple_or_does_not_fit_ends_them(ring: Features) {
    for (lengths, buffers) in [
        // Two segments; a buffer that is too short; no further buffer.
        ([(60, 1), (100, 2)], &[1526, 1526, 1526][..]),
        ([(60, 1), (100, 1)], &[1526, 111, 1526]),
        ([(60, 1), (100, 1)], &[1526]),
    ] {
        let mut guest = guest(ring | MERGEABLE);
        find_memory(&mut guest);
        guest.offer(buffers);
        guest.queue.prepare(2, 0);

        assert_eq!(deliver_many(&mut guest, &frames(&lengths)), 1);
        guest.queue.release();
        assert_eq!(arrived(&mut guest), [(0, 72)]);

        // What did not go in one call goes by itself, if it goes at all.
        let by_itself = guest.deliver(&frame_of(100));
        guest.queue.release();
        match buffers.len() {
            1 => assert_eq!(by_itself, Err(Refusal::NoBuffer)),
            _ => assert_eq!(arrived(&mut guest)[0].0, 1),
        }
    }
}

fn chain_of_several_buffers_among_single_ones_is_filled_in_its_turn(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    find_memory(&mut guest);
    let at = guest.buffer;
    guest.driver.describe(0, Buffer::writable(at, 200));
    let parts = [Buffer::writable(at + 0x1000, 100), Buffer::writable(at + 0x2000, 200)];
    guest.driver.describe_chain(1, &parts);
    guest.driver.describe(3, Buffer::writable(at + 0x3000, 200));
    for head in [0, 1, 3] {
        guest.driver.make_available(head);
    }
    guest.queue.prepare(3, 0);
    let frames = frames(&[(60, 1), (61, 1), (62, 1)]);

    assert_eq!(deliver_many(&mut guest, &frames), 1);
    guest.deliver(&frames[1].0).unwrap();
    assert_eq!(deliver_many(&mut guest, &frames[2..]), 1);
    guest.queue.release();

    assert_eq!(arrived(&mut guest), [(0, 72), (1, 73), (3, 74)]);
    assert_eq!(guest.buffer_bytes(0, 72)[12..], frames[0].0);
    assert_eq!(guest.buffer_bytes(1, 73)[12..], frames[1].0);
    assert_eq!(guest.buffer_bytes(3, 74)[12..], frames[2].0);
}

fn chains_that_are_left_over_come_first(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    find_memory(&mut guest);
    guest.offer(&[200, 200, 200, 200, 200]);
    let frames = frames(&[(60, 1), (61, 1), (62, 1), (63, 1), (64, 1)]);

    guest.queue.prepare(2, 0);
    assert_eq!(deliver_many(&mut guest, &frames[..1]), 1);
    guest.queue.prepare(4, 0);
    assert_eq!(deliver_many(&mut guest, &frames[1..]), 4);
    guest.queue.release();

    assert_eq!(arrived(&mut guest), [(0, 72), (1, 73), (2, 74), (3, 75), (4, 76)]);
    for (number, (bytes, _)) in (0..).zip(&frames) {
        assert_eq!(guest.buffer_bytes(number, 12 + bytes.len())[12..], *bytes);
    }
}

over_both_rings! {
    chains_that_are_left_over_come_first,
    frames_are_delivered_in_their_order_each_into_a_buffer,
    frame_that_is_not_simple_or_does_not_fit_ends_them,
    chain_of_several_buffers_among_single_ones_is_filled_in_its_turn,
}
