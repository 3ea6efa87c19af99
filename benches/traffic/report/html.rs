//! The page: goals at the top, then a plot and a table for each section.
//!
//! It stands alone: no script, no network, well-formed as XML, light and dark as the reader's
//! system has it. Colours of systems are the variables `--c` of the classes `c0` to `c5`, which
//! plots and tables share; all who tell systems apart by colour do so by name too.

use super::super::samples::{Cell, Figure, OWN, Outcome, Results, Verdict};
use super::{PerFrame, Row, Section, clean, number, svg};

/// Colours that exist as classes.
const COLOURS: usize = 6;

/// Columns and their classes; `n` is for numbers.
const GOAL_HEADS: [(&str, &str); 7] = [
    ("Load", ""),
    ("", ""),
    ("Figure", ""),
    ("Goal", "n"),
    ("Median", "n"),
    ("Middle half", "n"),
    ("Verdict", ""),
];
const SYSTEM_HEADS: [(&str, &str); 11] = [
    ("", ""),
    ("System", ""),
    ("Median", "n"),
    ("Gbit/s", "n"),
    ("Ticks", "n"),
    ("Middle half", "n"),
    ("Least – most", "n"),
    ("n", "n"),
    ("Ratio", "n"),
    ("Middle half", "n"),
    ("Goal", ""),
];

/// The whole page.
pub(super) fn render(results: &Results) -> String {
    let palette = super::palette(results);
    let sections: String = super::sections(results)
        .iter()
        .enumerate()
        .map(|(index, one)| section(one, &palette, index))
        .collect();
    let legend: String =
        super::legend().iter().map(|words| format!("<p>{}</p>\n", escape(words))).collect();
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n\
         <title>Ringway speed bench</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         {}{}{sections}<footer>\n{legend}\
         <p>Whiskers in plots reach from the least sample to the most.</p>\n\
         <p>Every sample: <a href=\"samples.json\">samples.json</a></p>\n</footer>\n\
         </main>\n</body>\n</html>\n",
        head(results),
        goals(results),
    )
}

fn head(results: &Results) -> String {
    let version =
        |(system, version): (&String, &String)| format!("{} {}", escape(system), escape(version));
    let versions: Vec<String> = results.versions.iter().map(version).collect();
    let missing: String = results
        .missing
        .iter()
        .map(|(system, why)| {
            format!("<li><strong>{}</strong>: {}</li>\n", escape(system), escape(why))
        })
        .collect();
    let warning = match missing.as_str() {
        "" => String::new(),
        list => format!("<div class=\"missing\">\n<h2>Missing</h2>\n<ul>\n{list}</ul>\n</div>\n"),
    };
    format!(
        "<header>\n<h1>Ringway speed bench</h1>\n<dl>\n<dt>Began</dt>\
         <dd><time datetime=\"{began}\">{began}</time>, {} run</dd>\n\
         <dt>Machine</dt><dd>{}</dd>\n<dt>Versions</dt><dd>{}</dd>\n</dl>\n</header>\n{warning}",
        escape(&results.mode),
        escape(&results.machine),
        versions.join("<br/>"),
        began = escape(&results.began),
    )
}

/// The table of goals.
fn goals(results: &Results) -> String {
    let goals = super::goals(results);
    if goals.is_empty() {
        return String::new();
    }
    let groups: String = super::sections(results)
        .iter()
        .enumerate()
        .map(|(index, section)| goal_rows(section, index))
        .collect();
    format!(
        "<section>\n<h2>Goals</h2>\n<p>{}.</p>\n<div class=\"wide\"><table>\n\
         {}{groups}</table></div>\n</section>\n",
        escape(&super::tally(&goals)),
        heads(&GOAL_HEADS),
    )
}

/// The first row of a table, from names and classes of columns.
fn heads(columns: &[(&str, &str)]) -> String {
    let heads: String = columns
        .iter()
        .map(|(name, class)| format!("<th scope=\"col\" class=\"{class}\">{name}</th>"))
        .collect();
    format!("<thead><tr>{heads}</tr></thead>\n")
}

/// The goals of a section, its name beside them.
fn goal_rows(section: &Section<'_>, index: usize) -> String {
    let rows: Vec<String> = section
        .cells
        .iter()
        .flat_map(|cell| {
            super::rows(cell)
                .into_iter()
                .flat_map(|row| row.outcomes)
                .map(|one| goal_columns(cell, &one))
        })
        .collect();
    let heading = format!(
        "<th scope=\"rowgroup\" rowspan=\"{}\"><a href=\"#s{index}\">{}</a></th>",
        rows.len(),
        escape(section.group),
    );
    match rows.len() {
        0 => String::new(),
        _ => format!("<tbody>\n<tr>{heading}{}</tr>\n</tbody>\n", rows.join("</tr>\n<tr>")),
    }
}

fn goal_columns(cell: &Cell, outcome: &Outcome<'_>) -> String {
    let figure = match outcome.goal.against.as_str() {
        "" => OWN.to_owned(),
        against => format!("{OWN} / {}", escape(against)),
    };
    let measured = outcome.figure.as_ref();
    format!(
        "<td class=\"label\">{}</td><td>{figure}</td>\
         <td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td>\
         <td>{}</td>",
        escape(&cell.label),
        escape(&super::bound(cell, outcome)),
        median(measured),
        measured.map(|figure| range(figure.middle)).unwrap_or_default(),
        badge(outcome.verdict),
    )
}

/// One section: plot, table, notes.
fn section(section: &Section<'_>, palette: &[&str], index: usize) -> String {
    let rows: String = section.cells.iter().map(|cell| cell_rows(section, cell, palette)).collect();
    let is_shown =
        |(name, _): &&(&str, &str)| section.has_frames() || !["Gbit/s", "Ticks"].contains(name);
    let columns: Vec<_> = SYSTEM_HEADS.iter().filter(is_shown).copied().collect();
    let notes: String =
        super::notes(section).iter().map(|note| format!("<p>{}</p>\n", escape(note))).collect();
    format!(
        "<section id=\"s{index}\">\n<h2>{}</h2>\n<p class=\"unit\">{}, {}</p>\n\
         <div class=\"wide\">{}</div>\n<div class=\"wide\"><table>\n{}{rows}</table></div>\n\
         <div class=\"notes\">\n{notes}</div>\n</section>\n",
        escape(section.group),
        escape(section.unit),
        section.better.words(),
        svg::plot(section, palette, index),
        heads(&columns),
    )
}

fn cell_rows(section: &Section<'_>, cell: &Cell, palette: &[&str]) -> String {
    let rows = super::rows(cell);
    let label = format!(
        "<th scope=\"rowgroup\" rowspan=\"{}\">{}</th>",
        rows.len().max(1),
        escape(&cell.label)
    );
    let lines: String = rows
        .iter()
        .enumerate()
        .map(|(index, row)| {
            let label = if index == 0 { label.as_str() } else { "" };
            format!("<tr>{label}{}</tr>\n", columns(section, cell, row, palette))
        })
        .collect();
    match rows.len() {
        0 => format!("<tbody>\n<tr>{label}<td colspan=\"10\">no samples</td></tr>\n</tbody>\n"),
        _ => format!("<tbody>\n{lines}</tbody>\n"),
    }
}

fn columns(section: &Section<'_>, cell: &Cell, row: &Row<'_>, palette: &[&str]) -> String {
    let goals: Vec<String> = row
        .outcomes
        .iter()
        .map(|outcome| {
            format!("{} {}", escape(&super::bound(cell, outcome)), badge(outcome.verdict))
        })
        .collect();
    let figure = row.figure.as_ref();
    let ratio = row.ratio.as_ref();
    let per_frame = figure.and_then(|figure| section.per_frame(cell, figure));
    let per_frame = match per_frame {
        Some(PerFrame { gbits_per_second, ticks }) => vec![number(gbits_per_second), number(ticks)],
        None if section.has_frames() => vec![String::new(); 2],
        None => Vec::new(),
    };
    let spread = [
        figure.map(|figure| range(figure.middle)).unwrap_or_default(),
        figure.map(|figure| range(figure.range)).unwrap_or_default(),
        figure.map(count).unwrap_or_default(),
        ratio.map(|ratio| median(Some(ratio))).unwrap_or_default(),
        ratio.map(|ratio| range(ratio.middle)).unwrap_or_default(),
    ];
    let numbers = [median(figure)].into_iter().chain(per_frame).chain(spread);
    let numbers: String = numbers.map(|words| format!("<td class=\"n\">{words}</td>")).collect();
    format!(
        "<td><span class=\"dot {}\"></span>{}</td>{numbers}<td>{}</td>",
        colour(row.system, palette),
        escape(row.system),
        goals.join("<br/>"),
    )
}

/// The class that gives a system its colour.
pub(super) fn colour(system: &str, palette: &[&str]) -> String {
    let place = palette.iter().position(|known| *known == system).unwrap_or(COLOURS - 1);
    format!("c{}", place % COLOURS)
}

/// The median, and room for marks after it, so that numbers stay in line.
fn median(figure: Option<&Figure>) -> String {
    let number = figure.map_or("–".to_owned(), |figure| number(figure.median));
    let marks = figure.map_or("", Figure::marks);
    format!("{number}<span class=\"marks\">{marks}</span>")
}

fn range((from, to): (f64, f64)) -> String {
    format!("{} – {}", number(from), number(to))
}

fn count(figure: &Figure) -> String {
    match figure.discarded {
        0 => figure.kept.to_string(),
        discarded => format!("{} of {}", figure.kept, figure.kept + discarded),
    }
}

fn badge(verdict: Verdict) -> String {
    let class = match verdict {
        Verdict::Reached => "good",
        Verdict::Missed => "bad",
        Verdict::Unmeasured => "open",
    };
    format!("<span class=\"badge {class}\">{}</span>", super::verdict(verdict))
}

/// Text as markup.
pub(super) fn escape(text: &str) -> String {
    clean(text)
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The colours of systems are those of Okabe and Ito for the colour-blind, lightened for the dark.
const STYLE: &str = "
:root { --paper: #ffffff; --ink: #1d232b; --faint: #5b6572; --rule: #dde1e6; --panel: #f6f7f9;
  --good: #0a6b3d; --good-back: #dcf3e6; --bad: #a11414; --bad-back: #fde3e1;
  --open: #6b5200; --open-back: #fbf0cc; --link: #0b5cad; }
.c0 { --c: #0072b2; } .c1 { --c: #d55e00; } .c2 { --c: #009e73; }
.c3 { --c: #b0569a; } .c4 { --c: #b48a00; } .c5 { --c: #6e7781; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #14181d; --ink: #e6e9ed; --faint: #9aa5b1; --rule: #333b45; --panel: #1c2229;
    --good: #7ee0a8; --good-back: #123824; --bad: #ffa8a0; --bad-back: #4a1a18;
    --open: #f0d37a; --open-back: #3d3312; --link: #7cbcff; }
  .c0 { --c: #4db1ec; } .c1 { --c: #f58a3c; } .c2 { --c: #2fc79c; }
  .c3 { --c: #dc93c8; } .c4 { --c: #e3c04a; } .c5 { --c: #a3adb8; } }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.25rem; line-height: 1.3; overflow-wrap: anywhere; margin: 3rem 0 0.25rem; }
a { color: var(--link); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0.15rem 1.25rem; margin: 0; }
dt { color: var(--faint); } dd { margin: 0; }
.missing { margin-top: 1.5rem; padding: 0.75rem 1.25rem; border-left: 4px solid var(--open);
  background: var(--open-back); }
.missing h2 { margin: 0; font-size: 1rem; }
.missing ul { margin: 0.25rem 0 0; padding-left: 1.2rem; }
.unit, .notes, footer { color: var(--faint); } .unit { margin: 0 0 0.75rem; }
.notes, footer { font-size: 0.87rem; } .notes p, footer p { margin: 0.35rem 0; }
footer { margin-top: 3rem; padding-top: 1rem; border-top: 1px solid var(--rule); }
.wide { overflow-x: auto; margin: 0.5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 0.87rem; }
th, td { padding: 0.25rem 0.5rem; text-align: left; vertical-align: top; white-space: nowrap; }
thead th { color: var(--faint); font-weight: 600; border-bottom: 1px solid var(--rule); }
tbody { border-bottom: 1px solid var(--rule); }
td:last-child { white-space: normal; }
tbody th, td.label { white-space: normal; min-width: 5rem; overflow-wrap: anywhere; }
td.n, th.n { font-variant-numeric: tabular-nums; text-align: right; }
.dot { display: inline-block; width: 0.7em; height: 0.7em; border-radius: 2px;
  margin-right: 0.5em; background: var(--c); }
.badge { padding: 0.05rem 0.5rem; border-radius: 0.6rem; font-weight: 600; font-size: 0.8rem;
  white-space: nowrap; }
.good { color: var(--good); background: var(--good-back); }
.bad { color: var(--bad); background: var(--bad-back); }
.open { color: var(--open); background: var(--open-back); }
.marks { display: inline-block; width: 1.2em; margin-left: 0.25em; text-align: left;
  color: var(--faint); font-weight: 600; }
svg { display: block; width: 100%; min-width: 40rem; height: auto; }
svg text { font-size: 12px; fill: var(--ink); font-variant-numeric: tabular-nums; }
svg .faint { fill: var(--faint); } svg .strong { font-weight: 600; }
svg .end { text-anchor: end; } svg .centred { text-anchor: middle; }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .bar { fill: color-mix(in srgb, var(--c) 75%, var(--paper)); }
svg .whisker { stroke: var(--ink); stroke-width: 1.2; }
svg .line { fill: none; stroke: var(--c); stroke-width: 2; }
svg .spread { stroke: var(--c); stroke-width: 1.4; }
svg .mark { fill: var(--c); stroke: var(--paper); stroke-width: 1; }
";
