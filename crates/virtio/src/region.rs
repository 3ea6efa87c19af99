//! One region of guest memory, mapped into this process.
//!
//! The front end passes a file and says where in it the region starts. The file may live on
//! hugetlbfs, whose offsets and lengths come in huge pages only, so the mapping begins at the
//! offset rounded down to the file system's page and ends rounded up:
//!
//! ```text
//!   file     0 ──────┬───┬──────────────────────┬────┬─────▶
//!   mapping          │░░░│▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓▓│░░░░│        ▓ the region   ░ rounding
//!                    page  offset          + size  page
//! ```
//!
//! A file shorter than the region is refused: touching pages past its end raises SIGBUS. It may
//! be shortened later all the same, which [`crate::install_sigbus_guard`] survives. A file on a
//! file system that serves pages from user space (FUSE) could make any access wait; a front end
//! is trusted not to pass one.
//!
//! The address of the mapping never leaves the crate as a reference: only as raw extents.

#![allow(unsafe_code)]

use std::os::fd::{AsFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{fstat, fstatfs};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::MemoryError;
use crate::sigbus::Entry;

/// `f_type` of hugetlbfs (linux/magic.h).
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// The address of a byte of guest memory in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HostAddress(pub(crate) *mut u8);

// SAFETY: an address; whoever accesses it proves that it is mapped.
unsafe impl Send for HostAddress {}

/// A mapped region. Unmapped when the last owner drops it.
#[derive(Debug)]
pub struct GuestRegion {
    guest_address: u64,
    user_address: u64,
    mmap_offset: u64,
    size_bytes: u64,
    /// First byte of the region.
    host: NonNull<u8>,
    /// First byte of the mapping and its length.
    mapping: (NonNull<u8>, usize),
    entry: &'static Entry,
}

// SAFETY: the region is an address range; it is unmapped only by `drop`, and accesses to its
// bytes are raw and may happen from any thread, as the guest's own do.
unsafe impl Send for GuestRegion {}
// SAFETY: as above; no method changes the struct.
unsafe impl Sync for GuestRegion {}

impl GuestRegion {
    /// Maps `size_bytes` of `fd` from `mmap_offset`, which the guest knows as `guest_address` and
    /// the front end as `user_address`. The descriptor is closed; the mapping stays.
    ///
    /// # Errors
    ///
    /// [`MemoryError`] if the region is empty, an address or the offset wraps, the file is
    /// shorter than the region, or a system call fails.
    pub fn map(
        fd: OwnedFd,
        guest_address: u64,
        size_bytes: u64,
        user_address: u64,
        mmap_offset: u64,
    ) -> Result<Arc<Self>, MemoryError> {
        check_extent(guest_address, size_bytes, user_address)?;
        let (start, mapped_bytes, page_bytes) = file_extent(&fd, mmap_offset, size_bytes)?;
        let lead = usize::try_from(mmap_offset.wrapping_sub(start))
            .map_err(|_| MemoryError::TooLarge { size_bytes })?;
        let length = usize::try_from(mapped_bytes)
            .ok()
            .filter(|&length| isize::try_from(length).is_ok())
            .ok_or(MemoryError::TooLarge { size_bytes })?;
        debug_assert!(start.is_multiple_of(page_bytes));
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::NORESERVE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: without MAP_FIXED, a new mapping touches no other.
        let mapped = unsafe { mmap(anywhere, length, protection, flags, fd.as_fd(), start) }
            .map_err(|errno| MemoryError::Call { call: "mmap", source: errno.into() })?;
        let base = NonNull::new(mapped.cast::<u8>())
            .ok_or(MemoryError::Call { call: "mmap", source: rustix::io::Errno::NOMEM.into() })?;
        // Neither is worth refusing memory for: they keep guest memory out of core files and out
        // of child processes.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: the extent is the mapping just made, and neither advice changes its bytes.
            let _ = unsafe { madvise(mapped, length, advice) };
        }
        // SAFETY: `lead` is less than a page of the file system, and the mapping is longer than
        // `lead` by `size_bytes`, which is not zero.
        let host = unsafe { base.add(lead) };
        Ok(Arc::new(Self {
            guest_address,
            user_address,
            mmap_offset,
            size_bytes,
            host,
            mapping: (base, length),
            entry: Entry::register(base.as_ptr().addr(), length),
        }))
    }

    /// Where the guest sees it: the first guest physical address.
    #[must_use]
    pub const fn guest_address(&self) -> u64 {
        self.guest_address
    }

    /// Where the front end sees it.
    #[must_use]
    pub const fn user_address(&self) -> u64 {
        self.user_address
    }

    /// Where it starts in its file.
    #[must_use]
    pub const fn mmap_offset(&self) -> u64 {
        self.mmap_offset
    }

    /// Its length.
    #[must_use]
    pub const fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Says whether its file was truncated under us: it then holds zeros and nobody's data.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.entry.is_poisoned()
    }

    /// First byte of the region here. Valid for `size_bytes` as long as the region lives.
    pub(crate) const fn host(&self) -> HostAddress {
        HostAddress(self.host.as_ptr())
    }
}

impl Drop for GuestRegion {
    fn drop(&mut self) {
        self.entry.release();
        // SAFETY: the extent is exactly the mapping `map` made (or the handler's anonymous one in
        // its place), and the last owner is gone, so no extent of it is in use.
        let _ = unsafe { munmap(self.mapping.0.as_ptr().cast(), self.mapping.1) };
    }
}

/// Refuses extents that are empty or wrap.
fn check_extent(guest_address: u64, size_bytes: u64, user: u64) -> Result<(), MemoryError> {
    if size_bytes == 0 {
        return Err(MemoryError::Empty { guest_address });
    }
    for address in [guest_address, user] {
        if address.checked_add(size_bytes).is_none() {
            return Err(MemoryError::AddressWraps { address, size_bytes });
        }
    }
    Ok(())
}

/// Start and length of the mapping in whole pages of the file's file system, and that page's size.
fn file_extent(fd: &OwnedFd, offset: u64, size_bytes: u64) -> Result<(u64, u64, u64), MemoryError> {
    let call =
        |call| move |errno: rustix::io::Errno| MemoryError::Call { call, source: errno.into() };
    let file_bytes = u64::try_from(fstat(fd).map_err(call("fstat"))?.st_size).unwrap_or(0);
    let end = offset
        .checked_add(size_bytes)
        .ok_or(MemoryError::AddressWraps { address: offset, size_bytes })?;
    if end > file_bytes {
        return Err(MemoryError::FileTooShort { file_bytes, needed_bytes: end });
    }
    let file_system = fstatfs(fd).map_err(call("fstatfs"))?;
    let mut page_bytes = rustix::param::page_size() as u64;
    if u64::try_from(file_system.f_type) == Ok(HUGETLBFS_MAGIC) {
        let huge = u64::try_from(file_system.f_bsize).unwrap_or(0);
        page_bytes = if huge.is_power_of_two() { huge.max(page_bytes) } else { page_bytes };
    }
    let start = offset & !page_bytes.wrapping_sub(1);
    let mapped_bytes = end
        .wrapping_sub(start)
        .checked_next_multiple_of(page_bytes)
        .ok_or(MemoryError::TooLarge { size_bytes })?;
    Ok((start, mapped_bytes, page_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::memory_file;

    #[test]
    fn region_at_an_odd_offset_is_mapped_from_the_page_below() {
        let region = GuestRegion::map(memory_file(0x4000), 0x1000, 0x800, 0x1000, 0x1800).unwrap();

        assert_eq!(region.host().0.addr() & 0xfff, 0x800);
        assert_eq!(region.size_bytes(), 0x800);
        assert!(!region.is_poisoned());
    }

    #[test]
    fn empty_region_is_refused() {
        let refused = GuestRegion::map(memory_file(0x1000), 0, 0, 0, 0).unwrap_err();

        assert!(matches!(refused, MemoryError::Empty { guest_address: 0 }));
    }

    #[test]
    fn file_shorter_than_the_region_is_refused() {
        let refused = GuestRegion::map(memory_file(0x1000), 0, 0x1000, 0, 1).unwrap_err();

        assert!(matches!(
            refused,
            MemoryError::FileTooShort { file_bytes: 0x1000, needed_bytes: 0x1001 }
        ));
    }

    #[test]
    fn address_that_wraps_is_refused() {
        let guest = GuestRegion::map(memory_file(0x1000), u64::MAX - 0xfff, 0x1000, 0, 0);
        let user = GuestRegion::map(memory_file(0x1000), 0, 0x1000, u64::MAX, 0);
        let offset = GuestRegion::map(memory_file(0x1000), 0, 0x1000, 0, u64::MAX);

        assert!(matches!(guest, Err(MemoryError::AddressWraps { .. })));
        assert!(matches!(user, Err(MemoryError::AddressWraps { .. })));
        assert!(matches!(offset, Err(MemoryError::AddressWraps { .. })));
    }

    #[test]
    fn descriptor_that_is_no_file_is_refused() {
        let (reader, _writer) = std::io::pipe().unwrap();

        let refused = GuestRegion::map(reader.into(), 0, 0x1000, 0, 0).unwrap_err();

        assert!(matches!(refused, MemoryError::FileTooShort { .. }));
    }
}
