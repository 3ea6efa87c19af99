//! The dirty log of a guest that is being migrated: which pages of its memory were written by us.
//!
//! The front end shares a bitmap: one bit for each 4 KiB of guest physical addresses (vhost-user,
//! "Migration"). While the guest runs it reads and clears bits and then copies the pages that they
//! stood for, again and again; what is marked when the rings have stopped, it copies last.
//!
//! ```text
//!   we           write page ───────▶ mark page
//!   front end              read and clear ───▶ copy page
//! ```
//!
//! So a page is marked after it was written, and never before: a mark that is read and cleared
//! between the two would let the page be copied too early, and nobody would look at it again. A bit
//! is set by an atomic operation even if it seems to be set already. That is a full barrier on x86,
//! and a Release elsewhere: whoever clears the bit finds the page as it was written.
//!
//! The size of the bitmap is the front end's word, like every address. Pages that it has no bit for
//! are passed over.

#![allow(unsafe_code)]

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::memory::{MemoryMap, Piece};
use crate::region::HostAddress;
use crate::{GuestRegion, MemoryError};

/// Bytes of guest memory that a bit stands for (`VHOST_LOG_PAGE`).
const PAGE_BYTES: u64 = 0x1000;

/// A bitmap that is shared with the front end.
#[derive(Debug)]
pub struct DirtyLog {
    /// Mapped as guest memory is: with its length checked, and a file that may be truncated.
    bitmap: Arc<GuestRegion>,
}

impl DirtyLog {
    /// Maps `size_bytes` of `fd` from `mmap_offset`. The descriptor is closed; the mapping stays.
    ///
    /// # Errors
    ///
    /// As [`GuestRegion::map`].
    pub fn map(fd: OwnedFd, mmap_offset: u64, size_bytes: u64) -> Result<Self, MemoryError> {
        // The bitmap has no address for the guest.
        Ok(Self { bitmap: GuestRegion::map(fd, 0, size_bytes, 0, mmap_offset)? })
    }

    /// Length of the bitmap in bytes, each for eight pages.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bitmap.size_bytes()
    }

    /// How many bytes of guest memory it has bits for, from guest address 0.
    #[must_use]
    pub fn covered_bytes(&self) -> u64 {
        self.size_bytes().saturating_mul(8 * PAGE_BYTES)
    }

    /// Marks every page that these bytes lie in, which were written before.
    fn mark(&self, guest_address: u64, length_bytes: u64) {
        if length_bytes == 0 {
            return;
        }
        let last = guest_address.saturating_add(length_bytes - 1) / PAGE_BYTES;
        let bits = self.size_bytes().saturating_mul(8);
        for page in guest_address / PAGE_BYTES..(last + 1).min(bits) {
            let Ok(offset) = usize::try_from(page / 8) else { return };
            let at = self.bitmap.host().0.wrapping_add(offset);
            // SAFETY: below `bits`, so this byte is inside the mapping, which lives as long as
            // `bitmap`; a byte needs no alignment, and the front end accesses it atomically too.
            let byte = unsafe { AtomicU8::from_ptr(at) };
            // Release: pairs with the front end's exchange of the word that the byte is part of.
            byte.fetch_or(1 << (page % 8), Ordering::Release);
        }
    }
}

/// Where the writes of one queue are logged.
#[derive(Debug, Clone)]
pub struct VringLog {
    /// The bitmap.
    pub log: Arc<DirtyLog>,
    /// The guest address under which writes to the used ring, or a packed ring's device area, are
    /// logged (SET_VRING_ADDR with VHOST_VRING_F_LOG); `None` if they are not to be.
    pub used_ring: Option<u64>,
}

impl VringLog {
    /// Marks the first `written_bytes` bytes of the pieces of a buffer.
    #[cold]
    pub(crate) fn mark_pieces(&self, map: &MemoryMap, pieces: &[Piece], written_bytes: usize) {
        let mut left = written_bytes as u64;
        for piece in pieces {
            let here = left.min(piece.length_bytes.into());
            self.mark_host(map, piece.host, here);
            left -= here;
        }
    }

    /// Marks bytes of guest memory that lie in one region.
    pub(crate) fn mark_host(&self, map: &MemoryMap, host: HostAddress, length_bytes: u64) {
        if let Some(guest_address) = map.guest_address_of(host) {
            self.log.mark(guest_address, length_bytes);
        }
    }

    /// Marks bytes of the used ring or device area.
    pub(crate) fn mark_used_ring(&self, offset: usize, length_bytes: usize) {
        // An address that wraps around is beyond any bitmap.
        if let Some(at) = self.used_ring.and_then(|start| start.checked_add(offset as u64)) {
            self.log.mark(at, length_bytes as u64);
        }
    }
}

#[cfg(test)]
mod tests;
