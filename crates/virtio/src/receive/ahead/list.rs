//! A list of so many things at most, in memory that never moves nor grows.
//!
//! A `Vec` that is never to grow asks before each push whether it must all the same, and the call that
//! it has ready for that keeps loops around it from holding anything in registers.

use std::ops::{Deref, DerefMut};

/// See the module.
#[derive(Debug)]
pub(crate) struct List<T> {
    /// What lies from `count` on is of former times.
    places: Box<[T]>,
    count: usize,
}

impl<T: Copy> List<T> {
    /// An empty one. `nothing` is what places hold that were never used.
    pub(crate) fn new(capacity: usize, nothing: T) -> Self {
        Self { places: vec![nothing; capacity].into(), count: 0 }
    }

    /// Adds a thing, for which there must be room.
    #[inline]
    pub(crate) fn push(&mut self, thing: T) {
        self.places[self.count] = thing;
        self.count += 1;
    }

    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Keeps the first `count` things, or all if there are fewer.
    pub(crate) fn truncate(&mut self, count: usize) {
        self.count = self.count.min(count);
    }

    /// Takes the first `count` things away, of which there are so many.
    pub(crate) fn remove_front(&mut self, count: usize) {
        self.places.copy_within(count..self.count, 0);
        self.count -= count;
    }

    /// The places behind the last thing, to be filled from the front.
    #[inline]
    pub(crate) fn unused(&mut self) -> &mut [T] {
        &mut self.places[self.count..]
    }

    /// Adds what was put into the first `count` of these.
    #[inline]
    pub(crate) fn add(&mut self, count: usize) {
        self.count = self.count.saturating_add(count).min(self.places.len());
    }
}

impl<T> Deref for List<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        &self.places[..self.count]
    }
}

impl<T> DerefMut for List<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.places[..self.count]
    }
}
