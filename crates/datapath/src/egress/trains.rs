//! Receive offload in software: frames of one TCP flow that came off a wire in one burst leave as
//! one large frame, if their receiver takes such.
//!
//! ```text
//!   orders    a1   b1   a2   u   a3   a4 (PSH)   b2
//!   trains    a1 ─────▶ a2 ────▶ a3 ─▶ a4 ┐ leaves                     (at most MAX_TRAINS grow)
//!                  b1 ───────────────────────── ▶ b2 ┐ leaves: the burst is over
//!   frames                  u             a          b
//! ```
//!
//! Nothing waits for a later burst, and no frame overtakes another of its flow: one that cannot
//! join lets the trains of its flow leave first. What a train may consist of is
//! [`virtio::offload::Train`]'s matter; that it is of one port and one tag is seen to here.

use afxdp::Chunk;
use frame::{Burst, Joined, Offload};
use virtio::QueueFault;
use virtio::offload::{CANDIDATE_BYTES, Candidate, Head, Leaving, NetHeader, Train};

use super::copies::{deliver, deliver_whole};
use super::{Tally, deliver_or_exchange, length_bytes};
use crate::queue::{Kind, Order, Queue, Undelivered};

/// Trains of one queue that grow at a time: flows that share a burst. Another lets the oldest
/// leave.
const MAX_TRAINS: usize = 8;

/// A train that may grow.
#[derive(Debug)]
struct Growing {
    train: Train,
    flow: u32,
    /// The slot that its frames came in by.
    wire: Option<u16>,
    /// Its frames: places in the queue's orders.
    members: Vec<u16>,
}

/// The trains of the queue that is sending.
#[derive(Debug, Default)]
pub(crate) struct Trains {
    growing: Vec<Growing>,
    /// Lists of members that are not in use, so that no train allocates.
    spare: Vec<Vec<u16>>,
}

/// A queue that sends: what it was ordered, and what became of that.
struct Sending<'q, 'a> {
    queue: &'q mut Queue,
    burst: &'a Burst,
    orders: &'a [Order],
    head: &'a mut Head,
    exchanged: &'a mut Vec<Option<Chunk>>,
    tally: Tally,
}

impl Sending<'_, '_> {
    fn length_bytes(&self, at: usize) -> usize {
        self.burst.frames[self.orders[at].frame()].length_bytes as usize
    }

    /// Sends one frame by itself.
    fn deliver(&mut self, at: usize) -> Result<(), QueueFault> {
        let Self { queue, burst, orders, head, exchanged, tally } = self;
        match queue.kind {
            Kind::Interface(_) => {
                deliver_or_exchange(queue, burst, &orders[at], head, exchanged, tally)
            }
            Kind::Guest { .. } | Kind::Tap(..) => deliver(queue, burst, &orders[at], head, tally),
        }
    }
}

/// The frame of an order.
fn leaving<'a>(burst: &'a Burst, order: &Order) -> Leaving<'a> {
    let frame = &burst.frames[order.frame()];
    Leaving { header: &frame.header, tag: order.tag, segments: burst.segments_of(frame) }
}

/// Says whether trains may form of a queue's orders.
#[inline]
pub(super) fn may_form(queue: &Queue, burst: &Burst) -> bool {
    queue.orders.len() > 1
        && queue.receiver_of_large().takes_large_tcp()
        && queue.orders.iter().any(|order| burst.frames[order.frame()].wire.is_some())
}

impl Trains {
    /// Sends a queue's orders, joined as far as that goes. Returns the fault if its guest broke the
    /// rules: what could not be sent is dropped then. Notes in `exchanged` which chunks ingress queues
    /// get for those of frames that left by an interface alone.
    pub(super) fn send(
        &mut self,
        queue: &mut Queue,
        burst: &Burst,
        head: &mut Head,
        exchanged: &mut Vec<Option<Chunk>>,
    ) -> Option<QueueFault> {
        let mut orders = std::mem::take(&mut queue.orders);
        queue.prepare(orders.len(), length_bytes(burst, &orders));
        let (orders_left, tally) = (orders.as_slice(), Tally::default());
        let mut sending = Sending { queue, burst, orders: orders_left, head, exchanged, tally };
        let mut outcome = (0..orders.len()).try_for_each(|at| self.take(&mut sending, at));
        while outcome.is_ok() && !self.growing.is_empty() {
            outcome = self.leave(&mut sending, 0);
        }
        let Sending { queue, tally, .. } = sending;
        for left in self.growing.drain(..) {
            self.spare.push(left.members);
        }
        queue.release_egress();
        tally.settle(queue, orders.len());
        orders.clear();
        queue.orders = orders;
        outcome.err()
    }

    /// Adds a frame to the train that it belongs to, or begins one, or sends it.
    fn take(&mut self, sending: &mut Sending<'_, '_>, at: usize) -> Result<(), QueueFault> {
        let frame = &sending.burst.frames[sending.orders[at].frame()];
        let (flow, wire) = (frame.header.flow_hash(), frame.wire);
        let belongs = |other: &Growing| other.flow == flow && other.wire == wire;
        let place = self.growing.iter().position(belongs);
        let leaving = leaving(sending.burst, &sending.orders[at]);
        if wire.is_some() && frame.length_bytes <= sending.queue.traits.limit_bytes {
            sending.head.gather(&leaving, CANDIDATE_BYTES);
        } else {
            return self.send_alone(sending, at, place);
        }
        let receiver = sending.queue.receiver_of_large();
        let candidate = Candidate::examine(sending.head, leaving.length_bytes())
            .filter(|candidate| receiver.takes(candidate.kind(), false))
            .filter(|candidate| {
                let payload = leaving.payload(candidate.head_bytes());
                payload.is_some_and(|payload| candidate.has_valid_checksum(payload))
            });
        let Some(candidate) = candidate else { return self.send_alone(sending, at, place) };
        #[expect(clippy::cast_possible_truncation, reason = "below BURST_FRAMES")]
        let member = at as u16;
        if let Some(place) = place {
            let train = &mut self.growing[place];
            if train.train.join(&candidate) {
                train.members.push(member);
                let is_over = !train.train.is_open();
                return if is_over { self.leave(sending, place) } else { Ok(()) };
            }
        }
        let train = Train::start(&candidate);
        if let Some(place) = place {
            self.leave(sending, place)?;
        } else if self.growing.len() == MAX_TRAINS {
            self.leave(sending, 0)?;
        }
        let is_over = !train.is_open();
        let mut members = self.spare.pop().unwrap_or_default();
        members.push(member);
        self.growing.push(Growing { train, flow, wire, members });
        if is_over { self.leave(sending, self.growing.len() - 1) } else { Ok(()) }
    }

    /// Sends a frame by itself, behind the train of its flow.
    fn send_alone(
        &mut self,
        sending: &mut Sending<'_, '_>,
        at: usize,
        place: Option<usize>,
    ) -> Result<(), QueueFault> {
        if let Some(place) = place {
            self.leave(sending, place)?;
        }
        sending.deliver(at)
    }

    /// Sends a train.
    fn leave(&mut self, sending: &mut Sending<'_, '_>, place: usize) -> Result<(), QueueFault> {
        let Growing { mut train, mut members, .. } = self.growing.remove(place);
        let outcome = send_train(sending, &mut train, &members);
        members.clear();
        self.spare.push(members);
        outcome
    }
}

/// Sends the frames of a train as one. If the guest has too few buffers for that, or the interface
/// does not take it, they leave one by one, as many as there is room for.
fn send_train(
    sending: &mut Sending<'_, '_>,
    train: &mut Train,
    members: &[u16],
) -> Result<(), QueueFault> {
    let places = || members.iter().map(|&at| usize::from(at));
    let (burst, orders) = (sending.burst, sending.orders);
    let is_tagged = places().next().is_some_and(|at| orders[at].tag.is_some());
    if let &[at] = members {
        if matches!(sending.queue.kind, Kind::Interface(_)) {
            return sending.deliver(at.into());
        }
        let net_header = NetHeader::of(&Offload::VALID, is_tagged);
        let frame = leaving(burst, &orders[usize::from(at)]);
        let outcome = deliver_whole(sending.queue, net_header, &frame);
        return sending.tally.note(outcome, sending.length_bytes(at.into()));
    }
    let length_bytes = train.length_bytes();
    let (head, offload) = train.finish();
    let net_header = NetHeader::of(&offload, is_tagged);
    let head_bytes = head.len();
    let payload = |at: usize| leaving(burst, &orders[at]).payload(head_bytes);
    let joined = Joined::new(head, places().filter_map(payload));
    match sending.queue.depart_large(net_header, length_bytes, joined) {
        Ok(()) => {
            for at in places() {
                sending.tally.note(Ok(()), sending.length_bytes(at))?;
            }
            Ok(())
        }
        Err(Undelivered::Dropped(_)) => places().try_for_each(|at| sending.deliver(at)),
        Err(fault @ Undelivered::Fault(_)) => sending.tally.note(Err(fault), 0),
    }
}
