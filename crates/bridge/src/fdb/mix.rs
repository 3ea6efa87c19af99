//! Which buckets an address of a VLAN may lie in, and what of it a word there has to hold: the keyed,
//! invertible mix that [`word`](super::word) draws.
//!
//! The mix keeps a guest from aiming: who could choose addresses that share two buckets would keep
//! 16 of his own there and everybody else's out. It multiplies by three odd numbers drawn at
//! start. The last alone brings two given keys to the same first bucket at most twice as often as
//! chance would (Dietzfelbinger's multiply and shift); the others, after each of which the upper half
//! is folded onto the lower, break up the patterns in which keys may be chosen. With one of them
//! less, addresses that differ in their first bits alone crowded into few buckets under one draw
//! of fifteen; with both, the tests know of no pattern that does. It is no cipher, but the guest sees
//! nothing of its output, only whether a frame of his was flooded.

use std::hash::{BuildHasher, RandomState};

use frame::{MacAddr, VlanId};

use super::word::{AWAY, REMAINDER_BITS};

/// Bits of VID and address together.
const KEY_BITS: u32 = 60;
const KEY_MASK: u64 = (1 << KEY_BITS) - 1;
const HALF_BITS: u32 = KEY_BITS / 2;
const ADDRESS_BITS: u32 = 48;
/// What a mixed key is shifted up by: its first bit is a machine word's.
const SPARE_BITS: u32 = u64::BITS - KEY_BITS;

/// The fewest bits of bucket number that leave a remainder a word has room for.
pub(super) const MIN_BUCKET_BITS: u32 = KEY_BITS - REMAINDER_BITS;

/// Where the bit of a word lies that chooses the half of its bucket. The four above it are part of the
/// bucket's number in the largest table.
pub(super) const HOME_SHIFT: u32 = u64::BITS - 4 - 1;

/// How far below a word's first bit the number begins that leads from one bucket to the other: below
/// the bit that chooses the half, and well above the remainder's last, which are the least mixed.
const STEP_BELOW: u32 = 8;

/// The two buckets that a key's word may lie in, and what tells it from others there. Two machine
/// words, so that it travels in registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    first: u32,
    second: u32,
    /// In the first.
    telling: u64,
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

    /// The telling bits of the key's word there.
    #[inline]
    pub(super) const fn telling(&self, which: Which) -> u64 {
        match which {
            Which::First => self.telling,
            Which::Second => self.telling | AWAY,
        }
    }
}

/// The keyed, invertible mix. See the module's essay.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    /// All odd; the last is shifted up by [`SPARE_BITS`], and so is what it makes.
    factors: [u64; 3],
    /// Of the factors, modulo 2^64; of the last before it is shifted.
    inverses: [u64; 3],
    /// How far a mixed key is shifted down for the number of its bucket.
    bucket_shift: u32,
}

impl Mix {
    /// A mix for 2^`bucket_bits` buckets ([`MIN_BUCKET_BITS`] to 18), different in each process.
    pub(super) fn random(bucket_bits: u32) -> Self {
        let random = RandomState::new();
        Self::from_words(bucket_bits, |at| random.hash_one(at))
    }

    /// The same, but repeatable.
    pub(super) fn from_seed(bucket_bits: u32, seed: u64) -> Self {
        Self::from_words(bucket_bits, |at| spread(seed.wrapping_add(at)))
    }

    fn from_words(bucket_bits: u32, word: impl Fn(u64) -> u64) -> Self {
        let odd @ [first, second, third] = [0, 1, 2].map(|at| word(at) | 1);
        Self {
            factors: [first, second, third << SPARE_BITS],
            inverses: odd.map(inverse),
            bucket_shift: u64::BITS - bucket_bits,
        }
    }

    /// Where the entry of an address in a VLAN may lie.
    #[inline]
    pub(super) fn place(&self, vid: VlanId, address: MacAddr) -> Place {
        self.place_of(self.forward(key(vid, address)))
    }

    /// Where the entry of a mixed key may lie.
    #[inline(always)]
    pub(super) const fn place_of(&self, mixed: u64) -> Place {
        let telling = Self::telling(mixed);
        let first = index(self.first_bucket(mixed) as u64);
        Place { first, second: first ^ self.step(telling), telling }
    }

    /// The first bucket of a mixed key.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "bucket numbers have at most 18 bits")]
    pub(super) const fn first_bucket(&self, mixed: u64) -> usize {
        mixed.wrapping_shr(self.bucket_shift) as usize
    }

    /// The telling bits of a mixed key's word in its first bucket.
    #[inline(always)]
    pub(super) const fn telling(mixed: u64) -> u64 {
        mixed << MIN_BUCKET_BITS
    }

    /// The VID and the address whose word with these telling bits lies in this bucket.
    pub(super) fn key(&self, bucket: usize, telling: u64) -> Option<(VlanId, MacAddr)> {
        let step = if telling & AWAY == 0 { 0 } else { self.step(telling) };
        let behind = (1 << self.bucket_shift) - 1;
        let mixed = (bucket as u64 ^ u64::from(step)) << self.bucket_shift
            | (telling & !AWAY) >> MIN_BUCKET_BITS & behind;
        let key = self.backward(mixed);
        let number = u16::try_from(key >> ADDRESS_BITS).ok()?;
        Some((VlanId::try_from(number).ok()?, MacAddr::from_bits(key)))
    }

    /// From the first bucket to the second, and back: odd, so never nowhere.
    #[inline]
    const fn step(&self, telling: u64) -> u32 {
        index((telling << STEP_BELOW).wrapping_shr(self.bucket_shift) | 1)
    }

    /// Mixes a key, and shifts it up to the first bit of a machine word.
    #[inline(always)]
    pub(super) const fn forward(&self, key: u64) -> u64 {
        let [first, second, third] = self.factors;
        fold(fold(key.wrapping_mul(first)).wrapping_mul(second)).wrapping_mul(third)
    }

    const fn backward(&self, mixed: u64) -> u64 {
        let [first, second, third] = self.inverses;
        let key = fold(fold((mixed >> SPARE_BITS).wrapping_mul(third)).wrapping_mul(second));
        key.wrapping_mul(first) & KEY_MASK
    }
}

/// Folds the upper half of a product's 60 bits onto the lower: done again, it is undone. What is
/// above the 60 bits stays there, as it does in products, and is nobody's concern.
#[inline(always)]
const fn fold(product: u64) -> u64 {
    product ^ product << SPARE_BITS >> (SPARE_BITS + HALF_BITS)
}

/// The keys stay out of logs.
impl std::fmt::Debug for Mix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Mix").finish_non_exhaustive()
    }
}

/// What an odd number is multiplied by for 1, modulo 2^64. Each step doubles the bits that are
/// right, of which any odd number has three (Newton).
const fn inverse(odd: u64) -> u64 {
    let (mut inverse, mut right_bits) = (odd, 3);
    while right_bits < u64::BITS {
        inverse = inverse.wrapping_mul(2u64.wrapping_sub(odd.wrapping_mul(inverse)));
        right_bits *= 2;
    }
    inverse
}

/// Turns neighbouring numbers into unlike ones, for seeds (splitmix64's finaliser, public domain).
const fn spread(number: u64) -> u64 {
    let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ mixed >> 31
}

#[expect(clippy::cast_possible_truncation, reason = "bucket numbers have at most 18 bits")]
const fn index(bucket: u64) -> u32 {
    bucket as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fdb::word::Word;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bucket_and_word_tell_the_whole_key(
            seed: u64, bucket_bits in MIN_BUCKET_BITS..=18, number in 1u16..=4_094, bits in 0..1u64 << 48,
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
