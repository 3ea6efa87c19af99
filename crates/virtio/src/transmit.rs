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
//! A frame's token is its position. Frames are completed in any order, but what goes back to the
//! driver is the completed prefix, in order: so the used index alone says which frames were
//! dealt with, and a switch that crashed and came back loses nothing. For the same reason the
//! used entry of a position is at that position.
//!
//! At most a ring full is ever out (`avail_idx` is checked against the published index), however
//! often a guest makes the same head available.
//!
//! A burst is taken in two passes: first all chains are walked and the lines that hold the frames'
//! first bytes are asked for, then these bytes are copied and parsed (`parse.rs`).

mod parse;

use std::mem;
use std::sync::Arc;

use frame::{BURST_BYTES, BURST_FRAMES, Burst};

use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::offload::Sender;
use crate::region::HostAddress;
use crate::signal::Signals;
use crate::vring::{CACHE_LINE_BYTES, prefetch};
use crate::{QueueFault, SetupError, VringSetup};

/// Most pieces of one frame, its net header included: a driver that cuts finer loses the frame.
/// Linux uses at most 19 and the hostile, one-byte-a-descriptor header still fits.
const MAX_PIECES: usize = 128;

/// Room for the pieces of a burst. At least one frame of [`MAX_PIECES`] always fits.
const BURST_PIECES: usize = 4 * BURST_FRAMES;

/// Most descriptors (or pieces of their buffers) walked in one call, but for the last chain's: bounds the time that a guest
/// with long chains takes from others.
const DESCRIPTOR_BUDGET: u32 = 1_024;

/// A chain that was walked and not yet parsed.
#[derive(Debug, Clone, Copy)]
struct Taken {
    /// Its pieces within `TransmitQueue::pieces`.
    first_piece: u32,
    piece_count: u32,
    /// Bytes in device-readable buffers.
    length_bytes: u64,
}

/// A chain that is out: its head, and whether it may go back.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    head: u16,
    is_complete: bool,
}

/// The transmitq of a guest: our ingress. One owner at a time.
///
/// Dropping it while frames are [`outstanding`](Self::outstanding) keeps the guest's memory
/// mapped for ever, because their extents may still be read.
#[derive(Debug)]
pub struct TransmitQueue {
    chains: Chains,
    signals: Signals,
    /// One entry for each place in the ring.
    positions: Box<[Position]>,
    mask: u16,
    /// Up to here the used ring was published: also the used index.
    published: u16,
    /// The next position to take.
    next: u16,
    net_header_bytes: usize,
    sender: Sender,
    /// Scratch of [`receive`](Self::receive): never grows.
    pieces: Vec<Piece>,
    taken: Vec<Taken>,
}

impl TransmitQueue {
    /// Starts working the ring, with notifications from the driver asked for.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring is not in guest memory or not aligned.
    pub fn new(setup: VringSetup) -> Result<Self, SetupError> {
        let chains = Chains::new(&setup)?;
        let next = chains.ring.used_index();
        let mut queue = Self {
            signals: Signals::new(setup.features),
            positions: vec![Position::default(); usize::from(setup.size.get())].into(),
            mask: setup.size.mask(),
            published: next,
            next,
            net_header_bytes: setup.features.net_header_bytes(),
            sender: Sender { features: setup.features, is_host: false },
            pieces: Vec::with_capacity(BURST_PIECES),
            taken: Vec::with_capacity(BURST_FRAMES),
            chains,
        };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    /// Takes up to `limit` frames ([`BURST_FRAMES`] at most) and appends them to `burst`, their
    /// positions as tokens. Returns how many were appended. Zero with more available is possible:
    /// frames that are bad are counted in `burst.dropped` and completed at once.
    ///
    /// # Errors
    ///
    /// [`QueueFault`] if the guest broke the ring: the caller stops the queue. Frames taken
    /// before in the same call are in the burst all the same, and are to be completed.
    pub fn receive(&mut self, burst: &mut Burst, limit: usize) -> Result<usize, QueueFault> {
        self.chains.check_alive()?;
        let available = self.chains.available(self.published, self.next)?;
        if available == 0 {
            return Ok(0);
        }
        let outcome = self.take_chains(usize::from(available).min(limit).min(BURST_FRAMES), burst);
        let count = self.parse_taken(burst);
        outcome.map(|()| count)
    }

    /// First pass: walks up to `count` chains into `taken` and `pieces`.
    fn take_chains(&mut self, count: usize, burst: &Burst) -> Result<(), QueueFault> {
        self.taken.clear();
        self.pieces.clear();
        let mut room = BURST_PIECES;
        // The burst's own room counts too, so that it does not allocate; but one that has never
        // been used must take a frame.
        if !burst.segments.is_empty() {
            room = room.min(burst.segments.capacity().saturating_sub(burst.segments.len()));
        }
        let (mut budget, mut bytes) = (DESCRIPTOR_BUDGET, BURST_BYTES as u64);
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_FRAMES")]
        self.chains.ring.prefetch_used(self.next, count as u16);
        let mut position = self.next;
        for _ in 0..count {
            self.chains.ring.prefetch_descriptor(self.chains.ring.available_head(position));
            position = position.wrapping_add(1);
        }
        for _ in 0..count {
            if room.saturating_sub(self.pieces.len()) < MAX_PIECES || budget == 0 || bytes == 0 {
                break;
            }
            budget = budget.saturating_sub(self.take_chain()?);
            bytes = bytes.saturating_sub(self.taken.last().map_or(0, |taken| taken.length_bytes));
        }
        Ok(())
    }

    /// Walks the next chain; returns how many descriptors or pieces it has, whichever are more.
    #[inline]
    fn take_chain(&mut self) -> Result<u32, QueueFault> {
        let head = self.chains.ring.available_head(self.next);
        let first = self.pieces.len();
        let pieces = &mut self.pieces;
        // Pieces past the limit are counted and not kept: `parse` drops the frame.
        let mut piece_count = 0u32;
        let walked = self.chains.walk(head, Wanted::Readable, &mut |piece: Piece| {
            piece_count += 1;
            if piece_count as usize <= MAX_PIECES {
                pieces.push(piece);
            }
        });
        let walked = match walked {
            Ok(walked) => walked,
            Err(fault) => {
                self.pieces.truncate(first);
                return Err(fault);
            }
        };
        if let Some(piece) = self.pieces.get(first) {
            prefetch(piece.host);
            // Net header and first bytes are more than a line.
            prefetch(HostAddress(piece.host.0.wrapping_add(CACHE_LINE_BYTES)));
        }
        if let Some(piece) = self.pieces.get(first + 1) {
            prefetch(piece.host);
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_PIECES")]
        let first_piece = first as u32;
        let length_bytes = walked.readable_bytes;
        self.taken.push(Taken { first_piece, piece_count, length_bytes });
        self.positions[usize::from(self.next & self.mask)] = Position { head, is_complete: false };
        self.next = self.next.wrapping_add(1);
        Ok(walked.descriptors.max(piece_count))
    }

    /// The frame of this token is delivered or dropped everywhere: its buffer may go back.
    ///
    /// Calls may come in any order. A token that is not out is ignored.
    #[inline]
    pub fn complete(&mut self, token: u64) {
        let Ok(position) = u16::try_from(token) else { return };
        if position.wrapping_sub(self.published) < self.next.wrapping_sub(self.published) {
            self.positions[usize::from(position & self.mask)].is_complete = true;
        }
    }

    /// Gives the completed prefix back to the driver, visible at once. True if the driver asked
    /// to be notified of that.
    pub fn release(&mut self) -> bool {
        let before = self.published;
        while self.published != self.next {
            let position = self.positions[usize::from(self.published & self.mask)];
            if !position.is_complete {
                break;
            }
            self.chains.ring.set_used(self.published, position.head, 0);
            self.published = self.published.wrapping_add(1);
        }
        self.signals.publish(&self.chains.ring, before, self.published)
    }

    /// Chains taken and not yet given back.
    #[must_use]
    #[inline]
    pub const fn outstanding(&self) -> usize {
        self.next.wrapping_sub(self.published) as usize
    }

    /// Says whether the driver has made something available. One load.
    #[must_use]
    #[inline]
    pub fn has_available(&self) -> bool {
        self.chains.ring.available_index() != self.next
    }

    /// How many frames a burst would take now, as far as the driver's index says. One load.
    #[must_use]
    #[inline]
    pub fn ready_frames(&self) -> usize {
        let ahead = self.chains.ring.available_index().wrapping_sub(self.next);
        usize::from(ahead).min(BURST_FRAMES)
    }

    /// Asks the driver for notifications. True if something was made available meanwhile: then
    /// there may be no notification for it, and the caller looks again.
    pub fn enable_notifications(&mut self) -> bool {
        self.signals.enable(&self.chains.ring, self.next)
    }

    /// Tells the driver that notifications are not needed. It may still send some.
    pub fn disable_notifications(&mut self) {
        self.signals.disable(&self.chains.ring, self.next);
    }

    /// The next position to take: GET_VRING_BASE, once nothing is
    /// [`outstanding`](Self::outstanding).
    #[must_use]
    pub const fn next(&self) -> u16 {
        self.next
    }
}

impl Drop for TransmitQueue {
    fn drop(&mut self) {
        if self.outstanding() != 0 {
            // Somebody may still read the frames that are out: their memory must stay.
            mem::forget(Arc::clone(self.chains.map()));
        }
    }
}

#[cfg(test)]
mod tests;
