//! Whether other threads want a poll thread's core, such as those of guests on a host with too few.
//!
//! To poll an idle queue is to wait for work as fast as can be, and on such a host it takes the time
//! from whoever would send something. There the kernel takes the core from the poll thread again and
//! again, also while it leaves it the better part of the time. So while that happens often, queues
//! are polled no longer than it takes to see that nothing comes at once.
//!
//! The kernel counts how often (getrusage(2), `ru_nivcsw`: involuntary context switches). Measured
//! on two cores: 500 to 6,000 times a second beside two emulated guests, however long queues are
//! polled; 90 to 170 times, for the kernel's own threads, on a core that nobody else may use.

use nix::sys::resource::{UsageWho, getrusage};

/// Least time between two looks at the count: sixty milliseconds or so, in which traffic that comes in
/// bursts has had several.
const TICKS_BETWEEN_LOOKS: u64 = 1 << 27;

/// Losing the core once in so many ticks is often: some 270 times a second.
const TICKS_BETWEEN_LOSSES: u64 = 1 << 23;

/// The rivals of one poll thread. To be asked by that thread only.
#[derive(Debug, Default)]
pub(crate) struct Rivals {
    looked: u64,
    /// How often the core was lost until then.
    losses: u64,
    are_there: bool,
}

impl Rivals {
    /// Says whether others want the core. To be asked when nothing was found for a while.
    #[inline]
    pub(crate) fn want_core(&mut self, now: u64) -> bool {
        if now.wrapping_sub(self.looked) >= TICKS_BETWEEN_LOOKS {
            self.look(now, losses());
        }
        self.are_there
    }

    /// Judges by how often the core has been lost up to now.
    fn look(&mut self, now: u64, losses: u64) {
        let passed = now.wrapping_sub(self.looked);
        let recent = losses.wrapping_sub(self.losses);
        self.are_there = recent.saturating_mul(TICKS_BETWEEN_LOSSES) >= passed;
        (self.looked, self.losses) = (now, losses);
    }
}

/// How often the kernel has given this thread's core to another although it had work; never, if it
/// does not say.
fn losses() -> u64 {
    let usage = getrusage(UsageWho::RUSAGE_THREAD);
    usage.ok().and_then(|usage| usage.involuntary_context_switches().try_into().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    #[test]
    fn rivals_are_seen_while_the_core_is_lost_often() {
        const OFTEN: u64 = TICKS_BETWEEN_LOOKS / TICKS_BETWEEN_LOSSES;
        let mut rivals = Rivals { looked: 0, losses: 100, are_there: false };

        rivals.look(TICKS_BETWEEN_LOOKS, 99 + OFTEN);
        assert!(!rivals.are_there, "not often");
        rivals.look(2 * TICKS_BETWEEN_LOOKS, 99 + 2 * OFTEN);
        assert!(rivals.are_there, "often");
        rivals.look(6 * TICKS_BETWEEN_LOOKS, 99 + 3 * OFTEN);
        assert!(!rivals.are_there, "as many in four times the time");
    }

    #[test]
    fn count_is_looked_at_now_and_then() {
        let mut rivals = Rivals { looked: 5, losses: 0, are_there: true };

        assert!(rivals.want_core(4 + TICKS_BETWEEN_LOOKS), "not looked again");
        assert_eq!(rivals.looked, 5);
        let _ = rivals.want_core(5 + TICKS_BETWEEN_LOOKS);
        assert_eq!(rivals.looked, 5 + TICKS_BETWEEN_LOOKS);
    }

    #[test]
    fn thread_that_shares_its_core_loses_it() {
        let core = core_affinity::get_core_ids().unwrap()[0];
        let (is_over, start) = (AtomicBool::new(false), Instant::now());
        let spin = || {
            core_affinity::set_for_current(core);
            let before = losses();
            while !is_over.load(Ordering::Relaxed) && start.elapsed() < Duration::from_secs(10) {
                if losses() > before + 3 {
                    is_over.store(true, Ordering::Relaxed);
                }
            }
        };

        std::thread::scope(|scope| {
            scope.spawn(spin);
            scope.spawn(spin);
        });

        assert!(is_over.into_inner(), "two threads spun on one core for ten seconds");
    }
}
