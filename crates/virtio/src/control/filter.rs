//! Which frames a guest wants, as it has told on its control queue (VIRTIO 1.2, 5.1.6.5.1 to .3).
//!
//! A driver that has told nothing is promiscuous, and so is one that did not say which address is its
//! own: the front end has that in its configuration space and does not tell it, so that it is known
//! from MAC_ADDR_SET only, and before that any station's frames may be meant for the guest. (Filters
//! are best effort, 5.1.6.5.1: frames that were not asked for may come.)

use frame::MacAddr;

use super::command::Mode;

/// 64-bit words of a bit for each VLAN identifier.
const WORDS: usize = 4_096 / 64;

/// A bit for each VLAN identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VlanSet(Box<[u64; WORDS]>);

/// Which frames a guest wants. It is never asked if the guest wants all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveFilter {
    /// A bit for each [`Mode`] that is on.
    pub(super) modes: u8,
    /// The driver's own address, if it has told it.
    pub(super) address: Option<MacAddr>,
    /// Further addresses, of stations and groups, in ascending order.
    pub(super) table: Vec<MacAddr>,
    /// The VLANs wanted; `None` if they are not filtered.
    pub(super) vlans: Option<VlanSet>,
}

impl VlanSet {
    pub(super) fn empty() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// Puts an identifier below 4,096 in, or takes it out.
    pub(super) fn set(&mut self, vid: u16, is_in: bool) {
        let Some(word) = self.0.get_mut(usize::from(vid / 64)) else { return };
        let bit = 1 << (vid % 64);
        *word = if is_in { *word | bit } else { *word & !bit };
    }

    pub(super) fn contains(&self, vid: u16) -> bool {
        self.0.get(usize::from(vid / 64)).is_some_and(|word| word >> (vid % 64) & 1 == 1)
    }

    /// All of them, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u16> {
        (0..4_096).filter(|&vid| self.contains(vid))
    }
}

impl ReceiveFilter {
    /// As a driver begins: all frames, and no VLAN where these are filtered (5.1.6.5.1.1).
    pub(super) fn new(filters_vlans: bool) -> Self {
        let vlans = filters_vlans.then(VlanSet::empty);
        Self { modes: 1 << Mode::Promiscuous as u8, address: None, table: Vec::new(), vlans }
    }

    pub(super) const fn is_on(&self, mode: Mode) -> bool {
        self.modes >> mode as u8 & 1 == 1
    }

    pub(super) const fn set_mode(&mut self, mode: Mode, is_on: bool) {
        let bit = 1 << mode as u8;
        self.modes = if is_on { self.modes | bit } else { self.modes & !bit };
    }

    /// Says whether the guest wants a frame to this address, in its copy with a tag of this VLAN, or
    /// without a tag. VID 0 is no VLAN's (802.1Q-2018, 9.6).
    #[must_use]
    pub fn wants(&self, destination: MacAddr, vid: Option<u16>) -> bool {
        let is_vlan_wanted = match (&self.vlans, vid) {
            (Some(vlans), Some(vid @ 1..)) => vlans.contains(vid),
            (Some(_), Some(0) | None) | (None, _) => true,
        };
        is_vlan_wanted && (self.is_on(Mode::Promiscuous) || self.wants_address(destination))
    }

    fn wants_address(&self, destination: MacAddr) -> bool {
        if destination == MacAddr::BROADCAST {
            return !self.is_on(Mode::NoBroadcast);
        }
        let (refused, all) = if destination.is_group() {
            (Mode::NoMulticast, self.is_on(Mode::AllMulticast))
        } else {
            let is_own = self.address.is_none_or(|address| address == destination);
            (Mode::NoUnicast, is_own || self.is_on(Mode::AllUnicast))
        };
        !self.is_on(refused) && (all || self.table.binary_search(&destination).is_ok())
    }
}
