//! What a system costs that has nothing to do, and how long it then takes to notice a frame.
//!
//! A second of silence is both: the processor time of all threads of the process is taken in it,
//! and a frame ends it. The load's thread sleeps through the silence, then spins for a moment so
//! that its own core is awake, and polls for the frame from when it has posted it.
//!
//! Whoever sleeps leaves his core to the kernel, which halts it. How long a halted core takes to wake
//! up is the machine's and is shown beside; an operator can have it not halted
//! (`config/ringway.service` says how), so that is measured, too.

use std::fs::{self, File};
use std::io::{self, Write};
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

use crate::bench::{Bench, POLL_CORE, Session, Spec, StealClock, Trouble, start_beside};
use crate::generator::{Checks, Manner, ticks, ticks_per_second};
use crate::samples::{Better, LEAST_KEPT, OWN, Sample};
use crate::systems::System;
use crate::work::{MOST_PEER_PORTS, is_peer};

const CPU: &str = "idle, processor time";
const FIRST: &str = "idle, first frame after one second of silence";

/// What stands beside the systems: see above.
const BARE: &str = "bare wake-up";

const LENGTH: usize = 64;
/// Guests of the larger switch.
const MANY_PORTS: usize = 512;
const SILENCE: Duration = Duration::from_secs(1);
/// How long the load's core is kept busy before the frame: more than it takes to wake up.
const WARMING: Duration = Duration::from_micros(500);

pub(crate) fn run(bench: &mut Bench) {
    let times = if bench.is_quick { 1 } else { 5 };
    for ports in [2, MANY_PORTS] {
        bench.rounds(&format!("idle, {ports} ports"), |bench, system, round| {
            // A core that is always polled is the same in every round.
            if is_peer(system) && (ports > MOST_PEER_PORTS || bench.is_quick && round > 0) {
                return Err(Trouble::CannotDo);
            }
            measure(bench, system, round, ports, times)
        });
    }
}

fn measure(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    ports: usize,
    times: usize,
) -> Result<(), Trouble> {
    let mut session = start_beside(system, 2, Manner::for_frames_of(LENGTH), LENGTH, ports - 2)?;
    session.load.window = 1;
    session.load.pair_streams(LENGTH, true, Checks::All);
    session.load.await_passage()?;
    let halting = Silences { round, ports, has_halts: true, times };
    observe(bench, &mut session, system.name(), &halting)?;
    // A quick run has no time for more; these differ little from each other.
    let is_wanted = !bench.is_quick || ports == MANY_PORTS && (round as usize) < LEAST_KEPT;
    if system.name() == OWN && is_wanted {
        let _awake = NoHalts::hold()?;
        observe(bench, &mut session, OWN, &Silences { has_halts: false, ..halting })?;
    }
    Ok(())
}

/// What is observed in one round of a switch with so many ports.
struct Silences {
    round: u32,
    ports: usize,
    /// Whether the kernel may halt cores.
    has_halts: bool,
    times: usize,
}

fn observe(
    bench: &mut Bench,
    session: &mut Session,
    system: &str,
    silences: &Silences,
) -> Result<(), Trouble> {
    let &Silences { round, times, .. } = silences;
    let clock = StealClock::start();
    let (mut spent, mut silent, mut ticks) = (0.0, 0.0, Vec::new());
    for _ in 0..times {
        let (cpu, wall) = be_silent(session)?;
        spent += cpu;
        silent += wall;
        warm_up();
        ticks.push(session.load.one_frame().ok_or("the first frame is lost".to_owned())?);
    }
    // The longer a core was silent, the longer it takes to wake up: as long here. A quick run has
    // time for a few, and what the core takes does not depend on the ports.
    let is_enough = silences.has_halts == (silences.ports == 2) && (round as usize) < LEAST_KEPT;
    let has_bare = system == OWN && (is_enough || !bench.is_quick);
    let bare = if has_bare { bare_wake_ups(times)? } else { Vec::new() };
    let stolen = clock.stolen();
    let sample = |value| Sample { round, value, is_generator_bound: false, stolen };
    bench.add(&spec(CPU, silences), system, sample(100.0 * spent / silent));
    bench.add(&spec(FIRST, silences), system, sample(median_in_us(ticks)));
    if !bare.is_empty() {
        bench.add(&spec(FIRST, silences), BARE, sample(median_in_us(bare)));
    }
    Ok(())
}

/// Does nothing for a while. Returns the seconds that the process had of the processor, and those
/// that passed.
fn be_silent(session: &Session) -> Result<(f64, f64), String> {
    let process = session.running.process().ok_or("the system has no process")?;
    let (before, start) = (processor_seconds(process)?, Instant::now());
    thread::sleep(SILENCE);
    let passed = start.elapsed().as_secs_f64();
    Ok((processor_seconds(process)? - before, passed))
}

/// The processor time of all threads of a process: proc(5), first number of `schedstat`.
fn processor_seconds(process: u32) -> Result<f64, String> {
    let directory = format!("/proc/{process}/task");
    let tasks = fs::read_dir(&directory).map_err(|error| format!("{directory}: {error}"))?;
    let nanoseconds = |task: fs::DirEntry| -> Option<u64> {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    let nanoseconds: Vec<u64> = tasks.flatten().filter_map(nanoseconds).collect();
    if nanoseconds.is_empty() {
        return Err(format!("{directory}: there is no schedstat"));
    }
    #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
    let nanoseconds = nanoseconds.iter().sum::<u64>() as f64;
    Ok(nanoseconds / 1e9)
}

/// Ticks from a write to an eventfd until the thread that slept on it runs, several times.
fn bare_wake_ups(times: usize) -> Result<Vec<u64>, String> {
    (0..times).map(|_| bare_wake_up().map_err(|error| format!("{BARE}: {error}"))).collect()
}

fn bare_wake_up() -> io::Result<u64> {
    let bell = eventfd(0, EventfdFlags::CLOEXEC)?;
    let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&set, &bell, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
    let is_awake = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: POLL_CORE });
            let mut events = [const { MaybeUninit::uninit() }; 1];
            let longest = Timespec { tv_sec: 5, tv_nsec: 0 };
            let _ = epoll::wait(&set, &mut events, Some(&longest));
            is_awake.store(true, Ordering::Release);
        });
        thread::sleep(SILENCE);
        warm_up();
        let rung = ticks();
        rustix::io::write(&bell, &1u64.to_ne_bytes())?;
        while !is_awake.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        Ok(ticks().wrapping_sub(rung))
    })
}

fn warm_up() {
    let start = Instant::now();
    while start.elapsed() < WARMING {
        std::hint::spin_loop();
    }
}

fn median_in_us(mut ticks: Vec<u64>) -> f64 {
    ticks.sort_unstable();
    #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
    let median = ticks[ticks.len() / 2] as f64;
    median / ticks_per_second() * 1e6
}

/// Keeps the kernel from halting idle cores while it lives
/// (`Documentation/power/pm_qos_interface.rst`). Of all cores, which nobody would want on a host, but
/// whatever becomes of this process, the kernel takes it back.
struct NoHalts {
    _request: File,
}

impl NoHalts {
    fn hold() -> Result<Self, String> {
        let hold = || {
            let mut request = File::options().write(true).open(LATENCY_REQUEST)?;
            // The longest that a core may take to wake up, in microseconds.
            request.write_all(&0i32.to_ne_bytes())?;
            Ok(Self { _request: request })
        };
        hold()
            .map_err(|error: io::Error| format!("no row without halts: {LATENCY_REQUEST}: {error}"))
    }
}

/// See [`NoHalts`].
const LATENCY_REQUEST: &str = "/dev/cpu_dma_latency";

fn spec(group: &'static str, silences: &Silences) -> Spec {
    let (unit, conditions, goals) = match (group, silences.ports) {
        (CPU, MANY_PORTS) => ("% of a core", CPU_CONDITIONS, vec![("", 2.0)]),
        (CPU, _) => ("% of a core", CPU_CONDITIONS, Vec::new()),
        _ => ("µs", FIRST_CONDITIONS, vec![("", 100.0)]),
    };
    let halts = if silences.has_halts { "" } else { ", no halts" };
    Spec {
        group,
        label: format!("{} ports{halts}", silences.ports),
        unit,
        better: Better::Less,
        conditions: conditions.to_owned(),
        goals,
    }
}

const CPU_CONDITIONS: &str = "all threads of the process, while every guest is there and silent, in \
                              the second after their last frame; no halts: as below";
const FIRST_CONDITIONS: &str = "64 B from one guest to another, from when it is posted (and the \
                                system notified, if it wants to be) until it is seen by a receiver \
                                that polls; all other guests are silent; the median of a round's \
                                samples; bare wake-up: of a thread that sleeps in epoll_wait(2) as \
                                long on the core of the poll thread, which sleeps, too; no halts: \
                                an idle core waits in the kernel without being halted (PM QoS, \
                                cpu_dma_latency 0)";
