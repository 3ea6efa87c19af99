//! Chains that are a single piece with an ordinary frame of some length, as most are: they are taken
//! here, and [parsed](super::parse), in loops that have nothing else in them. A loop that calls for all
//! that a guest may come up with keeps little in registers, and takes twice the instructions. What comes
//! up in between ends the run of such chains.

use std::ops::RangeInclusive;

use frame::{BURST_FRAMES, HEADER_BYTES, MAX_FRAME_BYTES};

use super::{Out, Transmit, prefetch_first};
use crate::chain::Wanted;
use crate::first_bytes::MAX_NET_HEADER_BYTES;
use crate::memory::Piece;
use crate::vring::{Position, Ring};

/// Lengths of such pieces in bytes: at least what is copied, at most so long that a burst of them is not
/// too long.
const LENGTHS: RangeInclusive<u32> = {
    let most = MAX_NET_HEADER_BYTES + MAX_FRAME_BYTES;
    #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
    let (least, most) = ((MAX_NET_HEADER_BYTES + HEADER_BYTES) as u32, most as u32);
    least..=most
};

/// Room for such pieces of a burst.
pub(super) type Singles = Box<[Piece; BURST_FRAMES]>;

impl<R: Ring> Transmit<R> {
    /// First pass: takes the chains at `next`, as long as they are of this kind and up to `count`. Returns
    /// how many there were.
    #[inline(never)]
    pub(super) fn take_singles(&mut self, count: usize) -> usize {
        let Self { chains, singles, out, mask, published, next, .. } = self;
        let mut position = *next;
        let mut taken = 0;
        for place in singles.iter_mut().take(count) {
            let single = chains.single(*published, position, Wanted::Readable);
            let Some((head, piece)) = single else { break };
            if !LENGTHS.contains(&piece.length_bytes) {
                break;
            }
            prefetch_first(&piece);
            *place = piece;
            out[usize::from(position.number() & *mask)] = Out { head, is_complete: false };
            position = chains.ring.after(position, head);
            taken += 1;
        }
        *next = position;
        taken
    }
}
