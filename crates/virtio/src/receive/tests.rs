//! What a guest's receive buffers look like, and what ends up in them.

#![allow(unsafe_code)]

mod many;
mod offloads;

use std::sync::Arc;

use frame::{Outgoing, Segment};

use super::Refusal;
use crate::testing::{Buffer, Driver, TestMemory, Used, over_both_rings};
use crate::{Features, QueueFault, QueueSize, ReceiveQueue};

const MODERN: Features = Features(Features::VERSION_1.0 | Features::RING_INDIRECT_DESC.0);
const MERGEABLE: Features = Features(MODERN.0 | Features::NET_MRG_RXBUF.0);

/// A guest with one receiveq.
struct Guest {
    memory: Arc<TestMemory>,
    driver: Driver,
    queue: ReceiveQueue,
    buffer: u64,
}

fn size(number: u32) -> QueueSize {
    QueueSize::new(number, Features::NONE).unwrap()
}

fn guest(features: Features) -> Guest {
    let memory = TestMemory::new(0x10_0000);
    let driver = Driver::new(&memory, size(8), features);
    let queue = ReceiveQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    Guest { memory, driver, queue, buffer }
}

fn frame_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

impl Guest {
    /// Makes receive buffers of these lengths available, 0x1000 bytes apart.
    fn offer(&mut self, lengths: &[u32]) {
        for (head, &length) in (0..).zip(lengths) {
            let at = self.buffer + 0x1000 * u64::from(head);
            self.driver.describe(head, Buffer::writable(at, length));
            self.driver.make_available(head);
        }
    }

    /// Delivers a frame whose first 20 bytes are private.
    fn deliver(&mut self, frame: &[u8]) -> Result<(), Refusal> {
        let (head, payload) = frame.split_at(20);
        let length_bytes = u32::try_from(payload.len()).unwrap();
        // SAFETY: `frame` outlives the call.
        let segment = unsafe { Segment::new(payload.as_ptr(), length_bytes) };
        self.queue.deliver(&Outgoing::new(head, &[segment]))
    }

    fn buffer_bytes(&self, number: u64, length: usize) -> Vec<u8> {
        self.memory.read(self.buffer + 0x1000 * number, length)
    }
}

fn frame_arrives_behind_a_header_that_names_one_buffer(ring: Features) {
    let mut guest = guest(ring | MODERN);
    guest.offer(&[1526]);

    guest.deliver(&frame_of(60)).unwrap();
    let before = guest.driver.take_used();
    let notify = guest.queue.release();

    assert_eq!(before, None);
    assert!(notify);
    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 72 }));
    let expected = [vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], frame_of(60)].concat();
    assert_eq!(guest.buffer_bytes(0, 72), expected);
    assert_eq!(guest.queue.base(), guest.driver.base());
}

#[test]
fn legacy_header_has_ten_bytes() {
    let mut guest = guest(Features::NONE);
    guest.memory.write(guest.buffer, &[0xee; 80]);
    guest.offer(&[1524]);

    guest.deliver(&frame_of(60)).unwrap();
    let _ = guest.queue.release();

    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 70 }));
    assert_eq!(guest.buffer_bytes(0, 71), [vec![0; 10], frame_of(60), vec![0xee]].concat());
}

fn header_may_lie_in_a_descriptor_of_its_own(ring: Features) {
    let mut guest = guest(ring | MODERN);
    let at = guest.buffer;
    let buffers =
        [Buffer::writable(at, 7), Buffer::writable(at + 7, 5), Buffer::writable(at + 12, 900)];
    guest.driver.describe_indirect(0, at + 0x8000, &buffers);
    guest.driver.make_available(0);

    guest.deliver(&frame_of(60)).unwrap();
    let _ = guest.queue.release();

    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 72 }));
    assert_eq!(guest.buffer_bytes(0, 72)[10..], [vec![1, 0], frame_of(60)].concat());
}

fn long_frame_merges_as_many_buffers_as_it_needs(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    guest.offer(&[100, 200, 400, 400]);

    guest.deliver(&frame_of(500)).unwrap();
    let notify = guest.queue.release();

    assert!(notify);
    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 100 }));
    assert_eq!(guest.driver.take_used(), Some(Used { head: 1, written_bytes: 200 }));
    assert_eq!(guest.driver.take_used(), Some(Used { head: 2, written_bytes: 212 }));
    assert_eq!(guest.driver.take_used(), None);
    assert_eq!(guest.buffer_bytes(0, 12)[10..], [3, 0]);
    let arrived = [
        &guest.buffer_bytes(0, 100)[12..],
        &guest.buffer_bytes(1, 200),
        &guest.buffer_bytes(2, 212),
    ];
    assert_eq!(arrived.concat(), frame_of(500));
}

fn frame_that_finds_too_few_buffers_consumes_none(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    guest.offer(&[100, 200]);

    let refused = guest.deliver(&frame_of(500));
    let delivered = guest.deliver(&frame_of(60));
    let _ = guest.queue.release();

    assert_eq!(refused, Err(Refusal::NoBuffer));
    assert_eq!(delivered, Ok(()));
    assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 72 }));
    assert_eq!(guest.driver.take_used(), None);
}

fn frame_that_fits_exactly_is_delivered_and_one_byte_more_is_not(ring: Features) {
    let mut guest = guest(ring | MODERN);
    guest.offer(&[72, 72]);

    let refused = guest.deliver(&frame_of(61));
    let delivered = guest.deliver(&frame_of(60));

    assert_eq!(refused, Err(Refusal::TooSmall));
    assert_eq!(delivered, Ok(()));
}

fn queue_without_buffers_refuses(ring: Features) {
    let mut guest = guest(ring | MODERN);
    assert!(!guest.queue.has_buffers());

    let refused = guest.deliver(&frame_of(60));

    assert_eq!(refused, Err(Refusal::NoBuffer));
    assert!(!guest.queue.release());
}

fn first_buffer_must_hold_the_header(ring: Features) {
    let mut guest = guest(ring | MERGEABLE);
    guest.offer(&[11, 1000]);

    assert_eq!(guest.deliver(&frame_of(60)), Err(Refusal::TooSmall));
}

fn readable_receive_buffer_is_a_fault(ring: Features) {
    for before in [0, 1] {
        let mut guest = guest(ring | MODERN);
        for _ in 0..before {
            guest.offer(&[1526]);
            guest.deliver(&frame_of(60)).unwrap();
        }
        guest.driver.describe(before, Buffer::readable(guest.buffer, 1526));
        guest.driver.make_available(before);

        let refused = guest.deliver(&frame_of(60));

        assert_eq!(refused, Err(Refusal::Fault(QueueFault::NotWritable { index: before })));
    }
}

fn buffer_of_no_bytes_takes_nothing(ring: Features) {
    let mut guest = guest(ring | MODERN);
    guest.offer(&[1526, 0]);
    guest.deliver(&frame_of(60)).unwrap();

    assert_eq!(guest.deliver(&frame_of(60)), Err(Refusal::TooSmall));
}

#[test]
fn available_index_that_jumps_is_a_fault() {
    let mut guest = guest(MODERN);
    guest.driver.set_available_index(9);

    let refused = guest.deliver(&frame_of(60));

    let fault = QueueFault::TooManyAvailable { ahead: 9, size: size(8) };
    assert_eq!(refused, Err(Refusal::Fault(fault)));
}

fn buffers_used_again_and_again_wrap_the_indices(ring: Features) {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(8), ring | MERGEABLE);
    driver.start_at(65_534);
    let queue = ReceiveQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    let mut guest = Guest { memory, driver, queue, buffer };

    for _ in 0..5 {
        guest.offer(&[50, 50]);
        guest.deliver(&frame_of(60)).unwrap();
        let _ = guest.queue.release();
        assert_eq!(guest.driver.take_used(), Some(Used { head: 0, written_bytes: 50 }));
        assert_eq!(guest.driver.take_used(), Some(Used { head: 1, written_bytes: 22 }));
    }

    assert_eq!(guest.queue.base(), guest.driver.base());
}

fn endless_one_byte_buffers_are_refused_with_bounded_work(ring: Features) {
    let memory = TestMemory::new(0x10_0000);
    let mut driver = Driver::new(&memory, size(1024), ring | MERGEABLE);
    let mut queue = ReceiveQueue::new(driver.setup()).unwrap();
    let buffer = driver.end();
    driver.describe(0, Buffer::writable(buffer, 12));
    driver.describe(1, Buffer::writable(buffer, 1));
    driver.make_available(0);
    driver.make_all_available(&[1; 1000]);

    let refused = queue.deliver(&Outgoing::new(&[0; 1000], &[]));

    assert_eq!(refused, Err(Refusal::TooSmall));
    assert!(!queue.release());
}

fn driver_with_event_index_is_told_once_for_a_burst(ring: Features) {
    let mut guest = guest(ring | MODERN | Features::RING_EVENT_IDX);
    guest.offer(&[1526; 8]);
    guest.deliver(&frame_of(60)).unwrap();
    let _ = guest.queue.release();
    guest.driver.set_used_event(3);

    guest.deliver(&frame_of(60)).unwrap();
    guest.deliver(&frame_of(60)).unwrap();
    let early = guest.queue.release();
    guest.deliver(&frame_of(60)).unwrap();
    guest.deliver(&frame_of(60)).unwrap();
    let due = guest.queue.release();

    assert_eq!((early, due), (false, true));
}

over_both_rings! {
    frame_arrives_behind_a_header_that_names_one_buffer,
    header_may_lie_in_a_descriptor_of_its_own,
    long_frame_merges_as_many_buffers_as_it_needs,
    frame_that_finds_too_few_buffers_consumes_none,
    frame_that_fits_exactly_is_delivered_and_one_byte_more_is_not,
    queue_without_buffers_refuses,
    first_buffer_must_hold_the_header,
    readable_receive_buffer_is_a_fault,
    buffer_of_no_bytes_takes_nothing,
    buffers_used_again_and_again_wrap_the_indices,
    endless_one_byte_buffers_are_refused_with_bounded_work,
    driver_with_event_index_is_told_once_for_a_burst,
}
