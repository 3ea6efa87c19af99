//! The virtio-net header in front of every frame (VIRTIO 1.2, 5.1.6), as bytes and as fields.
//!
//! ```text
//!    0       1          2         4          6            8             10            12
//!   │ flags │ gso_type │ hdr_len │ gso_size │ csum_start │ csum_offset │ num_buffers │
//! ```
//!
//! Little-endian. A legacy driver uses its own byte order, which is the same on all machines that
//! this switch runs on. `num_buffers` belongs to the receiveq, which knows how many it filled.

/// Longest header. A legacy one without mergeable buffers ends before `num_buffers`.
const NET_HEADER_BYTES: usize = 12;

/// The fields, as a driver wrote them or as one will read them. Nothing is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), [`DATA_VALID`](Self::DATA_VALID).
    pub flags: u8,
    /// One of the `GSO_` numbers, possibly with [`GSO_ECN`](Self::GSO_ECN).
    pub gso_type: u8,
    /// Length of all headers in bytes. A hint: a device does not rely on it (5.1.6.2.2).
    pub hdr_len: u16,
    /// Payload bytes of each frame that this one is cut into.
    pub gso_size: u16,
    /// First byte that the checksum covers, from the frame's start.
    pub csum_start: u16,
    /// Where the checksum stands, from `csum_start`.
    pub csum_offset: u16,
}

impl NetHeader {
    /// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum is partial.
    pub const NEEDS_CSUM: u8 = 1;
    /// `VIRTIO_NET_HDR_F_DATA_VALID`: the checksum was verified. Only a device says so.
    pub const DATA_VALID: u8 = 2;

    /// `VIRTIO_NET_HDR_GSO_NONE`: not to be cut.
    pub const GSO_NONE: u8 = 0;
    /// `VIRTIO_NET_HDR_GSO_TCPV4`.
    pub const GSO_TCPV4: u8 = 1;
    /// `VIRTIO_NET_HDR_GSO_UDP`: one datagram to be fragmented (UFO).
    pub const GSO_UDP: u8 = 3;
    /// `VIRTIO_NET_HDR_GSO_TCPV6`.
    pub const GSO_TCPV6: u8 = 4;
    /// `VIRTIO_NET_HDR_GSO_UDP_L4`: a train of datagrams (USO).
    pub const GSO_UDP_L4: u8 = 5;
    /// `VIRTIO_NET_HDR_GSO_ECN`: the first segment has CWR set. Together with TCP only.
    pub const GSO_ECN: u8 = 0x80;

    /// Reads the fields. A legacy header's last two bytes may be anything.
    #[must_use]
    #[inline]
    pub const fn from_bytes(bytes: &[u8; NET_HEADER_BYTES]) -> Self {
        let &[flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1, _, _] = bytes;
        Self {
            flags,
            gso_type,
            hdr_len: u16::from_le_bytes([h0, h1]),
            gso_size: u16::from_le_bytes([g0, g1]),
            csum_start: u16::from_le_bytes([s0, s1]),
            csum_offset: u16::from_le_bytes([o0, o1]),
        }
    }

    /// The bytes that go in front of a frame which takes `num_buffers` receive buffers.
    #[must_use]
    #[inline]
    pub const fn to_bytes(self, num_buffers: u16) -> [u8; NET_HEADER_BYTES] {
        let [h0, h1] = self.hdr_len.to_le_bytes();
        let [g0, g1] = self.gso_size.to_le_bytes();
        let [s0, s1] = self.csum_start.to_le_bytes();
        let [o0, o1] = self.csum_offset.to_le_bytes();
        let [n0, n1] = num_buffers.to_le_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1, n0, n1]
    }

    /// The same as numbers: the first eight bytes, then the last four.
    #[must_use]
    #[inline]
    pub(crate) fn to_words(self, num_buffers: u16) -> (u64, u32) {
        let first = u64::from(self.flags)
            | u64::from(self.gso_type) << 8
            | u64::from(self.hdr_len) << 16
            | u64::from(self.gso_size) << 32
            | u64::from(self.csum_start) << 48;
        (first, u32::from(self.csum_offset) | u32::from(num_buffers) << 16)
    }

    /// Says whether the frame is to be taken as it is. The first thing to ask: most are.
    #[must_use]
    #[inline]
    pub const fn is_plain(&self) -> bool {
        self.gso_type == Self::GSO_NONE && self.flags & (Self::NEEDS_CSUM | Self::DATA_VALID) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_lie_where_the_standard_has_them() {
        let bytes = [1, 4, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b];

        let header = NetHeader::from_bytes(&bytes);

        assert_eq!((header.flags, header.gso_type), (1, 4));
        assert_eq!((header.hdr_len, header.gso_size), (0x0302, 0x0504));
        assert_eq!((header.csum_start, header.csum_offset), (0x0706, 0x0908));
        assert_eq!(header.to_bytes(0x0b0a), bytes);
        assert_eq!(header.to_words(0x0b0a), (0x0706_0504_0302_0401, 0x0b0a_0908));
    }
}
