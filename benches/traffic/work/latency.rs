//! How long a frame takes from one guest to another, at loads that all systems carry.
//!
//! The loads are shares of what OVS-DPDK forwards in the same round. Frames are due at fixed times
//! and stamped with these: a system that falls behind is charged with the waiting.
//!
//! On a virtual machine a processor is taken away now and then, for milliseconds. One such pause in a
//! sample is more than its slowest hundredth, whatever the system; so there are two 99th
//! percentiles: that of the whole sample, and the median of those of windows of 20 ms, which says
//! what a system does when it is let. Short pauses come in every window: how long frames take on such
//! a machine when a back end only copies them (`limits.rs`) is measured beside the systems.

use std::time::Duration;

use crate::bench::{Bench, Spec, StealClock, Trouble};
use crate::generator::ticks_per_second;
use crate::limits::{BARE_COPY, BARE_COPY_IS, BareCopy};
use crate::load::Load;
use crate::samples::{Better, Sample};
use crate::systems::System;

const LENGTH: usize = 64;
const WINDOW: Duration = Duration::from_millis(20);

const MEDIAN: &str = "latency, median";
const P99: &str = "latency, 99th percentile";
const P99_WHOLE: &str = "latency, 99th percentile with the machine's pauses";
const SHARES: [(f64, &str); 3] = [(0.1, "10 %"), (0.5, "50 %"), (0.9, "90 %")];

pub(crate) fn run(bench: &mut Bench) {
    let mut maximum: Option<(u32, f64)> = None;
    bench.rounds("latency", |bench, system, round| {
        if bench.is_quick && system.name() == "testpmd" {
            return Err(Trouble::CannotDo);
        }
        let most = match maximum {
            Some((of, most)) if of == round => most,
            _ => {
                let most = ovs_maximum(bench)?;
                maximum = Some((round, most));
                let shares = if bench.is_quick { &[] } else { &SHARES[..] };
                for &share in shares {
                    let mut bare = BareCopy::start(LENGTH, false)?;
                    sample(bench, BARE_COPY, &mut bare.load, round, most, share)?;
                }
                most
            }
        };
        let mut session = bench.guest_pair(system, LENGTH)?;
        for share in SHARES {
            session.use_streams(LENGTH, false)?;
            sample(bench, system.name(), &mut session.load, round, most, share)?;
        }
        Ok(())
    });
}

/// Measures a load: a share of so many Mpps.
fn sample(
    bench: &mut Bench,
    system: &str,
    load: &mut Load,
    round: u32,
    most: f64,
    (share, label): (f64, &str),
) -> Result<(), Trouble> {
    let mut ticks = Vec::with_capacity(1 << 20);
    let clock = StealClock::start();
    let time = bench.time.max(10 * WINDOW);
    let seen = load.open_loop(share * most * 1e6, time, |one| ticks.push(one));
    let stolen = clock.stolen();
    if seen.counted.delivered == 0 {
        return Err(format!("nothing arrived at {label}").into());
    }
    let windowed = windowed_p99(&mut ticks, share * most * 1e6 * WINDOW.as_secs_f64());
    ticks.sort_unstable();
    let whole = |rank| ticks[ticks.len() * rank / 100];
    for (group, ticks) in [(MEDIAN, whole(50)), (P99, windowed), (P99_WHOLE, whole(99))] {
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let value = ticks as f64 / ticks_per_second() * 1e6;
        let sample = Sample { round, value, is_generator_bound: false, stolen };
        bench.add(&spec(group, label), system, sample);
    }
    Ok(())
}

/// The median of the 99th percentiles of windows of so many frames, or of one window of all if there
/// are fewer. What is left over at the end is left out. Leaves the frames in another order.
fn windowed_p99(ticks: &mut [u64], frames: f64) -> u64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, small")]
    let frames = (frames as usize).clamp(1, ticks.len());
    let mut all: Vec<u64> = ticks
        .chunks_exact_mut(frames)
        .map(|window| {
            window.sort_unstable();
            window[window.len() * 99 / 100]
        })
        .collect();
    all.sort_unstable();
    all[all.len() / 2]
}

/// What OVS-DPDK forwards in one direction now, in Mpps.
fn ovs_maximum(bench: &Bench) -> Result<f64, Trouble> {
    let ovs = crate::systems::Ovs;
    let mut session = bench.guest_pair(&ovs as &dyn System, LENGTH)?;
    session.use_streams(LENGTH, false)?;
    Ok(session.closed_loop(bench.time).0.mpps())
}

fn spec(group: &'static str, label: &str) -> Spec {
    Spec {
        group,
        label: format!("{label} of OVS-DPDK's maximum"),
        unit: "µs",
        better: Better::Less,
        conditions: format!(
            "open loop, one direction, 64 B; from the time a frame was due until it was seen; \
             rings of 256, VERSION_1 and MRG_RXBUF, split; the same frames a second for all \
             systems of a round; 99th percentile: the median of those of windows of 20 ms, or with \
             the machine's pauses of all frames; {BARE_COPY_IS}"
        ),
        goals: if group == P99 { vec![("ovs-dpdk", 1.0)] } else { Vec::new() },
    }
}
