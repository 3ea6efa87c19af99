//! One entry of the filtering database in one atomic word.
//!
//! Address (48 bits), VID (12) and port (10) are 70 bits; with age and flags they would not fit a
//! word, and an entry of two words could be read half old and half new. So most of the key is not
//! stored: a keyed, *invertible* mix turns the 60 bits of VID and address into 60 others, the top
//! bits of which name the bucket. Where a word lies thus tells those bits, the word holds the
//! rest, and both together are the whole key: nothing is ever mistaken for something else.
//!
//! ```text
//!   key     │ VID 12 │ address 48                            │   60 bits
//!                      │ multiplied and folded, twice, and multiplied
//!   mixed   │ bucket 14 │ remainder 46                       │   60 bits
//!                             │
//!           63                      18   17    16         7 6       0
//!   word    │ remainder               │ away │ port slot   │ state   │   64 bits
//! ```
//!
//! `state` is 0 for an empty word (which is then 0 throughout), 1 for a static entry, and for a
//! learned one its stamp of 0 to 125, plus 2. `away` is set in a word that lies in its key's second
//! bucket. That one is the first XOR an odd number out of the remainder: never the first
//! itself, and the way back is the same step, so a word in either tells its key.
//!
//! 46 bits of remainder mean that there are at least 2^14 buckets, 1 MiB, however few addresses. If
//! there are more, the last bits of a bucket's number are also the first of the remainder.

const STATE_BITS: u32 = 7;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const SLOT_SHIFT: u32 = STATE_BITS;
const SLOT_MASK: u64 = (1 << 10) - 1;
/// The lowest of the bits that tell keys of one bucket apart; above it is the remainder.
pub(super) const AWAY: u64 = 1 << (SLOT_SHIFT + 10);
const TELLING_MASK: u64 = !(AWAY - 1);
/// Bits of remainder.
pub(super) const REMAINDER_BITS: u32 = u64::BITS - AWAY.trailing_zeros() - 1;

/// How many stamps there are: a stamp is below this.
pub(super) const STAMPS: u8 = 126;

const STATIC: u64 = 1;
const FIRST_STAMP: u8 = 2;

/// An entry, or none, as it lies in its bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

impl Word {
    pub(super) const EMPTY: Self = Self(0);

    /// A learned entry. `slot` is below 1,024, `stamp` below [`STAMPS`].
    pub(super) const fn learned(telling: u64, slot: u16, stamp: u8) -> Self {
        Self::with_state(telling, slot, (stamp + FIRST_STAMP) as u64)
    }

    /// A static entry. `slot` is below 1,024.
    pub(super) const fn fixed(telling: u64, slot: u16) -> Self {
        Self::with_state(telling, slot, STATIC)
    }

    const fn with_state(telling: u64, slot: u16, state: u64) -> Self {
        Self(telling | (slot as u64 & SLOT_MASK) << SLOT_SHIFT | state)
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) const fn is_static(self) -> bool {
        self.0 & STATE_MASK == STATIC
    }

    /// The stamp of a learned entry.
    pub(super) const fn stamp(self) -> Option<u8> {
        ((self.0 & STATE_MASK) as u8).checked_sub(FIRST_STAMP)
    }

    /// The port's slot, below 1,024.
    pub(super) const fn slot(self) -> u16 {
        (self.0 >> SLOT_SHIFT & SLOT_MASK) as u16
    }

    /// What tells this entry from others in its bucket: remainder and `away`, where they lie.
    pub(super) const fn telling(self) -> u64 {
        self.0 & TELLING_MASK
    }

    /// Says whether this is the entry with these telling bits. An empty word is nobody's, also
    /// not that of the key whose telling bits are all zero.
    #[inline]
    pub(super) const fn is_of(self, telling: u64) -> bool {
        self.without(telling).slot().is_some()
    }

    /// What is left of it without these telling bits.
    #[inline(always)]
    pub(super) const fn without(self, telling: u64) -> Rest {
        Rest(self.0 ^ telling)
    }
}

/// What is left of a word without the telling bits of an entry. If it is that entry, then slot and
/// state, and a lower number than of any word that is not: so the least of several tells which it is,
/// without a branch. But 0, if it is empty and the telling bits are all zero, which says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rest(u64);

impl Rest {
    /// The slot of the port, if the word is that entry.
    #[inline(always)]
    pub(super) const fn slot(self) -> Option<u16> {
        // No entry's state is 0.
        let is_entry = self.0.wrapping_sub(1) < AWAY - 1;
        if is_entry { Some(Word(self.0).slot()) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_keeps_port_stamp_and_telling_bits_apart() {
        let telling = TELLING_MASK & !AWAY;

        let word = Word::learned(telling, 1_023, STAMPS - 1);

        assert_eq!((word.telling(), word.slot(), word.stamp()), (telling, 1_023, Some(STAMPS - 1)));
        assert!(!word.is_static());
        assert!(Word::fixed(telling, 0).is_static());
        assert_eq!(Word::fixed(telling, 0).stamp(), None);
    }

    #[test]
    fn empty_word_is_nobodys() {
        assert!(!Word::EMPTY.is_of(0));
        assert!(!Word::EMPTY.is_of(AWAY));
        assert!(Word::learned(0, 0, 0).is_of(0));
        assert_eq!(Word::EMPTY.stamp(), None);
    }
}
