//! What a port's VLAN setting means: which frames it admits, in which VLAN they are, and how they
//! leave. 802.1Q-2018, 6.9 (tag removal and insertion) and 8.6.1 to 8.6.4 (ingress and egress).
//!
//! | received                 | access VID         | trunk with native    | trunk without         |
//! |--------------------------|--------------------|----------------------|-----------------------|
//! | untagged                 | in VID             | in native            | untagged not admitted |
//! | priority-tagged (VID 0)  | in VID             | in native            | untagged not admitted |
//! | tagged, a member         | tag not admitted   | in that VLAN         | in that VLAN          |
//! | tagged, the native VLAN  |                    | in native            |                       |
//! | tagged, no member        | tag not admitted   | VLAN not member      | VLAN not member       |
//! | tagged, VID 4095         | VID reserved       | VID reserved         | VID reserved          |
//! | **sent**                 | untagged           | tagged, native not   | tagged                |
//!
//! An access port drops a tag even of its own VLAN: a guest behind one has no business to tag.
//! Only a customer tag (0x8100) is a tag; one of 0x88A8 is payload, which the header's parser sees
//! to. Priority and drop eligibility of whatever tag came in stay with the frame, and go out with
//! the tag of a port that sends tagged.

mod set;

use frame::{DropReason, VlanId, VlanTag};

pub use set::{ParseVlanSetError, VlanSet};

/// VID 4095, reserved for implementations and never on a wire (802.1Q-2018, table 9-2).
const RESERVED_VID: u16 = 4_095;

/// A port's place among the VLANs. See the module's table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VlanPolicy {
    /// Untagged member of this one VLAN.
    Access(VlanId),
    /// Tagged member of several.
    Trunk {
        /// The VLANs that are sent tagged. Naming the native one here as well changes nothing.
        members: VlanSet,
        /// The VLAN of untagged frames, which the port is a member of too.
        native: Option<VlanId>,
    },
}

impl Default for VlanPolicy {
    /// Access to VLAN 1.
    fn default() -> Self {
        Self::Access(VlanId::DEFAULT)
    }
}

impl VlanPolicy {
    /// The VLAN of an access port.
    #[must_use]
    pub const fn access(&self) -> Option<VlanId> {
        match self {
            Self::Access(vid) => Some(*vid),
            Self::Trunk { .. } => None,
        }
    }

    /// The VLANs named for a trunk.
    #[must_use]
    pub const fn trunk(&self) -> Option<&VlanSet> {
        match self {
            Self::Access(_) => None,
            Self::Trunk { members, .. } => Some(members),
        }
    }

    /// The native VLAN of a trunk that has one.
    #[must_use]
    pub const fn native(&self) -> Option<VlanId> {
        match self {
            Self::Access(_) => None,
            Self::Trunk { native, .. } => *native,
        }
    }

    /// The VLAN of frames without tag, in both directions: received untagged, sent untagged.
    #[must_use]
    #[inline]
    pub const fn untagged(&self) -> Option<VlanId> {
        match self {
            Self::Access(vid) => Some(*vid),
            Self::Trunk { native, .. } => *native,
        }
    }

    /// Says whether the port is a member of a VLAN.
    #[must_use]
    #[inline]
    pub fn is_member(&self, vid: VlanId) -> bool {
        match self {
            Self::Access(access) => *access == vid,
            Self::Trunk { members, native } => *native == Some(vid) || members.contains(vid),
        }
    }

    /// All VLANs the port is a member of.
    #[must_use]
    pub fn memberships(&self) -> VlanSet {
        let mut all = self.trunk().cloned().unwrap_or_default();
        if let Some(vid) = self.untagged() {
            all.insert(vid);
        }
        all
    }

    /// Finds the VLAN of a frame received with this tag, and the tag it has from now on: that
    /// VLAN, with the priority it came with.
    ///
    /// # Errors
    ///
    /// The reason why the port does not admit it, as in the module's table.
    #[inline]
    pub fn classify(&self, received: Option<VlanTag>) -> Result<(VlanId, VlanTag), DropReason> {
        let tag = received.unwrap_or(VlanTag::from_bits(0));
        match (tag.vid(), self) {
            (0, Self::Access(vid) | Self::Trunk { native: Some(vid), .. }) => {
                Ok((*vid, tag.with_vid(*vid)))
            }
            (0, Self::Trunk { native: None, .. }) => Err(DropReason::UntaggedNotAdmitted),
            (RESERVED_VID, Self::Access(_) | Self::Trunk { .. }) => Err(DropReason::VidReserved),
            (_, Self::Access(_)) => Err(DropReason::TagNotAdmitted),
            (number, Self::Trunk { .. }) => VlanId::try_from(number)
                .ok()
                .filter(|&vid| self.is_member(vid))
                .map(|vid| (vid, tag))
                .ok_or(DropReason::VlanNotMember),
        }
    }

    /// The tag that a frame leaves by this port with; none if it leaves untagged.
    #[must_use]
    #[inline]
    pub fn egress_tag(&self, vid: VlanId, tag: VlanTag) -> Option<VlanTag> {
        (self.untagged() != Some(vid)).then(|| tag.with_vid(vid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PCP 5 with DEI set, the rest of the tag left free.
    const PRIORITY: u16 = 0xb000;
    const UNTAGGED: Option<VlanTag> = None;

    fn vid(number: u16) -> VlanId {
        VlanId::try_from(number).unwrap()
    }

    fn tagged(number: u16) -> Option<VlanTag> {
        Some(VlanTag::from_bits(PRIORITY | number))
    }

    fn access() -> VlanPolicy {
        VlanPolicy::Access(vid(100))
    }

    fn trunk(members: &str, native: Option<u16>) -> VlanPolicy {
        VlanPolicy::Trunk { members: members.parse().unwrap(), native: native.map(vid) }
    }

    #[test]
    fn port_is_access_to_vlan_1_by_default() {
        assert_eq!(VlanPolicy::default().access(), Some(vid(1)));
    }

    #[test]
    fn access_port_admits_untagged_frames_into_its_vlan() {
        assert_eq!(access().classify(UNTAGGED), Ok((vid(100), VlanTag::from(vid(100)))));
    }

    #[test]
    fn access_port_admits_priority_tags_and_keeps_their_priority() {
        let expected = (vid(100), VlanTag::from_bits(PRIORITY | 100));

        assert_eq!(access().classify(tagged(0)), Ok(expected));
    }

    #[test]
    fn access_port_drops_other_tags_even_of_its_own_vlan() {
        assert_eq!(access().classify(tagged(7)), Err(DropReason::TagNotAdmitted));
        assert_eq!(access().classify(tagged(100)), Err(DropReason::TagNotAdmitted));
    }

    #[test]
    fn access_port_sends_untagged() {
        assert_eq!(access().egress_tag(vid(100), VlanTag::from_bits(PRIORITY | 100)), None);
    }

    #[test]
    fn trunk_without_native_drops_untagged_frames_and_priority_tags() {
        let trunk = trunk("100", None);

        assert_eq!(trunk.classify(UNTAGGED), Err(DropReason::UntaggedNotAdmitted));
        assert_eq!(trunk.classify(tagged(0)), Err(DropReason::UntaggedNotAdmitted));
    }

    #[test]
    fn trunk_admits_tags_of_its_vlans_as_they_are() {
        let received = tagged(250);

        let classified = trunk("100,200-299", Some(1)).classify(received);

        assert_eq!(classified, Ok((vid(250), received.unwrap())));
    }

    #[test]
    fn trunk_drops_tags_of_vlans_it_is_not_in() {
        assert_eq!(trunk("100", Some(1)).classify(tagged(101)), Err(DropReason::VlanNotMember));
        assert_eq!(trunk("100", None).classify(tagged(4_094)), Err(DropReason::VlanNotMember));
    }

    #[test]
    fn trunk_takes_untagged_frames_and_priority_tags_into_its_native_vlan() {
        let trunk = trunk("100", Some(1));

        assert_eq!(trunk.classify(UNTAGGED), Ok((vid(1), VlanTag::from(vid(1)))));
        assert_eq!(trunk.classify(tagged(0)), Ok((vid(1), VlanTag::from_bits(PRIORITY | 1))));
    }

    #[test]
    fn trunk_admits_a_tag_of_its_native_vlan() {
        assert_eq!(trunk("100", Some(1)).classify(tagged(1)), Ok((vid(1), tagged(1).unwrap())));
    }

    #[test]
    fn trunk_is_a_member_of_its_native_vlan_and_sends_it_untagged() {
        let trunk = trunk("100", Some(1));

        assert!(trunk.is_member(vid(1)));
        assert_eq!(trunk.memberships().to_string(), "1,100");
        assert_eq!(trunk.egress_tag(vid(1), VlanTag::from(vid(1))), None);
    }

    #[test]
    fn native_vlan_that_is_also_listed_leaves_untagged() {
        let trunk = trunk("1,100", Some(1));

        assert_eq!(trunk.egress_tag(vid(1), VlanTag::from(vid(1))), None);
    }

    #[test]
    fn trunk_sends_other_vlans_tagged_with_the_priority_they_came_with() {
        let (vid, tag) = VlanPolicy::Access(vid(100)).classify(tagged(0)).unwrap();

        let sent = trunk("100", Some(1)).egress_tag(vid, tag);

        assert_eq!(sent, tagged(100));
    }

    #[test]
    fn vid_4095_is_dropped_as_reserved_everywhere() {
        assert_eq!(access().classify(tagged(4_095)), Err(DropReason::VidReserved));
        assert_eq!(trunk("1-4094", None).classify(tagged(4_095)), Err(DropReason::VidReserved));
    }
}
