//! Chains that are a single piece with an ordinary frame of some length, as most are: taken and
//! parsed in loops that have nothing else in them. A loop that calls for all that a guest may come up
//! with keeps little in registers, and takes twice the instructions.
//!
//! What comes up in between ends the run of chains; what is found in a frame is left to the parsing
//! of any frame.

#![allow(unsafe_code)]

use frame::{BURST_FRAMES, Burst, HEADER_BYTES, Intake, MAX_FRAME_BYTES, SegmentRange};

use super::parse::BURST_WIRE_FRAMES;
use super::{Out, Taken, Transmit, prefetch_first};
use crate::chain::Wanted;
use crate::first_bytes::{MAX_NET_HEADER_BYTES, copy_first, push_segments};
use crate::memory::Piece;
use crate::offload::NetHeader;
use crate::vring::{Position, Ring};

/// Lengths of such pieces in bytes: at least what is copied, at most the longest frame.
const LENGTHS: std::ops::RangeInclusive<u32> = {
    let most = MAX_NET_HEADER_BYTES + MAX_FRAME_BYTES;
    #[expect(clippy::cast_possible_truncation, reason = "some thousands")]
    let (least, most) = ((MAX_NET_HEADER_BYTES + HEADER_BYTES) as u32, most as u32);
    least..=most
};

/// Room for such pieces of a burst.
pub(super) type Singles = Box<[Piece; BURST_FRAMES]>;

impl<R: Ring> Transmit<R> {
    /// Takes the chains at `next`, as long as they are of this kind and up to `count`. Returns how
    /// many there were.
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

    /// Appends the frames of so many to the burst, from the chain at `first` on. Returns the position
    /// of the next and how many frames they may be cut into.
    #[inline(never)]
    pub(super) fn parse_singles(
        &mut self,
        first: R::Position,
        count: usize,
        burst: &mut Burst,
    ) -> (R::Position, u32) {
        let mut position = first;
        let mut wire_frames = 0u32;
        for at in 0..count {
            let piece = self.singles[at];
            let number = position.number();
            if !self.parse_plain(piece, number, burst) {
                if wire_frames >= BURST_WIRE_FRAMES {
                    break;
                }
                let length_bytes = piece.length_bytes.into();
                let taken = Taken { first_piece: 0, piece_count: 1, length_bytes };
                let large = self.parse(taken, &[piece], number, burst);
                wire_frames = wire_frames.saturating_add(large);
            }
            position = self.chains.ring.after(position, self.out_at(number).head);
        }
        (position, wire_frames)
    }

    /// Appends a frame of which nothing is left to do; false if it is another, and nothing was done.
    #[inline(always)]
    fn parse_plain(&self, piece: Piece, number: u16, burst: &mut Burst) -> bool {
        let net_header_bytes = self.net_header_bytes.min(MAX_NET_HEADER_BYTES);
        let pushed = burst.push_with(|header, _, segments| {
            let mut net_header = [0; MAX_NET_HEADER_BYTES];
            let pieces = std::slice::from_ref(&piece);
            // SAFETY: the piece is this queue's, which holds its memory map.
            let copy = |first: &mut _| unsafe {
                copy_first(pieces, net_header_bytes, &mut net_header, first)
            };
            header.read(copy).map_err(drop)?;
            if !NetHeader::from_bytes(&net_header).is_plain() {
                return Err(());
            }
            let skip = net_header_bytes + HEADER_BYTES;
            #[expect(clippy::cast_possible_truncation, reason = "at most HEADER_BYTES each")]
            let (skipped, copied) = (skip as u32, header.length_bytes() as u32);
            let left = piece.length_bytes - skipped;
            #[expect(clippy::cast_possible_truncation, reason = "a burst has few segments")]
            let start = segments.len() as u32;
            // SAFETY: this queue holds the memory map of its pieces while the frame is out, and
            // `drop` leaks it rather than let it go too early.
            unsafe { push_segments(pieces, skip, segments) };
            let segments = SegmentRange { start, count: (left > 0).into() };
            Ok(Intake { segments, length_bytes: copied + left, token: number.into() })
        });
        pushed.is_ok()
    }
}
