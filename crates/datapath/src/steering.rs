//! Which queue pair of a port a frame leaves by, and which poll thread owns that pair.
//!
//! A guest with several queue pairs gets a flow on the pair it last sent that flow from (VIRTIO
//! 1.2, 5.1.6.5.6.1: "the device MUST steer"), else by hash over the pairs that take frames, this
//! thread's own first. Flows are kept by hash in 256 buckets a port, as tun does: two flows in
//! one bucket share a pair, which costs balance and never order.
//!
//! Every thread reads this; a bucket is written by the thread that took the flow's frame in, the
//! rest by the owner of the pair or the control thread. One look is one consistent answer, and
//! nothing follows from two looks agreeing: hence Relaxed everywhere.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Most queues a port has: a guest has up to 32 pairs, an interface up to 64 queues.
pub const MAX_QUEUES: usize = 64;

/// Most poll threads.
pub const MAX_THREADS: usize = 16;

/// Most threads that own queues: the poll threads and the I/O thread.
pub(crate) const MAX_OWNERS: usize = MAX_THREADS + 1;

const FLOWS: usize = 256;

/// The owner of a pair that nobody owns.
const NOBODY: u8 = u8::MAX;

/// Where frames for one port go.
#[derive(Debug)]
pub(crate) struct Steering {
    /// Bit i: pair i is running and takes frames.
    eligible: AtomicU64,
    /// The thread that owns pair i.
    owners: [AtomicU8; MAX_QUEUES],
    /// Bit i of entry t: thread t owns pair i.
    owned: [AtomicU64; MAX_OWNERS],
    /// The pair that a flow was last sent from, plus one; zero for none.
    flows: [AtomicU8; FLOWS],
}

/// Where a frame goes: this pair, on this thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lane {
    pub(crate) pair: u8,
    pub(crate) thread: u8,
}

impl Steering {
    pub(crate) fn new() -> Self {
        Self {
            eligible: AtomicU64::new(0),
            owners: [const { AtomicU8::new(NOBODY) }; MAX_QUEUES],
            owned: [const { AtomicU64::new(0) }; MAX_OWNERS],
            flows: [const { AtomicU8::new(0) }; FLOWS],
        }
    }

    /// Says which thread owns a pair. Called by the control thread before the pair starts.
    pub(crate) fn assign(&self, pair: u8, thread: u8) {
        self.owners[usize::from(pair)].store(thread, Ordering::Relaxed);
        self.owned[usize::from(thread)].fetch_or(1 << pair, Ordering::Relaxed);
    }

    /// Says whether a pair takes frames. Called by the thread that owns it, on start and stop.
    pub(crate) fn set_eligible(&self, pair: u8, is_eligible: bool) {
        if is_eligible {
            self.eligible.fetch_or(1 << pair, Ordering::Relaxed);
        } else {
            self.eligible.fetch_and(!(1 << pair), Ordering::Relaxed);
        }
    }

    /// Says whether frames of the port need to be told apart by flow.
    #[inline]
    pub(crate) fn has_several_pairs(&self) -> bool {
        let eligible = self.eligible.load(Ordering::Relaxed);
        eligible & eligible.wrapping_sub(1) != 0
    }

    /// Remembers that the guest sent this flow from this pair.
    #[inline]
    pub(crate) fn sent_from(&self, flow_hash: u32, pair: u8) {
        let flow = &self.flows[flow_hash as usize % FLOWS];
        // A store only if it changes something: the line is shared by all threads.
        if flow.load(Ordering::Relaxed) != pair + 1 {
            flow.store(pair + 1, Ordering::Relaxed);
        }
    }

    /// Chooses the pair that a frame of this flow leaves by, as seen from the thread that took
    /// it in. `None` if the port has no pair that takes frames.
    #[inline]
    pub(crate) fn choose(&self, flow_hash: impl FnOnce() -> u32, thread: u8) -> Option<Lane> {
        let eligible = self.eligible.load(Ordering::Relaxed);
        if eligible == 0 {
            return None;
        }
        let pair = if eligible & eligible.wrapping_sub(1) == 0 {
            lowest(eligible)
        } else {
            self.choose_among(eligible, flow_hash(), thread)
        };
        let owner = self.owners[usize::from(pair)].load(Ordering::Relaxed);
        (usize::from(owner) < MAX_OWNERS).then_some(Lane { pair, thread: owner })
    }

    fn choose_among(&self, eligible: u64, flow_hash: u32, thread: u8) -> u8 {
        let last = self.flows[flow_hash as usize % FLOWS].load(Ordering::Relaxed);
        if last != 0 && eligible >> (last - 1) & 1 == 1 {
            return last - 1;
        }
        let own = eligible & self.owned[usize::from(thread)].load(Ordering::Relaxed);
        let candidates = if own == 0 { eligible } else { own };
        // The upper bits choose: the lower ones chose the bucket.
        let nth = (u64::from(flow_hash) * u64::from(candidates.count_ones())) >> 32;
        let chosen = (0..nth).fold(candidates, |left, _| left & left.wrapping_sub(1));
        lowest(chosen)
    }
}

/// The number of the lowest bit set; of none, 63, which no caller asks for.
#[expect(clippy::cast_possible_truncation, reason = "at most 63")]
const fn lowest(bits: u64) -> u8 {
    if bits == 0 { 63 } else { bits.trailing_zeros() as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOW: u32 = 0x8000_0007;

    fn four_pairs_on_two_threads() -> Steering {
        let steering = Steering::new();
        for pair in 0..4 {
            steering.assign(pair, pair / 2);
            steering.set_eligible(pair, true);
        }
        steering
    }

    #[test]
    fn port_without_running_pair_takes_nothing() {
        let steering = Steering::new();
        steering.assign(0, 0);

        assert_eq!(steering.choose(|| FLOW, 0), None);
    }

    #[test]
    fn flow_goes_to_the_pair_it_was_last_sent_from() {
        let steering = four_pairs_on_two_threads();

        steering.sent_from(FLOW, 3);

        assert_eq!(steering.choose(|| FLOW, 0), Some(Lane { pair: 3, thread: 1 }));
    }

    #[test]
    fn flow_never_sent_goes_to_a_pair_of_the_asking_thread() {
        let steering = four_pairs_on_two_threads();

        assert_eq!(steering.choose(|| FLOW, 0).map(|lane| lane.thread), Some(0));
        assert_eq!(steering.choose(|| FLOW, 1).map(|lane| lane.thread), Some(1));
    }

    #[test]
    fn pair_switched_off_gets_no_flow_even_its_own() {
        let steering = four_pairs_on_two_threads();
        steering.sent_from(FLOW, 3);

        steering.set_eligible(3, false);

        assert_ne!(steering.choose(|| FLOW, 1).map(|lane| lane.pair), Some(3));
    }

    #[test]
    fn flows_spread_over_all_pairs_of_the_thread() {
        let steering = four_pairs_on_two_threads();

        let low = steering.choose(|| 1, 0).unwrap();
        let high = steering.choose(|| u32::MAX, 0).unwrap();

        assert_eq!((low.pair, high.pair), (0, 1));
    }
}
