//! What crosses the control socket: the parameters and results of every method, as JSON.
//!
//! The server, the command line and the listings' `--json` share these types, so that a script
//! reads the same names wherever it asks. Parameters are named like the options of the command
//! line and the keys of the configuration. Unknown parameters are refused: a misspelt option must
//! not be a silent default.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The version of the protocol that the greeting names.
pub(crate) const PROTOCOL: u32 = 1;

/// The first line on every connection.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Greeting {
    /// The daemon's version.
    pub(crate) ringway: String,
    /// [`PROTOCOL`].
    pub(crate) protocol: u32,
}

/// VLANs of a port: `access`, or `trunk` and perhaps `native`. Nothing is access to VLAN 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct VlanOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<u16>,
    /// VIDs and ranges: `100,200-299`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) native: Option<u16>,
}

/// Parameters of `port.add`: a port with all its options, most of them left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PortOptions {
    pub(crate) name: String,
    /// `vhost-user` or `af-xdp`.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// vhost-user: the socket's path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<String>,
    /// vhost-user: QEMU listens and the switch connects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<bool>,
    /// vhost-user: the most queue pairs offered, 1 to 32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) queues: Option<u16>,
    /// vhost-user: owner of the socket, a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    /// vhost-user: group of the socket, a name or a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// vhost-user: permissions of the socket, octal: `0660`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<String>,
    /// af-xdp: the network interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    /// af-xdp: `auto`, `always` or `never`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) zero_copy: Option<String>,
    /// af-xdp: take an interface that the host uses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) force: Option<bool>,
    /// Most addresses learned behind the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) learn_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) native: Option<u16>,
}

/// Parameters of `port.set`: what is left out stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PortChanges {
    pub(crate) name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) learn_limit: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) trunk: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) native: Option<u16>,
}

/// Parameters of `port.remove` and `port.show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PortName {
    pub(crate) name: String,
}

/// Parameters of methods that take none.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Nothing {}

/// A port, in `port.list` and `port.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) struct PortStatus {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// A guest's driver works it, or the interface is taken.
    pub(crate) up: bool,
    pub(crate) vlan: VlanOptions,
    pub(crate) learn_limit: Option<u32>,
    /// Addresses learned behind it now.
    pub(crate) addresses: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vhost_user: Option<VhostUserStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) af_xdp: Option<AfXdpStatus>,
}

/// What is particular to a guest's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VhostUserStatus {
    pub(crate) socket: String,
    /// The switch connects; else it listens.
    pub(crate) connect: bool,
    pub(crate) connected: bool,
    /// Front ends that have come since the port was added, but for the first.
    pub(crate) reconnects: u64,
    /// The most queue pairs offered.
    pub(crate) queue_pairs: u16,
    pub(crate) rings_running: usize,
    pub(crate) rings_enabled: usize,
    /// Acknowledged by the driver, as a hexadecimal number.
    pub(crate) features: String,
    pub(crate) memory_bytes: u64,
    pub(crate) mtu: Option<u16>,
    /// Why there is no front end, if an attempt failed.
    pub(crate) last_error: Option<String>,
}

/// What is particular to an interface's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AfXdpStatus {
    pub(crate) interface: String,
    /// `copy` or `zero-copy`.
    pub(crate) mode: String,
    /// The XDP program runs in the driver; else in the kernel's generic code, which is slower.
    pub(crate) native: bool,
    pub(crate) queues: u32,
    /// The interface's own drops and errors since it was taken.
    pub(crate) interface_drops: BTreeMap<String, u64>,
}

/// Result of `port.list`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PortList {
    pub(crate) ports: Vec<PortStatus>,
}

/// Parameters of `fdb.list`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FdbFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
}

/// Parameters of `fdb.add` (all three) and `fdb.remove` (without port).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FdbAddress {
    pub(crate) mac: String,
    pub(crate) vlan: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
}

/// Parameters of `fdb.flush`: learned addresses that match, static ones too if asked.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FdbFlush {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) vlan: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) port: Option<String>,
    #[serde(default, rename = "static")]
    pub(crate) with_static: bool,
}

/// Result of `fdb.flush`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Flushed {
    pub(crate) flushed: usize,
}

/// An address in `fdb.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FdbEntry {
    pub(crate) mac: String,
    pub(crate) vlan: u16,
    pub(crate) port: String,
    #[serde(rename = "static")]
    pub(crate) is_static: bool,
    /// Seconds since it was last seen, give or take the ageing unit; static ones have none.
    pub(crate) age_seconds: Option<u32>,
}

/// Result of `fdb.list`, ordered by VLAN and address.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct FdbList {
    pub(crate) entries: Vec<FdbEntry>,
    /// Addresses that the database holds at most.
    pub(crate) capacity: u32,
    /// Moves from port to port since the start.
    pub(crate) moves: u64,
    /// Addresses not learned because their buckets were full, and because of their port's limit.
    pub(crate) refused_full: u64,
    pub(crate) refused_limit: u64,
}

/// Parameters of `stats.get`: one port, or all.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StatsFilter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
}

/// Counters of a port or a queue. `in` is from the guest or the wire into the switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counters {
    pub(crate) frames_in: u64,
    pub(crate) bytes_in: u64,
    pub(crate) frames_out: u64,
    pub(crate) bytes_out: u64,
    /// Frames in that the bridge decided to forward.
    pub(crate) decided: u64,
    /// Copies that were to leave here.
    pub(crate) ordered: u64,
    /// Times a queue was stopped because its guest broke the ring's rules.
    pub(crate) faults: u64,
    /// Frames that came in and were dropped, by reason.
    pub(crate) drops_in: BTreeMap<String, u64>,
    /// Copies that were to leave and were dropped, by reason.
    pub(crate) drops_out: BTreeMap<String, u64>,
    /// Both together, by reason.
    pub(crate) drops: BTreeMap<String, u64>,
}

/// A queue's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct QueueStats {
    pub(crate) queue: u16,
    /// The poll thread that owns it.
    pub(crate) thread: usize,
    #[serde(flatten)]
    pub(crate) counters: Counters,
    /// What the kernel counted at the queue's AF_XDP socket.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) socket: BTreeMap<String, u64>,
}

/// A port's counters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortStats {
    pub(crate) name: String,
    #[serde(flatten)]
    pub(crate) counters: Counters,
    pub(crate) queues: Vec<QueueStats>,
    /// The interface's own drops and errors since it was taken.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub(crate) interface_drops: BTreeMap<String, u64>,
}

/// Result of `stats.get`, ports in the order they were added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stats {
    pub(crate) ports: Vec<PortStats>,
}

/// A poll thread in `threads.get`. Rates are over the time since the last `threads.get`, or
/// since the start, at least [`interval_seconds`](Threads::interval_seconds).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThreadStats {
    pub(crate) thread: usize,
    pub(crate) core: usize,
    pub(crate) queues: u64,
    pub(crate) frames: u64,
    pub(crate) sleeps: u64,
    pub(crate) frames_per_second: f64,
    /// Ticks in turns that moved something, of all ticks of the core's time.
    pub(crate) busy_share: f64,
    /// TSC ticks of busy turns a frame taken in.
    pub(crate) cycles_per_frame: f64,
    pub(crate) frames_per_burst: f64,
}

/// Result of `threads.get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Threads {
    pub(crate) interval_seconds: f64,
    pub(crate) threads: Vec<ThreadStats>,
}

/// Result of `config.show`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ConfigText {
    /// The running configuration as TOML.
    pub(crate) toml: String,
}

/// Result of `config.save`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) file: String,
}

/// Result of `version.get`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Version {
    pub(crate) version: String,
    pub(crate) protocol: u32,
}

/// A method in `rpc.methods`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Method {
    pub(crate) method: String,
    pub(crate) summary: String,
    /// Name to explanation; required ones say so.
    pub(crate) params: BTreeMap<String, String>,
}

/// Result of `rpc.methods`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Methods {
    pub(crate) methods: Vec<Method>,
}

/// Why a request was refused: `data` of an error object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// What the request was about: a port, an address, a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<String>,
    pub(crate) cause: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) hint: Option<String>,
}

impl Refusal {
    /// The same, about this subject.
    pub(crate) fn about(self, subject: String) -> Self {
        Self { subject: Some(subject), ..self }
    }
}

impl std::fmt::Display for Refusal {
    /// One line: the subject, the cause, the way out.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(subject) = &self.subject {
            write!(formatter, "{subject}: ")?;
        }
        formatter.write_str(&self.cause)?;
        if let Some(hint) = &self.hint {
            write!(formatter, " ({hint})")?;
        }
        Ok(())
    }
}
