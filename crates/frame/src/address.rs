//! MAC addresses, VLAN identifiers and VLAN tags (IEEE 802-2014, 8.2; 802.1Q-2018, 9.6).

use std::fmt;
use std::str::FromStr;

/// An IEEE 802 MAC address, in transmission order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of all stations.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Says whether this is a group address: multicast or broadcast. The first bit on the wire.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Says whether this is one of 01-80-C2-00-00-00 to -0F, which a bridge must not forward
    /// (802.1Q-2018, 8.6.3, table 8-1).
    #[must_use]
    pub const fn is_reserved_group(self) -> bool {
        matches!(self.0, [0x01, 0x80, 0xc2, 0x00, 0x00, 0x00..=0x0f])
    }

    /// The address as a number below 2^48; the first byte on the wire is the most significant.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }

    /// The inverse of [`to_bits`](Self::to_bits); the upper 16 bits are ignored.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        let [_, _, a, b, c, d, e, f] = bits.to_be_bytes();
        Self([a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(formatter, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// The text is not six hexadecimal bytes separated by `:` or `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseMacAddrError(String);

impl fmt::Display for ParseMacAddrError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} is not a MAC address like 52:54:00:12:34:56", self.0)
    }
}

impl std::error::Error for ParseMacAddrError {}

impl FromStr for MacAddr {
    type Err = ParseMacAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || ParseMacAddrError(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or_else(fail)?;
            if part.starts_with('+') {
                return Err(fail());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| fail())?;
        }
        if parts.next().is_some() { Err(fail()) } else { Ok(Self(bytes)) }
    }
}

/// A VLAN identifier that can be configured: 1 to 4094 (802.1Q-2018, table 9-2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VlanId(u16);

impl VlanId {
    /// The default PVID (802.1Q-2018, table 9-2).
    pub const DEFAULT: Self = Self(1);

    /// The number, 1 to 4094.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// The number is not a VLAN identifier that can be configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidVlanId(pub u16);

impl fmt::Display for InvalidVlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VLAN {} is outside 1 to 4094", self.0)
    }
}

impl std::error::Error for InvalidVlanId {}

impl TryFrom<u16> for VlanId {
    type Error = InvalidVlanId;

    fn try_from(number: u16) -> Result<Self, Self::Error> {
        if (1..=4094).contains(&number) { Ok(Self(number)) } else { Err(InvalidVlanId(number)) }
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The tag control information of a customer tag (TPID 0x8100): PCP, DEI and VID, as received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VlanTag(u16);

impl VlanTag {
    /// The tag protocol identifier of a customer VLAN tag (802.1Q-2018, table 9-1).
    pub const TPID: u16 = 0x8100;

    /// The tag with these 16 bits of control information.
    #[must_use]
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// PCP (3 bits), DEI (1 bit), VID (12 bits).
    #[must_use]
    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// The VID as received: 0 to 4095. Zero marks a priority tag; 4095 is reserved.
    #[must_use]
    pub const fn vid(self) -> u16 {
        self.0 & 0x0fff
    }

    /// The priority code point, 0 to 7.
    #[must_use]
    pub const fn pcp(self) -> u8 {
        (self.0 >> 13) as u8
    }

    /// The same priority and drop eligibility, in another VLAN.
    #[must_use]
    pub const fn with_vid(self, vid: VlanId) -> Self {
        Self(self.0 & 0xf000 | vid.0)
    }
}

impl From<VlanId> for VlanTag {
    /// A tag of priority 0.
    fn from(vid: VlanId) -> Self {
        Self(vid.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_reads_what_it_prints() {
        let address = MacAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);

        assert_eq!(address.to_string().parse(), Ok(address));
        assert_eq!("52-54-00-AB-CD-EF".parse(), Ok(address));
        assert_eq!(MacAddr::from_bits(address.to_bits()), address);
    }

    #[test]
    fn text_that_is_no_address_is_refused() {
        assert!("52:54:00:12:34".parse::<MacAddr>().is_err());
        assert!("52:54:00:12:34:56:78".parse::<MacAddr>().is_err());
        assert!("52:54:00:12:34:+5".parse::<MacAddr>().is_err());
        assert!("52:54:00:12:34:5g".parse::<MacAddr>().is_err());
    }

    #[test]
    fn vlan_outside_1_to_4094_is_refused() {
        assert_eq!(VlanId::try_from(0), Err(InvalidVlanId(0)));
        assert_eq!(VlanId::try_from(4095), Err(InvalidVlanId(4095)));
        assert_eq!(VlanId::try_from(4094).map(VlanId::get), Ok(4094));
    }

    #[test]
    fn tag_keeps_its_priority_in_another_vlan() {
        let tag = VlanTag::from_bits(0xb064);

        let moved = tag.with_vid(VlanId::try_from(7).unwrap());

        assert_eq!(moved.to_bits(), 0xb007);
        assert_eq!(moved.pcp(), 5);
    }

    #[test]
    fn reserved_group_addresses_are_the_sixteen_of_table_8_1() {
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0]).is_reserved_group());
        assert!(MacAddr([1, 0x80, 0xc2, 0, 0, 0x0f]).is_reserved_group());
        assert!(!MacAddr([1, 0x80, 0xc2, 0, 0, 0x10]).is_reserved_group());
    }
}
