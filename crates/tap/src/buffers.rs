//! The private buffers that frames are read into, each large enough for any frame.
//!
//! ```text
//!   0          52           64                              65,658   69,632
//!   │ unused   │ net header │ frame …                            │    │ next buffer
//! ```
//!
//! So frames begin on a cache line. They lie in one anonymous mapping, of which the kernel backs
//! the pages that were touched: what has only ever held short frames costs one page.
//!
//! Nobody else writes here, but frames that are out are read by other threads; so no Rust
//! reference into the mapping is ever made.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use frame::{MAX_LARGE_FRAME_BYTES, Room, Segment, TAG_BYTES};

/// Length of the net header, with `num_buffers`.
pub(crate) const NET_HEADER_BYTES: usize = 12;

/// Longest frame that is taken or sent, with its tag.
pub(crate) const MOST_BYTES: usize = MAX_LARGE_FRAME_BYTES + TAG_BYTES;

/// Where a frame begins in its buffer: on a cache line, and the net header before it.
const FRAME_AT: usize = 64;
const NET_HEADER_AT: usize = FRAME_AT - NET_HEADER_BYTES;

/// What is read at once. One byte more than any frame: what fills it was cut short by the kernel.
const READ_BYTES: usize = NET_HEADER_BYTES + MOST_BYTES + 1;

const BUFFER_BYTES: usize = (NET_HEADER_AT + READ_BYTES).next_multiple_of(4_096);

/// Several buffers, numbered from 0.
#[derive(Debug)]
pub(crate) struct Buffers {
    start: NonNull<u8>,
    count: usize,
    is_kept: bool,
}

// SAFETY: an address range of the process, which belongs to no thread; accesses to it are raw.
unsafe impl Send for Buffers {}

impl Buffers {
    /// This many buffers, at least one.
    pub(crate) fn new(count: usize) -> io::Result<Self> {
        let count = count.max(1);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let length_bytes = count * BUFFER_BYTES;
        // SAFETY: no address is asked for, so no memory that is in use can be replaced.
        let start = unsafe { libc::mmap(ptr::null_mut(), length_bytes, protection, flags, -1, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count, is_kept: false })
    }

    /// The place of `length_bytes` bytes from `at` on in a buffer, if they lie within it.
    fn place(&self, number: usize, at: usize, length_bytes: usize) -> Option<*mut u8> {
        let is_inside =
            number < self.count && at <= BUFFER_BYTES && length_bytes <= BUFFER_BYTES - at;
        is_inside.then(|| self.start.as_ptr().wrapping_add(number * BUFFER_BYTES + at))
    }

    fn extent(&self, number: usize, at: usize, length_bytes: usize) -> Option<Segment> {
        let start = self.place(number, at, length_bytes)?;
        let length_bytes = u32::try_from(length_bytes).ok()?;
        // SAFETY: `place` found the bytes inside the mapping. It stays until `drop`, or for ever
        // after `keep`, which a queue calls when it is dropped before its frames were handed back.
        Some(unsafe { Segment::new(start, length_bytes) })
    }

    /// The net header that a frame was read with.
    pub(crate) fn net_header(&self, number: usize) -> Option<Segment> {
        self.extent(number, NET_HEADER_AT, NET_HEADER_BYTES)
    }

    /// A frame's bytes from `offset` on. The queue that asks keeps the buffers until the frame has
    /// been handed back.
    pub(crate) fn segment(
        &self,
        number: usize,
        offset: usize,
        length_bytes: usize,
    ) -> Option<Segment> {
        self.extent(number, FRAME_AT.checked_add(offset)?, length_bytes)
    }

    /// Reads a net header and a frame into a buffer that is free: read(2). Returns their length in
    /// bytes, of which one more than [`MOST_BYTES`] behind the net header stands for any more.
    pub(crate) fn read(&self, number: usize, tap: BorrowedFd<'_>) -> io::Result<usize> {
        let place = self.place(number, NET_HEADER_AT, READ_BYTES);
        let place = place.ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: `place` found so many bytes inside the mapping, which nothing refers to.
        let count = unsafe { libc::read(tap.as_raw_fd(), place.cast(), READ_BYTES) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    /// Lets `write` put a frame into a buffer that is free.
    pub(crate) fn fill<R>(&self, number: usize, write: impl FnOnce(&mut Room) -> R) -> Option<R> {
        let start = self.place(number, FRAME_AT, MOST_BYTES)?;
        let length_bytes = u32::try_from(MOST_BYTES).ok()?;
        // SAFETY: `place` found so many bytes inside the mapping, which lives as long as `self`,
        // longer than `room`. No reference into the mapping is ever made.
        let mut room = unsafe { Room::new(start, length_bytes) };
        Some(write(&mut room))
    }

    /// Leaves the memory where it is for ever: frames in it may still be read.
    pub(crate) const fn keep(&mut self) {
        self.is_kept = true;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if !self.is_kept {
            // SAFETY: `new` made exactly this range, and no frame in it is out, or its queue would
            // have called `keep`.
            unsafe { libc::munmap(self.start.as_ptr().cast(), self.count * BUFFER_BYTES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::Outgoing;

    #[test]
    fn extent_that_leaves_its_buffer_has_no_place() {
        let buffers = Buffers::new(2).unwrap();
        let behind_frame = BUFFER_BYTES - FRAME_AT;

        assert!(buffers.segment(1, 0, MOST_BYTES + 1).is_some());
        assert!(buffers.segment(1, 0, behind_frame).is_some());
        assert!(buffers.segment(1, 1, behind_frame).is_none());
        assert!(buffers.segment(1, usize::MAX, 1).is_none());
        assert!(buffers.segment(2, 0, 1).is_none());
    }

    #[test]
    fn frames_begin_on_a_cache_line_and_do_not_touch_each_other() {
        let buffers = Buffers::new(2).unwrap();

        buffers.fill(0, |room| room.write(&[1; MOST_BYTES])).unwrap();
        buffers.fill(1, |room| room.write(&[2; MOST_BYTES])).unwrap();

        let frame = buffers.segment(0, 0, MOST_BYTES).unwrap();
        let mut bytes = [0; MOST_BYTES];
        Outgoing::new(&[], &[frame]).reader().read(&mut bytes);
        assert_eq!(frame.address() % 64, 0);
        assert_eq!(bytes, [1; MOST_BYTES]);
    }

    #[test]
    fn memory_of_frames_that_are_out_outlives_its_queue() {
        let mut buffers = Buffers::new(1).unwrap();
        buffers.fill(0, |room| room.write(b"payload")).unwrap();
        let frame = buffers.segment(0, 0, 7).unwrap();

        buffers.keep();
        drop(buffers);

        let mut bytes = [0; 7];
        Outgoing::new(&[], &[frame]).reader().read(&mut bytes);
        assert_eq!(&bytes, b"payload");
    }
}
