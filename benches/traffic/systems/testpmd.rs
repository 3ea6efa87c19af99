//! DPDK's testpmd, a forwarder that switches nothing: what comes in at one of two ports goes out
//! at the other, unread. A bound on what DPDK's drivers alone can do.
//!
//! It stays in its foreground mode, in which it forwards at once and until its standard input ends.

use std::path::Path;
use std::process::Command;

use super::dpdk::{
    FCS_BYTES, Leftovers, ORDINARY_FRAME_BYTES, has_drivers, probe_huge_pages, wire_device,
};
use super::process::{Daemon, Place, bounded, run_to_end};
use super::{Port, Running, System, Topology};

const BINARY: &str = "dpdk-testpmd";

/// What DPDK leaves free before a frame in its buffer (`RTE_PKTMBUF_HEADROOM`), and what the kernel
/// leaves free besides where the buffer is an AF_XDP chunk (`XDP_PACKET_HEADROOM`).
const HEADROOM_BYTES: usize = 128 + 256;

/// The longest frame on wires: buffer and headroom are one AF_XDP chunk, at most a page. Tried.
const LONGEST_ON_WIRES: usize = 3414;

/// The longest frame: it passes no large ones on, for it negotiates no offloads.
const LONGEST_FRAME_BYTES: usize = frame::MAX_FRAME_BYTES;

/// A forwarder between two ports.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Testpmd;

/// The device of a port, as the option `--vdev` has it.
fn device(number: usize, port: &Port) -> Result<String, String> {
    match port {
        Port::Guest { socket, queue_pairs } => Ok(format!(
            "net_vhost{number},iface={},client=1,queues={queue_pairs}",
            socket.display()
        )),
        Port::Wire { interface } => Ok(wire_device(number, interface)),
        Port::Tap { interface } => Err(format!("testpmd is given no tap ports: {interface}")),
    }
}

/// The queue pairs that both ports have: the least of them.
fn queue_pairs(topology: &Topology) -> u16 {
    let pairs = |port: &Port| match port {
        Port::Guest { queue_pairs, .. } => *queue_pairs,
        Port::Wire { .. } | Port::Tap { .. } => 1,
    };
    topology.ports.iter().map(pairs).min().unwrap_or(1)
}

/// Adds the options of testpmd itself, which come after `--`.
fn add_options(command: &mut Command, topology: &Topology) {
    let queues = queue_pairs(topology);
    command.args(["--", "--forward-mode=io", "--disable-link-check"]);
    command.arg(format!("--rxq={queues}")).arg(format!("--txq={queues}"));
    let longest = topology.longest_frame_bytes;
    if longest > ORDINARY_FRAME_BYTES {
        // A buffer for a whole frame, so that none is chained, and no more of them than fit.
        command.arg(format!("--mbuf-size={}", longest + FCS_BYTES + HEADROOM_BYTES));
        command.arg(format!("--max-pkt-len={}", longest + FCS_BYTES));
        command.arg("--total-num-mbufs=32768");
    }
}

impl System for Testpmd {
    fn name(&self) -> &'static str {
        "testpmd"
    }

    fn probe(&self) -> Result<String, String> {
        probe_huge_pages()?;
        // The version comes on standard error, the help that makes it end on standard output.
        let output = run_to_end(bounded(BINARY).args(["-v", "--help"]))?;
        let words = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = words.lines().find_map(|line| line.split_once("RTE Version: "));
        Ok(version.map_or("unknown", |(_, version)| version.trim_matches('\'')).to_owned())
    }

    fn can(&self, topology: &Topology) -> bool {
        topology.ports.len() == 2
            && topology.longest_frame_bytes <= LONGEST_FRAME_BYTES
            && has_drivers(topology, LONGEST_ON_WIRES)
    }

    fn start(&self, topology: &Topology, directory: &Path) -> Result<Box<dyn Running>, String> {
        let place = Place::of(topology)?;
        let Place { poll_core, other_core, .. } = place;
        let mut command = place.command(&[other_core], "stdbuf");
        // Else its words stay in a buffer, and with them that it is ready.
        command.args(["--output=L", BINARY]);
        command.args(["-l", &format!("{poll_core},{other_core}")]);
        command.arg(format!("--main-lcore={other_core}")).args(["--no-pci", "--in-memory"]);
        for (number, port) in topology.ports.iter().enumerate() {
            command.args(["--vdev", &device(number, port)?]);
        }
        add_options(&mut command, topology);
        let leftovers = Leftovers::of(topology, &place, &[]);
        let mut daemon = Daemon::start("testpmd", &mut command, directory)?;
        daemon.await_answer("ports", |daemon| {
            daemon.log().contains("Press enter to exit").then_some(())
        })?;
        daemon.settle(&place)?;
        Ok(Box::new(Forwarder { daemon, _leftovers: leftovers }))
    }
}

/// A running forwarder; the fields are dropped in this order.
#[derive(Debug)]
struct Forwarder {
    daemon: Daemon,
    _leftovers: Leftovers,
}

impl Running for Forwarder {
    fn process(&self) -> Option<u32> {
        Some(self.daemon.id())
    }
}
