//! UMEM: the memory that sockets receive into and send from, in chunks of 4,096 bytes. The kernel
//! pins it when the first socket registers it.
//!
//! Interfaces share it as far as they can (`pool.rs`), for a frame can move without a copy only
//! within one UMEM. Each queue has 4,096 chunks of it: half begin in the fill ring and half as free
//! ones for the tx ring, so neither ring can overflow. Which they are changes with every frame that
//! moves from queue to queue, their number never does (`chunks.rs`):
//!
//! ```text
//!   one UMEM
//!  ┌──────────────────┬──────────────────┬──────────────────┬──────────────────┐
//!  │ eth0, queue 0    │ eth1, queue 0    │ free             │ free             │  at first
//!  └──────────────────┴──────────────────┴──────────────────┴──────────────────┘
//!  │ 0 1 0 0 1 1 0 1  │ 1 0 1 0 1 0 0 1  │ free             │ free             │  later
//! ```
//!
//! An address in it is an offset from its start. The memory lives as long as the last [`Umem`]
//! handle: queues hold one, so it outlives their sockets. No Rust reference into it is ever made;
//! the kernel and the NIC write there.
//!
//! It is a file in memory (memfd_create(2)), so that another process can go on with it: the pages
//! that the kernel has pinned are the file's. They stay pinned while there is a socket, whoever has
//! it (seen on Linux 6.18: frames go on after the process that registered them has ended).

#![allow(unsafe_code)]

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

use frame::{Room, Segment};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};

use crate::chunks::{FreeChunks, PART_CHUNKS};
use crate::sys::{self, Mapping};

/// Length of a chunk in bytes: one page, the largest that aligned chunks may have here.
pub(crate) const CHUNK_BYTES: u32 = 4_096;

/// What the kernel leaves free before a frame (`XDP_PACKET_HEADROOM`).
pub(crate) const HEADROOM_BYTES: u32 = 256;

/// Length of the metadata in front of a frame to send (`struct xsk_tx_metadata`).
pub(crate) const METADATA_BYTES: u32 = 24;

/// What is left free in front of a frame to send if there may be metadata: a cache line.
const FRONT_BYTES: u32 = 64;

/// Chunks that go round by way of the fill ring, for each queue: twice the rx ring.
pub(crate) const RECEIVE_CHUNKS: u32 = 2_048;

/// Chunks that go round by way of the tx ring, for each queue.
pub(crate) const SEND_CHUNKS: u32 = 2_048;

/// The memory of several queues.
#[derive(Debug)]
pub(crate) struct Umem {
    mapping: Mapping,
    /// The file that is mapped.
    file: OwnedFd,
    has_metadata: AtomicBool,
    /// Chunks that no queue has. For the control plane only.
    pub(crate) free: FreeChunks,
}

impl Umem {
    /// Memory for this many queues: 16 MiB each.
    pub(crate) fn new(queues: u32) -> io::Result<Self> {
        let chunks = u64::from(queues) * u64::from(PART_CHUNKS);
        let length_bytes =
            usize::try_from(chunks * u64::from(CHUNK_BYTES)).map_err(io::Error::other)?;
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let make = |flags| memfd_create("ringway umem", flags);
        // Kernels before 6.3 do not know that it is not to be executed; later ones may insist.
        let file = make(flags | MemfdFlags::NOEXEC_SEAL).or_else(|_| make(flags))?;
        ftruncate(&file, length_bytes as u64)?;
        // Whoever else gets it cannot take the pages away.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let mapping = map(file.as_fd(), length_bytes)?;
        let has_metadata = AtomicBool::new(false);
        Ok(Self { mapping, file, has_metadata, free: FreeChunks::of_parts(queues) })
    }

    /// The memory of another process, which has registered it. Its chunks are for whoever
    /// [claims](crate::chunks::Part::claim) them, but for those that are `free`.
    pub(crate) fn adopt(file: OwnedFd, has_metadata: bool, free: &[u32]) -> io::Result<Self> {
        let length_bytes = usize::try_from(fstat(&file)?.st_size).map_err(io::Error::other)?;
        let chunks = length_bytes / CHUNK_BYTES as usize;
        let parts = u32::try_from(chunks / PART_CHUNKS as usize).map_err(io::Error::other)?;
        let mapping = Mapping::present_memory(file.as_fd(), length_bytes)?;
        let has_metadata = AtomicBool::new(has_metadata);
        Ok(Self { mapping, file, has_metadata, free: FreeChunks::of_another(parts, free) })
    }

    /// The file that it lies in.
    pub(crate) fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Registers it for a socket, its first. Notes whether frames to send may have metadata, which
    /// kernels before 6.11 do not know.
    pub(crate) fn register(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        let plain = libc::xdp_umem_reg {
            addr: self.mapping.start().expose_provenance() as u64,
            len: self.mapping.length_bytes() as u64,
            chunk_size: CHUNK_BYTES,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        let flags = libc::XDP_UMEM_TX_METADATA_LEN;
        let with_metadata = libc::xdp_umem_reg { flags, tx_metadata_len: METADATA_BYTES, ..plain };
        let register = |registration: &_| {
            sys::set_option(socket, libc::SOL_XDP, libc::XDP_UMEM_REG, registration)
        };
        match register(&with_metadata) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => register(&plain),
            // Relaxed: read by whoever was given the socket, later.
            outcome => outcome.map(|()| self.has_metadata.store(true, Ordering::Relaxed)),
        }
    }

    /// Where a frame to send begins in its chunk: behind a cache line for its metadata, which the
    /// kernel then wants room for in front of every frame (`xp_aligned_validate_desc`); or at the
    /// start, where there is no metadata.
    #[inline]
    pub(crate) fn front_bytes(&self) -> u32 {
        if self.has_metadata.load(Ordering::Relaxed) { FRONT_BYTES } else { 0 }
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

    /// The room at `address` to the end of its chunk, for what `write` puts there at once. The
    /// chunk is free, or its frame is the caller's alone.
    pub(crate) fn write<R>(&self, address: u64, write: impl FnOnce(&mut Room) -> R) -> Option<R> {
        let length_bytes = CHUNK_BYTES - offset_in_chunk(address);
        let start = self.place(address, length_bytes)?;
        // SAFETY: `place` found the rest of a chunk inside the mapping, which lives as long as
        // `self`, longer than `room`. No reference into the mapping is ever made.
        let mut room = unsafe { Room::new(start, length_bytes) };
        Some(write(&mut room))
    }

    /// Says whether this payload lies here. Extents that do were made by [`segment`](Self::segment):
    /// nobody else has addresses in this mapping.
    #[inline]
    pub(crate) fn holds(&self, payload: &Segment) -> bool {
        let offset = payload.address().wrapping_sub(self.mapping.start().addr());
        offset < self.mapping.length_bytes()
    }

    /// The address where `head_bytes` bytes would end right before this payload, if it lies here
    /// and both fit its chunk, with what is left free in front of a frame to send.
    #[inline]
    pub(crate) fn address_before(&self, payload: &Segment, head_bytes: usize) -> Option<u64> {
        if !self.holds(payload) {
            return None;
        }
        let at = payload.address().wrapping_sub(self.mapping.start().addr()) as u64;
        let in_chunk = offset_in_chunk(at);
        let head_bytes = u32::try_from(head_bytes).ok()?;
        let fits = head_bytes + self.front_bytes() <= in_chunk
            && payload.length_bytes() <= CHUNK_BYTES - in_chunk;
        fits.then(|| at - u64::from(head_bytes))
    }
}

/// Maps the memory, in huge pages if the host wants them everywhere. Private memory would get them by
/// itself then; a file does not, by default, and each frame would cost a look into the page tables.
fn map(file: BorrowedFd<'_>, length_bytes: usize) -> io::Result<Mapping> {
    let setting = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if !setting.is_ok_and(|setting| setting.contains("[always]")) {
        return Mapping::memory(file, length_bytes);
    }
    let mapping = Mapping::present_memory(file, length_bytes)?;
    // Without, it is only slower.
    let _: io::Result<()> = mapping.collapse();
    Ok(mapping)
}

/// Address of the chunk that this address lies in.
pub(crate) const fn chunk_of(address: u64) -> u64 {
    address & !(CHUNK_BYTES as u64 - 1)
}

/// Bytes from the start of its chunk to this address.
#[expect(clippy::cast_possible_truncation, reason = "below CHUNK_BYTES")]
const fn offset_in_chunk(address: u64) -> u32 {
    (address - chunk_of(address)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extent_that_leaves_its_chunk_or_the_memory_has_no_place() {
        let umem = Umem::new(1).unwrap();

        assert!(umem.segment(256, 3_840).is_some());
        assert!(umem.segment(256, 3_841).is_none());
        assert!(umem.segment(4_096 * 4_096, 1).is_none());
        assert!(umem.segment(u64::MAX, 60).is_none());
    }

    #[test]
    fn head_goes_right_before_its_payload_if_the_chunk_has_room_there() {
        let umem = Umem::new(1).unwrap();
        let payload = umem.segment(2 * 4_096 + 64, 1_000).unwrap();

        assert_eq!(umem.address_before(&payload, 60), Some(2 * 4_096 + 4));
        assert_eq!(umem.address_before(&payload, 64), Some(2 * 4_096));
        assert_eq!(umem.address_before(&payload, 65), None);
    }

    #[test]
    fn memory_lies_where_huge_pages_can_be_mapped() {
        let umem = Umem::new(1).unwrap();
        let mapping = Mapping::present_memory(umem.file(), 16 << 20).unwrap();

        if mapping.collapse().is_ok() {
            let (start, maps) = (mapping.start(), fs::read_to_string("/proc/self/smaps").unwrap());
            let (_, ours) = maps.split_once(&format!("\n{:x}-", start.addr())).unwrap();
            let line = ours.lines().find(|line| line.starts_with("ShmemPmdMapped:")).unwrap();
            assert!(line.contains(" 16384 kB"), "{line}");
        } else {
            eprintln!("this kernel collapses no pages");
        }
        let place = mapping.start().wrapping_add(mapping.length_bytes() - 1);
        umem.write(u64::from(CHUNK_BYTES) * 4_095, |room| room.write(&[7; 4_096])).unwrap();
        // SAFETY: the last byte of the mapping.
        assert_eq!(unsafe { place.read_volatile() }, 7);
    }

    #[test]
    fn payload_of_another_umem_does_not_lie_here() {
        let (here, there) = (Umem::new(1).unwrap(), Umem::new(1).unwrap());
        let payload = there.segment(320, 1_000).unwrap();

        assert!(there.holds(&payload));
        assert!(!here.holds(&payload));
        assert_eq!(here.address_before(&payload, 64), None);
    }
}
