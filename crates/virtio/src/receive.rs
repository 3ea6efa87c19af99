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
//!
//! Chains are walked a burst ahead (`ahead.rs`), so that the memory they point to is on its way
//! into the cache when the frames are copied.

mod ahead;
mod write;

use frame::{BURST_FRAMES, Completing, Joined, Outgoing, Reader};

use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::offload::{NetHeader, Receiver};
use crate::signal::Signals;
use crate::vring::prefetch_for_writing;
use crate::{Features, QueueFault, SetupError, VringSetup};
use ahead::{Ahead, MAX_PIECES, Walked};

/// Most chains that one frame may take: 64 KiB over buffers of 1,500 bytes, and some.
const MAX_MERGED: usize = 64;

/// Most descriptors walked for one frame, but for the last chain's.
const DESCRIPTOR_BUDGET: u32 = 1_024;

/// How many chains before it is walked a chain's descriptor is asked for: two cache lines of
/// descriptors, which take about as long to come as so many frames to copy.
const PREFETCH_DISTANCE: u16 = 8;

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
    receiver: Receiver,
    /// Chains that one frame may take.
    most_merged: usize,
    /// Chains from `next` on that were walked and not filled yet.
    ahead: Ahead,
    /// Where the front of a frame goes whose head is written last. Never grows.
    front: Vec<Piece>,
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
            receiver: Receiver::new(setup.features),
            most_merged: if merges { MAX_MERGED } else { 1 },
            ahead: Ahead::new(),
            front: Vec::with_capacity(MAX_PIECES),
            chains,
        };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    /// Walks the chains that so many frames of so many bytes together are likely to take, and asks
    /// the processor for the memory they point to, so that the copies need not wait for it. To be
    /// called before a burst is delivered; nothing depends on it but speed.
    pub fn prepare(&mut self, frames: usize, bytes: usize) {
        let needed_bytes = bytes.saturating_add(frames * self.net_header_bytes);
        let wanted = frames.min(BURST_FRAMES);
        if usize::from(self.seen_available) < wanted {
            match self.chains.available(self.published, self.next) {
                Ok(available) => self.seen_available = available,
                // Whoever delivers meets it again.
                Err(_) => return,
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_FRAMES")]
        self.chains.ring.prefetch_used(self.next, wanted as u16);
        let (mut count, mut room_bytes) = self.ahead.totals();
        let mut budget = DESCRIPTOR_BUDGET;
        while (count < wanted || room_bytes < needed_bytes)
            && count < usize::from(self.seen_available)
            && !self.ahead.is_half_full()
            && budget > 0
        {
            let Ok((walked, descriptors)) = self.walk_next(count) else { return };
            count += 1;
            room_bytes = room_bytes.saturating_add(walked.room_bytes);
            budget = budget.saturating_sub(descriptors);
        }
    }

    /// What the driver takes beside ready frames.
    #[must_use]
    #[inline]
    pub const fn receiver(&self) -> Receiver {
        self.receiver
    }

    /// Writes a ready frame, and a net header that says so, into the guest's next buffers. The
    /// guest sees them at the next [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was consumed then.
    #[inline(always)]
    pub fn deliver(&mut self, frame: &Outgoing<'_>) -> Result<(), Refusal> {
        self.deliver_from(NetHeader::default(), frame)
    }

    /// The same with a net header that says more.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    #[inline(never)]
    pub fn deliver_with(
        &mut self,
        net_header: NetHeader,
        frame: &Outgoing<'_>,
    ) -> Result<(), Refusal> {
        self.deliver_from(net_header, frame)
    }

    /// The copy of [`deliver`](Self::deliver) is put together with all that it calls, as if there
    /// were no other: as functions they cost a fifth of its time (64 bytes).
    #[inline(always)]
    fn deliver_from(&mut self, net_header: NetHeader, frame: &Outgoing<'_>) -> Result<(), Refusal> {
        let chains = self.take_room(frame.length_bytes)?;
        let mut reader = frame.reader();
        self.write(net_header, chains, |room| reader.copy_to(room));
        Ok(())
    }

    /// The same for several frames that were joined into one of `length_bytes` bytes.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_joined<'a>(
        &mut self,
        net_header: NetHeader,
        length_bytes: usize,
        mut frame: Joined<'a, impl Iterator<Item = Reader<'a>>>,
    ) -> Result<(), Refusal> {
        let chains = self.take_room(length_bytes)?;
        self.write(net_header, chains, |room| frame.copy_to(room));
        Ok(())
    }

    /// The same for a frame whose checksum is completed on the way; it needs no net header.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_completing(&mut self, frame: Completing<'_>) -> Result<(), Refusal> {
        let chains = self.take_room(frame.length_bytes())?;
        self.write_completing(frame, chains);
        Ok(())
    }

    /// Finds room for net header and a frame of so many bytes: returns how many chains.
    #[inline(always)]
    fn take_room(&mut self, frame_bytes: usize) -> Result<usize, Refusal> {
        self.chains.check_alive()?;
        self.find_room(self.net_header_bytes + frame_bytes)
    }

    /// Finds out how many chains so many bytes take, which are then walked.
    #[inline(always)]
    fn find_room(&mut self, needed_bytes: usize) -> Result<usize, Refusal> {
        let (mut count, mut room_bytes) = (0, 0usize);
        let mut budget = DESCRIPTOR_BUDGET;
        while room_bytes < needed_bytes {
            if count >= self.most_merged || budget == 0 {
                return Err(Refusal::TooSmall);
            }
            let walked = match self.ahead.get(count) {
                Some(walked) => walked,
                None => {
                    let (walked, descriptors) = self.walk_one_more(count)?;
                    budget = budget.saturating_sub(descriptors);
                    walked
                }
            };
            // The header is not split between chains.
            if count == 0 && walked.room_bytes < self.net_header_bytes {
                return Err(Refusal::TooSmall);
            }
            room_bytes = room_bytes.saturating_add(walked.room_bytes);
            count += 1;
        }
        Ok(count)
    }

    /// Walks the chain behind the `count` that are walked, if it is available.
    fn walk_one_more(&mut self, count: usize) -> Result<(Walked, u32), Refusal> {
        if count >= usize::from(self.seen_available) {
            self.seen_available = self.chains.available(self.published, self.next)?;
            if count >= usize::from(self.seen_available) {
                return Err(Refusal::NoBuffer);
            }
        }
        self.ahead.make_room();
        Ok(self.walk_next(count)?)
    }

    /// Walks the chain behind the `count` that are walked. Returns it and how many descriptors it
    /// has.
    #[inline]
    fn walk_next(&mut self, count: usize) -> Result<(Walked, u32), QueueFault> {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_PIECES")]
        let position = self.next.wrapping_add(count as u16);
        let ring = &self.chains.ring;
        // The next burst's descriptors, by the time they are needed.
        ring.prefetch_descriptor(ring.available_head(position.wrapping_add(PREFETCH_DISTANCE)));
        let head = ring.available_head(position);
        let pieces = &mut self.ahead.pieces;
        let mut room_bytes = 0usize;
        let walked = self.chains.walk(head, Wanted::Writable, &mut |piece: Piece| {
            if pieces.len() < MAX_PIECES {
                prefetch_for_writing(piece.host, piece.length_bytes);
                room_bytes += piece.length_bytes as usize;
                pieces.push(piece);
            }
        });
        let walked = match walked {
            Ok(walked) => walked,
            Err(fault) => {
                self.ahead.forget_last_pieces();
                return Err(fault);
            }
        };
        let chain = Walked { head, pieces_end: self.ahead.pieces.len(), room_bytes };
        self.ahead.walked.push(chain);
        Ok((chain, walked.descriptors))
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
