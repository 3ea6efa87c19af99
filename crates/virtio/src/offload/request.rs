//! What a sender wants done to a frame, checked: from the net header to an [`Offload`].
//!
//! The rules are those of VIRTIO 1.2, 5.1.6.2, and where it leaves a choice, those of Linux
//! (`virtio_net_hdr_to_skb`), which guests are tested against:
//!
//! | net header says                                         | what becomes of the frame        |
//! |---------------------------------------------------------|----------------------------------|
//! | an offload that was not negotiated                      | dropped: `offload_not_negotiated` |
//! | unknown `gso_type`; ECN without TCP                     | dropped: `offload_invalid`       |
//! | `gso_size` 0 or 65535; more segments than allowed       | dropped                          |
//! | `gso_type` without NEEDS_CSUM (5.1.6.2.1: MUST)         | dropped                          |
//! | another `gso_type` than the frame's protocol; fragments | dropped                          |
//! | checksum outside of the frame, or in the MAC addresses  | dropped                          |
//! | payload not longer than `gso_size`, as far as is known  | checksum only                    |
//! | DATA_VALID from a driver                                | ignored (5.1.6.2.2)              |
//! | any `hdr_len`                                           | ignored; a right one goes on     |
//!
//! Linux is laxer in one thing: it takes TCP without NEEDS_CSUM, and looks for the checksum itself.

use std::num::NonZeroU16;

use frame::{
    Checksum, DropReason, ETHERNET_HEADER_BYTES, Header, Offload, Segmentation, SegmentationKind,
};

use super::NetHeader;
use super::delivery::TAG_BYTES_16;
use super::layers::{
    Layers, TCP, TCP_BYTES, TCP_CHECKSUM, UDP, UDP_BYTES, UDP_CHECKSUM, Unknown, Version,
};
use crate::Features;

/// Most frames that TCP is cut into: 64 KiB by the smallest segment that Linux sends (48 bytes,
/// `TCP_MIN_SND_MSS`). What a hostile `gso_size` of 1 can cause stays within it.
const MAX_TCP_SEGMENTS: usize = 1_366;

/// Most frames that a train of datagrams is cut into: `UDP_MAX_SEGMENTS` of Linux.
const MAX_UDP_SEGMENTS: usize = 128;

/// `GSO_BY_FRAGS` of Linux, which means something else there; guests could reach another.
const RESERVED_SIZE: u16 = 0xffff;

/// Longest TCP header.
const MAX_TCP_BYTES: usize = 60;

/// Who sends a frame with a net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// What it may ask for: the `NET_CSUM` and `NET_HOST_` bits.
    pub features: Features,
    /// It vouches for checksums: DATA_VALID counts. The host's kernel, through a tap, does; a
    /// driver does not.
    pub is_host: bool,
}

/// What the protocols of a kind of large frame say of it.
pub(super) trait Protocols: Copy {
    /// The Internet Protocol's version.
    fn version(self) -> Version;
    /// The number of the transport protocol.
    fn protocol(self) -> u8;
    /// Most frames that one is cut into.
    fn most_frames(self) -> usize;
    /// Length of the shortest transport header, and where the checksum stands in it.
    fn transport(self) -> (usize, usize);
}

impl Protocols for SegmentationKind {
    fn version(self) -> Version {
        match self {
            Self::Tcp4 | Self::Udp4 => Version::V4,
            Self::Tcp6 | Self::Udp6 => Version::V6,
        }
    }

    fn protocol(self) -> u8 {
        if self.is_tcp() { TCP } else { UDP }
    }

    fn most_frames(self) -> usize {
        if self.is_tcp() { MAX_TCP_SEGMENTS } else { MAX_UDP_SEGMENTS }
    }

    fn transport(self) -> (usize, usize) {
        if self.is_tcp() { (TCP_BYTES, TCP_CHECKSUM) } else { (UDP_BYTES, UDP_CHECKSUM) }
    }
}

/// What a driver must have acknowledged to ask for it (5.1.6.2.1).
fn feature(segmentation: Segmentation) -> Features {
    let kind = match segmentation.kind {
        SegmentationKind::Tcp4 => Features::NET_HOST_TSO4,
        SegmentationKind::Tcp6 => Features::NET_HOST_TSO6,
        SegmentationKind::Udp4 | SegmentationKind::Udp6 => Features::NET_HOST_USO,
    };
    if segmentation.has_cwr { kind | Features::NET_HOST_ECN } else { kind }
}

/// Checks what `net_header` asks for against who asks, and the frame: its private header and
/// its length in bytes without tag. `csum_start` counts the tag that the frame came with.
///
/// # Errors
///
/// [`DropReason::OffloadNotNegotiated`], [`DropReason::OffloadInvalid`]: see the table above.
#[inline(never)]
pub fn interpret(
    net_header: &NetHeader,
    sender: Sender,
    header: &Header,
    frame_bytes: usize,
) -> Result<Offload, DropReason> {
    if net_header.is_plain() {
        return Ok(Offload::NONE);
    }
    let has_partial = net_header.flags & NetHeader::NEEDS_CSUM != 0;
    let asks = has_partial || net_header.gso_type != NetHeader::GSO_NONE;
    // All others depend on it (5.1.3.1).
    if asks && !sender.features.contains(Features::NET_CSUM) {
        return Err(DropReason::OffloadNotNegotiated);
    }
    let asked = requested(net_header, header)?;
    let checksum = if has_partial {
        partial(net_header, header, frame_bytes)?
    } else if sender.is_host && net_header.flags & NetHeader::DATA_VALID != 0 {
        Checksum::Valid
    } else {
        Checksum::Unknown
    };
    let Some(segmentation) = asked else { return Ok(Offload { checksum, ..Offload::NONE }) };
    if !sender.features.contains(feature(segmentation)) {
        return Err(DropReason::OffloadNotNegotiated);
    }
    let (least_bytes, most_bytes) = headers(segmentation.kind, checksum, header, frame_bytes)?;
    // Or the frame ends in its headers.
    let payload_bytes = frame_bytes.checked_sub(least_bytes).ok_or(INVALID)?;
    let size = usize::from(segmentation.size.get());
    if payload_bytes.div_ceil(size) > segmentation.kind.most_frames() {
        return Err(INVALID);
    }
    // "Too small packets are not really GSO ones", says Linux.
    let segmentation = (payload_bytes > size).then_some(segmentation);
    let header_bytes = u16::try_from(most_bytes.min(frame_bytes)).unwrap_or(u16::MAX);
    Ok(Offload { checksum, segmentation, header_bytes })
}

const INVALID: DropReason = DropReason::OffloadInvalid;

/// The segmentation that a net header asks for, if it names one that exists.
fn requested(net_header: &NetHeader, header: &Header) -> Result<Option<Segmentation>, DropReason> {
    if net_header.gso_type == NetHeader::GSO_NONE {
        return Ok(None);
    }
    let has_cwr = net_header.gso_type & NetHeader::GSO_ECN != 0;
    let version = Version::of_ether_type(header.ether_type()).ok_or(INVALID)?;
    let kind = match (net_header.gso_type & !NetHeader::GSO_ECN, version) {
        (NetHeader::GSO_TCPV4, Version::V4) => SegmentationKind::Tcp4,
        (NetHeader::GSO_TCPV6, Version::V6) => SegmentationKind::Tcp6,
        (NetHeader::GSO_UDP_L4, Version::V4) if !has_cwr => SegmentationKind::Udp4,
        (NetHeader::GSO_UDP_L4, Version::V6) if !has_cwr => SegmentationKind::Udp6,
        // See the module `offload`.
        (NetHeader::GSO_UDP, _) => return Err(DropReason::OffloadNotNegotiated),
        _ => return Err(INVALID),
    };
    let size = NonZeroU16::new(net_header.gso_size).ok_or(INVALID)?;
    if net_header.gso_size == RESERVED_SIZE {
        return Err(INVALID);
    }
    Ok(Some(Segmentation { kind, size, has_cwr }))
}

/// The place of a partial checksum, which must lie in the frame and behind its Ethernet header.
fn partial(
    net_header: &NetHeader,
    header: &Header,
    frame_bytes: usize,
) -> Result<Checksum, DropReason> {
    let tag_bytes = if header.tag().is_some() { TAG_BYTES_16 } else { 0 };
    let start = net_header.csum_start.checked_sub(tag_bytes).ok_or(INVALID)?;
    let offset = net_header.csum_offset;
    let end = usize::from(start) + usize::from(offset) + 2;
    if usize::from(start) < ETHERNET_HEADER_BYTES || end > frame_bytes {
        return Err(INVALID);
    }
    Ok(Checksum::Partial { start, offset })
}

/// Checks a large frame's headers, as far as they are in the private header. Returns the least
/// and the most that they can be long, in bytes.
fn headers(
    kind: SegmentationKind,
    checksum: Checksum,
    header: &Header,
    frame_bytes: usize,
) -> Result<(usize, usize), DropReason> {
    // "[...] the driver MUST also set the VIRTIO_NET_HDR_F_NEEDS_CSUM bit" (5.1.6.2.1).
    let Checksum::Partial { start, offset } = checksum else { return Err(INVALID) };
    let start = usize::from(start);
    let (transport_bytes, field) = kind.transport();
    let least_bytes = start + transport_bytes;
    let shortest = ETHERNET_HEADER_BYTES + kind.version().header_bytes();
    if usize::from(offset) != field || start < shortest {
        return Err(INVALID);
    }
    let bytes = header.untagged();
    let goes_on = frame_bytes > bytes.len();
    let layers = match Layers::parse(bytes, 12) {
        Ok(layers) => layers,
        // Whoever cuts the frame looks behind the private header.
        Err(Unknown::Truncated) if goes_on => return Ok((least_bytes, start + MAX_TCP_BYTES)),
        Err(Unknown::Truncated | Unknown::Malformed) => return Err(INVALID),
    };
    // The version is the one of the EtherType, which `requested` looked at.
    if layers.protocol != kind.protocol() || layers.transport != start || layers.is_fragment {
        return Err(INVALID);
    }
    match layers.payload(bytes) {
        Ok(payload) => Ok((payload, payload)),
        Err(Unknown::Truncated) if goes_on => Ok((least_bytes, start + MAX_TCP_BYTES)),
        Err(Unknown::Truncated | Unknown::Malformed) => Err(INVALID),
    }
}

#[cfg(test)]
mod tests;
