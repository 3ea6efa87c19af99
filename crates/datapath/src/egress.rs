//! Sending what was ordered: every egress queue is touched once a burst.
//!
//! Here the one copy is made: private header (with the tag that the port wants) and payload go
//! straight from where they lie to where they go. From interface to interface there is none if the
//! frame has one egress and the two share a UMEM: the chunk that it lies in changes hands. Then one
//! publication and at most one notification a queue.

use afxdp::Chunk;
use frame::{Burst, DropCounts, DropReason, Frame, HEADER_BYTES, Outgoing, TAG_BYTES, VlanTag};
use virtio::QueueFault;

use crate::command::Event;
use crate::counters::add;
use crate::queue::{Kind, Order, Queue, RingState, Undelivered};
use crate::thread::{PollThread, Work};

impl PollThread {
    /// Delivers all copies that were ordered of the current burst.
    pub(crate) fn transmit(&mut self) {
        while let Some(index) = self.work.touched.pop() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let Work { burst, exchanged, .. } = &mut self.work;
            // Decided once a queue: guests' queues have no chunks.
            let fault = match queue.kind {
                Kind::Guest { .. } => send(queue, burst, true, deliver),
                Kind::Interface(_) => send_or_exchange(queue, burst, exchanged),
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

/// Sends a queue's orders by `deliver`, which reads the payload if `is_read`, and counts them. Returns
/// the fault if the guest broke the rules: what could not be sent is dropped then.
#[inline]
fn send(
    queue: &mut Queue,
    burst: &Burst,
    is_read: bool,
    mut deliver: impl FnMut(&mut Queue, &Burst, &Order) -> Result<u64, Undelivered>,
) -> Option<QueueFault> {
    let mut orders = std::mem::take(&mut queue.orders);
    let mut drops = DropCounts::default();
    let (mut frames, mut bytes, mut fault) = (0, 0, None);
    let length_bytes = |order: &Order| burst.frames[order.frame].length_bytes as usize;
    queue.prepare(orders.len(), orders.iter().map(length_bytes).sum());
    for (at, order) in orders.iter().enumerate() {
        if is_read && let Some(next) = orders.get(at + 1) {
            let segments = burst.segments_of(&burst.frames[next.frame]);
            segments.iter().take(1).for_each(frame::Segment::prefetch);
        }
        match deliver(queue, burst, order) {
            Ok(length_bytes) => {
                frames += 1;
                bytes += length_bytes;
            }
            Err(Undelivered::Dropped(reason)) => drops.count(reason),
            Err(Undelivered::Fault(found)) => {
                drops.count(DropReason::PortDown);
                fault = Some(found);
            }
        }
        if fault.is_some() {
            break;
        }
    }
    let accounted = frames + u64::from(drops.total());
    let unsent = orders.len() as u64 - accounted;
    queue.release_egress();
    add(&queue.counters.ordered_copies, std::mem::take(&mut queue.ordered_copies));
    add(&queue.counters.egress_frames, frames);
    add(&queue.counters.egress_bytes, bytes);
    drops.drain(|reason, count| queue.counters.count_drops(reason, count.into()));
    if unsent > 0 {
        queue.counters.count_drops(DropReason::PortDown, unsent);
    }
    orders.clear();
    queue.orders = orders;
    fault
}

/// The same by an interface's queue, which keeps the chunks of frames that lie in its own UMEM. Notes
/// in `exchanged` what their ingress queue gets for them.
fn send_or_exchange(
    queue: &mut Queue,
    burst: &Burst,
    exchanged: &mut Vec<Option<Chunk>>,
) -> Option<QueueFault> {
    let payload = |order: &Order| burst.segments_of(&burst.frames[order.frame]);
    // What one ingress brought lies in one place: all of a burst but for hand-overs.
    let is_read =
        queue.orders.first().is_none_or(|order| !order.is_only || !queue.keeps(payload(order)));
    send(queue, burst, is_read, |queue, burst, order| {
        if !order.is_only {
            return deliver(queue, burst, order);
        }
        let frame = &burst.frames[order.frame];
        let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
        let head = match order.tag {
            None => frame.header.untagged(),
            Some(tag) => frame.header.with_tag(tag, &mut scratch),
        };
        let replacement = queue.forward(&Outgoing::new(head, burst.segments_of(frame)))?;
        if replacement.is_some() {
            if exchanged.is_empty() {
                exchanged.resize(burst.frames.len(), None);
            }
            exchanged[order.frame] = replacement;
        }
        Ok(frame.length_bytes.into())
    })
}

/// Makes the one copy of one order. Returns the frame's length without tag, in bytes.
#[inline]
fn deliver(queue: &mut Queue, burst: &Burst, order: &Order) -> Result<u64, Undelivered> {
    let frame = &burst.frames[order.frame];
    match order.tag {
        None => {
            let head = frame.header.untagged();
            queue.deliver(&Outgoing::new(head, burst.segments_of(frame)))?;
        }
        Some(tag) => deliver_tagged(queue, burst, frame, tag)?,
    }
    Ok(frame.length_bytes.into())
}

/// The same for a frame that leaves with a tag, in a function of its own so that others do not
/// clear the place where its header is put together.
#[inline(never)]
fn deliver_tagged(
    queue: &mut Queue,
    burst: &Burst,
    frame: &Frame,
    tag: VlanTag,
) -> Result<(), Undelivered> {
    let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
    let head = frame.header.with_tag(tag, &mut scratch);
    queue.deliver(&Outgoing::new(head, burst.segments_of(frame)))
}
