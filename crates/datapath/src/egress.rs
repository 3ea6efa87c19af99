//! Sending what was ordered: every egress queue is touched once a burst.
//!
//! Here the one copy is made: private header (with the tag that the port wants) and payload go
//! straight from where they lie to where they go. Then one publication and at most one
//! notification a queue.

use frame::{Burst, DropCounts, DropReason, Frame, HEADER_BYTES, Outgoing, TAG_BYTES, VlanTag};
use virtio::QueueFault;

use crate::command::Event;
use crate::counters::add;
use crate::queue::{Kind, Order, Queue, RingState, Undelivered};
use crate::thread::PollThread;

impl PollThread {
    /// Delivers all copies that were ordered of the current burst.
    pub(crate) fn transmit(&mut self) {
        while let Some(index) = self.work.touched.pop() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            let fault = send(queue, &self.work.burst);
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

/// Sends a queue's orders and counts them. Returns the fault if the guest broke the rules: what
/// could not be sent is dropped then.
fn send(queue: &mut Queue, burst: &Burst) -> Option<QueueFault> {
    let mut orders = std::mem::take(&mut queue.orders);
    let mut drops = DropCounts::default();
    let (mut frames, mut bytes, mut fault) = (0, 0, None);
    let length_bytes = |order: &Order| burst.frames[order.frame].length_bytes as usize;
    queue.prepare(orders.len(), orders.iter().map(length_bytes).sum());
    for (at, order) in orders.iter().enumerate() {
        if let Some(next) = orders.get(at + 1) {
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
