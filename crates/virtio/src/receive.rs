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
//! What was delivered lies in the used ring but is not visible until it is released, once a burst.
//!
//! Chains are walked a burst ahead (`ahead.rs`), so that the memory they point to is on its way
//! into the cache when the frames are copied.

mod ahead;
mod simple;
mod write;

use frame::{
    BURST_FRAMES, CACHE_LINE_BYTES, Completing, Joined, Outgoing, Reader, prefetch_for_writing,
};

use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::offload::{NetHeader, Receiver};
use crate::signal::Signals;
use crate::vring::{Position, Ring};
use crate::{Features, QueueFault, SetupError, VringLog, VringSetup};
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

/// The receiveq of a guest, with either kind of ring: see [`ReceiveQueue`](crate::ReceiveQueue).
#[derive(Debug)]
pub(crate) struct Receive<R: Ring> {
    chains: Chains<R>,
    signals: Signals,
    /// Up to here chains went back to the driver.
    published: R::Position,
    /// The next chain to fill; up to here used entries are written.
    next: R::Position,
    /// The next chain to walk: those from `next` on are `ahead`.
    walked: R::Position,
    /// Chains available from `walked` on, when last looked.
    seen_available: u16,
    net_header_bytes: usize,
    features: Features,
    receiver: Receiver,
    /// Chains that one frame may take.
    most_merged: usize,
    /// Chains from `next` on that were walked and not filled yet.
    ahead: Ahead<R::Head>,
    /// Where the front of a frame goes whose head is written last. Never grows.
    front: Vec<Piece>,
}

impl<R: Ring> Receive<R> {
    pub(crate) fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let chains = Chains::<R>::new(setup)?;
        let next = chains.ring.start(setup.base)?;
        let merges = setup.features.contains(Features::NET_MRG_RXBUF);
        let mut queue = Self {
            signals: Signals::new(),
            published: next,
            next,
            walked: next,
            seen_available: 0,
            net_header_bytes: setup.features.net_header_bytes(),
            features: setup.features,
            receiver: Receiver::new(setup.features),
            most_merged: if merges { MAX_MERGED } else { 1 },
            ahead: Ahead::new(),
            front: Vec::with_capacity(MAX_PIECES),
            chains,
        };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    pub(crate) fn prepare(&mut self, frames: usize, bytes: usize) {
        let needed_bytes = bytes.saturating_add(frames * self.net_header_bytes);
        let wanted = frames.min(BURST_FRAMES);
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_FRAMES")]
        self.chains.ring.prefetch_used(self.next, wanted as u16);
        self.ahead.make_room();
        let (mut count, mut room_bytes) = self.ahead.totals();
        let mut budget = DESCRIPTOR_BUDGET;
        if count < wanted && !self.ahead.is_half_full() {
            let (singles, single_bytes) = self.walk_singles(wanted - count);
            count += singles;
            room_bytes = room_bytes.saturating_add(single_bytes);
        }
        while (count < wanted || room_bytes < needed_bytes)
            && !self.ahead.is_half_full()
            && budget > 0
        {
            // Whoever delivers meets a fault again.
            let Ok(Some(walked)) = self.walk_next() else { return };
            count += 1;
            room_bytes = room_bytes.saturating_add(walked.room_bytes);
            budget = budget.saturating_sub(walked.descriptors);
        }
    }

    pub(crate) const fn receiver(&self) -> Receiver {
        self.receiver
    }

    pub(crate) const fn limit_offloads(&mut self, offloads: Features) {
        let negotiated = self.features.0 & Features::GUEST_OFFLOADS.0;
        self.receiver = Receiver::new(Features(negotiated & offloads.0));
    }

    pub(crate) fn deliver(
        &mut self,
        net_header: NetHeader,
        frame: &Outgoing<'_>,
    ) -> Result<(), Refusal> {
        if self.deliver_simple(net_header, std::iter::once(*frame)) == 1 {
            return Ok(());
        }
        self.deliver_by_parts(net_header, frame)
    }

    /// Delivers any frame into as many chains as it takes.
    #[inline(never)]
    fn deliver_by_parts(
        &mut self,
        net_header: NetHeader,
        frame: &Outgoing<'_>,
    ) -> Result<(), Refusal> {
        let chains = self.take_room(frame.length_bytes)?;
        let mut reader = frame.reader();
        self.write(net_header, chains, |room| reader.copy_to(room));
        Ok(())
    }

    pub(crate) fn deliver_joined<'a>(
        &mut self,
        net_header: NetHeader,
        length_bytes: usize,
        mut frame: Joined<'a, impl Iterator<Item = Reader<'a>>>,
    ) -> Result<(), Refusal> {
        let chains = self.take_room(length_bytes)?;
        self.write(net_header, chains, |room| frame.copy_to(room));
        Ok(())
    }

    pub(crate) fn deliver_completing(&mut self, frame: Completing<'_>) -> Result<(), Refusal> {
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
                    let walked = self.walk_one_more()?;
                    budget = budget.saturating_sub(walked.descriptors);
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

    /// Walks one more chain, which a frame needs.
    #[inline(never)]
    fn walk_one_more(&mut self) -> Result<Walked<R::Head>, Refusal> {
        self.ahead.make_room();
        self.walk_next()?.ok_or(Refusal::NoBuffer)
    }

    /// Walks the next chain, if one is available.
    #[inline(always)]
    fn walk_next(&mut self) -> Result<Option<Walked<R::Head>>, QueueFault> {
        if self.seen_available == 0 {
            self.seen_available = self.chains.ring.available(self.published, self.walked)?;
            if self.seen_available == 0 {
                return Ok(None);
            }
        }
        // The next burst's descriptors, by the time they are needed.
        self.chains.ring.prefetch_chain(self.walked, PREFETCH_DISTANCE);
        let single = self.chains.single(self.published, self.walked, Wanted::Writable);
        if let Some((head, piece)) = single
            && self.ahead.pieces.len() < MAX_PIECES
        {
            prefetch_front(&piece);
            self.ahead.pieces.push(piece);
            return Ok(Some(self.note(head, piece.length_bytes as usize, 1)));
        }
        self.walk_chain()
    }

    /// The same for a chain of any kind.
    #[inline(never)]
    fn walk_chain(&mut self) -> Result<Option<Walked<R::Head>>, QueueFault> {
        let pieces = &mut self.ahead.pieces;
        let mut room_bytes = 0usize;
        let (published, next) = (self.published, self.walked);
        let walked = self.chains.walk(published, next, Wanted::Writable, &mut |piece: Piece| {
            if pieces.len() < MAX_PIECES {
                prefetch_front(&piece);
                room_bytes += piece.length_bytes as usize;
                pieces.push(piece);
            }
        });
        let (head, walked) = match walked {
            Ok(Some(found)) => found,
            Ok(None) => {
                self.seen_available = 0;
                return Ok(None);
            }
            Err(fault) => {
                self.ahead.forget_last_pieces();
                return Err(fault);
            }
        };
        Ok(Some(self.note(head, room_bytes, walked.descriptors)))
    }

    /// Notes that the next chain was walked, whose pieces are the last of `ahead`.
    #[inline(always)]
    fn note(&mut self, head: R::Head, room_bytes: usize, descriptors: u32) -> Walked<R::Head> {
        let chain = Walked { head, pieces_end: self.ahead.pieces.len(), room_bytes, descriptors };
        self.ahead.walked.push(chain);
        self.walked = self.chains.ring.after(self.walked, head);
        self.seen_available -= 1;
        chain
    }

    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let before = std::mem::replace(&mut self.published, self.next);
        let is_awaited = self.signals.publish(&mut self.chains.ring, before, self.next);
        self.chains.log_used(before, self.next);
        is_awaited
    }

    #[inline]
    pub(crate) fn has_buffers(&self) -> bool {
        self.walked != self.next || self.chains.ring.has_available(self.next)
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

/// Asks the processor for the first cache lines of a buffer that is about to be written: as many
/// as a small frame and its net header take, two at most.
#[inline]
fn prefetch_front(piece: &Piece) {
    let next = (piece.length_bytes as usize - 1).min(CACHE_LINE_BYTES);
    prefetch_for_writing(piece.host.0);
    prefetch_for_writing(piece.host.0.wrapping_add(next));
}

#[cfg(test)]
mod tests;
