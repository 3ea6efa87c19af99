//! Time for a poll thread: the processor's tick counter once a turn, and seconds for the
//! filtering database without asking the kernel each time.

#![allow(unsafe_code)]

use std::time::Instant;

use bridge::Seconds;

/// Reads the processor's time stamp counter, in ticks of constant rate.
#[inline]
pub(crate) fn ticks() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: RDTSC is part of every x86-64 processor and touches no memory.
        unsafe { std::arch::x86_64::_rdtsc() }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        use std::sync::OnceLock;
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Ticks after which the seconds are read anew: a millisecond or so on today's processors, far
/// below the one second that the filtering database can tell apart.
const REFRESH_TICKS: u64 = 1 << 22;

/// Seconds since the data path started, the same for all its threads.
#[derive(Debug)]
pub(crate) struct Clock {
    start: Instant,
    read_at: u64,
    seconds: Seconds,
}

impl Clock {
    pub(crate) fn new(start: Instant) -> Self {
        Self { start, read_at: ticks(), seconds: since(start) }
    }

    /// The time at `now` ticks.
    #[inline]
    pub(crate) fn seconds(&mut self, now: u64) -> Seconds {
        if now.wrapping_sub(self.read_at) > REFRESH_TICKS {
            self.read_at = now;
            self.seconds = since(self.start);
        }
        self.seconds
    }
}

/// Whole seconds since `start`.
pub(crate) fn since(start: Instant) -> Seconds {
    Seconds(u32::try_from(start.elapsed().as_secs()).unwrap_or(u32::MAX))
}
