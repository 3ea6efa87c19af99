//! A poll thread and its turn.
//!
//! ```text
//!   turn:  commands ─▶ returns ─▶ hand-overs ─▶ each polled queue ─▶ idle?
//!                                                  │
//!                      receive ─▶ decide ─▶ transmit ─▶ release     (ingress.rs, egress.rs)
//! ```
//!
//! The thread owns its queues, its copy of the VLAN configuration and its ends of the hand-over
//! rings. It never waits but when all its queues are idle, never allocates per frame, and
//! nothing that a guest or the wire sends makes it panic.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use afxdp::Chunk;
use bridge::{Bridge, Decisions};
use crossbeam::channel::Sender;
use frame::{Burst, DropCounts, Frame, PortId};
use ring::Consumer;
use virtio::offload::Head;

use crate::clock::{self, Clock};
use crate::command::{Command, Event, Reply};
use crate::counters::{Counters, ThreadCounters, add};
use crate::egress::Trains;
use crate::handover::{Lent, Link};
use crate::idle::Bed;
use crate::queue::Queue;
use crate::queue_table::QueueTable;
use crate::rivals::Rivals;
use crate::settings::{PollMode, PortTraits, Reception};
use crate::steering::{MAX_QUEUES, Steering};
use crate::stops::Stop;

/// What a poll thread knows of a port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) steering: Arc<Steering>,
    pub(crate) counters: Arc<Counters>,
    /// The port's queues that are this thread's, by pair: places in its queue table.
    pub(crate) queues: [Option<u16>; MAX_QUEUES],
    pub(crate) traits: PortTraits,
    pub(crate) reception: Reception,
}

/// The queue that a step of the turn works on, and what its frames became.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) burst: Burst,
    pub(crate) decisions: Decisions,
    /// By frame of the burst: its loan, or [`NOT_LENT`]. Empty if none is lent.
    pub(crate) loans: Vec<u32>,
    /// By frame of the burst: the chunk that takes the place of its own, which another queue kept.
    /// Empty if that happened to none, as always between guests; and between bursts.
    pub(crate) exchanged: Vec<Option<Chunk>>,
    /// Scratch for frames that are changed at their egress.
    pub(crate) head: Head,
    /// Frames that are being joined.
    pub(crate) trains: Trains,
    /// Queues with orders in this burst.
    pub(crate) touched: Vec<u16>,
    /// Threads that frames of this burst were lent to: bit t.
    pub(crate) borrowers: u32,
    /// Ingress drops of this burst.
    pub(crate) drops: DropCounts,
    /// Copies that floods of the polled queue may still cause in this turn.
    pub(crate) flood_copies_left: usize,
    /// Bytes of such copies.
    pub(crate) flood_bytes_left: usize,
}

/// The loan number of a frame that was not lent.
pub(crate) const NOT_LENT: u32 = u32::MAX;

/// One poll thread. See the module's drawing.
#[derive(Debug)]
pub(crate) struct PollThread {
    pub(crate) index: u8,
    /// The thread whose queues cost a system call a frame.
    pub(crate) io_thread: u8,
    /// That one has queues, so that frames may have to be lent to it. It says so itself.
    pub(crate) io_has_queues: Arc<AtomicBool>,
    pub(crate) mode: PollMode,
    pub(crate) bridge: Bridge,
    /// By slot.
    pub(crate) ports: Vec<Option<Box<Port>>>,
    pub(crate) queues: QueueTable,
    /// Places of the queues that are polled.
    pub(crate) polled: Vec<u16>,
    /// Stops that wait for lent frames.
    pub(crate) stopping: Vec<Stop>,
    /// By thread; none to itself.
    pub(crate) links: Vec<Option<Link>>,
    pub(crate) commands: Consumer<Command>,
    pub(crate) replies: Sender<Reply>,
    pub(crate) events: Sender<Event>,
    pub(crate) event_waker: Arc<OwnedFd>,
    pub(crate) bed: Bed,
    pub(crate) clock: Clock,
    pub(crate) rivals: Rivals,
    pub(crate) counters: Arc<ThreadCounters>,
    /// Drops that belong to no port any more.
    pub(crate) orphans: Arc<Counters>,
    /// Frames of the current burst that another thread lent.
    pub(crate) lent: Vec<Lent>,
    /// Queues that got frames back in this turn.
    pub(crate) returned: Vec<u16>,
    pub(crate) work: Work,
    pub(crate) is_running: bool,
}

impl PollThread {
    /// Runs until the control thread says otherwise.
    pub(crate) fn run(mut self) {
        let mut started = clock::ticks();
        while self.is_running {
            let frames = self.turn(started);
            let has_idle_queues = self.polled.len() < self.queues.len();
            if has_idle_queues && self.bed.must_look(started) {
                self.look_at_idle_queues();
            }
            let ended = clock::ticks();
            let spent = ended.wrapping_sub(started);
            add(&self.counters.turns, 1);
            if frames > 0 {
                add(&self.counters.busy_ticks, spent);
            } else {
                add(&self.counters.idle_ticks, spent);
                self.rest();
            }
            started = if frames > 0 { ended } else { clock::ticks() };
        }
    }

    /// One turn: what other threads sent, then one burst of each polled queue. Returns how many
    /// frames and hand-backs it dealt with.
    fn turn(&mut self, ticks: u64) -> usize {
        let now = self.clock.seconds(ticks);
        self.take_commands();
        let mut frames = 0;
        if !self.links.is_empty() {
            frames += self.take_returns();
            frames += self.take_handovers();
        }
        let mut place = 0;
        while let Some(&index) = self.polled.get(place) {
            let taken = self.poll(index, ticks, now);
            frames += taken;
            if taken == 0 && self.fell_idle(index, ticks) {
                self.polled.swap_remove(place);
            } else {
                place += 1;
            }
        }
        if !self.stopping.is_empty() {
            self.finish_stops();
        }
        frames
    }

    /// After an empty poll of a queue: returns true if it needs to be polled no more.
    fn fell_idle(&mut self, index: u16, ticks: u64) -> bool {
        let Some(queue) = self.queues.get_mut(index) else { return true };
        let patience = &queue.patience;
        let is_over =
            patience.is_over(ticks) || patience.is_tried(ticks) && self.rivals.want_core(ticks);
        let may_rest = self.mode == PollMode::Adaptive && is_over && queue.fall_idle();
        let is_done = may_rest || !queue.is_ingress();
        queue.is_polled = !is_done;
        is_done
    }

    /// Looks whether idle queues have work, without waiting.
    fn look_at_idle_queues(&mut self) {
        let Self { bed, queues, polled, .. } = self;
        bed.look(|mark| wake_queue(queues, polled, mark));
    }

    /// After a turn that found nothing: sleeps if no queue is polled, else lets the sibling
    /// hyper-thread run.
    fn rest(&mut self) {
        if !self.polled.is_empty() || self.mode == PollMode::Always || !self.is_running {
            std::hint::spin_loop();
            return;
        }
        self.bed.lie_down();
        let is_quiet =
            self.commands.is_empty() && self.links.iter_mut().flatten().all(|link| link.is_empty());
        if is_quiet {
            add(&self.counters.sleeps, 1);
            let Self { bed, queues, polled, .. } = self;
            bed.sleep(|mark| wake_queue(queues, polled, mark));
        } else {
            self.bed.get_up();
        }
    }

    /// Puts a queue on the list of polled ones.
    pub(crate) fn start_polling(&mut self, index: u16) {
        if let Some(queue) = self.queues.get_mut(index) {
            start_polling(queue, index, &mut self.polled);
        }
    }
}

/// Polls the queue of this mark again, if it is still there and has work to find.
fn wake_queue(queues: &mut QueueTable, polled: &mut Vec<u16>, mark: u64) {
    if let Some((index, queue)) = queues.by_mark(mark) {
        start_polling(queue, index, polled);
    }
}

fn start_polling(queue: &mut Queue, index: u16, polled: &mut Vec<u16>) {
    if !queue.is_polled && queue.is_ingress() {
        queue.is_polled = true;
        queue.wake_up(clock::ticks());
        polled.push(index);
    }
}

/// A frame that another thread lent, as one of a burst of this thread.
pub(crate) const fn as_frame(lent: &Lent, segments: frame::SegmentRange) -> Frame {
    let Lent { header, length_bytes, offload, wire, .. } = *lent;
    Frame { header, segments, length_bytes, token: 0, offload, wire }
}
