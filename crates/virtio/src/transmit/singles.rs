//! Chains that are a single piece with an ordinary frame of some length, as most are: taken and
//! parsed in loops that have nothing else in them. A loop that calls for all that a guest may come up
//! with keeps little in registers, and takes twice the instructions. What comes up in between ends the
//! run of such chains.

use std::ops::RangeInclusive;

use frame::{BURST_FRAMES, Burst, HEADER_BYTES, MAX_FRAME_BYTES};

use super::parse::BURST_WIRE_FRAMES;
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

    /// Second pass for so many of them, from the chain at `first` on. Returns the position behind the last
    /// one that was parsed, and how many frames they may be cut into.
    #[inline(never)]
    pub(super) fn parse_singles(
        &mut self,
        first: R::Position,
        count: usize,
        burst: &mut Burst,
    ) -> (R::Position, u32) {
        let (mut position, mut wire_frames, mut at) = (first, 0u32, 0);
        while at < count && wire_frames < BURST_WIRE_FRAMES {
            let plain;
            (position, plain) = self.parse_plain(position, at..count, burst);
            at += plain;
            let Some(piece) = self.singles[..count].get(at).copied() else { break };
            let (length_bytes, number) = (piece.length_bytes.into(), position.number());
            let pieces = std::slice::from_ref(&piece);
            let large = self.parse::<true>(pieces, length_bytes, number, burst);
            wire_frames = wire_frames.saturating_add(large);
            position = self.chains.ring.after(position, self.out_at(number).head);
            at += 1;
        }
        (position, wire_frames)
    }
}
