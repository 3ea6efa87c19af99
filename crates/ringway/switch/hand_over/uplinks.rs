//! Uplinks on their way from one switch to another: their sockets, memory and programs.
//!
//! All that takes time is done while the old switch forwards: sockets' rings and memory are mapped.
//! Then its queues stop, with what they had taken in delivered, and the new one is told where their
//! chunks are. An uplink that the new switch cannot go on with is left to be opened anew.

use datapath::IdleQueue;
use datapath::afxdp::{Interface, InterfaceDescriptors};

use super::super::{Behind, Port, Switch};
use super::Rest;
use crate::hand_over::{Arrived, Lent, UmemFile, UplinkState, UplinkStopped};
use crate::refusal::Refusal;
use crate::uplink::Uplink;

/// Giving.
impl Switch {
    fn uplinks(&mut self) -> impl Iterator<Item = (&str, &mut Uplink)> {
        self.ports.values_mut().filter_map(|port| match &mut port.behind {
            Behind::Uplink(uplink) => Some((port.spec.name.as_str(), uplink)),
            Behind::Guest(_) | Behind::Tap(_) => None,
        })
    }

    /// The memory of all uplinks.
    pub(crate) fn describe_umems<'a>(&'a self, lent: &mut Lent<'a>) -> Vec<UmemFile> {
        let umems = self.pool.describe();
        umems.map(|(state, file)| UmemFile { state, descriptor: lent.add(file) }).collect()
    }

    /// The uplinks. One whose sockets are not all known is left out.
    pub(crate) fn describe_uplinks<'a>(&'a self, lent: &mut Lent<'a>) -> Vec<UplinkState> {
        let describe = |port: &'a Port| {
            let Behind::Uplink(uplink) = &port.behind else { return None };
            let sockets: Vec<_> = self.datapath.sockets(port.id).collect();
            if sockets.len() != uplink.interface.queue_count() as usize {
                return None;
            }
            let (state, descriptors) = uplink.interface.describe(&self.pool)?;
            let InterfaceDescriptors { map, link, promiscuous } = descriptors;
            Some(UplinkState {
                port: port.spec.name.clone(),
                state,
                map: lent.add(map),
                link: lent.add(link),
                promiscuous: lent.add(promiscuous),
                sockets: sockets.into_iter().map(|socket| lent.add(socket)).collect(),
            })
        };
        self.ports.values().filter_map(describe).collect()
    }

    /// Where the uplinks have stopped.
    pub(crate) fn uplinks_stopped(&mut self) -> Vec<UplinkStopped> {
        let stopped = self.uplinks().filter_map(|(port, uplink)| {
            Some(UplinkStopped { port: port.to_owned(), queues: uplink.describe_queues()? })
        });
        stopped.collect()
    }

    /// Leaves the uplinks of these ports to another switch.
    pub(crate) fn let_go_of(&mut self, ports: &[String]) {
        for (port, uplink) in self.uplinks() {
            if ports.iter().any(|given| given == port) {
                uplink.let_go();
            }
        }
    }

    /// Removes the uplinks that this switch has still: their interfaces are put back.
    pub(crate) fn close_uplinks(&mut self) {
        let is_ours = |_: &u32, port: &mut Port| matches!(&port.behind, Behind::Uplink(uplink) if !uplink.is_given);
        for (_, port) in self.ports.extract_if(.., is_ours) {
            self.datapath.remove_port(port.id);
            log::info!("port {}: closed, for the new switch to open", port.spec.name);
        }
    }

    /// Opens the uplinks anew if a switch that has died had begun to work at them: which of their
    /// chunks is where, nobody knows. Their queues are idle.
    pub(super) fn reopen_moved(&mut self) {
        if !self.uplinks().any(|(_, uplink)| uplink.was_moved()) {
            return;
        }
        let is_uplink = |_: &u32, port: &mut Port| matches!(port.behind, Behind::Uplink(_));
        // All of them, for they exchange chunks. Each is closed before any is opened.
        let closed: Vec<_> = self.ports.extract_if(.., is_uplink).collect();
        let closed =
            closed.into_iter().map(|(key, Port { id, spec, settings, behind, faults })| {
                drop(behind);
                (key, id, spec, settings, faults)
            });
        for (key, id, spec, settings, faults) in closed.collect::<Vec<_>>() {
            log::warn!("port {}: is opened anew, for the other switch had begun", spec.name);
            match self.open(&spec.name, id, key, &settings) {
                Ok(behind) => {
                    self.ports.insert(key, Port { id, spec, settings, behind, faults });
                }
                Err(refusal) => {
                    self.datapath.remove_port(id);
                    log::error!("left out, add it again: {}", refusal.about(&spec.name));
                }
            }
        }
    }
}

/// Taking.
impl Switch {
    /// Adopts the uplinks of another switch, which works them still. Those that this one cannot go on
    /// with stay in the `rest`, and the log says why.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if a descriptor is missing, or a port does not fit its configuration.
    pub(crate) fn adopt_uplinks(
        &mut self,
        umems: Vec<UmemFile>,
        uplinks: Vec<UplinkState>,
        rest: &mut Rest,
        arrived: &mut Arrived,
    ) -> Result<(), Refusal> {
        for UmemFile { state, descriptor } in umems {
            let adopted = self.pool.adopt(state, arrived.take(descriptor)?);
            if let Err(error) = adopted {
                log::warn!("all uplinks will be opened anew: {}", Refusal::caused_by(&error));
                return Ok(());
            }
        }
        for state in uplinks {
            let port = state.port.clone();
            if let Some(uplink) = self.adopt_uplink(state, arrived)? {
                let found = rest.ports.iter().position(|(_, spec)| {
                    spec.name == port && spec.interface.as_deref() == Some(uplink.interface.name())
                });
                let found =
                    found.ok_or_else(|| Refusal::new("it is in no configuration").about(&port));
                let (key, spec) = rest.ports.remove(found?);
                let added = self.add_port_as(key, spec, |_, _, _, _| Ok(Behind::Uplink(uplink)));
                added.map_err(|refusal| refusal.about(&port))?;
            }
        }
        self.settle(rest)
    }

    /// One of them, if this switch can go on with it.
    fn adopt_uplink(
        &mut self,
        uplink: UplinkState,
        arrived: &mut Arrived,
    ) -> Result<Option<Uplink>, Refusal> {
        let UplinkState { port, state, map, link, promiscuous, sockets } = uplink;
        let descriptors = InterfaceDescriptors {
            map: arrived.take(map)?,
            link: arrived.take(link)?,
            promiscuous: arrived.take(promiscuous)?,
        };
        let sockets = sockets.into_iter().map(|place| arrived.take(place));
        let sockets = sockets.collect::<Result<_, _>>()?;
        match Interface::adopt(state, descriptors, sockets, &mut self.pool) {
            Ok((interface, queues)) => Ok(Some(Uplink::new(interface, queues))),
            Err(error) => {
                let refusal = Refusal::caused_by(&error);
                log::warn!("port {port}: will be opened anew: {refusal}");
                Ok(None)
            }
        }
    }

    /// Takes note of where the adopted uplinks have stopped, and returns the names of their ports.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if one was not told of, or what was told of it cannot be.
    pub(crate) fn place_uplinks(
        &mut self,
        mut stopped: Vec<UplinkStopped>,
    ) -> Result<Vec<String>, Refusal> {
        let mut names = Vec::new();
        for (name, uplink) in self.uplinks() {
            let found = stopped.iter().position(|state| state.port == name);
            let queues = found.map(|place| stopped.remove(place).queues).unwrap_or_default();
            if queues.len() != uplink.adopted.len() {
                return Err(Refusal::new("not all its queues have stopped").about(name));
            }
            for (adopted, state) in std::mem::take(&mut uplink.adopted).into_iter().zip(queues) {
                let queue = adopted.go_on(state);
                let queue = queue.map_err(|error| Refusal::caused_by(&error).about(name))?;
                uplink.idle.push(IdleQueue::of_interface(queue));
            }
            let interface = &uplink.interface;
            let (mode, count) = (interface.mode().as_str(), uplink.idle.len());
            log::info!(
                "port {name}: taken over, {} in {mode} mode, {count} queues",
                interface.name()
            );
            names.push(name.to_owned());
        }
        Ok(names)
    }
}
