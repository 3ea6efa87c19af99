//! What the data path is started with.

use std::sync::Arc;

use bridge::Fdb;
use frame::{ETHERNET_HEADER_BYTES, MAX_FRAME_BYTES};
use virtio::Features;
use virtio::control::ReceiveFilter;

/// What a poll thread does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollMode {
    /// Queues without work ask for notifications, and a thread whose queues all do sleeps.
    #[default]
    Adaptive,
    /// Every queue is polled for ever; the core is never given up.
    Always,
}

/// How a port is set, beside its VLANs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortTraits {
    /// Longest frame that it takes and gets, in bytes with Ethernet header and without tag: its
    /// MTU and 14. Of a large frame that is to be cut, the pieces count.
    pub limit_bytes: u32,
    /// Frames may go to it with their checksum or their segmentation left to do, as far as its
    /// driver takes that.
    pub has_offloads: bool,
}

impl PortTraits {
    /// The MTU that goes with it, in bytes.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    pub const fn mtu(self) -> u32 {
        self.limit_bytes.saturating_sub(ETHERNET_HEADER_BYTES as u32)
    }
}

impl Default for PortTraits {
    fn default() -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "9,216")]
        let limit_bytes = MAX_FRAME_BYTES as u32;
        Self { limit_bytes, has_offloads: true }
    }
}

/// What a guest's driver has ordered of the frames for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reception {
    /// Which frames it gets; `None`: all.
    pub filter: Option<Arc<ReceiveFilter>>,
    /// What it takes beside ready frames, of what it has negotiated.
    pub offloads: Features,
}

impl Default for Reception {
    fn default() -> Self {
        Self { filter: None, offloads: Features::GUEST_OFFLOADS }
    }
}

/// What the data path is started with.
#[derive(Debug)]
pub struct Settings {
    /// The cores to run on, one poll thread each; at least one, at most
    /// [`MAX_THREADS`](crate::MAX_THREADS).
    pub cores: Vec<usize>,
    /// What an idle thread does.
    pub poll: PollMode,
    /// The filtering database that all threads learn into.
    pub fdb: Arc<Fdb>,
}
