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
//! That is a split ring's. In a packed ring descriptors follow one another, in the ring as in tables
//! (2.8.7). How one leads to the next is the ring's affair (`vring/`); what is checked is the same.
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

use std::sync::Arc;

use crate::memory::{Piece, Translator};
use crate::region::HostAddress;
use crate::vring::{
    DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, Descriptor, Ring,
};
use crate::{Features, GuestAddress, MemoryMap, QueueFault, SetupError, VringLog, VringSetup};

/// Most descriptors of a chain, on queues that are longer: as the Linux kernel's vhost and QEMU.
pub(crate) const MAX_CHAIN: u16 = 1_024;

/// More bytes than any frame has, by far.
const ENOUGH_BYTES: u64 = 1 << 20;

/// A ring together with the memory its descriptors point into.
#[derive(Debug)]
pub(crate) struct Chains<R> {
    pub(crate) ring: R,
    memory: Translator,
    may_be_indirect: bool,
    /// Most descriptors of a chain.
    limit: u16,
    /// Where writes to guest memory are noted; nowhere but while the guest is migrated.
    log: Option<Box<VringLog>>,
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
    /// The device-writable ones behind the readable ones, which are left alone. However long those
    /// are, writable ones are looked up: an answer needs its place.
    Answer,
}

/// The state of a walk through the descriptors of one chain.
pub(crate) struct Walk<'a, Sink> {
    memory: &'a mut Translator,
    may_be_indirect: bool,
    limit: u16,
    wanted: Wanted,
    sink: &'a mut Sink,
    walked: Walked,
    is_writable_part: bool,
}

impl<R: Ring> Chains<R> {
    /// The ring of this setup.
    ///
    /// # Errors
    ///
    /// As [`Ring::new`].
    pub(crate) fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        // SAFETY: `memory` below holds the map as long as `ring`.
        let ring = unsafe { R::new(setup) }?;
        Ok(Self {
            ring,
            memory: Translator::new(Arc::clone(&setup.memory)),
            may_be_indirect: setup.features.contains(Features::RING_INDIRECT_DESC),
            limit: setup.size.get().min(MAX_CHAIN),
            log: None,
        })
    }

    /// The memory.
    pub(crate) const fn map(&self) -> &Arc<MemoryMap> {
        self.memory.map()
    }

    /// Notes what is written from now on in another log, or in none.
    pub(crate) fn set_log(&mut self, log: Option<Box<VringLog>>) {
        self.log = log;
        // What was asked of the driver when the queue was made.
        self.log_events();
    }

    /// Says whether writes are noted.
    #[inline]
    pub(crate) const fn is_logged(&self) -> bool {
        self.log.is_some()
    }

    /// Notes that the first `written_bytes` bytes of these pieces were written. One branch if nothing
    /// is logged, as in those below.
    #[inline]
    pub(crate) fn log_pieces(&self, pieces: &[Piece], written_bytes: usize) {
        if let Some(log) = &self.log {
            log.mark_pieces(self.map(), pieces, written_bytes);
        }
    }

    /// Notes that the chains from `old` to `new` went back to the driver.
    #[inline]
    pub(crate) fn log_used(&self, old: R::Position, new: R::Position) {
        if let Some(log) = &self.log
            && old != new
        {
            self.ring.log_used(log, self.map(), old, new);
        }
    }

    /// Notes that something was asked of the driver.
    #[inline]
    pub(crate) fn log_events(&self) {
        if let Some(log) = &self.log {
            self.ring.log_events(log);
        }
    }

    /// Refuses to go on if a memory region was lost.
    #[inline]
    pub(crate) fn check_alive(&mut self) -> Result<(), QueueFault> {
        self.memory.check_alive()
    }

    /// The chain at `next`, which is available, if it is what most are: a single buffer of the wanted
    /// kind, of at least one byte, in the region in which the last one was found. All others are for
    /// [`walk`](Self::walk).
    #[inline(always)]
    pub(crate) fn single(
        &self,
        published: R::Position,
        next: R::Position,
        wanted: Wanted,
    ) -> Option<(R::Head, Piece)> {
        let (head, descriptor) = self.ring.single(published, next)?;
        let Descriptor { address, length_bytes, flags, .. } = descriptor;
        let kind = if wanted == Wanted::Readable { 0 } else { DESCRIPTOR_WRITE };
        if flags & (DESCRIPTOR_WRITE | DESCRIPTOR_INDIRECT) != kind {
            return None;
        }
        Some((head, self.memory.piece(address, length_bytes)?))
    }

    /// Walks the chain at `next` and hands the pieces of its wanted buffers to `sink`. `None` if
    /// there is none after all. Up to `published` chains went back to the driver.
    ///
    /// # Errors
    ///
    /// [`QueueFault`] at the first breach; pieces may have been handed over before.
    #[inline]
    pub(crate) fn walk<Sink: FnMut(Piece)>(
        &mut self,
        published: R::Position,
        next: R::Position,
        wanted: Wanted,
        sink: &mut Sink,
    ) -> Result<Option<(R::Head, Walked)>, QueueFault> {
        let mut walk = Walk {
            memory: &mut self.memory,
            may_be_indirect: self.may_be_indirect,
            limit: self.limit,
            wanted,
            sink,
            walked: Walked::default(),
            is_writable_part: false,
        };
        let head = self.ring.walk(published, next, &mut walk)?;
        Ok(head.map(|head| (head, walk.walked)))
    }
}

impl<Sink: FnMut(Piece)> Walk<'_, Sink> {
    /// Takes one buffer.
    #[inline(always)]
    pub(crate) fn direct(&mut self, index: u16, descriptor: Descriptor) -> Result<(), QueueFault> {
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
            if self.wanted != Wanted::Readable {
                return self.pass_readable(index);
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

    /// Takes a readable buffer that is not wanted, if it may be there.
    #[cold]
    const fn pass_readable(&self, index: u16) -> Result<(), QueueFault> {
        match self.wanted {
            Wanted::Answer if self.is_writable_part => {
                Err(QueueFault::ReadableAfterWritable { index })
            }
            Wanted::Answer | Wanted::Readable => Ok(()),
            Wanted::Writable => Err(QueueFault::NotWritable { index }),
        }
    }

    /// Refuses to take one more descriptor than a chain may have.
    #[inline]
    pub(crate) fn check_length(&self, head: u16) -> Result<(), QueueFault> {
        let limit = self.limit;
        if self.walked.descriptors < u32::from(limit) {
            Ok(())
        } else {
            Err(QueueFault::ChainTooLong { head, limit })
        }
    }

    /// Refuses an indirect descriptor that may not be one.
    pub(crate) const fn check_indirect(
        &self,
        index: u16,
        table: Descriptor,
    ) -> Result<(), QueueFault> {
        if !self.may_be_indirect {
            return Err(QueueFault::IndirectNotNegotiated { index });
        }
        if table.flags & DESCRIPTOR_NEXT != 0 {
            return Err(QueueFault::IndirectWithNext { index });
        }
        Ok(())
    }

    /// Walks the chain in an indirect table of a split ring, which is the rest of this chain.
    pub(crate) fn linked_table(&mut self, head: u16, table: Descriptor) -> Result<(), QueueFault> {
        let entries = entries_of(table)?;
        let mut index = 0u16;
        loop {
            // SAFETY: `resolve` finds 16 bytes inside a region that the map keeps mapped.
            let descriptor = unsafe { Descriptor::read(self.resolve_entry(table, index)?) };
            self.entry(index, descriptor)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(());
            }
            self.check_length(head)?;
            index = descriptor.next;
            if u32::from(index) >= entries {
                return Err(QueueFault::IndexOutOfRange { index, entries });
            }
        }
    }

    /// The same of a packed ring, where a table is one chain from its first entry to its last
    /// (2.8.7): NEXT means nothing in it.
    pub(crate) fn flat_table(&mut self, head: u16, table: Descriptor) -> Result<(), QueueFault> {
        let entries = entries_of(table)?;
        for index in 0..entries {
            if index > 0 {
                self.check_length(head)?;
            }
            // `check_length` refuses long before.
            let index = u16::try_from(index).unwrap_or(u16::MAX);
            // SAFETY: `resolve` finds 16 bytes inside a region that the map keeps mapped.
            let descriptor = unsafe { Descriptor::read_packed(self.resolve_entry(table, index)?) };
            self.entry(index, descriptor)?;
        }
        Ok(())
    }

    /// Takes one buffer of an indirect table.
    #[inline]
    fn entry(&mut self, index: u16, descriptor: Descriptor) -> Result<(), QueueFault> {
        if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
            return Err(QueueFault::NestedIndirect { index });
        }
        self.direct(index, descriptor)
    }

    /// Finds a descriptor of an indirect table, which may lie across regions but must not split a
    /// descriptor between them.
    #[inline]
    fn resolve_entry(&mut self, table: Descriptor, index: u16) -> Result<HostAddress, QueueFault> {
        let Descriptor { address, length_bytes, .. } = table;
        let at = address.wrapping_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES));
        self.memory
            .resolve(at, DESCRIPTOR_BYTES)
            .ok_or(QueueFault::OutsideMemory { address: GuestAddress(address), length_bytes })
    }
}

/// How many descriptors an indirect table has.
const fn entries_of(table: Descriptor) -> Result<u32, QueueFault> {
    let length_bytes = table.length_bytes;
    if length_bytes == 0 || !length_bytes.is_multiple_of(DESCRIPTOR_BYTES) {
        return Err(QueueFault::IndirectLength { length_bytes });
    }
    Ok(length_bytes / DESCRIPTOR_BYTES)
}
