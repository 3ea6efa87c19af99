//! UMEM: the memory that an interface's sockets receive into and send from, in chunks of 4,096
//! bytes. The kernel pins it when the first socket registers it.
//!
//! Each queue owns a part of its own, half of which goes round by way of the fill ring and half by
//! way of the tx ring, so neither direction can take the other's chunks and neither ring can
//! overflow:
//!
//! ```text
//!   queue 0                         queue 1
//!  ┌───────────────┬───────────────┬───────────────┬───────────────┐
//!  │ 2,048 receive │ 2,048 send    │ 2,048 receive │ 2,048 send    │
//!  └───────────────┴───────────────┴───────────────┴───────────────┘
//! ```
//!
//! An address in it is an offset from its start. The memory lives as long as the last [`Umem`]
//! handle: sockets hold one, so it outlives them. No Rust reference into it is ever made; the
//! kernel and the NIC write there.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::ptr;
use std::sync::Arc;

use frame::{Room, Segment};

use crate::sys::Mapping;

/// Length of a chunk in bytes: one page, the largest that aligned chunks may have here.
pub(crate) const CHUNK_BYTES: u32 = 4_096;

/// What the kernel leaves free before a frame (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM_BYTES: u32 = 256;

/// Chunks that go round by way of the fill ring, for each queue: twice the rx ring.
pub(crate) const RECEIVE_CHUNKS: u32 = 2_048;

/// Chunks that go round by way of the tx ring, for each queue.
pub(crate) const SEND_CHUNKS: u32 = 2_048;

/// The memory of one or several queues.
#[derive(Debug)]
pub(crate) struct Umem {
    mapping: Mapping,
}

impl Umem {
    /// Memory for this many queues: 16 MiB each.
    fn new(queues: u32) -> io::Result<Self> {
        let chunks = u64::from(queues) * u64::from(RECEIVE_CHUNKS + SEND_CHUNKS);
        let length_bytes =
            usize::try_from(chunks * u64::from(CHUNK_BYTES)).map_err(io::Error::other)?;
        Ok(Self { mapping: Mapping::anonymous(length_bytes)? })
    }

    /// What the first socket registers.
    pub(crate) fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.mapping.start().expose_provenance() as u64,
            len: self.mapping.length_bytes() as u64,
            chunk_size: CHUNK_BYTES,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// The place of `length_bytes` bytes at `address`, if they lie within one chunk.
    fn place(&self, address: u64, length_bytes: u32) -> Option<*mut u8> {
        let offset = usize::try_from(address).ok()?;
        let in_chunk = address % u64::from(CHUNK_BYTES);
        let is_inside = offset < self.mapping.length_bytes()
            && in_chunk + u64::from(length_bytes) <= u64::from(CHUNK_BYTES);
        is_inside.then(|| self.mapping.start().wrapping_add(offset))
    }

    /// Copies the front of what lies at `address` into `to`, as much as fits, and returns how much.
    /// `None` if `address` and `length_bytes` do not lie within one chunk.
    pub(crate) fn read(&self, address: u64, length_bytes: u32, to: &mut [u8]) -> Option<usize> {
        let from = self.place(address, length_bytes)?;
        let count = to.len().min(length_bytes as usize);
        // SAFETY: `place` found `length_bytes >= count` bytes inside the mapping, which lives as
        // long as `self`; `to` has `count`. `to` is private memory: the two do not overlap.
        unsafe { ptr::copy_nonoverlapping(from, to.as_mut_ptr(), count) };
        Some(count)
    }

    /// The extent of `length_bytes` bytes at `address`, for a frame that is lent until its chunk
    /// is completed. The queue that makes it keeps the `Umem` until nothing is outstanding.
    pub(crate) fn segment(&self, address: u64, length_bytes: u32) -> Option<Segment> {
        let start = self.place(address, length_bytes)?;
        // SAFETY: `place` found the bytes inside the mapping. They stay mapped until the frame is
        // handed back: a queue is dropped only when its `outstanding` is zero (the datapath's rule,
        // design 2), and it holds this `Umem`.
        Some(unsafe { Segment::new(start, length_bytes) })
    }

    /// The room of a chunk that is free, for the frame that `write` puts there at once.
    pub(crate) fn write<R>(&self, address: u64, write: impl FnOnce(&mut Room) -> R) -> Option<R> {
        let start = self.place(address, CHUNK_BYTES)?;
        // SAFETY: `place` found a whole chunk inside the mapping, which lives as long as `self`,
        // longer than `room`. No reference into the mapping is ever made.
        let mut room = unsafe { Room::new(start, CHUNK_BYTES) };
        Some(write(&mut room))
    }
}

/// One queue's part of a UMEM.
#[derive(Debug, Clone)]
pub(crate) struct Partition {
    pub(crate) umem: Arc<Umem>,
    /// Place among the parts.
    pub(crate) index: u32,
}

impl Partition {
    /// Addresses of the chunks for the fill ring.
    pub(crate) fn receive_chunks(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first();
        chunk_addresses(first..first + u64::from(RECEIVE_CHUNKS))
    }

    /// Addresses of the chunks for the tx ring.
    pub(crate) fn send_chunks(&self) -> impl Iterator<Item = u64> + use<> {
        let first = self.first() + u64::from(RECEIVE_CHUNKS);
        chunk_addresses(first..first + u64::from(SEND_CHUNKS))
    }

    fn first(&self) -> u64 {
        u64::from(self.index) * u64::from(RECEIVE_CHUNKS + SEND_CHUNKS)
    }
}

fn chunk_addresses(chunks: Range<u64>) -> impl Iterator<Item = u64> {
    chunks.map(|chunk| chunk * u64::from(CHUNK_BYTES))
}

/// Address of the chunk that this address lies in.
pub(crate) const fn chunk_of(address: u64) -> u64 {
    address & !(CHUNK_BYTES as u64 - 1)
}

/// Where interfaces get their memory from. Each gets a UMEM of its own, shared by its queues.
#[derive(Debug, Default)]
pub struct UmemPool {}

impl UmemPool {
    /// A pool that has handed out nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self {}
    }

    /// One part for each of `queues` queues, all of one UMEM.
    pub(crate) fn partitions(&mut self, queues: u32) -> io::Result<Vec<Partition>> {
        let umem = Arc::new(Umem::new(queues)?);
        Ok((0..queues).map(|index| Partition { umem: Arc::clone(&umem), index }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_two_queues_share_no_chunk() {
        let parts = UmemPool::new().partitions(2).unwrap();

        let mut chunks: Vec<u64> =
            parts.iter().flat_map(|part| part.receive_chunks().chain(part.send_chunks())).collect();
        let count = chunks.len();
        chunks.sort_unstable();
        chunks.dedup();

        assert_eq!(count, 8_192);
        assert_eq!(chunks.len(), count);
        assert_eq!(chunks.last(), Some(&(8_191 * 4_096)));
    }

    #[test]
    fn extent_that_leaves_its_chunk_or_the_memory_has_no_place() {
        let parts = UmemPool::new().partitions(1).unwrap();
        let umem = &parts[0].umem;

        assert!(umem.segment(256, 3_840).is_some());
        assert!(umem.segment(256, 3_841).is_none());
        assert!(umem.segment(4_096 * 4_096, 1).is_none());
        assert!(umem.segment(u64::MAX, 60).is_none());
    }
}
