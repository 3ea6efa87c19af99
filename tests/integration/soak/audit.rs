//! The accounts: what the switch has counted against what its guests have seen, what it holds, and
//! what it has logged.
//!
//! Counters of a port begin when it is added and when a switch begins; what guests have seen goes
//! on. So it is their growth between two audits that is compared.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::PATIENCE;
use crate::support::switch::Switch;

/// What a switch may have grown by in KiB since it was without guests before: its allocator keeps
/// some of what was freed.
const GROWTH_KIB: u64 = 2_048;

/// What its own memory for frames is called: an uplink's.
const OWN_MEMORY: &str = "memfd:ringway umem";

/// What must never be in the log.
const FORBIDDEN: [&str; 3] = ["panicked", "broke the rules", " ERROR "];

/// Frames in and out of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frames {
    pub(super) frames_in: u64,
    pub(super) frames_out: u64,
}

impl Frames {
    /// What the switch says of a port.
    fn counted(statistics: &Value) -> Self {
        let number = |name: &str| statistics[name].as_u64().unwrap();
        Self { frames_in: number("frames_in"), frames_out: number("frames_out") }
    }

    /// What has come since then.
    fn since(self, then: Self) -> Self {
        Self {
            frames_in: self.frames_in.wrapping_sub(then.frames_in),
            frames_out: self.frames_out.wrapping_sub(then.frames_out),
        }
    }
}

/// What the switch is without guests: descriptors, threads, anonymous memory in KiB.
type Footprint = (usize, usize, u64);

#[derive(Debug, Default)]
pub(super) struct Audit {
    /// At the last audit: what the switch had counted, and what the guest had seen.
    before: HashMap<String, [Frames; 2]>,
    alone: Option<Footprint>,
    pub(super) compared: u64,
    pub(super) footprints: u64,
}

impl Audit {
    /// The switch has just begun, and no guest is there yet.
    pub(super) fn begin_anew(&mut self, switch: &Switch) {
        self.before.clear();
        self.alone = Some(footprint_at_rest(switch));
    }

    /// The switch is another, with guests.
    pub(super) fn forget_all(&mut self) {
        self.before.clear();
        self.alone = None;
    }

    /// A port is another.
    pub(super) fn forget(&mut self, port: &str) {
        self.before.remove(port);
    }

    /// A guest begins to use a port that nobody uses.
    pub(super) fn begin(&mut self, statistics: &Value, seen: Frames) {
        let name = statistics["name"].as_str().unwrap().to_owned();
        self.before.insert(name, [Frames::counted(statistics), seen]);
    }

    /// Compares what was counted at a port with what its guest has seen. All is quiet.
    pub(super) fn compare(&mut self, statistics: &Value, seen: Frames) {
        let name = statistics["name"].as_str().unwrap();
        let counted = Frames::counted(statistics);
        assert_eq!(statistics["faults"], 0, "{statistics}");
        if let Some([counted_then, seen_then]) = self.before.get(name) {
            let (counted, seen) = (counted.since(*counted_then), seen.since(*seen_then));
            assert_eq!(counted, seen, "counted at {name}, and seen by it; all: {statistics}");
            self.compared += 1;
        }
        self.before.insert(name.to_owned(), [counted, seen]);
    }

    /// Compares what the switch holds with what it held before. All guests have left.
    pub(super) fn compare_footprint(&mut self, switch: &Switch) {
        let start = Instant::now();
        loop {
            let left = mappings(switch);
            if left.is_empty() {
                break;
            }
            assert!(start.elapsed() < PATIENCE, "guests' memory is not given back: {left:#?}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let Some((descriptors, threads, memory)) = self.alone else {
            self.alone = Some(footprint_at_rest(switch));
            return;
        };
        let start = Instant::now();
        loop {
            let now = switch.footprint();
            if now.0 <= descriptors && now.1 == threads && now.2 <= memory + GROWTH_KIB {
                break;
            }
            let is_late = start.elapsed() > PATIENCE;
            assert!(!is_late, "leaked: {now:?}, was {:?}: {:?}", self.alone, held(switch));
            std::thread::sleep(Duration::from_millis(10));
        }
        self.footprints += 1;
    }
}

/// The least that it holds within a while: descriptors of clients that have just left close by and by.
fn footprint_at_rest(switch: &Switch) -> Footprint {
    let look = || {
        std::thread::sleep(Duration::from_millis(20));
        switch.footprint()
    };
    let looks: Vec<Footprint> = (0..10).map(|_| look()).collect();
    looks.into_iter().min().unwrap()
}

/// Mappings of guests' memory.
fn mappings(switch: &Switch) -> Vec<String> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", switch.process())).unwrap();
    let theirs = |line: &&str| line.contains("memfd:") && !line.contains(OWN_MEMORY);
    maps.lines().filter(theirs).map(str::to_owned).collect()
}

/// What the switch's descriptors are.
fn held(switch: &Switch) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", switch.process())).unwrap();
    let target = |path: std::path::PathBuf| fs::read_link(path).ok();
    let targets = descriptors.filter_map(|descriptor| target(descriptor.unwrap().path()));
    targets.map(|path| path.display().to_string()).collect()
}

/// Panics if a port's own counters contradict one another. Returns false if copies are still on
/// their way.
pub(super) fn adds_up(statistics: &Value) -> bool {
    let number = |name: &str| statistics[name].as_u64().unwrap();
    assert_eq!(number("frames_in"), number("drops_in") + number("decided"), "{statistics}");
    number("copies_ordered") == number("frames_out") + number("drops_out")
}

/// Panics if the log tells of what must not be.
pub(super) fn check_log(switch: &Switch) {
    let log = switch.log();
    let bad = log.lines().find(|line| FORBIDDEN.iter().any(|text| line.contains(text)));
    assert_eq!(bad, None, "in the log");
}
