//! A guest's memory: a memfd that the system under test maps too.
//!
//! Both sides write to it, so it is reached through raw pointers only, by offset. Offsets are
//! checked; what happens to the bytes behind them meanwhile is the other side's business.

#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use vhost::VhostUserMemoryRegionInfo;

/// Guest memory, mapped for as long as this lives.
#[derive(Debug)]
pub(crate) struct Memory {
    file: OwnedFd,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping is reached by raw pointers alone, whose users say why that is right, and it
// stays where it is until the last owner drops it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Makes memory of so many bytes, all of it present.
    pub(crate) fn new(length: usize) -> std::io::Result<Arc<Self>> {
        let file = memfd_create("ringway-bench", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, length as u64)?;
        let (protection, flags) =
            (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        let anywhere = std::ptr::null_mut();
        // SAFETY: without MAP_FIXED, a new mapping touches no other.
        let start = unsafe { mmap(anywhere, length, protection, flags, &file, 0) }?;
        let base = NonNull::new(start.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Self { file, base, length }))
    }

    /// The place of `length` bytes at an offset.
    ///
    /// # Panics
    ///
    /// If they are not all inside.
    pub(crate) fn at(&self, offset: usize, length: usize) -> *mut u8 {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length));
        // SAFETY: just checked: it is inside the mapping.
        unsafe { self.base.as_ptr().add(offset) }
    }

    /// The address of an offset in this process, by which vhost-user names rings.
    pub(crate) fn user_address(&self, offset: usize) -> u64 {
        self.base.as_ptr().addr() as u64 + offset as u64
    }

    /// The whole of it, as a region whose guest addresses are offsets.
    pub(crate) fn region(&self) -> VhostUserMemoryRegionInfo {
        VhostUserMemoryRegionInfo {
            guest_phys_addr: 0,
            memory_size: self.length as u64,
            userspace_addr: self.user_address(0),
            mmap_offset: 0,
            mmap_handle: self.file.as_raw_fd(),
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: rings and buffers hold the memory by `Arc`, so nobody has a pointer any more.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.length) };
    }
}
