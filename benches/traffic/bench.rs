//! Rounds, sessions and samples: what every kind of work has in common.
//!
//! In each round every system is measured once, one after the other and beginning with another
//! one each time; a drifting machine thus hurts all alike. A *session* is one system, started on
//! guests that this process plays.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::generator::{Checks, Guest, Manner, Stations, Stream};
use crate::load::{Load, Seen, Way, socket};
use crate::samples::{Better, Cell, Goal, Results, Sample};
use crate::systems::{Port, Running, System, Topology};

/// The core of the poll thread under test, and that of the load.
pub(crate) const POLL_CORE: usize = 0;
pub(crate) const LOAD_CORE: usize = 1;

/// The longest frame that every system is set up for, at least.
const LONGEST_ETHERNET: usize = 1_514;

/// How long a system is under load before it is measured. OVS-DPDK was seen to forward half as much
/// in the first 400 ms as later.
const WARM_UP: Duration = Duration::from_millis(400);

/// A run of the bench.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) systems: Vec<Box<dyn System>>,
    pub(crate) results: Results,
    pub(crate) rounds: u32,
    /// How long one sample takes.
    pub(crate) time: Duration,
    pub(crate) is_quick: bool,
    /// Frame lengths that were asked for; none: the usual ones.
    pub(crate) lengths: Vec<usize>,
}

/// What a cell is about, before there are samples.
#[derive(Debug, Clone)]
pub(crate) struct Spec {
    pub(crate) group: &'static str,
    pub(crate) label: String,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) conditions: String,
    /// System (empty: the figure itself) and bound.
    pub(crate) goals: Vec<(&'static str, f64)>,
}

/// Why there is no sample.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The system does not do such work at all. Nothing is said of it.
    CannotDo,
    /// What went wrong.
    Failed(String),
}

impl From<String> for Trouble {
    fn from(words: String) -> Self {
        Self::Failed(words)
    }
}

/// A system that runs, with the load on it.
#[derive(Debug)]
pub(crate) struct Session {
    // Dropped in this order: the system ends before its sockets go.
    pub(crate) running: Box<dyn Running>,
    pub(crate) load: Load,
    _directory: tempfile::TempDir,
}

impl Bench {
    /// Does something with each system in turn, round after round. What fails is noted in the
    /// report and on standard error, and the others go on.
    pub(crate) fn rounds(
        &mut self,
        what: &str,
        mut work: impl FnMut(&mut Self, &dyn System, u32) -> Result<(), Trouble>,
    ) {
        // Taken out, so that `work` may have the bench.
        let systems = std::mem::take(&mut self.systems);
        for round in 0..self.rounds {
            eprintln!("  {what}: round {} of {}", round + 1, self.rounds);
            for turn in 0..systems.len() {
                let system = &systems[(turn + round as usize) % systems.len()];
                if let Err(Trouble::Failed(error)) = work(self, system.as_ref(), round) {
                    let name = system.name();
                    eprintln!("  {what}: {name}: {error}");
                    self.results.missing.insert(format!("{name}, {what}"), error);
                }
            }
        }
        self.systems = systems;
    }

    /// Adds a sample to a cell, which is made if this is its first.
    pub(crate) fn add(&mut self, spec: &Spec, system: &str, sample: Sample) {
        let cells = &mut self.results.cells;
        let place = cells.iter().position(|cell| {
            (cell.group.as_str(), &cell.label, cell.unit.as_str())
                == (spec.group, &spec.label, spec.unit)
        });
        let cell = match place {
            Some(place) => &mut cells[place],
            None => {
                cells.push(spec.cell());
                cells.last_mut().expect("one was just pushed")
            }
        };
        cell.series.entry(system.to_owned()).or_default().push(sample);
    }

    /// Starts a system between two guests for frames of up to so many bytes, and lets it learn
    /// where they are.
    pub(crate) fn guest_pair(
        &self,
        system: &dyn System,
        longest_frame_bytes: usize,
    ) -> Result<Session, Trouble> {
        let manner = Manner::for_frames_of(longest_frame_bytes);
        let mut session = start(system, 2, manner, longest_frame_bytes)?;
        session.load.window = manner.window(longest_frame_bytes);
        session.warm_up(longest_frame_bytes)?;
        Ok(session)
    }
}

impl Spec {
    fn cell(&self) -> Cell {
        let goal = |&(against, bound): &(&str, f64)| Goal { against: against.to_owned(), bound };
        Cell {
            group: self.group.to_owned(),
            label: self.label.clone(),
            unit: self.unit.to_owned(),
            better: self.better,
            conditions: self.conditions.clone(),
            goals: self.goals.iter().map(goal).collect(),
            series: BTreeMap::new(),
        }
    }
}

/// Starts a system on so many guests of this process.
pub(crate) fn start(
    system: &dyn System,
    guests: usize,
    manner: Manner,
    longest_frame_bytes: usize,
) -> Result<Session, Trouble> {
    start_beside(system, guests, manner, longest_frame_bytes, 0)
}

/// The same with more guests that are idle.
pub(crate) fn start_beside(
    system: &dyn System,
    guests: usize,
    manner: Manner,
    longest_frame_bytes: usize,
    idle: usize,
) -> Result<Session, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut load = Load::listen(directory.path(), guests, manner)?;
    load.add_idle(directory.path(), idle)?;
    let port = |(number, guest): (usize, &Guest)| Port::Guest {
        socket: socket(directory.path(), number),
        queue_pairs: u16::try_from(guest.pairs.len()).unwrap_or(u16::MAX),
    };
    let topology = Topology {
        ports: load.guests.iter().enumerate().map(port).collect(),
        namespace: None,
        core: POLL_CORE,
        longest_frame_bytes: longest_frame_bytes.max(LONGEST_ETHERNET),
    };
    if !system.can(&topology) {
        return Err(Trouble::CannotDo);
    }
    let running = plug_in(system, &topology, directory.path(), &mut load)?;
    Ok(Session { running, load, _directory: directory })
}

/// Starts a system and answers it meanwhile: some wait for their guests before they say that they
/// are there.
pub(crate) fn plug_in(
    system: &dyn System,
    topology: &Topology,
    directory: &std::path::Path,
    load: &mut Load,
) -> Result<Box<dyn Running>, String> {
    std::thread::scope(|scope| {
        let plugging = scope.spawn(|| load.plug_in());
        let running = system.start(topology, directory);
        let plugged = plugging.join().map_err(|_| "the load's guests panicked".to_owned())?;
        let running = running?;
        plugged.map(|()| running)
    })
}

impl Session {
    /// Replaces the streams by new ones between the first two guests, both of whose stations the
    /// system has heard, and sends some frames of which every byte is looked at.
    pub(crate) fn use_streams(&mut self, length: usize, is_both_ways: bool) -> Result<(), String> {
        let load = &mut self.load;
        load.pair_streams(length, true, Checks::All);
        load.await_passage()?;
        let seen = load.closed_loop(Duration::from_millis(50));
        let counted = seen.counted;
        if counted.delivered == 0 || counted.damaged > 0 {
            return Err(format!("frames of {length} bytes do not arrive intact: {counted:?}"));
        }
        load.pair_streams(length, is_both_ways, Checks::Some);
        Ok(())
    }

    /// Has frames sent both ways for a while: some systems are slower in their first moments.
    pub(crate) fn warm_up(&mut self, length: usize) -> Result<(), String> {
        self.use_streams(length, true)?;
        self.load.closed_loop(WARM_UP);
        Ok(())
    }

    /// One sample of the closed loop.
    pub(crate) fn closed_loop(&mut self, time: Duration) -> (Seen, f64) {
        let clock = StealClock::start();
        let seen = self.load.closed_loop(time);
        (seen, clock.stolen())
    }
}

impl Load {
    /// Streams between the first two guests, each with a station of its own.
    pub(crate) fn pair_streams(&mut self, length: usize, is_both_ways: bool, checks: Checks) {
        self.pair_streams_among(length, is_both_ways, 1, checks);
    }

    /// The same with so many stations behind either guest, each of which talks to one.
    pub(crate) fn pair_streams_among(
        &mut self,
        length: usize,
        is_both_ways: bool,
        stations: u32,
        checks: Checks,
    ) {
        let stream = |from, to| {
            let stations = Stations { from, to, sources: stations, destinations: stations };
            Stream::new(length, stations, checks)
        };
        self.drain();
        self.ways.clear();
        self.ways.push(Way { stream: stream(1, 2), from: 0, to: 1, pair: 0 });
        if is_both_ways {
            self.ways.push(Way { stream: stream(2, 1), from: 1, to: 0, pair: 0 });
        }
    }
}

/// How much of the cores' time the hypervisor takes away (proc(5), `steal` of `/proc/stat`).
#[derive(Debug)]
pub(crate) struct StealClock {
    start: Option<(u64, u64)>,
}

impl StealClock {
    pub(crate) fn start() -> Self {
        Self { start: read_steal() }
    }

    /// The share since the start, 0 to 1.
    pub(crate) fn stolen(&self) -> f64 {
        let (Some((steal, all)), Some((steal_now, all_now))) = (self.start, read_steal()) else {
            return 0.0;
        };
        #[expect(clippy::cast_precision_loss, reason = "hundredths of seconds of one sample")]
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        share(steal_now.saturating_sub(steal), all_now.saturating_sub(all))
    }
}

/// Stolen and all time of all cores together, in hundredths of a second.
fn read_steal() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().next()?;
    let numbers: Vec<u64> = line.split_whitespace().skip(1).flat_map(str::parse).collect();
    Some((*numbers.get(7)?, numbers.iter().take(8).sum()))
}
