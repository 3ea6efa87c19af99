//! Where payload lies and where it goes: raw extents of guest memory and UMEM chunks, and the
//! one copy between them.
//!
//! Guests and the kernel write to this memory while we read it, so no Rust reference into it
//! ever exists: extents are raw pointers, and bytes move by `copy_nonoverlapping`. What a guest
//! changes under our feet changes its own payload and nothing else, because nothing that was
//! copied here is ever interpreted.
//!
//! The obligation sits in the two constructors, [`Segment::new`] and [`Room::new`]: they are
//! `unsafe`, the crate's only such functions, because lending crosses threads by value and no lifetime can follow
//! it. Whoever makes an extent proves there that its memory outlives it; all else is safe.

#![allow(unsafe_code)]

mod copy;
mod gathered;
mod simple;
mod sum;
mod summing;

use std::ptr;

use crate::prefetch::{CACHE_LINE_BYTES, prefetch};
use copy::copy;
pub use gathered::Gathered;
pub use simple::Simple;

/// How much is asked for of what is read or written next: an ordinary frame.
const PREFETCH_BYTES: usize = 1_536;

/// Bytes of a frame that lie in guest memory or in a UMEM chunk. Read only.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    start: *const u8,
    length_bytes: u32,
}

// SAFETY: an extent is an address. `Segment::new` obliges its caller to keep the memory mapped
// until the frame is handed back, whichever thread reads it.
unsafe impl Send for Segment {}

impl Segment {
    /// An extent of `length_bytes` bytes at `start`.
    ///
    /// # Safety
    ///
    /// The bytes stay mapped and readable until the frame that this extent belongs to has been
    /// handed back to the queue that received it.
    #[must_use]
    #[inline]
    pub const unsafe fn new(start: *const u8, length_bytes: u32) -> Self {
        Self { start, length_bytes }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn length_bytes(&self) -> u32 {
        self.length_bytes
    }

    /// The address of its first byte, to be compared with others.
    #[must_use]
    #[inline]
    pub fn address(&self) -> usize {
        self.start.addr()
    }

    /// Asks the processor to have the extent ready soon, up to the length of an ordinary frame:
    /// behind that it has found out by itself.
    #[inline]
    pub fn prefetch(&self) {
        let length = (self.length_bytes as usize).min(PREFETCH_BYTES);
        for offset in (0..length).step_by(CACHE_LINE_BYTES) {
            prefetch(self.start.wrapping_add(offset));
        }
    }
}

/// Bytes that a frame may be written to: a guest's receive buffer or a free UMEM chunk.
#[derive(Debug)]
pub struct Room {
    start: *mut u8,
    length_bytes: u32,
    /// From here to what is written after it, if that is known.
    to_next: Option<usize>,
}

impl Room {
    /// An extent of `length_bytes` bytes at `start`.
    ///
    /// # Safety
    ///
    /// The bytes are mapped and writable as long as the `Room` exists, and no Rust reference to
    /// them exists meanwhile.
    #[must_use]
    #[inline]
    pub const unsafe fn new(start: *mut u8, length_bytes: u32) -> Self {
        Self { start, length_bytes, to_next: None }
    }

    /// The same, told where the next room begins: that is asked for line by line while an ordinary
    /// frame is copied into this one. The address need not be valid.
    #[must_use]
    #[inline]
    pub fn followed_by(self, next: *const u8) -> Self {
        Self { to_next: Some(next.addr().wrapping_sub(self.start.addr())), ..self }
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn length_bytes(&self) -> u32 {
        self.length_bytes
    }

    /// Takes the first `count` bytes away from the front, or all if there are fewer.
    #[must_use]
    pub fn split_front(&mut self, count: u32) -> Self {
        let count = count.min(self.length_bytes);
        let front = Self { length_bytes: count, ..*self };
        self.start = self.start.wrapping_add(count as usize);
        self.length_bytes -= count;
        front
    }

    /// Writes the front of `bytes`, as much as fits, and returns how much that was.
    #[inline]
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.length_bytes as usize);
        // SAFETY: `bytes` has `count` bytes; `self.start` has `length_bytes >= count` writable
        // ones by the promise of `new`.
        unsafe { copy(bytes.as_ptr(), self.start, count, None) };
        self.advance(count);
        count
    }

    /// Writes twelve bytes, little-endian, if they fit, and says whether they did. They never lie in
    /// memory on the way: a load from where they were just stored in parts would wait until all stores
    /// before it are done, those to other processors' lines among them.
    #[inline]
    pub fn write_words(&mut self, first: u64, second: u32) -> bool {
        if self.length_bytes < 12 {
            return false;
        }
        // SAFETY: `self.start` has twelve writable bytes by the promise of `new`.
        unsafe { self.start.cast::<[u8; 8]>().write_unaligned(first.to_le_bytes()) };
        let behind = self.start.wrapping_add(8);
        // SAFETY: the last four of these bytes.
        unsafe { behind.cast::<[u8; 4]>().write_unaligned(second.to_le_bytes()) };
        self.advance(12);
        true
    }

    /// Writes `count` zero bytes, or as many as fit. Pads short frames.
    pub fn write_zeros(&mut self, count: usize) {
        let count = count.min(self.length_bytes as usize);
        // SAFETY: `self.start` has `length_bytes >= count` writable bytes by the promise of `new`.
        unsafe { ptr::write_bytes(self.start, 0, count) };
        self.advance(count);
    }

    #[expect(clippy::cast_possible_truncation, reason = "callers bound it by length_bytes")]
    const fn advance(&mut self, count: usize) {
        self.start = self.start.wrapping_add(count);
        self.length_bytes -= count as u32;
    }
}

/// A frame as it leaves by one port: the private header in that port's form, then the payload
/// where it lies.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Private bytes that come first.
    pub head: &'a [u8],
    /// The payload, in order.
    pub segments: &'a [Segment],
    /// Length of head and segments together, in bytes.
    pub length_bytes: usize,
}

impl<'a> Outgoing<'a> {
    /// The frame of this head and these segments.
    #[must_use]
    #[inline(always)]
    pub fn new(head: &'a [u8], segments: &'a [Segment]) -> Self {
        let payload = match segments {
            [] => 0,
            [segment] => segment.length_bytes as usize,
            _ => segments.iter().map(|segment| segment.length_bytes as usize).sum(),
        };
        Self { head, segments, length_bytes: head.len() + payload }
    }

    /// Starts reading at the first byte.
    #[must_use]
    pub const fn reader(&self) -> Reader<'a> {
        Reader { head: self.head, segments: self.segments, offset: 0 }
    }
}

/// A place in an [`Outgoing`] frame. Each byte is read once: that is the one copy.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    head: &'a [u8],
    segments: &'a [Segment],
    /// Bytes of the first segment that were read.
    offset: u32,
}

impl<'a> Reader<'a> {
    /// Private bytes that were not read.
    #[must_use]
    pub const fn head(&self) -> &'a [u8] {
        self.head
    }

    /// Copies the frame's next bytes into `room`, until either ends. Returns how many.
    #[inline(always)]
    pub fn copy_to(&mut self, room: &mut Room) -> usize {
        let mut copied = room.write(self.head);
        self.head = &self.head[copied..];
        while let [segment, rest @ ..] = self.segments {
            let left = segment.length_bytes - self.offset;
            let count = left.min(room.length_bytes);
            let from = segment.start.wrapping_add(self.offset as usize);
            // SAFETY: `from` has `left >= count` readable bytes by the promise of `Segment::new`,
            // and `room` at least `count` writable ones by that of `Room::new`. A guest may give
            // the same memory as source and destination: see `copy`, which allows that.
            unsafe { copy(from, room.start, count as usize, room.to_next) };
            room.advance(count as usize);
            copied += count as usize;
            if count < left {
                self.offset += count;
                break;
            }
            self.segments = rest;
            self.offset = 0;
        }
        copied
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn segment(bytes: &[u8]) -> Segment {
        // SAFETY: the tests keep `bytes` until after the copy.
        unsafe { Segment::new(bytes.as_ptr(), u32::try_from(bytes.len()).unwrap()) }
    }

    pub(crate) fn room(bytes: &mut [u8]) -> Room {
        // SAFETY: the tests keep `bytes` and look at it only after the `Room` is gone.
        unsafe { Room::new(bytes.as_mut_ptr(), u32::try_from(bytes.len()).unwrap()) }
    }

    proptest! {
        #[test]
        fn frame_cut_anywhere_arrives_whole(
            head in proptest::collection::vec(any::<u8>(), 0..20),
            payload in proptest::collection::vec(any::<u8>(), 0..60),
            cut_in in 0usize..60,
            cut_out in 0usize..80,
        ) {
            let (first, second) = payload.split_at(cut_in.min(payload.len()));
            let segments = [segment(first), segment(second)];
            let frame = Outgoing::new(&head, &segments);
            let mut arrived = vec![0; frame.length_bytes];
            let (front, back) = arrived.split_at_mut(cut_out.min(frame.length_bytes));

            let mut reader = frame.reader();
            let copied = reader.copy_to(&mut room(front)) + reader.copy_to(&mut room(back));

            prop_assert_eq!(copied, frame.length_bytes);
            prop_assert_eq!(arrived, [head, payload].concat());
        }
    }

    #[test]
    fn room_that_is_too_short_takes_the_front() {
        let payload = [7; 10];
        let segments = [segment(&payload)];
        let mut bytes = [0; 4];

        let copied = Outgoing::new(&[1, 2], &segments).reader().copy_to(&mut room(&mut bytes));

        assert_eq!((copied, bytes), (4, [1, 2, 7, 7]));
    }
}
