//! The ring and its two halves.
//!
//! `head` and `tail` run freely and wrap at `u32::MAX`; the low bits choose the slot.
//! `tail - head`, wrapping, is therefore always the number of filled slots, and full
//! (`capacity`) is distinct from empty (`0`) without wasting a slot.
//!
//! ```text
//!            head             tail   staged
//!              ▼                ▼      ▼
//!   ┌────┬────┬────┬────┬────┬────┬────┬────┐
//!   │    │    │ ▓▓ │ ▓▓ │ ▓▓ │ ░░ │    │    │     consumer empties ▸   producer fills ▸
//!   └────┴────┴────┴────┴────┴────┴────┴────┘
//! ```

#![allow(unsafe_code)]

use std::fmt;
use std::mem::MaybeUninit;

use crossbeam::utils::CachePadded;

use crate::sync::{Arc, AtomicU32, Ordering, UnsafeCell};

struct Ring<T> {
    /// Next slot to empty. Written by the consumer only; on a cache line of its own.
    head: CachePadded<AtomicU32>,
    /// Next slot to fill. Written by the producer only; on a cache line of its own.
    tail: CachePadded<AtomicU32>,
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// `slots.len() - 1`; the length is a power of two.
    mask: u32,
    /// How the producer publishes: always Release, but for the test that shows loom a mistake.
    #[cfg(loom)]
    publish_ordering: Ordering,
}

// SAFETY: the halves never touch a slot at the same time. A slot is the consumer's while it
// lies in `head..tail` and the producer's otherwise, and the index that hands it over is
// stored with Release and loaded with Acquire. Items change threads, hence `T: Send`.
unsafe impl<T: Send> Sync for Ring<T> {}
// SAFETY: as for Sync; the ring owns its items, which are Send.
unsafe impl<T: Send> Send for Ring<T> {}

impl<T> Ring<T> {
    fn slot(&self, index: u32) -> &UnsafeCell<MaybeUninit<T>> {
        // In range: `mask` is `slots.len() - 1`.
        &self.slots[(index & self.mask) as usize]
    }

    const fn publish_ordering(&self) -> Ordering {
        #[cfg(loom)]
        return self.publish_ordering;
        #[cfg(not(loom))]
        return Ordering::Release;
    }
}

impl<T> Drop for Ring<T> {
    fn drop(&mut self) {
        // Both halves are gone: each published or released on its own drop, so what lies in
        // `head..tail` is exactly what nobody took. Relaxed: `&mut self` came after both.
        let tail = self.tail.load(Ordering::Relaxed);
        let mut head = self.head.load(Ordering::Relaxed);
        while head != tail {
            self.slot(head).with_mut(|slot| {
                // SAFETY: nobody else is left, so nobody else refers to the slot.
                let slot = unsafe { &mut *slot };
                // SAFETY: a slot in `head..tail` was filled by the producer and not emptied.
                unsafe { slot.assume_init_drop() };
            });
            head = head.wrapping_add(1);
        }
    }
}

/// Makes a ring with room for at least `capacity` items: the next power of two.
///
/// # Panics
///
/// If `capacity` is zero or above 2^31: it is the program's choice, never a peer's.
#[must_use]
pub fn ring<T: Send>(capacity: usize) -> (Producer<T>, Consumer<T>) {
    halves(capacity, Ordering::Release)
}

fn halves<T: Send>(capacity: usize, publish_ordering: Ordering) -> (Producer<T>, Consumer<T>) {
    assert!((1..=1 << 31).contains(&capacity), "ring capacity {capacity} is not in 1..=2^31");
    let slots = capacity.next_power_of_two();
    let _ = publish_ordering;
    let ring = Arc::new(Ring {
        head: CachePadded::new(AtomicU32::new(0)),
        tail: CachePadded::new(AtomicU32::new(0)),
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        mask: u32::try_from(slots - 1).expect("at most 2^31 slots"),
        #[cfg(loom)]
        publish_ordering,
    });
    let producer = Producer { ring: Arc::clone(&ring), tail: 0, seen_head: 0 };
    (producer, Consumer { ring, head: 0, seen_tail: 0, released: 0 })
}

/// The half that fills. There is one per ring: it can be sent to a thread, not cloned.
pub struct Producer<T> {
    ring: Arc<Ring<T>>,
    /// Our own index, staged items included. Nobody else moves it, so this copy is exact.
    tail: u32,
    /// The consumer's index when we last looked. It can only lag, which makes the ring
    /// look fuller than it is, never emptier.
    seen_head: u32,
}

impl<T: Send> Producer<T> {
    /// How many items the ring holds at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ring.slots.len()
    }

    /// Says whether `wanted` more items fit. Reads the shared head only when our copy of it
    /// says there are too few, so a ring with room costs no shared read.
    #[inline]
    pub fn has_room(&mut self, wanted: usize) -> bool {
        if self.capacity() - self.filled() >= wanted {
            return true;
        }
        // Acquire: pairs with the Release store of `head` in `Consumer::release`.
        self.seen_head = self.ring.head.load(Ordering::Acquire);
        self.capacity() - self.filled() >= wanted
    }

    /// Stages an item behind those staged before. The consumer sees it after
    /// [`publish`](Self::publish).
    ///
    /// # Errors
    ///
    /// The item itself if the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if !self.has_room(1) {
            return Err(item);
        }
        self.ring.slot(self.tail).with_mut(|slot| {
            // SAFETY: `has_room` found this slot outside `head..tail`, where only the producer,
            // which is `&mut self`, touches slots.
            let slot = unsafe { &mut *slot };
            slot.write(item);
        });
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Makes everything staged visible, with one store. Returns whether there was anything.
    #[inline]
    pub fn publish(&mut self) -> bool {
        // Relaxed: only this half writes `tail`.
        if self.ring.tail.load(Ordering::Relaxed) == self.tail {
            return false;
        }
        // Release: pairs with the Acquire load of `tail` in `Consumer::pop`.
        self.ring.tail.store(self.tail, self.ring.publish_ordering());
        true
    }

    /// Slots filled, as far as we know. Indices wrap, so their distance must wrap too.
    const fn filled(&self) -> usize {
        self.tail.wrapping_sub(self.seen_head) as usize
    }
}

impl<T> Drop for Producer<T> {
    fn drop(&mut self) {
        // What was staged is now dropped with the ring. Release: pairs as in `publish`.
        self.ring.tail.store(self.tail, Ordering::Release);
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Producer").field("tail", &self.tail).finish_non_exhaustive()
    }
}

/// A place in a ring: see [`Consumer::marker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marker(u32);

/// The half that empties. There is one per ring.
pub struct Consumer<T> {
    ring: Arc<Ring<T>>,
    /// Our own index, items taken and not yet released included.
    head: u32,
    /// The producer's index when we last looked. It can only lag, which makes the ring look
    /// emptier than it is, never fuller.
    seen_tail: u32,
    /// What `head` in the ring says: our own index at the last release.
    released: u32,
}

impl<T: Send> Consumer<T> {
    /// Takes the next item. Its slot stays taken until [`release`](Self::release).
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        let item = self.ring.slot(self.head).with(|slot| {
            // SAFETY: the slot lies in `head..tail`, where the producer does not write.
            let slot = unsafe { &*slot };
            // SAFETY: it was filled before `tail` passed it, and `head` passes it just below, so
            // the item is read once.
            unsafe { slot.assume_init_read() }
        });
        self.head = self.head.wrapping_add(1);
        Some(item)
    }

    /// Says whether there is nothing to take. Looks at the shared index only if what it saw last
    /// is used up.
    #[inline]
    pub fn is_empty(&mut self) -> bool {
        if self.seen_tail == self.head {
            // Acquire: pairs with the Release store of `tail` in `Producer::publish`.
            self.seen_tail = self.ring.tail.load(Ordering::Acquire);
        }
        self.seen_tail == self.head
    }

    /// A place behind everything that is visible now: see [`has_passed`](Self::has_passed).
    pub fn marker(&mut self) -> Marker {
        // Acquire: pairs with the Release store of `tail` in `Producer::publish`.
        self.seen_tail = self.ring.tail.load(Ordering::Acquire);
        Marker(self.seen_tail)
    }

    /// Says whether everything before the marker has been taken. The marker must be of this ring,
    /// and not older than 2^31 items.
    #[must_use]
    pub const fn has_passed(&self, marker: Marker) -> bool {
        marker.0.wrapping_sub(self.head).cast_signed() <= 0
    }

    /// Gives all slots emptied since the last call back to the producer, with one store, or none if there are
    /// none.
    #[inline]
    pub fn release(&mut self) {
        if self.released == self.head {
            return;
        }
        self.released = self.head;
        // Release: pairs with the Acquire load of `head` in `Producer::has_room`: our reads of the
        // slots come before the producer's next writes to them.
        self.ring.head.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // What was taken must not be dropped again with the ring. Release: pairs as in `release`.
        self.ring.head.store(self.head, Ordering::Release);
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consumer").field("head", &self.head).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn staged_item_is_invisible_until_published() {
        let (mut producer, mut consumer) = ring(4);

        producer.push(7).unwrap();

        assert_eq!(consumer.pop(), None);
        assert!(producer.publish());
        assert_eq!(consumer.pop(), Some(7));
    }

    #[test]
    fn full_ring_gives_the_item_back_until_slots_are_released() {
        let (mut producer, mut consumer) = ring(2);
        producer.push(1).unwrap();
        producer.push(2).unwrap();
        producer.publish();

        assert_eq!(producer.push(3), Err(3));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.push(3), Err(3));
        consumer.release();
        assert_eq!(producer.push(3), Ok(()));
    }

    #[test]
    fn marker_is_passed_by_what_was_visible_and_not_by_more() {
        let (mut producer, mut consumer) = ring(4);
        producer.push(1).unwrap();
        producer.publish();

        let marker = consumer.marker();
        producer.push(2).unwrap();
        producer.publish();

        assert!(!consumer.has_passed(marker));
        consumer.pop();
        assert!(consumer.has_passed(marker));
    }

    #[test]
    fn items_that_nobody_took_are_dropped_with_the_ring_and_only_those() {
        let item = std::sync::Arc::new(());
        let (mut producer, mut consumer) = ring(8);
        for _ in 0..5 {
            producer.push(std::sync::Arc::clone(&item)).unwrap();
        }
        producer.publish();
        producer.push(std::sync::Arc::clone(&item)).unwrap();
        drop(consumer.pop());

        drop(consumer);
        drop(producer);

        assert_eq!(std::sync::Arc::strong_count(&item), 1);
    }

    proptest! {
        #[test]
        fn ring_behaves_like_a_bounded_deque(actions in proptest::collection::vec(0u8..4, 0..200)) {
            let (mut producer, mut consumer) = ring(4);
            let (mut staged, mut visible) = (VecDeque::new(), VecDeque::new());
            let mut unreleased = 0;
            for (number, action) in actions.into_iter().enumerate() {
                match action {
                    0 => {
                        let fits = staged.len() + visible.len() + unreleased < 4;
                        prop_assert_eq!(producer.push(number).is_ok(), fits);
                        if fits { staged.push_back(number); }
                    }
                    1 => { producer.publish(); visible.append(&mut staged); }
                    2 => {
                        let taken = visible.pop_front();
                        unreleased += usize::from(taken.is_some());
                        prop_assert_eq!(consumer.pop(), taken);
                    }
                    _ => { consumer.release(); unreleased = 0; }
                }
            }
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    //! Every interleaving of two threads over a ring of two slots, with wrap-around.

    use loom::thread;

    use super::*;

    fn hand_over_four(publish_ordering: Ordering) {
        let (mut producer, mut consumer) = halves(2, publish_ordering);
        let filling = thread::spawn(move || {
            for number in 0..4u32 {
                while producer.push(Box::new(number)).is_err() {
                    thread::yield_now();
                }
                producer.publish();
            }
        });
        for number in 0..4 {
            let item = loop {
                if let Some(item) = consumer.pop() {
                    break item;
                }
                thread::yield_now();
            };
            assert_eq!(*item, number, "items arrive in order, whole and once");
            consumer.release();
        }
        filling.join().unwrap();
    }

    fn bounded(check: impl Fn() + Sync + Send + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(check);
    }

    #[test]
    fn items_arrive_in_order_whole_and_once() {
        bounded(|| hand_over_four(Ordering::Release));
    }

    #[test]
    #[should_panic(expected = "Causality violation")]
    fn loom_rejects_a_relaxed_publish() {
        bounded(|| hand_over_four(Ordering::Relaxed));
    }

    #[test]
    fn items_left_behind_are_dropped_once() {
        bounded(|| {
            let (mut producer, mut consumer) = ring::<Box<u32>>(2);
            let filling = thread::spawn(move || {
                let _ = producer.push(Box::new(1));
                producer.publish();
                let _ = producer.push(Box::new(2));
            });
            drop(consumer.pop());
            drop(consumer);
            filling.join().unwrap();
        });
    }
}
