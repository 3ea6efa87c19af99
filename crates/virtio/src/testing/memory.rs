//! A guest's memory for tests: files that can be mapped, truncated and sent to a back end.
//!
//! Reads and writes are raw, as the guest's own are; ring fields are single atomic accesses.
//! The guest's addresses and the front end's differ by [`TestMemory::USER_OFFSET`], so that a
//! test notices when the two are mixed up.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::memory::{Piece, Translator};
use crate::vring::{load_u16, store_u16};
use crate::{GuestRegion, MemoryMap};

/// A memory file of this many bytes, as a front end would pass it.
#[must_use]
pub fn memory_file(size_bytes: u64) -> OwnedFd {
    let fd = rustix::fs::memfd_create("ringway-test", rustix::fs::MemfdFlags::CLOEXEC)
        .expect("tests may create memory files");
    rustix::fs::ftruncate(&fd, size_bytes).expect("tests have memory");
    fd
}

/// A guest's memory: one file, mapped as the device maps it.
#[derive(Debug)]
pub struct TestMemory {
    file: OwnedFd,
    map: Arc<MemoryMap>,
}

impl TestMemory {
    /// Where the memory of [`new`](Self::new) starts for the guest.
    pub const GUEST_BASE: u64 = 0x4000_0000;
    /// What a front end's addresses are higher by than the guest's.
    pub const USER_OFFSET: u64 = 0x7f00_0000_0000;

    /// One region of `size_bytes` at [`GUEST_BASE`](Self::GUEST_BASE), all zeros.
    #[must_use]
    pub fn new(size_bytes: u64) -> Arc<Self> {
        Self::with_regions(&[(Self::GUEST_BASE, size_bytes)])
    }

    /// Regions of these guest addresses and sizes, one behind the other in the file, which need
    /// not be in the order of their addresses.
    #[must_use]
    pub fn with_regions(regions: &[(u64, u64)]) -> Arc<Self> {
        let file = memory_file(regions.iter().map(|(_, size)| size).sum());
        let mut offset = 0;
        let mut mapped = Vec::new();
        for &(guest, size) in regions {
            let fd = file.try_clone().expect("tests may duplicate descriptors");
            let user = guest + Self::USER_OFFSET;
            mapped.push(GuestRegion::map(fd, guest, size, user, offset).expect("region is valid"));
            offset += size;
        }
        let map = Arc::new(MemoryMap::new(mapped).expect("regions do not overlap"));
        Arc::new(Self { file, map })
    }

    /// All of a file of `size_bytes`, as one region at a guest address.
    ///
    /// # Panics
    ///
    /// If the file is shorter.
    #[must_use]
    pub fn in_file(file: OwnedFd, guest_address: u64, size_bytes: u64) -> Arc<Self> {
        let fd = file.try_clone().expect("tests may duplicate descriptors");
        let user = guest_address + Self::USER_OFFSET;
        let region = GuestRegion::map(fd, guest_address, size_bytes, user, 0);
        let regions = vec![region.expect("the file is whole")];
        let map = Arc::new(MemoryMap::new(regions).expect("there is one region"));
        Arc::new(Self { file, map })
    }

    /// The device's view.
    #[must_use]
    pub fn map(&self) -> Arc<MemoryMap> {
        Arc::clone(&self.map)
    }

    /// The file, to be sent to a back end or truncated.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Writes as the guest does.
    ///
    /// # Panics
    ///
    /// If the bytes are not inside memory.
    pub fn write(&self, guest_address: u64, bytes: &[u8]) {
        let mut rest = bytes;
        for piece in self.pieces(guest_address, bytes.len()) {
            let (here, behind) = rest.split_at(piece.length_bytes as usize);
            // SAFETY: the piece has these bytes of mapped memory, and `here` is another's.
            unsafe { ptr::copy_nonoverlapping(here.as_ptr(), piece.host.0, here.len()) };
            rest = behind;
        }
    }

    /// Reads as the guest does.
    ///
    /// # Panics
    ///
    /// If the bytes are not inside memory.
    #[must_use]
    pub fn read(&self, guest_address: u64, length_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; length_bytes];
        let mut rest = &mut bytes[..];
        for piece in self.pieces(guest_address, length_bytes) {
            let (here, behind) = rest.split_at_mut(piece.length_bytes as usize);
            let from = piece.host.0.cast_const();
            // SAFETY: the piece has these bytes of mapped memory, and `here` is our own.
            unsafe { ptr::copy_nonoverlapping(from, here.as_mut_ptr(), here.len()) };
            rest = behind;
        }
        bytes
    }

    fn pieces(&self, guest_address: u64, length_bytes: usize) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let length = u32::try_from(length_bytes).expect("a test's buffer is under 4 GiB");
        Translator::new(self.map())
            .translate(guest_address, length, |piece| pieces.push(piece))
            .expect("a test's buffer is inside memory");
        pieces
    }

    pub(super) fn load(&self, guest_address: u64) -> u16 {
        let piece = self.pieces(guest_address, 2)[0];
        // SAFETY: mapped, and ring fields are aligned.
        u16::from_le(unsafe { load_u16(piece.host.0, Ordering::Acquire) })
    }

    pub(super) fn store(&self, guest_address: u64, number: u16) {
        let piece = self.pieces(guest_address, 2)[0];
        // SAFETY: mapped, and ring fields are aligned.
        unsafe { store_u16(piece.host.0, number.to_le(), Ordering::Release) };
    }
}
