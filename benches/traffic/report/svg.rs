//! The plots: drawings inside the page, whose style sheet gives them their colours.
//!
//! Labels that are numbers with one unit (`64 B`, `128 B`, …) make a line chart with a
//! logarithmic axis, all others bars, which lie, so that their labels have room:
//!
//! ```text
//!             ringway ████████████████├┤ 7.42          Mpps
//!   64 B     ovs-dpdk ████████├─┤ 4.10               8 ┤ ●───●
//!             testpmd █████████████████┤ 8.10        4 ┤ ■───■──▲
//!                     └────┴────┴────┴────             └─┬───┬──┬─
//! ```
//!
//! Whiskers reach from the least sample to the most, and are thick between the quartiles (bars).

use super::super::samples::{Cell, Figure};
use super::html::{colour, escape};
use super::{Section, number, present, wrap};

const WIDTH: f64 = 880.0;
/// Wider than almost every letter of a sans serif of 12 px.
const LETTER: f64 = 7.0;
/// The part of the page at the right that values beside bars may take.
const VALUE_ROOM: f64 = 92.0;
const BAR: f64 = 14.0;
const PITCH: f64 = 19.0;
const TEXT_LINE: f64 = 15.0;
const CHART_HEIGHT: f64 = 300.0;
/// Beyond this, low lines would be less than 3 px from the axis: it becomes logarithmic.
const LINEAR_SPAN: f64 = 100.0;

/// An axis: from where to where on the drawing, for which values.
struct Axis {
    values: (f64, f64),
    places: (f64, f64),
    is_log: bool,
    ticks: Vec<f64>,
}

/// The plot of a section. `index` makes its ids unique in the page.
pub(super) fn plot(section: &Section<'_>, palette: &[&str], index: usize) -> String {
    let (height, drawing) = match section.numeric_labels() {
        Some(cells) => lines(section, &cells, palette),
        None => bars(section, palette),
    };
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" \
         aria-labelledby=\"t{index} d{index}\">\n<title id=\"t{index}\">{}</title>\n\
         <desc id=\"d{index}\">{}</desc>\n{drawing}</svg>",
        escape(section.group),
        escape(&description(section, palette)),
    )
}

/// The figures in words, for those who do not see the plot.
fn description(section: &Section<'_>, palette: &[&str]) -> String {
    let cells: Vec<String> = section
        .cells
        .iter()
        .map(|cell| {
            let figures: Vec<String> = present(cell, palette)
                .iter()
                .map(|(system, figure)| format!("{system} {}", number(figure.median)))
                .collect();
            format!("{}: {}.", cell.label, figures.join(", "))
        })
        .collect();
    format!("Medians in {}, {}. {}", section.unit, section.better.words(), cells.join(" "))
}

/// Lying bars, a bunch for each cell.
fn bars(section: &Section<'_>, palette: &[&str]) -> (f64, String) {
    let labels: Vec<Vec<String>> = section.cells.iter().map(|cell| wrap(&cell.label, 20)).collect();
    let label_room = room(labels.iter().flatten().map(String::as_str));
    let left = label_room + room(section.shown(palette).into_iter());
    let axis = Axis::linear(section.most(), (left, WIDTH - VALUE_ROOM));

    let mut top = 10.0;
    let mut bunches = String::new();
    for (cell, label) in section.cells.iter().zip(&labels) {
        let present = present(cell, palette);
        bunches += &label_lines(label, top);
        bunches += &bunch(&present, &axis, (top, left), palette);
        top += (PITCH * count(&present)).max(TEXT_LINE * count(label)) + 14.0;
    }
    let drawing = grid_upright(&axis, top)
        + &bunches
        + &text(
            (left, top + 36.0),
            "faint",
            &format!("{}, {}", section.unit, section.better.words()),
        );
    (top + 44.0, drawing)
}

fn label_lines(label: &[String], top: f64) -> String {
    let mut baseline = top - 4.0;
    label
        .iter()
        .map(|line| {
            baseline += TEXT_LINE;
            text((4.0, baseline), "strong", line)
        })
        .collect()
}

/// The bars of one cell: name to the left, median to the right of the whisker.
fn bunch(
    present: &[(&str, Figure)],
    axis: &Axis,
    (mut top, left): (f64, f64),
    palette: &[&str],
) -> String {
    let mut drawing = String::new();
    for (system, figure) in present {
        let (end, middle) = (axis.at(figure.median), top + BAR / 2.0);
        let value = format!("{} {}", number(figure.median), figure.marks());
        drawing += &text((left - 8.0, middle + 4.0), "faint end", system);
        drawing += &format!(
            "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" \
             height=\"{BAR}\"/>\n",
            colour(system, palette),
            end - left,
        );
        drawing += &whisker(figure, axis, middle);
        let after = end.max(axis.at(figure.range.1)) + 7.0;
        drawing += &text((after, middle + 4.0), "", value.trim_end());
        top += PITCH;
    }
    drawing
}

/// A lying whisker: the range with its ends, the middle half thicker.
fn whisker(figure: &Figure, axis: &Axis, y: f64) -> String {
    let (least, most) = (axis.at(figure.range.0), axis.at(figure.range.1));
    let (lower, upper) = (axis.at(figure.middle.0), axis.at(figure.middle.1));
    format!(
        "<path class=\"whisker\" d=\"M{least:.1} {y:.1}H{most:.1}M{least:.1} {:.1}v7\
         M{most:.1} {:.1}v7\"/>\n<path class=\"whisker\" style=\"stroke-width:3.5\" \
         d=\"M{lower:.1} {y:.1}H{upper:.1}\"/>\n",
        y - 3.5,
        y - 3.5,
    )
}

fn grid_upright(axis: &Axis, bottom: f64) -> String {
    let tick = |tick: &f64| {
        let x = axis.at(*tick);
        format!("<path class=\"grid\" d=\"M{x:.1} 4V{bottom:.1}\"/>\n")
            + &text((x, bottom + 17.0), "faint centred", &axis.tick_text(*tick))
    };
    axis.ticks.iter().map(tick).collect()
}

/// A line for each system over a logarithmic axis.
fn lines(section: &Section<'_>, cells: &[(f64, &Cell)], palette: &[&str]) -> (f64, String) {
    let (names, top) = names(section, palette);
    let bottom = top + CHART_HEIGHT;
    let upright = Axis::upright(section, (bottom, top));
    let ticks: Vec<String> = upright.ticks.iter().map(|tick| upright.tick_text(*tick)).collect();
    let left = room(ticks.iter().map(String::as_str));
    let ends = (cells[0].0, cells[cells.len() - 1].0);
    let across =
        Axis { values: ends, places: (left + 34.0, WIDTH - 40.0), is_log: true, ticks: vec![] };

    let (labels, height) = labels_across(cells, &across, bottom);
    let scale = if upright.is_log { ", logarithmic" } else { "" };
    let title = format!("{}, {}{scale}", section.unit, section.better.words());
    let systems = section.shown(palette);
    let mut dodge = -3.0 * (count(&systems) - 1.0);
    let mut drawing = names + &text((4.0, top - 14.0), "faint", &title);
    drawing += &(grid_across(&upright, left) + &labels);
    for system in systems {
        drawing += &line(system, cells, (&across, &upright, dodge), palette);
        dodge += 6.0;
    }
    (height, drawing)
}

/// One system's line, spread and marks, moved aside so that whiskers do not lie on one another.
fn line(
    system: &str,
    cells: &[(f64, &Cell)],
    (across, upright, dodge): (&Axis, &Axis, f64),
    palette: &[&str],
) -> String {
    let colour = colour(system, palette);
    let mut path = String::new();
    let mut marks = String::new();
    for (label, cell) in cells {
        let Some(figure) = cell.figure(system) else { continue };
        let (x, y) = (across.at(*label) + dodge, upright.at(figure.median));
        let (least, most) = (upright.at(figure.range.0), upright.at(figure.range.1));
        path += &format!("{}{x:.1} {y:.1}", if path.is_empty() { 'M' } else { 'L' });
        marks += &format!(
            "<path class=\"spread {colour}\" d=\"M{x:.1} {least:.1}V{most:.1}\
             M{:.1} {least:.1}h6M{:.1} {most:.1}h6\"/>\n\
             <path class=\"mark {colour}\" d=\"{}\"><title>{}</title></path>\n",
            x - 3.0,
            x - 3.0,
            mark(system, (x, y), palette),
            escape(&format!("{system}, {}: {} {}", cell.label, number(figure.median), cell.unit)),
        );
    }
    format!("<path class=\"line {colour}\" d=\"{path}\"/>\n{marks}")
}

/// Each system has a shape too, for those who tell colours apart badly.
fn mark(system: &str, (x, y): (f64, f64), palette: &[&str]) -> String {
    let place = palette.iter().position(|known| *known == system).unwrap_or_default();
    let shape = match place % 5 {
        0 => "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
        1 => "m-4.5 -4.5h9v9h-9z",
        2 => "m0 -6l5.5 10h-11z",
        3 => "m0 -6l6 6l-6 6l-6 -6z",
        _ => "m0 6l5.5 -10h-11z",
    };
    format!("M{x:.1} {y:.1}{shape}")
}

/// The names above a line chart, with their marks, and where the chart's top is.
fn names(section: &Section<'_>, palette: &[&str]) -> (String, f64) {
    let (mut x, mut y) = (10.0, 14.0);
    let mut drawing = String::new();
    for system in section.shown(palette) {
        let width = room([system].into_iter()) + 22.0;
        if x + width > WIDTH {
            (x, y) = (10.0, y + 20.0);
        }
        drawing += &format!(
            "<path class=\"mark {}\" d=\"{}\"/>\n",
            colour(system, palette),
            mark(system, (x, y), palette)
        );
        drawing += &text((x + 11.0, y + 4.0), "", system);
        x += width;
    }
    (drawing, y + 48.0)
}

fn grid_across(axis: &Axis, left: f64) -> String {
    let tick = |tick: &f64| {
        let y = axis.at(*tick);
        format!("<path class=\"grid\" d=\"M{left:.1} {y:.1}H{WIDTH}\"/>\n")
            + &text((left - 8.0, y + 4.0), "faint end", &axis.tick_text(*tick))
    };
    axis.ticks.iter().map(tick).collect()
}

/// Labels under a line chart, in as many rows as they need not to touch, and the lower end.
fn labels_across(cells: &[(f64, &Cell)], axis: &Axis, bottom: f64) -> (String, f64) {
    let mut rows: Vec<f64> = Vec::new();
    let mut drawing = String::new();
    for (label, cell) in cells {
        let words = &cell.label;
        let (x, width) = (axis.at(*label), room([words.as_str()].into_iter()));
        let free = rows.iter().position(|end| *end <= x - width / 2.0).unwrap_or(rows.len());
        let end = x + width / 2.0;
        match rows.get_mut(free) {
            Some(row) => *row = end,
            None => rows.push(end),
        }
        let y = bottom + 6.0 + TEXT_LINE * count(&rows[..=free]);
        drawing += &format!("<path class=\"grid\" d=\"M{x:.1} {bottom:.1}v7\"/>\n");
        drawing += &text((x, y), "faint centred", words);
    }
    (drawing, bottom + 14.0 + TEXT_LINE * count(&rows))
}

fn text((x, y): (f64, f64), class: &str, words: &str) -> String {
    format!("<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\">{}</text>\n", escape(words))
}

/// The room that the longest of some words takes, with a gap.
fn room<'a>(words: impl Iterator<Item = &'a str>) -> f64 {
    let longest = words.map(|word| word.chars().count()).max().unwrap_or_default();
    f64::from(u32::try_from(longest).unwrap_or(u32::MAX)) * LETTER + 14.0
}

fn count<T>(things: &[T]) -> f64 {
    f64::from(u32::try_from(things.len()).unwrap_or(u32::MAX))
}

impl Axis {
    /// From zero to a round number, in four to eight steps of 1, 2 or 5 times a power of ten.
    fn linear(most: f64, places: (f64, f64)) -> Self {
        let most = if most > 0.0 { most } else { 1.0 };
        let rough = most / 8.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0].into_iter().map(|factor| factor * decade);
        let step = step.into_iter().find(|step| *step >= rough).unwrap_or(10.0 * decade);
        let end = (most / step).ceil() * step;
        let ticks = (0..=8u32).map(|index| f64::from(index) * step);
        let ticks = ticks.take_while(|tick| *tick < end + step / 2.0).collect();
        Self { values: (0.0, end), places, is_log: false, ticks }
    }

    /// For the values of a section: logarithmic if they span too much, from a round number to
    /// another.
    fn upright(section: &Section<'_>, places: (f64, f64)) -> Self {
        let most = section.most();
        let least = section.least();
        if least <= 0.0 || most / least < LINEAR_SPAN {
            return Self::linear(most, places);
        }
        let decade = 10f64.powf(least.log10().floor());
        let round = (0..60u8).map(|index| {
            let power = decade * 10f64.powi(i32::from(index / 3));
            power * [1.0, 2.0, 5.0][usize::from(index % 3)]
        });
        let round: Vec<f64> = round.collect();
        let start = round.iter().rfind(|one| **one <= least).copied().unwrap_or(least);
        let end = round.iter().find(|one| **one >= most).copied().unwrap_or(most);
        let ticks = round.iter().filter(|one| (start..=end).contains(one)).copied().collect();
        Self { values: (start, end), places, is_log: true, ticks }
    }

    /// Where a value is on the drawing.
    fn at(&self, value: f64) -> f64 {
        let (from, to) = self.values;
        let share = match self.is_log {
            true => (value / from).ln() / (to / from).ln(),
            false => (value - from) / (to - from),
        };
        self.places.0 + share.clamp(0.0, 1.0) * (self.places.1 - self.places.0)
    }

    /// A tick's number with as few decimals as tell it from the next.
    fn tick_text(&self, tick: f64) -> String {
        let step = if self.is_log { tick } else { self.ticks.get(1).copied().unwrap_or(1.0) };
        let decimals = std::iter::successors(Some(step), |step| Some(step * 10.0))
            .take(9)
            .position(|step| step >= 0.999);
        match decimals {
            Some(decimals) if tick < 1e7 => format!("{tick:.decimals$}"),
            _ => format!("{tick:.0e}"),
        }
    }
}
