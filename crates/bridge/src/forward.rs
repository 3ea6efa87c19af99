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
//! second, the database is not even read, and a refusal is not tried again: counting each frame of
//! a flood would be a shared write a frame. What that costs: a station that moves away from a port
//! and back within a second is learned back in the next second.

mod decisions;

use std::fmt;
use std::sync::Arc;

use frame::{DropReason, Header, MAX_PORTS, VlanId, VlanTag};

use crate::fdb::Key;
use crate::{Fdb, PortSet, Seconds, VlanPolicy};

pub use decisions::{Decisions, Run};

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

/// What becomes of a frame: where it goes, or the reason why it goes nowhere.
pub type Decision = Result<Forward, DropReason>;

/// A port as one thread knows it.
#[derive(Debug)]
struct Port {
    policy: VlanPolicy,
    learn_limit: u32,
    /// The source that was last learned here, and when.
    last_learned: (Key, Seconds),
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
        *port =
            Some(Port { policy: policy.clone(), learn_limit, last_learned: Default::default() });
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

    /// Decides where one frame goes. For bursts there is [`decide_all`](Self::decide_all).
    ///
    /// # Errors
    ///
    /// The reason why it goes nowhere; all are counted at ingress. A frame from a slot without
    /// port is a member of no VLAN.
    pub fn decide(&mut self, ingress: u16, header: &Header, now: Seconds) -> Decision {
        let mut decisions = Decisions::default();
        self.decide_all(ingress, std::iter::once((0, header)), now, &mut decisions);
        decisions.run(0).map_or(Err(DropReason::NoEgressPort), |run| run.decision)
    }

    /// Decides where the frames of a burst go that came in on one port, each given with its place
    /// in the burst, and leaves that in `decisions`. What a frame teaches is known to the next.
    ///
    /// What they and the port's policy say, and where their addresses lie in the filtering database,
    /// is seen to for all frames before anything is looked for there.
    #[inline]
    pub fn decide_all<'a>(
        &mut self,
        ingress: u16,
        headers: impl Iterator<Item = (usize, &'a Header)>,
        now: Seconds,
        decisions: &mut Decisions,
    ) {
        let Some(port) = self.ports.get_mut(usize::from(ingress)).and_then(Option::as_mut) else {
            return decisions.refuse(headers, DropReason::VlanNotMember);
        };
        let (last, learned_at) = port.last_learned;
        let mut learned = if learned_at == now { last } else { Key::default() };
        let reader = self.fdb.reader();
        decisions.classify(&port.policy, reader, &mut learned, headers);
        port.last_learned = (learned, now);
        let hearing = self.fdb.hearing(ingress, port.learn_limit, now);
        decisions.look_up(&self.fdb, &hearing);
        decisions.gather(|forward| self.has_egress(ingress, forward));
    }

    /// Says whether a frame leaves by any port (8.6.4).
    fn has_egress(&self, ingress: u16, forward: &Forward) -> bool {
        let members = self.flood_members(forward.vid);
        match forward.egress {
            Egress::Port(slot) => slot != ingress && members.contains(slot),
            Egress::Flood => members.has_other_than(ingress),
        }
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

impl fmt::Debug for Bridge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports =
            self.ports.iter().enumerate().filter_map(|(slot, port)| Some((slot, port.as_ref()?)));
        formatter.debug_map().entries(ports).finish()
    }
}

#[cfg(test)]
mod tests;
