//! Guest to guest through one poll thread, one direction and both, by frame length.

use crate::bench::{Bench, POLL_CORE, Session, Spec, StealClock, Trouble};
use crate::generator::{Manner, memcpy_mpps};
use crate::limits::{BARE_COPY, BARE_COPY_IS, BareCopy};
use crate::samples::{Better, Sample};
use crate::systems::System;

const ONE_WAY: &str = "guest to guest, one direction";
const BOTH_WAYS: &str = "guest to guest, both directions added";

/// A result above this share of the generator's own limit may be the generator's.
pub(crate) const BOUND_SHARE: f64 = 0.8;

/// Ethernet's longest frame; longer ones are jumbo frames.
const LONGEST_ORDINARY: usize = 1_514;

/// 64 KiB: a large frame, which crosses whole between guests with TSO.
const LARGE: usize = 65_536;

/// As a system of the table: a core that does nothing but copy between the same buffers.
const MEMCPY: &str = "memcpy";

pub(crate) fn run(bench: &mut Bench) {
    let lengths: &[usize] =
        if bench.is_quick { &[64, 1_514] } else { &[64, 128, 256, 512, 1_024, 1_514] };
    let chosen = bench.lengths.clone();
    let lengths = if chosen.is_empty() { [lengths, &[9_000, LARGE]].concat() } else { chosen };
    let (jumbo, ordinary): (Vec<usize>, Vec<usize>) =
        lengths.into_iter().partition(|&length| length > LONGEST_ORDINARY);
    let (large, jumbo) = jumbo.into_iter().partition(|&length| length > frame::MAX_FRAME_BYTES);
    for lengths in [ordinary, jumbo, large] {
        if !lengths.is_empty() {
            measure(bench, &lengths);
        }
    }
}

/// Measures lengths that are set up alike.
fn measure(bench: &mut Bench, lengths: &[usize]) {
    let longest = lengths.iter().copied().max().unwrap_or_default();
    // What no goal names, a quick run has no time for.
    let has_all = !bench.is_quick || longest <= LONGEST_ORDINARY;
    let ways: &[bool] = if has_all { &[false, true] } else { &[true] };
    let loads: Vec<(usize, bool)> =
        lengths.iter().flat_map(|&length| ways.iter().map(move |&both| (length, both))).collect();
    let mut limits: Option<(u32, Vec<f64>)> = None;
    bench.rounds("guest to guest", |bench, system, round| {
        if !has_all && system.name() == "ovs-dpdk" {
            return Err(Trouble::CannotDo);
        }
        // Before a system has the core.
        if limits.as_ref().is_none_or(|(of, _)| *of != round) {
            let limit = |&(length, is_both_ways)| bench.limit(length, is_both_ways);
            limits = Some((round, loads.iter().map(limit).collect::<Result<_, _>>()?));
            if longest == LARGE {
                add_memcpy(bench, round, ways)?;
            }
            for &(length, is_both_ways) in &loads {
                add_bare_copy(bench, round, length, is_both_ways)?;
            }
        }
        let mut session = bench.guest_pair(system, longest)?;
        let limits = limits.iter().flat_map(|(_, limits)| limits);
        for (&load, &limit) in loads.iter().zip(limits) {
            sample(bench, system, &mut session, round, load, limit)?;
        }
        Ok(())
    });
}

/// What copying alone would reach.
fn add_memcpy(bench: &mut Bench, round: u32, ways: &[bool]) -> Result<(), Trouble> {
    let clock = StealClock::start();
    let value = memcpy_mpps(LARGE, POLL_CORE, bench.time).map_err(|error| error.to_string())?;
    let sample = Sample { round, value, is_generator_bound: false, stolen: clock.stolen() };
    for &is_both_ways in ways {
        bench.add(&spec(LARGE, is_both_ways), MEMCPY, sample.clone());
    }
    Ok(())
}

/// What copying reaches with frames that come from another core and go there.
fn add_bare_copy(
    bench: &mut Bench,
    round: u32,
    length: usize,
    is_both_ways: bool,
) -> Result<(), Trouble> {
    if bench.is_quick && !is_both_ways {
        return Ok(());
    }
    let mut bare = BareCopy::start(length, is_both_ways)?;
    let clock = StealClock::start();
    let value = bare.load.closed_loop(bench.time).mpps();
    let sample = Sample { round, value, is_generator_bound: false, stolen: clock.stolen() };
    bench.add(&spec(length, is_both_ways), BARE_COPY, sample);
    Ok(())
}

fn sample(
    bench: &mut Bench,
    system: &dyn System,
    session: &mut Session,
    round: u32,
    (length, is_both_ways): (usize, bool),
    limit: f64,
) -> Result<(), Trouble> {
    session.use_streams(length, is_both_ways)?;
    let (seen, stolen) = session.closed_loop(bench.time);
    let value = seen.mpps();
    let is_generator_bound = value > BOUND_SHARE * limit;
    let sample = Sample { round, value, is_generator_bound, stolen };
    bench.add(&spec(length, is_both_ways), system.name(), sample);
    Ok(())
}

fn spec(length: usize, is_both_ways: bool) -> Spec {
    let goals = match (length, is_both_ways) {
        (64, true) => vec![("ovs-dpdk", 2.5), ("testpmd", 1.0)],
        (1_514, true) => vec![("ovs-dpdk", 2.5), ("testpmd", 1.5)],
        (9_000, true) => vec![("testpmd", 2.0)],
        (LARGE, true) => vec![(MEMCPY, 0.7)],
        _ => Vec::new(),
    };
    Spec {
        group: if is_both_ways { BOTH_WAYS } else { ONE_WAY },
        label: format!("{length} B"),
        unit: "Mpps",
        better: Better::More,
        conditions: format!("{}; {BARE_COPY_IS}", conditions(length)),
        goals,
    }
}

/// What figures of the closed loop hold for.
pub(crate) fn conditions(length: usize) -> String {
    let manner = Manner::for_frames_of(length);
    let offloads = if manner.is_large { ", CSUM and TSO4 of either side" } else { "" };
    format!(
        "closed loop, rings of {}, at most {} frames of a direction on their way, nothing lost on \
         purpose and only intact frames counted; VERSION_1 and MRG_RXBUF{offloads}, split, no \
         EVENT_IDX, receive buffers of {} B",
        manner.entries,
        manner.window(length),
        manner.receive_buffer_bytes
    )
}
