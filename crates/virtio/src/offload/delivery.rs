//! How a frame goes to one receiver: what of the work that is left to do it takes over.
//!
//! | the frame              | receiver without GUEST_CSUM | with it | with the bit of its kind, too |
//! |------------------------|-----------------------------|---------|-------------------------------|
//! | is ready               | whole                       | whole   | whole                         |
//! | has a partial checksum | completed                   | whole   | whole                         |
//! | is large               | cut                         | cut     | whole                         |
//!
//! A large frame with CWR set goes whole only if the receiver has GUEST_ECN, too (VIRTIO 1.2,
//! 5.1.3.1). What goes whole to a receiver with offloads carries a net header that says so
//! (5.1.6.4.1).

use frame::{Checksum, Offload, SegmentationKind, TAG_BYTES};

use super::NetHeader;
use crate::Features;

#[expect(clippy::cast_possible_truncation, reason = "four")]
pub(super) const TAG_BYTES_16: u16 = TAG_BYTES as u16;

/// What the other side of a port takes beside ready frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receiver(Features);

impl Receiver {
    /// Takes ready frames only: a wire, or a driver without offloads.
    pub const PLAIN: Self = Self(Features::NONE);

    /// A driver that acknowledged these features. The large frames depend on GUEST_CSUM
    /// (5.1.3.1): without it none are taken.
    #[must_use]
    pub const fn new(features: Features) -> Self {
        if features.contains(Features::NET_GUEST_CSUM) { Self(features) } else { Self::PLAIN }
    }

    /// Says whether it takes partial checksums.
    #[must_use]
    pub const fn takes_checksums(self) -> bool {
        self.0.contains(Features::NET_GUEST_CSUM)
    }

    /// Says whether it takes this kind of large frame, with CWR set or not.
    #[must_use]
    pub const fn takes(self, kind: SegmentationKind, has_cwr: bool) -> bool {
        let bit = match kind {
            SegmentationKind::Tcp4 => Features::NET_GUEST_TSO4,
            SegmentationKind::Tcp6 => Features::NET_GUEST_TSO6,
            SegmentationKind::Udp4 => Features::NET_GUEST_USO4,
            SegmentationKind::Udp6 => Features::NET_GUEST_USO6,
        };
        self.0.contains(bit) && (!has_cwr || self.0.contains(Features::NET_GUEST_ECN))
    }

    /// Says whether it takes large TCP frames of any kind.
    #[must_use]
    #[inline]
    pub const fn takes_large_tcp(self) -> bool {
        self.takes(SegmentationKind::Tcp4, false) || self.takes(SegmentationKind::Tcp6, false)
    }

    /// How a frame with this left to do goes to it, with or without a tag.
    #[must_use]
    #[inline]
    pub fn delivery(self, offload: &Offload, is_tagged: bool) -> Delivery {
        match offload.segmentation {
            _ if !self.takes_checksums() && offload.is_ready() => {
                Delivery::Whole(NetHeader::default())
            }
            Some(cut) if !self.takes(cut.kind, cut.has_cwr) => Delivery::Cut,
            _ if !self.takes_checksums() => Delivery::Completed,
            Some(_) | None => Delivery::Whole(NetHeader::of(offload, is_tagged)),
        }
    }
}

/// How a frame goes to one receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// As it lies, with this net header in front.
    Whole(NetHeader),
    /// In one piece, its checksum completed: [`complete`](super::complete()).
    Completed,
    /// In several: [`Segments`](super::Segments).
    Cut,
}

impl NetHeader {
    /// The net header of a frame as it lies, for a receiver that takes all that is left to do.
    #[must_use]
    pub fn of(offload: &Offload, is_tagged: bool) -> Self {
        let shift = if is_tagged { TAG_BYTES_16 } else { 0 };
        let mut net_header = match offload.checksum {
            Checksum::Unknown => Self::default(),
            Checksum::Valid => Self { flags: Self::DATA_VALID, ..Self::default() },
            Checksum::Partial { start, offset } => Self {
                flags: Self::NEEDS_CSUM,
                csum_start: start.saturating_add(shift),
                csum_offset: offset,
                ..Self::default()
            },
        };
        if let Some(cut) = offload.segmentation {
            net_header.gso_type = match cut.kind {
                SegmentationKind::Tcp4 => Self::GSO_TCPV4,
                SegmentationKind::Tcp6 => Self::GSO_TCPV6,
                SegmentationKind::Udp4 | SegmentationKind::Udp6 => Self::GSO_UDP_L4,
            };
            net_header.gso_type |= if cut.has_cwr { Self::GSO_ECN } else { 0 };
            net_header.gso_size = cut.size.get();
            net_header.hdr_len = offload.header_bytes.saturating_add(shift);
        }
        net_header
    }
}
