//! Changes of a port while traffic flows, and of the filtering database.

use datapath::bridge::{Entry, Flush, VlanPolicy};
use datapath::frame::{MacAddr, VlanId};

use super::{Behind, Switch, no_such_port};
use crate::config::StaticEntry;
use crate::port_spec::{PortChange, Settings};
use crate::refusal::Refusal;

/// Static entries that a refusal names; it says how many more there are.
const ENTRIES_NAMED: usize = 5;

impl Switch {
    /// Changes a port while traffic flows.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing has changed then.
    pub(crate) fn set_port(&mut self, name: &str, change: PortChange) -> Result<(), Refusal> {
        let key = self.key_of(name)?;
        let mut spec = self.port(name)?.spec.clone();
        change.apply(&mut spec);
        let settings = spec.settings().map_err(|invalid| {
            Refusal::new(format!("{}: {}", invalid.key, invalid.reason)).about(name)
        })?;
        self.check_entries_stay(name, &settings.policy)?;
        let port = self.ports.get_mut(&key).ok_or_else(|| no_such_port(name))?;
        match &port.behind {
            Behind::Guest(_) => {}
            Behind::Uplink(uplink) => {
                uplink.check_mtu(&settings).map_err(|refusal| refusal.about(name))?;
            }
            Behind::Tap(tap) => tap.set_mtu(&settings).map_err(|refusal| refusal.about(name))?,
        }
        let Settings { policy, learn_limit, traits, .. } = &settings;
        self.datapath.set_port(port.id, policy, *learn_limit, *traits);
        if let Behind::Guest(guest) = &mut port.behind {
            guest.guest.set_traits(*traits);
        }
        port.spec = spec;
        port.settings = settings;
        self.warn_of_loops(name);
        Ok(())
    }

    /// Refuses VLANs in which a static entry of the port would be left behind: frames to it would
    /// go nowhere, and a configuration that is saved then would start no daemon.
    fn check_entries_stay(&self, name: &str, policy: &VlanPolicy) -> Result<(), Refusal> {
        let mut entries = self.entries(Some(name), None)?;
        entries.retain(|entry| entry.is_static() && !policy.is_member(entry.vid));
        if entries.is_empty() {
            return Ok(());
        }
        let named = entries.iter().take(ENTRIES_NAMED);
        let mut list: Vec<String> =
            named.map(|entry| format!("{} in VLAN {}", entry.address, entry.vid)).collect();
        let others = entries.len() - list.len();
        if others > 0 {
            list.push(format!("{others} more"));
        }
        let cause = format!("it would leave its static entries behind: {}", list.join(", "));
        let hint = "remove them first: ringway fdb remove MAC --vlan VID";
        Err(Refusal::new(cause).hint(hint).about(name))
    }

    /// Adds an entry that neither moves nor ages.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the port is missing or not in the VLAN, or the database refuses.
    pub(crate) fn add_entry(
        &self,
        address: MacAddr,
        vid: VlanId,
        port: &str,
    ) -> Result<(), Refusal> {
        let found = self.port(port)?;
        if !found.settings.policy.is_member(vid) {
            return Err(Refusal::new(format!("it is not in VLAN {vid}"))
                .hint("see ringway port set")
                .about(port));
        }
        let added = self.fdb.add_static(vid, address, found.id.slot);
        added.map_err(|error| Refusal::caused_by(&error).about(port))
    }

    /// Adds the static entries of a configuration.
    ///
    /// # Errors
    ///
    /// The first that is refused.
    pub(crate) fn add_entries(&self, entries: &[StaticEntry]) -> Result<(), Refusal> {
        entries.iter().try_for_each(|entry| {
            let address = entry.mac.parse();
            let address = address.map_err(|error| Refusal::caused_by(&error).about(&entry.port))?;
            self.add_entry(address, entry.vlan.0, &entry.port)
        })
    }

    /// Removes a static entry.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there is none.
    pub(crate) fn remove_entry(&self, address: MacAddr, vid: VlanId) -> Result<(), Refusal> {
        let removed = self.fdb.remove_static(vid, address);
        removed.map_err(|error| {
            Refusal::caused_by(&error).hint("fdb flush removes learned ones, fdb list shows all")
        })
    }

    /// Forgets learned entries, of a port and of a VLAN if one is named, and static ones if told
    /// to. Returns how many.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there is no such port.
    pub(crate) fn flush(
        &self,
        port: Option<&str>,
        vid: Option<VlanId>,
        with_static: bool,
    ) -> Result<usize, Refusal> {
        let slot = self.slot_of(port)?;
        Ok(self.fdb.flush(Flush { slot, vid, with_static }))
    }

    /// The entries of a port and of a VLAN, or of all, by VLAN and address.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if there is no such port.
    pub(crate) fn entries(
        &self,
        port: Option<&str>,
        vid: Option<VlanId>,
    ) -> Result<Vec<Entry>, Refusal> {
        let slot = self.slot_of(port)?;
        let mut entries = self.fdb.entries(self.datapath.now());
        entries.retain(|entry| {
            slot.is_none_or(|slot| entry.slot == slot) && vid.is_none_or(|vid| entry.vid == vid)
        });
        entries.sort_unstable_by_key(|entry| (entry.vid, entry.address));
        Ok(entries)
    }

    fn slot_of(&self, port: Option<&str>) -> Result<Option<u16>, Refusal> {
        port.map(|name| self.port(name).map(|port| port.id.slot)).transpose()
    }
}
