//! One entry of the filtering database in one atomic word.
//!
//! Address (48 bits), VID (12) and port (10) are 70 bits; with age and flags they would not fit a
//! word, and an entry of two words could be read half old and half new. So most of the key is not
//! stored: a keyed, *invertible* mix turns the 60 bits of VID and address into 60 others, the top
//! bits of which name the bucket. Where a word lies thus tells those bits, the word holds the
//! rest, and both together are the whole key: nothing is ever mistaken for something else.
//!
//! ```text
//!   key     │ VID 12 │ address 48                              │   60 bits
//!                         │ four Feistel rounds, keyed
//!   mixed   │ bucket 14 and more │ remainder 46 and less       │   60 bits
//!                                      │
//!           63                      18   17    16         7 6       0
//!   word    │ remainder               │ away │ port slot   │ state   │   64 bits
//! ```
//!
//! `state` is 0 for an empty word (which is then 0 throughout), 1 for a static entry, and for a
//! learned one its stamp of 0 to 125, plus 2. `away` is set in a word that lies in its key's second
//! bucket. That one is the first XOR an odd number out of the remainder: never the first
//! itself, and the way back is the same step, so a word in either tells its key.
//!
//! 46 bits of remainder mean that there are at least 2^14 buckets, 1 MiB, however few addresses.
//!
//! The mix keeps a guest from aiming: who could choose addresses that share two buckets would keep
//! 17 of his own there and everybody else's out. Each round multiplies by and adds secret
//! words drawn at start. It is no cipher, but the guest sees nothing of its output, only whether a
//! frame of his was flooded.

use std::hash::{BuildHasher, RandomState};

use frame::{MacAddr, VlanId};

/// Bits of VID and address together.
const KEY_BITS: u32 = 60;
const HALF_BITS: u32 = KEY_BITS / 2;
const HALF_MASK: u64 = (1 << HALF_BITS) - 1;
const ADDRESS_BITS: u32 = 48;

const STATE_BITS: u32 = 7;
const STATE_MASK: u64 = (1 << STATE_BITS) - 1;
const SLOT_SHIFT: u32 = STATE_BITS;
const SLOT_MASK: u64 = (1 << 10) - 1;
/// Where the part that tells keys of one bucket apart begins: `away`, then the remainder.
const TELLING_SHIFT: u32 = SLOT_SHIFT + 10;

/// The fewest bits of bucket number that leave a remainder a word has room for.
pub(super) const MIN_BUCKET_BITS: u32 = KEY_BITS - (u64::BITS - TELLING_SHIFT - 1);

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
        Self(telling << TELLING_SHIFT | (slot as u64 & SLOT_MASK) << SLOT_SHIFT | state)
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

    /// What tells this entry from others in its bucket.
    pub(super) const fn telling(self) -> u64 {
        self.0 >> TELLING_SHIFT
    }

    /// Says whether this is the entry with these telling bits. An empty word is nobody's, also
    /// not that of the key whose telling bits are all zero.
    #[inline]
    pub(super) const fn is_of(self, telling: u64) -> bool {
        // What is left of its own entry is slot and state, which is not 0.
        let rest = self.0 ^ telling << TELLING_SHIFT;
        rest.wrapping_sub(1) < (1 << TELLING_SHIFT) - 1
    }
}

/// The two buckets that a key's word may lie in, and what tells it from others there. Two machine
/// words, so that it travels in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    first: u32,
    second: u32,
    remainder: u64,
}

/// VID and address as one number below 2^60.
#[inline]
pub(super) const fn key(vid: VlanId, address: MacAddr) -> u64 {
    (vid.get() as u64) << ADDRESS_BITS | address.to_bits()
}

/// One of the two buckets of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Which {
    First,
    Second,
}

impl Place {
    /// Number of the first or the second bucket; the two differ.
    #[inline]
    pub(super) const fn bucket(&self, which: Which) -> usize {
        match which {
            Which::First => self.first as usize,
            Which::Second => self.second as usize,
        }
    }

    /// The telling bits of the key's word there: the remainder, then `away`.
    #[inline]
    pub(super) const fn telling(&self, which: Which) -> u64 {
        self.remainder << 1 | matches!(which, Which::Second) as u64
    }
}

/// The keyed, invertible mix. See the module's essay.
#[derive(Clone)]
pub(super) struct Mix {
    /// Factor and summand of each round.
    rounds: [(u64, u64); 4],
    remainder_bits: u32,
    // Both made once: a look-up has time for an AND, not for making a mask.
    remainder_mask: u64,
    bucket_mask: u64,
}

impl Mix {
    /// A mix for 2^`bucket_bits` buckets ([`MIN_BUCKET_BITS`] to 30), different in each process.
    pub(super) fn random(bucket_bits: u32) -> Self {
        let random = RandomState::new();
        Self::from_words(bucket_bits, |at| random.hash_one(at))
    }

    /// The same, but repeatable.
    pub(super) fn from_seed(bucket_bits: u32, seed: u64) -> Self {
        Self::from_words(bucket_bits, |at| spread(seed.wrapping_add(at)))
    }

    fn from_words(bucket_bits: u32, word: impl Fn(u64) -> u64) -> Self {
        let round = |at| (word(at), word(at + 4));
        let rounds = [round(0), round(1), round(2), round(3)];
        let remainder_bits = KEY_BITS - bucket_bits;
        let mask = |bits| (1u64 << bits) - 1;
        let [remainder_mask, bucket_mask] = [remainder_bits, bucket_bits].map(mask);
        Self { rounds, remainder_bits, remainder_mask, bucket_mask }
    }

    /// Where the entry of an address in a VLAN may lie.
    #[inline]
    pub(super) fn place(&self, vid: VlanId, address: MacAddr) -> Place {
        self.place_of(self.forward(key(vid, address)))
    }

    /// Where the entry of a mixed key may lie.
    #[inline(always)]
    pub(super) const fn place_of(&self, mixed: u64) -> Place {
        let remainder = mixed & self.remainder_mask;
        let first = index(mixed.wrapping_shr(self.remainder_bits));
        Place { first, second: first ^ self.step(remainder), remainder }
    }

    /// The VID and the address whose word with these telling bits lies in this bucket.
    pub(super) fn key(&self, bucket: usize, telling: u64) -> Option<(VlanId, MacAddr)> {
        let remainder = telling >> 1;
        let step = if telling & 1 == 0 { 0 } else { u64::from(self.step(remainder)) };
        let key = self.backward((bucket as u64 ^ step) << self.remainder_bits | remainder);
        let number = u16::try_from(key >> ADDRESS_BITS).ok()?;
        Some((VlanId::try_from(number).ok()?, MacAddr::from_bits(key)))
    }

    /// From the first bucket to the second, and back: odd, so never nowhere.
    #[inline]
    const fn step(&self, remainder: u64) -> u32 {
        index(remainder & self.bucket_mask | 1)
    }

    /// Mixes a key.
    #[inline(always)]
    pub(super) fn forward(&self, key: u64) -> u64 {
        let halves = (key >> HALF_BITS, key & HALF_MASK);
        let (left, right) = self
            .rounds
            .iter()
            .fold(halves, |(left, right), &round| (right, left ^ scatter(round, right)));
        left << HALF_BITS | right
    }

    fn backward(&self, mixed: u64) -> u64 {
        let halves = (mixed >> HALF_BITS, mixed & HALF_MASK);
        let (left, right) = self
            .rounds
            .iter()
            .rev()
            .fold(halves, |(left, right), &round| (right ^ scatter(round, left), left));
        left << HALF_BITS | right
    }
}

/// The keys stay out of logs.
impl std::fmt::Debug for Mix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mix").finish_non_exhaustive()
    }
}

/// One round: the top half of a product and sum. Strongly universal over the choice of both words
/// (Dietzfelbinger's multiply, add and shift).
#[inline]
const fn scatter((factor, summand): (u64, u64), half: u64) -> u64 {
    factor.wrapping_mul(half).wrapping_add(summand) >> (u64::BITS - HALF_BITS)
}

/// Turns neighbouring numbers into unlike ones, for seeds (splitmix64's finaliser, public domain).
const fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[expect(clippy::cast_possible_truncation, reason = "bucket numbers have at most 30 bits")]
const fn index(bucket: u64) -> u32 {
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn word_keeps_port_stamp_and_telling_bits_apart() {
        let telling = (1 << 47) - 2;

        let word = Word::learned(telling, 1_023, STAMPS - 1);

        assert_eq!((word.telling(), word.slot(), word.stamp()), (telling, 1_023, Some(STAMPS - 1)));
        assert!(!word.is_static());
        assert!(Word::fixed(telling, 0).is_static());
        assert_eq!(Word::fixed(telling, 0).stamp(), None);
    }

    #[test]
    fn empty_word_is_nobodys() {
        assert!(!Word::EMPTY.is_of(0));
        assert!(Word::learned(0, 0, 0).is_of(0));
        assert_eq!(Word::EMPTY.stamp(), None);
    }

    proptest! {
        #[test]
        fn bucket_and_word_tell_the_whole_key(
            seed: u64, bucket_bits in MIN_BUCKET_BITS..=20, number in 1u16..=4_094, bits in 0..1u64 << 48,
        ) {
            let (vid, address) = (VlanId::try_from(number).unwrap(), MacAddr::from_bits(bits));
            let mix = Mix::from_seed(bucket_bits, seed);

            let place = mix.place(vid, address);

            prop_assert_ne!(place.first, place.second);
            for which in [Which::First, Which::Second] {
                let (bucket, telling) = (place.bucket(which), place.telling(which));
                prop_assert!(bucket < 1 << bucket_bits);
                let word = Word::learned(telling, 5, 9);
                prop_assert!(word.is_of(telling));
                prop_assert_eq!(mix.key(bucket, word.telling()), Some((vid, address)));
            }
        }
    }
}
