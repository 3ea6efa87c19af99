//! A list of frames whose places are written over.

use std::ops::{Deref, DerefMut};

use super::{BURST_FRAMES, Frame};

/// The frames of a burst: a list whose places are written over, never cleared. A frame is two cache
/// lines, and to clear them is eight stores for each that nobody reads.
#[derive(Debug, Default)]
pub struct Frames {
    /// What lies from `count` on is of former bursts.
    places: Vec<Frame>,
    count: usize,
}

impl Frames {
    /// An empty one with room for [`BURST_FRAMES`].
    pub(super) fn new() -> Self {
        Self { places: Vec::with_capacity(BURST_FRAMES), count: 0 }
    }

    /// Empties it.
    pub const fn clear(&mut self) {
        self.count = 0;
    }

    /// Adds a frame.
    pub fn push(&mut self, frame: Frame) {
        self.room_for(1)[0] = frame;
        self.add(1);
    }

    /// So many places behind the last frame, to be written over from the front.
    #[inline]
    pub(super) fn room_for(&mut self, count: usize) -> &mut [Frame] {
        let end = self.count + count;
        if end > self.places.len() {
            self.places.resize(end, Frame::EMPTY);
        }
        &mut self.places[self.count..end]
    }

    /// Adds what was put into the first `count` of the places behind the last frame.
    #[inline]
    pub(super) fn add(&mut self, count: usize) {
        self.count = self.count.saturating_add(count).min(self.places.len());
    }
}

impl Deref for Frames {
    type Target = [Frame];

    #[inline]
    fn deref(&self) -> &[Frame] {
        &self.places[..self.count]
    }
}

impl DerefMut for Frames {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Frame] {
        &mut self.places[..self.count]
    }
}

impl<'a> IntoIterator for &'a Frames {
    type Item = &'a Frame;
    type IntoIter = std::slice::Iter<'a, Frame>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
