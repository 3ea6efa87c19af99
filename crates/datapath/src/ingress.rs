//! One burst of one ingress queue: received, decided, its copies ordered, its buffers given back.
//!
//! The whole burst is decided before anything leaves; `egress.rs` then touches every egress queue
//! once. What was delivered is published there before the ingress buffers are given back here:
//! if the switch dies in between, a guest sends a burst again, and loses none.

use std::sync::atomic::Ordering;

use bridge::{Run, Seconds};
use frame::{BURST_FRAMES, DropReason, PortId, SetBits, Way};

use crate::command::Event;
use crate::counters::add;
use crate::idle::notify;
use crate::orders::{FLOOD_BYTES_PER_TURN, FLOOD_COPIES_PER_TURN};
use crate::queue::{Kind, RingState};
use crate::thread::{NOT_LENT, PollThread, Work};

/// Frames of the burst that may pass as far as their queue and port are concerned: bit n stands for
/// the frame in place n.
#[derive(Debug, Default)]
struct Admitted {
    frames: u64,
    /// Those that begin a train.
    leaders: u64,
}

const _: () = assert!(BURST_FRAMES == u64::BITS as usize, "a bit for each frame of a burst");

impl PollThread {
    /// Takes one burst from a queue all the way. Returns how many frames it took in.
    pub(crate) fn poll(&mut self, index: u16, ticks: u64, now: Seconds) -> usize {
        self.prepare_usual_egress(index);
        let work = &mut self.work;
        let Some(queue) = self.queues.get_mut(index) else { return 0 };
        work.burst.clear();
        let may_lend = self.io_has_queues.load(Ordering::Relaxed);
        let limit = if may_lend { queue.intake_limit(self.io_thread) } else { BURST_FRAMES };
        if limit == 0 {
            // Not idle either: what it has lent comes back soon.
            queue.patience.found_work(ticks);
            return 0;
        }
        let outcome = queue.receive(&mut work.burst, limit);
        let taken = work.burst.frames.len() + work.burst.dropped.total() as usize;
        if taken > 0 {
            queue.patience.found_work(ticks);
            add(&self.counters.frames, taken as u64);
            add(&self.counters.bursts, 1);
            self.decide(index, now);
            self.transmit();
            self.give_back(index);
        } else {
            queue.retry();
            self.look_after_tap(index);
        }
        if let Err(fault) = outcome {
            self.stop_transmitq(index, fault);
        }
        taken
    }

    /// Lets the queue by which the last burst from here left get ready for this one: its buffers
    /// are on their way into the cache while the frames are read. A wrong guess costs that.
    #[inline]
    fn prepare_usual_egress(&mut self, index: u16) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let (frames, egress) = (queue.ready_frames(), queue.usual_egress);
        if frames > 0
            && let Some(egress) = egress.and_then(|place| self.queues.get_mut(place))
        {
            egress.prepare(frames, 0);
        }
    }

    /// Decides every frame of the burst and orders its copies, those together that go the same way.
    fn decide(&mut self, index: u16, now: Seconds) {
        self.work.loans.clear();
        self.work.flood_copies_left = FLOOD_COPIES_PER_TURN;
        self.work.flood_bytes_left = FLOOD_BYTES_PER_TURN;
        let Some(queue) = self.queues.get_mut(index) else { return };
        let port = queue.port;
        let (admitted, bytes) = self.admit(index);
        let Self { bridge, work, .. } = self;
        let leaders = SetBits(admitted.leaders).map(|at| (at, &work.burst.frames[at].header));
        bridge.decide_all(port.slot, leaders, now, &mut work.decisions);
        let (mut left, mut direct) = (admitted.frames, None);
        for number in 0.. {
            let Some(Run { decision, end }) = self.work.decisions.run(number) else { break };
            let frames = left & u64::MAX >> (BURST_FRAMES - end);
            left &= !frames;
            direct = match decision {
                Ok(forward) => self.order_run(index, port, frames, &forward),
                Err(reason) => {
                    self.work.drops.count_all(reason, frames.count_ones());
                    None
                }
            };
        }
        if let Some(queue) = self.queues.get_mut(index) {
            queue.usual_egress = direct.map(|direct| direct.place);
        }
        self.count_ingress(index, bytes);
    }

    /// Looks which frames of the burst its queue and port admit, drops the others, and returns the
    /// bytes of all.
    ///
    /// Frames come in trains: one with the addresses and the tag of the one before it goes the same
    /// way, for nothing that the decision depends on changes within a burst.
    #[inline(never)]
    fn admit(&mut self, index: u16) -> (Admitted, u64) {
        let Self { queues, ports, work, .. } = self;
        let mut admitted = Admitted::default();
        let mut bytes = work.burst.dropped_bytes;
        let Some(queue) = queues.get_mut(index) else { return (admitted, bytes) };
        let (limit_bytes, discards) = (queue.traits.limit_bytes, queue.discards_ingress());
        let port = ports.get(usize::from(queue.port.slot)).and_then(Option::as_deref);
        let steering = port.filter(|port| port.id == queue.port).map(|port| &port.steering);
        let steering = steering.filter(|steering| steering.has_several_pairs());
        let mut before = Way::NONE;
        let bits = std::iter::successors(Some(1u64), |bit| Some(bit.wrapping_shl(1)));
        for (frame, bit) in work.burst.frames.iter().zip(bits) {
            bytes = bytes.wrapping_add(frame.length_bytes.into());
            if frame.length_bytes > limit_bytes && frame.piece_bytes() > limit_bytes {
                work.drops.count(DropReason::Oversized);
                continue;
            }
            let way = frame.header.way();
            admitted.frames |= bit;
            admitted.leaders |= if way == before { 0 } else { bit };
            before = way;
        }
        if discards {
            work.drops.count_all(DropReason::QueueDisabled, admitted.frames.count_ones());
            admitted = Admitted::default();
        }
        if let Some(steering) = steering {
            for at in SetBits(admitted.frames) {
                steering.sent_from(work.burst.frames[at].header.flow_hash(), queue.pair);
            }
        }
        (admitted, bytes)
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

    /// Shows the borrowers their frames, and gives the ingress queue back the buffers of all
    /// others, or those it gets for them.
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
        let Work { burst, loans, exchanged, .. } = &mut self.work;
        let is_here = |at: usize| loans.get(at).is_none_or(|&loan| loan == NOT_LENT);
        let tokens = burst.frames.iter().map(|frame| frame.token);
        if loans.is_empty() && exchanged.is_empty() {
            queue.complete_burst(tokens);
        } else {
            for (at, token) in tokens.enumerate().filter(|&(at, _)| is_here(at)) {
                queue.complete_lent(token, exchanged.get(at).copied().flatten());
            }
            exchanged.clear();
        }
        queue.release_ingress();
    }

    /// Takes a tap's queue out of use whose interface was removed, and tells the control thread once.
    fn look_after_tap(&mut self, index: u16) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        if let Kind::Tap(tap, _) = &queue.kind
            && tap.is_gone()
            && !queue.is_leaving
        {
            queue.is_leaving = true;
            self.bed.remove(tap.as_fd());
            let (port, pair) = (queue.port, queue.pair);
            if let Some(port) = self.port(port) {
                port.steering.set_eligible(pair, false);
            }
            self.tell(Event::InterfaceGone { port });
        }
    }

    /// Stops a transmitq whose guest broke the rules, and tells the control thread once.
    fn stop_transmitq(&mut self, index: u16, fault: virtio::QueueFault) {
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
