//! Frames that other threads lent to this one, and frames that come back from them.
//!
//! A lent frame joins a burst like one of our own, only decided already. It is published at its
//! egress before it is handed back, so its ingress owner gives a buffer back only when the
//! frame has arrived. If an interface's queue kept the chunk that it lies in, another is handed
//! back in its place.

use frame::{BURST_FRAMES, DropReason, SegmentRange};

use crate::handover::{Lent, Target};
use crate::queue::Kind;
use crate::thread::{PollThread, as_frame};

impl PollThread {
    /// Takes frames that other threads lent, delivers them and hands them back. Returns how many.
    pub(crate) fn take_handovers(&mut self) -> usize {
        let mut frames = 0;
        for thread in 0..self.links.len() {
            frames += self.take_handovers_from(thread);
        }
        frames
    }

    fn take_handovers_from(&mut self, thread: usize) -> usize {
        if !self.links[thread].as_mut().is_some_and(|link| link.has_handovers()) {
            return 0;
        }
        let Some(mut link) = self.links[thread].take() else { return 0 };
        let mut lent = std::mem::take(&mut self.lent);
        lent.clear();
        self.work.burst.clear();
        while lent.len() < BURST_FRAMES {
            let segments = &mut self.work.burst.segments;
            let start = segments.len();
            let Some(taken) = link.take(segments) else { break };
            #[expect(clippy::cast_possible_truncation, reason = "bounded by rings of 2^10 cells")]
            let range =
                SegmentRange { start: start as u32, count: (segments.len() - start) as u32 };
            self.work.burst.frames.push(as_frame(&taken, range));
            lent.push(taken);
        }
        #[expect(clippy::cast_possible_truncation, reason = "below MAX_OWNERS")]
        for (at, frame) in lent.iter().enumerate() {
            self.order_lent(at, frame, thread as u8);
        }
        self.transmit();
        let exchanged = &mut self.work.exchanged;
        if exchanged.is_empty() {
            lent.iter().for_each(|frame| link.hand_back(frame.origin, None));
        } else {
            let frames = lent.iter().zip(exchanged.drain(..));
            frames.for_each(|(frame, replacement)| link.hand_back(frame.origin, replacement));
        }
        link.publish();
        let count = lent.len();
        self.lent = lent;
        self.links[thread] = Some(link);
        count
    }

    /// Orders the copies of a frame that another thread took in.
    fn order_lent(&mut self, at: usize, lent: &Lent, taken_by: u8) {
        match lent.target {
            Target::One(id, pair) => {
                let Some(port) = self.port(id) else {
                    self.orphans.count_drops(DropReason::PortRemoved, 1);
                    return;
                };
                // It was when the frame was decided; this thread may know better.
                if !self.bridge.flood_members(lent.forward.vid).contains(id.slot) {
                    port.counters.count_drops(DropReason::PortLeftVlan, 1);
                    return;
                }
                self.order_here(id.slot, pair, at, &lent.forward, 0);
            }
            Target::Flood => {
                self.order_flood_here(at, &lent.forward, lent.ingress.slot, taken_by);
            }
        }
    }

    /// Takes frames that come back, and gives their buffers to the guests and rings they came
    /// from. Returns how many.
    pub(crate) fn take_returns(&mut self) -> usize {
        let mut count = 0;
        for thread in 0..self.links.len() {
            let Some(link) = &mut self.links[thread] else { continue };
            let before = count;
            while let Some(handed_back) = link.take_return() {
                count += 1;
                let origin = handed_back.origin;
                let Some(queue) = self.queues.by_origin(origin) else { continue };
                if let Some(token) = queue.loans.settle(origin.loan, thread) {
                    queue.complete_lent(token, handed_back.replacement);
                    if !self.returned.contains(&origin.queue) {
                        self.returned.push(origin.queue);
                    }
                }
            }
            if count > before {
                link.publish();
            }
        }
        while let Some(index) = self.returned.pop() {
            let Some(queue) = self.queues.get_mut(index) else { continue };
            queue.release_ingress();
            // It may have stopped reading for want of buffers.
            if matches!(queue.kind, Kind::Tap(..)) {
                self.start_polling(index);
            }
        }
        count
    }
}
