//! The words every other crate speaks: addresses and VLAN tags, a frame's private header, the
//! places where its payload lies, the burst, and the reasons for which frames are dropped.
//!
//! A frame is never gathered into one buffer on its way through. Its first bytes are copied into
//! a private [`Header`] once, on ingress; everything that is checked or changed is that copy. The
//! rest stays where it lies, described by [`Segment`]s, until the one copy at egress, where an
//! [`Outgoing`] (private head, then segments) is written into [`Room`]s; a [`Completing`] one sums
//! its payload on the way and gets its head last, and a [`Joined`] one has several payloads. What a
//! system call is to take from where it lies is [`Gathered`].
//!
//! ```text
//!   guest buffer or UMEM chunk            Burst                         egress
//!  ┌────────┬──────────────────┐   ┌─────────────────┐        ┌────────┬──────────────────┐
//!  │ head   │ payload          │──▶│ Header (copied) │──┬────▶│ head   │ payload          │
//!  └────────┴──────────────────┘   │ Segments ───────┼──┘     └────────┴──────────────────┘
//!                  ▲               └───────┬─────────┘
//!                  └───────────────────────┘ (points to)
//! ```

#![deny(unsafe_code)]

mod address;
mod burst;
mod checksum;
mod completing;
mod drop_reason;
mod header;
mod joined;
mod offload;
mod prefetch;
mod segment;
mod set_bits;

pub use address::{InvalidVlanId, MacAddr, ParseMacAddrError, VlanId, VlanTag};
pub use burst::{BURST_BYTES, BURST_FRAMES, Burst, Frame, Frames, Intake, Origin, SegmentRange};
pub use checksum::Sum;
pub use completing::{Completing, Place, Zero};
pub use drop_reason::{Direction, DropCounts, DropReason};
pub use header::{HEADER_BYTES, Header, TAG_BYTES, Way};
pub use joined::Joined;
pub use offload::{Checksum, Offload, Segmentation, SegmentationKind};
pub use prefetch::{CACHE_LINE_BYTES, prefetch, prefetch_for_writing};
pub use segment::{Gathered, Outgoing, Reader, Room, Segment, Simple};
pub use set_bits::SetBits;

/// Shortest frame that has an Ethernet header: two addresses and a type.
pub const ETHERNET_HEADER_BYTES: usize = 14;

/// Longest frame taken from or sent to a wire, with its Ethernet header and without tag or FCS:
/// a 9,202-byte MTU. The limit that the design plans for.
pub const MAX_FRAME_BYTES: usize = 9_216;

/// Longest frame of all, with its Ethernet header and without tag: a large frame of IPv6, whose
/// length field counts what is behind its header of 40 bytes. Such are cut before a wire has them.
pub const MAX_LARGE_FRAME_BYTES: usize = ETHERNET_HEADER_BYTES + 40 + 65_535;

/// Shortest frame on a wire, without FCS (802.3, 3.2.8): shorter ones are padded.
pub const MIN_WIRE_FRAME_BYTES: usize = 60;

/// Most ports a switch has; a slot number is below it.
pub const MAX_PORTS: usize = 1_024;

/// A port: its place in the port tables, and which tenant of that place is meant.
///
/// A slot is used again after its port is removed, with the next generation: whoever holds an
/// old `PortId` finds that the generation differs and drops the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId {
    /// Below [`MAX_PORTS`].
    pub slot: u16,
    /// Counts the tenants of this slot.
    pub generation: u32,
}
