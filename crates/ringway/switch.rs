//! The switch as the operator sees it: named ports, static addresses, and what may be done to them.
//!
//! Everything here happens on the control thread, one operation at a time. An operation either
//! happens whole or, with a [`Refusal`], not at all.

use std::sync::Arc;
use std::time::Instant;

use datapath::afxdp::UmemPool;
use datapath::bridge::{Entry, Fdb, Flush, StaticEntryError};
use datapath::frame::{MacAddr, PortId, VlanId};
use datapath::{Datapath, Event};

use crate::api::{PortChanges, Refusal};
use crate::guest_port::{GuestPort, Place};
use crate::poller::Poller;
use crate::port_spec::{PortKind, PortSpec, policy};
use crate::uplink::Uplink;

/// What a port is made of, beyond what all ports have.
#[derive(Debug)]
pub(crate) enum Fitting {
    Guest(Box<GuestPort>),
    Uplink(Uplink),
}

/// A port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) spec: PortSpec,
    pub(crate) id: PortId,
    /// Names it among the events of the control thread; never used again.
    key: u32,
    pub(crate) fitting: Fitting,
}

impl Port {
    /// Says whether a guest's driver works it, or its interface is taken.
    pub(crate) fn is_up(&self) -> bool {
        match &self.fitting {
            Fitting::Guest(guest) => guest.is_up(),
            Fitting::Uplink(_) => true,
        }
    }
}

/// An address that the operator has set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StaticEntry {
    pub(crate) address: MacAddr,
    pub(crate) vid: VlanId,
    pub(crate) port: String,
}

/// The switch. See the module's text.
#[derive(Debug)]
pub(crate) struct Switch {
    pub(crate) datapath: Datapath,
    pub(crate) fdb: Arc<Fdb>,
    pool: UmemPool,
    /// In the order they were added.
    ports: Vec<Port>,
    next_key: u32,
}

impl Switch {
    pub(crate) fn new(datapath: Datapath, fdb: Arc<Fdb>) -> Self {
        Self { datapath, fdb, pool: UmemPool::new(), ports: Vec::new(), next_key: 0 }
    }

    /// All ports, in the order they were added.
    pub(crate) fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// The port of this name.
    pub(crate) fn port(&self, name: &str) -> Result<&Port, Refusal> {
        self.ports.iter().find(|port| port.spec.name == name).ok_or_else(|| no_such_port(name))
    }

    /// The name of the port in this slot.
    pub(crate) fn name_of(&self, slot: u16) -> Option<&str> {
        self.ports.iter().find(|port| port.id.slot == slot).map(|port| port.spec.name.as_str())
    }

    /// Adds a port: opens its socket or takes its interface, and joins it to its VLANs.
    pub(crate) fn add_port(&mut self, spec: PortSpec, poller: &Poller) -> Result<(), Refusal> {
        let name = spec.name.clone();
        self.check_new(&spec)?;
        self.warn_of_loops(&spec);
        let (fitting, queues) =
            self.open(&spec).map_err(|refusal| refusal.about(format!("port {name}")))?;
        let limit = spec.learn_limit.unwrap_or(u32::MAX);
        let id = self.datapath.add_port(&spec.policy, limit).map_err(|error| Refusal {
            subject: Some(format!("port {name}")),
            cause: error.to_string(),
            hint: Some("remove a port first".to_owned()),
        })?;
        let key = self.next_key;
        self.next_key = self.next_key.wrapping_add(1);
        for queue in queues {
            self.datapath.add_xdp_queue(id, queue);
        }
        match &fitting {
            Fitting::Guest(guest) => {
                if let Err(error) = guest.watch(poller, key) {
                    self.datapath.remove_port(id);
                    return Err(Refusal {
                        subject: Some(format!("port {name}")),
                        cause: format!("cannot watch its socket: {error}"),
                        hint: None,
                    });
                }
                log::info!("port {name} added: vhost-user, {}", guest.status().socket);
            }
            Fitting::Uplink(uplink) => log::info!("port {name} added: {}", uplink.describe()),
        }
        self.ports.push(Port { spec, id, key, fitting });
        Ok(())
    }

    fn open(
        &mut self,
        spec: &PortSpec,
    ) -> Result<(Fitting, Vec<datapath::afxdp::XdpQueue>), Refusal> {
        match &spec.kind {
            PortKind::VhostUser { socket, connect, queue_pairs, ownership } => {
                let guest = GuestPort::open(socket, *connect, *queue_pairs, ownership)?;
                Ok((Fitting::Guest(Box::new(guest)), Vec::new()))
            }
            PortKind::AfXdp { interface, zero_copy, force } => {
                let (uplink, queues) =
                    Uplink::open(interface, *zero_copy, *force, &mut self.pool)?;
                Ok((Fitting::Uplink(uplink), queues))
            }
        }
    }

    /// Refuses a name, socket or interface that another port has.
    fn check_new(&self, spec: &PortSpec) -> Result<(), Refusal> {
        let subject = || Some(format!("port {}", spec.name));
        for other in &self.ports {
            let taken = if other.spec.name == spec.name {
                return Err(Refusal {
                    subject: subject(),
                    cause: "the name is taken".to_owned(),
                    hint: Some("choose another, or remove that port first".to_owned()),
                });
            } else {
                match (&other.spec.kind, &spec.kind) {
                    (
                        PortKind::VhostUser { socket: theirs, .. },
                        PortKind::VhostUser { socket: ours, .. },
                    ) if theirs == ours => ours.display().to_string(),
                    (
                        PortKind::AfXdp { interface: theirs, .. },
                        PortKind::AfXdp { interface: ours, .. },
                    ) if theirs == ours => ours.clone(),
                    _ => continue,
                }
            };
            return Err(Refusal {
                subject: subject(),
                cause: format!("{taken} belongs to port {}", other.spec.name),
                hint: Some("remove that port first".to_owned()),
            });
        }
        Ok(())
    }

    /// Two uplinks in one VLAN make a loop if they lead to the same network.
    fn warn_of_loops(&self, spec: &PortSpec) {
        if !matches!(spec.kind, PortKind::AfXdp { .. }) {
            return;
        }
        let vlans = spec.policy.memberships();
        for other in &self.ports {
            if let PortKind::AfXdp { .. } = other.spec.kind
                && let Some(vid) = vlans.iter().find(|&vid| other.spec.policy.is_member(vid))
            {
                log::warn!(
                    "ports {} and {} are both AF_XDP and in VLAN {vid}: if they lead to the same \
                     network, that is a loop",
                    other.spec.name,
                    spec.name
                );
            }
        }
    }

    /// Changes a port while traffic flows. VLAN options describe the VLANs anew, but for
    /// `native` alone, which changes the native VLAN of a trunk.
    pub(crate) fn set_port(&mut self, changes: &PortChanges) -> Result<(), Refusal> {
        let place = self.ports.iter().position(|port| port.spec.name == changes.name);
        let port = &mut self.ports[place.ok_or_else(|| no_such_port(&changes.name))?];
        let trunk = match (&changes.trunk, changes.native, port.spec.policy.trunk()) {
            (None, Some(_), Some(members)) => Some(members.to_string()),
            (trunk, _, _) => trunk.clone(),
        };
        if changes.access.is_some() || trunk.is_some() || changes.native.is_some() {
            port.spec.policy = policy(changes.access, trunk.as_deref(), changes.native)
                .map_err(|error| Refusal {
                    subject: Some(format!("port {}", changes.name)),
                    cause: error.to_string(),
                    hint: None,
                })?;
        }
        port.spec.learn_limit = changes.learn_limit.or(port.spec.learn_limit);
        let limit = port.spec.learn_limit.unwrap_or(u32::MAX);
        self.datapath.set_policy(port.id, &port.spec.policy, limit);
        log::info!("port {} changed", changes.name);
        Ok(())
    }

    /// Removes a port and all that was learned or set behind it.
    pub(crate) fn remove_port(&mut self, name: &str, poller: &Poller) -> Result<(), Refusal> {
        let place = self.ports.iter().position(|port| port.spec.name == name);
        let place = place.ok_or_else(|| no_such_port(name))?;
        self.take_down(place, poller);
        log::info!("port {name} removed");
        Ok(())
    }

    /// Removes every port, in the reverse of the order they came.
    pub(crate) fn close(&mut self, poller: &Poller) {
        while let Some(last) = self.ports.len().checked_sub(1) {
            self.take_down(last, poller);
        }
    }

    fn take_down(&mut self, place: usize, poller: &Poller) {
        if let Some((guest, mut surroundings)) = self.guest_at(place, poller) {
            guest.close(&mut surroundings);
            guest.forget(poller);
        }
        // The queues go first: an uplink must outlive them.
        let port = self.ports.remove(place);
        self.datapath.remove_port(port.id);
        drop(port);
    }

    /// A guest's port by its place, with its surroundings.
    fn guest_at<'a>(
        &'a mut self,
        place: usize,
        poller: &'a Poller,
    ) -> Option<(&'a mut GuestPort, Place<'a>)> {
        let port = self.ports.get_mut(place)?;
        let Fitting::Guest(guest) = &mut port.fitting else { return None };
        let (name, key, id) = (port.spec.name.as_str(), port.key, port.id);
        Some((guest, Place { name, key, port: id, poller, datapath: &mut self.datapath }))
    }

    /// Does something with the guest's port that an event is for, if it is still there.
    fn with_guest(
        &mut self,
        key: u32,
        poller: &Poller,
        act: impl FnOnce(&mut GuestPort, &mut Place<'_>),
    ) {
        let place = self.ports.iter().position(|port| port.key == key);
        if let Some((guest, mut surroundings)) =
            place.and_then(|place| self.guest_at(place, poller))
        {
            act(guest, &mut surroundings);
        }
    }

    /// A front end has come to a port's socket.
    pub(crate) fn accept(&mut self, key: u32, poller: &Poller) {
        self.with_guest(key, poller, GuestPort::accept);
    }

    /// A front end has sent something.
    pub(crate) fn serve(&mut self, key: u32, poller: &Poller) {
        self.with_guest(key, poller, GuestPort::serve);
    }

    /// Tries to connect the ports that want to be. Returns whether any does still.
    pub(crate) fn connect(&mut self, poller: &Poller, now: Instant) -> bool {
        let mut wants = false;
        for place in 0..self.ports.len() {
            if let Some((guest, mut surroundings)) = self.guest_at(place, poller) {
                guest.connect(&mut surroundings, now);
                wants |= guest.wants_to_connect();
            }
        }
        wants
    }

    /// Logs what the poll threads have told.
    pub(crate) fn log_events(&mut self) {
        for event in self.datapath.take_events() {
            let Event::QueueFault { port, vring, fault } = event;
            let owner = self.ports.iter().find(|candidate| candidate.id == port);
            let name = owner.map_or("(removed)", |port| port.spec.name.as_str());
            let half = if vring.is_multiple_of(2) { "receiveq" } else { "transmitq" };
            let pair = vring / 2;
            log::warn!("port {name}: {half} {pair} stopped until the guest resets it: {fault}");
        }
    }

    /// Sets an address behind a port.
    pub(crate) fn add_static(&self, entry: &StaticEntry) -> Result<(), Refusal> {
        let StaticEntry { address, vid, port: name } = entry;
        let subject = Some(format!("address {address} in VLAN {vid}"));
        let port = self.port(name)?;
        if !port.spec.policy.is_member(*vid) {
            return Err(Refusal {
                subject,
                cause: format!("port {name} is not in VLAN {vid}"),
                hint: Some("`ringway port set` puts it there".to_owned()),
            });
        }
        self.fdb.add_static(*vid, *address, port.id.slot).map_err(|error| {
            let hint = matches!(error, StaticEntryError::Exists { .. })
                .then(|| "`ringway fdb remove` it first".to_owned());
            Refusal { subject, cause: error.to_string(), hint }
        })
    }

    /// Takes back an address that was set.
    pub(crate) fn remove_static(&self, vid: VlanId, address: MacAddr) -> Result<(), Refusal> {
        self.fdb.remove_static(vid, address).map_err(|error| Refusal {
            subject: Some(format!("address {address} in VLAN {vid}")),
            cause: error.to_string(),
            hint: Some("learned addresses go with `ringway fdb flush`".to_owned()),
        })
    }

    /// Forgets addresses. Returns how many.
    pub(crate) fn flush(
        &self,
        port: Option<&str>,
        vid: Option<VlanId>,
        with_static: bool,
    ) -> Result<usize, Refusal> {
        let slot = port.map(|name| self.port(name).map(|port| port.id.slot)).transpose()?;
        Ok(self.fdb.flush(Flush { slot, vid, with_static }))
    }

    /// All addresses, ordered by VLAN and address.
    pub(crate) fn addresses(&self) -> Vec<Entry> {
        let mut entries = self.fdb.entries(self.datapath.now());
        entries.sort_by_key(|entry| (entry.vid, entry.address));
        entries
    }

    /// What the operator has set.
    pub(crate) fn statics(&self) -> Vec<StaticEntry> {
        let entries = self.addresses().into_iter().filter(|entry| entry.age.is_none());
        entries
            .filter_map(|Entry { vid, address, slot, .. }| {
                let port = self.name_of(slot)?.to_owned();
                Some(StaticEntry { address, vid, port })
            })
            .collect()
    }

    /// Lets addresses age. To be called about once a second.
    pub(crate) fn age(&self) {
        self.fdb.age(self.datapath.now());
    }
}

fn no_such_port(name: &str) -> Refusal {
    Refusal {
        subject: Some(format!("port {name}")),
        cause: "there is no such port".to_owned(),
        hint: Some("`ringway port list` shows those there are".to_owned()),
    }
}
