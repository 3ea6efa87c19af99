//! The ports, and what operators do with them.
//!
//! Everything here is called by the control thread, one request at a time, so a change is whole
//! before the next is looked at. A port is added in the order socket or interface, then data path,
//! so that what can fail fails before anybody depends on it; a port that could not be added
//! leaves nothing behind.

mod conflicts;
mod faults;
mod hand_over;
mod operations;
mod reunion;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::Datapath;
use datapath::afxdp::UmemPool;
use datapath::bridge::{Fdb, Seconds};
use datapath::frame::PortId;

use crate::config::{Config, StaticEntry};
use crate::cores;
use crate::guest_port::GuestPort;
use crate::host_tap::HostTap;
use crate::poller::Poller;
use crate::port_spec::{Connection, PortSpec, Settings};
use crate::refusal::Refusal;
use crate::uplink::Uplink;
pub(crate) use faults::Fault;
use faults::{Faults, RingName};
pub(crate) use hand_over::{Known, Rest, key};

/// What is behind a port.
#[derive(Debug)]
pub(crate) enum Behind {
    Guest(Box<GuestPort>),
    Uplink(Uplink),
    Tap(HostTap),
}

/// A port of the switch.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) id: PortId,
    /// As it was described, with changes since.
    pub(crate) spec: PortSpec,
    /// The same, checked.
    pub(crate) settings: Settings,
    pub(crate) behind: Behind,
    pub(crate) faults: Faults,
}

impl Port {
    /// Says whether frames can get through: a guest's driver runs, an interface is taken.
    pub(crate) fn is_up(&self) -> bool {
        match &self.behind {
            Behind::Guest(guest) => guest.guest.is_up(),
            Behind::Uplink(_) => true,
            Behind::Tap(tap) => !tap.is_gone,
        }
    }
}

/// The switch: data path, filtering database and ports.
#[derive(Debug)]
pub(crate) struct Switch {
    // Ports first: an interface is put back only after its queues are gone, see `drop`.
    /// By key, which rises: the order of addition.
    ports: BTreeMap<u32, Port>,
    next_key: u32,
    pub(crate) datapath: Datapath,
    pub(crate) fdb: Arc<Fdb>,
    pool: UmemPool,
    poller: Rc<Poller>,
    /// The configuration but for ports and static entries, which are looked up.
    base: Config,
    /// The file that the daemon was started with.
    file: Option<PathBuf>,
    /// How long frames that wait in guests wait for other guests at most.
    reunion: Option<Instant>,
    /// A client of the control socket has just asked for everything.
    is_wanted: bool,
}

impl Switch {
    /// Starts the poll threads; no port yet.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if a poll thread cannot be started.
    pub(crate) fn start(
        config: &Config,
        file: Option<PathBuf>,
        poller: Rc<Poller>,
    ) -> Result<Self, Refusal> {
        let fdb =
            Arc::new(Fdb::new(config.bridge.addresses, Seconds(config.bridge.ageing_seconds)));
        let cores = config.threads.cores.clone().unwrap_or_else(cores::default);
        let settings =
            datapath::Settings { cores, poll: config.threads.poll.into(), fdb: Arc::clone(&fdb) };
        let datapath = Datapath::start(settings).map_err(|error| Refusal::caused_by(&error))?;
        let base = Config { ports: Vec::new(), entries: Vec::new(), ..config.clone() };
        let pool = UmemPool::new();
        let ports = BTreeMap::new();
        Ok(Self {
            ports,
            next_key: 0,
            datapath,
            fdb,
            pool,
            poller,
            base,
            file,
            reunion: None,
            is_wanted: false,
        })
    }

    /// The ports in the order of addition.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &Port> {
        self.ports.values()
    }

    /// The port of this name.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there is none.
    pub(crate) fn port(&self, name: &str) -> Result<&Port, Refusal> {
        self.ports().find(|port| port.spec.name == name).ok_or_else(|| no_such_port(name))
    }

    /// The names of the ports by slot.
    pub(crate) fn names_by_slot(&self) -> HashMap<u16, &str> {
        self.ports().map(|port| (port.id.slot, port.spec.name.as_str())).collect()
    }

    fn key_of(&self, name: &str) -> Result<u32, Refusal> {
        let mut ports = self.ports.iter();
        let found = ports.find(|(_, port)| port.spec.name == name);
        found.map(|(&key, _)| key).ok_or_else(|| no_such_port(name))
    }

    /// Adds a port.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub(crate) fn add_port(&mut self, spec: PortSpec) -> Result<(), Refusal> {
        let name = spec.name.clone();
        self.try_add_port(spec).map_err(|refusal| refusal.about(&name))
    }

    fn try_add_port(&mut self, spec: PortSpec) -> Result<(), Refusal> {
        let key = self.next_key;
        self.add_port_as(key, spec, |switch, name, id, settings| {
            switch.open(name, id, key, settings)
        })?;
        self.next_key = key.wrapping_add(1);
        Ok(())
    }

    /// Adds a port with this key by a function that gets what is behind it.
    fn add_port_as(
        &mut self,
        key: u32,
        spec: PortSpec,
        open: impl FnOnce(&mut Self, &str, PortId, &Settings) -> Result<Behind, Refusal>,
    ) -> Result<(), Refusal> {
        let settings = spec
            .settings()
            .map_err(|invalid| Refusal::new(format!("{}: {}", invalid.key, invalid.reason)))?;
        self.check_unclaimed(&spec)?;
        let Settings { policy, learn_limit, traits, .. } = &settings;
        let id = self.datapath.add_port(policy, *learn_limit, *traits);
        let id = id.map_err(|error| Refusal::caused_by(&error))?;
        match open(self, &spec.name, id, &settings) {
            Ok(behind) => {
                let faults = Faults::new(&spec.name);
                self.ports.insert(key, Port { id, spec, settings, behind, faults });
                Ok(())
            }
            Err(refusal) => {
                self.datapath.remove_port(id);
                Err(refusal)
            }
        }
    }

    fn open(
        &mut self,
        name: &str,
        id: PortId,
        key: u32,
        settings: &Settings,
    ) -> Result<Behind, Refusal> {
        match &settings.connection {
            Connection::VhostUser { .. } => {
                let port = GuestPort::open(name, id, key, settings, &self.poller)?;
                log::info!("port {name}: added, waits for a front end");
                Ok(Behind::Guest(Box::new(port)))
            }
            Connection::AfXdp { interface, zero_copy, force } => {
                let (uplink, queues) = Uplink::open(interface, *zero_copy, *force, &mut self.pool)?;
                uplink.check_mtu(settings)?;
                let (mode, count) = (uplink.interface.mode().as_str(), queues.len());
                for queue in queues {
                    self.datapath.add_xdp_queue(id, queue);
                }
                log::info!("port {name}: up, {interface} in {mode} mode, {count} queues");
                Ok(Behind::Uplink(uplink))
            }
            Connection::Tap { interface, queues } => {
                let (tap, queues) = HostTap::open(interface, *queues, settings)?;
                let (receiver, count) = (tap.tap.receiver(), queues.len());
                for queue in queues {
                    self.datapath.add_tap_queue(id, queue, receiver);
                }
                log::info!("port {name}: up, tap {interface}, {count} queues");
                Ok(Behind::Tap(tap))
            }
        }
    }

    /// Removes a port: its front end is cut off, its interface put back.
    pub(crate) fn remove_port(&mut self, name: &str) -> Result<(), Refusal> {
        let key = self.key_of(name)?;
        if let Some(port) = self.ports.remove(&key) {
            self.datapath.remove_port(port.id);
            log::info!("port {name}: removed");
        }
        Ok(())
    }

    /// Works on the guest behind a port, if it is one.
    fn with_guest(&mut self, key: u32, work: impl FnOnce(&mut GuestPort, &mut Datapath, &Poller)) {
        let port = self.ports.get_mut(&key);
        if let Some(Port { behind: Behind::Guest(guest), .. }) = port {
            work(guest, &mut self.datapath, &self.poller);
        }
    }

    /// A front end wants to connect.
    pub(crate) fn accept(&mut self, key: u32) {
        self.with_guest(key, GuestPort::accept);
        self.end_reunion();
    }

    /// A front end has asked something.
    pub(crate) fn converse(&mut self, key: u32) {
        self.with_guest(key, GuestPort::converse);
        self.end_reunion();
    }

    /// A driver has given commands on its control queue.
    pub(crate) fn serve_control(&mut self, key: u32) {
        let Some(port) = self.ports.get_mut(&key) else { return };
        if let Behind::Guest(guest) = &mut port.behind {
            serve_control(guest, &mut port.faults, port.id, &mut self.datapath);
        }
    }

    /// Does what is due: connects to front ends that listen, looks at control queues whose drivers need
    /// not kick, and ends the wait for guests. Returns how long until the next is.
    pub(crate) fn do_due(&mut self) -> Option<Duration> {
        self.end_reunion();
        let now = Instant::now();
        let mut next = self.reunion;
        for port in self.ports.values_mut() {
            let Behind::Guest(guest) = &mut port.behind else { continue };
            guest.connect(now, &self.poller);
            if guest.guest.control_due().is_some() {
                serve_control(guest, &mut port.faults, port.id, &mut self.datapath);
            }
            guest.watch_control(&self.poller);
            let look = guest.guest.control_due().map(|due| now + due);
            next = [next, guest.next_attempt(now), look].into_iter().flatten().min();
        }
        next.map(|due| due.saturating_duration_since(now))
    }

    /// What is to be done once a second.
    pub(crate) fn tick(&mut self) {
        self.fdb.age(self.datapath.now());
        for port in self.ports.values_mut() {
            if let Behind::Guest(guest) = &mut port.behind {
                guest.resume(&self.poller);
            }
        }
    }

    /// The running configuration.
    pub(crate) fn config(&self) -> Config {
        let mut config = self.base.clone();
        config.ports = self.ports().map(|port| port.spec.clone()).collect();
        let mut entries = self.fdb.entries(self.datapath.now());
        entries.retain(datapath::bridge::Entry::is_static);
        entries.sort_unstable_by_key(|entry| (entry.vid, entry.address));
        let names = self.names_by_slot();
        config.entries = entries
            .into_iter()
            .filter_map(|entry| {
                Some(StaticEntry {
                    mac: entry.address.to_string(),
                    vlan: crate::vlan_spec::Vid(entry.vid),
                    port: (*names.get(&entry.slot)?).to_owned(),
                })
            })
            .collect();
        config
    }

    /// The file that the daemon was started with.
    pub(crate) const fn file(&self) -> Option<&PathBuf> {
        self.file.as_ref()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        for port in std::mem::take(&mut self.ports).into_values() {
            self.datapath.remove_port(port.id);
        }
    }
}

/// Carries out commands of a guest's driver, and takes note of a queue that it broke.
fn serve_control(
    guest: &mut GuestPort,
    faults: &mut Faults,
    port: PortId,
    datapath: &mut Datapath,
) {
    if let Some(fault) = guest.guest.attached(datapath, port).serve_control() {
        faults.take(RingName::Control, fault);
    }
}

fn no_such_port(name: &str) -> Refusal {
    Refusal::new("there is no such port")
        .hint("ringway port list shows those there are")
        .about(name)
}
