//! Sending what was ordered: every egress queue is touched once a burst.
//!
//! Here the one copy is made: private header (with the tag that the port wants) and payload go
//! straight from where they lie to where they go. From interface to interface there is none if the
//! frame has one egress and the two share a UMEM: the chunk that it lies in changes hands. Then one
//! publication and at most one notification a queue.
//!
//! An order is one copy. What it becomes depends on its frame and on the queue:
//!
//! ```text
//!   order ──┬─ nothing left to do ──────────────▶ copied                          copies.rs
//!           ├─ the far side takes it as it is ──▶ copied, with a net header
//!           ├─ checksum to be completed ────────▶ copied and summed
//!           ├─ to be cut ───────────────────────▶ several, copied and summed, unless
//!           │                                    the interface cuts it
//!           └─ a flow's next frame off a wire ──▶ joined with others, if the      trains.rs
//!                                                far side takes that
//! ```

mod copies;
mod trains;

use afxdp::Chunk;
use frame::{Burst, DropCounts, DropReason, Frame, HEADER_BYTES, Outgoing, TAG_BYTES, VlanTag};
use virtio::QueueFault;
use virtio::offload::Head;

use crate::command::Event;
use crate::counters::add;
use crate::queue::{Kind, Order, Queue, RingState, Undelivered};
use crate::thread::{PollThread, Work};

use copies::{deliver, deliver_plain, prefetch_first};
pub(crate) use trains::Trains;

impl PollThread {
    /// Delivers all copies that were ordered of the current burst.
    pub(crate) fn transmit(&mut self) {
        while let Some(index) = self.work.touched.pop() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let Work { burst, exchanged, head, trains, .. } = &mut self.work;
            if queue.filter.is_some() {
                refuse_unwanted(queue, burst);
            }
            // Decided once a queue: only interfaces' have chunks.
            let fault = match queue.kind {
                _ if trains::may_form(queue, burst) => trains.send(queue, burst, head, exchanged),
                Kind::Guest { .. } => {
                    send(queue, burst, true, deliver_plain, |queue, burst, order, tally| {
                        deliver(queue, burst, order, head, tally)
                    })
                }
                Kind::Interface(_) => send_or_exchange(queue, burst, head, exchanged),
                Kind::Tap(..) => {
                    send(queue, burst, false, one_by_one, |queue, burst, order, tally| {
                        deliver(queue, burst, order, head, tally)
                    })
                }
            };
            if queue.has_unsent() {
                self.start_polling(index);
            }
            if let Some(fault) = fault {
                self.stop_receiveq(index, fault);
            }
        }
    }

    /// Stops a receiveq whose guest broke the rules, and tells the control thread once.
    fn stop_receiveq(&mut self, index: u16, fault: QueueFault) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        if let Kind::Guest { receiveq: Some(receiveq), .. } = &mut queue.kind {
            receiveq.state = RingState::Faulted;
        }
        add(&queue.counters.faults, 1);
        let (port, pair) = (queue.port, queue.pair);
        if let Some(port) = self.port(port) {
            port.steering.set_eligible(pair, false);
        }
        self.tell(Event::QueueFault { port, vring: u16::from(pair) * 2, fault });
    }
}

/// What became of a queue's orders, before it goes to the shared counters at once.
#[derive(Debug, Default)]
struct Tally {
    frames: u64,
    /// Bytes of those, without tags.
    bytes: u64,
    /// Frames that large ones were cut into, but for the first of each.
    further: u64,
    drops: DropCounts,
}

impl Tally {
    /// Notes what became of one copy of so many bytes.
    #[inline]
    fn note(&mut self, outcome: Result<(), Undelivered>, bytes: usize) -> Result<(), QueueFault> {
        match outcome {
            Ok(()) => {
                self.frames += 1;
                self.bytes += bytes as u64;
            }
            Err(Undelivered::Dropped(reason)) => self.drops.count(reason),
            Err(Undelivered::Fault(fault)) => {
                self.drops.count(DropReason::PortDown);
                return Err(fault);
            }
        }
        Ok(())
    }

    /// Adds it to the counters of a queue that had so many orders. Those that were not carried out
    /// found the port down.
    fn settle(mut self, queue: &mut Queue, orders: usize) {
        let Self { frames, bytes, further, .. } = self;
        let copies = orders as u64 + further;
        let unsent = copies - (frames + u64::from(self.drops.total()));
        let ordered_copies = std::mem::take(&mut queue.ordered_copies) + further;
        add(&queue.counters.ordered_copies, ordered_copies);
        add(&queue.counters.egress_frames, frames);
        add(&queue.counters.egress_bytes, bytes);
        self.drops.drain(|reason, count| queue.counters.count_drops(reason, count.into()));
        if unsent > 0 {
            queue.counters.count_drops(DropReason::PortDown, unsent);
        }
    }
}

/// Sends a queue's orders and counts them: by `deliver_many` as many of the first as it can, by `deliver`
/// the one behind them, and so on. Payload is read if `is_read`. Returns the fault if the guest broke the
/// rules: what could not be sent is dropped then.
#[inline]
fn send(
    queue: &mut Queue,
    burst: &Burst,
    is_read: bool,
    deliver_many: impl Fn(&mut Queue, &Burst, &[Order]) -> usize,
    mut deliver: impl FnMut(&mut Queue, &Burst, &Order, &mut Tally) -> Result<(), QueueFault>,
) -> Option<QueueFault> {
    let mut orders = std::mem::take(&mut queue.orders);
    let mut tally = Tally::default();
    let bytes = length_bytes(burst, &orders);
    queue.prepare(orders.len(), bytes);
    let mut fault = None;
    let mut at = 0;
    while at < orders.len() {
        let count = deliver_many(queue, burst, &orders[at..]);
        let delivered = &orders[at..at + count];
        tally.frames += count as u64;
        tally.bytes +=
            if count == orders.len() { bytes } else { length_bytes(burst, delivered) } as u64;
        at += count;
        let Some(order) = orders.get(at) else { break };
        if is_read {
            prefetch_first(&burst.frames, &burst.segments, &orders[at + 1..]);
        }
        if let Err(found) = deliver(queue, burst, order, &mut tally) {
            fault = Some(found);
            break;
        }
        at += 1;
    }
    queue.release_egress();
    tally.settle(queue, orders.len());
    orders.clear();
    queue.orders = orders;
    fault
}

/// As `deliver_many` of [`send`]: none, for queues that take one frame at a time.
const fn one_by_one(_: &mut Queue, _: &Burst, _: &[Order]) -> usize {
    0
}

/// Takes those orders out whose frames the guest does not want, and counts them. Asked once a burst,
/// and in a function of its own: few guests are behind it.
#[cold]
#[inline(never)]
fn refuse_unwanted(queue: &mut Queue, burst: &Burst) {
    let Some(filter) = &queue.filter else { return };
    let before = queue.orders.len();
    queue.orders.retain(|order| {
        let destination = burst.frames[order.frame()].header.destination();
        filter.wants(destination, order.tag.map(VlanTag::vid))
    });
    let refused = before - queue.orders.len();
    if refused > 0 {
        queue.counters.count_drops(DropReason::ReceiveFilter, refused as u64);
    }
}

/// The bytes of all frames of some orders, without tags.
#[inline]
fn length_bytes(burst: &Burst, orders: &[Order]) -> usize {
    let frames = &*burst.frames;
    let sum = |sum: usize, frame: &Frame| sum.wrapping_add(frame.length_bytes as usize);
    if orders.len() == frames.len() {
        // It has an order of each, for none leaves twice by one queue.
        return frames.iter().fold(0, sum);
    }
    orders.iter().map(|order| &frames[order.frame()]).fold(0, sum)
}

/// The same by an interface's queue, which keeps the chunks of frames that lie in its own UMEM. Notes
/// in `exchanged` what their ingress queue gets for them.
fn send_or_exchange(
    queue: &mut Queue,
    burst: &Burst,
    head: &mut Head,
    exchanged: &mut Vec<Option<Chunk>>,
) -> Option<QueueFault> {
    let payload = |order: &Order| burst.segments_of(&burst.frames[order.frame()]);
    // What one ingress brought lies in one place: all of a burst but for hand-overs.
    let is_read =
        queue.orders.first().is_none_or(|order| !order.is_only || !queue.keeps(payload(order)));
    send(queue, burst, is_read, one_by_one, |queue, burst, order, tally| {
        deliver_or_exchange(queue, burst, order, head, exchanged, tally)
    })
}

/// Carries out one order of an interface's queue.
fn deliver_or_exchange(
    queue: &mut Queue,
    burst: &Burst,
    order: &Order,
    head: &mut Head,
    exchanged: &mut Vec<Option<Chunk>>,
    tally: &mut Tally,
) -> Result<(), QueueFault> {
    let frame = &burst.frames[order.frame()];
    let is_ready = frame.offload.is_none() && frame.length_bytes <= queue.traits.limit_bytes;
    if !order.is_only || !is_ready {
        return deliver(queue, burst, order, head, tally);
    }
    let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
    let header = frame.header.as_tagged(order.tag, &mut scratch);
    let outcome = queue.forward(&Outgoing::new(header, burst.segments_of(frame)));
    let outcome = outcome.map(|replacement| {
        if replacement.is_some() {
            if exchanged.is_empty() {
                exchanged.resize(burst.frames.len(), None);
            }
            exchanged[order.frame()] = replacement;
        }
    });
    tally.note(outcome, frame.length_bytes as usize)
}
