//! How a frame's cost grows: with addresses, flows and ports, and with the copies of a flood.
//!
//! Ticks a frame are the processor's ticks in the time of one frame: those of the poll thread, if
//! the generator is not the limit. A system is compared with itself; what Ringway has with 2
//! addresses and with 2 ports stands beside its other figures as a series of its own.
//!
//! What it costs to hand a frame over to another poll thread is in `handover.rs`.

use std::time::{Duration, Instant};

use crate::bench::{Bench, POLL_CORE, Session, Spec, StealClock, Trouble, start, start_beside};
use crate::flooding::Flooding;
use crate::generator::{Checks, Manner, Null, ticks_per_second};
use crate::load::{Load, POSTED};
use crate::samples::{Better, OWN, Sample};
use crate::systems::System;
use crate::work::guest_pair::{BOUND_SHARE, conditions};
use crate::work::{MOST_PEER_PORTS, is_peer};

const ADDRESSES: &str = "ticks a frame, by learned addresses";
const FLOWS: &str = "ticks a frame, by flows of a direction";
const PORTS: &str = "ticks a frame, by ports of which two are busy";
const COPIES: &str = "flooding, copies a second by ports";
const COPY: &str = "flooding, ticks a copy by ports";

const LENGTH: usize = 64;

/// What the others are compared with: the same switch with two addresses or ports.
const TWO_ADDRESSES: &str = "ringway, 2 addresses";
const TWO_PORTS: &str = "ringway, 2 ports";

/// Stations behind either guest, and where the figure goes: group and label.
type Among = (u32, &'static [(&'static str, &'static str)]);

const AMONG: &[Among] = &[
    (1, &[(ADDRESSES, "2 addresses"), (FLOWS, "1")]),
    (8, &[(FLOWS, "8")]),
    (64, &[(FLOWS, "64")]),
    (500, &[(ADDRESSES, "1000 addresses")]),
    (32_768, &[(ADDRESSES, "65536 addresses")]),
];

/// What the goals are about.
const AMONG_QUICK: &[Among] =
    &[(1, &[(ADDRESSES, "2 addresses")]), (32_768, &[(ADDRESSES, "65536 addresses")])];

/// How long a system may take to know all stations, or to have all its ports in service.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn run(bench: &mut Bench) {
    let among = if bench.is_quick { AMONG_QUICK } else { AMONG };
    let ports: &[usize] = if bench.is_quick { &[2, 512] } else { &[2, 64, 512] };
    bench.rounds("addresses and flows", |bench, system, round| {
        // OVS sends the flows of a burst one after the other. That is right, but streams count
        // frames that overtake each other as lost.
        if is_peer(system) {
            return Err(Trouble::CannotDo);
        }
        measure_among(bench, system, round, among)
    });
    bench.rounds("ports", |bench, system, round| {
        // testpmd joins two ports and has nothing that grows.
        if is_peer(system) && (bench.is_quick || system.name() == "testpmd") {
            return Err(Trouble::CannotDo);
        }
        let most = if is_peer(system) { MOST_PEER_PORTS } else { usize::MAX };
        let ports: Vec<usize> = ports.iter().copied().filter(|ports| *ports <= most).collect();
        measure_ports(bench, system, round, &ports)
    });
    if !bench.is_quick {
        bench.rounds("flooding", |bench, system, round| {
            [2, 8, 32].iter().try_for_each(|&ports| measure_flood(bench, system, round, ports))
        });
    }
}

/// Two guests with ever more stations. A third guest hears what is flooded: nothing, once all of
/// them are known.
fn measure_among(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    among: &[Among],
) -> Result<(), Trouble> {
    let limits = among.iter().map(|(stations, _)| bench.limit_among(LENGTH, true, *stations));
    let limits: Vec<f64> = limits.collect::<Result<_, _>>()?;
    let manner = Manner::for_frames_of(LENGTH);
    let mut session = start_beside(system, 2, manner, LENGTH, 1)?;
    session.load.window = manner.window(LENGTH);
    let mut least = None;
    for (&(stations, cells), limit) in among.iter().zip(limits) {
        learn(&mut session.load, stations)?;
        session.load.pair_streams_among(LENGTH, true, stations, Checks::Some);
        let sample = ticks_a_frame(bench, &mut session, round, limit)?;
        let overheard = overhear(&mut session.load);
        if overheard > 0 {
            return Err(format!("{overheard} frames to {stations} stations flooded").into());
        }
        for &(group, label) in cells {
            let spec = among_spec(group, label);
            bench.add(&spec, system.name(), sample.clone());
            add_least(bench, system, &spec, TWO_ADDRESSES, least.as_ref());
        }
        least = least.or(Some(sample));
    }
    Ok(())
}

/// Has every station of both guests heard, every byte of its frames looked at, until no frame
/// floods.
fn learn(load: &mut Load, stations: u32) -> Result<(), String> {
    load.pair_streams_among(LENGTH, true, stations, Checks::All);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        load.drain();
        load.ways.iter_mut().for_each(|way| way.stream.forget());
        let seen = load.closed_loop(Duration::from_millis(100)).counted;
        let mut ways = load.ways.iter().map(|way| way.stream.counted.delivered);
        let has_all = ways.all(|delivered| delivered >= u64::from(stations));
        if overhear(load) == 0 && has_all && seen.damaged == 0 {
            return Ok(());
        }
    }
    Err(format!("frames of {stations} stations flood, or do not pass, after {PATIENCE:?}"))
}

/// How many frames the third guest has got. What is on its way is waited for.
fn overhear(load: &mut Load) -> usize {
    std::thread::sleep(Duration::from_millis(5));
    load.guests[2].pairs[0].0.receive(|_, _| {})
}

/// Two busy guests, and others that are silent.
fn measure_ports(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    ports: &[usize],
) -> Result<(), Trouble> {
    let limit = bench.limit(LENGTH, true)?;
    let manner = Manner::for_frames_of(LENGTH);
    let mut least = None;
    for &ports in ports {
        let mut session = start_beside(system, 2, manner, LENGTH, ports - 2)?;
        session.load.window = manner.window(LENGTH);
        session.warm_up(LENGTH)?;
        session.use_streams(LENGTH, true)?;
        let sample = ticks_a_frame(bench, &mut session, round, limit)?;
        let spec = ports_spec(ports);
        bench.add(&spec, system.name(), sample.clone());
        add_least(bench, system, &spec, TWO_PORTS, least.as_ref());
        least = least.or(Some(sample));
    }
    Ok(())
}

/// Puts what Ringway had in the first cell beside its figure in another.
fn add_least(
    bench: &mut Bench,
    system: &dyn System,
    spec: &Spec,
    name: &str,
    least: Option<&Sample>,
) {
    if let Some(least) = least
        && system.name() == OWN
        && spec.group != FLOWS
    {
        bench.add(spec, name, least.clone());
    }
}

/// One sample of the closed loop.
fn ticks_a_frame(
    bench: &Bench,
    session: &mut Session,
    round: u32,
    limit: f64,
) -> Result<Sample, String> {
    let (seen, stolen) = session.closed_loop(bench.time);
    let mpps = seen.mpps();
    let value = ticks_per_second() / (mpps * 1e6);
    let is_generator_bound = mpps > BOUND_SHARE * limit;
    if seen.counted.delivered == 0 {
        return Err("nothing arrived".to_owned());
    }
    Ok(Sample { round, value, is_generator_bound, stolen })
}

/// One guest's frames to so many others.
fn measure_flood(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    ports: usize,
) -> Result<(), Trouble> {
    let manner = Manner::for_frames_of(LENGTH);
    let limit = flood_limit(bench, ports)?;
    let mut session = start(system, ports + 1, manner, LENGTH)?;
    await_flood(&mut session.load, ports)?;
    let mut flood = Flooding::new(ports, LENGTH, manner.window(LENGTH), Checks::Some);
    let clock = StealClock::start();
    let seen = flood.closed_loop(&mut session.load.guests, bench.time);
    let stolen = clock.stolen();
    let is_generator_bound = seen.mpps() > BOUND_SHARE * limit;
    let sample = |value| Sample { round, value, is_generator_bound, stolen };
    let ticks = ticks_per_second() / (seen.mpps() * 1e6);
    bench.add(&flood_spec(COPIES, ports), system.name(), sample(seen.mpps()));
    bench.add(&flood_spec(COPY, ports), system.name(), sample(ticks));
    Ok(())
}

/// Waits until all others hear what the first guest sends, and looks at every byte of it.
fn await_flood(load: &mut Load, ports: usize) -> Result<(), String> {
    let mut flood = Flooding::new(ports, LENGTH, POSTED, Checks::All);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let seen = flood.closed_loop(&mut load.guests, Duration::from_millis(50));
        if seen.counted.damaged == 0 && flood.reaches_all() {
            // What came late is forgotten.
            std::thread::sleep(Duration::from_millis(20));
            load.drain();
            return Ok(());
        }
    }
    Err(format!("no flood reaches {ports} guests intact within {PATIENCE:?}"))
}

/// What the generator itself floods to so many others: million copies a second.
fn flood_limit(bench: &Bench, ports: usize) -> Result<f64, String> {
    let manner = Manner::for_frames_of(LENGTH);
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut load = Load::listen(directory.path(), ports + 1, manner)?;
    let mut flood = Flooding::new(ports, LENGTH, manner.window(LENGTH), Checks::None);
    let _null = Null::flood(&load.guests, POLL_CORE);
    Ok(flood.closed_loop(&mut load.guests, bench.time.min(Duration::from_millis(200))).mpps())
}

fn among_spec(group: &'static str, label: &str) -> Spec {
    let goals = if label == "65536 addresses" { vec![(TWO_ADDRESSES, 1.3)] } else { Vec::new() };
    let how = "both directions, as many stations behind either guest, each of which talks to one \
               of the other's, in turn; all of them known, so nothing floods; a third guest is \
               silent";
    spec((group, label, "ticks"), how, goals)
}

fn ports_spec(ports: usize) -> Spec {
    let goals = if ports == 512 { vec![(TWO_PORTS, 1.1)] } else { Vec::new() };
    let how = "both directions, one station behind either guest; the other guests are silent";
    spec((PORTS, &format!("{ports} ports"), "ticks"), how, goals)
}

fn flood_spec(group: &'static str, ports: usize) -> Spec {
    let how = "one guest sends to all others; a frame is on its way until the last has it";
    let unit = if group == COPIES { "million" } else { "ticks" };
    spec((group, &format!("{ports} ports"), unit), how, Vec::new())
}

fn spec(
    (group, label, unit): (&'static str, &str, &'static str),
    how: &str,
    goals: Vec<(&'static str, f64)>,
) -> Spec {
    let better = if group == COPIES { Better::More } else { Better::Less };
    let conditions = format!("{LENGTH} B, {how}; {}", conditions(LENGTH));
    Spec { group, label: label.to_owned(), unit, better, conditions, goals }
}
