//! What happened so far, to be told when the run fails.

use std::collections::VecDeque;
use std::env;
use std::time::{Duration, Instant};

use crate::support::numbers;

/// Steps that are told of.
const STEPS_TOLD: usize = 40;

/// The seed of a run that is not told another.
const SEED: u64 = 0x0072_696e_6777_6179;

/// How long a run is that is not told otherwise.
const SECONDS: u64 = 60;

/// Random numbers.
pub(super) struct Chance(Box<dyn Iterator<Item = u64>>);

impl Chance {
    fn new(seed: u64) -> Self {
        // Small seeds differ in few bits, and zero would stay zero.
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self(Box::new(numbers(mixed).skip(8)))
    }

    /// A number below `limit`.
    pub(super) fn below(&mut self, limit: usize) -> usize {
        let number = self.0.next().unwrap() >> 16;
        usize::try_from(number % u64::try_from(limit).unwrap()).unwrap()
    }
}

/// What is to happen by chance, and the last steps that it has led to. Tells them when a panic
/// passes.
pub(super) struct Story {
    seed: u64,
    /// For the steps alone, which are the same each time therefore.
    pub(super) steps: Chance,
    /// For frames, of which there are more or fewer.
    pub(super) frames: Chance,
    pub(super) step: u64,
    last: VecDeque<String>,
    start: Instant,
    length: Duration,
}

impl Story {
    /// As RINGWAY_SOAK_SEED and RINGWAY_SOAK_SECONDS say.
    pub(super) fn new() -> Self {
        let told = |variable, default| match env::var(variable) {
            Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}: not a number: {text}")),
            Err(_) => default,
        };
        let (seed, seconds) =
            (told("RINGWAY_SOAK_SEED", SEED), told("RINGWAY_SOAK_SECONDS", SECONDS));
        println!("soak: RINGWAY_SOAK_SEED={seed} RINGWAY_SOAK_SECONDS={seconds}");
        Self {
            seed,
            steps: Chance::new(seed),
            frames: Chance::new(!seed),
            step: 0,
            last: VecDeque::new(),
            start: Instant::now(),
            length: Duration::from_secs(seconds),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.start.elapsed() > self.length
    }

    /// Milliseconds since the beginning.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap()
    }

    /// Notes what is done.
    pub(super) fn tell(&mut self, what: &str) {
        if self.last.len() == STEPS_TOLD {
            self.last.pop_front();
        }
        self.last.push_back(format!("{:>7} ms, step {}: {what}", self.now(), self.step));
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (now, Self { seed, step, .. }) = (self.now(), &*self);
            eprintln!("soak failed at {now} ms with RINGWAY_SOAK_SEED={seed}, step {step}");
            self.last.iter().for_each(|told| eprintln!("  {told}"));
        }
    }
}
