//! What a queue needs of its ring, whose layout it does not know: split (`split.rs`) or packed
//! (`packed.rs`). Everything that touches a ring's memory is in these two, over the accesses at the
//! end of this file.
//!
//! A queue takes chains in the order in which they were made available and gives them back in that
//! order. So one kind of position serves both ends, and a chain's used entry lies where the driver
//! expects the next one in either layout.
//!
//! The driver writes to this memory while we read it. Each access is one atomic load or store
//! through a pointer that was checked, for its whole extent, when the ring was set up; no value from
//! the guest can lead outside. Numbers are little-endian: VIRTIO's order, and that of every legacy
//! guest served.

#![allow(unsafe_code)]

mod packed;
pub(crate) mod split;

use std::fmt::Debug;
use std::ptr;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::chain::Walk;
use crate::memory::Piece;
use crate::region::HostAddress;
use crate::setup::{RingPart, SetupError, VringSetup};
use crate::{MemoryMap, QueueFault, VringLog};

pub(crate) use packed::Packed;
pub(crate) use split::Split;

/// `VIRTQ_DESC_F_NEXT` (2.7.5, 2.8.2).
pub(crate) const DESCRIPTOR_NEXT: u16 = 1;
/// `VIRTQ_DESC_F_WRITE` (2.7.5, 2.8.3).
pub(crate) const DESCRIPTOR_WRITE: u16 = 2;
/// `VIRTQ_DESC_F_INDIRECT` (2.7.5, 2.8.7).
pub(crate) const DESCRIPTOR_INDIRECT: u16 = 4;

/// Bytes of a descriptor, in either ring and in indirect tables.
pub(crate) const DESCRIPTOR_BYTES: u32 = 16;

/// Descriptors of a cache line.
#[expect(clippy::cast_possible_truncation, reason = "four")]
pub(crate) const DESCRIPTORS_A_LINE: u16 =
    (frame::CACHE_LINE_BYTES / DESCRIPTOR_BYTES as usize) as u16;

/// A ring in guest memory, each of its parts wholly inside one region.
///
/// Whoever holds it also holds the [`MemoryMap`] it was made with.
pub(crate) trait Ring: Debug + Sized {
    /// A chain's number, and where it starts in the ring.
    type Position: Position;

    /// What giving a chain back takes, beside its position.
    type Head: Copy + Debug + Default;

    /// Finds the ring in memory.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if a part is not inside one region or not aligned, or for a size that such a
    /// ring cannot have.
    ///
    /// # Safety
    ///
    /// The caller keeps `setup.memory` as long as the ring.
    unsafe fn new(setup: &VringSetup) -> Result<Self, SetupError>;

    /// Where to begin, by what SET_VRING_BASE said.
    ///
    /// # Errors
    ///
    /// [`SetupError::BaseOutsideRing`].
    fn start(&self, base: u32) -> Result<Self::Position, SetupError>;

    /// The position of the chain behind this one.
    fn after(&self, position: Self::Position, head: Self::Head) -> Self::Position;

    /// At most how many chains lie ready from `next` on; zero only if there is none.
    ///
    /// # Errors
    ///
    /// [`QueueFault::TooManyAvailable`] if it is more than a ring full, counted from `published`,
    /// up to which chains went back to the driver.
    fn available(&self, published: Self::Position, next: Self::Position)
    -> Result<u16, QueueFault>;

    /// Says whether a chain is available at `next`. One load.
    fn has_available(&self, next: Self::Position) -> bool;

    /// About how many chains are available from `next` on, up to `limit`.
    fn estimate_available(&self, next: Self::Position, limit: u16) -> u16;

    /// Walks the chain at `next`; `None` if it is not available after all. `published` is as in
    /// [`available`](Self::available).
    ///
    /// # Errors
    ///
    /// [`QueueFault`] at the first breach; pieces may have been handed over before.
    fn walk<Sink: FnMut(Piece)>(
        &self,
        published: Self::Position,
        next: Self::Position,
        walk: &mut Walk<'_, Sink>,
    ) -> Result<Option<Self::Head>, QueueFault>;

    /// The chain at `next` if it is there and a single descriptor, indirect or not; what else it may
    /// be is for [`walk`](Self::walk) to say. Up to `published` chains went back to the driver.
    fn single(
        &self,
        published: Self::Position,
        next: Self::Position,
    ) -> Option<(Self::Head, Descriptor)>;

    /// Asks the processor for the `count` chains from `next` on.
    fn prefetch_chains(&self, next: Self::Position, count: u16);

    /// The same for the chain `ahead` behind `next`.
    fn prefetch_chain(&self, next: Self::Position, ahead: u16);

    /// Asks the processor for the used entries from `next` on, which are about to be written.
    fn prefetch_used(&self, next: Self::Position, count: u16);

    /// Writes the used entry of a chain. Not visible before [`publish_used`](Self::publish_used).
    fn set_used(&mut self, position: Self::Position, head: Self::Head, written_bytes: u32);

    /// Gives the driver every chain before `next`.
    fn publish_used(&mut self, next: Self::Position);

    /// Asks the processor for what [`is_awaited`](Self::is_awaited) reads.
    fn prefetch_awaited(&self);

    /// Says whether the driver wants to be told that chains from `old` to `new` went back to it.
    fn is_awaited(&self, old: Self::Position, new: Self::Position) -> bool;

    /// Asks the driver for a notification of the chain at `next`.
    fn ask_for_notification(&self, next: Self::Position);

    /// Tells the driver that notifications are not needed.
    fn decline_notifications(&self, next: Self::Position);

    /// Marks what was written to give the chains from `old` to `new` back, of which there are some.
    fn log_used(&self, log: &VringLog, map: &MemoryMap, old: Self::Position, new: Self::Position);

    /// Marks where it is said which notifications are needed.
    fn log_events(&self, log: &VringLog);
}

/// See [`Ring::Position`].
pub(crate) trait Position: Copy + Debug + PartialEq {
    /// Runs freely: one more for each chain.
    fn number(self) -> u16;

    /// As SET_VRING_BASE and GET_VRING_BASE have it.
    fn base(self) -> u32;
}

/// A copy of a descriptor of a split ring, or of an indirect table. Nothing about it was checked.
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

    /// The same of a packed ring, where an id stands in front of the flags: it is `next` then.
    #[inline]
    const fn from_packed_words(address: u64, rest: u64) -> Self {
        let Self { address, length_bytes, flags: id, next: flags } =
            Self::from_words(address, rest);
        Self { address, length_bytes, flags, next: id }
    }

    /// Reads a descriptor of an indirect table, which need not be aligned.
    ///
    /// # Safety
    ///
    /// 16 bytes at `at` are mapped and readable.
    #[inline]
    pub(crate) unsafe fn read(at: HostAddress) -> Self {
        // SAFETY: the caller's promise.
        let [address, rest] = unsafe { read_words(at) };
        Self::from_words(address, rest)
    }

    /// The same, of a table that belongs to a packed ring.
    ///
    /// # Safety
    ///
    /// 16 bytes at `at` are mapped and readable.
    #[inline]
    pub(crate) unsafe fn read_packed(at: HostAddress) -> Self {
        // SAFETY: the caller's promise.
        let [address, rest] = unsafe { read_words(at) };
        Self::from_packed_words(address, rest)
    }
}

/// Copies two words, which need not be aligned.
///
/// # Safety
///
/// 16 bytes at `at` are mapped and readable.
#[inline]
unsafe fn read_words(at: HostAddress) -> [u64; 2] {
    let mut words = [0u64; 2];
    let to = words.as_mut_ptr().cast::<u8>();
    // SAFETY: `at` is readable for 16 bytes by the caller's promise, and `words` is a local of 16
    // bytes.
    unsafe { ptr::copy_nonoverlapping(at.0.cast_const(), to, DESCRIPTOR_BYTES as usize) };
    words
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

/// Loads from guest memory; see [`load_u16`].
///
/// # Safety
///
/// `at` is mapped and aligned to 4.
#[inline]
unsafe fn load_u32(at: *mut u8) -> u32 {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u32>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU32::from_ptr(at) }.load(Ordering::Relaxed)
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
unsafe fn load_u64(at: *mut u8, order: Ordering) -> u64 {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u64>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU64::from_ptr(at) }.load(order)
}

/// Stores to guest memory; see [`load_u16`].
///
/// # Safety
///
/// `at` is mapped and aligned to 8.
#[inline]
unsafe fn store_u64(at: *mut u8, number: u64) {
    #[expect(clippy::cast_ptr_alignment, reason = "the caller's promise")]
    let at = at.cast::<u64>();
    // SAFETY: the caller's promise; the memory outlives this expression.
    unsafe { AtomicU64::from_ptr(at) }.store(number, Ordering::Relaxed);
}
