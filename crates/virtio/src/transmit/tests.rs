//! What a guest may put on its transmitq, and what becomes of it.

use std::sync::Arc;

use frame::{Burst, DropReason, Frame, MAX_FRAME_BYTES, Outgoing, Room};

use super::TransmitQueue;
use crate::testing::{Buffer, Driver, TestMemory, Used};
use crate::{Features, GuestAddress, QueueFault, QueueSize};

const MODERN: Features = Features(Features::VERSION_1.0 | Features::RING_INDIRECT_DESC.0);
const NET_HEADER_BYTES: usize = 12;

/// A guest with one transmitq.
struct Guest {
    memory: Arc<TestMemory>,
    driver: Driver,
    queue: TransmitQueue,
    burst: Burst,
    /// Where buffers may lie.
    buffer: u64,
}

fn size(number: u32) -> QueueSize {
    QueueSize::try_from(number).unwrap()
}

fn guest_of(memory: Arc<TestMemory>, entries: u32, features: Features) -> Guest {
    let driver = Driver::new(&memory, size(entries), features);
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    Guest { memory, driver, queue, burst: Burst::new(), buffer }
}

fn guest(entries: u32) -> Guest {
    guest_of(TestMemory::new(0x10_0000), entries, MODERN)
}

/// Bytes that tell where they come from.
fn frame_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

impl Guest {
    /// Writes an empty net header and a frame at `buffer + offset`; returns where.
    fn put_frame(&self, offset: u64, frame: &[u8]) -> u64 {
        let at = self.buffer + offset;
        self.memory.write(at, &[0; NET_HEADER_BYTES]);
        self.memory.write(at + NET_HEADER_BYTES as u64, frame);
        at
    }

    /// Makes one frame available in one descriptor.
    fn send(&mut self, head: u16, frame: &[u8]) {
        let at = self.put_frame(u64::from(head) * 0x4000, frame);
        let length = u32::try_from(NET_HEADER_BYTES + frame.len()).unwrap();
        self.driver.describe(head, Buffer::readable(at, length));
        self.driver.make_available(head);
    }

    fn receive(&mut self) -> Result<usize, QueueFault> {
        self.burst.clear();
        self.queue.receive(&mut self.burst, 64)
    }

    fn bytes_of(&self, frame: &Frame) -> Vec<u8> {
        let mut bytes = vec![0; 70_000];
        let outgoing = Outgoing::new(frame.header.untagged(), self.burst.segments_of(frame));
        // SAFETY: `bytes` outlives the room and is not looked at before the copy is done.
        let mut room = unsafe { Room::new(bytes.as_mut_ptr(), 70_000) };
        let count = outgoing.reader().copy_to(&mut room);
        bytes.truncate(count);
        assert_eq!(bytes.len(), usize::try_from(frame.length_bytes).unwrap());
        bytes
    }
}

#[test]
fn queues_may_move_to_another_thread() {
    fn is_send<T: Send>() {}

    is_send::<TransmitQueue>();
    is_send::<crate::ReceiveQueue>();
}

#[test]
fn frame_in_one_descriptor_arrives_whole_and_goes_back() {
    let mut guest = guest(4);
    guest.send(2, &frame_of(1514));

    let count = guest.receive().unwrap();
    let frame = guest.burst.frames[0];

    assert_eq!(count, 1);
    assert_eq!(guest.bytes_of(&frame), frame_of(1514));
    assert_eq!(guest.queue.outstanding(), 1);
    assert!(!guest.queue.release());
    guest.queue.complete(frame.token);
    assert!(guest.queue.release());
    assert_eq!(guest.driver.take_used(), Some(Used { head: 2, written_bytes: 0 }));
    assert_eq!(guest.queue.outstanding(), 0);
    assert_eq!(guest.queue.next(), 1);
}

#[test]
fn frame_cut_into_many_descriptors_arrives_whole() {
    let mut guest = guest(128);
    let at = guest.put_frame(0, &frame_of(100));
    let buffers: Vec<_> = (0..112).map(|byte| Buffer::readable(at + byte, 1)).collect();
    guest.driver.describe_chain(0, &buffers);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(100));
}

#[test]
fn net_header_split_over_one_to_twelve_descriptors_is_read() {
    for cuts in 1..=12u64 {
        let mut guest = guest(32);
        let at = guest.put_frame(0, &frame_of(60));
        let mut buffers: Vec<_> =
            (0..cuts - 1).map(|byte| Buffer::readable(at + byte, 1)).collect();
        buffers.push(Buffer::readable(at + cuts - 1, u32::try_from(72 + 1 - cuts).unwrap()));
        guest.driver.describe_chain(0, &buffers);
        guest.driver.make_available(0);

        guest.receive().unwrap();

        assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60), "{cuts} cuts");
    }
}

#[test]
fn frame_in_an_indirect_table_arrives_whole() {
    let mut guest = guest(4);
    let at = guest.put_frame(0x1000, &frame_of(200));
    let table = guest.buffer;
    let buffers = [Buffer::readable(at, 12), Buffer::readable(at + 12, 200)];
    guest.driver.describe_indirect(3, table, &buffers);
    guest.driver.make_available(3);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(200));
}

#[test]
fn direct_descriptors_may_come_before_an_indirect_one() {
    let mut guest = guest(4);
    let at = guest.put_frame(0x1000, &frame_of(200));
    let table = guest.buffer + 8;
    guest.driver.describe_indirect(1, table, &[Buffer::readable(at + 12, 200)]);
    guest.driver.describe(0, Buffer::readable(at, 12).then(1));
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(200));
}

#[test]
fn buffer_across_touching_regions_arrives_whole() {
    let base = TestMemory::GUEST_BASE;
    // The file has the regions the other way round, so they do not touch here.
    let memory = TestMemory::with_regions(&[
        (base + 0x2000, 0x1000),
        (base, 0x1000),
        (base + 0x1000, 0x1000),
    ]);
    let driver = Driver::new_at(&memory, base, size(4), MODERN);
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let mut guest = Guest { buffer: base + 0xf80, memory, driver, queue, burst: Burst::new() };
    guest.send(0, &frame_of(0x1200));

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(0x1200));
}

#[test]
fn legacy_header_of_ten_bytes_is_taken_off() {
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, Features::NONE);
    guest.memory.write(guest.buffer + 10, &frame_of(60));
    guest.driver.describe(0, Buffer::readable(guest.buffer, 70));
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60));
}

#[test]
fn tag_is_taken_out_of_the_frame() {
    let mut guest = guest(4);
    let mut bytes = frame_of(200);
    bytes[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x07]);
    guest.send(0, &bytes);

    guest.receive().unwrap();
    let frame = guest.burst.frames[0];

    assert_eq!(frame.header.tag().map(|tag| tag.vid()), Some(7));
    assert_eq!(guest.bytes_of(&frame), [&bytes[..12], &bytes[16..]].concat());
}

#[test]
fn buffers_go_back_in_order_once_all_before_them_are_complete() {
    let mut guest = guest(4);
    for head in [3, 1, 2] {
        guest.send(head, &frame_of(60));
    }
    guest.receive().unwrap();
    let tokens: Vec<_> = guest.burst.frames.iter().map(|frame| frame.token).collect();

    guest.queue.complete(tokens[2]);
    guest.queue.complete(tokens[1]);
    let early = guest.queue.release();
    guest.queue.complete(tokens[0]);
    let _ = guest.queue.release();

    assert!(!early);
    let heads: Vec<_> = std::iter::from_fn(|| guest.driver.take_used()).map(|u| u.head).collect();
    assert_eq!(heads, [3, 1, 2]);
}

#[test]
fn indices_wrap_around() {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(4), MODERN);
    driver.start_at(65_533);
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    let mut guest = Guest { memory, driver, queue, burst: Burst::new(), buffer };

    for _ in 0..4 {
        guest.send(0, &frame_of(60));
        guest.send(1, &frame_of(61));
        guest.receive().unwrap();
        for frame in &guest.burst.frames {
            guest.queue.complete(frame.token);
        }
        let _ = guest.queue.release();
        assert_eq!(guest.driver.take_used().map(|used| used.head), Some(0));
        assert_eq!(guest.driver.take_used().map(|used| used.head), Some(1));
    }

    assert_eq!(guest.queue.next(), 5);
}

#[test]
fn head_made_available_again_while_out_is_taken_no_more_often_than_the_ring_is_long() {
    let mut guest = guest(4);
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
    let mut guest = guest(4);
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
    let mut guest = guest(4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 60).then(1));
    guest.driver.describe(1, Buffer::readable(guest.buffer, 60).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::ChainTooLong { head: 0, limit: 4 });
}

#[test]
fn loop_on_the_longest_queue_ends_at_the_limit() {
    let mut guest = guest(32_768);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 0).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::ChainTooLong { head: 0, limit: 1_024 });
}

#[test]
fn head_outside_the_table_is_a_fault() {
    let mut guest = guest(4);
    guest.driver.make_available(4);

    let fault = guest.receive().unwrap_err();

    assert_eq!(fault, QueueFault::IndexOutOfRange { index: 4, entries: 4 });
}

#[test]
fn next_outside_the_table_is_a_fault() {
    let mut guest = guest(4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 60).then(4));

    assert_eq!(fault_of(&mut guest), QueueFault::IndexOutOfRange { index: 4, entries: 4 });
}

#[test]
fn buffer_that_leaves_memory_at_any_edge_is_a_fault() {
    let end = TestMemory::GUEST_BASE + 0x10_0000;
    let start = TestMemory::GUEST_BASE;
    for (address, length_bytes) in
        [(start - 1, 60), (end - 59, 60), (end, 1), (0, 1), (u64::MAX - 1, 60), (end - 1, u32::MAX)]
    {
        let mut guest = guest(4);
        guest.driver.describe(0, Buffer::readable(address, length_bytes));

        let fault = fault_of(&mut guest);

        let address = GuestAddress(address);
        assert_eq!(fault, QueueFault::OutsideMemory { address, length_bytes });
    }
}

#[test]
fn empty_buffer_is_skipped_wherever_it_points() {
    let mut guest = guest(4);
    let at = guest.put_frame(0, &frame_of(60));
    let nowhere = Buffer::readable(u64::MAX, 0);
    guest.driver.describe_chain(0, &[nowhere, Buffer::readable(at, 72), nowhere]);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60));
}

#[test]
fn readable_descriptor_after_a_writable_one_is_a_fault() {
    let mut guest = guest(4);
    let at = guest.buffer;
    guest.driver.describe_chain(0, &[Buffer::writable(at, 60), Buffer::readable(at, 60)]);

    assert_eq!(fault_of(&mut guest), QueueFault::ReadableAfterWritable { index: 1 });
}

#[test]
fn writable_descriptors_behind_a_frame_are_left_alone() {
    let mut guest = guest(4);
    let at = guest.put_frame(0, &frame_of(60));
    guest.driver.describe_chain(0, &[Buffer::readable(at, 72), Buffer::writable(at, 500)]);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(60));
}

#[test]
fn indirect_descriptor_with_next_is_a_fault() {
    let mut guest = guest(4);
    guest.driver.describe(0, Buffer::indirect(guest.buffer, 1).then(0));

    assert_eq!(fault_of(&mut guest), QueueFault::IndirectWithNext { index: 0 });
}

#[test]
fn indirect_table_inside_an_indirect_table_is_a_fault() {
    let mut guest = guest(4);
    let table = guest.buffer;
    guest.driver.describe_indirect(0, table, &[Buffer::indirect(table, 1)]);

    assert_eq!(fault_of(&mut guest), QueueFault::NestedIndirect { index: 0 });
}

#[test]
fn indirect_table_without_negotiation_is_a_fault() {
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, Features::VERSION_1);
    guest.driver.describe(0, Buffer::indirect(guest.buffer, 1));

    assert_eq!(fault_of(&mut guest), QueueFault::IndirectNotNegotiated { index: 0 });
}

#[test]
fn indirect_table_of_odd_length_is_a_fault() {
    for length_bytes in [0, 15, 17, u32::MAX] {
        let mut guest = guest(4);
        let table = Buffer { length_bytes, ..Buffer::indirect(guest.buffer, 1) };
        guest.driver.describe(0, table);

        assert_eq!(fault_of(&mut guest), QueueFault::IndirectLength { length_bytes });
    }
}

#[test]
fn indirect_table_that_loops_or_leads_outside_is_a_fault() {
    let mut guest = guest(4);
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

#[test]
fn indirect_table_outside_memory_is_a_fault() {
    let mut guest = guest(4);
    let address = TestMemory::GUEST_BASE + 0x10_0000 - 8;
    guest.driver.describe(0, Buffer::indirect(address, 1));

    let address = GuestAddress(address);
    assert_eq!(fault_of(&mut guest), QueueFault::OutsideMemory { address, length_bytes: 16 });
}

#[test]
fn frames_before_a_broken_chain_are_received() {
    let mut guest = guest(4);
    guest.send(0, &frame_of(60));
    guest.driver.make_available(77);

    let fault = guest.receive();

    assert_eq!(fault, Err(QueueFault::IndexOutOfRange { index: 77, entries: 4 }));
    assert_eq!(guest.burst.frames.len(), 1);
    assert_eq!(guest.queue.outstanding(), 1);
}

/// Sends one chain that is to be dropped; asserts the counter, and that the buffer goes back.
fn assert_dropped(guest: &mut Guest, reason: DropReason, bytes: u64) {
    assert_eq!(guest.receive(), Ok(0));
    assert_eq!(guest.burst.dropped.of(reason), 1, "{reason:?}");
    assert_eq!(guest.burst.dropped_bytes, bytes);
    assert!(guest.queue.release());
    assert_eq!(guest.driver.used_index(), 1);
    assert_eq!(guest.queue.outstanding(), 0);
}

#[test]
fn chain_shorter_than_its_net_header_is_dropped() {
    let mut guest = guest(4);
    guest.driver.describe(0, Buffer::readable(guest.buffer, 11));
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::NetHeaderIncomplete, 0);
}

#[test]
fn chain_of_nothing_is_dropped() {
    let mut guest = guest(4);
    guest.driver.describe(0, Buffer::readable(0, 0));
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::NetHeaderIncomplete, 0);
}

#[test]
fn runt_is_dropped() {
    let mut guest = guest(4);
    guest.send(0, &frame_of(13));

    assert_dropped(&mut guest, DropReason::Runt, 13);
}

#[test]
fn frame_that_is_too_long_is_dropped() {
    let mut guest = guest(4);
    guest.send(0, &frame_of(MAX_FRAME_BYTES + 1));

    assert_dropped(&mut guest, DropReason::Oversized, 9_217);
}

#[test]
fn tag_does_not_count_towards_the_longest_frame() {
    let mut guest = guest(4);
    let mut bytes = frame_of(MAX_FRAME_BYTES + 4);
    bytes[12..14].copy_from_slice(&[0x81, 0x00]);
    guest.send(0, &bytes);

    let count = guest.receive();

    assert_eq!(count, Ok(1));
    assert_eq!(guest.burst.frames[0].length_bytes, 9_216);
}

#[test]
fn huge_chain_over_the_same_buffer_is_dropped() {
    let mut guest = guest(1_024);
    let buffers = vec![Buffer::readable(guest.buffer, 0x1_0000); 1_024];
    guest.driver.describe_chain(0, &buffers);
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::Oversized, 1_024 * 0x1_0000 - 12);
}

#[test]
fn frame_that_asks_for_an_offload_is_dropped() {
    for header in [[1, 0], [0, 1], [0, 0x80], [1, 4]] {
        let mut guest = guest(4);
        guest.send(0, &frame_of(60));
        guest.memory.write(guest.buffer, &header);

        assert_dropped(&mut guest, DropReason::OffloadNotNegotiated, 60);
    }
}

#[test]
fn burst_that_is_full_of_segments_takes_the_rest_later() {
    let mut guest = guest(256);
    let at = guest.put_frame(0, &frame_of(9_000));
    let buffers: Vec<_> = (0..16).map(|part| Buffer::readable(at + part * 512, 512)).collect();
    for chain in 0..16 {
        guest.driver.describe_chain(chain * 16, &buffers);
    }
    guest
        .driver
        .make_all_available(&std::array::from_fn::<_, 16, _>(|n| u16::try_from(n * 16).unwrap()));
    let capacity = guest.burst.segments.capacity();

    let first = guest.receive().unwrap();
    let second = guest.receive().unwrap();

    assert_eq!((first, second), (9, 7));
    assert_eq!(guest.burst.segments.capacity(), capacity);
}

#[test]
fn notifications_are_asked_for_and_work_that_came_meanwhile_is_seen() {
    let mut guest = guest(4);
    guest.queue.disable_notifications();
    assert!(!guest.driver.make_available(0));

    let has_work = guest.queue.enable_notifications();

    assert!(has_work);
    assert!(guest.queue.has_available());
    assert!(guest.driver.make_available(0));
}

#[test]
fn event_index_asks_for_one_notification() {
    let features = MODERN | Features::RING_EVENT_IDX;
    let mut guest = guest_of(TestMemory::new(0x10_0000), 8, features);

    assert!(guest.driver.make_available(0));
    assert!(!guest.driver.make_available(0));
    guest.queue.disable_notifications();
    assert!(!guest.driver.make_available(0));
    assert!(guest.queue.enable_notifications());
}

#[test]
fn driver_that_wants_no_interrupt_gets_none_but_the_first() {
    let mut guest = guest(4);
    guest.driver.want_notifications(false);
    for head in [0, 1] {
        guest.send(head, &frame_of(60));
    }
    guest.receive().unwrap();

    guest.queue.complete(0);
    let first = guest.queue.release();
    guest.queue.complete(1);
    let second = guest.queue.release();

    assert_eq!((first, second), (true, false));
}

#[test]
fn driver_with_event_index_is_told_when_its_entry_was_used() {
    let features = MODERN | Features::RING_EVENT_IDX;
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, features);
    guest.driver.set_used_event(2);
    for head in [0, 1, 2, 3] {
        guest.send(head, &frame_of(60));
    }
    guest.receive().unwrap();

    let told: Vec<_> = (0..4)
        .map(|token| {
            guest.queue.complete(token);
            guest.queue.release()
        })
        .collect();

    assert_eq!(told, [true, false, true, false]);
}

#[test]
fn queue_starts_at_the_used_index_of_the_ring() {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(4), MODERN);
    driver.start_at(9);
    let setup = crate::VringSetup { next: 13, ..driver.setup() };

    let queue = TransmitQueue::new(setup).unwrap();

    assert_eq!(queue.next(), 9);
}

#[test]
fn ring_outside_memory_or_misaligned_is_refused() {
    use crate::{RingPart, SetupError};
    let memory = TestMemory::new(0x1000);
    let setup = Driver::new(&memory, size(4), MODERN).setup();
    let user_address = TestMemory::GUEST_BASE + TestMemory::USER_OFFSET + 0x1000 - 35;
    let mut outside = setup.clone();
    outside.addresses.used_ring = user_address;
    let mut misaligned = setup;
    misaligned.addresses.descriptor_table += 8;

    assert_eq!(
        TransmitQueue::new(outside).unwrap_err(),
        SetupError::RingOutsideMemory { part: RingPart::UsedRing, user_address }
    );
    assert!(matches!(
        TransmitQueue::new(misaligned).unwrap_err(),
        SetupError::Misaligned { part: RingPart::DescriptorTable, .. }
    ));
}

#[test]
fn buffers_behind_the_first_mebibyte_are_not_looked_up() {
    let mut guest = guest_of(TestMemory::new(0x40_0000), 4, MODERN);
    let nowhere = Buffer::readable(u64::MAX - 0xfff, 0x1000);
    let large = Buffer::readable(guest.buffer, 0x20_0000);
    guest.driver.describe_chain(0, &[large, nowhere]);
    guest.driver.make_available(0);

    assert_dropped(&mut guest, DropReason::Oversized, 0x20_1000 - 12);
}
