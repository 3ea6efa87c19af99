//! Feature bits that a driver and this device agreed on (VIRTIO 1.2, 5.1.3 and 6), and what
//! follows from them for the layout of a buffer.
//!
//! Only the bits that change how a queue is worked are named here. A [`Features`] holds what the
//! driver acknowledged, as SET_FEATURES gives it; unknown bits are kept and ignored.

use std::fmt;
use std::ops::BitOr;

/// Acknowledged feature bits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Features(pub u64);

impl Features {
    /// No bits at all: a legacy driver that accepted nothing.
    pub const NONE: Self = Self(0);
    /// The device completes partial checksums (5.1.3, bit 0).
    pub const NET_CSUM: Self = Self(1 << 0);
    /// The driver completes partial checksums, and trusts those marked valid (5.1.3, bit 1).
    pub const NET_GUEST_CSUM: Self = Self(1 << 1);
    /// Offloads for received frames can be switched by the control queue (5.1.3, bit 2).
    pub const NET_CTRL_GUEST_OFFLOADS: Self = Self(1 << 2);
    /// The driver takes an MTU from the device (5.1.3, bit 3).
    pub const NET_MTU: Self = Self(1 << 3);
    /// The driver takes large TCP frames over IPv4 (5.1.3, bit 7).
    pub const NET_GUEST_TSO4: Self = Self(1 << 7);
    /// The driver takes large TCP frames over IPv6 (5.1.3, bit 8).
    pub const NET_GUEST_TSO6: Self = Self(1 << 8);
    /// The driver takes large TCP frames with CWR set (5.1.3, bit 9).
    pub const NET_GUEST_ECN: Self = Self(1 << 9);
    /// The driver takes UDP datagrams to be fragmented (5.1.3, bit 10).
    pub const NET_GUEST_UFO: Self = Self(1 << 10);
    /// The device takes large TCP frames over IPv4 (5.1.3, bit 11).
    pub const NET_HOST_TSO4: Self = Self(1 << 11);
    /// The device takes large TCP frames over IPv6 (5.1.3, bit 12).
    pub const NET_HOST_TSO6: Self = Self(1 << 12);
    /// The device takes large TCP frames with CWR set (5.1.3, bit 13).
    pub const NET_HOST_ECN: Self = Self(1 << 13);
    /// The device takes UDP datagrams to be fragmented (5.1.3, bit 14).
    pub const NET_HOST_UFO: Self = Self(1 << 14);
    /// A frame may take several receive buffers (5.1.3, bit 15).
    pub const NET_MRG_RXBUF: Self = Self(1 << 15);
    /// The device can announce the link's state (5.1.3, bit 16).
    pub const NET_STATUS: Self = Self(1 << 16);
    /// There is a control queue (5.1.3, bit 17).
    pub const NET_CTRL_VQ: Self = Self(1 << 17);
    /// It takes receive modes and address tables (5.1.3, bit 18).
    pub const NET_CTRL_RX: Self = Self(1 << 18);
    /// It takes a VLAN filter (5.1.3, bit 19).
    pub const NET_CTRL_VLAN: Self = Self(1 << 19);
    /// It takes more receive modes (5.1.3, bit 20).
    pub const NET_CTRL_RX_EXTRA: Self = Self(1 << 20);
    /// Several queue pairs (5.1.3, bit 22).
    pub const NET_MQ: Self = Self(1 << 22);
    /// The driver can announce itself when asked to (5.1.3, bit 21).
    pub const NET_GUEST_ANNOUNCE: Self = Self(1 << 21);
    /// The control queue takes another address of the driver's own (5.1.3, bit 23).
    pub const NET_CTRL_MAC_ADDR: Self = Self(1 << 23);
    /// The driver takes trains of UDP datagrams over IPv4 (5.1.3, bit 54).
    pub const NET_GUEST_USO4: Self = Self(1 << 54);
    /// The driver takes trains of UDP datagrams over IPv6 (5.1.3, bit 55).
    pub const NET_GUEST_USO6: Self = Self(1 << 55);
    /// The device takes trains of UDP datagrams (5.1.3, bit 56).
    pub const NET_HOST_USO: Self = Self(1 << 56);
    /// All that leaves checksums or segmentation to the other side, and is understood here.
    pub const OFFLOADS: Self = Self(
        Self::NET_CSUM.0
            | Self::NET_GUEST_CSUM.0
            | Self::NET_HOST_TSO4.0
            | Self::NET_HOST_TSO6.0
            | Self::NET_HOST_ECN.0
            | Self::NET_HOST_USO.0
            | Self::NET_GUEST_TSO4.0
            | Self::NET_GUEST_TSO6.0
            | Self::NET_GUEST_ECN.0
            | Self::NET_GUEST_USO4.0
            | Self::NET_GUEST_USO6.0,
    );
    /// What the driver takes beside ready frames, which GUEST_OFFLOADS_SET switches (5.1.6.5.6.1).
    pub const GUEST_OFFLOADS: Self = Self(
        Self::NET_GUEST_CSUM.0
            | Self::NET_GUEST_TSO4.0
            | Self::NET_GUEST_TSO6.0
            | Self::NET_GUEST_ECN.0
            | Self::NET_GUEST_UFO.0
            | Self::NET_GUEST_USO4.0
            | Self::NET_GUEST_USO6.0,
    );
    /// The control queue and what its commands need, but for those that go with others.
    pub const CONTROL: Self = Self(
        Self::NET_CTRL_VQ.0
            | Self::NET_CTRL_RX.0
            | Self::NET_CTRL_RX_EXTRA.0
            | Self::NET_CTRL_VLAN.0
            | Self::NET_CTRL_MAC_ADDR.0,
    );
    /// Writes are to be logged for migration (vhost-user, bit 26).
    pub const LOG_ALL: Self = Self(1 << 26);
    /// Legacy only: buffers may be cut anywhere (6.3, bit 27).
    pub const ANY_LAYOUT: Self = Self(1 << 27);
    /// Indirect descriptor tables (2.7.5.3; bit 28).
    pub const RING_INDIRECT_DESC: Self = Self(1 << 28);
    /// `used_event` and `avail_event` (2.7.7 and 2.7.10; bit 29).
    pub const RING_EVENT_IDX: Self = Self(1 << 29);
    /// The front end talks about protocol features (vhost-user, bit 30).
    pub const PROTOCOL_FEATURES: Self = Self(1 << 30);
    /// Packed rings (2.8; bit 34).
    pub const RING_PACKED: Self = Self(1 << 34);
    /// Buffers go back in the order in which they were made available (6; bit 35).
    pub const IN_ORDER: Self = Self(1 << 35);
    /// VIRTIO 1.0 or later, not a legacy driver (6, bit 32).
    pub const VERSION_1: Self = Self(1 << 32);

    /// Says whether every bit of `other` is set.
    #[must_use]
    #[inline]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Length of the header in front of every frame (5.1.6): 12 bytes with `num_buffers`, 10
    /// for a legacy driver without mergeable buffers (5.1.6.1).
    #[must_use]
    #[inline]
    pub const fn net_header_bytes(self) -> usize {
        if self.contains(Self::VERSION_1) || self.contains(Self::NET_MRG_RXBUF) { 12 } else { 10 }
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Features({:#x})", self.0)
    }
}

impl fmt::Display for Features {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legacy_header_has_ten_bytes_unless_buffers_merge() {
        assert_eq!(Features::NONE.net_header_bytes(), 10);
        assert_eq!(Features(0x7000_0000).net_header_bytes(), 10);
        assert_eq!(Features(0x7000_8000).net_header_bytes(), 12);
        assert_eq!(Features::NET_MRG_RXBUF.net_header_bytes(), 12);
    }

    #[test]
    fn modern_header_has_twelve_bytes_either_way() {
        assert_eq!(Features::VERSION_1.net_header_bytes(), 12);
        assert_eq!((Features::VERSION_1 | Features::NET_MRG_RXBUF).net_header_bytes(), 12);
    }
}
