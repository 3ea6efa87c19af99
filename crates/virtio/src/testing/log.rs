//! A dirty log from the front end's side: it reads and clears what a back end marks.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::memory_file;
use crate::GuestRegion;

/// A dirty log.
#[derive(Debug)]
pub struct TestLog {
    file: OwnedFd,
    bitmap: Arc<GuestRegion>,
}

impl TestLog {
    /// Guest memory that a bit stands for, in bytes.
    pub const PAGE_BYTES: u64 = 0x1000;

    /// A log with a bit for every page below a guest address.
    #[must_use]
    pub fn up_to(guest_address: u64) -> Self {
        // In words, as QEMU has it.
        let size_bytes = guest_address.div_ceil(64 * Self::PAGE_BYTES) * 8;
        let file = memory_file(size_bytes);
        let duplicate = file.try_clone().expect("tests may duplicate descriptors");
        let bitmap = GuestRegion::map(duplicate, 0, size_bytes, 0, 0).expect("the file is whole");
        Self { file, bitmap }
    }

    /// The file, to be sent to a back end or truncated.
    #[must_use]
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Its length.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bitmap.size_bytes()
    }

    /// Clears the log and returns the guest addresses of the pages that were marked.
    #[must_use]
    pub fn take(&self) -> Vec<u64> {
        (0..self.size_bytes()).flat_map(|at| self.take_byte(at)).collect()
    }

    fn take_byte(&self, at: u64) -> impl Iterator<Item = u64> + use<> {
        let offset = usize::try_from(at).expect("inside a mapping");
        let byte = self.bitmap.host().0.wrapping_add(offset);
        // SAFETY: below the size of the bitmap, which is mapped as long as `self`; the back end
        // accesses it atomically, too.
        let byte = unsafe { AtomicU8::from_ptr(byte) };
        // Most are clear, and looking is cheaper than taking.
        let bits = match byte.load(Ordering::Relaxed) {
            0 => 0,
            // Acquire: the pages are found as they were when they were marked.
            _ => byte.swap(0, Ordering::AcqRel),
        };
        let marked = (0..8).filter(move |bit| bits >> bit & 1 == 1);
        marked.map(move |bit| (8 * at + bit) * Self::PAGE_BYTES)
    }
}
