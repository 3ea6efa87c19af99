//! The commands of a control queue: read from their bytes, and written again.
//!
//! Numbers are little-endian, as of every guest served. What a command may contain is checked here;
//! whether it may be given at all depends on features and is the state's affair.

use frame::MacAddr;

use super::MAX_QUEUE_PAIRS;
use crate::Features;

/// Classes (5.1.6.5).
const RX: u8 = 0;
const MAC: u8 = 1;
const VLAN: u8 = 2;
const ANNOUNCE: u8 = 3;
const MQ: u8 = 4;
const GUEST_OFFLOADS: u8 = 5;

/// Commands of [`MAC`] (5.1.6.5.2) and of [`VLAN`] (5.1.6.5.3); other classes have but the first.
const TABLE_SET: u8 = 0;
const ADDR_SET: u8 = 1;
const ADD: u8 = 0;
const DEL: u8 = 1;
const FIRST: u8 = 0;

/// VLAN identifiers end before it: 4,095 is reserved (802.1Q-2018, table 9-2).
const VLANS: u16 = 4_095;

/// A receive mode (5.1.6.5.1): the commands of class RX by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Mode {
    Promiscuous = 0,
    AllMulticast = 1,
    AllUnicast = 2,
    NoMulticast = 3,
    NoUnicast = 4,
    NoBroadcast = 5,
}

impl Mode {
    pub(super) const ALL: [Self; 6] = [
        Self::Promiscuous,
        Self::AllMulticast,
        Self::AllUnicast,
        Self::NoMulticast,
        Self::NoUnicast,
        Self::NoBroadcast,
    ];
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Command {
    SetMode(Mode, bool),
    /// Addresses of either kind, in ascending order, each once.
    SetTable(Vec<MacAddr>),
    SetAddress(MacAddr),
    AddVlan(u16),
    RemoveVlan(u16),
    AcknowledgeAnnouncement,
    /// From 1 to [`MAX_QUEUE_PAIRS`].
    SetPairs(u16),
    SetOffloads(Features),
}

impl Command {
    /// The command in these bytes; `None` if there is no such command or it is not as it must be.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (&[class, command], data) = bytes.split_first_chunk()?;
        match (class, command) {
            (RX, number) => {
                let mode = *Mode::ALL.get(usize::from(number))?;
                match data {
                    [on @ 0..=1] => Some(Self::SetMode(mode, *on == 1)),
                    _ => None,
                }
            }
            (MAC, TABLE_SET) => table(data).map(Self::SetTable),
            (MAC, ADDR_SET) => {
                let address = MacAddr(data.try_into().ok()?);
                (!address.is_group()).then_some(Self::SetAddress(address))
            }
            (VLAN, ADD) => vlan(data).map(Self::AddVlan),
            (VLAN, DEL) => vlan(data).map(Self::RemoveVlan),
            (ANNOUNCE, FIRST) => data.is_empty().then_some(Self::AcknowledgeAnnouncement),
            (MQ, FIRST) => {
                let pairs = u16::from_le_bytes(data.try_into().ok()?);
                (1..=MAX_QUEUE_PAIRS).contains(&pairs).then_some(Self::SetPairs(pairs))
            }
            (GUEST_OFFLOADS, FIRST) => {
                let offloads = u64::from_le_bytes(data.try_into().ok()?);
                Some(Self::SetOffloads(Features(offloads)))
            }
            _ => None,
        }
    }

    /// The same as bytes.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::SetMode(mode, is_on) => vec![RX, *mode as u8, u8::from(*is_on)],
            Self::SetTable(addresses) => {
                let (groups, stations): (Vec<MacAddr>, Vec<MacAddr>) =
                    addresses.iter().partition(|address| address.is_group());
                let mut bytes = vec![MAC, TABLE_SET];
                for addresses in [stations, groups] {
                    let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
                    bytes.extend(count.to_le_bytes());
                    bytes.extend(addresses.into_iter().flat_map(|address| address.0));
                }
                bytes
            }
            Self::SetAddress(address) => [&[MAC, ADDR_SET], &address.0[..]].concat(),
            Self::AddVlan(vid) => [[VLAN, ADD], vid.to_le_bytes()].concat(),
            Self::RemoveVlan(vid) => [[VLAN, DEL], vid.to_le_bytes()].concat(),
            Self::AcknowledgeAnnouncement => vec![ANNOUNCE, FIRST],
            Self::SetPairs(pairs) => [[MQ, FIRST], pairs.to_le_bytes()].concat(),
            Self::SetOffloads(offloads) => {
                [&[GUEST_OFFLOADS, FIRST], &offloads.0.to_le_bytes()[..]].concat()
            }
        }
    }
}

/// The two tables of MAC_TABLE_SET, stations and groups, as one.
fn table(data: &[u8]) -> Option<Vec<MacAddr>> {
    let (mut addresses, data) = counted(data)?;
    let (groups, rest) = counted(data)?;
    if !rest.is_empty() {
        return None;
    }
    addresses.extend(groups);
    addresses.sort_unstable();
    addresses.dedup();
    Some(addresses)
}

/// A number of addresses, and these; then what is behind them.
fn counted(data: &[u8]) -> Option<(Vec<MacAddr>, &[u8])> {
    let (count, data) = data.split_first_chunk()?;
    let count = usize::try_from(u32::from_le_bytes(*count)).ok()?;
    let (addresses, rest) = data.split_at_checked(count.checked_mul(6)?)?;
    let (addresses, _) = addresses.as_chunks::<6>();
    Some((addresses.iter().copied().map(MacAddr).collect(), rest))
}

fn vlan(data: &[u8]) -> Option<u16> {
    let vid = u16::from_le_bytes(data.try_into().ok()?);
    (vid < VLANS).then_some(vid)
}
