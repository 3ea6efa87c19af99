//! A guest's transmitq: frames come in from the guest.
//!
//! ```text
//!   positions, free-running:
//!            published            next             avail_idx
//!               ▼                  ▼                   ▼
//!   ────────────┬───┬───┬───┬───┬──┬───────────────────┬────
//!    given back │ ✓ │ ✓ │   │ ✓ │  │ made available    │
//!   ────────────┴───┴───┴───┴───┴──┴───────────────────┴────
//!               └ prefix┘ └ lent, in any state ┘            ✓ complete
//! ```
//!
//! A frame's token is its chain's number. Frames are completed in any order, but what goes back to the
//! driver is the completed prefix, in order: so a split ring's used index alone says which frames
//! were dealt with, and a switch that crashed and came back loses nothing. For the same reason a
//! chain's used entry is at the chain's position.
//!
//! At most a ring full is ever out (what is available is checked against what went back), however
//! often a guest makes the same head available.
//!
//! A burst is taken in two passes: first all chains are walked and the lines that hold the frames'
//! first bytes are asked for, then these bytes are copied and parsed (`parse.rs`).

mod parse;
mod singles;

use std::mem;
use std::sync::Arc;

use frame::{BURST_BYTES, BURST_FRAMES, Burst, CACHE_LINE_BYTES, prefetch};

use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::offload::Sender;
use crate::signal::Signals;
use crate::vring::{Position, Ring};
use crate::{QueueFault, SetupError, VringLog, VringSetup};
use singles::Singles;

/// Most pieces of one frame, its net header included: a driver that cuts finer loses the frame.
/// Linux uses at most 19 and the hostile, one-byte-a-descriptor header still fits.
const MAX_PIECES: usize = 128;

/// Room for the pieces of a burst. At least one frame of [`MAX_PIECES`] always fits.
const BURST_PIECES: usize = 4 * BURST_FRAMES;

/// Most descriptors (or pieces of their buffers) walked in one call, but for the last chain's and those
/// of chains that are one descriptor: bounds the time that a guest with long chains takes from others.
const DESCRIPTOR_BUDGET: u32 = 1_024;

/// A chain that was walked and not yet parsed.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Its pieces within [`Transmit::pieces`].
    first_piece: u32,
    piece_count: u32,
    /// Bytes in device-readable buffers.
    length_bytes: u64,
}

/// A chain that is out: its head, and whether it may go back.
#[derive(Debug, Clone, Copy, Default)]
struct Out<Head> {
    head: Head,
    is_complete: bool,
}

/// The transmitq of a guest, with either kind of ring: see [`TransmitQueue`](crate::TransmitQueue).
#[derive(Debug)]
pub(crate) struct Transmit<R: Ring> {
    chains: Chains<R>,
    signals: Signals,
    /// One entry for each chain that may be out, by the chain's number.
    out: Box<[Out<R::Head>]>,
    mask: u16,
    /// Up to here chains went back to the driver.
    published: R::Position,
    /// The next chain to take.
    next: R::Position,
    /// The first chain of the last burst.
    burst_start: R::Position,
    /// Up to here all that is out is complete, whatever is noted of it. Not before `published`.
    completed: R::Position,
    net_header_bytes: usize,
    sender: Sender,
    /// Scratch of [`receive`](Self::receive): never grows.
    pieces: Vec<Piece>,
    taken: Vec<Taken>,
    singles: Singles,
}

impl<R: Ring> Transmit<R> {
    pub(crate) fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let chains = Chains::<R>::new(setup)?;
        let next = chains.ring.start(setup.base)?;
        let capacity = setup.size.get().next_power_of_two();
        let mut queue = Self {
            signals: Signals::new(),
            out: vec![Out::default(); usize::from(capacity)].into(),
            mask: capacity.wrapping_sub(1),
            published: next,
            next,
            burst_start: next,
            completed: next,
            net_header_bytes: setup.features.net_header_bytes(),
            sender: Sender { features: setup.features, is_host: false },
            pieces: Vec::with_capacity(BURST_PIECES),
            taken: Vec::with_capacity(BURST_FRAMES),
            singles: Box::new([Piece::NONE; BURST_FRAMES]),
            chains,
        };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    #[inline]
    pub(crate) fn receive(&mut self, burst: &mut Burst, limit: usize) -> Result<usize, QueueFault> {
        self.burst_start = self.next;
        self.chains.check_alive()?;
        let available = self.chains.ring.available(self.published, self.next)?;
        if available == 0 {
            return Ok(0);
        }
        let (first, before) = (self.next, burst.frames.len());
        let count = usize::from(available).min(limit).min(BURST_FRAMES);
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_FRAMES")]
        let chains = count as u16;
        self.chains.ring.prefetch_used(first, chains);
        self.chains.ring.prefetch_chains(first, chains);
        let singles = self.take_singles(count);
        let behind = self.next;
        let outcome =
            if singles == count { Ok(()) } else { self.take_chains(count, singles, burst) };
        let (mut position, wire_frames) = self.parse_singles(first, singles, burst);
        if position == behind {
            position = self.parse_taken(behind, wire_frames, burst);
        }
        self.taken.clear();
        self.pieces.clear();
        // Chains that were walked and not parsed are walked again with the next burst.
        self.next = position;
        outcome.map(|()| burst.frames.len().wrapping_sub(before))
    }

    /// First pass for chains of any kind: walks them into `taken` and `pieces`, up to `count` together
    /// with the `singles` before them.
    fn take_chains(
        &mut self,
        count: usize,
        singles: usize,
        burst: &Burst,
    ) -> Result<(), QueueFault> {
        let mut room = BURST_PIECES;
        // The burst's own room counts too, so that it does not allocate; but one that has never
        // been used must take a frame.
        if !burst.segments.is_empty() {
            room = room.min(burst.segments.capacity().saturating_sub(burst.segments.len()));
        }
        room = room.saturating_sub(singles);
        let single_bytes: u64 =
            self.singles[..singles].iter().map(|piece| u64::from(piece.length_bytes)).sum();
        let (mut budget, mut bytes) =
            (DESCRIPTOR_BUDGET, (BURST_BYTES as u64).saturating_sub(single_bytes));
        for _ in singles..count {
            if room.saturating_sub(self.pieces.len()) < MAX_PIECES || budget == 0 || bytes == 0 {
                break;
            }
            if self.take_single() {
                budget -= 1;
            } else {
                let Some(cost) = self.take_chain()? else { break };
                budget = budget.saturating_sub(cost);
            }
            bytes = bytes.saturating_sub(self.taken.last().map_or(0, |taken| taken.length_bytes));
        }
        Ok(())
    }

    /// Takes the next chain if it is a single piece of any length.
    #[inline(always)]
    fn take_single(&mut self) -> bool {
        let single = self.chains.single(self.published, self.next, Wanted::Readable);
        let Some((head, piece)) = single else { return false };
        prefetch_first(&piece);
        self.pieces.push(piece);
        self.note(head, 1, piece.length_bytes.into());
        true
    }

    /// Walks the next chain, if there is one; returns how many descriptors or pieces it has,
    /// whichever are more.
    #[inline(never)]
    fn take_chain(&mut self) -> Result<Option<u32>, QueueFault> {
        let first = self.pieces.len();
        let pieces = &mut self.pieces;
        // Pieces past the limit are counted and not kept: `parse_taken` drops the frame.
        let mut piece_count = 0u32;
        let walked =
            self.chains.walk(self.published, self.next, Wanted::Readable, &mut |piece: Piece| {
                piece_count += 1;
                if piece_count as usize <= MAX_PIECES {
                    pieces.push(piece);
                }
            });
        let (head, walked) = match walked {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(fault) => {
                self.pieces.truncate(first);
                return Err(fault);
            }
        };
        if let Some(piece) = self.pieces.get(first) {
            prefetch_first(piece);
        }
        if let Some(piece) = self.pieces.get(first + 1) {
            prefetch(piece.host.0);
        }
        self.note(head, piece_count, walked.readable_bytes);
        Ok(Some(walked.descriptors.max(piece_count)))
    }

    /// Notes that the next chain is out, whose pieces are the last of `pieces`.
    #[inline(always)]
    fn note(&mut self, head: R::Head, piece_count: u32, length_bytes: u64) {
        let kept = (piece_count as usize).min(MAX_PIECES);
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_PIECES")]
        let first_piece = self.pieces.len().saturating_sub(kept) as u32;
        self.taken.push(Taken { first_piece, piece_count, length_bytes });
        *self.out_mut(self.next.number()) = Out { head, is_complete: false };
        self.next = self.chains.ring.after(self.next, head);
    }

    /// What is noted of the chain of this number.
    #[inline]
    fn out_at(&self, number: u16) -> Out<R::Head> {
        self.out[usize::from(number & self.mask)]
    }

    /// The same, to be changed.
    #[inline]
    fn out_mut(&mut self, number: u16) -> &mut Out<R::Head> {
        &mut self.out[usize::from(number & self.mask)]
    }

    #[inline]
    pub(crate) fn complete(&mut self, token: u64) {
        let Ok(number) = u16::try_from(token) else { return };
        if usize::from(number.wrapping_sub(self.published.number())) < self.outstanding() {
            self.out_mut(number).is_complete = true;
        }
    }

    #[inline]
    pub(crate) fn complete_burst(&mut self) {
        let (mut position, next) = (self.burst_start, self.next);
        if position == self.completed {
            // Nothing is out before them, as nearly always.
            self.completed = next;
            position = next;
        }
        while position != next {
            let out = self.out_mut(position.number());
            out.is_complete = true;
            let head = out.head;
            position = self.chains.ring.after(position, head);
        }
        self.burst_start = next;
    }

    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let before = self.published;
        let Self { chains, out, mask, completed, next, .. } = self;
        let mut position = before;
        let out = |position: R::Position| out[usize::from(position.number() & *mask)];
        let mut give_back = |position, head| {
            chains.ring.set_used(position, head, 0);
            chains.ring.after(position, head)
        };
        while position != *completed {
            position = give_back(position, out(position).head);
        }
        while position != *next && out(position).is_complete {
            position = give_back(position, out(position).head);
        }
        (self.published, self.completed) = (position, position);
        let is_awaited = self.signals.publish(&mut self.chains.ring, before, self.published);
        self.chains.log_used(before, self.published);
        is_awaited
    }

    #[inline]
    pub(crate) fn outstanding(&self) -> usize {
        self.next.number().wrapping_sub(self.published.number()).into()
    }

    #[inline]
    pub(crate) fn has_available(&self) -> bool {
        self.chains.ring.has_available(self.next)
    }

    #[inline]
    pub(crate) fn ready_frames(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, reason = "a burst is far below 65,536")]
        self.chains.ring.estimate_available(self.next, BURST_FRAMES as u16).into()
    }

    pub(crate) fn enable_notifications(&mut self) -> bool {
        let is_there = self.signals.enable(&self.chains.ring, self.next);
        self.chains.log_events();
        is_there
    }

    pub(crate) fn disable_notifications(&mut self) {
        self.signals.disable(&self.chains.ring, self.next);
        self.chains.log_events();
    }

    pub(crate) fn set_log(&mut self, log: Option<Box<VringLog>>) {
        self.chains.set_log(log);
    }

    pub(crate) fn base(&self) -> u32 {
        self.next.base()
    }
}

impl<R: Ring> Drop for Transmit<R> {
    fn drop(&mut self) {
        if self.outstanding() != 0 {
            // Somebody may still read the frames that are out: their memory must stay.
            mem::forget(Arc::clone(self.chains.map()));
        }
    }
}

/// Asks the processor for the lines with net header and first bytes of a frame, which are two.
#[inline]
fn prefetch_first(piece: &Piece) {
    prefetch(piece.host.0);
    prefetch(piece.host.0.wrapping_add(CACHE_LINE_BYTES));
}

#[cfg(test)]
mod tests;
