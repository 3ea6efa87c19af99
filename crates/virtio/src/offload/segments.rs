//! Cutting a large frame into wire frames, without allocation, while it is copied.
//!
//! ```text
//!   large    │ head │ payload: size │ size │ size │ rest │
//!   frames   │ head'│ size │   │ head'│ size │   │ head'│ size │   │ head'│ rest │
//! ```
//!
//! What differs from head to head, as Linux does it (`inet_gso_segment`, `ipv6_gso_segment`,
//! `tcp_gso_segment`, `__udp_gso_segment`):
//!
//! | field                                  | in each frame                             |
//! |----------------------------------------|-------------------------------------------|
//! | IPv4 total length, header checksum     | its own; the length in the large frame may be anything |
//! | IPv4 identification                    | counts up by one, also with DF            |
//! | IPv6 payload length                    | its own                                   |
//! | TCP sequence number                    | counts up by the payload                  |
//! | TCP FIN, PSH                           | on the last only                          |
//! | TCP CWR                                | on the first only (RFC 3168, 6.1.2)       |
//! | UDP length                             | its own                                   |
//! | TCP and UDP checksum                   | its own, whatever the large frame had     |
//!
//! Options, extension headers, tags and all other fields are the same in each.

use std::option;

use frame::{
    Checksum, Completing, DropReason, Joined, Offload, Place, Reader, Segmentation, Sum, Zero,
};

use super::head::HEAD_BYTES;
use super::layers::{IPV6_BYTES, Layers, TCP_CHECKSUM, UDP_CHECKSUM, Version};
use super::request::Protocols;
use super::{Head, Leaving, NetHeader};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Where the flags stand in a TCP header.
const TCP_FLAGS: usize = 13;

/// The frames that a large frame is cut into, one after the other.
#[derive(Debug)]
pub struct Segments<'a> {
    /// The large frame's head.
    template: &'a [u8],
    layers: Layers,
    segmentation: Segmentation,
    /// The pseudo-header without its length.
    pseudo: Sum,
    /// The head of the current frame.
    scratch: [u8; HEAD_BYTES],
    payload: Reader<'a>,
    payload_bytes: usize,
    /// Payload bytes that are in frames already.
    cut_bytes: usize,
    /// How many frames there were.
    frames: u16,
}

impl<'a> Segments<'a> {
    /// Starts cutting `frame`, whose head is gathered into `head`.
    ///
    /// # Errors
    ///
    /// [`DropReason::OffloadUnfit`] if its headers are not what `offload` says, or do not fit.
    pub fn new(
        offload: &Offload,
        frame: &Leaving<'a>,
        head: &'a mut Head,
    ) -> Result<Self, DropReason> {
        Self::start(offload, frame, head).ok_or(DropReason::OffloadUnfit)
    }

    fn start(offload: &Offload, frame: &Leaving<'a>, head: &'a mut Head) -> Option<Self> {
        let segmentation = offload.segmentation?;
        let Checksum::Partial { start, .. } = offload.checksum else { return None };
        head.gather(frame, HEAD_BYTES);
        let layers = Layers::parse(head.bytes(), head.ether_type_at()).ok()?;
        let (kind, size) = (segmentation.kind, usize::from(segmentation.size.get()));
        // Behind the private header these may be other than the net header said.
        let fits = layers.version == kind.version()
            && layers.protocol == kind.protocol()
            && layers.transport == usize::from(start) + frame.tag_bytes();
        if !fits || layers.is_fragment {
            return None;
        }
        let head_bytes = layers.headers(head.bytes())?.len();
        head.truncate(head_bytes);
        let payload = frame.payload(head_bytes)?;
        let payload_bytes = frame.length_bytes() - head_bytes;
        if payload_bytes.div_ceil(size) > kind.most_frames() {
            return None;
        }
        // The longest frame's lengths fit their fields.
        let network_bytes = head_bytes - layers.network + size.min(payload_bytes);
        u16::try_from(network_bytes).ok()?;
        let mut pseudo = Sum::ZERO;
        pseudo.add_apart(layers.addresses(head.bytes()));
        pseudo.add_number(u16::from(layers.protocol));
        if kind.is_tcp() {
            tell_lengths(head.bytes_mut(), &layers, pseudo, payload_bytes);
        }
        let template = head.bytes();
        Some(Self {
            template,
            layers,
            segmentation,
            pseudo,
            scratch: [0; HEAD_BYTES],
            payload,
            payload_bytes,
            cut_bytes: 0,
            frames: 0,
        })
    }

    /// What is cut how: kind, size and whether CWR is set.
    #[must_use]
    pub const fn segmentation(&self) -> Segmentation {
        self.segmentation
    }

    /// The large frame itself, for somebody else to cut as this net header says: of TCP, with right
    /// lengths and sums in its head, whatever its sender had there. None of it may have been cut.
    #[must_use]
    pub fn whole(&self) -> (NetHeader, Joined<'_, option::IntoIter<Reader<'a>>>) {
        let start = as_field(self.layers.transport);
        let offset = if self.segmentation.kind.is_tcp() { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let offload = Offload {
            checksum: Checksum::Partial { start, offset: as_field(offset) },
            segmentation: Some(self.segmentation),
            header_bytes: as_field(self.template.len()),
        };
        // Places in a head count from the start of the frame as it leaves, tag and all.
        let net_header = NetHeader::of(&offload, false);
        (net_header, Joined::new(self.template, Some(self.payload.clone()).into_iter()))
    }

    /// How many frames are left.
    #[must_use]
    pub fn frames_left(&self) -> usize {
        let left_bytes = self.payload_bytes - self.cut_bytes;
        let left = left_bytes.div_ceil(usize::from(self.segmentation.size.get()));
        // A frame without payload is one, too.
        if self.frames == 0 { left.max(1) } else { left }
    }

    /// The next frame. One that is not copied is left out, and the next one is what it would have
    /// been.
    #[must_use]
    pub fn next_frame(&mut self) -> Option<Completing<'_>> {
        if self.frames_left() == 0 {
            return None;
        }
        let left_bytes = self.payload_bytes - self.cut_bytes;
        let payload_bytes = left_bytes.min(usize::from(self.segmentation.size.get()));
        let payload = self.payload.clone();
        self.payload.skip(payload_bytes);
        self.scratch[..self.template.len()].copy_from_slice(self.template);
        self.write_network(payload_bytes);
        if self.segmentation.kind.is_tcp() {
            self.write_tcp(payload_bytes == left_bytes);
        } else {
            self.write_udp(payload_bytes);
        }
        let place = self.write_pseudo(payload_bytes);
        self.cut_bytes += payload_bytes;
        self.frames = self.frames.wrapping_add(1);
        let zero = if self.segmentation.kind.is_tcp() { Zero::Kept } else { Zero::Inverted };
        let head = &mut self.scratch[..self.template.len()];
        Completing::new(head, payload, payload_bytes, place, zero)
    }

    /// Writes the IP header's lengths, identification and checksum.
    fn write_network(&mut self, payload_bytes: usize) {
        let Layers { version, network, transport, .. } = self.layers;
        let length = self.template.len() - network + payload_bytes;
        match version {
            Version::V4 => {
                let identification = self.number(network + 4).wrapping_add(self.frames);
                self.put(network + 2, as_field(length));
                self.put(network + 4, identification);
                self.put(network + 10, 0);
                let mut sum = Sum::ZERO;
                sum.add(&self.scratch[network..transport]);
                self.put(network + 10, sum.checksum());
            }
            Version::V6 => self.put(network + 4, as_field(length - IPV6_BYTES)),
        }
    }

    /// Writes the TCP header's sequence number and flags.
    fn write_tcp(&mut self, is_last: bool) {
        let at = self.layers.transport;
        let sequence = u32::from(self.number(at + 4)) << 16 | u32::from(self.number(at + 6));
        #[expect(clippy::cast_possible_truncation, reason = "sequence numbers wrap")]
        let sequence = sequence.wrapping_add(self.cut_bytes as u32);
        self.scratch[at + 4..at + 8].copy_from_slice(&sequence.to_be_bytes());
        let flags = &mut self.scratch[at + TCP_FLAGS];
        if !is_last {
            *flags &= !(FIN | PSH);
        }
        if self.frames != 0 {
            *flags &= !CWR;
        }
    }

    /// Writes the UDP header's length.
    fn write_udp(&mut self, payload_bytes: usize) {
        let length = self.template.len() - self.layers.transport + payload_bytes;
        self.put(self.layers.transport + 4, as_field(length));
    }

    /// Writes the pseudo-header's sum (RFC 9293, 3.1; RFC 8200, 8.1) to where the checksum goes.
    fn write_pseudo(&mut self, payload_bytes: usize) -> Place {
        let start = self.layers.transport;
        let field = if self.segmentation.kind.is_tcp() { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let mut sum = self.pseudo;
        sum.add_number(as_field(self.template.len() - start + payload_bytes));
        self.put(start + field, sum.folded());
        Place { start, field: start + field }
    }

    /// A 16-bit field of the large frame's head.
    fn number(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.template[at], self.template[at + 1]])
    }

    /// Writes a 16-bit field of the current head.
    fn put(&mut self, at: usize, number: u16) {
        self.scratch[at..at + 2].copy_from_slice(&number.to_be_bytes());
    }
}

/// Writes into a large TCP frame's head how long it is, and the sums that depend on it: nobody looks
/// after those who do not cut it. One that is longer than a length can say is left as it is.
fn tell_lengths(head: &mut [u8], layers: &Layers, mut pseudo: Sum, payload_bytes: usize) {
    let Layers { version, network, transport, .. } = *layers;
    let whole_bytes = head.len() + payload_bytes;
    let Ok(network_bytes) = u16::try_from(whole_bytes - network) else { return };
    let mut put = |at: usize, number: u16| {
        head[at..at + 2].copy_from_slice(&number.to_be_bytes());
    };
    pseudo.add_number(as_field(whole_bytes - transport));
    put(transport + TCP_CHECKSUM, pseudo.folded());
    match version {
        Version::V4 => {
            put(network + 2, network_bytes);
            put(network + 10, 0);
            let mut sum = Sum::ZERO;
            sum.add(&head[network..transport]);
            head[network + 10..network + 12].copy_from_slice(&sum.checksum().to_be_bytes());
        }
        Version::V6 => put(network + 4, as_field(whole_bytes - network - IPV6_BYTES)),
    }
}

/// A length as its field has it: checked to fit by `Segments::start`.
#[expect(clippy::cast_possible_truncation, reason = "checked at the start")]
const fn as_field(length: usize) -> u16 {
    length as u16
}
