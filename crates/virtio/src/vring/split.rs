//! A split ring: a table of descriptors and two rings of heads (VIRTIO 1.2, 2.7).
//!
//! ```text
//!   descriptor table   16 bytes each: address 8, length 4, flags 2, next 2        (2.7.5)
//!   available ring     flags 2, idx 2, size × head 2, used_event 2                (2.7.6)
//!   used ring          flags 2, idx 2, size × (id 4, len 4), avail_event 2        (2.7.8)
//! ```
//!
//! Indices run freely and are masked, so that no value from the guest can lead outside.
//!
//! Orders: `avail_idx` is loaded with Acquire, so that the heads and descriptors it covers are
//! seen; `used_idx` is stored with Release, so that the driver sees the entries and the bytes of
//! the frames it covers. All else is Relaxed.

#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use frame::{CACHE_LINE_BYTES, prefetch, prefetch_for_writing};

use super::{
    DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTORS_A_LINE, Descriptor,
    Position, Ring, find, load_u16, load_u64, store_u16, store_u32,
};
use crate::chain::Walk;
use crate::memory::Piece;
use crate::region::HostAddress;
use crate::setup::{RingPart, SetupError, VringSetup};
use crate::{Features, MemoryMap, QueueFault, QueueSize, VringLog, needs_notification};

/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (2.7.6).
pub(crate) const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY` (2.7.8).
pub(crate) const NO_NOTIFY: u16 = 1;

/// Bytes of an entry of the used ring.
const USED_ENTRY_BYTES: usize = 8;
/// Bytes before the entries of the available and of the used ring: flags and idx.
const RING_HEADER_BYTES: usize = 4;

/// A split ring in guest memory.
#[derive(Debug)]
pub(crate) struct Split {
    descriptors: HostAddress,
    available: HostAddress,
    used: HostAddress,
    size: QueueSize,
    has_event_index: bool,
}

/// A free-running index: of the available ring, and of the used ring as well.
impl Position for u16 {
    #[inline]
    fn number(self) -> u16 {
        self
    }

    fn base(self) -> u32 {
        self.into()
    }
}

impl Ring for Split {
    type Position = u16;
    /// Index of the first descriptor.
    type Head = u16;

    unsafe fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let (memory, addresses) = (&setup.memory, &setup.addresses);
        let size = setup.size;
        if !size.get().is_power_of_two() {
            return Err(SetupError::SizeNotPowerOfTwo { size });
        }
        let entries = u64::from(size.get());
        let has_event_index = setup.features.contains(Features::RING_EVENT_IDX);
        let event = if has_event_index { 2 } else { 0 };
        let (table, available, used) =
            (RingPart::DescriptorTable, RingPart::AvailableRing, RingPart::UsedRing);
        let available_bytes = 4 + 2 * entries + event;
        Ok(Self {
            descriptors: find(memory, table, addresses.descriptor_table, 16 * entries, 16)?,
            available: find(memory, available, addresses.available_ring, available_bytes, 2)?,
            used: find(memory, used, addresses.used_ring, 4 + 8 * entries + event, 4)?,
            size,
            has_event_index,
        })
    }

    /// The used index that lies in the ring wins over what the front end says: every chain from there
    /// on is still owed to the driver, because we give back in order. Cloud Hypervisor sends
    /// `avail_idx` after a reconnect, which would lose every buffer the guest has posted.
    fn start(&self, _base: u32) -> Result<u16, SetupError> {
        Ok(self.used_index())
    }

    #[inline]
    fn after(&self, position: u16, _head: u16) -> u16 {
        position.wrapping_add(1)
    }

    #[inline]
    fn available(&self, published: u16, next: u16) -> Result<u16, QueueFault> {
        let size = self.size;
        let index = self.available_index();
        let ahead = index.wrapping_sub(published);
        // What was taken is part of it: an index that went backwards shows here as well.
        if ahead > size.get() || ahead < next.wrapping_sub(published) {
            return Err(QueueFault::TooManyAvailable { ahead, size });
        }
        Ok(index.wrapping_sub(next))
    }

    #[inline]
    fn has_available(&self, next: u16) -> bool {
        self.available_index() != next
    }

    #[inline]
    fn estimate_available(&self, next: u16, limit: u16) -> u16 {
        self.available_index().wrapping_sub(next).min(limit)
    }

    #[inline]
    fn walk<Sink: FnMut(Piece)>(
        &self,
        _published: u16,
        next: u16,
        walk: &mut Walk<'_, Sink>,
    ) -> Result<Option<u16>, QueueFault> {
        let head = self.available_head(next);
        let mut index = head;
        loop {
            let descriptor = self.descriptor(index).ok_or(QueueFault::IndexOutOfRange {
                index,
                entries: u32::from(self.size.get()),
            })?;
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                walk.check_indirect(index, descriptor)?;
                walk.linked_table(head, descriptor)?;
                return Ok(Some(head));
            }
            walk.direct(index, descriptor)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(Some(head));
            }
            walk.check_length(head)?;
            index = descriptor.next;
        }
    }

    #[inline(always)]
    fn single(&self, _published: u16, next: u16) -> Option<(u16, Descriptor)> {
        let head = self.available_head(next);
        let descriptor = self.descriptor(head)?;
        (descriptor.flags & DESCRIPTOR_NEXT == 0).then_some((head, descriptor))
    }

    #[inline]
    fn prefetch_chains(&self, next: u16, count: u16) {
        // Most drivers take heads one after the other.
        for ahead in (0..count).step_by(DESCRIPTORS_A_LINE.into()) {
            self.prefetch_chain(next, ahead);
        }
    }

    #[inline]
    fn prefetch_chain(&self, next: u16, ahead: u16) {
        let head = self.available_head(next.wrapping_add(ahead));
        let offset = self.place(head) * DESCRIPTOR_BYTES as usize;
        prefetch(self.descriptors.0.wrapping_add(offset));
    }

    #[inline]
    fn prefetch_used(&self, next: u16, count: u16) {
        let step = CACHE_LINE_BYTES / USED_ENTRY_BYTES;
        for ahead in (0..=count).step_by(step) {
            let place = self.place(next.wrapping_add(ahead));
            let at = self.used.0.wrapping_add(RING_HEADER_BYTES + USED_ENTRY_BYTES * place);
            prefetch_for_writing(at);
        }
    }

    #[inline]
    fn set_used(&mut self, position: u16, head: u16, written_bytes: u32) {
        let place = self.place(position);
        let at = self.used.0.wrapping_add(RING_HEADER_BYTES + USED_ENTRY_BYTES * place);
        // SAFETY: the place is masked, so this is inside the used ring, as `find` checked; an
        // entry is aligned to 4 because the ring is.
        unsafe { store_u32(at, u32::from(head).to_le()) };
        // SAFETY: as above: an entry has 8 bytes.
        unsafe { store_u32(at.wrapping_add(4), written_bytes.to_le()) };
    }

    #[inline]
    fn publish_used(&mut self, next: u16) {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        unsafe { store_u16(self.used.0.wrapping_add(2), next.to_le(), Ordering::Release) };
    }

    #[inline]
    fn prefetch_awaited(&self) {
        prefetch(self.available.0);
    }

    #[inline]
    fn is_awaited(&self, old: u16, new: u16) -> bool {
        if self.has_event_index {
            needs_notification(self.used_event(), old, new)
        } else {
            self.available_flags() & NO_INTERRUPT == 0
        }
    }

    fn ask_for_notification(&self, next: u16) {
        if self.has_event_index { self.set_available_event(next) } else { self.set_used_flags(0) }
    }

    fn decline_notifications(&self, next: u16) {
        if self.has_event_index {
            // An entry that is behind us: the driver passes it only after a whole round of
            // 65,536, and one notification too many does no harm.
            self.set_available_event(next.wrapping_sub(1));
        } else {
            self.set_used_flags(NO_NOTIFY);
        }
    }

    #[cold]
    fn log_used(&self, log: &VringLog, _map: &MemoryMap, old: u16, new: u16) {
        let (place, count) = (self.place(old), usize::from(new.wrapping_sub(old)));
        let in_this_round = count.min(usize::from(self.size.get()) - place);
        let start = RING_HEADER_BYTES + USED_ENTRY_BYTES * place;
        log.mark_used_ring(start, USED_ENTRY_BYTES * in_this_round);
        log.mark_used_ring(RING_HEADER_BYTES, USED_ENTRY_BYTES * (count - in_this_round));
        // The index.
        log.mark_used_ring(0, RING_HEADER_BYTES);
    }

    #[cold]
    fn log_events(&self, log: &VringLog) {
        if self.has_event_index {
            let entries = USED_ENTRY_BYTES * usize::from(self.size.get());
            log.mark_used_ring(RING_HEADER_BYTES + entries, 2);
        } else {
            log.mark_used_ring(0, RING_HEADER_BYTES);
        }
    }
}

impl Split {
    /// The place of a free-running index in a ring.
    #[inline]
    const fn place(&self, index: u16) -> usize {
        (index & self.size.mask()) as usize
    }

    /// A copy of a descriptor of the table; `None` if the index is past its end.
    #[inline]
    fn descriptor(&self, index: u16) -> Option<Descriptor> {
        if index >= self.size.get() {
            return None;
        }
        let at = self.descriptors.0.wrapping_add(usize::from(index) * DESCRIPTOR_BYTES as usize);
        // SAFETY: the index is inside the table, whose extent and alignment `find` checked.
        let address = unsafe { load_u64(at, Ordering::Relaxed) };
        // SAFETY: as above: a descriptor has 16 bytes.
        let rest = unsafe { load_u64(at.wrapping_add(8), Ordering::Relaxed) };
        Some(Descriptor::from_words(address, rest))
    }

    /// The driver's index, and with it all that it wrote before.
    #[inline]
    fn available_index(&self) -> u16 {
        // SAFETY: inside the available ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(2), Ordering::Acquire) })
    }

    /// The head that the driver put at a free-running index.
    #[inline]
    fn available_head(&self, index: u16) -> u16 {
        let offset = RING_HEADER_BYTES + 2 * self.place(index);
        // SAFETY: the place is masked, so this is inside the available ring, as `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(offset), Ordering::Relaxed) })
    }

    /// The driver's flags.
    #[inline]
    fn available_flags(&self) -> u16 {
        // SAFETY: inside the available ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0, Ordering::Relaxed) })
    }

    /// The used entry that the driver waits for. Only with EVENT_IDX.
    #[inline]
    fn used_event(&self) -> u16 {
        let offset = RING_HEADER_BYTES + 2 * usize::from(self.size.get());
        // SAFETY: behind the last entry; with EVENT_IDX, `find` checked these two bytes as well.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(offset), Ordering::Relaxed) })
    }

    /// The index of the used ring as it lies in memory. Read once, when a queue is set up.
    fn used_index(&self) -> u16 {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.used.0.wrapping_add(2), Ordering::Acquire) })
    }

    /// Our flags.
    fn set_used_flags(&self, flags: u16) {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        unsafe { store_u16(self.used.0, flags.to_le(), Ordering::Relaxed) };
    }

    /// The available entry that we wait for. Only with EVENT_IDX.
    fn set_available_event(&self, index: u16) {
        let offset = RING_HEADER_BYTES + USED_ENTRY_BYTES * usize::from(self.size.get());
        // SAFETY: behind the last entry; with EVENT_IDX, `find` checked these two bytes as well.
        unsafe { store_u16(self.used.0.wrapping_add(offset), index.to_le(), Ordering::Relaxed) };
    }
}
