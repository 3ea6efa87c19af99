//! A switch on its way into another process: what it gives, and what it takes.
//!
//! Rings stop in the order in which frames go: first what comes in from guests, then interfaces and
//! taps, then what goes out to guests; so nothing is on its way any more when the last has stopped.
//! They start in the opposite order.

mod uplinks;

use std::collections::HashSet;

use datapath::bridge::{Entry, Seconds};
use datapath::frame::{MacAddr, PortId, VlanId};
use vhost_user::Refused;

use super::{Behind, Port, Switch};
use crate::config::{Config, StaticEntry};
use crate::guest::Attached;
use crate::guest_port::GuestPort;
use crate::hand_over::{Arrived, GuestPortState, LearnedEntry, Lent, RingStopped, TapState};
use crate::host_tap::HostTap;
use crate::port_spec::{Connection, PortSpec};
use crate::refusal::Refusal;

/// Which of a guest's rings: every second from here (VIRTIO 1.2, 5.1.2).
const RECEIVEQS: u16 = 0;
const TRANSMITQS: u16 = 1;

/// A learned entry as the old switch has it: VLAN, address, slot.
pub(crate) type Known = HashSet<(VlanId, MacAddr, u16)>;

/// What the new switch cannot place yet, for want of the port.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    pub(crate) ports: Vec<(u32, PortSpec)>,
    pub(crate) entries: Vec<StaticEntry>,
    pub(crate) learned: Vec<LearnedEntry>,
}

/// Giving.
impl Switch {
    /// Notes that a client wants everything.
    pub(crate) const fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Says once whether a client wanted everything.
    pub(crate) const fn take_wanted(&mut self) -> bool {
        std::mem::replace(&mut self.is_wanted, false)
    }

    fn guests(&self) -> impl Iterator<Item = (&Port, &GuestPort)> {
        self.ports.values().filter_map(|port| match &port.behind {
            Behind::Guest(guest) => Some((port, &**guest)),
            Behind::Uplink(_) | Behind::Tap(_) => None,
        })
    }

    /// All guests' ports.
    pub(crate) fn describe_guests<'a>(&'a self, lent: &mut Lent<'a>) -> Vec<GuestPortState> {
        self.guests().map(|(port, guest)| guest.describe(&port.spec.name, lent)).collect()
    }

    /// What has been learned, but for what is `known`.
    pub(crate) fn learned(&self, known: &Known) -> Vec<Entry> {
        let mut entries = self.fdb.entries(self.datapath.now());
        entries.retain(|entry| !entry.is_static() && !known.contains(&key(entry)));
        entries
    }

    /// Entries as the other switch can read them.
    pub(crate) fn in_words(&self, entries: &[Entry]) -> Vec<LearnedEntry> {
        let names = self.names_by_slot();
        let in_words = |entry: &Entry| {
            Some(LearnedEntry {
                mac: entry.address.to_string(),
                vlan: entry.vid.get(),
                port: (*names.get(&entry.slot)?).to_owned(),
                age_seconds: entry.age.map_or(0, |age| age.0),
            })
        };
        entries.iter().filter_map(in_words).collect()
    }

    /// Stops all rings and queues. Everything that was taken in has left then.
    pub(crate) fn pause(&mut self) {
        self.stop_guests(TRANSMITQS);
        // All of them before any is taken out of use: they send to one another.
        let others = self.no_guests();
        self.datapath.stop_intake(&others);
        for (id, queue) in self.datapath.take_queues(&others) {
            match self.ports.values_mut().find(|port| port.id == id).map(|port| &mut port.behind) {
                Some(Behind::Uplink(uplink)) => uplink.idle.push(queue),
                Some(Behind::Tap(tap)) => tap.idle.push(queue),
                Some(Behind::Guest(_)) | None => {}
            }
        }
        self.stop_guests(RECEIVEQS);
        // A guest may have broken a ring before it stopped.
        self.take_events();
    }

    /// The ports of interfaces and taps.
    fn no_guests(&self) -> Vec<PortId> {
        let is_guest = |port: &&Port| matches!(port.behind, Behind::Guest(_));
        self.ports.values().filter(|port| !is_guest(port)).map(|port| port.id).collect()
    }

    /// Stops one kind of the guests' rings, all at once.
    fn stop_guests(&mut self, kind: u16) {
        let rings = self
            .guests()
            .flat_map(|(port, guest)| guest.guest.working(kind).map(|index| (port.id, index)));
        let rings: Vec<_> = rings.collect();
        for stopped in self.datapath.stop_vrings(&rings) {
            let port = self.ports.values_mut().find(|port| port.id == stopped.port);
            if let Some(Port { behind: Behind::Guest(guest), .. }) = port {
                guest.guest.note_stop(stopped);
            }
        }
    }

    /// Where the guests' rings have stopped.
    pub(crate) fn rings_stopped(&self) -> Vec<Vec<RingStopped>> {
        self.guests().map(|(_, guest)| guest.guest.rings_stopped()).collect()
    }

    /// The taps, but for those that were removed under us.
    pub(crate) fn describe_taps<'a>(&'a self, lent: &mut Lent<'a>) -> Vec<TapState> {
        let ports = self.ports.values().filter_map(|port| match &port.behind {
            Behind::Tap(tap) if !tap.is_gone => Some((port, tap)),
            Behind::Tap(_) | Behind::Guest(_) | Behind::Uplink(_) => None,
        });
        ports
            .map(|(port, tap)| {
                let descriptors = tap.idle.iter().filter_map(|queue| queue.descriptor());
                let queues = descriptors.map(|descriptor| lent.add(descriptor)).collect();
                TapState { port: port.spec.name.clone(), queues }
            })
            .collect()
    }

    /// Starts all rings and queues, those of uplinks anew where another switch had begun.
    pub(crate) fn resume(&mut self) {
        self.each_attached(|mut guest, _| guest.resume_orders());
        self.start_guests(RECEIVEQS);
        // Not before guests can receive what comes in by them.
        self.reopen_moved();
        let mut queues = Vec::new();
        for port in self.ports.values_mut() {
            let idle = match &mut port.behind {
                Behind::Guest(_) => continue,
                Behind::Uplink(uplink) => {
                    uplink.own();
                    &mut uplink.idle
                }
                Behind::Tap(tap) => &mut tap.idle,
            };
            queues.extend(std::mem::take(idle).into_iter().map(|queue| (port.id, queue)));
        }
        self.datapath.put_back(queues);
        // Not before all are there.
        self.datapath.start_intake(&self.no_guests());
        self.start_guests(TRANSMITQS);
        self.each_attached(|mut guest, name| {
            if let Err(refused) = guest.resume_control() {
                log::warn!("port {name}: {refused}");
            }
        });
    }

    fn each_attached(&mut self, mut work: impl FnMut(Attached<'_>, &str)) {
        for port in self.ports.values_mut() {
            if let Behind::Guest(guest) = &mut port.behind {
                work(guest.guest.attached(&mut self.datapath, port.id), &port.spec.name);
            }
        }
    }

    /// Starts one kind of the guests' rings, all at once.
    fn start_guests(&mut self, kind: u16) {
        let complain = |port: &Port, refused: &Refused| {
            log::warn!("port {}: {refused}", port.spec.name);
        };
        let (mut places, mut starts) = (Vec::new(), Vec::new());
        for (&key, port) in &self.ports {
            let Behind::Guest(guest) = &port.behind else { continue };
            for start in guest.guest.startable(port.id, kind) {
                match start {
                    Ok(start) => {
                        places.push((key, start.vring));
                        starts.push(start);
                    }
                    Err(refused) => complain(port, &refused),
                }
            }
        }
        for ((key, vring), outcome) in places.into_iter().zip(self.datapath.start_vrings(starts)) {
            let Some(port) = self.ports.get_mut(&key) else { continue };
            let Behind::Guest(guest) = &mut port.behind else { continue };
            if let Err(refused) = guest.guest.note_start(vring, outcome) {
                complain(port, &refused);
            }
        }
    }

    fn each_guest(&mut self, mut work: impl FnMut(&mut GuestPort)) {
        for port in self.ports.values_mut() {
            if let Behind::Guest(guest) = &mut port.behind {
                work(guest);
            }
        }
    }

    /// Has the log say which ports are up.
    pub(crate) fn note_states(&mut self) {
        self.each_guest(|guest| guest.settle());
    }

    /// Says whether the files of the guests' sockets go with this switch.
    pub(crate) fn own_sockets(&mut self, owned: bool) {
        self.each_guest(|guest| guest.own_socket(owned));
    }
}

/// Taking.
impl Switch {
    /// Adopts the guests' ports of another switch. No ring starts.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the port's name.
    pub(crate) fn adopt_guests(
        &mut self,
        config: Config,
        guests: Vec<GuestPortState>,
        learned: Vec<LearnedEntry>,
        arrived: &mut Arrived,
    ) -> Result<Rest, Refusal> {
        let mut guests = guests.into_iter();
        let mut rest = Rest { ports: Vec::new(), entries: config.entries, learned };
        for (key, spec) in (0..).zip(config.ports) {
            self.next_key = key + 1;
            if !matches!(spec.settings().map(|it| it.connection), Ok(Connection::VhostUser { .. }))
            {
                rest.ports.push((key, spec));
                continue;
            }
            let name = spec.name.clone();
            let state = guests.next().filter(|state| state.port == name);
            let state = state.ok_or_else(|| Refusal::new("it was not described").about(&name))?;
            let adopted = self.add_port_as(key, spec, |switch, name, id, settings| {
                let place = (name, id, key);
                let port = GuestPort::adopt(place, settings, &switch.poller, state, arrived)?;
                Ok(Behind::Guest(Box::new(port)))
            });
            adopted.map_err(|refusal| refusal.about(&name))?;
        }
        self.settle(&mut rest)?;
        Ok(rest)
    }

    /// Takes note of where the guests' rings have stopped, in the order of their ports.
    pub(crate) fn place_rings(&mut self, rings: Vec<Vec<RingStopped>>) {
        let mut rings = rings.into_iter();
        self.each_guest(|guest| guest.guest.place(rings.next().unwrap_or_default()));
    }

    /// Adopts the taps of another switch. Their queues are idle yet.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the port's name.
    pub(crate) fn adopt_taps(
        &mut self,
        taps: Vec<TapState>,
        rest: &mut Rest,
        arrived: &mut Arrived,
    ) -> Result<(), Refusal> {
        for TapState { port, queues } in taps {
            let found = rest.ports.iter().position(|(_, spec)| spec.name == port);
            let found = found.ok_or_else(|| Refusal::new("it is in no configuration").about(&port));
            let (key, spec) = rest.ports.remove(found?);
            let interface = spec.interface.clone().unwrap_or_default();
            let files = queues.into_iter().map(|place| arrived.take(place));
            let files = files.collect::<Result<_, _>>().map_err(Refusal::from)?;
            let adopted = self.add_port_as(key, spec, |_, _, _, _| {
                Ok(Behind::Tap(HostTap::adopt(&interface, files)?))
            });
            adopted.map_err(|refusal| refusal.about(&port))?;
        }
        self.settle(rest)
    }

    /// Opens the ports that are left. What cannot be opened is left out, and the log says so.
    pub(crate) fn open_rest(&mut self, rest: &mut Rest) {
        for (key, spec) in std::mem::take(&mut rest.ports) {
            let name = spec.name.clone();
            let added = self.add_port_as(key, spec, |switch, name, id, settings| {
                switch.open(name, id, key, settings)
            });
            if let Err(refusal) = added {
                log::error!("left out, add it again: {}", refusal.about(&name));
            }
        }
        if let Err(refusal) = self.settle(rest) {
            log::error!("{refusal}");
        }
    }

    /// Makes the entries of ports that are there.
    fn settle(&mut self, rest: &mut Rest) -> Result<(), Refusal> {
        let (now, waiting) = std::mem::take(&mut rest.entries)
            .into_iter()
            .partition::<Vec<_>, _>(|entry| self.port(&entry.port).is_ok());
        rest.entries = waiting;
        self.add_entries(&now)?;
        let mut learned = std::mem::take(&mut rest.learned);
        learned.retain(|entry| !self.learn(entry));
        rest.learned = learned;
        Ok(())
    }

    /// Learns what another switch had learned. False if the port is not there.
    fn learn(&self, entry: &LearnedEntry) -> bool {
        let Ok(port) = self.port(&entry.port) else { return false };
        if let (Ok(address), Ok(vid)) = (entry.mac.parse(), VlanId::try_from(entry.vlan)) {
            let (limit, age) = (port.settings.learn_limit, Seconds(entry.age_seconds));
            self.fdb.learn_aged(vid, address, port.id.slot, limit, age, self.datapath.now());
        }
        true
    }
}

/// What tells an entry from others.
pub(crate) const fn key(entry: &Entry) -> (VlanId, MacAddr, u16) {
    (entry.vid, entry.address, entry.slot)
}
