//! Ringway itself: the binary that cargo built beside the bench, on a configuration of its own.
//!
//! It may run on both cores at the start, since it refuses a poll core that it is not allowed to
//! use; once its poll thread is pinned, the control thread is moved to the other core.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::process::{Daemon, Place, bounded, run};
use super::{Port, Running, System, Topology};
use crate::samples::OWN;

const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// The longest frame that it forwards (`MAX_LARGE_FRAME_BYTES` of its crate `frame`).
const LONGEST_FRAME_BYTES: usize = frame::MAX_LARGE_FRAME_BYTES;

/// The same on wires.
const LONGEST_ON_WIRES: usize = frame::MAX_FRAME_BYTES;

/// Addresses that each guest's port may learn: more than any work here needs.
const ADDRESSES: u32 = 100_000;

/// Ringway with one poll thread.
#[derive(Debug, Clone)]
pub(crate) struct Ringway {
    name: &'static str,
    binary: PathBuf,
    /// What a poll thread without work does: `adaptive` or `always`.
    pub(crate) poll: &'static str,
}

impl Default for Ringway {
    fn default() -> Self {
        Self { name: OWN, binary: PathBuf::from(BINARY), poll: "adaptive" }
    }
}

impl Ringway {
    /// Another build, to be compared with this one.
    pub(crate) fn other(binary: PathBuf) -> Self {
        Self { name: "other build", binary, ..Self::default() }
    }

    /// The configuration for a topology.
    fn configuration(&self, topology: &Topology, control: &Path) -> Result<String, String> {
        let ports = topology.ports.iter().enumerate().map(|(number, port)| describe(number, port));
        let configuration = json!({
            "control": { "socket": control },
            "threads": { "cores": [topology.core], "poll": self.poll },
            "port": ports.collect::<Result<Vec<Value>, String>>()?,
        });
        toml::to_string(&configuration).map_err(|error| format!("no configuration: {error}"))
    }
}

/// A port, as `[[port]]` of the configuration.
fn describe(number: usize, port: &Port) -> Result<Value, String> {
    let name = format!("p{number}");
    match port {
        Port::Guest { socket, queue_pairs } => Ok(json!({
            "name": name,
            "type": "vhost-user",
            "socket": socket,
            "connect": true,
            "queues": queue_pairs,
            "addresses": ADDRESSES,
        })),
        Port::Wire { interface } => Ok(json!({
            "name": name,
            "type": "af-xdp",
            "interface": interface,
        })),
        Port::Tap { interface } => Err(format!("ringway has no tap ports: {interface}")),
    }
}

impl System for Ringway {
    fn name(&self) -> &'static str {
        self.name
    }

    fn probe(&self) -> Result<String, String> {
        let version = run(bounded(&self.binary).arg("version"))?;
        Ok(version.trim().trim_start_matches("ringway ").to_owned())
    }

    fn can(&self, topology: &Topology) -> bool {
        topology.ports.iter().all(|port| match port {
            Port::Guest { .. } => topology.longest_frame_bytes <= LONGEST_FRAME_BYTES,
            Port::Wire { .. } => topology.longest_frame_bytes <= LONGEST_ON_WIRES,
            Port::Tap { .. } => false,
        })
    }

    fn start(&self, topology: &Topology, directory: &Path) -> Result<Box<dyn Running>, String> {
        let place = Place::of(topology)?;
        let control = directory.join("control.sock");
        let file = directory.join("ringway.toml");
        fs::write(&file, self.configuration(topology, &control)?)
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let mut command = place.command(&[place.poll_core, place.other_core], &self.binary);
        command.arg("run").arg("-c").arg(&file);
        let mut daemon = Daemon::start("ringway", &mut command, directory)?;
        daemon.await_answer("answer on its control socket", |_| {
            let ports = run(client(&control).args(["port", "list", "--json"])).ok()?;
            serde_json::from_str::<Value>(&ports).ok()
        })?;
        daemon.settle(&place)?;
        Ok(Box::new(Switch { daemon }))
    }
}

/// A command to the switch.
fn client(control: &Path) -> Command {
    let mut command = bounded(BINARY);
    command.arg("--control").arg(control);
    command
}

/// A running switch.
#[derive(Debug)]
struct Switch {
    daemon: Daemon,
}

impl Running for Switch {
    fn process(&self) -> Option<u32> {
        Some(self.daemon.id())
    }
}
