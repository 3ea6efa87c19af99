//! From a chain that was walked to a frame: its first bytes are copied and parsed, its net header
//! interpreted, the rest described where it lies.

#![allow(unsafe_code)]

use std::mem;
use std::ops::Range;

use frame::{
    Burst, DropReason, HEADER_BYTES, Header, Intake, MAX_FRAME_BYTES, MAX_LARGE_FRAME_BYTES,
    Offload, SegmentRange, TAG_BYTES,
};

use super::{MAX_PIECES, Taken, Transmit};
use crate::first_bytes::{
    MAX_NET_HEADER_BYTES, behind, copy_first, copy_first_of_one, push_segments,
};
use crate::memory::Piece;
use crate::offload::{NetHeader, interpret};
use crate::vring::{Position, Ring};

/// Frames that the large ones of a burst may be cut into; the last large one may go beyond it. Pieces
/// of 536 bytes, which every host takes (RFC 9293, 3.7.1), are 1,100 in [`frame::BURST_BYTES`]; a
/// guest that asks for pieces of a byte could keep others waiting for 87,000.
pub(super) const BURST_WIRE_FRAMES: u32 = 2_048;

impl<R: Ring> Transmit<R> {
    /// Second pass: copies and parses the first bytes of each chain in `taken`, from `first` on. Returns
    /// the position behind the last one that was parsed. `wire_frames` are those that frames before
    /// them may be cut into.
    #[inline(never)]
    pub(super) fn parse_taken(
        &mut self,
        first: R::Position,
        mut wire_frames: u32,
        burst: &mut Burst,
    ) -> R::Position {
        let mut position = first;
        let (pieces, taken) = (mem::take(&mut self.pieces), mem::take(&mut self.taken));
        for &Taken { first_piece, piece_count, length_bytes } in &taken {
            if wire_frames >= BURST_WIRE_FRAMES {
                break;
            }
            let (first, count) = (first_piece as usize, piece_count as usize);
            let number = position.number();
            let large = if count > MAX_PIECES {
                self.drop_one(DropReason::Oversized, length_bytes, number, burst)
            } else {
                let own = &pieces[first..first + count];
                self.parse::<false>(own, length_bytes, number, burst)
            };
            wire_frames = wire_frames.saturating_add(large);
            position = self.chains.ring.after(position, self.out_at(number).head);
        }
        (self.pieces, self.taken) = (pieces, taken);
        position
    }

    /// Second pass for those of these single pieces, the first of which is the chain at `position`, that
    /// are whole frames of which nothing is to be done, as most are, in a loop of its own: up to the first
    /// that is not. Returns the position behind them, and how many there were.
    #[inline(never)]
    pub(super) fn parse_plain(
        &self,
        mut position: R::Position,
        range: Range<usize>,
        burst: &mut Burst,
    ) -> (R::Position, usize) {
        let net_header_bytes = self.net_header_bytes.min(MAX_NET_HEADER_BYTES);
        let copied_bytes = net_header_bytes + HEADER_BYTES;
        let read = |piece: &Piece, header: &mut Header| {
            let behind_bytes = (piece.length_bytes as usize).checked_sub(copied_bytes)?;
            let mut net_header = [0; MAX_NET_HEADER_BYTES];
            let copy = |first: &mut _| {
                // SAFETY: the piece is this queue's, which holds its memory map, and was found long
                // enough.
                unsafe { copy_first_of_one(piece, net_header_bytes, &mut net_header, first) };
                HEADER_BYTES
            };
            header.read(copy).ok()?;
            let length_bytes = header.length_bytes().wrapping_add(behind_bytes);
            if !NetHeader::from_bytes(&net_header).is_plain() || length_bytes > MAX_FRAME_BYTES {
                return None;
            }
            let number = position.number();
            position = self.chains.ring.after(position, self.out_at(number).head);
            #[expect(clippy::cast_possible_truncation, reason = "checked against the longest")]
            Some((length_bytes as u32, u64::from(number)))
        };
        // SAFETY: this queue holds the memory map of its pieces while the frame is out, and `drop`
        // leaks it rather than let it go too early.
        let payload = |piece: &Piece| unsafe { behind(piece, copied_bytes) };
        let count = burst.push_plain(&self.singles[range], read, payload);
        (position, count)
    }

    /// Appends the frame in these pieces, of so many bytes together, to the burst, or drops it. Returns
    /// how many frames it may be cut into; zero for most, of which nothing is to be done.
    ///
    /// There is one of it for each loop: put together with that, it takes half the instructions.
    #[inline(always)]
    pub(super) fn parse<const IS_SINGLE: bool>(
        &mut self,
        pieces: &[Piece],
        length_bytes: u64,
        number: u16,
        burst: &mut Burst,
    ) -> u32 {
        match self.try_parse::<IS_SINGLE>(pieces, length_bytes, number, burst) {
            Ok(wire_frames) => wire_frames,
            Err(reason) => self.drop_one(reason, length_bytes, number, burst),
        }
    }

    /// Drops the frame of a chain of so many bytes. Returns zero, as for any that is not to be cut.
    #[cold]
    #[inline(never)]
    fn drop_one(
        &mut self,
        reason: DropReason,
        length_bytes: u64,
        number: u16,
        burst: &mut Burst,
    ) -> u32 {
        let frame_bytes = length_bytes.saturating_sub(self.net_header_bytes as u64);
        burst.dropped.count(reason);
        burst.dropped_bytes = burst.dropped_bytes.wrapping_add(frame_bytes);
        self.out_mut(number).is_complete = true;
        0
    }

    /// Notes what is left to do to a frame. A function of its own: put together with the rest it
    /// cost frames an eighth of their time that have nothing of it.
    #[cold]
    #[inline(never)]
    fn interpret(
        &self,
        net_header: &[u8; MAX_NET_HEADER_BYTES],
        length_bytes: usize,
        header: &Header,
    ) -> Result<Offload, DropReason> {
        let net_header = NetHeader::from_bytes(net_header);
        let offload = interpret(&net_header, self.sender, header, length_bytes)?;
        if offload.is_too_long(length_bytes) { Err(DropReason::Oversized) } else { Ok(offload) }
    }

    /// The same, or says why it is dropped.
    #[inline(always)]
    fn try_parse<const IS_SINGLE: bool>(
        &self,
        pieces: &[Piece],
        length_bytes: u64,
        number: u16,
        burst: &mut Burst,
    ) -> Result<u32, DropReason> {
        let net_header_bytes = self.net_header_bytes;
        if length_bytes < net_header_bytes as u64 {
            return Err(DropReason::NetHeaderIncomplete);
        }
        let frame_bytes = length_bytes - net_header_bytes as u64;
        if frame_bytes > (MAX_LARGE_FRAME_BYTES + TAG_BYTES) as u64 {
            return Err(DropReason::Oversized);
        }
        let mut wire_frames = 0;
        burst.push_with(|header, offload, segments| {
            let mut net_header = [0; MAX_NET_HEADER_BYTES];
            // SAFETY: the pieces are this queue's, which holds its memory map.
            let copy = |first: &mut _| unsafe {
                copy_first(pieces, net_header_bytes, &mut net_header, first)
            };
            header.read(copy)?;
            let tag_bytes = header.taken_bytes() - header.length_bytes();
            #[expect(clippy::cast_possible_truncation, reason = "checked against the largest")]
            let length_bytes = frame_bytes as u32 - tag_bytes as u32;
            if NetHeader::from_bytes(&net_header).is_plain() {
                if length_bytes as usize > MAX_FRAME_BYTES {
                    return Err(DropReason::Oversized);
                }
            } else {
                *offload = self.interpret(&net_header, length_bytes as usize, header)?;
                wire_frames = offload.most_wire_frames(length_bytes);
            }
            let start = segments.len();
            let skip = net_header_bytes + header.taken_bytes();
            // SAFETY: this queue holds the memory map of its pieces while the frame is out, and
            // `drop` leaks it rather than let it go too early.
            unsafe { push_segments(pieces, skip, segments) };
            #[expect(clippy::cast_possible_truncation, reason = "at most the pieces of a burst")]
            let segments =
                SegmentRange { start: start as u32, count: (segments.len() - start) as u32 };
            Ok(Intake { segments, length_bytes, token: u64::from(number) })
        })?;
        Ok(wire_frames)
    }
}
