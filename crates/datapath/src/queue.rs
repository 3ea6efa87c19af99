//! A queue as a poll thread sees it: a guest's queue pair or one queue of an interface, with
//! what is counted, lent and ordered at it.
//!
//! The same five steps for either kind, in the order of a frame's way: [`Queue::receive`] takes
//! a burst, [`Queue::deliver`] and [`Queue::release_egress`] send one, [`Queue::complete`] and
//! [`Queue::release_ingress`] give buffers back.

mod completion;
mod departure;
mod kind;

use std::sync::Arc;

use afxdp::Chunk;
use frame::{BURST_FRAMES, Burst, DropReason, Outgoing, PortId, Segment, VlanTag};
use virtio::QueueFault;
use virtio::control::ReceiveFilter;
use virtio::offload::NetHeader;

use crate::counters::Counters;
use crate::idle::Patience;
use crate::loans::Loans;
use crate::settings::{PortTraits, Reception};

pub(crate) use departure::Departure;
pub(crate) use kind::{Kind, Receiveq, RingState, Transmitq, Undelivered};

/// One copy that is to leave by a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Order {
    /// Its frame's place in the burst: small, since orders are written for every frame.
    frame: u16,
    /// The tag it leaves with.
    pub(crate) tag: Option<VlanTag>,
    /// There is no other copy of its frame: an interface's queue may have the chunk it lies in.
    pub(crate) is_only: bool,
}

impl Order {
    /// The order of a copy of the frame at this place in the burst.
    #[inline]
    pub(crate) const fn new(frame: usize, tag: Option<VlanTag>, is_only: bool) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "below BURST_FRAMES")]
        let frame = frame as u16;
        Self { frame, tag, is_only }
    }

    /// Its frame's place in the burst.
    #[inline]
    pub(crate) const fn frame(&self) -> usize {
        self.frame as usize
    }
}

/// One queue of one port, owned by one poll thread.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) port: PortId,
    /// The queue pair, or the interface's queue.
    pub(crate) pair: u8,
    pub(crate) kind: Kind,
    pub(crate) counters: Arc<Counters>,
    pub(crate) loans: Loans,
    /// Copies of the current burst that are to leave by it.
    pub(crate) orders: Vec<Order>,
    /// Copies ordered in the current burst and not yet counted.
    pub(crate) ordered_copies: u64,
    /// Where the last burst from here left, if all of its last train went one way.
    pub(crate) usual_egress: Option<u16>,
    /// How long it is polled on when nothing comes.
    pub(crate) patience: Patience,
    /// In the thread's list of polled queues.
    pub(crate) is_polled: bool,
    /// An interface's queue that takes nothing more, for its port is being removed.
    pub(crate) is_leaving: bool,
    /// An interface's or tap's queue that takes nothing more in, and sends on.
    pub(crate) only_sends: bool,
    /// How the port is set.
    pub(crate) traits: PortTraits,
    /// Which frames its guest gets, if not all.
    pub(crate) filter: Option<Arc<ReceiveFilter>>,
}

impl Queue {
    pub(crate) fn new(port: PortId, pair: u8, kind: Kind, counters: Arc<Counters>) -> Self {
        let patience = match kind {
            Kind::Tap(..) => Patience::none(),
            Kind::Guest { .. } | Kind::Interface(_) => Patience::new(),
        };
        Self {
            port,
            pair,
            kind,
            counters,
            loans: Loans::default(),
            orders: Vec::with_capacity(BURST_FRAMES),
            ordered_copies: 0,
            usual_egress: None,
            patience,
            is_polled: false,
            is_leaving: false,
            only_sends: false,
            traits: PortTraits::default(),
            filter: None,
        }
    }

    /// Does as a guest's driver has ordered.
    pub(crate) fn set_reception(&mut self, reception: &Reception) {
        self.filter.clone_from(&reception.filter);
        if let Kind::Guest { receiveq: Some(receiveq), .. } = &mut self.kind {
            receiveq.ring.limit_offloads(reception.offloads);
        }
    }

    /// Adds a copy to those that are to leave by it, and counts `uncounted` copies as ordered. Its
    /// `place` goes to the `touched` ones with the first.
    #[inline]
    pub(crate) fn order(
        &mut self,
        order: Order,
        uncounted: u64,
        place: u16,
        touched: &mut Vec<u16>,
    ) {
        if self.orders.is_empty() {
            touched.push(place);
        }
        self.ordered_copies += uncounted;
        self.orders.push(order);
    }

    /// Takes up to `limit` frames in, a burst at most. Queues that are stopping or stopped take none.
    pub(crate) fn receive(&mut self, burst: &mut Burst, limit: usize) -> Result<(), QueueFault> {
        match &mut self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. }
                if transmitq.state == RingState::Running =>
            {
                transmitq.ring.receive(burst, limit).map(drop)
            }
            Kind::Interface(queue) if !self.is_leaving && !self.only_sends => {
                queue.receive(burst, BURST_FRAMES);
                let wire = self.traits.has_offloads.then_some(self.port.slot);
                burst.frames.iter_mut().for_each(|frame| frame.wire = wire);
                Ok(())
            }
            Kind::Tap(queue, _) if !self.is_leaving && !self.only_sends => {
                queue.receive(burst, BURST_FRAMES);
                Ok(())
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => Ok(()),
        }
    }

    /// How many frames it may take in while the I/O thread has queues. A guest may send all of them
    /// there, where each costs a system call; so it is taken no more than may be lent there: its
    /// frames wait in its own ring, and nobody else waits for them.
    #[inline]
    pub(crate) fn intake_limit(&self, io_thread: u8) -> usize {
        match &self.kind {
            Kind::Guest { .. } => self.loans.credits_left(io_thread.into()).min(BURST_FRAMES),
            Kind::Interface(_) | Kind::Tap(..) => BURST_FRAMES,
        }
    }

    /// How many frames are likely to come in with the next poll.
    #[inline]
    pub(crate) fn ready_frames(&self) -> usize {
        match &self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => transmitq.ring.ready_frames(),
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => 0,
        }
    }

    /// Says whether frames that come in are only to be dropped: a ring that is started and
    /// disabled is served without effect (vhost-user, "Ring states").
    pub(crate) fn discards_ingress(&self) -> bool {
        match &self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => !transmitq.is_enabled,
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => false,
        }
    }

    /// Gets ready for so many frames of so many bytes together, which are about to be delivered.
    pub(crate) fn prepare(&mut self, frames: usize, bytes: usize) {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                receiveq.ring.prepare(frames, bytes);
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {}
        }
    }

    /// Copies one frame to where it goes. The far side sees it after
    /// [`release_egress`](Self::release_egress).
    #[inline(never)]
    pub(crate) fn deliver(&mut self, frame: &Outgoing<'_>) -> Result<(), Undelivered> {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                Ok(receiveq.ring.deliver(frame)?)
            }
            Kind::Interface(queue) if !self.is_leaving => {
                queue.send(frame).map_err(Undelivered::Dropped)
            }
            Kind::Tap(queue, _) if !self.is_leaving => {
                queue.send(NetHeader::default(), frame).map_err(Undelivered::Dropped)
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {
                Err(Undelivered::Dropped(DropReason::PortDown))
            }
        }
    }

    /// The same for frames one after the other, as long as a guest takes each without further ado.
    /// Returns how many there were; all others are for [`deliver`](Self::deliver).
    #[inline(always)]
    pub(crate) fn deliver_many<'a>(&mut self, frames: impl Iterator<Item = Outgoing<'a>>) -> usize {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                receiveq.ring.deliver_many(frames)
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => 0,
        }
    }

    /// Sends one frame that has no other copy by an interface, without a copy if the two share a
    /// UMEM: then the frame's chunk is kept, and its ingress queue is to get the returned one.
    pub(crate) fn forward(&mut self, frame: &Outgoing<'_>) -> Result<Option<Chunk>, Undelivered> {
        match &mut self.kind {
            Kind::Interface(queue) if !self.is_leaving => {
                queue.forward(frame).map_err(Undelivered::Dropped)
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {
                self.deliver(frame).map(|()| None)
            }
        }
    }

    /// Says whether [`forward`](Self::forward) would leave this frame where it lies.
    pub(crate) fn keeps(&self, payload: &[Segment]) -> bool {
        match &self.kind {
            Kind::Guest { .. } | Kind::Tap(..) => false,
            Kind::Interface(queue) => payload.first().is_some_and(|segment| queue.holds(segment)),
        }
    }

    /// Makes delivered frames visible: one store, and at most one notification or system call.
    pub(crate) fn release_egress(&mut self) {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } => {
                if receiveq.ring.release()
                    && let Some(call) = &receiveq.call
                {
                    call.signal();
                }
            }
            Kind::Guest { .. } | Kind::Tap(..) => {}
            Kind::Interface(queue) => queue.flush(),
        }
    }

    /// Sends what an interface could not take earlier. To be called now and then while
    /// [`has_unsent`](Self::has_unsent), which keeps the queue polled.
    pub(crate) fn retry(&mut self) {
        if let Kind::Interface(queue) = &mut self.kind
            && queue.has_work()
        {
            queue.flush();
        }
    }

    /// Says whether frames wait for an interface that could not take them.
    pub(crate) fn has_unsent(&self) -> bool {
        match &self.kind {
            Kind::Guest { .. } | Kind::Tap(..) => false,
            Kind::Interface(queue) => queue.has_work(),
        }
    }

    /// Says whether the queue takes frames to send.
    pub(crate) fn is_eligible(&self) -> bool {
        match &self.kind {
            Kind::Guest { receiveq, .. } => {
                receiveq.as_ref().is_some_and(|receiveq| receiveq.takes_frames())
            }
            Kind::Interface(queue) => !self.is_leaving && queue.can_send(),
            Kind::Tap(..) => !self.is_leaving,
        }
    }

    /// Says whether there is anything to poll.
    pub(crate) fn is_ingress(&self) -> bool {
        match &self.kind {
            Kind::Guest { transmitq, .. } => {
                transmitq.as_ref().is_some_and(|transmitq| transmitq.state == RingState::Running)
            }
            Kind::Interface(_) | Kind::Tap(..) => !self.is_leaving && !self.only_sends,
        }
    }

    /// Asks the far side for a notification when work arrives. Returns false if it cannot, or if
    /// work has arrived meanwhile: then the queue must be polled on.
    pub(crate) fn fall_idle(&mut self) -> bool {
        match &mut self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => {
                if transmitq.kick.is_none() {
                    return false;
                }
                if transmitq.ring.enable_notifications() {
                    transmitq.ring.disable_notifications();
                    return false;
                }
                true
            }
            Kind::Guest { .. } => true,
            Kind::Interface(queue) => queue.may_rest(),
            Kind::Tap(queue, _) => !queue.has_work(),
        }
    }

    /// Asks for no more notifications, for the queue is polled.
    pub(crate) fn wake_up(&mut self, ticks: u64) {
        self.patience.begin_again(ticks);
        if let Kind::Guest { transmitq: Some(transmitq), .. } = &mut self.kind {
            transmitq.ring.disable_notifications();
        }
    }

    /// Says whether every buffer that was taken in has been given back.
    pub(crate) fn is_settled(&self) -> bool {
        match &self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => transmitq.ring.outstanding() == 0,
            Kind::Guest { .. } => true,
            Kind::Interface(queue) => queue.outstanding() == 0,
            Kind::Tap(queue, _) => queue.outstanding() == 0,
        }
    }
}
