//! The kinds of work, one file each.

pub(crate) mod growth;
pub(crate) mod guest_pair;
pub(crate) mod guest_wire;
pub(crate) mod handover;
pub(crate) mod idle;
pub(crate) mod latency;
pub(crate) mod memory;
pub(crate) mod qemu;
pub(crate) mod wire;

use crate::samples::OWN;
use crate::systems::System;

/// The most ports that a peer is asked for: OVS-DPDK takes longer to add 512 than it is given.
pub(crate) const MOST_PEER_PORTS: usize = 64;

/// Whether a system is neither Ringway nor another build of it.
pub(crate) fn is_peer(system: &dyn System) -> bool {
    !matches!(system.name(), OWN | "other build")
}
