//! Traffic through the switch and its peers, side by side: `scripts/bench` runs it.
//!
//! Each system is started in turn on one core with the same load from the other, round after
//! round, so that a drifting machine hurts all alike. What comes out is a table of medians, spread
//! and ratios on standard output, and `report.html` and `samples.json` in a directory.

mod bench;
mod emulated;
mod flooding;
mod generator;
mod limits;
mod load;
mod net;
mod report;
mod samples;
mod systems;
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::PossibleValuesParser;

use bench::{Bench, LOAD_CORE};
use samples::Results;
use systems::{LinuxBridge, Ovs, Ringway, System, Testpmd};

/// Measures Ringway beside OVS-DPDK, DPDK's testpmd and the Linux bridge
#[derive(Debug, Parser)]
struct Options {
    /// Shorter samples, and less of what no goal names: under three minutes
    #[arg(long)]
    quick: bool,
    /// Rounds; at least five make a spread
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Only these kinds of work
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(WORK.map(|work| work.0)))]
    only: Vec<String>,
    /// Only these systems (ringway always takes part)
    #[arg(long, value_delimiter = ',', value_parser = PossibleValuesParser::new(systems().map(|system| system.name())))]
    systems: Vec<String>,
    /// Another build of the switch to compare with: its binary
    #[arg(long)]
    other: Option<PathBuf>,
    /// Only these frame lengths, guest to guest
    #[arg(long, value_delimiter = ',')]
    lengths: Vec<usize>,
    /// Where report.html and samples.json go
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// What `cargo bench` adds; of no effect
    #[arg(long, hide = true)]
    bench: bool,
}

/// A kind of work: its name for `--only`, whether quick mode has it, and what it does.
type Work = (&'static str, bool, fn(&mut Bench));

const WORK: [Work; 9] = [
    ("guests", true, work::guest_pair::run),
    ("latency", true, work::latency::run),
    ("wire", true, work::wire::run),
    ("guest-wire", false, work::guest_wire::run),
    ("qemu", false, work::qemu::run),
    ("growth", true, work::growth::run),
    ("handover", false, work::handover::run),
    ("idle", true, work::idle::run),
    ("memory", true, work::memory::run),
];

fn main() -> ExitCode {
    let options = Options::parse();
    let machine = machine();
    core_affinity::set_for_current(core_affinity::CoreId { id: LOAD_CORE });
    let mut bench = Bench {
        systems: Vec::new(),
        results: Results {
            machine,
            began: now(),
            ticks_per_second: generator::ticks_per_second(),
            ..Results::default()
        },
        rounds: options.rounds,
        time: Duration::from_millis(if options.quick { 200 } else { 1_000 }),
        is_quick: options.quick,
        lengths: options.lengths.clone(),
    };
    bench.results.mode = if options.quick { "quick" } else { "full" }.to_owned();
    take_part(&mut bench, &options);
    for (name, is_in_quick, work) in WORK {
        let is_chosen = options.only.iter().any(|only| only == name);
        if is_chosen || options.only.is_empty() && (is_in_quick || !options.quick) {
            work(&mut bench);
        }
    }
    let written =
        report::print(&bench.results).and_then(|()| report::write(&bench.results, &options.out));
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cannot write the report to {}: {error}", options.out.display());
            ExitCode::FAILURE
        }
    }
}

/// Every system there is, whether it can run here or not.
fn systems() -> [Box<dyn System>; 4] {
    [Box::new(Ringway::default()), Box::new(Ovs), Box::new(Testpmd), Box::new(LinuxBridge)]
}

/// Finds out which systems can run here.
fn take_part(bench: &mut Bench, options: &Options) {
    let mut systems = Vec::from(systems());
    if let Some(binary) = &options.other {
        systems.insert(1, Box::new(Ringway::other(binary.clone())));
    }
    for system in systems {
        let name = system.name();
        let is_ours = name == samples::OWN || name == "other build";
        if !is_ours
            && !options.systems.is_empty()
            && !options.systems.iter().any(|wanted| wanted == name)
        {
            continue;
        }
        match system.probe() {
            Ok(version) => {
                bench.results.versions.insert(name.to_owned(), version);
                bench.systems.push(system);
            }
            Err(reason) => {
                eprintln!("{name} takes no part: {reason}");
                bench.results.missing.insert(name.to_owned(), reason);
            }
        }
    }
}

/// Processor, cores, kernel.
fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, name)| name);
    let cores = core_affinity::get_core_ids().map_or(0, |cores| cores.len());
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{model}, {cores} cores, Linux {}", kernel.trim())
}

/// The time, as `date` has it.
fn now() -> String {
    let output = std::process::Command::new("date").args(["--utc", "+%FT%TZ"]).output();
    output.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()).unwrap_or_default()
}
