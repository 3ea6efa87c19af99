//! Eight entries of the filtering database on one cache line.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::mix::HOME_SHIFT;
use super::word::Word;

/// Words of a bucket.
pub(super) const BUCKET_WORDS: usize = 8;

/// Words of the half that an entry lies in if it can.
pub(super) const HOME_WORDS: usize = BUCKET_WORDS / 2;

/// Eight entries, on a cache line of their own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Bucket(pub(super) [AtomicU64; BUCKET_WORDS]);

impl Bucket {
    /// How many words of it are free.
    pub(super) fn empty_words(&self) -> usize {
        self.0.iter().filter(|cell| cell.load(Relaxed) == 0).count()
    }

    /// The half that an entry with these telling bits gets a word of if one is free. In a full table
    /// 93 of 100 entries lie there, and are found without a search.
    #[inline(always)]
    pub(super) fn home(&self, telling: u64) -> &[AtomicU64; HOME_WORDS] {
        let (halves, _) = self.0.as_chunks();
        &halves[(telling >> HOME_SHIFT) as usize % 2]
    }

    /// The entry with these telling bits, wherever it is.
    ///
    /// Looks at all words before it decides: which of them it is nobody can foresee, and a branch
    /// taken wrongly costs more than the rest of the line. Relaxed: a word says all there is to
    /// say, and orders nothing else.
    #[inline(always)]
    pub(super) fn find(&self, telling: u64) -> Option<Found<'_>> {
        let cells = self.0.iter().rev();
        let matches = cells.fold(0u32, |matches, cell| {
            matches << 1 | u32::from(Word(cell.load(Relaxed)).is_of(telling))
        });
        let cell = self.0.get(matches.trailing_zeros() as usize)?;
        let word = Word(cell.load(Relaxed));
        // Another thread may have changed it since.
        word.is_of(telling).then_some(Found { cell, word })
    }
}

/// An entry and where it lies.
pub(super) struct Found<'a> {
    pub(super) cell: &'a AtomicU64,
    pub(super) word: Word,
}

impl Found<'_> {
    /// Puts another word in its place, unless it has changed meanwhile.
    pub(super) fn replace(&self, new: Word) -> bool {
        self.cell.compare_exchange(self.word.0, new.0, SeqCst, Relaxed).is_ok()
    }
}
