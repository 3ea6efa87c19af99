//! What was measured: cells (one kind of load, one figure), in them a series of samples for each
//! system, one sample a round.
//!
//! From the samples follow a median with its spread ([`Figure`]), the ratio of two systems and
//! whether a goal was reached. A ratio is made round by round, of samples taken one after the
//! other, and only then is its median taken: what drifts from round to round cancels out.
//!
//! A sample from which the hypervisor took more than [`STOLEN_LIMIT`] is discarded if at least
//! [`LEAST_KEPT`] others remain; otherwise all of the series stay and the figure is marked. A
//! pair of samples is as disturbed as the worse of the two.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The system whose figures are divided by those of the others.
pub(crate) const OWN: &str = "ringway";
/// The share of stolen time above which a sample is disturbed. Chosen by judgement.
pub(crate) const STOLEN_LIMIT: f64 = 0.02;
/// Fewer samples have no middle half; then a disturbed one is better than none.
pub(crate) const LEAST_KEPT: usize = 3;

/// Everything one run of the bench has measured. `target/bench/samples.json` is this.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// Processor, cores, kernel: one line.
    pub(crate) machine: String,
    /// When it began, as the clock of the machine has it (RFC 3339).
    pub(crate) began: String,
    /// `quick` or `full`.
    pub(crate) mode: String,
    /// Ticks of the processor's time-stamp counter in a second; 0: not known.
    #[serde(default)]
    pub(crate) ticks_per_second: f64,
    /// The version of each system that took part.
    pub(crate) versions: BTreeMap<String, String>,
    /// Systems that could not take part, and why.
    pub(crate) missing: BTreeMap<String, String>,
    pub(crate) cells: Vec<Cell>,
}

/// One load and one figure of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Cell {
    /// What is measured: `guest to guest, both directions`. A table and a plot each.
    pub(crate) group: String,
    /// The place in the group: `64 B`.
    pub(crate) label: String,
    /// `Mpps`, `µs`, ….
    pub(crate) unit: String,
    pub(crate) better: Better,
    /// Ring size, window, loss criterion, features: what the figure holds for.
    pub(crate) conditions: String,
    /// What is to be reached.
    pub(crate) goals: Vec<Goal>,
    /// By the system's name; a system that cannot take part has no series.
    pub(crate) series: BTreeMap<String, Vec<Sample>>,
}

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Better {
    More,
    Less,
}

/// What is to be reached: Ringway's figure divided by another's.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Goal {
    /// The other system's name; empty: `bound` is the figure itself.
    pub(crate) against: String,
    /// At least so much if more is better, else at most.
    pub(crate) bound: f64,
}

/// One round's figure.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) value: f64,
    /// The generator itself reaches less than 1.25 times this: the system may be faster.
    pub(crate) is_generator_bound: bool,
    /// Share of the cores' time that the hypervisor took away meanwhile, 0 to 1.
    pub(crate) stolen: f64,
}

/// What a series of samples comes to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    /// Least and most of the samples kept.
    pub(crate) range: (f64, f64),
    /// First and third quartile, interpolated: half of the samples lie between.
    pub(crate) middle: (f64, f64),
    pub(crate) kept: usize,
    /// Disturbed and left out.
    pub(crate) discarded: usize,
    /// A sample that was kept is: see [`Sample::is_generator_bound`].
    pub(crate) is_generator_bound: bool,
    /// A sample that was kept is above [`STOLEN_LIMIT`]: too few others were there.
    pub(crate) is_disturbed: bool,
}

/// Whether a goal was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reached,
    Missed,
    /// One of the systems has no sample.
    Unmeasured,
}

/// What became of a goal.
#[derive(Debug, Clone)]
pub(crate) struct Outcome<'a> {
    pub(crate) goal: &'a Goal,
    /// The ratio, or the figure itself, that the goal is about.
    pub(crate) figure: Option<Figure>,
    pub(crate) verdict: Verdict,
}

impl Cell {
    /// The length of the frames that a figure in Mpps counts, without FCS: the label says it.
    pub(crate) fn frame_bytes(&self) -> Option<f64> {
        let bytes = self.label.strip_suffix(" B").filter(|_| self.unit == "Mpps")?;
        bytes.parse().ok()
    }

    /// One system's figure, if it has samples.
    pub(crate) fn figure(&self, system: &str) -> Option<Figure> {
        Figure::of(self.series.get(system)?)
    }

    /// Ringway's figure divided by another system's, of the rounds in which both have a sample.
    pub(crate) fn ratio(&self, against: &str) -> Option<Figure> {
        let (own, other) = (self.series.get(OWN)?, self.series.get(against)?);
        let pairs: Vec<Sample> = own
            .iter()
            .filter_map(|sample| {
                let peer = other.iter().find(|peer| peer.round == sample.round)?;
                Some(sample.divided_by(peer))
            })
            .collect();
        Figure::of(&pairs)
    }

    /// What became of the goals against a system; an empty name: of those for the figure itself.
    pub(crate) fn outcomes(&self, against: &str) -> Vec<Outcome<'_>> {
        let goals = self.goals.iter().filter(|goal| goal.against == against);
        goals.map(|goal| self.judge(goal)).collect()
    }

    fn judge<'a>(&self, goal: &'a Goal) -> Outcome<'a> {
        let figure = match goal.against.as_str() {
            "" => self.figure(OWN),
            against => self.ratio(against),
        };
        let verdict = match &figure {
            None => Verdict::Unmeasured,
            Some(figure) if self.better.is_within(figure.median, goal.bound) => Verdict::Reached,
            Some(_) => Verdict::Missed,
        };
        Outcome { goal, figure, verdict }
    }
}

impl Better {
    /// `more is better`, or less.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::More => "more is better",
            Self::Less => "less is better",
        }
    }

    /// The sign before a bound.
    pub(crate) fn sign(self) -> char {
        match self {
            Self::More => '≥',
            Self::Less => '≤',
        }
    }

    fn is_within(self, value: f64, bound: f64) -> bool {
        match self {
            Self::More => value >= bound,
            Self::Less => value <= bound,
        }
    }
}

impl Sample {
    fn divided_by(&self, other: &Self) -> Self {
        Self {
            round: self.round,
            value: self.value / other.value,
            is_generator_bound: self.is_generator_bound || other.is_generator_bound,
            stolen: self.stolen.max(other.stolen),
        }
    }

    fn is_disturbed(&self) -> bool {
        self.stolen > STOLEN_LIMIT
    }
}

impl Figure {
    /// Sums samples up. What is no finite number (a division by zero) never counts; `None` if
    /// nothing is left.
    pub(crate) fn of(samples: &[Sample]) -> Option<Self> {
        let finite = samples.iter().filter(|sample| sample.value.is_finite());
        let (disturbed, calm): (Vec<&Sample>, Vec<&Sample>) =
            finite.partition(|sample| sample.is_disturbed());
        let is_disturbed = calm.len() < LEAST_KEPT && !disturbed.is_empty();
        let (kept, discarded) = match is_disturbed {
            true => ([calm, disturbed].concat(), 0),
            false => (calm, disturbed.len()),
        };

        let mut values: Vec<f64> = kept.iter().map(|sample| sample.value).collect();
        values.sort_by(f64::total_cmp);
        Some(Self {
            median: quartile(&values, 2),
            range: (*values.first()?, *values.last()?),
            middle: (quartile(&values, 1), quartile(&values, 3)),
            kept: values.len(),
            discarded,
            is_generator_bound: kept.iter().any(|sample| sample.is_generator_bound),
            is_disturbed,
        })
    }

    /// `g` if generator-bound, `s` if disturbed by stolen time.
    pub(crate) fn marks(&self) -> &'static str {
        match (self.is_generator_bound, self.is_disturbed) {
            (false, false) => "",
            (true, false) => "g",
            (false, true) => "s",
            (true, true) => "gs",
        }
    }
}

/// The first, second (the median) or third quartile of sorted values, between two of them if it
/// falls there. Zero for no values.
fn quartile(sorted: &[f64], quarter: usize) -> f64 {
    let place = quarter * sorted.len().saturating_sub(1);
    let below = sorted.get(place / 4).copied().unwrap_or_default();
    let above = sorted.get(place / 4 + 1).copied().unwrap_or(below);
    let share = [0.0, 0.25, 0.5, 0.75][place % 4];
    below + (above - below) * share
}
