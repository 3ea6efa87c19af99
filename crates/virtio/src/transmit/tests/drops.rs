//! Frames that no one can take: dropped with a reason, and the queue goes on.

use super::*;

/// Sends one chain that is to be dropped; asserts the counter, and that the buffer goes back.
fn assert_dropped(guest: &mut Guest, reason: DropReason, bytes: u64) {
    assert_eq!(guest.receive(), Ok(0));
    assert_eq!(guest.burst.dropped.of(reason), 1, "{reason:?}");
    assert_eq!(guest.burst.dropped_bytes, bytes);
    assert!(guest.queue.release());
    assert_eq!(guest.driver.used_index(), 1);
    assert_eq!(guest.queue.outstanding(), 0);
}

fn chain_shorter_than_its_net_header_is_dropped(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 11));
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::NetHeaderIncomplete, 0);
}

fn chain_of_nothing_is_dropped(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.driver.describe(0, Buffer::readable(0, 0));
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::NetHeaderIncomplete, 0);
}

/// What a frame has found out about memory must not make the next chain one.
fn single_buffer_that_is_no_frame_is_dropped_behind_one_that_is(ring: Features) {
    for is_writable in [false, true] {
        let mut guest = guest(ring, 4);
        guest.send(0, &frame_of(60));
        assert_eq!(guest.receive(), Ok(1));
        let at = guest.put_frame(0, &frame_of(60));
        let buffer = if is_writable { Buffer::writable(at, 72) } else { Buffer::readable(at, 0) };
        guest.driver.describe(1, buffer);
        guest.driver.make_available(1);

        assert_eq!(guest.receive(), Ok(0));

        assert_eq!(guest.burst.dropped.of(DropReason::NetHeaderIncomplete), 1);
    }
}

fn runt_is_dropped(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.send(0, &frame_of(13));

    assert_dropped(&mut guest, DropReason::Runt, 13);
}

fn frame_that_is_too_long_is_dropped(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.send(0, &frame_of(MAX_FRAME_BYTES + 1));

    assert_dropped(&mut guest, DropReason::Oversized, 9_217);
}

fn tag_does_not_count_towards_the_longest_frame(ring: Features) {
    let mut guest = guest(ring, 4);
    let mut bytes = frame_of(MAX_FRAME_BYTES + 4);
    bytes[12..14].copy_from_slice(&[0x81, 0x00]);
    guest.send(0, &bytes);

    let count = guest.receive();

    assert_eq!(count, Ok(1));
    assert_eq!(guest.burst.frames[0].length_bytes, 9_216);
}

fn huge_chain_over_the_same_buffer_is_dropped(ring: Features) {
    let mut guest = guest(ring, 1_024);
    let buffers = vec![Buffer::readable(guest.buffer, 0x1_0000); 1_024];
    guest.driver.describe_chain(0, &buffers);
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::Oversized, 1_024 * 0x1_0000 - 12);
}

fn frame_that_asks_for_an_offload_is_dropped(ring: Features) {
    for header in [[1, 0], [0, 1], [0, 0x80], [1, 4]] {
        let mut guest = guest(ring, 4);
        guest.send(0, &frame_of(60));
        guest.memory.write(guest.buffer, &header);

        assert_dropped(&mut guest, DropReason::OffloadNotNegotiated, 60);
    }
}

fn buffers_behind_the_first_mebibyte_are_not_looked_up(ring: Features) {
    let mut guest = guest_of(TestMemory::new(0x40_0000), 4, MODERN | ring);
    let nowhere = Buffer::readable(u64::MAX - 0xfff, 0x1000);
    let large = Buffer::readable(guest.buffer, 0x20_0000);
    guest.driver.describe_chain(0, &[large, nowhere]);
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::Oversized, 0x20_1000 - 12);
}

over_both_rings! {
    chain_shorter_than_its_net_header_is_dropped,
    chain_of_nothing_is_dropped,
    single_buffer_that_is_no_frame_is_dropped_behind_one_that_is,
    runt_is_dropped,
    frame_that_is_too_long_is_dropped,
    tag_does_not_count_towards_the_longest_frame,
    huge_chain_over_the_same_buffer_is_dropped,
    frame_that_asks_for_an_offload_is_dropped,
    buffers_behind_the_first_mebibyte_are_not_looked_up,
}
