//! Frames of TCP and UDP flows, made field by field: as a driver leaves them to be completed or cut,
//! and as they must be on a wire then. A parser that is not ours has the last word on those.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use virtio::offload::NetHeader;

pub(crate) const FIN: u8 = 0x01;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const CWR: u8 = 0x80;

/// What the headers of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) to: [u8; 6],
    pub(crate) from: [u8; 6],
    /// Tag control information, if it has a tag.
    pub(crate) tag: Option<u16>,
    pub(crate) is_v6: bool,
    pub(crate) is_udp: bool,
    /// TCP's options, in words of four bytes.
    pub(crate) options: usize,
    /// The sender's port.
    pub(crate) port: u16,
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    pub(crate) acknowledgement: u32,
    pub(crate) flags: u8,
}

/// TCP over IPv4, with room for timestamps.
pub(crate) const TCP4: Flow = Flow {
    to: super::BOB,
    from: super::ALICE,
    tag: None,
    is_v6: false,
    is_udp: false,
    options: 3,
    port: 51_000,
    identification: 0xfff0,
    sequence: 0xffff_c000,
    acknowledgement: 0x0102_0304,
    flags: ACK,
};

/// TCP and UDP over both versions of IP.
pub(crate) const PROTOCOLS: [Flow; 4] = [
    TCP4,
    Flow { is_v6: true, ..TCP4 },
    Flow { is_udp: true, ..TCP4 },
    Flow { is_v6: true, is_udp: true, ..TCP4 },
];

impl Flow {
    /// Where the transport header begins.
    pub(crate) fn transport(&self) -> usize {
        let tag_bytes = if self.tag.is_some() { 4 } else { 0 };
        14 + tag_bytes + if self.is_v6 { 40 } else { 20 }
    }

    /// Length of all headers.
    pub(crate) fn head_bytes(&self) -> usize {
        self.transport() + if self.is_udp { 8 } else { 20 + 4 * self.options }
    }

    /// Where the checksum stands, from the transport header on.
    const fn checksum_offset(&self) -> usize {
        if self.is_udp { 6 } else { 16 }
    }

    /// The frame as a driver leaves it: the pseudo-header's sum is in the checksum's place.
    pub(crate) fn partial(&self, payload: &[u8]) -> Vec<u8> {
        let transport = self.transport_header(payload.len());
        let length = transport.len() + payload.len();
        let network = self.network_header(length);
        let addresses = if self.is_v6 { &network[8..40] } else { &network[12..20] };
        let pseudo = [addresses, &[0, self.protocol()], &bytes_of(length)].concat();
        let tag = self.tag.map_or(vec![], |tag| [[0x81, 0], tag.to_be_bytes()].concat());
        let ether_type = if self.is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let mut frame =
            [&self.to[..], &self.from, &tag, &ether_type, &network, &transport, payload].concat();
        self.put_checksum(&mut frame, sum(&pseudo));
        frame
    }

    /// The frame as a wire has it.
    pub(crate) fn ready(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.partial(payload);
        let checksum = match !sum(&frame[self.transport()..]) {
            // RFC 768: zero would say that there is none.
            0 if self.is_udp => 0xffff,
            checksum => checksum,
        };
        self.put_checksum(&mut frame, checksum);
        frame
    }

    /// The frames that Linux cuts a large one into.
    pub(crate) fn pieces(&self, payload: &[u8], size: u16) -> Vec<Vec<u8>> {
        let pieces = payload.chunks(size.into());
        let last = pieces.len() - 1;
        let piece = |(number, payload): (usize, &[u8])| {
            let count = u16::try_from(number).unwrap();
            let not_last = if number < last { FIN | PSH } else { 0 };
            let not_first = if number > 0 { CWR } else { 0 };
            let piece = Self {
                identification: self.identification.wrapping_add(count),
                sequence: self.sequence.wrapping_add(u32::from(count) * u32::from(size)),
                flags: self.flags & !not_last & !not_first,
                ..*self
            };
            piece.ready(payload)
        };
        pieces.enumerate().map(piece).collect()
    }

    /// What a driver says of a partial frame, to be cut into pieces of `size` bytes if there is a
    /// size.
    pub(crate) fn net_header(&self, size: Option<u16>) -> NetHeader {
        let mut net_header = NetHeader {
            flags: NetHeader::NEEDS_CSUM,
            csum_start: u16::try_from(self.transport()).unwrap(),
            csum_offset: u16::try_from(self.checksum_offset()).unwrap(),
            ..NetHeader::default()
        };
        if let Some(size) = size {
            net_header.gso_type = match (self.is_udp, self.is_v6) {
                (true, _) => NetHeader::GSO_UDP_L4,
                (false, false) => NetHeader::GSO_TCPV4,
                (false, true) => NetHeader::GSO_TCPV6,
            } | if self.has_cwr() { NetHeader::GSO_ECN } else { 0 };
            net_header.gso_size = size;
            net_header.hdr_len = u16::try_from(self.head_bytes()).unwrap();
        }
        net_header
    }

    /// Says whether its first segment tells of congestion.
    pub(crate) const fn has_cwr(&self) -> bool {
        !self.is_udp && self.flags & CWR != 0
    }

    const fn protocol(&self) -> u8 {
        if self.is_udp { 17 } else { 6 }
    }

    fn put_checksum(&self, frame: &mut [u8], checksum: u16) {
        let field = self.transport() + self.checksum_offset();
        frame[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    }

    fn network_header(&self, length: usize) -> Vec<u8> {
        if self.is_v6 {
            let mut bytes = [&[0x60, 0x12, 0x34, 0x56], &bytes_of(length)[..]].concat();
            bytes.extend([self.protocol(), 64]);
            bytes.extend((0..32).map(|at| if at % 16 == 0 { 0xfd } else { at }));
            return bytes;
        }
        let mut bytes = vec![0x45, 0x02];
        bytes.extend(bytes_of(20 + length));
        bytes.extend(self.identification.to_be_bytes());
        bytes.extend([0x40, 0, 64, self.protocol(), 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let checksum = !sum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn transport_header(&self, payload_bytes: usize) -> Vec<u8> {
        let mut bytes = [self.port.to_be_bytes(), 50_000u16.to_be_bytes()].concat();
        if self.is_udp {
            bytes.extend(bytes_of(8 + payload_bytes));
            bytes.extend([0, 0]);
            return bytes;
        }
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        bytes.extend([u8::try_from(5 + self.options).unwrap() << 4, self.flags]);
        bytes.extend([0xff, 0x00, 0, 0, 0, 0]);
        // No operation.
        bytes.resize(20 + 4 * self.options, 1);
        bytes
    }
}

/// A length as a field has it.
fn bytes_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

/// The sum of RFC 1071 as it is defined.
fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// Lets another parser read a frame off a wire: its lengths and checksums are right.
pub(crate) fn assert_ready(frame: &[u8]) {
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let transport = packet.transport.clone().unwrap();
    let (checksum, network_bytes) = match packet.net.clone().unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(header.header_checksum, header.calc_header_checksum());
            let checksum = match &transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv4(header.source, header.destination).unwrap()
                }
                TransportSlice::Udp(udp) => {
                    udp.to_header().calc_checksum_ipv4(&header, udp.payload()).unwrap()
                }
                other => panic!("{other:?}"),
            };
            (checksum, usize::from(header.total_len))
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            let checksum = match &transport {
                TransportSlice::Tcp(tcp) => {
                    tcp.calc_checksum_ipv6(header.source, header.destination).unwrap()
                }
                TransportSlice::Udp(udp) => {
                    udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap()
                }
                other => panic!("{other:?}"),
            };
            (checksum, usize::from(header.payload_length) + 40)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(network_bytes, frame.len() - 14 - 4 * packet.vlan_ids().len());
    match transport {
        TransportSlice::Tcp(tcp) => assert_eq!(tcp.checksum(), checksum),
        TransportSlice::Udp(udp) => {
            assert_eq!(udp.checksum(), checksum);
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
        }
        other => panic!("{other:?}"),
    }
}
