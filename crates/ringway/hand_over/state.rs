//! What one switch tells the other, in JSON. Descriptors are numbers: their places among those that
//! come along.
//!
//! Whoever changes the meaning of something here raises [`VERSION`]. What is new and may be missing
//! needs `#[serde(default)]` only.

use std::path::PathBuf;

use datapath::afxdp::{InterfaceState, QueueState, UmemState};
use serde::{Deserialize, Serialize};

/// The version of this page. Another one is refused: half of a switch is none.
pub(crate) const VERSION: u32 = 1;

/// The first word of the old switch, which forwards on.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Offer {
    Description(Box<Description>),
    Refused(String),
}

/// What the old switch has.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The running configuration, ports and static entries included, as TOML.
    pub(crate) config: String,
    /// The file that the old switch was started with.
    pub(crate) file: Option<PathBuf>,
    pub(crate) control: ListenerState,
    pub(crate) guests: Vec<GuestPortState>,
    pub(crate) learned: Vec<LearnedEntry>,
    /// Missing: uplinks are closed and opened anew. So are those that are not here.
    #[serde(default)]
    pub(crate) umems: Vec<UmemFile>,
    #[serde(default)]
    pub(crate) uplinks: Vec<UplinkState>,
}

/// Told when all rings of the old switch have stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Stopped {
    /// By guests' ports, in the order of [`Description::guests`]: their rings.
    pub(crate) guests: Vec<Vec<RingStopped>>,
    pub(crate) taps: Vec<TapState>,
    /// What was learned since the description.
    pub(crate) learned: Vec<LearnedEntry>,
    /// The uplinks that were described.
    #[serde(default)]
    pub(crate) uplinks: Vec<UplinkStopped>,
}

/// What the new switch says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// All that was described is adopted: the rings may stop.
    Ready,
    /// So is where they stand. The uplinks are to be closed, for it to open.
    Taken,
    /// The same, but that it goes on with the uplinks of these ports. Only said if there are some.
    TakenWith(Vec<String>),
    /// They run.
    Running,
    /// It cannot be.
    Refused(String),
}

/// What the old switch says besides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Word {
    /// The rings are the new one's.
    Yours,
    /// So are the interfaces of the other uplinks.
    Closed,
}

/// An entry of the filtering database that was learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LearnedEntry {
    pub(crate) mac: String,
    pub(crate) vlan: u16,
    pub(crate) port: String,
    pub(crate) age_seconds: u32,
}

/// A listening socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ListenerState {
    pub(crate) descriptor: usize,
    pub(crate) path: PathBuf,
    /// Device and inode of its file.
    pub(crate) identity: (u64, u64),
}

/// A guest's port.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuestPortState {
    pub(crate) port: String,
    /// None if the front end listens.
    pub(crate) listener: Option<ListenerState>,
    pub(crate) session: Option<SessionState>,
    pub(crate) sessions: u64,
    pub(crate) guest: GuestState,
}

/// A conversation with a front end.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SessionState {
    pub(crate) descriptor: usize,
    #[serde(default)]
    pub(crate) is_owned: bool,
    pub(crate) protocol_features: u64,
    #[serde(default)]
    pub(crate) channel: Option<usize>,
    pub(crate) unfinished: Vec<u8>,
    pub(crate) unfinished_descriptors: Vec<usize>,
    pub(crate) unsent: Vec<u8>,
}

/// What a front end has said.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct GuestState {
    pub(crate) features: u64,
    /// Offloads are on offer to it whatever the port says.
    pub(crate) offers_again: bool,
    pub(crate) status: u8,
    pub(crate) mtu: Option<u16>,
    pub(crate) regions: Vec<RegionState>,
    /// Those of queue pairs.
    pub(crate) rings: Vec<RingState>,
    /// The one behind them, which may be the control queue.
    #[serde(default)]
    pub(crate) last_ring: Option<RingState>,
    #[serde(default)]
    pub(crate) orders: Option<OrderState>,
}

/// What a driver has ordered on its control queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct OrderState {
    pub(crate) filters_vlans: bool,
    /// As the driver would give them (VIRTIO 1.2, 5.1.6.5), without acknowledgement.
    pub(crate) commands: Vec<Vec<u8>>,
}

/// A region of guest memory.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RegionState {
    pub(crate) guest_address: u64,
    pub(crate) size_bytes: u64,
    pub(crate) user_address: u64,
    pub(crate) mmap_offset: u64,
    pub(crate) descriptor: usize,
}

/// What a front end has said of a ring.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RingState {
    pub(crate) size: Option<u32>,
    /// Descriptor table, available ring, used ring.
    pub(crate) addresses: Option<[u64; 3]>,
    /// A kick was set, perhaps to none.
    pub(crate) is_kicked: bool,
    pub(crate) kick: Option<usize>,
    pub(crate) call: Option<usize>,
    pub(crate) err: Option<usize>,
    pub(crate) is_enabled: bool,
}

/// Where a ring has stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RingStopped {
    /// As in GET_VRING_BASE.
    pub(crate) base: u32,
    /// Its guest broke the rules: it stays as it is until the front end starts it anew.
    pub(crate) is_broken: bool,
}

/// The memory of uplinks' frames.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UmemFile {
    pub(crate) state: UmemState,
    pub(crate) descriptor: usize,
}

/// An uplink.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UplinkState {
    pub(crate) port: String,
    pub(crate) state: InterfaceState,
    pub(crate) map: usize,
    pub(crate) link: usize,
    pub(crate) promiscuous: usize,
    /// By queue.
    pub(crate) sockets: Vec<usize>,
}

/// Where an uplink has stopped.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct UplinkStopped {
    pub(crate) port: String,
    pub(crate) queues: Vec<QueueState>,
}

/// The open files of a tap.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TapState {
    pub(crate) port: String,
    pub(crate) queues: Vec<usize>,
}
