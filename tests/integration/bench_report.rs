//! What the speed bench makes of its samples, and how it reports them. The bench itself is a
//! program without tests, so its files are taken in here.

#[path = "../../benches/traffic/report/mod.rs"]
mod report;
#[path = "../../benches/traffic/samples.rs"]
mod samples;

use std::collections::BTreeMap;

use samples::{Better, Cell, Figure, Goal, Results, Sample, Verdict};

const STOLEN: f64 = 0.1;

#[test]
fn quartiles_lie_between_samples_if_none_is_there() {
    let figure = Figure::of(&calm(&[4.0, 1.0, 3.0, 2.0])).unwrap();

    assert_eq!(figure.median, 2.5);
    assert_eq!(figure.middle, (1.75, 3.25));
    assert_eq!(figure.range, (1.0, 4.0));
}

#[test]
fn one_sample_is_its_own_spread() {
    let figure = Figure::of(&calm(&[7.0])).unwrap();

    assert_eq!((figure.median, figure.range, figure.middle), (7.0, (7.0, 7.0), (7.0, 7.0)));
}

#[test]
fn no_samples_make_no_figure() {
    assert_eq!(Figure::of(&[]), None);
    assert_eq!(Figure::of(&calm(&[f64::NAN, f64::INFINITY])), None);
}

#[test]
fn disturbed_sample_is_discarded_with_its_marks_if_three_others_remain() {
    let disturbed = Sample { is_generator_bound: true, ..sample(4, 100.0, STOLEN) };
    let samples = [calm(&[1.0, 2.0, 3.0]), vec![disturbed]].concat();

    let figure = Figure::of(&samples).unwrap();

    assert_eq!((figure.median, figure.kept, figure.discarded), (2.0, 3, 1));
    assert_eq!(figure.marks(), "");
}

#[test]
fn disturbed_sample_is_kept_and_marked_if_only_two_others_remain() {
    let samples = [calm(&[1.0, 2.0]), vec![sample(3, 100.0, STOLEN)]].concat();

    let figure = Figure::of(&samples).unwrap();

    assert_eq!((figure.median, figure.kept, figure.discarded), (2.0, 3, 0));
    assert_eq!(figure.marks(), "s");
}

#[test]
fn ratio_is_the_median_of_the_rounds_and_not_of_the_medians() {
    // Medians 20 and 10; but round by round 1, 3 and 10.
    let cell = cell_of(&[("ringway", &[10.0, 30.0, 20.0]), ("testpmd", &[10.0, 10.0, 2.0])]);

    let ratio = cell.ratio("testpmd").unwrap();

    assert_eq!(ratio.median, 3.0);
    assert_eq!(ratio.range, (1.0, 10.0));
}

#[test]
fn ratio_takes_only_rounds_that_both_have() {
    let mut cell = cell_of(&[("ringway", &[10.0, 30.0, 20.0]), ("testpmd", &[10.0, 10.0, 2.0])]);
    cell.series.get_mut("testpmd").unwrap().remove(0);

    let ratio = cell.ratio("testpmd").unwrap();

    assert_eq!((ratio.kept, ratio.range), (2, (3.0, 10.0)));
}

#[test]
fn round_disturbed_for_either_system_is_discarded_from_the_ratio() {
    let mut cell = cell_of(&[("ringway", &[1.0; 4]), ("testpmd", &[2.0, 2.0, 2.0, 0.1])]);
    cell.series.get_mut("testpmd").unwrap()[3].stolen = STOLEN;

    let ratio = cell.ratio("testpmd").unwrap();

    assert_eq!((ratio.range, ratio.discarded), ((0.5, 0.5), 1));
}

#[test]
fn ratio_to_nothing_is_no_ratio() {
    let cell = cell_of(&[("ringway", &[1.0; 3]), ("testpmd", &[0.0; 3])]);

    assert_eq!(cell.ratio("testpmd"), None);
    assert_eq!(cell.ratio("ovs-dpdk"), None);
}

#[test]
fn figure_in_mpps_of_one_frame_length_is_given_in_gbits_and_ticks_too() {
    let frames = Cell { label: "1000 B".into(), ..cell_of(&[("ringway", &[2.5; 3])]) };
    let others = Cell { label: "one connection".into(), ..frames.clone() };
    let text = |cell: &Cell| {
        let cells = vec![cell.clone()];
        report::text(&Results { ticks_per_second: 2e9, cells, ..Results::default() })
    };
    let entries = |text: &str, line: &str| {
        let line = text.lines().find(|entries| entries.contains(line)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };

    let table = text(&frames);

    assert_eq!(entries(&table, "system")[1..4], ["median", "Gbit/s", "ticks"], "{table}");
    assert_eq!(entries(&table, "1000 B")[3..6], ["2.50", "20.0", "800"], "{table}");
    assert_eq!(entries(&text(&others), "system")[1..3], ["median", "middle"]);
}

#[test]
fn goal_is_reached_at_its_bound() {
    let cell = cell_of(&[("ringway", &[8.0; 3]), ("testpmd", &[10.0; 3])]);

    assert_eq!(judged(&cell, "testpmd", 0.8), [Verdict::Reached]);
    assert_eq!(judged(&cell, "testpmd", 0.81), [Verdict::Missed]);
    assert_eq!(judged(&cell, "", 8.0), [Verdict::Reached]);
}

#[test]
fn goal_for_what_is_better_small_is_an_upper_bound() {
    let cells = cell_of(&[("ringway", &[8.0; 3]), ("testpmd", &[10.0; 3])]);
    let cell = Cell { better: Better::Less, ..cells };

    assert_eq!(judged(&cell, "testpmd", 0.8), [Verdict::Reached]);
    assert_eq!(judged(&cell, "testpmd", 0.79), [Verdict::Missed]);
}

#[test]
fn goal_against_a_missing_system_is_neither_reached_nor_missed() {
    let cell = cell_of(&[("ringway", &[8.0; 3])]);

    assert_eq!(judged(&cell, "testpmd", 0.8), [Verdict::Unmeasured]);
}

#[test]
fn text_has_no_line_above_100_columns_and_no_escape_codes() {
    let text = report::text(&every_kind());

    let longest = text.lines().map(|line| line.chars().count()).max();
    assert!(longest <= Some(100), "{longest:?}");
    assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'));
}

#[test]
fn text_names_figures_ratios_verdicts_and_what_was_discarded() {
    let text = report::text(&every_kind());
    let flowing = text.split_whitespace().collect::<Vec<_>>().join(" ");

    for words in [
        "MISSING ovs-dpdk: not installed: no ovs-vswitchd",
        "7.40 g 3.79 351",
        "7.30..7.50",
        "≥ 0.8 reached",
        "≥ 3 MISSED",
        "≥ 1 not measured",
        "3 of 45 samples are discarded, because more than 2 % of the time was stolen.",
        "5 goals: 2 reached, 2 MISSED, 1 not measured",
    ] {
        assert!(flowing.contains(words), "{words:?} is missing in\n{text}");
    }
}

#[test]
fn page_has_balanced_tags_and_a_plot_for_each_group() {
    let directory = tempfile::tempdir().unwrap();

    report::write(&every_kind(), directory.path()).unwrap();

    let page = std::fs::read_to_string(directory.path().join("report.html")).unwrap();
    assert_balanced(&page);
    assert_eq!(page.matches("<svg ").count(), 4);
    assert_eq!(page.matches("<desc ").count(), 4);
    assert!(!page.contains("NaN") && !page.contains("inf"), "a coordinate is no number");
}

#[test]
fn samples_that_were_written_read_back_as_they_were() {
    let directory = tempfile::tempdir().unwrap();
    let results = every_kind();

    report::write(&results, directory.path()).unwrap();

    let written = std::fs::read(directory.path().join("samples.json")).unwrap();
    let read: Results = serde_json::from_slice(&written).unwrap();
    assert_eq!(format!("{read:?}"), format!("{results:?}"));
}

#[test]
fn run_without_cells_has_a_report_too() {
    let directory = tempfile::tempdir().unwrap();
    let nothing = Results::default();

    report::print(&nothing).unwrap();
    report::write(&nothing, directory.path()).unwrap();

    let page = std::fs::read_to_string(directory.path().join("report.html")).unwrap();
    assert_balanced(&page);
    assert!(report::text(&nothing).contains("no goals"));
}

fn sample(round: u32, value: f64, stolen: f64) -> Sample {
    Sample { round, value, is_generator_bound: false, stolen }
}

fn calm(values: &[f64]) -> Vec<Sample> {
    (0..).zip(values).map(|(round, value)| sample(round, *value, 0.0)).collect()
}

fn cell_of(series: &[(&str, &[f64])]) -> Cell {
    let series = series.iter().map(|(system, values)| ((*system).to_owned(), calm(values)));
    Cell {
        group: "guest to guest".into(),
        label: "64 B".into(),
        unit: "Mpps".into(),
        better: Better::More,
        conditions: "ring of 1024, loss below 0.1 %".into(),
        goals: Vec::new(),
        series: series.collect(),
    }
}

fn judged(cell: &Cell, against: &str, bound: f64) -> Vec<Verdict> {
    let goals = vec![goal(against, bound)];
    let cell = Cell { goals, ..cell.clone() };
    cell.outcomes(against).iter().map(|outcome| outcome.verdict).collect()
}

fn goal(against: &str, bound: f64) -> Goal {
    Goal { against: against.to_owned(), bound }
}

/// Lines and bars, wide and small spans, long labels, huge numbers, all marks and verdicts.
fn every_kind() -> Results {
    let reason = format!("not installed: no ovs-vswitchd \u{1b}[31m{}", "in the path ".repeat(20));
    Results {
        machine: "2 × Xeon <Platinum> & \"co\", Linux 6.12".into(),
        began: "2026-11-21T09:18:00Z".into(),
        mode: "full".into(),
        ticks_per_second: 2.6e9,
        versions: BTreeMap::from([("ringway".into(), "0.1.0".into())]),
        missing: BTreeMap::from([("ovs-dpdk".into(), reason)]),
        cells: [sizes(), wide_span(), odd_bars(), vec![extremes()]].concat(),
    }
}

fn sizes() -> Vec<Cell> {
    let mut first = cell_of(&[
        ("ringway", &[7.4, 7.4, 7.3, 7.5, 7.4]),
        ("testpmd", &[8.0, 8.1, 8.2, 8.1, 1.0]),
        ("linux-bridge", &[0.9, 0.9, 0.8, 0.9, 0.9]),
    ]);
    first.goals = vec![goal("testpmd", 0.8), goal("ovs-dpdk", 1.0), goal("linux-bridge", 3.0)];
    first.series.get_mut("ringway").unwrap()[0].is_generator_bound = true;
    first.series.get_mut("testpmd").unwrap()[4].stolen = STOLEN;
    let second = Cell { label: "512 B".into(), goals: Vec::new(), ..first.clone() };
    let goals = vec![goal("testpmd", 3.0)];
    let conditions = "ring of 256".into();
    let third = Cell { label: "1518 B".into(), goals, conditions, ..second.clone() };
    vec![first, second, third]
}

fn wide_span() -> Vec<Cell> {
    let series: [(&str, &[f64]); 2] =
        [("ringway", &[4.0, 5.0, 6.0]), ("linux-bridge", &[900.0, 1000.0, 5000.0])];
    let cell = |label: &str| Cell {
        group: "latency".into(),
        label: label.into(),
        unit: "µs".into(),
        better: Better::Less,
        ..cell_of(&series)
    };
    vec![cell("1 %"), cell("10 %"), cell("11 %"), cell("50 %")]
}

fn odd_bars() -> Vec<Cell> {
    let long = Cell {
        group: "features & the like, measured at <64 B>".into(),
        label: "mergeable buffers, indirect descriptors, event index".into(),
        ..cell_of(&[("ringway", &[0.0, 0.0, 0.0]), ("vpp", &[3.0, 4.0, 5.0])])
    };
    let empty = Cell { label: "empty".into(), series: BTreeMap::new(), ..long.clone() };
    vec![long, empty]
}

fn extremes() -> Cell {
    let name = "a system with a name that is far too long";
    let values = [("ringway", [1.2e-5, 123_456.0, 9_999_999.0]), (name, [1e-9, 1e9, 1e12])];
    Cell {
        group: "extremes".repeat(20),
        label: "labelwithoutanyspaces".repeat(5),
        goals: vec![goal("", 1e12)],
        ..cell_of(&values.each_ref().map(|(system, values)| (*system, values.as_slice())))
    }
}

/// Reads tags alone: each that is opened is closed, in order, and no stray `<` or `&` is left.
fn assert_balanced(page: &str) {
    let body = page.strip_prefix("<!DOCTYPE html>").unwrap();
    let mut open: Vec<&str> = Vec::new();
    for piece in body.split('<').skip(1) {
        let (tag, text) = piece.split_once('>').expect("a tag ends");
        let name = tag.split_whitespace().next().expect("a tag has a name");
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "at <{tag}>"),
            None if tag.ends_with('/') => {}
            None => open.push(name),
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes of <{tag}>");
        let entities = ["&amp;", "&lt;", "&gt;", "&quot;"];
        let known: usize = entities.iter().map(|entity| text.matches(entity).count()).sum();
        assert_eq!(text.matches('&').count(), known, "entities of {text:?}");
    }
    assert_eq!(open, Vec::<&str>::new());
}
