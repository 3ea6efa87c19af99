//! Where the headers of a frame begin: Ethernet, IPv4 or IPv6, TCP or UDP.
//!
//! Works on private bytes only, and on as many as there are: a frame that goes on behind them is
//! told from one that ends too early by the caller, who knows how long it is.
//!
//! IPv4: RFC 791, 3.1. IPv6: RFC 8200, 3 and 4. TCP: RFC 9293, 3.1. UDP: RFC 768.

/// Protocol number of TCP.
pub(crate) const TCP: u8 = 6;
/// Protocol number of UDP.
pub(crate) const UDP: u8 = 17;

/// Where the checksum stands in a TCP header.
pub(crate) const TCP_CHECKSUM: usize = 16;
/// Where the checksum stands in a UDP header.
pub(crate) const UDP_CHECKSUM: usize = 6;

/// TCP header without options.
pub(crate) const TCP_BYTES: usize = 20;
/// UDP header.
pub(crate) const UDP_BYTES: usize = 8;

/// IPv4 header without options.
pub(crate) const IPV4_BYTES: usize = 20;
/// IPv6 header without extension headers.
pub(crate) const IPV6_BYTES: usize = 40;

/// Which Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    V4,
    V6,
}

impl Version {
    /// The version that an EtherType names.
    pub(crate) const fn of_ether_type(ether_type: u16) -> Option<Self> {
        match ether_type {
            0x0800 => Some(Self::V4),
            0x86dd => Some(Self::V6),
            _ => None,
        }
    }

    /// Length of the shortest header.
    pub(crate) const fn header_bytes(self) -> usize {
        match self {
            Self::V4 => IPV4_BYTES,
            Self::V6 => IPV6_BYTES,
        }
    }
}

/// Why the layers are not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The bytes end before the headers do.
    Truncated,
    /// Not IP, or not as the standards have it.
    Malformed,
}

/// Where a frame's headers begin, in bytes from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layers {
    pub(crate) version: Version,
    /// The IP header.
    pub(crate) network: usize,
    /// Behind IP options and extension headers; behind the bytes, if these end in IPv4 options.
    pub(crate) transport: usize,
    /// The number of the protocol there.
    pub(crate) protocol: u8,
    /// One of several fragments: what stands at `transport` may be payload.
    pub(crate) is_fragment: bool,
}

impl Layers {
    /// Finds the layers of a frame whose EtherType stands at `ether_type_at`: 12, or 16 behind a
    /// tag. A tag there is no IP.
    pub(crate) fn parse(bytes: &[u8], ether_type_at: usize) -> Result<Self, Unknown> {
        let network = ether_type_at + 2;
        let version = Version::of_ether_type(word(bytes, ether_type_at)?);
        match version.ok_or(Unknown::Malformed)? {
            Version::V4 => Self::parse_v4(bytes, network),
            Version::V6 => Self::parse_v6(bytes, network),
        }
    }

    fn parse_v4(bytes: &[u8], network: usize) -> Result<Self, Unknown> {
        let first = byte(bytes, network)?;
        let header_bytes = usize::from(first & 0x0f) * 4;
        if first >> 4 != 4 || header_bytes < IPV4_BYTES {
            return Err(Unknown::Malformed);
        }
        if bytes.len() < network + IPV4_BYTES {
            return Err(Unknown::Truncated);
        }
        let transport = network + header_bytes;
        let protocol = byte(bytes, network + 9)?;
        // More fragments, or an offset.
        let is_fragment = word(bytes, network + 6)? & 0x3fff != 0;
        Ok(Self { version: Version::V4, network, transport, protocol, is_fragment })
    }

    fn parse_v6(bytes: &[u8], network: usize) -> Result<Self, Unknown> {
        const HOP_BY_HOP: u8 = 0;
        const ROUTING: u8 = 43;
        const FRAGMENT: u8 = 44;
        const DESTINATION: u8 = 60;
        if byte(bytes, network)? >> 4 != 6 {
            return Err(Unknown::Malformed);
        }
        let mut protocol = byte(bytes, network + 6)?;
        let mut transport = network + IPV6_BYTES;
        // Each header has eight bytes at least, so this ends with the bytes.
        while matches!(protocol, HOP_BY_HOP | ROUTING | DESTINATION) {
            protocol = byte(bytes, transport)?;
            transport += 8 + usize::from(byte(bytes, transport + 1)?) * 8;
        }
        if bytes.len() < transport {
            return Err(Unknown::Truncated);
        }
        let is_fragment = protocol == FRAGMENT;
        Ok(Self { version: Version::V6, network, transport, protocol, is_fragment })
    }

    /// Where the payload of TCP or UDP begins, which may be behind these bytes.
    pub(crate) fn payload(&self, bytes: &[u8]) -> Result<usize, Unknown> {
        match self.protocol {
            TCP => {
                let header_bytes = usize::from(byte(bytes, self.transport + 12)? >> 4) * 4;
                if header_bytes < TCP_BYTES {
                    return Err(Unknown::Malformed);
                }
                Ok(self.transport + header_bytes)
            }
            UDP => Ok(self.transport + UDP_BYTES),
            _ => Err(Unknown::Malformed),
        }
    }

    /// These bytes as far as the headers go, if all of them are there.
    pub(crate) fn headers<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        bytes.get(..self.payload(bytes).ok()?)
    }

    /// Length from the IP header's first byte to the end, as the header says. For parsed bytes.
    pub(crate) fn network_bytes(&self, bytes: &[u8]) -> usize {
        match self.version {
            Version::V4 => word(bytes, self.network + 2).map_or(0, usize::from),
            Version::V6 => {
                word(bytes, self.network + 4).map_or(0, |length| usize::from(length) + IPV6_BYTES)
            }
        }
    }

    /// Source and destination address, one behind the other. For parsed bytes.
    pub(crate) fn addresses<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let (start, length) = match self.version {
            Version::V4 => (self.network + 12, 8),
            Version::V6 => (self.network + 8, 32),
        };
        bytes.get(start..start + length).unwrap_or_default()
    }
}

/// The byte at a place, if there is one.
#[inline]
fn byte(bytes: &[u8], at: usize) -> Result<u8, Unknown> {
    bytes.get(at).copied().ok_or(Unknown::Truncated)
}

/// The 16-bit number at a place, if there is one.
#[inline]
fn word(bytes: &[u8], at: usize) -> Result<u16, Unknown> {
    Ok(u16::from_be_bytes([byte(bytes, at)?, byte(bytes, at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ipv4(first: u8, fragment: u16) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 60];
        bytes[12] = 8;
        bytes[14] = first;
        bytes[20..22].copy_from_slice(&fragment.to_be_bytes());
        bytes[23] = UDP;
        bytes
    }

    fn ipv6(extensions: &[(u8, u8)]) -> Vec<u8> {
        let mut bytes = vec![0; 14 + 40];
        bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        bytes[20] = extensions.first().map_or(TCP, |&(kind, _)| kind);
        for (at, &(_, length)) in extensions.iter().enumerate() {
            let next = extensions.get(at + 1).map_or(TCP, |&(kind, _)| kind);
            bytes.extend([next, length]);
            bytes.resize(bytes.len() + 6 + usize::from(length) * 8, 0);
        }
        bytes.resize(bytes.len() + TCP_BYTES, 0x50);
        bytes
    }

    #[test]
    fn transport_begins_behind_options() {
        let layers = Layers::parse(&ipv4(0x4b, 0x4000), 12).unwrap();

        assert_eq!((layers.transport, layers.protocol), (14 + 44, UDP));
        assert!(!layers.is_fragment);
    }

    #[test]
    fn transport_begins_behind_extension_headers() {
        let bytes = ipv6(&[(0, 0), (43, 2), (60, 1)]);

        let layers = Layers::parse(&bytes, 12).unwrap();

        assert_eq!((layers.transport, layers.protocol), (54 + 8 + 24 + 16, TCP));
        assert_eq!(layers.payload(&bytes), Ok(bytes.len()));
    }

    #[test]
    fn other_types_are_no_ip() {
        let mut bytes = ipv4(0x45, 0);
        bytes[12..14].copy_from_slice(&[0x08, 0x06]);

        assert_eq!(Layers::parse(&bytes, 12), Err(Unknown::Malformed));
    }

    #[test]
    fn fragments_are_told() {
        assert!(Layers::parse(&ipv4(0x45, 0x2000), 12).unwrap().is_fragment);
        assert!(Layers::parse(&ipv4(0x45, 0x0001), 12).unwrap().is_fragment);
        assert!(Layers::parse(&ipv6(&[(44, 0)]), 12).unwrap().is_fragment);
    }

    #[test]
    fn headers_that_contradict_themselves_are_malformed() {
        assert_eq!(Layers::parse(&ipv4(0x44, 0), 12), Err(Unknown::Malformed));
        assert_eq!(Layers::parse(&ipv4(0x65, 0), 12), Err(Unknown::Malformed));
        let mut short = ipv6(&[]);
        short[54 + 12] = 0x40;
        assert_eq!(Layers::parse(&short, 12).unwrap().payload(&short), Err(Unknown::Malformed));
    }

    proptest! {
        #[test]
        fn bytes_that_end_early_are_truncated(cut in 0usize..102) {
            let bytes = ipv6(&[(0, 0), (43, 2), (60, 1)]);

            let known = Layers::parse(&bytes[..cut], 12);

            prop_assert_eq!(known, Err(Unknown::Truncated));
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..200),
            is_v6: bool,
            next in 0u8..64,
        ) {
            if bytes.len() > 20 {
                let start = if is_v6 { [0x86, 0xdd, 0x60] } else { [0x08, 0x00, 0x45] };
                bytes[12..15].copy_from_slice(&start);
                bytes[20] = next;
            }
            if let Ok(layers) = Layers::parse(&bytes, 12) {
                let _ = layers.payload(&bytes);
                prop_assert!(layers.headers(&bytes).is_none_or(|headers| headers.len() > 34));
                prop_assert!(!layers.addresses(&bytes).is_empty());
            }
        }
    }
}
