//! What is left to do to a frame before a wire can have it: facts that travel with the frame.
//!
//! They are made on ingress from a net header, checked there against the private header, and used
//! at egress, once for each copy. Places are those of the frame without tag, so they hold whatever
//! tag a copy leaves with.

use std::num::NonZeroU16;

use crate::MAX_FRAME_BYTES;

/// What is known of a frame's transport checksum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksum {
    /// Nothing: it is in the frame, right or wrong.
    #[default]
    Unknown,
    /// It is in the frame, and was verified.
    Valid,
    /// The field holds the pseudo-header's sum; the rest is to be added. Both in bytes, of the
    /// frame without tag, and within it.
    Partial {
        /// First byte that it covers, behind the Ethernet header.
        start: u16,
        /// Where it stands, from there.
        offset: u16,
    },
}

/// What a large frame is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP segments over IPv4 (TSO).
    Tcp4,
    /// TCP segments over IPv6.
    Tcp6,
    /// UDP datagrams over IPv4 (USO).
    Udp4,
    /// UDP datagrams over IPv6.
    Udp6,
}

impl SegmentationKind {
    /// Says whether it is TCP; else it is UDP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp4 | Self::Tcp6)
    }
}

/// How a large frame is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segmentation {
    /// Into what.
    pub kind: SegmentationKind,
    /// Payload bytes of each piece but the last.
    pub size: NonZeroU16,
    /// CWR is set in the first piece and to be cleared in the others.
    pub has_cwr: bool,
}

/// What is left to do to a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Offload {
    /// Its transport checksum.
    pub checksum: Checksum,
    /// To be cut, if the receiver does not take it whole. Its checksum is partial then.
    pub segmentation: Option<Segmentation>,
    /// Not less than the length of its headers without tag, if it is to be cut.
    pub header_bytes: u16,
}

impl Offload {
    /// Nothing is left to do, and nothing is known.
    pub const NONE: Self =
        Self { checksum: Checksum::Unknown, segmentation: None, header_bytes: 0 };

    /// Nothing is left to do, for the checksum was verified.
    pub const VALID: Self = Self { checksum: Checksum::Valid, ..Self::NONE };

    /// Says whether a frame of so many bytes without tag is too long with this left to do: for a
    /// wire, unless it is to be cut.
    #[must_use]
    pub const fn is_too_long(&self, length_bytes: usize) -> bool {
        length_bytes > MAX_FRAME_BYTES && self.segmentation.is_none()
    }

    /// Says whether the frame is ready for a wire.
    #[must_use]
    #[inline]
    pub const fn is_ready(&self) -> bool {
        !matches!(self.checksum, Checksum::Partial { .. })
    }

    /// Says whether nothing is left to do and nothing is known: of nearly every frame that is not
    /// TCP between guests.
    #[must_use]
    #[inline]
    pub const fn is_none(&self) -> bool {
        matches!(self.checksum, Checksum::Unknown)
    }

    /// Most frames that a wire gets of one of so many bytes: one, unless it is to be cut.
    #[must_use]
    #[inline]
    pub const fn most_wire_frames(&self, length_bytes: u32) -> u32 {
        match self.segmentation {
            None => 1,
            // Headers count as payload, for TCP's options are not always known.
            Some(cut) => length_bytes.div_ceil(cut.size.get() as u32),
        }
    }

    /// Length of the longest piece of a frame that is to be cut, in bytes, without tag and options
    /// of TCP, which are not always known.
    #[must_use]
    pub fn piece_bytes(&self) -> Option<u32> {
        let (cut, Checksum::Partial { start, .. }) = (self.segmentation?, self.checksum) else {
            return None;
        };
        let transport_bytes = if cut.kind.is_tcp() { 20 } else { 8 };
        Some(u32::from(start) + transport_bytes + u32::from(cut.size.get()))
    }
}
