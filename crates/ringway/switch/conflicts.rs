//! What a port may not share with another, and what two had better not.

use super::{Behind, Switch};
use crate::port_spec::PortSpec;
use crate::refusal::Refusal;

impl Switch {
    /// Refuses what another port has: name, socket, interface.
    pub(super) fn check_unclaimed(&self, spec: &PortSpec) -> Result<(), Refusal> {
        for port in self.ports() {
            if port.spec.name == spec.name {
                return Err(Refusal::new("there is a port of this name already")
                    .hint("choose another name or remove that port first"));
            }
            let is_same_socket = spec.socket.is_some() && spec.socket == port.spec.socket;
            let is_same_interface =
                spec.interface.is_some() && spec.interface == port.spec.interface;
            if is_same_socket || is_same_interface {
                let what = if is_same_socket { "socket" } else { "interface" };
                return Err(Refusal::new(format!("port {} has this {what}", port.spec.name))
                    .hint(format!("use another {what} or remove that port first")));
            }
        }
        Ok(())
    }

    /// Warns if a port is the second uplink in a VLAN.
    pub(crate) fn warn_of_loops(&self, name: &str) {
        let Ok(new) = self.port(name) else { return };
        if !matches!(new.behind, Behind::Uplink(_)) {
            return;
        }
        for other in self.ports().filter(|port| port.id != new.id) {
            let mine = new.settings.policy.memberships();
            let shared = other.settings.policy.memberships().iter().find(|&vid| mine.contains(vid));
            if let (Behind::Uplink(_), Some(vid)) = (&other.behind, shared) {
                let other = &other.spec.name;
                log::warn!(
                    "ports {other} and {name} are both uplinks in VLAN {vid}: \
                     if the network joins them, frames go round in a loop"
                );
            }
        }
    }
}
