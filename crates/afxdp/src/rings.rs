//! The four rings between an AF_XDP socket and the kernel (linux/if_xdp.h; af_xdp.rst, "Rings").
//!
//! Each is single producer, single consumer, in memory that both sides have mapped. Indices run
//! freely and wrap at `u32::MAX`; the low bits choose the slot, and the wrapped difference is the
//! number of filled slots.
//!
//! ```text
//!   fill, tx             Producer (we fill)   ──▶  kernel empties
//!   rx, completion       Consumer (we empty)  ◀──  kernel fills
//! ```
//!
//! Our own index is kept privately and published once for a burst; the kernel's is read only when
//! the copy that was last seen says that there is nothing to do. The kernel's index is not trusted
//! further than the ring is long.

#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::sys::Mapping;

/// What lies in the rx and tx rings. `struct xdp_desc` with a `Default`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) length_bytes: u32,
    pub(crate) options: u32,
}

const _: () = assert!(size_of::<Descriptor>() == size_of::<libc::xdp_desc>());

/// What may lie in a slot.
pub(crate) trait Slot: Copy {}
impl Slot for u64 {}
impl Slot for Descriptor {}

/// A mapped ring: where its parts lie.
#[derive(Debug)]
struct Shared<T> {
    mapping: Mapping,
    producer_at: usize,
    consumer_at: usize,
    flags_at: usize,
    slots_at: usize,
    /// Slots; a power of two.
    size: u32,
    slots: PhantomData<fn(T) -> T>,
}

/// Bytes from the start of a ring's mapping to the end of its slots.
pub(crate) fn mapping_bytes<T>(offsets: &libc::xdp_ring_offset, size: u32) -> usize {
    usize::try_from(offsets.desc).unwrap_or(usize::MAX) + size as usize * size_of::<T>()
}

impl<T: Slot> Shared<T> {
    /// # Panics
    ///
    /// If the kernel's offsets lie outside the mapping or are not aligned, or the size is no power
    /// of two: set-up code only, and a kernel that does this is not one to run on.
    fn new(mapping: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let at = |offset: u64, length: usize, align: usize| {
            let offset = usize::try_from(offset).expect("the offset fits the address space");
            let end = offset.checked_add(length).expect("the offset is small");
            assert!(end <= mapping.length_bytes() && offset.is_multiple_of(align));
            offset
        };
        assert!(size.is_power_of_two());
        let (producer_at, consumer_at) = (at(offsets.producer, 4, 4), at(offsets.consumer, 4, 4));
        let flags_at = at(offsets.flags, 4, 4);
        let slots_at = at(offsets.desc, size as usize * size_of::<T>(), align_of::<T>());
        Self { mapping, producer_at, consumer_at, flags_at, slots_at, size, slots: PhantomData }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        let place = self.mapping.start().wrapping_add(at).cast::<u32>();
        // SAFETY: `new` found `at` inside the mapping and aligned (the mapping is page-aligned);
        // the mapping lives as long as `self`, and both sides access these words atomically.
        unsafe { AtomicU32::from_ptr(place) }
    }

    fn slot(&self, index: u32) -> *mut T {
        let slot = (index & (self.size - 1)) as usize;
        self.mapping.start().wrapping_add(self.slots_at).cast::<T>().wrapping_add(slot)
    }

    /// What lies in the slots between the consumer's index and the producer's.
    fn items(&self) -> Vec<T> {
        // Acquire: pairs with the Release store of whoever fills the slots. That of the consumer
        // needs no order: a slot that was emptied meanwhile is read as it was.
        let filled_to = self.word(self.producer_at).load(Ordering::Acquire);
        let emptied_to = self.word(self.consumer_at).load(Ordering::Relaxed);
        let count = filled_to.wrapping_sub(emptied_to);
        let indices =
            (0..if count > self.size { 0 } else { count }).map(|at| emptied_to.wrapping_add(at));
        // SAFETY: `slot` masks the index, so the slot lies inside the mapping; it is filled, and is
        // not filled anew before the caller goes on. Slots are plain integers.
        indices.map(|index| unsafe { self.slot(index).read_volatile() }).collect()
    }

    /// `XDP_RING_NEED_WAKEUP`: the kernel looks at the ring only when called.
    fn needs_wakeup(&self) -> bool {
        // Relaxed: a hint; after a publishing store that this load could overtake, see `submit`.
        self.word(self.flags_at).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }
}

/// Our side of the fill or the tx ring.
#[derive(Debug)]
pub(crate) struct Producer<T> {
    ring: Shared<T>,
    /// Next slot to fill.
    next: u32,
    /// `next` as last published.
    published: u32,
    /// The kernel's index when last looked at.
    seen: u32,
}

impl<T: Slot> Producer<T> {
    /// The ring in this mapping.
    pub(crate) fn new(mapping: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let mut ring =
            Self { ring: Shared::new(mapping, offsets, size), next: 0, published: 0, seen: 0 };
        ring.catch_up();
        ring
    }

    /// Goes on where another process has stopped.
    pub(crate) fn catch_up(&mut self) {
        // Relaxed: our side's index, which nobody moves: what the other process wrote came before
        // its message.
        self.next = self.ring.word(self.ring.producer_at).load(Ordering::Relaxed);
        self.published = self.next;
        self.look();
    }

    /// Says whether another process has filled slots.
    pub(crate) fn was_moved(&self) -> bool {
        self.ring.word(self.ring.producer_at).load(Ordering::Relaxed) != self.published
    }

    /// What the kernel has not taken, of what was published. For the control plane.
    pub(crate) fn items(&self) -> Vec<T> {
        self.ring.items()
    }

    /// Puts an item into the next slot; `false` if there is none. Not visible before `submit`.
    #[inline]
    pub(crate) fn push(&mut self, item: T) -> bool {
        if self.next.wrapping_sub(self.seen) >= self.ring.size {
            self.look();
            if self.next.wrapping_sub(self.seen) >= self.ring.size {
                return false;
            }
        }
        let slot = self.ring.slot(self.next);
        // SAFETY: `slot` masks the index, so the slot lies inside the mapping; it is between the
        // kernel's index and ours, where the kernel does not look.
        unsafe { slot.write(item) };
        self.next = self.next.wrapping_add(1);
        true
    }

    fn look(&mut self) {
        // Acquire: pairs with the kernel's Release store after it has read the slots
        // (`__xskq_cons_release`), so that we overwrite nothing it still reads.
        self.seen = self.ring.word(self.ring.consumer_at).load(Ordering::Acquire);
    }

    /// Publishes everything pushed, with one store. Returns whether there was something.
    #[inline]
    pub(crate) fn submit(&mut self) -> bool {
        if self.published == self.next {
            return false;
        }
        // SeqCst store and fence: the flag read in `needs_wakeup` must not overtake this store,
        // or the kernel could set the flag, miss the items and sleep while we see no flag. As a
        // Release it pairs with the kernel's Acquire load in `__xskq_cons_peek`.
        self.ring.word(self.ring.producer_at).store(self.next, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        self.published = self.next;
        true
    }

    /// Items published and not yet taken by the kernel.
    #[inline]
    pub(crate) fn pending(&self) -> u32 {
        // Relaxed: a count to act on, no slot is touched because of it.
        let taken = self.ring.word(self.ring.consumer_at).load(Ordering::Relaxed);
        self.published.wrapping_sub(taken)
    }

    /// Says whether the kernel has to be called to look at the ring.
    #[inline]
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.ring.needs_wakeup()
    }
}

/// Our side of the rx or the completion ring.
#[derive(Debug)]
pub(crate) struct Consumer<T> {
    ring: Shared<T>,
    /// Next slot to empty.
    next: u32,
    /// `next` as last published.
    published: u32,
    /// The kernel's index when last looked at.
    seen: u32,
}

impl<T: Slot> Consumer<T> {
    /// The ring in this mapping.
    pub(crate) fn new(mapping: Mapping, offsets: &libc::xdp_ring_offset, size: u32) -> Self {
        let mut ring =
            Self { ring: Shared::new(mapping, offsets, size), next: 0, published: 0, seen: 0 };
        ring.catch_up();
        ring
    }

    /// Goes on where another process has stopped.
    pub(crate) fn catch_up(&mut self) {
        // Relaxed: as for the producer.
        self.next = self.ring.word(self.ring.consumer_at).load(Ordering::Relaxed);
        (self.published, self.seen) = (self.next, self.next);
    }

    /// Says whether another process has emptied slots.
    pub(crate) fn was_moved(&self) -> bool {
        self.ring.word(self.ring.consumer_at).load(Ordering::Relaxed) != self.published
    }

    /// What was not taken yet, if all that was is released. For the control plane.
    pub(crate) fn items(&self) -> Vec<T> {
        self.ring.items()
    }

    /// Takes the next item, if there is one. Its slot is the kernel's again after `release`.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<T> {
        if self.next == self.seen {
            // Acquire: pairs with the kernel's Release store after it has written the slots
            // (`__xskq_prod_submit`), so that we read what it wrote.
            let produced = self.ring.word(self.ring.producer_at).load(Ordering::Acquire);
            let filled = produced.wrapping_sub(self.next);
            if filled == 0 || filled > self.ring.size {
                return None;
            }
            self.seen = produced;
        }
        let slot = self.ring.slot(self.next);
        // SAFETY: `slot` masks the index, so the slot lies inside the mapping; it is between our
        // index and the kernel's, where the kernel does not write. Slots are plain integers.
        let item = unsafe { slot.read() };
        self.next = self.next.wrapping_add(1);
        Some(item)
    }

    /// Gives the emptied slots back, with one store.
    #[inline]
    pub(crate) fn release(&mut self) {
        if self.published != self.next {
            // Release: pairs with the kernel's Acquire load in `xskq_prod_nb_free`: the slots
            // were read before they can be written again.
            self.ring.word(self.ring.consumer_at).store(self.next, Ordering::Release);
            self.published = self.next;
        }
    }

    /// Says whether there is an item.
    #[inline]
    pub(crate) fn has_items(&self) -> bool {
        // Acquire: pairs with the kernel's Release store, as in `pop`.
        self.ring.word(self.ring.producer_at).load(Ordering::Acquire) != self.next
    }
}

#[cfg(test)]
pub(crate) mod tests;
