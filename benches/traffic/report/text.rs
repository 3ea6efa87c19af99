//! The tables for a terminal of 100 columns.
//!
//! A line for each system of a cell. Columns are as wide as their widest entry; a table that
//! would be too wide is set closer, and then loses the middle halves, which the page has too.

use super::super::samples::{Cell, Figure, OWN, Results, Verdict};
use super::{PerFrame, Row, Section, clean, number, wrap};

/// What the tables are made for. No line is longer.
const WIDTH: usize = 100;
const LABEL_WIDTH: usize = 16;
const SYSTEM_WIDTH: usize = 20;
const GOAL_WIDTH: usize = 24;

type Line = [String; 13];

const HEADS: [&str; 13] = [
    "",
    "system",
    "median",
    "",
    "Gbit/s",
    "ticks",
    "middle half",
    "least..most",
    "n",
    "ratio",
    "",
    "middle half",
    "goal",
];
/// Numbers are set to the right.
const IS_RIGHT: [bool; 13] =
    [false, false, true, false, true, true, true, true, true, true, false, true, false];
/// Gbit/s, then ticks a frame.
const PER_FRAME: usize = 4;
const MIDDLE: usize = 6;
const RATIO_MIDDLE: usize = 11;
const GOAL: usize = 12;
/// Space between columns, and columns that are left out: the first that fits is taken.
const LAYOUTS: [(usize, &[usize]); 4] =
    [(2, &[]), (1, &[]), (1, &[RATIO_MIDDLE]), (1, &[RATIO_MIDDLE, MIDDLE])];

/// The whole report.
pub(super) fn render(results: &Results) -> String {
    let mut lines = head(results);
    for section in super::sections(results) {
        lines.push(String::new());
        lines.extend(table(&section));
    }
    lines.push(String::new());
    lines.extend(super::legend().iter().flat_map(|words| indented("", words)));
    lines.push(String::new());
    lines.extend(summary(results));
    lines.iter().map(|line| cut(line, WIDTH).trim_end().to_owned() + "\n").collect()
}

/// Machine, date, versions, and who is missing.
fn head(results: &Results) -> Vec<String> {
    let versions: Vec<String> =
        results.versions.iter().map(|(system, version)| format!("{system} {version}")).collect();
    let mut lines = vec![format!("Ringway speed bench ({})", clean(&results.mode))];
    lines.extend(indented("began    ", &results.began));
    lines.extend(indented("machine  ", &results.machine));
    lines.extend(indented("versions ", &versions.join(", ")));
    for (system, reason) in &results.missing {
        lines.extend(indented("MISSING  ", &format!("{system}: {reason}")));
    }
    lines
}

/// One section: heading, column heads, rows, notes.
fn table(section: &Section<'_>) -> Vec<String> {
    let heading = format!("{} ({}, {})", section.group, section.unit, section.better.words());
    let mut table = vec![HEADS.map(str::to_owned)];
    if !section.has_frames() {
        table[0][PER_FRAME..MIDDLE].fill(String::new());
    }
    table.extend(section.cells.iter().flat_map(|cell| cell_lines(section, cell)));

    let mut lines = wrap(&heading, WIDTH);
    lines.push("─".repeat(WIDTH));
    lines.extend(set(&table));
    lines.extend(super::notes(section).iter().flat_map(|note| indented("  ", note)));
    lines
}

/// A cell's rows, with its label down the side. A row with two goals takes two lines.
fn cell_lines(section: &Section<'_>, cell: &Cell) -> Vec<Line> {
    let mut lines: Vec<Line> =
        super::rows(cell).iter().flat_map(|row| row_lines(section, cell, row)).collect();
    let label = wrap(&cell.label, LABEL_WIDTH);
    while lines.len() < label.len() {
        lines.push(Line::default());
    }
    for (line, words) in lines.iter_mut().zip(label) {
        line[0] = words;
    }
    lines
}

fn row_lines(section: &Section<'_>, cell: &Cell, row: &Row<'_>) -> Vec<Line> {
    let goals = row.outcomes.iter().flat_map(|outcome| {
        let sentence =
            format!("{} {}", super::bound(cell, outcome), super::verdict(outcome.verdict));
        wrap(&sentence, GOAL_WIDTH)
    });
    let mut lines: Vec<Line> = goals
        .map(|goal| {
            let mut line = Line::default();
            line[GOAL] = goal;
            line
        })
        .collect();
    if lines.is_empty() {
        lines.push(Line::default());
    }
    fill(&mut lines[0], row);
    let per_frame = row.figure.as_ref().and_then(|figure| section.per_frame(cell, figure));
    if let Some(PerFrame { gbits_per_second, ticks }) = per_frame {
        lines[0][PER_FRAME] = number(gbits_per_second);
        lines[0][PER_FRAME + 1] = number(ticks);
    }
    lines
}

fn fill(line: &mut Line, row: &Row<'_>) {
    line[1] = cut(&clean(row.system), SYSTEM_WIDTH);
    line[2] = "–".to_owned();
    if let Some(figure) = &row.figure {
        line[2] = number(figure.median);
        line[3] = figure.marks().to_owned();
        line[MIDDLE] = range(figure.middle);
        line[7] = range(figure.range);
        line[8] = count(figure);
    }
    if let Some(ratio) = &row.ratio {
        line[9] = number(ratio.median);
        line[10] = ratio.marks().to_owned();
        line[RATIO_MIDDLE] = range(ratio.middle);
    }
}

fn range((from, to): (f64, f64)) -> String {
    format!("{}..{}", number(from), number(to))
}

/// `7`, or `5/7` if two of seven were discarded.
fn count(figure: &Figure) -> String {
    match figure.discarded {
        0 => figure.kept.to_string(),
        discarded => format!("{}/{}", figure.kept, figure.kept + discarded),
    }
}

/// Sets lines in columns, in the widest layout that fits. Empty columns take no room.
fn set(table: &[Line]) -> Vec<String> {
    let widths: Vec<usize> = (0..HEADS.len())
        .map(|column| table.iter().map(|line| length(&line[column])).max().unwrap_or_default())
        .collect();
    let shown = |without: &[usize]| -> Vec<usize> {
        let columns = 0..HEADS.len();
        columns.filter(|column| widths[*column] > 0 && !without.contains(column)).collect()
    };
    let total = |gap: usize, columns: &[usize]| -> usize {
        columns.iter().map(|column| widths[*column] + gap).sum::<usize>().saturating_sub(gap)
    };
    let fits = |(gap, without): &&(usize, &[usize])| total(*gap, &shown(without)) <= WIDTH;
    let (gap, without) = LAYOUTS.iter().find(fits).unwrap_or(&LAYOUTS[LAYOUTS.len() - 1]);
    let columns = shown(without);
    let separator = " ".repeat(*gap);
    let set_line = |line: &Line| -> String {
        let entries = columns.iter().map(|column| entry(line, *column, widths[*column]));
        entries.collect::<Vec<String>>().join(&separator)
    };
    table.iter().map(set_line).collect()
}

fn entry(line: &Line, column: usize, width: usize) -> String {
    let words = &line[column];
    if IS_RIGHT[column] { format!("{words:>width$}") } else { format!("{words:<width$}") }
}

/// The goals that were not reached, and how many were: what is read if nothing else is.
fn summary(results: &Results) -> Vec<String> {
    let goals = super::goals(results);
    let mut lines = vec![super::tally(&goals)];
    for (cell, outcome) in &goals {
        if outcome.verdict == Verdict::Reached {
            continue;
        }
        let figure = match &outcome.figure {
            Some(figure) => format!(", is {} {}", number(figure.median), figure.marks()),
            None => String::new(),
        };
        let against = match outcome.goal.against.as_str() {
            "" => OWN.to_owned(),
            against => format!("{OWN} / {against}"),
        };
        let goal = format!(
            "{}, {}: {against} {}{figure}",
            cell.group,
            cell.label,
            super::bound(cell, outcome)
        );
        lines.extend(indented(&format!("{:<14}", super::verdict(outcome.verdict)), &goal));
    }
    lines
}

/// Text after a heading word, its further lines set in as far as the first.
fn indented(heading: &str, text: &str) -> Vec<String> {
    let inset = length(heading);
    let lines = wrap(text, WIDTH - inset).into_iter().enumerate();
    lines
        .map(|(index, line)| match index {
            0 => format!("{heading}{line}"),
            _ => format!("{}{line}", " ".repeat(inset)),
        })
        .collect()
}

/// At most `width` characters, the last of them an ellipsis if some are missing.
fn cut(text: &str, width: usize) -> String {
    if length(text) <= width {
        return text.to_owned();
    }
    text.chars().take(width - 1).chain(['…']).collect()
}

fn length(text: &str) -> usize {
    text.chars().count()
}
