//! Writing a frame from where it lies: net header, private head and payload in one writev(2).
//!
//! The payload may be guest memory, which the guest writes to meanwhile and may have taken away:
//! the kernel reads it as it would any process' memory, and says EFAULT where there is none. So
//! its addresses go to the kernel as they are, and no Rust reference to it is made.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use frame::Outgoing;

use crate::buffers::NET_HEADER_BYTES;

/// Most segments that are written from where they lie. The kernel allows 1,024 and keeps up to
/// eight without allocating; 64 KiB in pages are 17, and Linux' guests send at most that.
pub(crate) const MOST_SEGMENTS: usize = 32;

/// Sends a frame of at most [`MOST_SEGMENTS`] segments. The kernel takes all of it or nothing.
pub(crate) fn write(
    tap: BorrowedFd<'_>,
    net_header: [u8; NET_HEADER_BYTES],
    frame: &Outgoing<'_>,
) -> io::Result<()> {
    let mut extents = [extent(&[]); 2 + MOST_SEGMENTS];
    let (first, places) = extents.split_at_mut(2);
    first.copy_from_slice(&[extent(&net_header), extent(frame.head)]);
    let places = places.get_mut(..frame.segments.len()).ok_or(io::ErrorKind::InvalidInput)?;
    for (place, segment) in places.iter_mut().zip(frame.segments) {
        *place = libc::iovec {
            iov_base: segment.start().cast_mut().cast(),
            iov_len: segment.length_bytes() as usize,
        };
    }
    // At most 34.
    let count = i32::try_from(2 + frame.segments.len()).map_err(io::Error::other)?;
    // SAFETY: the first `count` extents are live slices, and segments, whose memory stays mapped
    // until their frame is handed back (`Segment::new`), which whoever holds them does later. The
    // kernel only reads them.
    let written = unsafe { libc::writev(tap.as_raw_fd(), extents.as_ptr(), count) };
    if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Private bytes, which the kernel only reads.
const fn extent(bytes: &[u8]) -> libc::iovec {
    libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    use frame::Segment;

    /// The extent of bytes that the caller keeps until it is used.
    fn segment(bytes: &[u8]) -> Segment {
        // SAFETY: the tests keep `bytes` until the frame has been written.
        unsafe { Segment::new(bytes.as_ptr(), u32::try_from(bytes.len()).unwrap()) }
    }

    #[test]
    fn net_header_head_and_segments_follow_each_other() {
        let (mut reader, writer) = io::pipe().unwrap();
        let segments = [segment(b"payload, "), segment(b""), segment(b"and more")];

        write(writer.as_fd(), *b"net header, ", &Outgoing::new(b"head, ", &segments)).unwrap();

        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "net header, head, payload, and more");
    }

    #[test]
    fn memory_that_is_gone_is_an_error_of_the_call() {
        let (_reader, writer) = io::pipe().unwrap();
        // SAFETY: not readable, which is the point; it is only given to the kernel.
        let gone = unsafe { Segment::new(std::ptr::without_provenance(8), 64) };

        let refusal = write(writer.as_fd(), [0; 12], &Outgoing::new(&[], &[gone])).unwrap_err();

        assert_eq!(refusal.raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn more_segments_than_there_are_places_are_refused() {
        let (_reader, writer) = io::pipe().unwrap();
        let segments = [segment(b"x"); MOST_SEGMENTS + 1];

        assert!(write(writer.as_fd(), [0; 12], &Outgoing::new(&[], &segments)).is_err());
        assert!(write(writer.as_fd(), [0; 12], &Outgoing::new(&[], &segments[1..])).is_ok());
    }
}
