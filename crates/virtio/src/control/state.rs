//! What is in force of all that a driver has ordered on its control queue.
//!
//! It begins as the standard has it after a reset: one queue pair, all offloads that were negotiated,
//! no filter. A driver that was at work before, with a device that is gone and whose orders nobody
//! knows any more, may have switched offloads off: it gets none, which is right in either case.

use std::sync::Arc;

use super::Acknowledgement;
use super::command::{Command, Mode};
use super::filter::ReceiveFilter;
use crate::Features;

/// What is in force of a driver's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlState {
    features: Features,
    /// The most that the driver may order.
    queue_pairs_max: u16,
    queue_pairs: u16,
    offloads: Features,
    filter: ReceiveFilter,
}

impl ControlState {
    /// Of a driver that begins, with these features and so many queue pairs at most.
    #[must_use]
    pub fn new(features: Features, queue_pairs_max: u16) -> Self {
        Self {
            features,
            queue_pairs_max,
            queue_pairs: 1,
            offloads: Features(features.0 & Features::GUEST_OFFLOADS.0),
            filter: ReceiveFilter::new(features.contains(Features::NET_CTRL_VLAN)),
        }
    }

    /// Of a driver that has ordered something before, and it is not known what.
    #[must_use]
    pub fn unknown(features: Features, queue_pairs_max: u16) -> Self {
        let mut state = Self::new(features, queue_pairs_max);
        if features.contains(Features::NET_CTRL_GUEST_OFFLOADS) {
            state.offloads = Features::NONE;
        }
        // Which VLANs it wants is not known either.
        state.filter.vlans = None;
        state
    }

    /// How many queue pairs get frames: from the first on.
    #[must_use]
    pub const fn queue_pairs(&self) -> u16 {
        self.queue_pairs
    }

    /// What of [`Features::GUEST_OFFLOADS`] the driver takes.
    #[must_use]
    pub const fn offloads(&self) -> Features {
        self.offloads
    }

    /// Which frames the driver wants; `None`: all.
    #[must_use]
    pub fn filter(&self) -> Option<Arc<ReceiveFilter>> {
        // A driver that can give up being promiscuous is asked about VLANs only then.
        let is_plain = self.features.contains(Features::NET_CTRL_RX) || self.filter.vlans.is_none();
        let wants_all = self.filter.is_on(Mode::Promiscuous) && is_plain;
        (!wants_all).then(|| Arc::new(self.filter.clone()))
    }

    /// Carries out a command. On an error nothing has changed.
    pub fn carry_out(&mut self, command: &[u8]) -> Acknowledgement {
        match Command::parse(command).filter(|command| self.may(command)) {
            Some(command) => {
                self.apply(command);
                Acknowledgement::Ok
            }
            None => Acknowledgement::Error,
        }
    }

    /// Says whether features and limits admit a command.
    fn may(&self, command: &Command) -> bool {
        let has = |feature| self.features.contains(feature);
        match command {
            Command::SetMode(Mode::Promiscuous | Mode::AllMulticast, _) | Command::SetTable(_) => {
                has(Features::NET_CTRL_RX)
            }
            Command::SetMode(..) => has(Features::NET_CTRL_RX_EXTRA),
            Command::SetAddress(_) => has(Features::NET_CTRL_MAC_ADDR),
            Command::AddVlan(_) | Command::RemoveVlan(_) => has(Features::NET_CTRL_VLAN),
            Command::AcknowledgeAnnouncement => has(Features::NET_GUEST_ANNOUNCE),
            Command::SetPairs(pairs) => has(Features::NET_MQ) && *pairs <= self.queue_pairs_max,
            Command::SetOffloads(offloads) => {
                has(Features::NET_CTRL_GUEST_OFFLOADS)
                    && offloads.0 & !(self.features.0 & Features::GUEST_OFFLOADS.0) == 0
            }
        }
    }

    fn apply(&mut self, command: Command) {
        match command {
            Command::SetMode(mode, is_on) => self.filter.set_mode(mode, is_on),
            Command::SetTable(table) => self.filter.table = table,
            Command::SetAddress(address) => self.filter.address = Some(address),
            Command::AddVlan(vid) => self.set_vlan(vid, true),
            Command::RemoveVlan(vid) => self.set_vlan(vid, false),
            // The announcement is asked for in the front end's configuration space, and taken back
            // there.
            Command::AcknowledgeAnnouncement => {}
            Command::SetPairs(pairs) => self.queue_pairs = pairs,
            Command::SetOffloads(offloads) => self.offloads = offloads,
        }
    }

    fn set_vlan(&mut self, vid: u16, is_in: bool) {
        if let Some(vlans) = &mut self.filter.vlans {
            vlans.set(vid, is_in);
        }
    }

    /// Commands that make a state like this of one that [begins](Self::new), to be carried out
    /// elsewhere; behind a word whether VLANs are filtered, for which there is none.
    #[must_use]
    pub fn to_commands(&self) -> (bool, Vec<Vec<u8>>) {
        let Self { filter, .. } = self;
        let modes = Mode::ALL.into_iter().map(|mode| Command::SetMode(mode, filter.is_on(mode)));
        let vlans = filter.vlans.iter().flat_map(|vlans| vlans.iter()).map(Command::AddVlan);
        let others = [
            Command::SetPairs(self.queue_pairs),
            Command::SetOffloads(self.offloads),
            Command::SetTable(filter.table.clone()),
        ];
        let commands = others.into_iter().chain(filter.address.map(Command::SetAddress));
        let commands = commands.chain(modes).chain(vlans).filter(|command| self.may(command));
        (filter.vlans.is_some(), commands.map(|command| command.to_bytes()).collect())
    }

    /// The state that such commands make.
    #[must_use]
    pub fn from_commands(
        features: Features,
        queue_pairs_max: u16,
        (filters_vlans, commands): (bool, &[Vec<u8>]),
    ) -> Self {
        let mut state = Self::new(features, queue_pairs_max);
        if !filters_vlans {
            state.filter.vlans = None;
        }
        for command in commands {
            // What this version does not know is not in force with it.
            let _ = state.carry_out(command);
        }
        state
    }
}
