//! What each part of a frame's way costs, by criterion: for finding out where time goes.
//!
//! `cargo bench --bench parts -- decide` runs one part; the parts are
//!
//! | name        | what is timed                                                        | module       |
//! |-------------|----------------------------------------------------------------------|--------------|
//! | `header`    | parsing a frame's first bytes, tag and flow hash                     | `header`     |
//! | `decide`    | the forwarding decision: known, unknown, tagged; few and many stations | `decide`   |
//! | `fdb`       | learning and looking up, without the bridge around it                | `fdb`        |
//! | `transmitq` | taking a burst from a guest and giving it back                       | `transmitq`  |
//! | `receiveq`  | delivering to a guest                                                | `receiveq`   |
//! | `copy`      | the one copy, with and without a change of tag                       | `copy`       |
//! | `copy_ways` | other ways of copying, between few buffers and many                  | `copy_ways`  |
//! | `checksum`  | the same with a checksum, large frames cut into small ones           | `checksum`   |
//! | `ring`      | a burst through the hand-over ring                                   | `handover`   |
//!
//! One iteration is one frame, so criterion's times are per frame (wall clock, not ticks). All
//! runs in one thread but for `ring/across`: what another core has just written costs more than
//! here, where all of it lies in this core's caches.

mod checksum;
mod copy;
mod copy_ways;
mod decide;
mod fdb;
mod frames;
mod guests;
mod handover;
mod header;
mod receiveq;
mod transmitq;

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{Bencher, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};

/// Frames that are taken, decided or sent at a time: what the peers use, half of ours at most.
const BURST: usize = 32;

/// Frames between two readings of the clock, which cost 0.2 ns a frame then; also the length of
/// QEMU's queues unless it is told otherwise.
const ROUND: usize = 256;

/// A part's benches. One element is one frame.
fn part<'a>(criterion: &'a mut Criterion, name: &str) -> BenchmarkGroup<'a, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group
}

/// Times `work`, which deals with `frames` frames at a time, and never `prepare`, which comes
/// before each. The last round is done whole and counted in part.
fn time_rounds<World>(
    bencher: &mut Bencher<'_>,
    world: &mut World,
    frames: usize,
    mut prepare: impl FnMut(&mut World),
    mut work: impl FnMut(&mut World),
) {
    let frames = frames as u64;
    bencher.iter_custom(|wanted| {
        let rounds = wanted.div_ceil(frames);
        let mut spent = Duration::ZERO;
        for _ in 0..rounds {
            prepare(world);
            let start = Instant::now();
            work(world);
            spent += start.elapsed();
        }
        spent.mul_f64(wanted as f64 / (rounds * frames) as f64)
    });
}

criterion_group!(
    parts,
    header::benches,
    decide::benches,
    fdb::benches,
    transmitq::benches,
    receiveq::benches,
    copy::benches,
    copy_ways::benches,
    checksum::benches,
    handover::benches
);
criterion_main!(parts);
