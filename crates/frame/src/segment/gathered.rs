//! Frames that a system call takes from where they lie: a list of extents for writev(2).
//!
//! Payload may be guest memory, which the guest writes to meanwhile and may have taken away: the
//! kernel reads it as it would any process' memory, and says EFAULT where there is none. So its
//! addresses go to the kernel as they are, and no Rust reference to it is made.

#![allow(unsafe_code)]

use std::io;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::Reader;
use crate::BURST_FRAMES;

/// Most extents: a net header, and for each frame of a burst what it has in its private header and
/// behind that. The kernel allows 1,024.
const MOST_EXTENTS: usize = 2 + 2 * BURST_FRAMES;

/// Private bytes and payload that leave together, in the order in which they were added.
#[derive(Debug)]
pub struct Gathered<'a> {
    /// The first `count` are there.
    extents: [MaybeUninit<libc::iovec>; MOST_EXTENTS],
    count: usize,
    length_bytes: usize,
    private: PhantomData<&'a [u8]>,
}

impl<'a> Gathered<'a> {
    /// The given bytes, with which a frame or what is in front of it begins.
    #[must_use]
    pub fn new(front: &'a [u8]) -> Self {
        let extents = [const { MaybeUninit::uninit() }; MOST_EXTENTS];
        let mut gathered = Self { extents, count: 0, length_bytes: 0, private: PhantomData };
        gathered.add(front.as_ptr(), front.len());
        gathered
    }

    /// Adds all that a reader has not read. False if there are too many extents: the frame has to be
    /// copied.
    #[must_use]
    pub fn push(&mut self, rest: Reader<'a>) -> bool {
        let Reader { head, segments, mut offset } = rest;
        if self.count + 1 + segments.len() > MOST_EXTENTS {
            return false;
        }
        if !head.is_empty() {
            self.add(head.as_ptr(), head.len());
        }
        for segment in segments {
            let start = segment.start.wrapping_add(offset as usize);
            self.add(start, (segment.length_bytes - offset) as usize);
            offset = 0;
        }
        true
    }

    fn add(&mut self, start: *const u8, length_bytes: usize) {
        let extent = libc::iovec { iov_base: start.cast_mut().cast(), iov_len: length_bytes };
        self.extents[self.count].write(extent);
        self.count += 1;
        self.length_bytes += length_bytes;
    }

    /// Length of all of it, in bytes.
    #[must_use]
    pub const fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    /// Writes all of it in one call. A tap or a packet socket takes all or nothing.
    ///
    /// # Errors
    ///
    /// What writev(2) says.
    pub fn write_to(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        // At most 1,024.
        let count = i32::try_from(self.count).map_err(io::Error::other)?;
        let extents = self.extents.as_ptr().cast();
        // SAFETY: the first `count` extents were written by `add`. They are slices that live as long as
        // `self`, and segments, whose memory stays mapped until their frame is handed back
        // (`Segment::new`), which whoever holds them does later. The kernel only reads them.
        let written = unsafe { libc::writev(file.as_raw_fd(), extents, count) };
        if written < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::fd::AsFd;

    use crate::segment::tests::{room, segment};
    use crate::{Outgoing, Segment};

    #[test]
    fn front_head_and_segments_follow_each_other() {
        let (mut reader, writer) = io::pipe().unwrap();
        let segments = [segment(b"payload, "), segment(b""), segment(b"and more")];
        let mut gathered = Gathered::new(b"net header, ");

        assert!(gathered.push(Outgoing::new(b"head, ", &segments).reader()));
        assert_eq!(gathered.length_bytes(), 12 + 6 + 9 + 8);
        gathered.write_to(writer.as_fd()).unwrap();

        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "net header, head, payload, and more");
    }

    #[test]
    fn what_was_read_is_left_out() {
        let (mut reader, writer) = io::pipe().unwrap();
        let segments = [segment(b"payload"), segment(b" and more")];
        let mut rest = Outgoing::new(b"head", &segments).reader();
        rest.copy_to(&mut room(&mut [0; 7]));
        let mut gathered = Gathered::new(b"");

        assert!(gathered.push(rest));
        gathered.write_to(writer.as_fd()).unwrap();

        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "load and more");
    }

    #[test]
    fn memory_that_is_gone_is_an_error_of_the_call() {
        let (_reader, writer) = io::pipe().unwrap();
        // SAFETY: not readable, which is the point; it is only given to the kernel.
        let gone = [unsafe { Segment::new(std::ptr::without_provenance(8), 64) }];
        let mut gathered = Gathered::new(b"net header, ");

        assert!(gathered.push(Outgoing::new(&[], &gone).reader()));
        let refusal = gathered.write_to(writer.as_fd()).unwrap_err();

        assert_eq!(refusal.raw_os_error(), Some(libc::EFAULT));
    }

    #[test]
    fn more_segments_than_there_are_places_are_refused() {
        let segments = [segment(b"x"); MOST_EXTENTS - 1];
        let mut gathered = Gathered::new(b"");

        assert!(!gathered.push(Outgoing::new(b"head", &segments).reader()));
        assert!(gathered.push(Outgoing::new(b"head", &segments[1..]).reader()));
    }
}
