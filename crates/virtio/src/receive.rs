//! A guest's receiveq: frames go out to the guest.
//!
//! A frame takes one chain of buffers or, if the driver lets buffers be merged, as many as it
//! needs. All of them are walked and checked before the first byte is written; if they do not
//! suffice, nothing was taken and the next frame finds them as they were.
//!
//! ```text
//!   chain 1                        chain 2                 chain 3
//!  ┌────────────┬───────────────┐ ┌─────────────────────┐ ┌─────────┬ ─ ─ ┐
//!  │ net header │ frame …       │ │ … frame …           │ │ … frame │      num_buffers = 3
//!  └────────────┴───────────────┘ └─────────────────────┘ └─────────┴ ─ ─ ┘
//! ```
//!
//! What was delivered lies in the used ring but is not visible until [`ReceiveQueue::release`]
//! stores the index, once a burst.

#![allow(unsafe_code)]

use frame::{BURST_FRAMES, Outgoing, Room};

use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::signal::Signals;
use crate::{Features, QueueFault, SetupError, VringSetup};

/// Most chains that one frame may take: 64 KiB over buffers of 1,500 bytes, and some.
const MAX_MERGED: usize = 64;

/// Most pieces that one frame may take. A chain whose pieces do not fit gives what fits.
const MAX_PIECES: usize = 4 * BURST_FRAMES;

/// Most descriptors walked for one frame, but for the last chain's.
const DESCRIPTOR_BUDGET: u32 = 1_024;

/// Longest header in front of a frame.
const MAX_NET_HEADER_BYTES: usize = 12;

/// Why a frame was not delivered. Nothing was consumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The driver has not made enough buffers available: it may do so any time.
    #[error("no receive buffer is available")]
    NoBuffer,
    /// The frame does not fit the next buffer, and buffers may not be merged (or not that many).
    /// The buffer stays for a frame that fits.
    #[error("the receive buffers are too small")]
    TooSmall,
    /// The guest broke the ring: the caller stops the queue.
    #[error(transparent)]
    Fault(#[from] QueueFault),
}

/// A chain that will take a part of the frame.
#[derive(Debug, Clone, Copy)]
struct Peeked {
    head: u16,
    /// Where its pieces end within `ReceiveQueue::pieces`.
    pieces_end: usize,
}

/// The receiveq of a guest: our egress. One owner at a time.
#[derive(Debug)]
pub struct ReceiveQueue {
    chains: Chains,
    signals: Signals,
    /// Up to here the used ring was published.
    published: u16,
    /// The next position to fill; up to here the used ring is written.
    next: u16,
    /// Chains available from `next` on, when last looked.
    seen_available: u16,
    net_header_bytes: usize,
    /// Chains that one frame may take.
    most_merged: usize,
    /// Scratch of [`deliver`](Self::deliver): never grows.
    pieces: Vec<Piece>,
    peeked: Vec<Peeked>,
}

impl ReceiveQueue {
    /// Starts working the ring, with notifications from the driver asked for.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring is not in guest memory or not aligned.
    pub fn new(setup: VringSetup) -> Result<Self, SetupError> {
        let chains = Chains::new(&setup)?;
        let next = chains.ring.used_index();
        let merges = setup.features.contains(Features::NET_MRG_RXBUF);
        let mut queue = Self {
            signals: Signals::new(setup.features),
            published: next,
            next,
            seen_available: 0,
            net_header_bytes: setup.features.net_header_bytes(),
            most_merged: if merges { MAX_MERGED } else { 1 },
            pieces: Vec::with_capacity(MAX_PIECES),
            peeked: Vec::with_capacity(MAX_MERGED),
            chains,
        };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    /// Writes net header and frame into the guest's next buffers. The guest sees them at the next
    /// [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was consumed then.
    pub fn deliver(&mut self, frame: &Outgoing<'_>) -> Result<(), Refusal> {
        self.chains.check_alive()?;
        self.peek(self.net_header_bytes + frame.length_bytes)?;
        self.write(frame);
        Ok(())
    }

    /// Walks as many chains as `needed_bytes` take.
    #[inline]
    fn peek(&mut self, needed_bytes: usize) -> Result<(), Refusal> {
        self.pieces.clear();
        self.peeked.clear();
        let mut room_bytes = 0usize;
        let mut budget = DESCRIPTOR_BUDGET;
        while room_bytes < needed_bytes {
            let count = self.peeked.len();
            if count >= self.most_merged || budget == 0 {
                return Err(Refusal::TooSmall);
            }
            if count >= usize::from(self.seen_available) {
                self.seen_available = self.chains.available(self.published, self.next)?;
                if count >= usize::from(self.seen_available) {
                    return Err(Refusal::NoBuffer);
                }
            }
            let (chain_bytes, descriptors) = self.peek_chain(count)?;
            // The header is not split between chains.
            if count == 0 && chain_bytes < self.net_header_bytes {
                return Err(Refusal::TooSmall);
            }
            room_bytes = room_bytes.saturating_add(chain_bytes);
            budget = budget.saturating_sub(descriptors);
        }
        Ok(())
    }

    /// Walks the chain that is `count` behind the next one. Returns its usable bytes and how many
    /// descriptors it has.
    #[inline]
    fn peek_chain(&mut self, count: usize) -> Result<(usize, u32), QueueFault> {
        #[expect(clippy::cast_possible_truncation, reason = "less than MAX_MERGED")]
        let position = self.next.wrapping_add(count as u16);
        let head = self.chains.ring.available_head(position);
        let pieces = &mut self.pieces;
        let mut chain_bytes = 0usize;
        let walked = self.chains.walk(head, Wanted::Writable, &mut |piece: Piece| {
            if pieces.len() < MAX_PIECES {
                chain_bytes += piece.length_bytes as usize;
                pieces.push(piece);
            }
        })?;
        self.peeked.push(Peeked { head, pieces_end: self.pieces.len() });
        Ok((chain_bytes, walked.descriptors))
    }

    /// Writes header and frame into the chains that were walked, and their used entries.
    #[inline]
    fn write(&mut self, frame: &Outgoing<'_>) {
        let mut header = [0; MAX_NET_HEADER_BYTES];
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_MERGED")]
        let num_buffers = self.peeked.len() as u16;
        // Behind the end of the header where it has ten bytes, and then not sent.
        header[10..].copy_from_slice(&num_buffers.to_le_bytes());
        let mut header = &header[..self.net_header_bytes];
        let mut reader = frame.reader();
        let mut start = 0;
        for peeked in &self.peeked {
            let mut written_bytes = 0usize;
            for piece in &self.pieces[start..peeked.pieces_end] {
                // SAFETY: the piece is mapped guest memory by `Translator::translate`, as long as
                // the map, which this queue holds; there are no references to guest memory.
                let mut room = unsafe { Room::new(piece.host.0, piece.length_bytes) };
                let count = room.write(header);
                header = &header[count..];
                written_bytes += count + reader.copy_to(&mut room);
            }
            start = peeked.pieces_end;
            #[expect(clippy::cast_possible_truncation, reason = "at most header and frame")]
            self.chains.ring.set_used(self.next, peeked.head, written_bytes as u32);
            self.next = self.next.wrapping_add(1);
        }
        self.seen_available = self.seen_available.wrapping_sub(num_buffers);
        self.prefetch_next();
    }

    /// Asks for the descriptor that the next frame but one needs.
    #[inline]
    fn prefetch_next(&self) {
        let head = self.chains.ring.available_head(self.next.wrapping_add(1));
        self.chains.ring.prefetch_descriptor(head);
    }

    /// Gives everything delivered to the driver, visible at once. True if the driver asked to be
    /// notified of that.
    pub fn release(&mut self) -> bool {
        let before = std::mem::replace(&mut self.published, self.next);
        self.signals.publish(&self.chains.ring, before, self.next)
    }

    /// Says whether the driver has made a buffer available. One load at most.
    #[must_use]
    #[inline]
    pub fn has_buffers(&self) -> bool {
        self.seen_available != 0 || self.chains.ring.available_index() != self.next
    }

    /// Asks the driver for a notification of new buffers. True if there are some already.
    pub fn enable_notifications(&mut self) -> bool {
        self.signals.enable(&self.chains.ring, self.next)
    }

    /// Tells the driver that notifications of new buffers are not needed.
    pub fn disable_notifications(&mut self) {
        self.signals.disable(&self.chains.ring, self.next);
    }

    /// The next position to fill: GET_VRING_BASE, after [`release`](Self::release).
    #[must_use]
    pub const fn next(&self) -> u16 {
        self.next
    }
}

#[cfg(test)]
mod tests;
