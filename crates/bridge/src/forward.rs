//! The forwarding decision (802.1Q-2018, 8.6), one line a step.
//!
//! Each poll thread has a [`Bridge`] of its own, with its own copy of every port's VLAN policy and
//! of every VLAN's members. A decision thus shares nothing with other threads but the filtering
//! database.
//!
//! A frame goes to the port its destination was learned behind, or, if it is unknown or a group,
//! to every member of its VLAN but the port it came from. A destination that was learned behind a
//! port which has since left the VLAN, or the switch, is neither: the standard takes the
//! database's word first (8.6.3) and then filters by membership (8.6.4), which leaves
//! no port. Flooding instead would show a station's private traffic to the whole VLAN whenever an
//! operator moves its port. Such an entry does not last: whoever changes a port flushes it.
//!
//! Learning is throttled: while a port's last source is the same, in the same VLAN and the same
//! second, the database is not even read. What that costs: a station that moves away from a port
//! and back within a second is learned back in the next second.

use std::fmt;
use std::sync::Arc;

use frame::{DropReason, Header, MAX_PORTS, MacAddr, VlanId, VlanTag};

use crate::{Fdb, Location, PortSet, Seconds, VlanPolicy};

/// Room for every VID; those of 0 and 4095 stay unused.
const VIDS: usize = 4_096;

/// Where a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Egress {
    /// To this port alone, which is a member of the VLAN and not the one it came in on.
    Port(u16),
    /// To all of [`Bridge::flood_members`] but the port it came in on; there is at least one.
    Flood,
}

/// The decision on a frame that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forward {
    /// The VLAN the frame is in.
    pub vid: VlanId,
    /// The tag of that VLAN, with the priority that the frame came with, or 0.
    pub tag: VlanTag,
    /// Where it goes.
    pub egress: Egress,
}

/// A frame that may pass if it has somewhere to go: what the first half of a decision found out.
#[derive(Debug, Clone, Copy)]
pub struct Classified {
    vid: VlanId,
    tag: VlanTag,
    /// Where its source's entry lies.
    source: Location,
    /// Where its destination's entry lies.
    destination: Location,
    /// The source need not be learned.
    is_learned: bool,
    /// The destination is a group, and has no entry.
    is_group: bool,
}

/// A port as one thread knows it.
#[derive(Debug)]
struct Port {
    policy: VlanPolicy,
    learn_limit: u32,
    last_learned: Option<(VlanId, MacAddr, Seconds)>,
}

/// One poll thread's view of the bridge.
pub struct Bridge {
    fdb: Arc<Fdb>,
    /// By slot.
    ports: Vec<Option<Port>>,
    /// By VID; made when a VLAN gets its first member.
    members: Vec<Option<Box<PortSet>>>,
}

/// What a VLAN without members floods to.
static NO_PORTS: PortSet = PortSet::EMPTY;

impl Bridge {
    /// A bridge without ports.
    #[must_use]
    pub fn new(fdb: Arc<Fdb>) -> Self {
        Self {
            fdb,
            ports: std::iter::repeat_with(|| None).take(MAX_PORTS).collect(),
            members: vec![None; VIDS],
        }
    }

    /// Adds the port of a slot, or changes it while traffic flows. It learns up to `learn_limit`
    /// addresses; `u32::MAX` stands for no limit. A slot not below [`MAX_PORTS`] is ignored.
    ///
    /// Whoever changes a policy also flushes the port's addresses, lest those learned in VLANs
    /// that it left stay unreachable until they age out.
    pub fn set_port(&mut self, slot: u16, policy: &VlanPolicy, learn_limit: u32) {
        self.remove_port(slot);
        let Some(port) = self.ports.get_mut(usize::from(slot)) else { return };
        *port = Some(Port { policy: policy.clone(), learn_limit, last_learned: None });
        for vid in policy.memberships().iter() {
            self.members[usize::from(vid.get())].get_or_insert_default().insert(slot);
        }
    }

    /// Takes a port out. Its addresses stay in the [`Fdb`] until they are flushed there, which is
    /// for the control thread to do once no thread has the port any more.
    pub fn remove_port(&mut self, slot: u16) {
        let Some(port) = self.ports.get_mut(usize::from(slot)).and_then(Option::take) else {
            return;
        };
        for vid in port.policy.memberships().iter() {
            if let Some(members) = &mut self.members[usize::from(vid.get())] {
                members.remove(slot);
            }
        }
    }

    /// Decides where one frame goes.
    ///
    /// # Errors
    ///
    /// The reason why it goes nowhere; all are counted at ingress. A frame from a slot without
    /// port is a member of no VLAN.
    #[inline]
    pub fn decide(
        &mut self,
        ingress: u16,
        header: &Header,
        now: Seconds,
    ) -> Result<Forward, DropReason> {
        let classified = self.classify(ingress, header, now)?;
        self.forward(ingress, header, &classified, now)
    }

    /// The first half of a decision: what the frame itself and its port's policy say. Locates its
    /// addresses in the filtering database, for [`forward`](Self::forward) to look there soon.
    ///
    /// Always inlined, like what it calls: returned from a function, the result is stored in
    /// pieces of other sizes than it is read in, and the processor waits for each. That took twice
    /// the time of the whole decision.
    ///
    /// # Errors
    ///
    /// As for [`decide`](Self::decide).
    #[inline(always)]
    pub fn classify(
        &self,
        ingress: u16,
        header: &Header,
        now: Seconds,
    ) -> Result<Classified, DropReason> {
        let (source, destination) = (header.source(), header.destination());
        if destination.is_reserved_group() {
            return Err(DropReason::ReservedGroup); // 8.6.3, table 8-1
        }
        if source.is_group() {
            return Err(DropReason::SourceIsGroup);
        }
        let port = self.ports.get(usize::from(ingress)).and_then(Option::as_ref);
        let port = port.ok_or(DropReason::VlanNotMember)?;
        let (vid, tag) = port.policy.classify(header.tag())?; // 6.9, 8.6.2
        let is_learned = port.has_learned(vid, source, now);
        let is_group = destination.is_group();
        let locate = |is_needless, address| {
            if is_needless { Location::default() } else { self.fdb.locate(vid, address) }
        };
        Ok(Classified {
            vid,
            tag,
            source: locate(is_learned, source),
            destination: locate(is_group, destination),
            is_learned,
            is_group,
        })
    }

    /// The second half of a decision: what the filtering database says. Learns the source.
    ///
    /// # Errors
    ///
    /// As for [`decide`](Self::decide).
    #[inline(always)]
    pub fn forward(
        &mut self,
        ingress: u16,
        header: &Header,
        classified: &Classified,
        now: Seconds,
    ) -> Result<Forward, DropReason> {
        let Classified { vid, tag, source, destination, .. } = *classified;
        if !classified.is_learned
            && let Some(Some(port)) = self.ports.get_mut(usize::from(ingress))
        {
            port.learn(&self.fdb, ingress, (vid, header.source(), now), source); // 8.7
        }
        let is_group = classified.is_group;
        let known = if is_group { None } else { self.fdb.look_up_at(destination) }; // 8.6.3
        let egress = known.map_or(Egress::Flood, Egress::Port);
        let members = self.flood_members(vid); // 8.6.4
        let has_egress = match egress {
            Egress::Port(slot) => slot != ingress && members.contains(slot),
            Egress::Flood => members.has_other_than(ingress),
        };
        let forward = Forward { vid, tag, egress };
        if has_egress { Ok(forward) } else { Err(DropReason::NoEgressPort) }
    }

    /// All members of a VLAN. Flooding goes to these but the ingress port.
    #[must_use]
    #[inline]
    pub fn flood_members(&self, vid: VlanId) -> &PortSet {
        self.members[usize::from(vid.get())].as_deref().unwrap_or(&NO_PORTS)
    }

    /// The tag that a forwarded frame leaves by a port with; none if it leaves untagged.
    #[must_use]
    #[inline]
    pub fn egress_tag(&self, egress: u16, forward: &Forward) -> Option<VlanTag> {
        let port = self.ports.get(usize::from(egress)).and_then(Option::as_ref)?;
        port.policy.egress_tag(forward.vid, forward.tag)
    }

    /// The filtering database it shares with the other threads.
    #[must_use]
    pub const fn fdb(&self) -> &Arc<Fdb> {
        &self.fdb
    }
}

impl Port {
    /// Says whether the last source learned here was this one, within this second.
    #[inline]
    fn has_learned(&self, vid: VlanId, source: MacAddr, now: Seconds) -> bool {
        self.last_learned == Some((vid, source, now))
    }

    /// Learns a source, unless this port's last frame has done so within this second. A refusal
    /// is not tried again either: counting each frame of a flood would be a shared write a frame.
    #[inline]
    fn learn(
        &mut self,
        fdb: &Fdb,
        slot: u16,
        heard: (VlanId, MacAddr, Seconds),
        location: Location,
    ) {
        let (vid, source, now) = heard;
        if !self.has_learned(vid, source, now) {
            fdb.learn_at(location, slot, self.learn_limit, now);
            self.last_learned = Some(heard);
        }
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports =
            self.ports.iter().enumerate().filter_map(|(slot, port)| Some((slot, port.as_ref()?)));
        formatter.debug_map().entries(ports).finish()
    }
}

#[cfg(test)]
mod tests;
