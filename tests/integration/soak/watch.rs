//! Whether anybody waits for a poll thread that does not come.
//!
//! Measured is the processor time that poll threads had meanwhile, so that a loaded machine fails
//! nothing: work that waited while every thread either had 100 ms of its own or lay asleep was
//! forgotten. A thread that is to run and does not get a processor is no fault of the switch.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Processor time of the poll threads in which work must be served.
const PATIENCE_OF_PROCESSOR: Duration = Duration::from_millis(100);

/// Time in which it must be served if all of them sleep.
const PATIENCE_ASLEEP: Duration = Duration::from_secs(2);

/// Time between two looks at what the threads have used.
const BETWEEN_SAMPLES: Duration = Duration::from_millis(5);

/// Poll threads of a switch, and what they had used when it was looked at last.
#[derive(Debug)]
pub(super) struct PollThreads {
    tasks: Vec<PathBuf>,
    sampled: Instant,
    used: Vec<Duration>,
}

impl PollThreads {
    /// Those of a process.
    pub(super) fn of(process: u32) -> Self {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let tasks = tasks.map(|task| task.unwrap().path());
        let polls = |task: &PathBuf| {
            fs::read_to_string(task.join("comm")).is_ok_and(|name| name.starts_with("poll-"))
        };
        let tasks: Vec<_> = tasks.filter(polls).collect();
        let used = tasks.iter().map(|task| used(task)).collect();
        Self { tasks, sampled: Instant::now(), used }
    }

    /// None: the switch is about to be another.
    pub(super) fn none() -> Self {
        Self { tasks: Vec::new(), sampled: Instant::now(), used: Vec::new() }
    }

    /// Looks again if it is time.
    pub(super) fn sample(&mut self) {
        if self.sampled.elapsed() > BETWEEN_SAMPLES {
            self.sampled = Instant::now();
            self.used = self.tasks.iter().map(|task| used(task)).collect();
        }
    }

    /// Says whether every thread has had time enough since then or sleeps, and what it had.
    fn have_forgotten(&self, since: Instant, before: &[Duration]) -> Option<String> {
        let had: Vec<_> = self.used.iter().zip(before).map(|(now, then)| *now - *then).collect();
        let is_long = |had: &Duration| *had > PATIENCE_OF_PROCESSOR;
        let waited = self.sampled - since;
        if !had.iter().any(is_long) && waited < PATIENCE_ASLEEP {
            return None;
        }
        let states: Vec<_> = self.tasks.iter().map(|task| state(task)).collect();
        let is_forgotten =
            had.iter().zip(&states).all(|(had, &state)| is_long(had) || state == 'S');
        is_forgotten
            .then(|| format!("{waited:?}, in which the threads ran {had:?}, now {states:?}"))
    }
}

/// Processor time that a thread has used: the first number of schedstat, in nanoseconds.
fn used(task: &Path) -> Duration {
    let text = fs::read_to_string(task.join("schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// R, S, D, and so on: behind the name, which is in brackets.
fn state(task: &Path) -> char {
    let text = fs::read_to_string(task.join("stat")).unwrap();
    text.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

/// One thing that may wait.
#[derive(Debug, Default)]
pub(super) struct Watch {
    mark: u64,
    since: Option<Instant>,
    /// What the threads had used the first time that it was looked after `since`.
    before: Option<Vec<Duration>>,
}

impl Watch {
    /// Nothing waits.
    pub(super) fn rest(&mut self) {
        *self = Self::default();
    }

    /// Something waits that shows progress by another mark. Says how long it has waited if that
    /// is too long.
    pub(super) fn look(&mut self, mark: u64, threads: &PollThreads) -> Option<String> {
        let Some(since) = self.since.filter(|_| self.mark == mark) else {
            *self = Self { mark, since: Some(Instant::now()), before: None };
            return None;
        };
        match &self.before {
            Some(before) => threads.have_forgotten(since, before),
            None => {
                self.before = (threads.sampled > since).then(|| threads.used.clone());
                None
            }
        }
    }
}
