//! What is counted, by whom.
//!
//! A block of [`Counters`] has one writer: the poll thread that owns the queue it belongs to, or,
//! for what belongs to no queue of its own (a copy that could not be handed over), the thread
//! that ordered the copy. Readers sum the blocks of a port. Writers add with a plain load and
//! store, once a burst. Nothing vanishes:
//!
//! ```text
//!   frames in      = ingress drops + frames decided
//!   copies ordered = frames out + egress drops + in flight
//! ```

use std::sync::atomic::{AtomicU64, Ordering};

use afxdp::XdpStatistics;
use frame::{Direction, DropReason};

use crate::clock;

const REASONS: usize = DropReason::ALL.len();

/// Counters of one writer. All run freely from zero and never go back.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) ingress_frames: AtomicU64,
    pub(crate) ingress_bytes: AtomicU64,
    pub(crate) decided_frames: AtomicU64,
    pub(crate) ordered_copies: AtomicU64,
    pub(crate) egress_frames: AtomicU64,
    pub(crate) egress_bytes: AtomicU64,
    /// Times the queue was stopped because its guest broke the ring's rules.
    pub(crate) faults: AtomicU64,
    drops: [AtomicU64; REASONS],
}

/// Adds to a counter that only the calling thread writes: no locked instruction.
#[inline]
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    // Relaxed: counters order nothing. Single writer, so load and store lose no update.
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

impl Counters {
    /// Counts dropped frames or copies.
    #[inline]
    pub(crate) fn count_drops(&self, reason: DropReason, count: u64) {
        add(&self.drops[reason.index()], count);
    }

    /// Adds what this block says now to `sum`.
    pub(crate) fn add_to(&self, sum: &mut Snapshot) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        sum.ingress_frames += read(&self.ingress_frames);
        sum.ingress_bytes += read(&self.ingress_bytes);
        sum.decided_frames += read(&self.decided_frames);
        sum.ordered_copies += read(&self.ordered_copies);
        sum.egress_frames += read(&self.egress_frames);
        sum.egress_bytes += read(&self.egress_bytes);
        sum.faults += read(&self.faults);
        for (total, counter) in sum.drops.iter_mut().zip(&self.drops) {
            *total += read(counter);
        }
    }
}

/// Counters as they were read, of one queue or summed over a port. Lengths in bytes are without
/// tag, padding and FCS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Frames that came in, dropped ones included.
    pub ingress_frames: u64,
    /// Their bytes.
    pub ingress_bytes: u64,
    /// Frames that the bridge decided to forward.
    pub decided_frames: u64,
    /// Copies that were to leave by this port.
    pub ordered_copies: u64,
    /// Frames that left by this port.
    pub egress_frames: u64,
    /// Their bytes.
    pub egress_bytes: u64,
    /// Times a queue was stopped because its guest broke the ring's rules.
    pub faults: u64,
    drops: [u64; REASONS],
}

impl Snapshot {
    /// Frames or copies dropped for this reason.
    #[must_use]
    pub const fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()]
    }

    /// Drops on one side of the decision, of every reason.
    #[must_use]
    pub fn dropped(&self, direction: Direction) -> u64 {
        DropReason::ALL
            .iter()
            .filter(|reason| reason.direction() == direction)
            .map(|&reason| self.drops(reason))
            .sum()
    }
}

/// Counters of one queue of a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueStatistics {
    /// The queue pair of a guest, or the queue of an interface.
    pub index: u16,
    /// The poll thread that owns it.
    pub thread: usize,
    /// Its counters.
    pub counters: Snapshot,
    /// What the kernel counted at an interface's queue.
    pub socket: Option<XdpStatistics>,
}

/// Counters of a port: its queues, and all of it summed (with what belongs to no queue).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PortStatistics {
    /// By queue index.
    pub queues: Vec<QueueStatistics>,
    /// The port's totals.
    pub total: Snapshot,
}

/// Counters that a poll thread keeps of itself.
#[derive(Debug, Default)]
pub(crate) struct ThreadCounters {
    pub(crate) turns: AtomicU64,
    pub(crate) busy_ticks: AtomicU64,
    pub(crate) idle_ticks: AtomicU64,
    pub(crate) sleeps: AtomicU64,
    pub(crate) frames: AtomicU64,
    pub(crate) bursts: AtomicU64,
    pub(crate) queues: AtomicU64,
}

/// What a poll thread did since it started. Rates come from two samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThreadStatistics {
    /// Its place among the poll threads.
    pub index: usize,
    /// The core it is pinned to; the I/O thread is to none.
    pub core: Option<usize>,
    /// Queues it owns now.
    pub queues: u64,
    /// Turns of its loop.
    pub turns: u64,
    /// TSC ticks of turns that moved something.
    pub busy_ticks: u64,
    /// TSC ticks of turns that found nothing. Time asleep counts in neither.
    pub idle_ticks: u64,
    /// Times it went to sleep.
    pub sleeps: u64,
    /// Frames it took in.
    pub frames: u64,
    /// Bursts they came in.
    pub bursts: u64,
    /// The TSC when this was read, so that two samples tell how long the thread was asleep.
    pub read_at_ticks: u64,
}

impl ThreadCounters {
    pub(crate) fn read(&self, index: usize, core: Option<usize>) -> ThreadStatistics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        ThreadStatistics {
            index,
            core,
            queues: read(&self.queues),
            turns: read(&self.turns),
            busy_ticks: read(&self.busy_ticks),
            idle_ticks: read(&self.idle_ticks),
            sleeps: read(&self.sleeps),
            frames: read(&self.frames),
            bursts: read(&self.bursts),
            read_at_ticks: clock::ticks(),
        }
    }
}
