//! Both halves over one piece of ordinary memory, where the test plays the kernel's part: what
//! the producer publishes, the consumer gets.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};

use super::*;

pub(crate) const SIZE: u32 = 4;
pub(crate) const OFFSETS: libc::xdp_ring_offset =
    libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
const NEARLY_WRAPPED: u32 = u32::MAX - 1;

/// Memory that can be mapped twice, as the kernel and a process map a ring.
pub(crate) fn shared_memory() -> OwnedFd {
    // SAFETY: the name is a live string that ends with a zero byte.
    let fd = unsafe { libc::memfd_create(c"ring".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(fd >= 0);
    // SAFETY: the descriptor is new and nobody else knows it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    std::fs::File::from(fd.try_clone().unwrap()).set_len(4_096).unwrap();
    fd
}

pub(crate) fn map(memory: BorrowedFd<'_>) -> Mapping {
    Mapping::ring(memory, 0, 4_096).unwrap()
}

/// Both halves, with indices that start shortly before they wrap.
fn halves() -> (Producer<u64>, Consumer<u64>) {
    let memory = shared_memory();
    let raw = Shared::<u64>::new(map(memory.as_fd()), &OFFSETS, SIZE);
    raw.word(raw.producer_at).store(NEARLY_WRAPPED, Ordering::Relaxed);
    raw.word(raw.consumer_at).store(NEARLY_WRAPPED, Ordering::Relaxed);
    let producer = Producer::new(map(memory.as_fd()), &OFFSETS, SIZE);
    (producer, Consumer::new(map(memory.as_fd()), &OFFSETS, SIZE))
}

#[test]
fn items_cross_in_order_while_the_indices_wrap() {
    let (mut producer, mut consumer) = halves();

    for item in 0..10 {
        assert!(producer.push(item));
        assert!(producer.submit());
        assert_eq!(consumer.pop(), Some(item));
        consumer.release();
    }

    assert_eq!(consumer.pop(), None);
}

#[test]
fn item_is_not_seen_before_it_is_submitted() {
    let (mut producer, mut consumer) = halves();

    assert!(producer.push(7));
    assert!(!consumer.has_items());
    assert_eq!(consumer.pop(), None);

    assert!(producer.submit());
    assert!(!producer.submit());
    assert_eq!(consumer.pop(), Some(7));
}

#[test]
fn full_ring_takes_no_more_until_slots_are_released() {
    let (mut producer, mut consumer) = halves();
    assert!((0..4).all(|item| producer.push(item)));
    producer.submit();

    assert!(!producer.push(4));
    assert_eq!(producer.pending(), 4);
    assert_eq!(consumer.pop(), Some(0));
    assert!(!producer.push(4));
    consumer.release();

    assert!(producer.push(4));
    assert_eq!(producer.pending(), 3);
}

#[test]
fn index_that_ran_further_than_the_ring_is_long_yields_nothing() {
    let (producer, mut consumer) = halves();

    let place = producer.ring.word(producer.ring.producer_at);
    place.store(NEARLY_WRAPPED.wrapping_add(SIZE + 1), Ordering::Release);

    assert_eq!(consumer.pop(), None);
}

#[test]
fn wakeup_flag_is_read_from_the_ring() {
    let (producer, _consumer) = halves();
    assert!(!producer.needs_wakeup());

    let flags = producer.ring.word(producer.ring.flags_at);
    flags.store(libc::XDP_RING_NEED_WAKEUP, Ordering::Relaxed);

    assert!(producer.needs_wakeup());
}
