//! From a chain that was walked to a frame: its first bytes are copied and parsed, its net header
//! interpreted, the rest described where it lies.

#![allow(unsafe_code)]

use std::mem;

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
const BURST_WIRE_FRAMES: u32 = 2_048;

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
                self.parse(own, length_bytes, number, burst)
                    .unwrap_or_else(|reason| self.drop_one(reason, length_bytes, number, burst))
            };
            wire_frames = wire_frames.saturating_add(large);
            position = self.position_behind(position);
        }
        (self.pieces, self.taken) = (pieces, taken);
        position
    }

    /// Second pass for the first `count` single pieces, from the chain at `first` on, in a loop of its own.
    /// Returns the position behind the last one that was parsed, and how many frames they may be cut into.
    #[inline(never)]
    pub(super) fn parse_singles(
        &mut self,
        first: R::Position,
        count: usize,
        burst: &mut Burst,
    ) -> (R::Position, u32) {
        let (mut position, mut wire_frames, mut at) = (first, 0u32, 0);
        let net_header_bytes = self.net_header_bytes.min(MAX_NET_HEADER_BYTES);
        let skip = net_header_bytes + HEADER_BYTES;
        // SAFETY: this queue holds the memory map of its pieces while the frame is out, and `drop`
        // leaks it rather than let it go too early.
        let payload = |piece: &Piece| unsafe { behind(piece, skip) };
        loop {
            let read = |piece: &Piece, header: &mut Header, offload: &mut Offload| {
                if wire_frames >= BURST_WIRE_FRAMES {
                    return Err(None);
                }
                let (length_bytes, large) =
                    self.read_single(piece, net_header_bytes, header, offload)?;
                wire_frames = wire_frames.saturating_add(large);
                let token = position.number().into();
                position = self.position_behind(position);
                Ok((length_bytes, token))
            };
            let (parsed, refusal) = burst.push_many(&self.singles[at..count], read, payload);
            at += parsed;
            let Some(Some(reason)) = refusal else { return (position, wire_frames) };
            let length_bytes = self.singles[at].length_bytes.into();
            self.drop_one(reason, length_bytes, position.number(), burst);
            position = self.position_behind(position);
            at += 1;
        }
    }

    /// Copies and parses the first bytes of a single piece. The rest as [`judge`](Self::judge).
    #[inline(always)]
    fn read_single(
        &self,
        piece: &Piece,
        net_header_bytes: usize,
        header: &mut Header,
        offload: &mut Offload,
    ) -> Result<(u32, u32), DropReason> {
        if (piece.length_bytes as usize) < net_header_bytes + HEADER_BYTES {
            // None that `take_singles` took; what follows relies on it.
            return Err(DropReason::Runt);
        }
        let mut net_header = [0; MAX_NET_HEADER_BYTES];
        header.read(|first| {
            // SAFETY: the piece is this queue's, which holds its memory map, and long enough, as was
            // just checked.
            unsafe { copy_first_of_one(piece, net_header_bytes, &mut net_header, first) };
            HEADER_BYTES
        })?;
        #[expect(clippy::cast_possible_truncation, reason = "12 at most")]
        let frame_bytes = piece.length_bytes.wrapping_sub(net_header_bytes as u32);
        self.judge(&net_header, frame_bytes, header, offload)
    }

    /// The position behind a chain that was taken.
    #[inline(always)]
    fn position_behind(&self, position: R::Position) -> R::Position {
        self.chains.ring.after(position, self.out_at(position.number()).head)
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

    /// Length without tag of a frame of so many bytes, of which `header` is the front, and how many frames
    /// it may be cut into: zero for most, of which nothing is to be done. What is to be done is put into
    /// `offload`, which says nothing before.
    #[inline(always)]
    fn judge(
        &self,
        net_header: &[u8; MAX_NET_HEADER_BYTES],
        frame_bytes: u32,
        header: &Header,
        offload: &mut Offload,
    ) -> Result<(u32, u32), DropReason> {
        #[expect(clippy::cast_possible_truncation, reason = "four at most")]
        let tag_bytes = (header.taken_bytes() - header.length_bytes()) as u32;
        let length_bytes = frame_bytes - tag_bytes;
        if NetHeader::from_bytes(net_header).is_plain() {
            if length_bytes as usize > MAX_FRAME_BYTES {
                return Err(DropReason::Oversized);
            }
            return Ok((length_bytes, 0));
        }
        *offload = self.interpret(net_header, length_bytes as usize, header)?;
        Ok((length_bytes, offload.most_wire_frames(length_bytes)))
    }

    /// Appends the frame in these pieces, of so many bytes together, to the burst, or says why it is
    /// dropped. Returns how many frames it may be cut into.
    fn parse(
        &self,
        pieces: &[Piece],
        length_bytes: u64,
        number: u16,
        burst: &mut Burst,
    ) -> Result<u32, DropReason> {
        let net_header_bytes = self.net_header_bytes;
        let Some(frame_bytes) = length_bytes.checked_sub(net_header_bytes as u64) else {
            return Err(DropReason::NetHeaderIncomplete);
        };
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
            #[expect(clippy::cast_possible_truncation, reason = "checked against the largest")]
            let frame_bytes = frame_bytes as u32;
            let (length_bytes, large) = self.judge(&net_header, frame_bytes, header, offload)?;
            wire_frames = large;
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
