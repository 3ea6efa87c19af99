//! What a guest may put on its transmitq, and what becomes of it.

#![allow(unsafe_code)]

mod drops;
mod faults;
mod mixed;
mod notifications;
mod offloads;

use std::sync::Arc;

use frame::{Burst, DropReason, Frame, MAX_FRAME_BYTES, Outgoing, Room};

use crate::testing::{Buffer, Driver, TestMemory, Used, over_both_rings};
use crate::{Features, GuestAddress, QueueFault, QueueSize, TransmitQueue};

const MODERN: Features = Features(Features::VERSION_1.0 | Features::RING_INDIRECT_DESC.0);
/// For tests of what only a split ring has.
const SPLIT: Features = Features::NONE;
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
    QueueSize::new(number, Features::NONE).unwrap()
}

fn guest_of(memory: Arc<TestMemory>, entries: u32, features: Features) -> Guest {
    let driver = Driver::new(&memory, size(entries), features);
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    Guest { memory, driver, queue, burst: Burst::new(), buffer }
}

fn guest(ring: Features, entries: u32) -> Guest {
    guest_of(TestMemory::new(0x10_0000), entries, MODERN | ring)
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

fn frame_in_one_descriptor_arrives_whole_and_goes_back(ring: Features) {
    let mut guest = guest(ring, 4);
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
    assert_eq!(guest.queue.base(), guest.driver.base());
}

fn frame_cut_into_many_descriptors_arrives_whole(ring: Features) {
    let mut guest = guest(ring, 128);
    let at = guest.put_frame(0, &frame_of(100));
    let buffers: Vec<_> = (0..112).map(|byte| Buffer::readable(at + byte, 1)).collect();
    guest.driver.describe_chain(0, &buffers);
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(100));
}

fn net_header_split_over_one_to_twelve_descriptors_is_read(ring: Features) {
    for cuts in 1..=12u64 {
        let mut guest = guest(ring, 32);
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

fn frame_in_an_indirect_table_arrives_whole(ring: Features) {
    let mut guest = guest(ring, 4);
    let at = guest.put_frame(0x1000, &frame_of(200));
    let table = guest.buffer;
    let buffers = [Buffer::readable(at, 12), Buffer::readable(at + 12, 200)];
    guest.driver.describe_indirect(3, table, &buffers);
    guest.driver.make_available(3);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(200));
}

fn direct_descriptors_may_come_before_an_indirect_one(ring: Features) {
    let mut guest = guest(ring, 4);
    let at = guest.put_frame(0x1000, &frame_of(200));
    let table = guest.buffer + 8;
    guest.driver.describe_indirect(1, table, &[Buffer::readable(at + 12, 200)]);
    guest.driver.describe(0, Buffer::readable(at, 12).then(1));
    guest.driver.make_available(0);

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(200));
}

fn buffer_across_touching_regions_arrives_whole(ring: Features) {
    let base = TestMemory::GUEST_BASE;
    // The file has the regions the other way round, so they do not touch here.
    let memory = TestMemory::with_regions(&[
        (base + 0x2000, 0x1000),
        (base, 0x1000),
        (base + 0x1000, 0x1000),
    ]);
    let driver = Driver::new_at(&memory, base, size(4), MODERN | ring);
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let mut guest = Guest { buffer: base + 0xf80, memory, driver, queue, burst: Burst::new() };
    guest.send(0, &frame_of(0x1200));

    guest.receive().unwrap();

    assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(0x1200));
}

#[test]
fn legacy_header_of_ten_bytes_is_taken_off() {
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, Features::NONE);
    // The first one is walked as any chain, the others are taken as most.
    for length in [60, 66, 67, 1_514, MAX_FRAME_BYTES] {
        guest.memory.write(guest.buffer + 10, &frame_of(length));
        let buffer = Buffer::readable(guest.buffer, u32::try_from(10 + length).unwrap());
        guest.driver.describe(0, buffer);
        guest.driver.make_available(0);

        guest.receive().unwrap();

        assert_eq!(guest.bytes_of(&guest.burst.frames[0]), frame_of(length));
        guest.queue.complete_burst();
        guest.queue.release();
    }
    let one_too_long = u32::try_from(10 + MAX_FRAME_BYTES + 1).unwrap();
    guest.driver.describe(0, Buffer::readable(guest.buffer, one_too_long));
    guest.driver.make_available(0);
    assert_eq!(guest.receive(), Ok(0));
    assert_eq!(guest.burst.dropped.of(DropReason::Oversized), 1);
}

fn tag_is_taken_out_of_the_frame(ring: Features) {
    let mut guest = guest(ring, 4);
    let mut bytes = frame_of(200);
    bytes[12..16].copy_from_slice(&[0x81, 0x00, 0x00, 0x07]);
    guest.send(0, &bytes);

    guest.receive().unwrap();
    let frame = guest.burst.frames[0];

    assert_eq!(frame.header.tag().map(|tag| tag.vid()), Some(7));
    assert_eq!(guest.bytes_of(&frame), [&bytes[..12], &bytes[16..]].concat());
}

fn buffers_go_back_in_order_once_all_before_them_are_complete(ring: Features) {
    let mut guest = guest(ring, 4);
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

fn indices_wrap_around(ring: Features) {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(4), MODERN | ring);
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

    assert_eq!(guest.queue.base(), guest.driver.base());
}

fn burst_that_is_full_of_segments_takes_the_rest_later(ring: Features) {
    let mut guest = guest(ring, 256);
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
fn queue_starts_at_the_used_index_of_the_ring() {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(4), MODERN);
    driver.start_at(9);
    let setup = crate::VringSetup { base: 13, ..driver.setup() };

    let queue = TransmitQueue::new(setup).unwrap();

    assert_eq!(queue.base(), 9);
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

over_both_rings! {
    frame_in_one_descriptor_arrives_whole_and_goes_back,
    frame_cut_into_many_descriptors_arrives_whole,
    net_header_split_over_one_to_twelve_descriptors_is_read,
    frame_in_an_indirect_table_arrives_whole,
    direct_descriptors_may_come_before_an_indirect_one,
    buffer_across_touching_regions_arrives_whole,
    tag_is_taken_out_of_the_frame,
    buffers_go_back_in_order_once_all_before_them_are_complete,
    indices_wrap_around,
    burst_that_is_full_of_segments_takes_the_rest_later,
}
