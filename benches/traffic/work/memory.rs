//! How much memory a system takes for itself: what it has resident that no file is behind, and
//! huge pages. Guests' memory is theirs and not counted, although the system has it mapped.

use std::fs;

use crate::bench::{Bench, Spec, Trouble, start_beside};
use crate::generator::Manner;
use crate::samples::{Better, Sample};
use crate::systems::System;

const ANONYMOUS: &str = "memory, resident and anonymous";
const HUGE: &str = "memory, huge pages";

const LENGTH: usize = 64;

pub(crate) fn run(bench: &mut Bench) {
    let ports: &[usize] = if bench.is_quick { &[2] } else { &[2, 64] };
    for &ports in ports {
        bench.rounds(&format!("memory, {ports} ports"), |bench, system, round| {
            // It is the same in every round.
            if bench.is_quick && round > 0 {
                return Err(Trouble::CannotDo);
            }
            measure(bench, system, round, ports)
        });
    }
}

fn measure(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    ports: usize,
) -> Result<(), Trouble> {
    let manner = Manner::for_frames_of(LENGTH);
    let mut session = start_beside(system, 2, manner, LENGTH, ports - 2)?;
    session.load.window = manner.window(LENGTH);
    // What is touched with the first frames counts.
    session.use_streams(LENGTH, true)?;
    let process = session.running.process().ok_or("the system has no process".to_owned())?;
    let figures = [
        (ANONYMOUS, mebibytes(process, "smaps_rollup", "Anonymous:")?),
        (HUGE, mebibytes(process, "status", "HugetlbPages:")?),
    ];
    for (group, value) in figures {
        let sample = Sample { round, value, is_generator_bound: false, stolen: 0.0 };
        bench.add(&spec(group, ports), system.name(), sample);
    }
    Ok(())
}

/// A line of a process's file, such as `HugetlbPages:    524288 kB`.
fn mebibytes(process: u32, file: &str, line: &str) -> Result<f64, String> {
    let file = format!("/proc/{process}/{file}");
    let text = fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
    let number = text.lines().find_map(|words| words.strip_prefix(line)?.trim().split_once(' '));
    let kibibytes = number.and_then(|(number, _)| number.parse::<f64>().ok());
    kibibytes.map(|number| number / 1024.0).ok_or(format!("{file}: no {line}"))
}

fn spec(group: &'static str, ports: usize) -> Spec {
    let goals = match (group, ports) {
        (ANONYMOUS, 2) => vec![("", 64.0)],
        (HUGE, 2) => vec![("", 0.0)],
        _ => Vec::new(),
    };
    Spec {
        group,
        label: format!("{ports} ports"),
        unit: "MiB",
        better: Better::Less,
        conditions: "of the process that forwards, guests' memory not counted, after the first \
                     frames of 64 B; pages of the process's own (Anonymous of smaps_rollup), and \
                     huge pages (HugetlbPages of status)"
            .to_owned(),
        goals,
    }
}
