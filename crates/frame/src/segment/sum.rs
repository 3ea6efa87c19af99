//! Summing 16-bit words (RFC 1071) of raw memory, with or without copying it in the same pass.
//!
//! Each byte is loaded once; what is added is what was loaded and is stored. So a guest that
//! writes meanwhile cannot make sum and copy differ. Steps get shorter towards the end and never
//! overlap, because a byte that was loaded twice would be added twice.
//!
//! ```text
//!   AVX2      │ 32 │ 32 │ … │ 8 │ 8 │ 4 │ 2 │ 1
//!   portable  │ 8 │ 8 │ 8 │ 8 │ … │ 8 │ 4 │ 2 │ 1
//! ```
//!
//! A vector is added as 32-bit words in 64-bit lanes: low and high halves go to an accumulator
//! each, whose carries stay in it. Which version runs is asked of the processor at run time, once.

#![allow(unsafe_code)]

use crate::checksum::halves;

/// Below it the call of the vector version costs more than it saves.
#[cfg(target_arch = "x86_64")]
const VECTOR_BYTES: usize = 96;

/// Copies `count` bytes if `STORE`, and returns the sum of their little-endian words, to be folded.
///
/// The two places may overlap: the copy is then the same as that of byte after byte in steps of
/// up to 128 bytes, which is defined, if of use to nobody.
///
/// # Safety
///
/// `from` is readable for `count` bytes, and `to` writable if `STORE`.
#[inline]
pub(super) unsafe fn sum<const STORE: bool>(from: *const u8, to: *mut u8, count: usize) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if count >= VECTOR_BYTES && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked; the rest is the caller's promise.
        return unsafe { avx2::sum::<STORE>(from, to, count) };
    }
    // SAFETY: the caller's promise.
    unsafe { sum_portable::<STORE>(from, to, count) }
}

/// [`sum`] without vector instructions of our own.
///
/// # Safety
///
/// As for [`sum`].
#[inline]
unsafe fn sum_portable<const STORE: bool>(from: *const u8, to: *mut u8, count: usize) -> u64 {
    const STEP: usize = 32;
    let (mut low, mut high) = ([0u64; 4], [0u64; 4]);
    let whole = count - count % STEP;
    for at in (0..whole).step_by(STEP) {
        // SAFETY: `at + STEP <= count`, by the caller's promise.
        let step = unsafe { step::<STEP, STORE>(from, to, at) };
        let (words, _) = step.as_chunks::<8>();
        for (&word, (low, high)) in words.iter().zip(low.iter_mut().zip(&mut high)) {
            let word = u64::from_le_bytes(word);
            // No frame has the 2^32 words that it takes to wrap; named to spare the check, which
            // keeps the compiler from using vectors.
            *low = low.wrapping_add(word & 0xffff_ffff);
            *high = high.wrapping_add(word >> 32);
        }
    }
    // SAFETY: `whole <= count`, by the caller's promise.
    let rest = unsafe { sum_rest::<STORE>(from, to, whole, count) };
    low.iter().chain(&high).sum::<u64>() + rest
}

/// Sums what is left from `at` on, less than a vector.
///
/// # Safety
///
/// As for [`sum`], and `at <= count`.
#[inline]
unsafe fn sum_rest<const STORE: bool>(
    from: *const u8,
    to: *mut u8,
    mut at: usize,
    count: usize,
) -> u64 {
    let mut words = 0;
    while count - at >= 8 {
        // SAFETY: eight bytes are left.
        words += halves(u64::from_le_bytes(unsafe { step::<8, STORE>(from, to, at) }));
        at += 8;
    }
    if count - at >= 4 {
        // SAFETY: four bytes are left.
        words += u64::from(u32::from_le_bytes(unsafe { step::<4, STORE>(from, to, at) }));
        at += 4;
    }
    if count - at >= 2 {
        // SAFETY: two bytes are left.
        words += u64::from(u16::from_le_bytes(unsafe { step::<2, STORE>(from, to, at) }));
        at += 2;
    }
    if count != at {
        // SAFETY: a byte is left.
        words += u64::from(u8::from_le_bytes(unsafe { step::<1, STORE>(from, to, at) }));
    }
    words
}

/// Loads N bytes at offset `at`, and stores them there if `STORE`.
///
/// # Safety
///
/// As for [`sum`], with `at + N <= count`.
#[inline]
unsafe fn step<const N: usize, const STORE: bool>(
    from: *const u8,
    to: *mut u8,
    at: usize,
) -> [u8; N] {
    // SAFETY: N bytes are readable there, by the caller's promise.
    let bytes = unsafe { from.wrapping_add(at).cast::<[u8; N]>().read_unaligned() };
    if STORE {
        // SAFETY: N bytes are writable there, by the caller's promise.
        unsafe { to.wrapping_add(at).cast::<[u8; N]>().write_unaligned(bytes) };
    }
    bytes
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_extract_epi64, _mm256_loadu_si256,
        _mm256_set1_epi64x, _mm256_setzero_si256, _mm256_srli_epi64, _mm256_storeu_si256,
    };

    const STEP: usize = 32;
    /// Vectors in one turn of the loop: their loads do not wait for each other's stores.
    const UNROLLED: usize = 4;

    /// [`sum`](super::sum) in vectors.
    ///
    /// # Safety
    ///
    /// As for [`sum`](super::sum), on a processor with AVX2.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn sum<const STORE: bool>(from: *const u8, to: *mut u8, count: usize) -> u64 {
        let mut low = [_mm256_setzero_si256(); 2];
        let mut high = low;
        let mut at = 0;
        while count - at >= STEP * UNROLLED {
            let mut vectors = [_mm256_setzero_si256(); UNROLLED];
            for (place, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: `STEP * UNROLLED` bytes are left behind `at`.
                *vector = unsafe { step::<STORE>(from, to, at + place * STEP) };
            }
            for (place, &vector) in vectors.iter().enumerate() {
                add(vector, &mut low[place % 2], &mut high[place % 2]);
            }
            at += STEP * UNROLLED;
        }
        while count - at >= STEP {
            // SAFETY: a vector is left behind `at`.
            add(unsafe { step::<STORE>(from, to, at) }, &mut low[0], &mut high[0]);
            at += STEP;
        }
        let low = _mm256_add_epi64(low[0], low[1]);
        let high = _mm256_add_epi64(high[0], high[1]);
        // SAFETY: `at <= count`, and the caller's promise.
        let rest = unsafe { super::sum_rest::<STORE>(from, to, at, count) };
        lanes(_mm256_add_epi64(low, high)) + rest
    }

    /// Loads a vector at offset `at`, and stores it there if `STORE`.
    ///
    /// # Safety
    ///
    /// As for [`sum`](super::sum), with `at + STEP <= count`.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn step<const STORE: bool>(from: *const u8, to: *mut u8, at: usize) -> __m256i {
        // SAFETY: `STEP` bytes are readable there, by the caller's promise; any alignment will do.
        let vector = unsafe { _mm256_loadu_si256(from.wrapping_add(at).cast()) };
        if STORE {
            // SAFETY: `STEP` bytes are writable there, by the caller's promise.
            unsafe { _mm256_storeu_si256(to.wrapping_add(at).cast(), vector) };
        }
        vector
    }

    /// Adds a vector's 32-bit words in 64-bit lanes.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn add(vector: __m256i, low: &mut __m256i, high: &mut __m256i) {
        *low = _mm256_add_epi64(*low, _mm256_and_si256(vector, _mm256_set1_epi64x(0xffff_ffff)));
        *high = _mm256_add_epi64(*high, _mm256_srli_epi64::<32>(vector));
    }

    /// The sum of four lanes, each below 2^62 for any count that a frame has.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn lanes(vector: __m256i) -> u64 {
        [
            _mm256_extract_epi64::<0>(vector),
            _mm256_extract_epi64::<1>(vector),
            _mm256_extract_epi64::<2>(vector),
            _mm256_extract_epi64::<3>(vector),
        ]
        .into_iter()
        .fold(0, |sum, lane| sum + lane.cast_unsigned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sums and copies as one of the versions does it.
    type Version = unsafe fn(*const u8, *mut u8, usize) -> u64;

    /// The sum by this version, folded, and the copy it made between guards.
    fn run(version: Version, bytes: &[u8]) -> (u16, Vec<u8>) {
        let mut place = vec![0xee; bytes.len() + 2];
        // SAFETY: `place` is two bytes longer than `bytes`; no version is run that the processor
        // does not have.
        let words = unsafe { version(bytes.as_ptr(), place[1..].as_mut_ptr(), bytes.len()) };
        let mut sum = crate::Sum::ZERO;
        sum.add_piece(words, bytes.len());
        (sum.folded(), place)
    }

    proptest! {
        #[test]
        fn all_versions_sum_and_copy_alike(
            bytes in proptest::collection::vec(any::<u8>(), 0..2_000), from in 0usize..40
        ) {
            let bytes = &bytes[from.min(bytes.len())..];
            let mut defined = crate::Sum::ZERO;
            defined.add(bytes);
            let copied = [&[0xee], bytes, &[0xee]].concat();

            prop_assert_eq!(run(sum::<true>, bytes), (defined.folded(), copied.clone()));
            prop_assert_eq!(run(sum_portable::<true>, bytes), (defined.folded(), copied));
        }

        #[test]
        fn summing_alone_stores_nothing(
            bytes in proptest::collection::vec(any::<u8>(), 0..300)
        ) {
            let mut defined = crate::Sum::ZERO;
            defined.add(&bytes);
            let untouched = vec![0xee; bytes.len() + 2];

            prop_assert_eq!(run(sum::<false>, &bytes), (defined.folded(), untouched));
        }
    }

    #[test]
    fn largest_words_of_the_longest_frame_carry() {
        let bytes = vec![0xff; 0x1_0000];

        let (folded, _) = run(sum::<true>, &bytes);

        assert_eq!(folded, 0xffff);
    }
}
