//! The bridge: which VLAN a frame belongs to, behind which port its destination lies, and where it
//! may therefore go. IEEE 802.1Q-2018, 6.9 (tags), 8.6 (forwarding), 8.7 (learning), 8.8
//! (filtering database).
//!
//! ```text
//!               one per poll thread                          shared by all
//!   ┌───────────────────────────────────────┐      ┌────────────────────────────┐
//!   │ Bridge                                │      │ Fdb                        │
//!   │  ports: VlanPolicy, last source seen  │─────▶│  (VLAN, address) → port    │
//!   │  VLANs: PortSet of members            │      │  64-byte buckets, lock-free│
//!   └───────────────────────────────────────┘      └────────────────────────────┘
//! ```
//!
//! Pure logic: no input or output, no clock, no threads, no `unsafe`. Time is a parameter, so that
//! a test can let an hour pass in a line. Configuration is copied into every thread's [`Bridge`],
//! so that a decision reads nothing that another thread writes, but for the one word of the
//! filtering database that it is after.

#![forbid(unsafe_code)]

mod fdb;
mod forward;
mod port_set;
mod vlan;

pub use fdb::{
    DEFAULT_ADDRESSES, DEFAULT_AGEING, Entry, Fdb, FdbStatistics, Flush, Learned, MAX_ADDRESSES,
    SlotStatistics, StaticEntryError,
};
pub use forward::{Bridge, Decision, Decisions, Egress, Forward, Run};
pub use port_set::PortSet;
pub use vlan::{ParseVlanSetError, VlanPolicy, VlanSet};

/// Whole seconds of a clock that only runs forward, counted from any moment: the process's start.
/// The caller reads the clock, once a turn; threads' readings may differ by a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seconds(pub u32);
