//! Joining TCP segments that arrived together into one large frame: receive offload in software,
//! by the rules of Linux's GRO (`inet_gro_receive`, `ipv6_gro_receive`, `tcp_gro_receive`).
//!
//! Everything here works on private heads and lengths; which frames are offered to which train,
//! and where their payload lies, is the caller's. It offers the frames of one burst that came in
//! by one port and leave by one, with the same tag, in their order, after their checksums were
//! verified; and a frame that does not join ends the trains of its port, so none overtakes another.
//!
//! ```text
//!   frames   │ head │ payload │   │ head │ payload │   │ head │ payload │      seq 0, 1448, 2896
//!               └──────────────┬──────────┘─ ─ ─ ─ ─ ─ ─ ─ ─ ┘ dropped, but FIN and PSH
//!   train    │ head'│ payload │ payload │ payload │                          seq 0
//! ```
//!
//! A frame is a [`Candidate`] if it is TCP with payload, not a fragment, without IPv4 options,
//! without SYN, RST, URG, CWR; its lengths agree with the frame's (no padding) and its IPv4 header
//! checksum is right. CWR is left alone because it belongs to a counter in Accurate ECN (RFC 9768,
//! 3.2.2), whose steps a large frame could not tell; Linux 6.18 joins no frames that differ in it,
//! either. A candidate joins a train if
//!
//! - MAC addresses, tag, IP addresses, ports, IPv6 flow label and extension headers are the same,
//! - TTL or hop limit, TOS or traffic class, and DF are the same; the IPv4 identification counts
//!   on by one, or with DF stands still in the whole train,
//! - its sequence number is the next, its acknowledgement number, window, options (timestamps
//!   too) and flags but FIN and PSH are the same,
//! - its payload is not longer than the first one's, and the train not longer than IP can say.
//!
//! An identification that stood still counts up if the receiver cuts the frame again: with DF it
//! means nothing (RFC 6864, 4.1). FIN, PSH, or a shorter payload end the train; FIN and PSH go on
//! with it.

use std::num::NonZeroU16;

use frame::{Checksum, Offload, Reader, Segmentation, SegmentationKind, Sum};

use super::Head;
use super::layers::{IPV4_BYTES, IPV6_BYTES, Layers, TCP, TCP_CHECKSUM, Version};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// Where the flags stand in a TCP header.
const TCP_FLAGS: usize = 13;

/// Longest packet, from the IP header on, that a length field can tell.
const MAX_NETWORK_BYTES: usize = 65_535;

/// Don't fragment: of the IPv4 fragment field.
const DF: u16 = 0x4000;

/// Most bytes of a frame that decide whether it joins: Ethernet and a tag, IPv6 with an extension
/// header of eight bytes, TCP with all options (126), in whole cache lines. Gather as many.
pub const CANDIDATE_BYTES: usize = 128;

/// A TCP segment that may begin or join a train.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its headers and nothing behind them.
    bytes: &'a [u8],
    layers: Layers,
    tag_bytes: usize,
    /// Length of its payload.
    payload_bytes: NonZeroU16,
}

impl<'a> Candidate<'a> {
    /// Looks at the head of a frame of `frame_bytes` bytes, both with the same tag or none.
    #[must_use]
    pub fn examine(head: &'a Head, frame_bytes: usize) -> Option<Self> {
        let layers = Layers::parse(head.bytes(), head.ether_type_at()).ok()?;
        if layers.protocol != TCP {
            return None;
        }
        let bytes = layers.headers(head.bytes())?;
        let payload_bytes = u16::try_from(frame_bytes.checked_sub(bytes.len())?).ok()?;
        let is_whole = layers.network_bytes(bytes) == frame_bytes - layers.network;
        let flags = bytes[layers.transport + TCP_FLAGS];
        if !is_whole || flags & (SYN | RST | URG | CWR) != 0 {
            return None;
        }
        if layers.version == Version::V4 && !has_plain_ipv4(bytes, &layers) {
            return None;
        }
        let tag_bytes = head.ether_type_at() - 12;
        Some(Self { bytes, layers, tag_bytes, payload_bytes: NonZeroU16::new(payload_bytes)? })
    }

    /// Length of the headers in bytes, tag included: the payload begins behind them.
    #[must_use]
    pub const fn head_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// What a train of it would be: the receiver must take that, without CWR.
    #[must_use]
    pub const fn kind(&self) -> SegmentationKind {
        match self.layers.version {
            Version::V4 => SegmentationKind::Tcp4,
            Version::V6 => SegmentationKind::Tcp6,
        }
    }

    /// Says whether the TCP checksum is right. Reads all of the payload, which begins behind
    /// [`head_bytes`](Self::head_bytes): once, and the caller remembers it.
    #[must_use]
    pub fn has_valid_checksum(&self, mut payload: Reader<'_>) -> bool {
        let payload_bytes = usize::from(self.payload_bytes.get());
        let mut sum = pseudo_header(self.bytes, &self.layers, payload_bytes);
        sum.add(&self.bytes[self.layers.transport..]);
        payload.sum(payload_bytes, &mut sum) == payload_bytes && sum.checksum() == 0
    }

    const fn flags(&self) -> u8 {
        self.bytes[self.layers.transport + TCP_FLAGS]
    }
}

/// Says whether an IPv4 header has no options, no bits but DF in its fragment field, and its
/// checksum.
fn has_plain_ipv4(bytes: &[u8], layers: &Layers) -> bool {
    let header = &bytes[layers.network..layers.transport];
    let mut sum = Sum::ZERO;
    sum.add(header);
    header.len() == IPV4_BYTES && number(header, 6) & !DF == 0 && sum.checksum() == 0
}

/// The pseudo-header's sum (RFC 9293, 3.1) for these headers and so much payload.
fn pseudo_header(bytes: &[u8], layers: &Layers, payload_bytes: usize) -> Sum {
    let mut sum = Sum::ZERO;
    sum.add_apart(layers.addresses(bytes));
    sum.add_number(u16::from(TCP));
    sum.add_number(as_field(bytes.len() - layers.transport + payload_bytes));
    sum
}

/// Segments of one flow, in sequence, that will leave as one frame.
#[derive(Debug, Clone, Copy)]
pub struct Train {
    /// The headers of the first, until [`finish`](Self::finish) makes the large frame's of them.
    head: Head,
    layers: Layers,
    tag_bytes: usize,
    /// Payload bytes of each but the last.
    size: NonZeroU16,
    kind: SegmentationKind,
    payload_bytes: usize,
    frames: u16,
    /// FIN and PSH of its last.
    flags: u8,
    has_fixed_identification: bool,
    is_open: bool,
}

impl Train {
    /// A train of one frame, whose checksum was verified.
    #[must_use]
    pub fn start(first: &Candidate<'_>) -> Self {
        let flags = first.flags() & (FIN | PSH);
        Self {
            head: Head::of(first.bytes),
            layers: first.layers,
            tag_bytes: first.tag_bytes,
            size: first.payload_bytes,
            kind: first.kind(),
            payload_bytes: first.payload_bytes.get().into(),
            frames: 1,
            flags,
            has_fixed_identification: false,
            is_open: flags == 0,
        }
    }

    /// How many frames it has.
    #[must_use]
    pub const fn frames(&self) -> u16 {
        self.frames
    }

    /// Length of the large frame in bytes, tag included.
    #[must_use]
    pub fn length_bytes(&self) -> usize {
        self.layers.network + self.network_bytes()
    }

    /// Says whether frames may still join. If not, it is to be sent.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.is_open
    }

    /// Adds a frame, whose checksum was verified, if it continues the train. If it does not, the
    /// train is to be sent before it.
    #[must_use]
    pub fn join(&mut self, next: &Candidate<'_>) -> bool {
        let (ours, theirs) = (self.head.bytes(), next.bytes);
        let network = self.layers.network;
        let is_next = self.is_open
            && next.payload_bytes <= self.size
            && self.network_bytes() + usize::from(next.payload_bytes.get()) <= MAX_NETWORK_BYTES
            && next.layers == self.layers
            && ours[..network] == theirs[..network]
            && self.continues_tcp(ours, theirs);
        let identification = if is_next { self.continues_network(ours, theirs) } else { None };
        let Some(is_fixed) = identification else { return false };
        self.has_fixed_identification = is_fixed;
        self.flags |= next.flags() & (FIN | PSH);
        self.is_open = self.flags == 0 && next.payload_bytes == self.size;
        self.payload_bytes += usize::from(next.payload_bytes.get());
        self.frames += 1;
        true
    }

    /// Length of the large frame from the IP header on.
    fn network_bytes(&self) -> usize {
        self.head.bytes().len() - self.layers.network + self.payload_bytes
    }

    /// Says whether a segment is the next of the same flow and differs in nothing that the large
    /// frame could not say.
    fn continues_tcp(&self, ours: &[u8], theirs: &[u8]) -> bool {
        let at = self.layers.transport;
        let sequence = |bytes: &[u8]| {
            u32::from(number(bytes, at + 4)) << 16 | u32::from(number(bytes, at + 6))
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_NETWORK_BYTES")]
        let next = sequence(ours).wrapping_add(self.payload_bytes as u32);
        ours[at..at + 4] == theirs[at..at + 4]
            && sequence(theirs) == next
            && ours[at + 8..at + TCP_FLAGS] == theirs[at + 8..at + TCP_FLAGS]
            && (ours[at + TCP_FLAGS] ^ theirs[at + TCP_FLAGS]) & !(FIN | PSH) == 0
            && ours[at + 14..at + 16] == theirs[at + 14..at + 16]
            && ours[at + 18..] == theirs[at + 18..]
    }

    /// Says whether the IP header fits: then, whether the train's identification stands still.
    fn continues_network(&self, ours: &[u8], theirs: &[u8]) -> Option<bool> {
        let Layers { version, network: at, transport: end, .. } = self.layers;
        match version {
            Version::V4 => {
                // Version, length and TOS; fragment, TTL and protocol; addresses.
                let is_alike = [at..at + 2, at + 6..at + 10, at + 12..at + 20]
                    .into_iter()
                    .all(|range| ours[range.clone()] == theirs[range]);
                let step = number(theirs, at + 4).wrapping_sub(number(ours, at + 4));
                let may_stand = number(ours, at + 6) & DF != 0
                    && (self.frames == 1 || self.has_fixed_identification);
                let counts = step == self.frames && !self.has_fixed_identification;
                let stands = step == 0 && may_stand;
                (is_alike && (counts || stands)).then_some(stands)
            }
            Version::V6 => {
                // All but the payload length, which `Candidate::examine` checked.
                let is_alike = ours[at..at + 4] == theirs[at..at + 4]
                    && ours[at + 6..end] == theirs[at + 6..end];
                is_alike.then_some(false)
            }
        }
    }

    /// Makes the large frame's head, and says what is left to do to the frame: as
    /// `virtio_net_hdr_from_skb` of Linux does for what GRO made. A single frame keeps its head,
    /// its checksum valid.
    pub fn finish(&mut self) -> (&[u8], Offload) {
        self.is_open = false;
        if self.frames == 1 {
            return (self.head.bytes(), Offload { checksum: Checksum::Valid, ..Offload::NONE });
        }
        let Layers { version, network, transport, .. } = self.layers;
        let network_bytes = self.network_bytes();
        let pseudo = pseudo_header(self.head.bytes(), &self.layers, self.payload_bytes);
        let bytes = self.head.bytes_mut();
        match version {
            Version::V4 => {
                put(bytes, network + 2, as_field(network_bytes));
                put(bytes, network + 10, 0);
                let mut sum = Sum::ZERO;
                sum.add(&bytes[network..transport]);
                put(bytes, network + 10, sum.checksum());
            }
            Version::V6 => put(bytes, network + 4, as_field(network_bytes - IPV6_BYTES)),
        }
        bytes[transport + TCP_FLAGS] |= self.flags;
        put(bytes, transport + TCP_CHECKSUM, pseudo.folded());
        let start = as_field(transport - self.tag_bytes);
        let header_bytes = as_field(bytes.len() - self.tag_bytes);
        let checksum = Checksum::Partial { start, offset: as_field(TCP_CHECKSUM) };
        let segmentation = Some(Segmentation { kind: self.kind, size: self.size, has_cwr: false });
        (self.head.bytes(), Offload { checksum, segmentation, header_bytes })
    }
}

/// A 16-bit field of a head.
fn number(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a 16-bit field of a head.
fn put(bytes: &mut [u8], at: usize, number: u16) {
    bytes[at..at + 2].copy_from_slice(&number.to_be_bytes());
}

/// A length or place as its field has it: at most [`MAX_NETWORK_BYTES`].
#[expect(clippy::cast_possible_truncation, reason = "checked before")]
const fn as_field(length: usize) -> u16 {
    length as u16
}

#[cfg(test)]
mod tests;
