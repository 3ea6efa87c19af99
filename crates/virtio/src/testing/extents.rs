//! Payload that lies somewhere, and a place for frames to go, without a guest or a ring around
//! them: for tests and benches of what happens to a frame between the two.
//!
//! The memory is never freed, because no lifetime follows an extent. Tests can afford it.

#![allow(unsafe_code)]

use std::ptr;

use frame::{Room, Segment};

/// Lays `bytes` into memory, cut at these places, each piece in a block of its own.
#[must_use]
pub fn extents(bytes: &[u8], cuts: &[usize]) -> Vec<Segment> {
    let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let lay = |cut: &[usize]| {
        let block: &'static [u8] = Box::leak(bytes[cut[0]..cut[1]].into());
        let length_bytes = u32::try_from(block.len()).expect("a frame's length");
        // SAFETY: a block that was leaked stays.
        unsafe { Segment::new(block.as_ptr(), length_bytes) }
    };
    cuts.windows(2).map(lay).collect()
}

/// A place that frames are written to.
#[derive(Debug)]
pub struct Sink {
    start: *mut u8,
    length_bytes: usize,
}

impl Sink {
    /// A place of so many bytes, each 0xee.
    #[must_use]
    pub fn new(length_bytes: usize) -> Self {
        let block: &'static mut [u8] = Box::leak(vec![0xee; length_bytes].into());
        Self { start: block.as_mut_ptr(), length_bytes }
    }

    /// All of it, to be written to.
    #[must_use]
    pub fn room(&self) -> Room {
        let length_bytes = u32::try_from(self.length_bytes).expect("a frame's length");
        // SAFETY: a block that was leaked stays, and nobody has a reference to it.
        unsafe { Room::new(self.start, length_bytes) }
    }

    /// Its first bytes.
    #[must_use]
    pub fn bytes(&self, length_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0; length_bytes.min(self.length_bytes)];
        // SAFETY: the block has as many bytes, and `bytes` is another block.
        unsafe { ptr::copy_nonoverlapping(self.start, bytes.as_mut_ptr(), bytes.len()) };
        bytes
    }
}
