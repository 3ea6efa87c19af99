//! From a decision to copies: which queue of which thread each is to leave by.
//!
//! A copy for a queue of this thread becomes an order of that queue, which `egress.rs` carries
//! out. For a queue of another thread the frame is lent, once to each thread that has copies to
//! make.

use bridge::{Egress, Forward};
use frame::{DropReason, PortId, SetBits, VlanTag};

use crate::counters::add;
use crate::handover::{Lent, Target};
use crate::queue::Order;
use crate::steering::Lane;
use crate::thread::{NOT_LENT, PollThread};

/// Copies that the floods of one queue may cause in one turn: two floods of the largest switch, a
/// whole burst to 32 ports. Without it a burst of 64 broadcasts on 1,024 ports were 64,000
/// copies, a stall of milliseconds for everybody else.
pub(crate) const FLOOD_COPIES_PER_TURN: usize = 2_048;

/// Bytes of such copies: as many as the copies of full-size frames, so that jumbo frames cost no
/// more time.
pub(crate) const FLOOD_BYTES_PER_TURN: usize = FLOOD_COPIES_PER_TURN * 1_514;

/// A frame of the current burst, and where it came in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Arrival {
    /// The queue's place in the thread's table.
    pub(crate) queue: u16,
    pub(crate) port: PortId,
    /// The frame's place in the burst.
    pub(crate) at: usize,
}

/// Where frames of the current run leave: a queue of this thread, whatever their flow.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Direct {
    /// The queue's place in the thread's table.
    pub(crate) place: u16,
    tag: Option<VlanTag>,
}

impl PollThread {
    /// Orders the copies of frames that go the same way (bit n: that in place n), and counts those that
    /// leave by no port as dropped. Returns where they leave, if that is one queue whatever their flow.
    pub(crate) fn order_run(
        &mut self,
        queue: u16,
        port: PortId,
        frames: u64,
        forward: &Forward,
    ) -> Option<Direct> {
        let mut frames = SetBits(frames);
        while let Some(at) = frames.next() {
            let arrival = Arrival { queue, port, at };
            let ordered = match forward.egress {
                Egress::Port(slot) => self.order_one(arrival, slot, forward),
                Egress::Flood => self.order_flood(arrival, forward).map(|()| None),
            };
            match ordered {
                Ok(Some(direct)) => {
                    if let Some(queue) = self.queues.get_mut(direct.place) {
                        // All others, too.
                        queue.ordered_copies += u64::from(frames.0.count_ones());
                        let order = |at| Order::new(at, direct.tag, true);
                        match frames.as_range() {
                            Some(range) => queue.orders.extend(range.map(order)),
                            None => queue.orders.extend(frames.map(order)),
                        }
                        return Some(direct);
                    }
                }
                Ok(None) => {}
                Err(reason) => self.work.drops.count(reason),
            }
        }
        None
    }

    /// Orders the copy of a frame that leaves by one port. Returns by which queue, if that does not
    /// depend on its flow.
    ///
    /// # Errors
    ///
    /// The reason if the frame leaves by no port at all: an ingress drop.
    fn order_one(
        &mut self,
        arrival: Arrival,
        slot: u16,
        forward: &Forward,
    ) -> Result<Option<Direct>, DropReason> {
        let port = self.ports.get(usize::from(slot)).and_then(Option::as_deref);
        let port = port.ok_or(DropReason::NoEgressPort)?;
        let egress = port.id;
        let header = &self.work.burst.frames[arrival.at].header;
        match port.steering.choose(|| header.flow_hash(), self.index) {
            Some(lane) if lane.thread == self.index => {
                let is_only_pair = !port.steering.has_several_pairs();
                let direct = self.order_here(slot, lane.pair, arrival.at, forward, 1);
                return Ok(direct.filter(|_| is_only_pair));
            }
            Some(Lane { pair, thread }) => {
                add(&port.counters.ordered_copies, 1);
                let target = Target::One(egress, pair);
                if !self.lend(arrival, forward, target, thread)
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
        Ok(None)
    }

    /// Orders a copy for every other port of the VLAN that takes frames, and lends the frame
    /// once to each thread that owns some of them.
    fn order_flood(&mut self, arrival: Arrival, forward: &Forward) -> Result<(), DropReason> {
        let members = self.bridge.flood_members(forward.vid);
        let copies = members.count() - usize::from(members.contains(arrival.port.slot));
        let work = &mut self.work;
        let frame = &work.burst.frames[arrival.at];
        let bytes = copies * frame.length_bytes as usize;
        // As if every port wanted it cut.
        let copies = copies * frame.most_wire_frames() as usize;
        // The first flood of a turn always passes, however many ports there are.
        let is_first = work.flood_copies_left == FLOOD_COPIES_PER_TURN;
        if !is_first && (copies > work.flood_copies_left || bytes > work.flood_bytes_left) {
            return Err(DropReason::FloodBudget);
        }
        work.flood_copies_left = work.flood_copies_left.saturating_sub(copies);
        work.flood_bytes_left = work.flood_bytes_left.saturating_sub(bytes);
        let others = self.order_flood_here(arrival.at, forward, arrival.port.slot, self.index);
        for thread in (0..self.links.len()).filter(|thread| others >> thread & 1 == 1) {
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_OWNERS")]
            let thread = thread as u8;
            if !self.lend(arrival, forward, Target::Flood, thread) {
                self.count_flood_not_lent(arrival, forward, thread);
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
        forward: &Forward,
        ingress_slot: u16,
        taken_by: u8,
    ) -> u32 {
        let Self { bridge, ports, queues, work, index, .. } = self;
        let header = &work.burst.frames[at].header;
        let mut others = 0;
        for slot in bridge.flood_members(forward.vid).iter().filter(|&slot| slot != ingress_slot) {
            let Some(port) = ports.get(usize::from(slot)).and_then(Option::as_deref) else {
                continue;
            };
            let Some(lane) = port.steering.choose(|| header.flow_hash(), taken_by) else {
                continue;
            };
            if lane.thread != *index {
                others |= 1u32 << lane.thread;
                continue;
            }
            let queue = port.queues.get(usize::from(lane.pair)).copied().flatten();
            if let Some(place) = queue
                && let Some(queue) = queues.get_mut(place)
            {
                let tag = bridge.egress_tag(slot, forward);
                let order = Order::new(at, tag, false);
                queue.order(order, 1, place, &mut work.touched);
            }
        }
        others
    }

    /// Counts the copies of a flood that could not be handed over, each at its port.
    fn count_flood_not_lent(&self, arrival: Arrival, forward: &Forward, thread: u8) {
        let header = &self.work.burst.frames[arrival.at].header;
        let members = self.bridge.flood_members(forward.vid).iter();
        for slot in members.filter(|&slot| slot != arrival.port.slot) {
            let port = self.ports.get(usize::from(slot)).and_then(Option::as_deref);
            let Some(port) = port else { continue };
            let lane = port.steering.choose(|| header.flow_hash(), self.index);
            if lane.is_some_and(|lane| lane.thread == thread) {
                add(&port.counters.ordered_copies, 1);
                port.counters.count_drops(DropReason::HandoverFull, 1);
            }
        }
    }

    /// Orders the only copy of a frame on one of this thread's queues, and counts `uncounted`
    /// orders: one, or none if the thread that lent the frame has counted it. Returns where it
    /// leaves.
    pub(crate) fn order_here(
        &mut self,
        slot: u16,
        pair: u8,
        at: usize,
        forward: &Forward,
        uncounted: u64,
    ) -> Option<Direct> {
        let Self { bridge, ports, queues, work, .. } = self;
        let port = ports.get(usize::from(slot)).and_then(Option::as_deref)?;
        let place = port.queues.get(usize::from(pair)).copied().flatten();
        if let Some(place) = place
            && let Some(queue) = queues.get_mut(place)
        {
            let tag = bridge.egress_tag(slot, forward);
            let order = Order::new(at, tag, true);
            queue.order(order, uncounted, place, &mut work.touched);
            return Some(Direct { place, tag });
        }
        // The queue has just been removed.
        add(&port.counters.ordered_copies, uncounted);
        port.counters.count_drops(DropReason::PortDown, 1);
        None
    }

    /// Lends one frame of the burst to another thread. False if no credit or room is left.
    fn lend(&mut self, arrival: Arrival, forward: &Forward, target: Target, thread: u8) -> bool {
        let Self { queues, links, work, .. } = self;
        let Arrival { queue: index, port: ingress, at } = arrival;
        let Some(Some(link)) = links.get_mut(usize::from(thread)) else { return false };
        let frame = &work.burst.frames[at];
        let segments = work.burst.segments_of(frame);
        let Some(queue) = queues.get_mut(index) else { return false };
        if !queue.loans.has_credit(usize::from(thread)) || !link.has_room(segments.len()) {
            return false;
        }
        if work.loans.is_empty() {
            work.loans.resize(work.burst.frames.len(), NOT_LENT);
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
            offload: frame.offload,
            wire: frame.wire,
            forward: *forward,
            target,
            ingress,
            origin: queues.origin(index, loan),
        };
        work.borrowers |= 1 << thread;
        link.lend(lent, segments)
    }
}
