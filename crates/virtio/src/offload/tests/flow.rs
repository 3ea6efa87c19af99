//! Frames of a flow to test with, made byte by byte, and read again by a parser that is not ours.

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use frame::{Header, Offload, Segment, VlanTag};
use proptest::prelude::*;

use crate::Features;
use crate::offload::{Leaving, NetHeader, Sender, interpret};
use crate::testing::extents;

pub(crate) const FIN: u8 = 1;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;
pub(crate) const CWR: u8 = 128;

/// A driver that may ask for everything we understand.
pub(crate) const GUEST: Sender = Sender {
    features: Features(
        Features::NET_CSUM.0
            | Features::NET_HOST_TSO4.0
            | Features::NET_HOST_TSO6.0
            | Features::NET_HOST_ECN.0
            | Features::NET_HOST_USO.0,
    ),
    is_host: false,
};

/// The headers of a frame.
#[derive(Debug, Clone)]
pub(crate) struct Flow {
    pub(crate) is_v6: bool,
    pub(crate) is_udp: bool,
    /// The tag that its frames come with.
    pub(crate) tag: Option<VlanTag>,
    /// Bytes of IPv4 options, or eight-byte extension headers of IPv6.
    pub(crate) extras: usize,
    /// Words of TCP options.
    pub(crate) options: usize,
    pub(crate) identification: u16,
    pub(crate) sequence: u32,
    pub(crate) flags: u8,
}

pub(crate) const TCP4: Flow = Flow {
    is_v6: false,
    is_udp: false,
    tag: None,
    extras: 0,
    options: 3,
    identification: 0xfffe,
    sequence: 0xffff_f000,
    flags: ACK,
};

/// Any headers there are.
pub(crate) fn flows() -> impl Strategy<Value = Flow> {
    let version = any::<(bool, bool, bool)>();
    let lengths = (0usize..=10, 0usize..=10);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    (version, lengths, any::<(u16, u32)>(), flags).prop_map(
        |((is_v6, is_udp, is_tagged), (extras, options), (identification, sequence), flags)| Flow {
            is_v6,
            is_udp,
            tag: is_tagged.then_some(VlanTag::from_bits(0x6064)),
            extras,
            options,
            identification,
            sequence,
            flags: ACK
                | if flags.0 { FIN } else { 0 }
                | if flags.1 { PSH } else { 0 }
                | if flags.2 { CWR } else { 0 },
        },
    )
}

impl Flow {
    pub(crate) fn tag_bytes(&self) -> usize {
        if self.tag.is_some() { 4 } else { 0 }
    }

    /// Where the transport header begins, without tag.
    pub(crate) fn transport(&self) -> usize {
        if self.is_v6 { 14 + 40 + 8 * self.extras.min(8) } else { 14 + 20 + 4 * self.extras }
    }

    /// Where the payload begins, without tag.
    pub(crate) fn payload(&self) -> usize {
        self.transport() + if self.is_udp { 8 } else { 20 + 4 * self.options }
    }

    /// Where the checksum stands, from the transport header on.
    pub(crate) fn checksum_offset(&self) -> usize {
        if self.is_udp { 6 } else { 16 }
    }

    /// A frame with the pseudo-header's sum in the checksum's place.
    pub(crate) fn partial(&self, payload: &[u8]) -> Vec<u8> {
        let transport = self.transport_header(payload.len());
        let network = self.network_header(transport.len() + payload.len());
        let addresses = if self.is_v6 { &network[8..40] } else { &network[12..20] };
        let length = u16::try_from(transport.len() + payload.len()).unwrap();
        let sum = sum(&[addresses, &[0, self.protocol()], &length.to_be_bytes()].concat());
        let ether_type = if self.is_v6 { [0x86, 0xdd] } else { [0x08, 0x00] };
        let tag = self.tag.map_or(vec![], |tag| [[0x81, 0], tag.to_bits().to_be_bytes()].concat());
        let addresses: Vec<u8> = (2..14).collect();
        let mut bytes = [&addresses, &tag, &ether_type[..], &network, &transport, payload].concat();
        let field = self.tag_bytes() + self.transport() + self.checksum_offset();
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// A frame that is ready for a wire.
    pub(crate) fn wire(&self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.partial(payload);
        let start = self.tag_bytes() + self.transport();
        let checksum = match !sum(&bytes[start..]) {
            0 if self.is_udp => 0xffff,
            checksum => checksum,
        };
        let field = start + self.checksum_offset();
        bytes[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// What a driver says of the partial frame, to be cut into pieces of `size` bytes if there is
    /// a size.
    pub(crate) fn net_header(&self, size: Option<u16>) -> NetHeader {
        let has_cwr = !self.is_udp && self.flags & CWR != 0;
        let gso_type = match (self.is_udp, self.is_v6) {
            (true, _) => NetHeader::GSO_UDP_L4,
            (false, false) => NetHeader::GSO_TCPV4,
            (false, true) => NetHeader::GSO_TCPV6,
        } | if has_cwr { NetHeader::GSO_ECN } else { 0 };
        NetHeader {
            flags: NetHeader::NEEDS_CSUM,
            gso_type: if size.is_some() { gso_type } else { NetHeader::GSO_NONE },
            hdr_len: 0,
            gso_size: size.unwrap_or(0),
            csum_start: u16::try_from(self.tag_bytes() + self.transport()).unwrap(),
            csum_offset: u16::try_from(self.checksum_offset()).unwrap(),
        }
    }

    fn protocol(&self) -> u8 {
        if self.is_udp { 17 } else { 6 }
    }

    fn network_header(&self, rest: usize) -> Vec<u8> {
        if self.is_v6 {
            let extensions = self.extras.min(8);
            let length = u16::try_from(rest + 8 * extensions).unwrap().to_be_bytes();
            let next = |left: usize| if left > 0 { 60 } else { self.protocol() };
            let mut bytes =
                vec![0x60, 0x12, 0x34, 0x56, length[0], length[1], next(extensions), 64];
            bytes.extend(100..132);
            (0..extensions).rev().for_each(|left| bytes.extend([next(left), 0, 1, 4, 0, 0, 0, 0]));
            return bytes;
        }
        let length = u16::try_from(20 + 4 * self.extras + rest).unwrap().to_be_bytes();
        let identification = self.identification.to_be_bytes();
        let first = 0x45 + u8::try_from(self.extras).unwrap();
        let mut bytes = vec![first, 0x02, length[0], length[1]];
        bytes.extend(identification);
        bytes.extend([0x40, 0, 64, self.protocol(), 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        bytes.resize(20 + 4 * self.extras, 1);
        let checksum = !sum(&bytes);
        bytes[10..12].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn transport_header(&self, payload_bytes: usize) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x00, 0x50];
        if self.is_udp {
            bytes.extend(u16::try_from(8 + payload_bytes).unwrap().to_be_bytes());
            bytes.extend([0, 0]);
            return bytes;
        }
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend([1, 2, 3, 4, u8::try_from(5 + self.options).unwrap() << 4, self.flags]);
        bytes.extend([0xff, 0x00, 0, 0, 0, 0]);
        bytes.resize(20 + 4 * self.options, 1);
        bytes
    }
}

/// The sum of RFC 1071 as it is defined.
pub(crate) fn sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// A frame as a queue received it.
pub(crate) struct Received {
    pub(crate) header: Header,
    pub(crate) segments: Vec<Segment>,
    /// Without tag.
    pub(crate) length_bytes: usize,
}

impl Received {
    pub(crate) fn new(bytes: &[u8]) -> Self {
        let header = Header::parse(bytes).unwrap();
        let rest = &bytes[header.taken_bytes()..];
        let segments = extents(rest, &[1, 100, 1_001]);
        Self { header, segments, length_bytes: header.length_bytes() + rest.len() }
    }

    pub(crate) fn leaving(&self, tag: Option<VlanTag>) -> Leaving<'_> {
        Leaving { header: &self.header, tag, segments: &self.segments }
    }

    pub(crate) fn interpret(&self, net_header: &NetHeader) -> Result<Offload, frame::DropReason> {
        interpret(net_header, GUEST, &self.header, self.length_bytes)
    }
}

/// What somebody else reads in a frame, all lengths and checksums being right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) vlans: usize,
    pub(crate) identification: Option<u16>,
    pub(crate) sequence: Option<u32>,
    /// FIN, PSH, CWR.
    pub(crate) flags: [bool; 3],
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn read(bytes: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(bytes).unwrap();
    let transport = packet.transport.clone().unwrap();
    let (identification, checksum, network_bytes) = match packet.net.clone().unwrap() {
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
            (Some(header.identification), checksum, usize::from(header.total_len))
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
            (None, checksum, usize::from(header.payload_length) + 40)
        }
        other => panic!("{other:?}"),
    };
    let vlans = packet.vlan_ids().len();
    assert_eq!(network_bytes, bytes.len() - 14 - 4 * vlans);
    match transport {
        TransportSlice::Tcp(tcp) => {
            assert_eq!(tcp.checksum(), checksum);
            let (sequence, payload) = (Some(tcp.sequence_number()), tcp.payload().to_vec());
            let flags = [tcp.fin(), tcp.psh(), tcp.cwr()];
            Seen { vlans, identification, sequence, flags, payload }
        }
        TransportSlice::Udp(udp) => {
            assert_eq!(udp.checksum(), checksum);
            assert_eq!(usize::from(udp.length()), 8 + udp.payload().len());
            let payload = udp.payload().to_vec();
            Seen { vlans, identification, sequence: None, flags: [false; 3], payload }
        }
        other => panic!("{other:?}"),
    }
}
