//! A port as an operator describes it: the same type in the configuration, as parameters of
//! `port.add` and behind the options of `ringway port add`.
//!
//! A [`PortSpec`] is what was written and what `config save` writes back. It becomes [`Settings`]
//! when every key was found to fit the port's type; who holds `Settings` need not check again.

use std::path::PathBuf;

use datapath::PortTraits;
use datapath::bridge::VlanPolicy;
use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::vlan_spec::VlanSpec;

/// Most queue pairs a guest is offered: the design's limit.
pub(crate) const QUEUE_PAIRS_MAX: u16 = 32;

/// Addresses learned behind a guest's port unless configured otherwise (design, 2): a flood from one
/// guest cannot evict the others' addresses.
const GUEST_ADDRESSES: u32 = 1_024;

/// Most queues of a tap: as many as a port may have.
const TAP_QUEUES_MAX: u16 = 64;

/// The least MTU that IPv4 lives with (RFC 791).
const MTU_MIN: u32 = 68;

#[expect(clippy::cast_possible_truncation, reason = "14")]
const ETHERNET_HEADER_BYTES: u32 = datapath::frame::ETHERNET_HEADER_BYTES as u32;

/// The MTU of the longest frame that a wire takes.
#[expect(clippy::cast_possible_truncation, reason = "9,202")]
const MTU_MAX: u32 = datapath::frame::MAX_FRAME_BYTES as u32 - ETHERNET_HEADER_BYTES;

/// Longest port name in characters.
const NAME_MAX: usize = 63;

/// What a port is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum PortType {
    VhostUser,
    AfXdp,
    Tap,
}

impl PortType {
    /// The name in configurations and listings.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::VhostUser => "vhost-user",
            Self::AfXdp => "af-xdp",
            Self::Tap => "tap",
        }
    }
}

/// Whether an interface is to read and write the frames' memory itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ZeroCopy {
    /// If the driver can, else the kernel copies.
    Auto,
    /// The port is refused if the driver cannot.
    Always,
    /// The kernel copies.
    Never,
}

/// Permissions of a socket: `"0660"` in text, or a number (`0o660` in TOML).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u32);

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777 && !text.starts_with('+'))
            .map(Self)
            .ok_or_else(|| format!("socket mode {text:?} is not between 0000 and 0777, in octal"))
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "want permissions in octal, like \"0660\"")]
        enum Written {
            Text(String),
            Number(u32),
        }
        match Written::deserialize(deserializer)? {
            Written::Text(text) => text.parse().map_err(de::Error::custom),
            Written::Number(mode) if mode <= 0o777 => Ok(Self(mode)),
            Written::Number(mode) => Err(de::Error::custom(format!(
                "socket mode {mode} is not between 0 and 0o777: write it in octal, like \"0660\""
            ))),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:04o}", self.0))
    }
}

/// A port as it was written. Keys that do not fit its type are found by
/// [`settings`](Self::settings).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PortSpec {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) port_type: PortType,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) socket: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connect: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mode: Option<Mode>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) queues: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) interface: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zero_copy: Option<ZeroCopy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) force: Option<bool>,
    /// Most addresses learned behind the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) addresses: Option<u32>,
    /// Longest packet, in bytes behind the Ethernet header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    /// Checksums and segmentation may be left to the other side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) offloads: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) vlan: Option<VlanSpec>,
}

/// What may change while traffic flows; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PortChange {
    pub(crate) vlan: Option<VlanSpec>,
    pub(crate) addresses: Option<u32>,
    pub(crate) mtu: Option<u32>,
    pub(crate) offloads: Option<bool>,
}

impl PortChange {
    /// Makes the change.
    pub(crate) fn apply(self, spec: &mut PortSpec) {
        spec.vlan = self.vlan.or(spec.vlan.take());
        spec.addresses = self.addresses.or(spec.addresses);
        spec.mtu = self.mtu.or(spec.mtu);
        spec.offloads = self.offloads.or(spec.offloads);
    }
}

/// Where frames of a port come from and go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Connection {
    VhostUser { socket: PathBuf, connect: bool, ownership: vhost_user::Ownership, queue_pairs: u16 },
    AfXdp { interface: String, zero_copy: ZeroCopy, force: bool },
    Tap { interface: String, queues: u16 },
}

/// A port's description, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) policy: VlanPolicy,
    pub(crate) learn_limit: u32,
    pub(crate) traits: PortTraits,
    /// The MTU among them was chosen.
    pub(crate) has_mtu: bool,
    pub(crate) connection: Connection,
}

/// What is wrong with a port's description: the key, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Invalid {
    pub(crate) key: &'static str,
    pub(crate) reason: String,
}

impl Invalid {
    pub(crate) fn new(key: &'static str, reason: impl Into<String>) -> Self {
        Self { key, reason: reason.into() }
    }
}

impl PortSpec {
    /// Checks the description.
    ///
    /// # Errors
    ///
    /// The first key that is wrong, missing or of another type of port.
    pub(crate) fn settings(&self) -> Result<Settings, Invalid> {
        check_name(&self.name)?;
        let policy = self.policy()?;
        let traits = self.traits()?;
        let connection = match self.port_type {
            PortType::VhostUser => self.vhost_user()?,
            PortType::AfXdp => self.af_xdp()?,
            PortType::Tap => self.tap()?,
        };
        let learn_limit = self.learn_limit();
        let has_mtu = self.mtu.is_some();
        Ok(Settings { policy, learn_limit, traits, has_mtu, connection })
    }

    /// Its VLANs.
    ///
    /// # Errors
    ///
    /// The key that is wrong.
    pub(crate) fn policy(&self) -> Result<VlanPolicy, Invalid> {
        let vlan = self.vlan.clone().unwrap_or_default();
        vlan.policy().map_err(|(key, reason)| Invalid { key, reason })
    }

    fn traits(&self) -> Result<PortTraits, Invalid> {
        let mut traits = PortTraits::default();
        traits.has_offloads = self.offloads.unwrap_or(traits.has_offloads);
        if let Some(mtu) = self.mtu {
            if !(MTU_MIN..=MTU_MAX).contains(&mtu) {
                let reason = format!("{mtu} bytes are outside {MTU_MIN} to {MTU_MAX}");
                return Err(Invalid::new("mtu", reason));
            }
            traits.limit_bytes = mtu + ETHERNET_HEADER_BYTES;
        }
        Ok(traits)
    }

    fn learn_limit(&self) -> u32 {
        let default = match self.port_type {
            PortType::VhostUser => GUEST_ADDRESSES,
            PortType::AfXdp | PortType::Tap => u32::MAX,
        };
        self.addresses.unwrap_or(default)
    }

    fn vhost_user(&self) -> Result<Connection, Invalid> {
        self.refuse_foreign(&["socket", "connect", "owner", "group", "mode", "queues"])?;
        let socket = self.socket.clone().ok_or_else(|| missing("socket", "a vhost-user"))?;
        let connect = self.connect.unwrap_or(false);
        let ownership = vhost_user::Ownership {
            owner: self.owner.clone(),
            group: self.group.clone(),
            mode: self.mode.map(|mode| mode.0),
        };
        if connect && ownership != vhost_user::Ownership::default() {
            let reason = "owner, group and mode are for a socket that ringway makes; with connect QEMU makes it";
            return Err(Invalid::new("connect", reason));
        }
        let queue_pairs = self.queues("queue pairs", QUEUE_PAIRS_MAX)?;
        Ok(Connection::VhostUser { socket, connect, ownership, queue_pairs })
    }

    fn af_xdp(&self) -> Result<Connection, Invalid> {
        self.refuse_foreign(&["interface", "zero-copy", "force"])?;
        let interface = self.interface("an af-xdp")?;
        let zero_copy = self.zero_copy.unwrap_or(ZeroCopy::Auto);
        Ok(Connection::AfXdp { interface, zero_copy, force: self.force.unwrap_or(false) })
    }

    fn tap(&self) -> Result<Connection, Invalid> {
        self.refuse_foreign(&["interface", "queues"])?;
        let queues = self.queues("queues", TAP_QUEUES_MAX)?;
        Ok(Connection::Tap { interface: self.interface("a tap")?, queues })
    }

    /// The interface's name.
    fn interface(&self, kind: &str) -> Result<String, Invalid> {
        let interface = self.interface.clone().ok_or_else(|| missing("interface", kind))?;
        // IFNAMSIZ (linux/if.h) is 16 with the final zero byte.
        if interface.is_empty() || interface.len() > 15 || interface.contains(['/', '\0']) {
            let reason = format!("{interface:?} is no interface name of 1 to 15 characters");
            return Err(Invalid::new("interface", reason));
        }
        Ok(interface)
    }

    /// How many queues, or what they are called, there are to be.
    fn queues(&self, what: &str, most: u16) -> Result<u16, Invalid> {
        let queues = self.queues.unwrap_or(1);
        if (1..=most).contains(&queues) {
            return Ok(queues);
        }
        Err(Invalid::new("queues", format!("{queues} {what} are outside 1 to {most}")))
    }

    /// Refuses what only ports of other types have: all but the keys that are `known`.
    fn refuse_foreign(&self, known: &[&str]) -> Result<(), Invalid> {
        let of_some_types = [
            ("socket", self.socket.is_some()),
            ("connect", self.connect.is_some()),
            ("owner", self.owner.is_some()),
            ("group", self.group.is_some()),
            ("mode", self.mode.is_some()),
            ("queues", self.queues.is_some()),
            ("interface", self.interface.is_some()),
            ("zero-copy", self.zero_copy.is_some()),
            ("force", self.force.is_some()),
        ];
        let found = of_some_types.iter().find(|(key, is_set)| *is_set && !known.contains(key));
        found.map_or(Ok(()), |&(key, _)| {
            let reason = format!("a port of type {} has no {key}", self.port_type.as_str());
            Err(Invalid { key, reason })
        })
    }
}

fn missing(key: &'static str, kind: &str) -> Invalid {
    Invalid::new(key, format!("{kind} port needs {key}"))
}

/// Names go into logs, metrics and command lines, so they are plain.
fn check_name(name: &str) -> Result<(), Invalid> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_MAX).contains(&name.len()) && name.chars().all(is_plain) {
        return Ok(());
    }
    let reason =
        format!("{name:?} is no port name: 1 to 63 letters, digits, dots, dashes or underscores");
    Err(Invalid::new("name", reason))
}

#[cfg(test)]
mod tests;
