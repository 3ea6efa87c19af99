//! The three parts of a split ring as this process sees them, and every access to them.
//!
//! ```text
//!   descriptor table   16 bytes each: address 8, length 4, flags 2, next 2        (2.7.5)
//!   available ring     flags 2, idx 2, size × head 2, used_event 2                (2.7.6)
//!   used ring          flags 2, idx 2, size × (id 4, len 4), avail_event 2        (2.7.8)
//! ```
//!
//! The driver writes to this memory while we read it. Each access here is one atomic load or
//! store through a pointer that was checked, for its whole extent, when the ring was set up;
//! indices are masked, so that no value from the guest can lead outside. Numbers are
//! little-endian: VIRTIO's order, and that of every legacy guest served.
//!
//! Orders: `avail_idx` is loaded with Acquire, so that the heads and descriptors it covers are
//! seen; `used_idx` is stored with Release, so that the driver sees the entries and the bytes of
//! the frames it covers. All else is Relaxed.

#![allow(unsafe_code)]

use std::ptr;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::region::HostAddress;
use crate::setup::{RingPart, SetupError, VringSetup};
use crate::{Features, MemoryMap, QueueSize};

/// `VIRTQ_DESC_F_NEXT` (2.7.5).
pub(crate) const DESCRIPTOR_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE` (2.7.5).
pub(crate) const DESCRIPTOR_WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT` (2.7.5).
pub(crate) const DESCRIPTOR_INDIRECT: u16 = 4;
/// `VIRTQ_AVAIL_F_NO_INTERRUPT` (2.7.6).
pub(crate) const NO_INTERRUPT: u16 = 1;
/// `VIRTQ_USED_F_NO_NOTIFY` (2.7.8).
pub(crate) const NO_NOTIFY: u16 = 1;

/// Bytes of a descriptor, in the table and in indirect ones.
pub(crate) const DESCRIPTOR_BYTES: u32 = 16;

/// Bytes of an entry of the used ring.
const USED_ENTRY_BYTES: usize = 8;
/// Bytes before the entries of the available and of the used ring: flags and idx.
const RING_HEADER_BYTES: usize = 4;

/// A copy of a descriptor. Nothing about it was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Descriptor {
    pub(crate) address: u64,
    pub(crate) length_bytes: u32,
    pub(crate) flags: u16,
    pub(crate) next: u16,
}

impl Descriptor {
    #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
    #[inline]
    const fn from_words(address: u64, rest: u64) -> Self {
        let (address, rest) = (u64::from_le(address), u64::from_le(rest));
        Self {
            address,
            length_bytes: rest as u32,
            flags: (rest >> 32) as u16,
            next: (rest >> 48) as u16,
        }
    }

    /// Reads a descriptor of an indirect table, which need not be aligned.
    ///
    /// # Safety
    ///
    /// 16 bytes at `at` are mapped and readable.
    #[inline]
    pub(crate) unsafe fn read(at: HostAddress) -> Self {
        let mut words = [0u64; 2];
        let to = words.as_mut_ptr().cast::<u8>();
        // SAFETY: `at` is readable for 16 bytes by the caller's promise, and `words` is a local
        // of 16 bytes.
        unsafe { ptr::copy_nonoverlapping(at.0.cast_const(), to, DESCRIPTOR_BYTES as usize) };
        Self::from_words(words[0], words[1])
    }
}

/// A ring whose three parts lie in guest memory, each wholly inside one region.
///
/// Whoever holds it also holds the [`MemoryMap`] it was made with.
#[derive(Debug)]
pub(crate) struct Vring {
    descriptors: HostAddress,
    available: HostAddress,
    used: HostAddress,
    size: QueueSize,
}

impl Vring {
    /// Finds the ring in memory.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if a part is not inside one region or not aligned.
    ///
    /// # Safety
    ///
    /// The caller keeps `setup.memory` as long as the `Vring`.
    pub(crate) unsafe fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let (memory, addresses) = (&setup.memory, &setup.addresses);
        let entries = u64::from(setup.size.get());
        let event = if setup.features.contains(Features::RING_EVENT_IDX) { 2 } else { 0 };
        let (table, available, used) =
            (RingPart::DescriptorTable, RingPart::AvailableRing, RingPart::UsedRing);
        Ok(Self {
            descriptors: find(memory, table, addresses.descriptor_table, 16 * entries, 16)?,
            available: find(
                memory,
                available,
                addresses.available_ring,
                4 + 2 * entries + event,
                2,
            )?,
            used: find(memory, used, addresses.used_ring, 4 + 8 * entries + event, 4)?,
            size: setup.size,
        })
    }

    /// Number of descriptors.
    #[inline]
    pub(crate) const fn size(&self) -> QueueSize {
        self.size
    }

    /// The place of a free-running index in a ring.
    #[inline]
    const fn place(&self, index: u16) -> usize {
        (index & self.size.mask()) as usize
    }

    /// A copy of a descriptor of the table; `None` if the index is past its end.
    #[inline]
    pub(crate) fn descriptor(&self, index: u16) -> Option<Descriptor> {
        if index >= self.size.get() {
            return None;
        }
        let at = self.descriptors.0.wrapping_add(usize::from(index) * DESCRIPTOR_BYTES as usize);
        // SAFETY: the index is inside the table, whose extent and alignment `find` checked.
        let address = unsafe { load_u64(at) };
        // SAFETY: as above: a descriptor has 16 bytes.
        let rest = unsafe { load_u64(at.wrapping_add(8)) };
        Some(Descriptor::from_words(address, rest))
    }

    /// Asks the processor for a descriptor of the table. Any index is allowed.
    #[inline]
    pub(crate) fn prefetch_descriptor(&self, index: u16) {
        let offset = self.place(index) * DESCRIPTOR_BYTES as usize;
        prefetch(HostAddress(self.descriptors.0.wrapping_add(offset)));
    }

    /// The driver's index, and with it all that it wrote before.
    #[inline]
    pub(crate) fn available_index(&self) -> u16 {
        // SAFETY: inside the available ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(2), Ordering::Acquire) })
    }

    /// The head that the driver put at a free-running index.
    #[inline]
    pub(crate) fn available_head(&self, index: u16) -> u16 {
        let offset = RING_HEADER_BYTES + 2 * self.place(index);
        // SAFETY: the place is masked, so this is inside the available ring, as `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(offset), Ordering::Relaxed) })
    }

    /// Asks the processor for the line that holds the driver's flags, and its index.
    #[inline]
    pub(crate) fn prefetch_driver_flags(&self) {
        prefetch(self.available);
    }

    /// The driver's flags.
    #[inline]
    pub(crate) fn available_flags(&self) -> u16 {
        // SAFETY: inside the available ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.available.0, Ordering::Relaxed) })
    }

    /// The used entry that the driver waits for. Only with EVENT_IDX.
    #[inline]
    pub(crate) fn used_event(&self) -> u16 {
        let offset = RING_HEADER_BYTES + 2 * usize::from(self.size.get());
        // SAFETY: behind the last entry; with EVENT_IDX, `find` checked these two bytes as well.
        u16::from_le(unsafe { load_u16(self.available.0.wrapping_add(offset), Ordering::Relaxed) })
    }

    /// The index of the used ring as it lies in memory. Read once, when a queue is set up.
    pub(crate) fn used_index(&self) -> u16 {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        u16::from_le(unsafe { load_u16(self.used.0.wrapping_add(2), Ordering::Acquire) })
    }

    /// Writes an entry of the used ring. Not visible before [`publish_used`](Self::publish_used).
    #[inline]
    pub(crate) fn set_used(&self, index: u16, head: u16, written_bytes: u32) {
        let at = self.used.0.wrapping_add(RING_HEADER_BYTES + USED_ENTRY_BYTES * self.place(index));
        // SAFETY: the place is masked, so this is inside the used ring, as `find` checked; an
        // entry is aligned to 4 because the ring is.
        unsafe { store_u32(at, u32::from(head).to_le()) };
        // SAFETY: as above: an entry has 8 bytes.
        unsafe { store_u32(at.wrapping_add(4), written_bytes.to_le()) };
    }

    /// Asks the processor for the used entries from `index` on, which are about to be written.
    #[inline]
    pub(crate) fn prefetch_used(&self, index: u16, count: u16) {
        let step = CACHE_LINE_BYTES / USED_ENTRY_BYTES;
        for ahead in (0..=count).step_by(step) {
            let place = self.place(index.wrapping_add(ahead));
            let at = self.used.0.wrapping_add(RING_HEADER_BYTES + USED_ENTRY_BYTES * place);
            prefetch_line_for_writing(HostAddress(at));
        }
    }

    /// Gives the driver every used entry before `index`.
    #[inline]
    pub(crate) fn publish_used(&self, index: u16) {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        unsafe { store_u16(self.used.0.wrapping_add(2), index.to_le(), Ordering::Release) };
    }

    /// Our flags.
    pub(crate) fn set_used_flags(&self, flags: u16) {
        // SAFETY: inside the used ring, whose extent and alignment `find` checked.
        unsafe { store_u16(self.used.0, flags.to_le(), Ordering::Relaxed) };
    }

    /// The available entry that we wait for. Only with EVENT_IDX.
    pub(crate) fn set_available_event(&self, index: u16) {
        let offset = RING_HEADER_BYTES + USED_ENTRY_BYTES * usize::from(self.size.get());
        // SAFETY: behind the last entry; with EVENT_IDX, `find` checked these two bytes as well.
        unsafe { store_u16(self.used.0.wrapping_add(offset), index.to_le(), Ordering::Relaxed) };
    }
}

/// Finds a part of the ring and checks its extent and alignment.
fn find(
    memory: &MemoryMap,
    part: RingPart,
    user_address: u64,
    length_bytes: u64,
    alignment: usize,
) -> Result<HostAddress, SetupError> {
    let found = memory
        .resolve_user(user_address, length_bytes)
        .ok_or(SetupError::RingOutsideMemory { part, user_address })?;
    if found.0.addr().is_multiple_of(alignment) {
        Ok(found)
    } else {
        Err(SetupError::Misaligned { part, user_address })
    }
}

/// Loads from guest memory. The reference inside lives for the load alone, and is to an atomic,
/// which others may change.
///
/// # Safety
///
/// `at` is mapped and aligned to 2.
#[inline]
pub(crate) unsafe fn load_u16(at: *mut u8, order: Ordering) -> u16 {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u16>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU16::from_ptr(at) }.load(order)
}

/// Stores to guest memory; see [`load_u16`].
///
/// # Safety
///
/// `at` is mapped and aligned to 2.
#[inline]
pub(crate) unsafe fn store_u16(at: *mut u8, number: u16, order: Ordering) {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u16>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU16::from_ptr(at) }.store(number, order);
}

/// Stores to guest memory; see [`load_u16`].
///
/// # Safety
///
/// `at` is mapped and aligned to 4.
#[inline]
unsafe fn store_u32(at: *mut u8, number: u32) {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u32>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU32::from_ptr(at) }.store(number, Ordering::Relaxed);
}

/// Loads from guest memory; see [`load_u16`].
///
/// # Safety
///
/// `at` is mapped and aligned to 8.
#[inline]
unsafe fn load_u64(at: *mut u8) -> u64 {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u64>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU64::from_ptr(at) }.load(Ordering::Relaxed)
}

/// Asks the processor for a cache line of guest memory.
#[inline]
pub(crate) fn prefetch(at: HostAddress) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is a hint; it never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.0.cast_const().cast::<i8>()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Bytes of a cache line on the processors this runs on.
pub(crate) const CACHE_LINE_BYTES: usize = 64;

/// Asks the processor for the first cache lines of a buffer that is about to be written: as many
/// as a small frame and its net header take, two at most.
#[inline]
pub(crate) fn prefetch_for_writing(at: HostAddress, length_bytes: u32) {
    prefetch_line_for_writing(at);
    let next = (length_bytes as usize - 1).min(CACHE_LINE_BYTES);
    prefetch_line_for_writing(HostAddress(at.0.wrapping_add(next)));
}

/// Asks the processor for a cache line that is about to be written.
#[inline]
fn prefetch_line_for_writing(at: HostAddress) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it never faults, whatever the address, and processors that do
    // not know this one take it for a NOP.
    unsafe {
        std::arch::asm!("prefetchw [{}]", in(reg) at.0, options(nostack, preserves_flags));
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
