//! What is wrong with a configuration that has the right form: all that `ringway run` would refuse
//! and that can be known without doing anything.
//!
//! Paths and accounts are looked at; nothing is made, and nobody is connected to. So whether a
//! socket is in use, its directory will be there, or an interface can be had, shows at the start.

use std::collections::HashMap;
use std::path::Path;

use datapath::bridge::MAX_ADDRESSES;
use datapath::frame::{MAX_PORTS, MacAddr, VlanId};
use vhost_user::{Connector, Listener, Ownership, SocketError};

use super::{AGEING_MAX, Bridge, Config, Key, StaticEntry};
use crate::cores;
use crate::port_spec::{Connection, Invalid, PortSpec};
use crate::refusal::one_line;

/// A mistake of sense: the path of the key, and why.
pub(super) type Mistake = (Vec<Key>, String);

/// What ports claim, by key and name, and who has it.
type Claims = HashMap<(&'static str, String), String>;

fn at(table: &'static str, key: &'static str) -> Vec<Key> {
    vec![Key::Name(table), Key::Name(key)]
}

impl Config {
    /// Finds the first mistake that form alone does not show.
    pub(super) fn check(&self, allowed_cores: &[usize]) -> Result<(), Mistake> {
        let socket = Listener::check(&self.control.socket, &Ownership::default());
        socket.map_err(|error| (at("control", "socket"), one_line(&error)))?;
        if let Some(wanted) = &self.threads.cores {
            cores::check(wanted, allowed_cores)
                .map_err(|reason| (at("threads", "cores"), reason))?;
        }
        let Bridge { ageing_seconds, addresses } = self.bridge;
        if !(1..=AGEING_MAX).contains(&ageing_seconds) {
            let reason = format!("{ageing_seconds} seconds are outside 1 to {AGEING_MAX}");
            return Err((at("bridge", "ageing_seconds"), reason));
        }
        if !(1..=MAX_ADDRESSES).contains(&addresses) {
            let reason = format!("{addresses} addresses are outside 1 to {MAX_ADDRESSES}");
            return Err((at("bridge", "addresses"), reason));
        }
        self.check_ports()?;
        self.check_entries()
    }

    fn check_ports(&self) -> Result<(), Mistake> {
        let mut claims = Claims::new();
        let control = path_in_full(&self.control.socket);
        claims.insert(("socket", control), "the control socket".to_owned());
        for (place, port) in self.ports.iter().enumerate() {
            check_port(port, &mut claims).map_err(|Invalid { key, reason }| {
                let mut path = vec![Key::Name("port"), Key::Place(place)];
                path.extend(str::split(key, '.').map(Key::Name));
                (path, reason)
            })?;
        }
        if self.ports.len() > MAX_PORTS {
            let reason = format!("a switch has at most {MAX_PORTS} ports");
            return Err((vec![Key::Name("port"), Key::Place(MAX_PORTS)], reason));
        }
        Ok(())
    }

    fn check_entries(&self) -> Result<(), Mistake> {
        let mut known = HashMap::new();
        for (place, entry) in self.entries.iter().enumerate() {
            self.check_entry(entry, &mut known).map_err(|Invalid { key, reason }| {
                (vec![Key::Name("fdb"), Key::Place(place), Key::Name(key)], reason)
            })?;
        }
        Ok(())
    }

    fn check_entry<'a>(
        &'a self,
        entry: &'a StaticEntry,
        known: &mut HashMap<(MacAddr, VlanId), &'a str>,
    ) -> Result<(), Invalid> {
        let StaticEntry { mac, vlan, port } = entry;
        let vid = vlan.0;
        let address = mac.parse::<MacAddr>();
        let address = address.map_err(|error| Invalid::new("mac", error.to_string()))?;
        if address.is_group() {
            let reason = format!("{address} is a group address: an entry names one station");
            return Err(Invalid::new("mac", reason));
        }
        let found = self.ports.iter().find(|known| known.name == *port);
        let found =
            found.ok_or_else(|| Invalid::new("port", format!("there is no port {port}")))?;
        if !found.policy()?.is_member(vid) {
            return Err(Invalid::new("vlan", format!("port {port} is not in VLAN {vid}")));
        }
        match known.insert((address, vid), port) {
            Some(other) if other != port => {
                let reason =
                    format!("there is an entry for {address} in VLAN {vid} already: port {other}");
                Err(Invalid::new("mac", reason))
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Checks a port by itself, and that nobody has what it claims.
fn check_port(port: &PortSpec, claims: &mut Claims) -> Result<(), Invalid> {
    let settings = port.settings()?;
    let claimed = [
        ("name", Some(port.name.clone())),
        ("socket", port.socket.as_deref().map(path_in_full)),
        ("interface", port.interface.clone()),
    ];
    for (key, claim) in claimed {
        let Some(claim) = claim else { continue };
        let owner = format!("port {}", port.name);
        if let Some(owner) = claims.insert((key, claim.clone()), owner) {
            let reason = if key == "name" {
                format!("there is a port {claim} already: choose another name")
            } else {
                format!("{claim} is used by {owner} already")
            };
            return Err(Invalid::new(key, reason));
        }
    }
    check_socket(&settings.connection)
}

/// Two ways to write one path are one path.
fn path_in_full(path: &Path) -> String {
    std::path::absolute(path).as_deref().unwrap_or(path).display().to_string()
}

/// Checks the path of a guest's socket, and the accounts that are to have it.
fn check_socket(connection: &Connection) -> Result<(), Invalid> {
    let Connection::VhostUser { socket, connect, ownership, .. } = connection else {
        return Ok(());
    };
    let checked =
        if *connect { Connector::check(socket) } else { Listener::check(socket, ownership) };
    checked.map_err(|error| Invalid::new(key_of(&error), one_line(&error)))
}

/// The key that an error is about.
const fn key_of(error: &SocketError) -> &'static str {
    match error {
        SocketError::UnknownOwner { .. } | SocketError::AccountLookUp { .. } => "owner",
        SocketError::UnknownGroup { .. } => "group",
        SocketError::InvalidMode { .. } => "mode",
        SocketError::PathLength { .. }
        | SocketError::PathInvalid { .. }
        | SocketError::IsDirectory { .. }
        | SocketError::NotASocket { .. }
        | SocketError::ParentMissing { .. }
        | SocketError::InUse { .. }
        | SocketError::Call { .. } => "socket",
    }
}
