//! Copying raw memory, as much at a time as the processor can.
//!
//! ```text
//!   bytes     0 … 3     4 … 15    16 … 256   257 and more
//!   by        memmove   4         16         AVX2: 4 × 32, else memmove
//! ```
//!
//! The steps of the last bytes overlap those before, so there is no loop over single ones. Large
//! copies are our own because `memmove` of the GNU C library takes `rep movsb` for 4 KiB and more,
//! which is slower between two guests' buffers on AMD's processors: by 5 to 10 % for 9,000 bytes.
//! Which version runs is asked of the processor at run time, once.

#![allow(unsafe_code)]

use std::ptr;

use crate::HEADER_BYTES;

/// Bytes up to which a call costs more than the copy: small frames, headers.
pub(super) const INLINE_BYTES: usize = 256;

/// Bytes at a time up to there.
pub(super) const INLINE_STEP: usize = 16;

/// Copies `count` bytes between memory that guests may have made overlap: a guest can describe
/// its own transmit buffer as its receive buffer, or share memory with another guest. What is
/// copied then is that guest's business, but it must be defined.
///
/// What lies `to_next` behind `to` will be written by the next copy, and is asked for on the way.
///
/// # Safety
///
/// `from` is readable and `to` writable for `count` bytes.
#[inline]
pub(super) unsafe fn copy(from: *const u8, to: *mut u8, count: usize, to_next: Option<usize>) {
    if (INLINE_STEP..=INLINE_BYTES).contains(&count) {
        // SAFETY: the caller's promise.
        unsafe { copy_inline(from, to, count) };
    } else if (4..16).contains(&count) {
        // SAFETY: the caller's promise.
        unsafe { copy_steps::<4>(from, to, count) };
    } else {
        // SAFETY: the caller's promise.
        unsafe { copy_large(from, to, count, to_next) };
    }
}

/// [`copy`] of [`INLINE_STEP`] bytes or more, without a call.
///
/// # Safety
///
/// As for [`copy`], and `count >= INLINE_STEP`.
#[inline(always)]
pub(super) unsafe fn copy_inline(from: *const u8, to: *mut u8, count: usize) {
    if count == HEADER_BYTES {
        // What most headers have: a known number of steps takes no loop.
        // SAFETY: the caller's promise.
        return unsafe { copy_steps::<INLINE_STEP>(from, to, HEADER_BYTES) };
    }
    // SAFETY: the caller's promise.
    unsafe { copy_steps::<INLINE_STEP>(from, to, count) };
}

/// [`copy`] by a function call.
///
/// # Safety
///
/// As for [`copy`].
unsafe fn copy_large(from: *const u8, to: *mut u8, count: usize, to_next: Option<usize>) {
    #[cfg(target_arch = "x86_64")]
    if count >= avx2::STEP && is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2, as was just asked; the rest is the caller's promise.
        return unsafe { avx2::copy(from, to, count, to_next) };
    }
    // `copy` and not `copy_nonoverlapping`, because of the overlap.
    // SAFETY: the caller's promise is what `ptr::copy` asks for.
    unsafe { ptr::copy(from, to, count) };
}

/// Copies `count >= N` bytes, N at a time, the last step over some that were copied before. Each
/// step is loaded whole before it is stored, so that overlap is defined.
///
/// # Safety
///
/// As for [`copy`].
#[inline(always)]
unsafe fn copy_steps<const N: usize>(from: *const u8, to: *mut u8, count: usize) {
    let last = count - N;
    let mut at = 0;
    loop {
        let (source, place) = (from.wrapping_add(at), to.wrapping_add(at));
        // SAFETY: `at <= last`, so N bytes are readable there, by the caller's promise.
        let step = unsafe { source.cast::<[u8; N]>().read_unaligned() };
        // SAFETY: as above, writable.
        unsafe { place.cast::<[u8; N]>().write_unaligned(step) };
        if at == last {
            return;
        }
        at = (at + N).min(last);
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{__m256i, _mm256_loadu_si256, _mm256_storeu_si256};
    use std::array;

    use super::super::PREFETCH_BYTES;
    use crate::prefetch::{CACHE_LINE_BYTES, prefetch_for_writing};

    const VECTOR: usize = 32;

    /// Bytes that are loaded before any of them is stored.
    pub(super) const STEP: usize = 4 * VECTOR;

    /// Copies `count >= STEP` bytes as [`super::copy_steps`] does, from the second step on to places
    /// that are whole vectors of a cache line: a store across two lines takes twice as long.
    ///
    /// # Safety
    ///
    /// As for [`super::copy`], and `count >= STEP`.
    #[target_feature(enable = "avx2")]
    pub(super) unsafe fn copy(from: *const u8, to: *mut u8, count: usize, to_next: Option<usize>) {
        let to_next = to_next.filter(|_| count <= PREFETCH_BYTES);
        let last = count - STEP;
        // SAFETY: `STEP <= count`.
        unsafe { step(from, to, to_next) };
        let mut at = STEP - to.addr() % VECTOR;
        while at < last {
            // SAFETY: `at + STEP < count`.
            unsafe { step(from.wrapping_add(at), to.wrapping_add(at), to_next) };
            at += STEP;
        }
        // SAFETY: `last + STEP == count`.
        unsafe { step(from.wrapping_add(last), to.wrapping_add(last), to_next) };
    }

    /// Copies `STEP` bytes, and asks for those that will be written by the same step of the next copy.
    ///
    /// # Safety
    ///
    /// `from` is readable and `to` writable for `STEP` bytes.
    #[inline]
    #[target_feature(enable = "avx2")]
    unsafe fn step(from: *const u8, to: *mut u8, to_next: Option<usize>) {
        if let Some(to_next) = to_next {
            let next = to.wrapping_add(to_next);
            prefetch_for_writing(next);
            prefetch_for_writing(next.wrapping_add(CACHE_LINE_BYTES));
        }
        let (from, to) = (from.cast::<__m256i>(), to.cast::<__m256i>());
        let vectors: [__m256i; 4] = array::from_fn(|number| {
            // SAFETY: the four vectors are the `STEP` bytes of the caller's promise.
            unsafe { _mm256_loadu_si256(from.wrapping_add(number)) }
        });
        for (number, vector) in vectors.into_iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm256_storeu_si256(to.wrapping_add(number), vector) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_arrives_whole_at_any_offset_and_nothing_beside_it() {
        let from: Vec<u8> = (0..700u16).map(|at| (at % 251) as u8 + 1).collect();
        for count in 0..600 {
            for (offset, to_next) in [(0, None), (1, None), (12, Some(2_048)), (31, Some(0))] {
                let mut to = vec![0; 700];

                // SAFETY: both have 700 bytes, and `offset + count` is less.
                unsafe { copy(from[3..].as_ptr(), to[offset..].as_mut_ptr(), count, to_next) };

                let (before, rest) = to.split_at(offset);
                let (copied, behind) = rest.split_at(count);
                assert_eq!(copied, &from[3..3 + count], "{count} bytes at {offset}");
                assert!(before.iter().chain(behind).all(|&byte| byte == 0), "{count} at {offset}");
            }
        }
    }
}
