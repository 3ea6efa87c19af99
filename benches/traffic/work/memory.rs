//! How much memory a system takes for itself: what it has resident that no file is behind, and
//! huge pages. Guests' memory is theirs and not counted, although the system has it mapped.

use std::fs;

use crate::bench::{Bench, Spec, Trouble, plug_in, start_beside};
use crate::generator::Manner;
use crate::load::{Load, socket};
use crate::net::Wires;
use crate::samples::{Better, Sample};
use crate::systems::{Port, Running, System};

const ANONYMOUS: &str = "memory, resident and anonymous";
const HUGE: &str = "memory, huge pages";

/// A guest and a wire of one queue, instead of two guests.
const WITH_WIRE: &str = "2 ports, one of them AF_XDP";

/// What goes through before the system is looked at, and what it is set up for.
const LENGTH: usize = 64;
const LONGEST: usize = 1_514;

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
    if !bench.is_quick {
        bench.rounds("memory, AF_XDP", measure_with_wire);
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
    note(bench, system, round, &format!("{ports} ports"), session.running.as_ref())
}

fn measure_with_wire(bench: &mut Bench, system: &dyn System, round: u32) -> Result<(), Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let wires = Wires::new(1)?;
    let guest = Port::Guest { socket: socket(directory.path(), 0), queue_pairs: 1 };
    let topology = wires.topology(vec![guest], LONGEST);
    if !system.can(&topology) {
        return Err(Trouble::CannotDo);
    }
    let mut load = Load::listen(directory.path(), 1, Manner::for_frames_of(LENGTH))?;
    let running = plug_in(system, &topology, directory.path(), &mut load)?;
    note(bench, system, round, WITH_WIRE, running.as_ref())
}

/// Takes down what the process has now.
fn note(
    bench: &mut Bench,
    system: &dyn System,
    round: u32,
    label: &str,
    running: &dyn Running,
) -> Result<(), Trouble> {
    let Some(process) = running.process() else { return Err(Trouble::CannotDo) };
    let figures = [
        (ANONYMOUS, mebibytes(process, "smaps_rollup", "Anonymous:")?),
        (HUGE, mebibytes(process, "status", "HugetlbPages:")?),
    ];
    for (group, value) in figures {
        let sample = Sample { round, value, is_generator_bound: false, stolen: 0.0 };
        bench.add(&spec(group, label), system.name(), sample);
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

fn spec(group: &'static str, label: &str) -> Spec {
    let goals = match (group, label) {
        (ANONYMOUS, "2 ports") => vec![("", 64.0)],
        (ANONYMOUS, WITH_WIRE) => vec![("", 64.0 + 16.0)],
        (HUGE, "2 ports" | WITH_WIRE) => vec![("", 0.0)],
        _ => Vec::new(),
    };
    Spec {
        group,
        label: label.to_owned(),
        unit: "MiB",
        better: Better::Less,
        conditions: "of the process that forwards, guests' memory not counted, after some frames of \
                     64 B (with AF_XDP, before the first); pages of the process's own (Anonymous of smaps_rollup), and \
                     huge pages (HugetlbPages of status)"
            .to_owned(),
        goals,
    }
}
