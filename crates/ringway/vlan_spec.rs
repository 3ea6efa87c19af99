//! A port's VLANs as an operator writes them: in TOML, as RPC parameters, as options.
//!
//! | place         | access             | trunk                                      |
//! |---------------|--------------------|--------------------------------------------|
//! | configuration | `{ access = 100 }` | `{ trunk = [100, "200-299"], native = 1 }` |
//! | parameters    | `"access": 100`    | `"trunk": "100,200-299", "native": 1`      |
//! | options       | `--access 100`     | `--trunk 100,200-299 --native 1`           |
//!
//! A VLAN outside 1 to 4094 never gets as far as a [`VlanSpec`]: reading it fails, with the place.

use std::fmt;

use datapath::bridge::{VlanPolicy, VlanSet};
use datapath::frame::VlanId;
use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A VLAN that was read and is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vid(pub(crate) VlanId);

impl<'de> Deserialize<'de> for Vid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(deserializer)?;
        vid(number).map(Self).map_err(de::Error::custom)
    }
}

impl Serialize for Vid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u16(self.0.get())
    }
}

fn vid(number: i64) -> Result<VlanId, String> {
    u16::try_from(number)
        .ok()
        .and_then(|number| VlanId::try_from(number).ok())
        .ok_or_else(|| format!("VLAN {number} is outside 1 to 4094"))
}

/// The VLANs of a trunk: `[100, "200-299"]`, `"100,200-299"` or `100`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Members(pub(crate) VlanSet);

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = VlanSet;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("VLANs like [100, \"200-299\"] or \"100,200-299\"")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<VlanSet, E> {
        vid(number).map(|vid| std::iter::once(vid).collect()).map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<VlanSet, E> {
        self.visit_i64(i64::try_from(number).unwrap_or(i64::MAX))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<VlanSet, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<VlanSet, A::Error> {
        let mut all = VlanSet::new();
        while let Some(Members(some)) = items.next_element()? {
            some.iter().for_each(|vid| {
                all.insert(vid);
            });
        }
        Ok(all)
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(MembersVisitor).map(Self)
    }
}

impl Serialize for Members {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(None)?;
        for (first, last) in self.0.ranges() {
            if first == last {
                items.serialize_element(&first.get())?;
            } else {
                items.serialize_element(&format!("{first}-{last}"))?;
            }
        }
        items.end()
    }
}

/// The VLANs of a port. Nothing set means access to VLAN 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VlanSpec {
    /// Untagged member of this VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) access: Option<Vid>,
    /// Tagged member of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trunk: Option<Members>,
    /// The VLAN of untagged frames on a trunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) native: Option<Vid>,
}

impl VlanSpec {
    /// What the bridge is to do.
    ///
    /// # Errors
    ///
    /// The key that contradicts another one, and why.
    pub(crate) fn policy(&self) -> Result<VlanPolicy, (&'static str, String)> {
        match (&self.access, &self.trunk, &self.native) {
            (Some(_), Some(_), _) => {
                Err(("vlan.trunk", "a port is access or trunk, not both".to_owned()))
            }
            (_, None, Some(_)) => Err((
                "vlan.native",
                "native needs trunk; an access port has access alone".to_owned(),
            )),
            (None, Some(Members(members)), _) if members.is_empty() && self.native.is_none() => {
                Err(("vlan.trunk", "a trunk without any VLAN carries nothing".to_owned()))
            }
            (None, Some(Members(members)), native) => {
                Ok(VlanPolicy::Trunk { members: members.clone(), native: native.map(|vid| vid.0) })
            }
            (access, None, None) => {
                Ok(VlanPolicy::Access(access.map_or(VlanId::DEFAULT, |vid| vid.0)))
            }
        }
    }
}

/// The policy as people read it: `access 100`, `trunk 100,200-299 native 1`.
pub(crate) fn describe(policy: &VlanPolicy) -> String {
    match policy {
        VlanPolicy::Access(vid) => format!("access {vid}"),
        VlanPolicy::Trunk { members, native: None } => format!("trunk {members}"),
        VlanPolicy::Trunk { members, native: Some(native) } => {
            format!("trunk {members} native {native}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<VlanSpec, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn nothing_set_is_access_to_vlan_1() {
        assert_eq!(VlanSpec::default().policy(), Ok(VlanPolicy::Access(VlanId::DEFAULT)));
    }

    #[test]
    fn trunk_reads_as_list_text_or_number() {
        let list = read(r#"{"trunk": [100, "200-299"]}"#).unwrap();

        assert_eq!(read(r#"{"trunk": "100,200-299"}"#).unwrap(), list);
        assert_eq!(describe(&list.policy().unwrap()), "trunk 100,200-299");
        assert_eq!(read(r#"{"trunk": 7}"#).unwrap().trunk.unwrap().0.to_string(), "7");
    }

    #[test]
    fn trunk_is_written_as_it_is_read() {
        let spec = read(r#"{"trunk": [100, "200-299"], "native": 1}"#).unwrap();

        let text = serde_json::to_string(&spec).unwrap();

        assert_eq!(text, r#"{"trunk":[100,"200-299"],"native":1}"#);
    }

    #[test]
    fn vlan_outside_1_to_4094_is_refused_wherever_it_stands() {
        assert!(read(r#"{"access": 0}"#).unwrap_err().to_string().contains("outside 1 to 4094"));
        assert!(read(r#"{"access": 70000}"#).is_err());
        assert!(read(r#"{"trunk": [1, 4095]}"#).is_err());
        assert!(read(r#"{"trunk": "1-5000"}"#).is_err());
        assert!(read(r#"{"trunk": 2, "native": -1}"#).is_err());
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused() {
        let refused = |json| read(json).unwrap().policy().unwrap_err().0;

        assert_eq!(refused(r#"{"access": 1, "trunk": 2}"#), "vlan.trunk");
        assert_eq!(refused(r#"{"access": 1, "native": 2}"#), "vlan.native");
        assert_eq!(refused(r#"{"native": 2}"#), "vlan.native");
        assert_eq!(refused(r#"{"trunk": []}"#), "vlan.trunk");
    }
}
