//! Cutting a frame that lies in guest memory in two: the first bytes, which are copied into
//! private memory once, and the extents of the rest.
//!
//! ```text
//!   pieces    ├─ net header ─┼─ first 64 bytes ─┼─ …            wherever the guest cut them
//!   private        copied          copied
//!   segments                                    ├──────────     what was not copied
//! ```

#![allow(unsafe_code)]

use std::ptr;

use frame::{HEADER_BYTES, Segment};

use crate::memory::Piece;

/// Longest net header.
pub(crate) const MAX_NET_HEADER_BYTES: usize = 12;

/// Copies the front of the pieces, once: `net_header_bytes` into `net_header`, for which they
/// suffice, then `first` as far as they go. Returns how many bytes of `first` there were.
///
/// # Safety
///
/// The memory map that the pieces were translated with lives.
#[inline(always)]
pub(crate) unsafe fn copy_first(
    pieces: &[Piece],
    net_header_bytes: usize,
    net_header: &mut [u8; MAX_NET_HEADER_BYTES],
    first: &mut [u8; HEADER_BYTES],
) -> usize {
    if let [piece, ..] = pieces
        && piece.length_bytes as usize >= MAX_NET_HEADER_BYTES + HEADER_BYTES
    {
        // As most frames lie: nothing to be cut, and no loop.
        let net_header_bytes = net_header_bytes.min(MAX_NET_HEADER_BYTES);
        // SAFETY: the caller's promise; the piece is as long as both can be together.
        unsafe { copy_first_of_one(piece, net_header_bytes, net_header, first) };
        return HEADER_BYTES;
    }
    // SAFETY: the caller's promise.
    unsafe { copy_first_of_parts(pieces, net_header_bytes, net_header, first) }
}

/// The same of a piece that holds all of it.
///
/// # Safety
///
/// As [`copy_first`], and the piece is at least as long as `net_header_bytes` and [`HEADER_BYTES`]
/// together.
#[inline(always)]
pub(crate) unsafe fn copy_first_of_one(
    piece: &Piece,
    net_header_bytes: usize,
    net_header: &mut [u8; MAX_NET_HEADER_BYTES],
    first: &mut [u8; HEADER_BYTES],
) {
    let from = piece.host.0.cast_const();
    const { assert!(MAX_NET_HEADER_BYTES <= HEADER_BYTES) };
    // SAFETY: the piece has as many readable bytes, by the caller's promise and the assertion. Private
    // memory does not overlap the guest's.
    unsafe { ptr::copy_nonoverlapping(from, net_header.as_mut_ptr(), MAX_NET_HEADER_BYTES) };
    let from = from.wrapping_add(net_header_bytes);
    // SAFETY: as above; `HEADER_BYTES` are left behind the net header.
    unsafe { ptr::copy_nonoverlapping(from, first.as_mut_ptr(), HEADER_BYTES) };
}

/// The same however the front is cut.
///
/// # Safety
///
/// As [`copy_first`].
#[inline(never)]
unsafe fn copy_first_of_parts(
    pieces: &[Piece],
    net_header_bytes: usize,
    net_header: &mut [u8; MAX_NET_HEADER_BYTES],
    first: &mut [u8; HEADER_BYTES],
) -> usize {
    let mut header_copied = 0;
    let mut copied = 0;
    for piece in pieces {
        let (mut from, mut left) = (piece.host.0.cast_const(), piece.length_bytes as usize);
        if header_copied < net_header_bytes {
            let count = (net_header_bytes - header_copied).min(left);
            if header_copied == 0 && left >= net_header.len() {
                // A legacy header is shorter: then two bytes too many, which nobody looks at.
                let to = net_header.as_mut_ptr();
                // SAFETY: the piece has at least as many readable bytes as `net_header`, by
                // `Translator::translate`; private memory does not overlap the guest's.
                unsafe { ptr::copy_nonoverlapping(from, to, MAX_NET_HEADER_BYTES) };
            } else {
                let to = &mut net_header[header_copied..header_copied + count];
                // SAFETY: the piece has `count` readable bytes.
                unsafe { copy_out(from, to) };
            }
            header_copied += count;
            from = from.wrapping_add(count);
            left -= count;
        }
        let count = (first.len() - copied).min(left);
        // SAFETY: as above: `from` has `left` readable bytes.
        unsafe { copy_out(from, &mut first[copied..copied + count]) };
        copied += count;
        if copied == first.len() {
            break;
        }
    }
    copied
}

/// Copies guest memory into private memory, 16 bytes at a time where there are as many: the
/// amounts here are a few dozen, for which a call of `memcpy` costs more than the copy. Where
/// the last step overlaps the one before, the later reading stays.
///
/// # Safety
///
/// `from` is mapped for as many bytes as `to` has.
#[inline]
unsafe fn copy_out(from: *const u8, to: &mut [u8]) {
    const STEP: usize = 16;
    let (target, length) = (to.as_mut_ptr(), to.len());
    if length < STEP {
        // SAFETY: the caller's promise; private memory does not overlap the guest's.
        unsafe { ptr::copy_nonoverlapping(from, target, length) };
        return;
    }
    let mut at = 0;
    loop {
        let (source, place) = (from.wrapping_add(at), target.wrapping_add(at));
        // SAFETY: `at + STEP <= length`, by the caller's promise and the length of `to`.
        unsafe { ptr::copy_nonoverlapping(source, place, STEP) };
        if at + STEP == length {
            return;
        }
        at = (at + STEP).min(length - STEP);
    }
}

/// Appends what lies behind the first `skip` bytes of the pieces.
///
/// # Safety
///
/// The memory map that the pieces were translated with lives until the frame is handed back.
#[inline]
pub(crate) unsafe fn push_segments(pieces: &[Piece], skip: usize, segments: &mut Vec<Segment>) {
    let mut skip = skip;
    for piece in pieces {
        let length = piece.length_bytes as usize;
        if skip >= length {
            skip -= length;
            continue;
        }
        // SAFETY: the caller's promise.
        segments.push(unsafe { behind(piece, skip) });
        skip = 0;
    }
}

/// What lies behind the first `skip` bytes of a piece: nothing if it is shorter.
///
/// # Safety
///
/// As [`push_segments`].
#[inline(always)]
pub(crate) unsafe fn behind(piece: &Piece, skip: usize) -> Segment {
    let length = piece.length_bytes as usize;
    let skip = skip.min(length);
    #[expect(clippy::cast_possible_truncation, reason = "at most the piece's length")]
    let left = (length - skip) as u32;
    // SAFETY: inside the piece, which is mapped as long as the memory map, and that lives long
    // enough by the caller's promise.
    unsafe { Segment::new(piece.host.0.wrapping_add(skip).cast_const(), left) }
}
