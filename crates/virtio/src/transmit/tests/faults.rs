//! Guests that break the rules of the ring: a fault, which stops the queue.

use super::*;

#[test]
fn head_made_available_again_while_out_is_taken_no_more_often_than_the_ring_is_long() {
    let mut guest = guest(SPLIT, 4);
    guest.send(0, &frame_of(60));
    guest.driver.make_all_available(&[0, 0, 0]);

    let count = guest.receive().unwrap();
    guest.driver.make_available(0);

    assert_eq!(count, 4);
    assert_eq!(guest.receive(), Err(QueueFault::TooManyAvailable { ahead: 5, size: size(4) }));
    assert_eq!(guest.queue.outstanding(), 4);
}

#[test]
fn available_index_that_jumps_or_goes_back_is_a_fault() {
    let mut guest = guest(SPLIT, 4);
    guest.send(0, &frame_of(60));
    guest.receive().unwrap();

    guest.driver.set_available_index(0);
    let back = guest.receive();
    guest.driver.set_available_index(6);
    let ahead = guest.receive();

    assert_eq!(back, Err(QueueFault::TooManyAvailable { ahead: 0, size: size(4) }));
    assert_eq!(ahead, Err(QueueFault::TooManyAvailable { ahead: 6, size: size(4) }));
}

/// Makes the chain at head 0 available and returns the fault that it is.
fn fault_of(guest: &mut Guest) -> QueueFault {
    guest.driver.make_available(0);
    guest.receive().unwrap_err()
}

#[test]
fn chain_that_loops_is_a_fault_and_not_a_hang() {
    let mut guest = guest(SPLIT, 4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 60).then(1));
    guest.driver.describe(1, Buffer::readable(guest.buffer, 60).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::ChainTooLong { head: 0, limit: 4 });
}

#[test]
fn loop_on_the_longest_queue_ends_at_the_limit() {
    let mut guest = guest(SPLIT, 32_768);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 0).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::ChainTooLong { head: 0, limit: 1_024 });
}

#[test]
fn head_outside_the_table_is_a_fault() {
    let mut guest = guest(SPLIT, 4);
    guest.driver.make_available(4);

    let fault = guest.receive().unwrap_err();

    assert_eq!(fault, QueueFault::IndexOutOfRange { index: 4, entries: 4 });
}

#[test]
fn next_outside_the_table_is_a_fault() {
    let mut guest = guest(SPLIT, 4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 60).then(4));

    assert_eq!(fault_of(&mut guest), QueueFault::IndexOutOfRange { index: 4, entries: 4 });
}

fn buffer_that_leaves_memory_at_any_edge_is_a_fault(ring: Features) {
    let end = TestMemory::GUEST_BASE + 0x10_0000;
    let start = TestMemory::GUEST_BASE;
    for (address, length_bytes) in
        [(start - 1, 60), (end - 59, 60), (end, 1), (0, 1), (u64::MAX - 1, 60), (end - 1, u32::MAX)]
    {
        let mut guest = guest(ring, 4);
        guest.driver.describe(0, Buffer::readable(address, length_bytes));

        let fault = fault_of(&mut guest);

        let address = GuestAddress(address);
        assert_eq!(fault, QueueFault::OutsideMemory { address, length_bytes });
    }
}

fn empty_buffer_is_skipped_wherever_it_points(ring: Features) {
    let mut guest = guest(ring, 4);
    let at = guest.put_frame(0, &frame_of(60));
    let nowhere = Buffer::readable(u64::MAX, 0);
    guest.driver.describe_chain(0, &[nowhere, Buffer::readable(at, 72), nowhere]);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60));
}

fn readable_descriptor_after_a_writable_one_is_a_fault(ring: Features) {
    let mut guest = guest(ring, 4);
    let at = guest.buffer;
    guest.driver.describe_chain(0, &[Buffer::writable(at, 60), Buffer::readable(at, 60)]);

    assert_eq!(fault_of(&mut guest), QueueFault::ReadableAfterWritable { index: 1 });
}

fn writable_descriptors_behind_a_frame_are_left_alone(ring: Features) {
    let mut guest = guest(ring, 4);
    let at = guest.put_frame(0, &frame_of(60));
    guest.driver.describe_chain(0, &[Buffer::readable(at, 72), Buffer::writable(at, 500)]);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60));
}

fn indirect_descriptor_with_next_is_a_fault(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.driver.describe(0, Buffer::indirect(guest.buffer, 1).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::IndirectWithNext { index: 0 });
}

fn indirect_table_inside_an_indirect_table_is_a_fault(ring: Features) {
    let mut guest = guest(ring, 4);
    let table = guest.buffer;
    guest.driver.describe_indirect(0, table, &[Buffer::indirect(table, 1)]);

    assert_eq!(fault_of(&mut guest), QueueFault::NestedIndirect { index: 0 });
}

fn indirect_table_without_negotiation_is_a_fault(ring: Features) {
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, Features::VERSION_1 | ring);
    guest.driver.describe(0, Buffer::indirect(guest.buffer, 1));

    assert_eq!(fault_of(&mut guest), QueueFault::IndirectNotNegotiated { index: 0 });
}

fn indirect_table_of_odd_length_is_a_fault(ring: Features) {
    for length_bytes in [0, 15, 17, u32::MAX] {
        let mut guest = guest(ring, 4);
        let table = Buffer { length_bytes, ..Buffer::indirect(guest.buffer, 1) };
        guest.driver.describe(0, table);

        assert_eq!(fault_of(&mut guest), QueueFault::IndirectLength { length_bytes });
    }
}

#[test]
fn indirect_table_that_loops_or_leads_outside_is_a_fault() {
    let mut guest = guest(SPLIT, 4);
    let table = guest.buffer;
    guest.driver.describe(0, Buffer::indirect(table, 2));
    guest.driver.describe_in(table, 0, Buffer::readable(table, 1).then(1));
    guest.driver.describe_in(table, 1, Buffer::readable(table, 1).then(0));
    let looping = fault_of(&mut guest);
    guest.driver.describe_in(table, 1, Buffer::readable(table, 1).then(2));

    let outside = guest.receive().unwrap_err();

    assert_eq!(looping, QueueFault::ChainTooLong { head: 0, limit: 4 });
    assert_eq!(outside, QueueFault::IndexOutOfRange { index: 2, entries: 2 });
}

fn indirect_table_outside_memory_is_a_fault(ring: Features) {
    let mut guest = guest(ring, 4);
    let address = TestMemory::GUEST_BASE + 0x10_0000 - 8;
    guest.driver.describe(0, Buffer::indirect(address, 1));

    let address = GuestAddress(address);
    assert_eq!(fault_of(&mut guest), QueueFault::OutsideMemory { address, length_bytes: 16 });
}

#[test]
fn frames_before_a_broken_chain_are_received() {
    let mut guest = guest(SPLIT, 4);
    guest.send(0, &frame_of(60));
    guest.driver.make_available(77);

    let fault = guest.receive();

    assert_eq!(fault, Err(QueueFault::IndexOutOfRange { index: 77, entries: 4 }));
    assert_eq!(guest.burst.frames.len(), 1);
    assert_eq!(guest.queue.outstanding(), 1);
}

over_both_rings! {
    buffer_that_leaves_memory_at_any_edge_is_a_fault,
    empty_buffer_is_skipped_wherever_it_points,
    readable_descriptor_after_a_writable_one_is_a_fault,
    writable_descriptors_behind_a_frame_are_left_alone,
    indirect_descriptor_with_next_is_a_fault,
    indirect_table_inside_an_indirect_table_is_a_fault,
    indirect_table_without_negotiation_is_a_fault,
    indirect_table_of_odd_length_is_a_fault,
    indirect_table_outside_memory_is_a_fault,
}
