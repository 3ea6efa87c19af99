//! The processor's tick counter (TSC), which both cores share.

#![allow(unsafe_code)]

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Ticks since some moment.
#[inline]
pub(crate) fn ticks() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and reading it touches no memory.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// How many ticks a second has, measured once over 50 ms.
pub(crate) fn ticks_per_second() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, first) = (Instant::now(), ticks());
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let passed = ticks().wrapping_sub(first) as f64;
        passed / start.elapsed().as_secs_f64()
    })
}
