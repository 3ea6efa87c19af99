//! The parameters of the control protocol's methods: types that refuse unknown names.

use datapath::frame::{MacAddr, VlanId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::RpcError;
use crate::port_spec::PortSpec;
use crate::refusal::Refusal;
use crate::vlan_spec::{Vid, VlanSpec};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PerhapsNamed {
    pub(super) name: Option<String>,
}

/// Who wants to take over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Successor {
    pub(super) version: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Changed {
    pub(super) name: String,
    pub(super) vlan: Option<VlanSpec>,
    pub(super) addresses: Option<u32>,
    pub(super) mtu: Option<u32>,
    pub(super) offloads: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    pub(super) vlan: Option<Vid>,
    pub(super) port: Option<String>,
}

impl Filter {
    pub(super) fn vid(&self) -> Option<VlanId> {
        self.vlan.map(|vid| vid.0)
    }
}

/// What to flush.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flushed {
    pub(super) vlan: Option<Vid>,
    pub(super) port: Option<String>,
    #[serde(default, rename = "static")]
    pub(super) with_static: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Station {
    pub(super) mac: String,
    pub(super) vlan: Vid,
    pub(super) port: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Address {
    pub(super) mac: String,
    pub(super) vlan: Vid,
}

pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params)
        .map_err(|error| RpcError::InvalidParams(Refusal::caused_by(&error)))
}

pub(super) fn address(text: &str) -> Result<MacAddr, RpcError> {
    text.parse().map_err(|error: datapath::frame::ParseMacAddrError| {
        RpcError::InvalidParams(Refusal::caused_by(&error))
    })
}

/// A port to be added.
///
/// # Errors
///
/// Wrong parameters, a relative path among them: whose directory that would be relative to, the
/// daemon's or the client's, is anybody's guess. (The command line sends absolute ones.)
pub(super) fn port_spec(params: Value) -> Result<PortSpec, RpcError> {
    let spec: PortSpec = read(gather_vlan(params))?;
    match &spec.socket {
        Some(socket) if socket.is_relative() => {
            let cause = format!("socket path {} is relative", socket.display());
            Err(RpcError::InvalidParams(Refusal::new(cause).hint("give an absolute one")))
        }
        Some(_) | None => Ok(spec),
    }
}

/// Puts the VLAN options, which are parameters of their own, where the configuration has them.
pub(super) fn gather_vlan(mut params: Value) -> Value {
    let Some(object) = params.as_object_mut() else { return params };
    for key in ["access", "trunk", "native"] {
        if let Some(value) = object.remove(key) {
            let vlan = object.entry("vlan").or_insert_with(|| json!({}));
            if let Some(vlan) = vlan.as_object_mut() {
                vlan.insert(key.to_owned(), value);
            }
        }
    }
    params
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_parameters_of_their_own() {
        let params = json!({"name": "a", "trunk": "1-3", "native": 1});

        let gathered = gather_vlan(params);

        assert_eq!(gathered, json!({"name": "a", "vlan": {"trunk": "1-3", "native": 1}}));
    }

    #[test]
    fn unknown_parameters_are_refused() {
        assert!(read::<Named>(json!({"name": "a", "nmae": 1})).is_err());
    }
}
