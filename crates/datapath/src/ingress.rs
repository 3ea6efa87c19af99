//! One burst of one ingress queue: received, decided, its copies ordered, its buffers given back.
//!
//! The whole burst is decided before anything leaves; `egress.rs` then touches every egress queue
//! once. What was delivered is published there before the ingress buffers are given back here:
//! if the switch dies in between, a guest sends a burst again, and loses none.

use bridge::{Egress, Forward, Seconds};
use frame::{DropReason, Frame, PortId};

use crate::command::Event;
use crate::counters::add;
use crate::handover::{Lent, Target};
use crate::idle::notify;
use crate::queue::Order;
use crate::steering::Lane;
use crate::thread::{NOT_LENT, PollThread};

/// Copies that the floods of one queue may cause in one turn: two floods of the largest switch,
/// 32 of a bridge of 64 ports. Without it a burst of 64 broadcasts on 1,024 ports were 64,000
/// copies, a stall of milliseconds for everybody else.
const FLOOD_COPIES_PER_TURN: usize = 2_048;

/// Bytes of such copies: as many as the copies of full-size frames, so that jumbo frames cost no
/// more time.
const FLOOD_BYTES_PER_TURN: usize = FLOOD_COPIES_PER_TURN * 1_514;

impl PollThread {
    /// Takes one burst from a queue all the way. Returns how many frames it took in.
    pub(crate) fn poll(&mut self, index: u16, now: Seconds) -> usize {
        let work = &mut self.work;
        let Some(queue) = self.queues.get_mut(index) else { return 0 };
        work.burst.clear();
        let outcome = queue.receive(&mut work.burst);
        let taken = work.burst.frames.len() + work.burst.dropped.total() as usize;
        if taken > 0 {
            queue.empty_polls = 0;
            add(&self.counters.frames, taken as u64);
            add(&self.counters.bursts, 1);
            self.decide(index, now);
            self.transmit();
            self.give_back(index);
        } else {
            queue.retry();
        }
        if let Err(fault) = outcome {
            self.stop_transmitq(index, fault);
        }
        taken
    }

    /// Decides every frame of the burst and orders its copies.
    fn decide(&mut self, index: u16, now: Seconds) {
        self.work.loans.clear();
        self.work.loans.resize(self.work.burst.frames.len(), NOT_LENT);
        self.work.flood_copies_left = FLOOD_COPIES_PER_TURN;
        self.work.flood_bytes_left = FLOOD_BYTES_PER_TURN;
        let Some(queue) = self.queues.get_mut(index) else { return };
        let (port, pair, discards) = (queue.port, queue.pair, queue.discards_ingress());
        let has_several_pairs = self.port(port).is_some_and(|p| p.steering.has_several_pairs());
        let mut bytes = self.work.burst.dropped_bytes;
        for at in 0..self.work.burst.frames.len() {
            let frame = self.work.burst.frames[at];
            bytes += u64::from(frame.length_bytes);
            if discards {
                self.work.drops.count(DropReason::QueueDisabled);
                continue;
            }
            if has_several_pairs && let Some(port) = self.port(port) {
                port.steering.sent_from(frame.header.flow_hash(), pair);
            }
            let decision = self
                .bridge
                .decide(port.slot, &frame.header, now)
                .and_then(|forward| self.order(index, port, at, &frame, &forward));
            if let Err(reason) = decision {
                self.work.drops.count(reason);
            }
        }
        self.count_ingress(index, bytes);
    }

    /// Adds the burst to the counters of the queue it came from.
    fn count_ingress(&mut self, index: u16, bytes: u64) {
        let work = &mut self.work;
        let Some(queue) = self.queues.get_mut(index) else { return };
        let dropped = u64::from(work.burst.dropped.total());
        let frames = work.burst.frames.len() as u64;
        add(&queue.counters.ingress_frames, frames + dropped);
        add(&queue.counters.ingress_bytes, bytes);
        add(&queue.counters.decided_frames, frames - u64::from(work.drops.total()));
        work.drops.drain(|reason, count| queue.counters.count_drops(reason, count.into()));
        work.burst.dropped.drain(|reason, count| queue.counters.count_drops(reason, count.into()));
        work.burst.dropped_bytes = 0;
    }

    /// Orders the copies of one frame.
    ///
    /// # Errors
    ///
    /// The reason if the frame leaves by no port at all: an ingress drop.
    fn order(
        &mut self,
        index: u16,
        ingress: PortId,
        at: usize,
        frame: &Frame,
        forward: &Forward,
    ) -> Result<(), DropReason> {
        match forward.egress {
            Egress::Port(slot) => self.order_one(index, ingress, slot, at, frame, forward),
            Egress::Flood => self.order_flood(index, ingress, at, frame, forward),
        }
    }

    fn order_one(
        &mut self,
        index: u16,
        ingress: PortId,
        slot: u16,
        at: usize,
        frame: &Frame,
        forward: &Forward,
    ) -> Result<(), DropReason> {
        let port = self.ports.get(usize::from(slot)).and_then(Option::as_deref);
        let port = port.ok_or(DropReason::NoEgressPort)?;
        let egress = port.id;
        match port.steering.choose(|| frame.header.flow_hash(), self.index) {
            Some(lane) if lane.thread == self.index => {
                self.order_here(slot, lane.pair, at, forward, 1);
            }
            Some(Lane { pair, thread }) => {
                add(&port.counters.ordered_copies, 1);
                let target = Target::One(egress, pair);
                if !self.lend(index, ingress, at, forward, target, thread)
                    && let Some(port) = self.port(egress)
                {
                    port.counters.count_drops(DropReason::HandoverFull, 1);
                }
            }
            None => {
                add(&port.counters.ordered_copies, 1);
                port.counters.count_drops(DropReason::PortDown, 1);
            }
        }
        Ok(())
    }

    /// Orders a copy for every other port of the VLAN that takes frames, and lends the frame
    /// once to each thread that owns some of them.
    fn order_flood(
        &mut self,
        index: u16,
        ingress: PortId,
        at: usize,
        frame: &Frame,
        forward: &Forward,
    ) -> Result<(), DropReason> {
        let copies = self.bridge.flood_members(forward.vid).count();
        let bytes = copies * frame.length_bytes as usize;
        let work = &mut self.work;
        // The first flood of a turn always passes, however many ports there are.
        let is_first = work.flood_copies_left == FLOOD_COPIES_PER_TURN;
        if !is_first && (copies > work.flood_copies_left || bytes > work.flood_bytes_left) {
            return Err(DropReason::FloodBudget);
        }
        work.flood_copies_left = work.flood_copies_left.saturating_sub(copies);
        work.flood_bytes_left = work.flood_bytes_left.saturating_sub(bytes);
        let others = self.order_flood_here(at, frame, forward, ingress.slot, self.index);
        for thread in (0..self.links.len()).filter(|thread| others >> thread & 1 == 1) {
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_THREADS")]
            let thread = thread as u8;
            if !self.lend(index, ingress, at, forward, Target::Flood, thread) {
                self.count_flood_not_lent(frame, forward, ingress, thread);
            }
        }
        Ok(())
    }

    /// Orders a flood's copies on this thread's own queues. `taken_by` is the thread that took
    /// the frame in: every thread chooses as seen from there, so that all come to the same
    /// answer. Returns the other threads that have copies to make: bit t.
    pub(crate) fn order_flood_here(
        &mut self,
        at: usize,
        frame: &Frame,
        forward: &Forward,
        ingress_slot: u16,
        taken_by: u8,
    ) -> u16 {
        let Self { bridge, ports, queues, work, index, .. } = self;
        let mut others = 0;
        for slot in bridge.flood_members(forward.vid).iter().filter(|&slot| slot != ingress_slot) {
            let Some(port) = ports.get(usize::from(slot)).and_then(Option::as_deref) else {
                continue;
            };
            let Some(lane) = port.steering.choose(|| frame.header.flow_hash(), taken_by) else {
                continue;
            };
            if lane.thread != *index {
                others |= 1u16 << lane.thread;
                continue;
            }
            let queue = port.queues.get(usize::from(lane.pair)).copied().flatten();
            if let Some(place) = queue
                && let Some(queue) = queues.get_mut(place)
            {
                if queue.orders.is_empty() {
                    work.touched.push(place);
                }
                queue.ordered_copies += 1;
                let tag = bridge.egress_tag(slot, forward);
                queue.orders.push(Order { frame: at, tag });
            }
        }
        others
    }

    /// Counts the copies of a flood that could not be handed over, each at its port.
    fn count_flood_not_lent(&self, frame: &Frame, forward: &Forward, ingress: PortId, thread: u8) {
        let members = self.bridge.flood_members(forward.vid).iter();
        for slot in members.filter(|&slot| slot != ingress.slot) {
            let port = self.ports.get(usize::from(slot)).and_then(Option::as_deref);
            let Some(port) = port else { continue };
            let lane = port.steering.choose(|| frame.header.flow_hash(), self.index);
            if lane.is_some_and(|lane| lane.thread == thread) {
                add(&port.counters.ordered_copies, 1);
                port.counters.count_drops(DropReason::HandoverFull, 1);
            }
        }
    }

    /// Orders a copy on one of this thread's queues, and counts `uncounted` orders: one, or none
    /// if the thread that lent the frame has counted it.
    pub(crate) fn order_here(
        &mut self,
        slot: u16,
        pair: u8,
        at: usize,
        forward: &Forward,
        uncounted: u64,
    ) {
        let Self { bridge, ports, queues, work, .. } = self;
        let Some(port) = ports.get(usize::from(slot)).and_then(Option::as_deref) else { return };
        let place = port.queues.get(usize::from(pair)).copied().flatten();
        if let Some(place) = place
            && let Some(queue) = queues.get_mut(place)
        {
            if queue.orders.is_empty() {
                work.touched.push(place);
            }
            queue.ordered_copies += uncounted;
            queue.orders.push(Order { frame: at, tag: bridge.egress_tag(slot, forward) });
        } else {
            // The queue has just been removed.
            add(&port.counters.ordered_copies, uncounted);
            port.counters.count_drops(DropReason::PortDown, 1);
        }
    }

    /// Lends one frame of the burst to another thread. False if no credit or room is left.
    fn lend(
        &mut self,
        index: u16,
        ingress: PortId,
        at: usize,
        forward: &Forward,
        target: Target,
        thread: u8,
    ) -> bool {
        let Self { queues, links, work, .. } = self;
        let Some(Some(link)) = links.get_mut(usize::from(thread)) else { return false };
        let frame = &work.burst.frames[at];
        let segments = work.burst.segments_of(frame);
        let Some(queue) = queues.get_mut(index) else { return false };
        if !queue.loans.has_credit(usize::from(thread)) || !link.has_room(segments.len()) {
            return false;
        }
        if work.loans[at] == NOT_LENT {
            let Some(loan) = queue.loans.open(frame.token) else { return false };
            work.loans[at] = loan;
        }
        let loan = work.loans[at];
        queue.loans.lend(loan, usize::from(thread));
        let lent = Lent {
            header: frame.header,
            length_bytes: frame.length_bytes,
            forward: *forward,
            target,
            ingress,
            origin: queues.origin(index, loan),
        };
        work.borrowers |= 1 << thread;
        link.lend(lent, segments)
    }

    /// Shows the borrowers their frames, and gives the ingress queue back the buffers of all
    /// others.
    fn give_back(&mut self, index: u16) {
        for thread in 0..self.links.len() {
            if self.work.borrowers >> thread & 1 == 1
                && let Some(link) = &mut self.links[thread]
            {
                link.publish();
            }
        }
        self.work.borrowers = 0;
        let Some(queue) = self.queues.get_mut(index) else { return };
        for (frame, &loan) in self.work.burst.frames.iter().zip(&self.work.loans) {
            if loan == NOT_LENT {
                queue.complete(frame.token);
            }
        }
        queue.release_ingress();
    }

    /// Stops a transmitq whose guest broke the rules, and tells the control thread once.
    fn stop_transmitq(&mut self, index: u16, fault: virtio::QueueFault) {
        use crate::queue::{Kind, RingState};
        let Some(queue) = self.queues.get_mut(index) else { return };
        if let Kind::Guest { transmitq: Some(transmitq), .. } = &mut queue.kind {
            transmitq.state = RingState::Faulted;
        }
        add(&queue.counters.faults, 1);
        let vring = u16::from(queue.pair) * 2 + 1;
        let event = Event::QueueFault { port: queue.port, vring, fault };
        self.tell(event);
    }

    /// Tells the control thread something.
    pub(crate) fn tell(&self, event: Event) {
        // The channel is unbounded and its other end lives as long as the data path.
        let _ = self.events.send(event);
        notify(&self.event_waker);
    }

    /// What this thread knows of a port, if it is this tenant of its slot.
    #[inline]
    pub(crate) fn port(&self, id: PortId) -> Option<&crate::thread::Port> {
        let port = self.ports.get(usize::from(id.slot))?.as_deref()?;
        (port.id == id).then_some(port)
    }
}
