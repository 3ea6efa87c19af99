//! Walking a chain of descriptors: from a head to checked pieces of guest memory.
//!
//! Each descriptor is copied, then the copy is checked and used. A chain runs through the table
//! and may end in one indirect descriptor, which stands for a chain in a table of its own
//! (2.7.5.3.2 allows direct ones before it):
//!
//! ```text
//!   head ─▶ [direct] ─▶ [direct] ─▶ [indirect] ─▶ table: [0] ─▶ [2] ─▶ [1]
//! ```
//!
//! What is lenient, because real drivers or the standard want it: a descriptor of length 0 is
//! skipped and its address never looked at; WRITE on an indirect descriptor is ignored
//! (2.7.5.3.2); an indirect table may be longer than the chain in it. What is strict: everything
//! that [`QueueFault`] names.
//!
//! Work is bounded: a chain has at most as many descriptors as the queue, and never more than
//! [`MAX_CHAIN`], so a loop ends there. Buffers behind the first [`ENOUGH_BYTES`] are counted
//! and not looked up, since no frame needs them: each could lie across hundreds of regions.

#![allow(unsafe_code)]

use crate::memory::{Piece, Translator};
use crate::vring::{
    DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, Descriptor, Vring,
};
use crate::{Features, GuestAddress, MemoryMap, QueueFault, SetupError, VringSetup};

use std::sync::Arc;

/// Most descriptors of a chain, on queues that are longer: as the Linux kernel's vhost and QEMU.
pub(crate) const MAX_CHAIN: u16 = 1_024;

/// More bytes than any frame has, by far.
const ENOUGH_BYTES: u64 = 1 << 20;

/// A ring together with the memory its descriptors point into.
#[derive(Debug)]
pub(crate) struct Chains {
    pub(crate) ring: Vring,
    memory: Translator,
    may_be_indirect: bool,
    /// Most descriptors of a chain.
    limit: u16,
}

/// What a walk found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Walked {
    /// Descriptors seen, including the indirect one.
    pub(crate) descriptors: u32,
    /// Bytes in device-readable buffers.
    pub(crate) readable_bytes: u64,
    /// Bytes in device-writable buffers.
    pub(crate) writable_bytes: u64,
}

/// Which buffers of a chain are wanted as pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The device-readable ones; writable ones may follow and are left alone.
    Readable,
    /// The device-writable ones; a readable one is a fault.
    Writable,
}

/// The state of a walk through the descriptors of one chain.
struct Walk<'a, Sink> {
    memory: &'a mut Translator,
    wanted: Wanted,
    sink: &'a mut Sink,
    walked: Walked,
    is_writable_part: bool,
}

impl Chains {
    /// The ring of this setup.
    ///
    /// # Errors
    ///
    /// As [`Vring::new`].
    pub(crate) fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        // SAFETY: `memory` below holds the map as long as `ring`.
        let ring = unsafe { Vring::new(setup) }?;
        Ok(Self {
            ring,
            memory: Translator::new(Arc::clone(&setup.memory)),
            may_be_indirect: setup.features.contains(Features::RING_INDIRECT_DESC),
            limit: setup.size.get().min(MAX_CHAIN),
        })
    }

    /// The memory.
    pub(crate) const fn map(&self) -> &Arc<MemoryMap> {
        self.memory.map()
    }

    /// Refuses to go on if a memory region was lost.
    #[inline]
    pub(crate) fn check_alive(&mut self) -> Result<(), QueueFault> {
        self.memory.check_alive()
    }

    /// How many chains the driver has made available from `next` on.
    ///
    /// # Errors
    ///
    /// [`QueueFault::TooManyAvailable`] if it has more than a ring full, counted from
    /// `published`, up to which chains went back to it.
    #[inline]
    pub(crate) fn available(&self, published: u16, next: u16) -> Result<u16, QueueFault> {
        let size = self.ring.size();
        let index = self.ring.available_index();
        let ahead = index.wrapping_sub(published);
        // What was taken is part of it: an index that went backwards shows here as well.
        if ahead > size.get() || ahead < next.wrapping_sub(published) {
            return Err(QueueFault::TooManyAvailable { ahead, size });
        }
        Ok(index.wrapping_sub(next))
    }

    /// Walks the chain from `head` and hands the pieces of its wanted buffers to `sink`.
    ///
    /// # Errors
    ///
    /// [`QueueFault`] at the first breach; pieces may have been handed over before.
    #[inline]
    pub(crate) fn walk<Sink: FnMut(Piece)>(
        &mut self,
        head: u16,
        wanted: Wanted,
        sink: &mut Sink,
    ) -> Result<Walked, QueueFault> {
        let Self { ring, memory, may_be_indirect, limit } = self;
        let mut walk =
            Walk { memory, wanted, sink, walked: Walked::default(), is_writable_part: false };
        let mut index = head;
        loop {
            let descriptor = ring.descriptor(index).ok_or(QueueFault::IndexOutOfRange {
                index,
                entries: u32::from(ring.size().get()),
            })?;
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                if !*may_be_indirect {
                    return Err(QueueFault::IndirectNotNegotiated { index });
                }
                if descriptor.flags & DESCRIPTOR_NEXT != 0 {
                    return Err(QueueFault::IndirectWithNext { index });
                }
                return walk.indirect(head, descriptor, *limit);
            }
            walk.direct(index, descriptor)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(walk.walked);
            }
            walk.check_length(head, *limit)?;
            index = descriptor.next;
        }
    }
}

impl<Sink: FnMut(Piece)> Walk<'_, Sink> {
    /// Takes one buffer.
    #[inline(always)]
    fn direct(&mut self, index: u16, descriptor: Descriptor) -> Result<(), QueueFault> {
        let Descriptor { address, length_bytes, flags, .. } = descriptor;
        self.walked.descriptors += 1;
        let is_enough = self.walked.readable_bytes + self.walked.writable_bytes > ENOUGH_BYTES;
        if flags & DESCRIPTOR_WRITE != 0 {
            self.is_writable_part = true;
            self.walked.writable_bytes += u64::from(length_bytes);
            if self.wanted == Wanted::Readable {
                return Ok(());
            }
        } else {
            if self.wanted == Wanted::Writable {
                return Err(QueueFault::NotWritable { index });
            }
            if self.is_writable_part {
                return Err(QueueFault::ReadableAfterWritable { index });
            }
            self.walked.readable_bytes += u64::from(length_bytes);
        }
        if is_enough {
            return Ok(());
        }
        self.memory.translate(address, length_bytes, &mut *self.sink)
    }

    /// Refuses to take one more descriptor than a chain may have.
    #[inline]
    fn check_length(&self, head: u16, limit: u16) -> Result<(), QueueFault> {
        if self.walked.descriptors < u32::from(limit) {
            Ok(())
        } else {
            Err(QueueFault::ChainTooLong { head, limit })
        }
    }

    /// Walks the chain in an indirect table, which is the rest of this chain.
    fn indirect(&mut self, head: u16, table: Descriptor, limit: u16) -> Result<Walked, QueueFault> {
        let Descriptor { address, length_bytes, .. } = table;
        if length_bytes == 0 || !length_bytes.is_multiple_of(DESCRIPTOR_BYTES) {
            return Err(QueueFault::IndirectLength { length_bytes });
        }
        let entries = length_bytes / DESCRIPTOR_BYTES;
        let mut index = 0u16;
        loop {
            let descriptor = self.read_indirect(address, length_bytes, index)?;
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                return Err(QueueFault::NestedIndirect { index });
            }
            self.direct(index, descriptor)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(self.walked);
            }
            self.check_length(head, limit)?;
            index = descriptor.next;
            if u32::from(index) >= entries {
                return Err(QueueFault::IndexOutOfRange { index, entries });
            }
        }
    }

    /// Copies a descriptor of an indirect table, which may lie across regions but must not split
    /// a descriptor between them.
    #[inline]
    fn read_indirect(
        &mut self,
        table: u64,
        length_bytes: u32,
        index: u16,
    ) -> Result<Descriptor, QueueFault> {
        let at = table.wrapping_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES));
        let host = self
            .memory
            .resolve(at, DESCRIPTOR_BYTES)
            .ok_or(QueueFault::OutsideMemory { address: GuestAddress(table), length_bytes })?;
        // SAFETY: `resolve` found 16 bytes there, inside a region that the map keeps mapped.
        Ok(unsafe { Descriptor::read(host) })
    }
}
