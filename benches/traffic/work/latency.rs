//! How long a frame takes from one guest to another, at loads that all systems carry.
//!
//! The loads are shares of what OVS-DPDK forwards in the same round. Frames are due at fixed times
//! and stamped with these: a system that falls behind is charged with the waiting.

use std::time::Duration;

use crate::bench::{Bench, Spec, StealClock, Trouble};
use crate::generator::ticks_per_second;
use crate::samples::{Better, Sample};
use crate::systems::System;

const LENGTH: usize = 64;
const SHARES: [(f64, &str); 3] = [(0.1, "10 %"), (0.5, "50 %"), (0.9, "90 %")];

pub(crate) fn run(bench: &mut Bench) {
    let mut maximum: Option<(u32, f64)> = None;
    bench.rounds("latency", |bench, system, round| {
        let most = match maximum {
            Some((of, most)) if of == round => most,
            _ => {
                let most = ovs_maximum(bench)?;
                maximum = Some((round, most));
                most
            }
        };
        let mut session = bench.guest_pair(system, LENGTH)?;
        for (share, label) in SHARES {
            session.use_streams(LENGTH, false)?;
            let mut ticks = Vec::with_capacity(1 << 20);
            let clock = StealClock::start();
            let time = bench.time.max(Duration::from_millis(300));
            let seen = session.load.open_loop(share * most * 1e6, time, |one| ticks.push(one));
            let stolen = clock.stolen();
            if seen.counted.delivered == 0 {
                return Err(format!("nothing arrived at {label}").into());
            }
            ticks.sort_unstable();
            for (name, rank) in [("p50", 50), ("p99", 99)] {
                #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
                let value = ticks[ticks.len() * rank / 100] as f64 / ticks_per_second() * 1e6;
                let sample = Sample { round, value, is_generator_bound: false, stolen };
                bench.add(&spec(name, label), system.name(), sample);
            }
        }
        Ok(())
    });
}

/// What OVS-DPDK forwards in one direction now, in Mpps.
fn ovs_maximum(bench: &Bench) -> Result<f64, Trouble> {
    let ovs = crate::systems::Ovs;
    let mut session = bench.guest_pair(&ovs as &dyn System, LENGTH)?;
    session.use_streams(LENGTH, false)?;
    Ok(session.closed_loop(bench.time).0.mpps())
}

fn spec(name: &str, label: &str) -> Spec {
    Spec {
        group: if name == "p50" { "latency, median" } else { "latency, 99th percentile" },
        label: format!("{label} of OVS-DPDK's maximum"),
        unit: "µs",
        better: Better::Less,
        conditions: "open loop, one direction, 64 B; from the time a frame was due until it was \
                     seen; rings of 256, VERSION_1 and MRG_RXBUF, split; the same frames a second \
                     for all systems of a round"
            .to_owned(),
        goals: if name == "p99" { vec![("ovs-dpdk", 1.0)] } else { Vec::new() },
    }
}
