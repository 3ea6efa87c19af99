//! The report: a text for the terminal, a page with plots, the raw samples.
//!
//! ```text
//!   Results ──▶ sections ──▶ rows ──┬──▶ text.rs   standard output, 100 columns
//!              (group, unit)        └──▶ html.rs   report.html ◀── svg.rs, a plot a section
//!       └──────────────────────────────▶ samples.json
//! ```
//!
//! Text and page show the same rows and the same notes, which are made here once.

mod html;
mod svg;
mod text;

use std::io::{self, Write};
use std::path::Path;

use super::samples::{Better, Cell, Figure, OWN, Outcome, Results, STOLEN_LIMIT, Verdict};

/// The order in which systems are shown; others follow by name.
const ORDER: [&str; 4] = [OWN, "ovs-dpdk", "testpmd", "linux-bridge"];

/// Prints the tables on standard output.
pub(crate) fn print(results: &Results) -> io::Result<()> {
    io::stdout().lock().write_all(text(results).as_bytes())
}

/// Writes `report.html` and `samples.json` into a directory, which is made if need be.
pub(crate) fn write(results: &Results, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    std::fs::write(directory.join("samples.json"), serde_json::to_vec_pretty(results)?)?;
    std::fs::write(directory.join("report.html"), html::render(results))
}

/// The tables as text, no line longer than 100 columns.
pub(crate) fn text(results: &Results) -> String {
    text::render(results)
}

/// Cells that share a table and a plot: those of a group that have one unit.
struct Section<'a> {
    group: &'a str,
    unit: &'a str,
    better: Better,
    ticks_per_second: f64,
    cells: Vec<&'a Cell>,
}

/// One system's line in a cell.
struct Row<'a> {
    system: &'a str,
    figure: Option<Figure>,
    /// Ringway's figure divided by this system's.
    ratio: Option<Figure>,
    outcomes: Vec<Outcome<'a>>,
}

/// What else a figure in Mpps says of frames of one length.
struct PerFrame {
    gbits_per_second: f64,
    ticks: f64,
}

impl<'a> Section<'a> {
    /// Says whether its figures are of frames whose length is known.
    fn has_frames(&self) -> bool {
        self.ticks_per_second > 0.0 && self.cells.iter().any(|cell| cell.frame_bytes().is_some())
    }

    /// The same figure in other units. Ticks are those that pass for each frame, whoever uses them.
    fn per_frame(&self, cell: &Cell, figure: &Figure) -> Option<PerFrame> {
        let bytes = cell.frame_bytes().filter(|_| self.has_frames())?;
        Some(PerFrame {
            gbits_per_second: figure.median * bytes * 8.0 / 1e3,
            ticks: self.ticks_per_second / (figure.median * 1e6),
        })
    }

    /// The numbers of the labels, ascending, if all are numbers of one unit and at least three.
    fn numeric_labels(&self) -> Option<Vec<(f64, &'a Cell)>> {
        let split = |cell: &&'a Cell| {
            let label = cell.label.trim();
            let end = label.find(|letter: char| !letter.is_ascii_digit() && letter != '.');
            let (number, unit) = label.split_at(end.unwrap_or(label.len()));
            let number = number.parse::<f64>().ok().filter(|number| *number > 0.0)?;
            Some((number, unit.trim(), *cell))
        };
        let split: Vec<_> = self.cells.iter().map(split).collect::<Option<_>>()?;
        let is_alike = split.iter().all(|(_, unit, _)| *unit == split[0].1);
        let mut cells: Vec<_> = split.into_iter().map(|(number, _, cell)| (number, cell)).collect();
        cells.sort_by(|one, other| one.0.total_cmp(&other.0));
        cells.dedup_by(|one, other| one.0 == other.0);
        (is_alike && cells.len() == self.cells.len() && cells.len() >= 3).then_some(cells)
    }

    /// The systems that have a figure in some cell.
    fn shown<'b>(&self, palette: &[&'b str]) -> Vec<&'b str> {
        let has = |system: &&str| self.cells.iter().any(|cell| cell.figure(system).is_some());
        palette.iter().copied().filter(has).collect()
    }

    /// The least of all samples kept, or zero.
    fn least(&self) -> f64 {
        self.figures().map(|figure| figure.range.0).reduce(f64::min).unwrap_or_default()
    }

    /// The most of all samples kept, or zero.
    fn most(&self) -> f64 {
        self.figures().map(|figure| figure.range.1).reduce(f64::max).unwrap_or_default()
    }

    fn figures(&self) -> impl Iterator<Item = Figure> {
        self.cells.iter().flat_map(|cell| cell.series.values().filter_map(|one| Figure::of(one)))
    }
}

/// The systems that have a figure in a cell.
fn present<'a>(cell: &Cell, palette: &[&'a str]) -> Vec<(&'a str, Figure)> {
    let figure = |system: &&'a str| Some((*system, cell.figure(system)?));
    palette.iter().filter_map(figure).collect()
}

/// The sections, in the order in which their first cells come.
fn sections(results: &Results) -> Vec<Section<'_>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    for cell in &results.cells {
        let fitting = sections.iter_mut().find(|section| {
            (section.group, section.unit, section.better)
                == (cell.group.as_str(), cell.unit.as_str(), cell.better)
        });
        match fitting {
            Some(section) => section.cells.push(cell),
            None => sections.push(Section {
                group: &cell.group,
                unit: &cell.unit,
                better: cell.better,
                ticks_per_second: results.ticks_per_second,
                cells: vec![cell],
            }),
        }
    }
    sections
}

/// The rows of a cell: systems with samples, and those that a goal names.
fn rows(cell: &Cell) -> Vec<Row<'_>> {
    let named = cell.goals.iter().map(|goal| match goal.against.as_str() {
        "" => OWN,
        against => against,
    });
    in_order(cell.series.keys().map(String::as_str).chain(named))
        .into_iter()
        .map(|system| Row {
            system,
            figure: cell.figure(system),
            ratio: (system != OWN).then(|| cell.ratio(system)).flatten(),
            outcomes: cell.outcomes(if system == OWN { "" } else { system }),
        })
        .collect()
}

/// All systems of the run, the usual ones always first: a system's place is its colour.
fn palette(results: &Results) -> Vec<&str> {
    let others = results.cells.iter().flat_map(|cell| cell.series.keys().map(String::as_str));
    in_order(ORDER.into_iter().chain(others))
}

fn in_order<'a>(systems: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let rank = |system: &str| ORDER.iter().position(|known| *known == system);
    let mut systems: Vec<&str> = systems.collect();
    systems.sort_by_key(|system| (rank(system).unwrap_or(ORDER.len()), *system));
    systems.dedup();
    systems
}

/// What stands under a table: the conditions, and how many samples were discarded.
fn notes(section: &Section<'_>) -> Vec<String> {
    let mut conditions: Vec<(&str, Vec<&str>)> = Vec::new();
    for cell in &section.cells {
        match conditions.iter_mut().find(|(known, _)| *known == cell.conditions) {
            Some((_, labels)) => labels.push(&cell.label),
            None => conditions.push((&cell.conditions, vec![&cell.label])),
        }
    }
    let is_common = conditions.len() == 1;
    let conditions = conditions.iter().filter(|(words, _)| !words.is_empty()).map(|(words, of)| {
        if is_common { (*words).to_owned() } else { format!("{}: {words}", of.join(", ")) }
    });
    conditions.chain(discards(section)).collect()
}

/// How many samples were discarded, if any were.
fn discards(section: &Section<'_>) -> Option<String> {
    let kept: usize = section.figures().map(|figure| figure.kept).sum();
    let discarded: usize = section.figures().map(|figure| figure.discarded).sum();
    let all = kept + discarded;
    let percent = STOLEN_LIMIT * 100.0;
    (discarded > 0).then(|| {
        format!(
            "{discarded} of {all} samples are discarded, because more than {percent} % of the time \
             was stolen."
        )
    })
}

/// What the letters beside figures mean.
fn legend() -> [String; 5] {
    let percent = STOLEN_LIMIT * 100.0;
    [
        "Ratios are Ringway's figure divided by the other system's in the same round; of those the \
         median. The middle half lies between the quartiles."
            .to_owned(),
        "Gbit/s: of whole frames without FCS. Ticks: of the processor's time-stamp counter, in the \
         time of one frame. Both of the median."
            .to_owned(),
        "n: samples kept, of those taken if some were discarded.".to_owned(),
        "g: generator-bound. The generator itself reaches less than 1.25 times this; the system \
         may be faster."
            .to_owned(),
        format!(
            "s: more than {percent} % of the time was stolen in some sample, and too few others \
             remained to discard it."
        ),
    ]
}

/// A goal as it stands beside a row: `≥ 0.8`, with the unit if it is not a ratio.
fn bound(cell: &Cell, outcome: &Outcome<'_>) -> String {
    let (sign, bound) = (cell.better.sign(), outcome.goal.bound);
    match outcome.goal.against.as_str() {
        "" => format!("{sign} {bound} {}", cell.unit),
        _ => format!("{sign} {bound}"),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Reached => "reached",
        Verdict::Missed => "MISSED",
        Verdict::Unmeasured => "not measured",
    }
}

/// All goals with their cells, in the order of the cells.
fn goals(results: &Results) -> Vec<(&Cell, Outcome<'_>)> {
    let outcomes = |cell| rows(cell).into_iter().flat_map(|row| row.outcomes);
    results.cells.iter().flat_map(|cell| outcomes(cell).map(move |one| (cell, one))).collect()
}

/// `7 goals: 5 reached, 1 MISSED, 1 not measured`.
fn tally(goals: &[(&Cell, Outcome<'_>)]) -> String {
    let counts: Vec<String> = [Verdict::Reached, Verdict::Missed, Verdict::Unmeasured]
        .into_iter()
        .map(|kind| (goals.iter().filter(|(_, outcome)| outcome.verdict == kind).count(), kind))
        .filter(|(count, _)| *count > 0)
        .map(|(count, kind)| format!("{count} {}", verdict(kind)))
        .collect();
    match goals.len() {
        0 => "no goals".to_owned(),
        1 => format!("1 goal: {}", counts.join(", ")),
        all => format!("{all} goals: {}", counts.join(", ")),
    }
}

/// A figure with three digits, or more before the point, in at most nine characters.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if !(0.01..1e7).contains(&size) => format!("{value:.1e}"),
        size if size < 0.1 => format!("{value:.4}"),
        size if size < 1.0 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Breaks a text into lines of at most `width` characters, between words where it can.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut filled = 0;
    for word in clean(text).split_whitespace() {
        let letters: Vec<char> = word.chars().collect();
        for (index, piece) in letters.chunks(width).enumerate() {
            let space = usize::from(filled > 0 && index == 0);
            if filled + space + piece.len() > width {
                lines.push(String::new());
                filled = 0;
            }
            if let Some(line) = lines.last_mut() {
                line.extend((filled > 0 && index == 0).then_some(' '));
                line.extend(piece);
                filled = line.chars().count();
            }
        }
    }
    lines
}

/// Without control characters: neither a terminal nor a page is to obey a system's output.
fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
