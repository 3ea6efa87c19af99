//! The methods of the control protocol: the commands with dots.
//!
//! One table says name, parameters and meaning; `rpc.methods` prints it and `call` looks in it, so
//! the two cannot differ. Wrong parameters are refused with the port that they name.

use serde_json::{Value, json};

use super::parameters::{
    Address, Changed, Filter, Flushed, Named, Nothing, PerhapsNamed, Station, Successor, address,
    gather_vlan, port_spec, read,
};
use super::protocol::RpcError;
use crate::hand_over;
use crate::port_spec::PortChange;
use crate::refusal::Refusal;
use crate::report;
use crate::switch::Switch;

type Outcome = Result<Value, RpcError>;

/// A method.
struct Method {
    name: &'static str,
    /// Name and meaning of each parameter; optional ones end in `?`.
    parameters: &'static [(&'static str, &'static str)],
    about: &'static str,
    run: fn(Value, &mut Switch) -> Outcome,
}

const NAME: (&str, &str) = ("name", "the port's name");
const ACCESS: (&str, &str) = ("access?", "untagged member of this VLAN, 1 to 4094");
const TRUNK: (&str, &str) = ("trunk?", "tagged member of these: \"100,200-299\" or a list");
const NATIVE: (&str, &str) = ("native?", "VLAN of untagged frames on a trunk");
const ADDRESSES: (&str, &str) = ("addresses?", "most addresses learned behind the port");
const MTU: (&str, &str) = ("mtu?", "longest packet in bytes, 68 to 9202");
const OFFLOADS: (&str, &str) = ("offloads?", "false: only ready frames are sent to it");
const VLAN: (&str, &str) = ("vlan", "the VLAN, 1 to 4094");
const OF_VLAN: (&str, &str) = ("vlan?", "only of this VLAN");
const OF_PORT: (&str, &str) = ("port?", "only of this port");
const MAC: (&str, &str) = ("mac", "a station's address");

const METHODS: &[Method] = &[
    Method {
        name: "port.add",
        parameters: &[
            NAME,
            ("type", "vhost-user, af-xdp or tap"),
            ("socket?", "vhost-user: absolute path of the socket"),
            ("connect?", "vhost-user: true if the front end listens"),
            ("owner?", "vhost-user: user of the socket"),
            ("group?", "vhost-user: group of the socket"),
            ("mode?", "vhost-user: permissions of the socket, like \"0660\""),
            ("queues?", "vhost-user: most queue pairs, 1 to 32; tap: queues, 1 to 64"),
            ("interface?", "af-xdp, tap: name of the interface"),
            ("zero-copy?", "af-xdp: auto, always or never"),
            ("force?", "af-xdp: take an interface that is in use"),
            ACCESS,
            TRUNK,
            NATIVE,
            ADDRESSES,
            MTU,
            OFFLOADS,
        ],
        about: "adds a port",
        run: port_add,
    },
    Method {
        name: "port.set",
        parameters: &[NAME, ACCESS, TRUNK, NATIVE, ADDRESSES, MTU, OFFLOADS],
        about: "changes a port while traffic flows",
        run: port_set,
    },
    Method {
        name: "port.remove",
        parameters: &[NAME],
        about: "removes a port",
        run: |params, switch| {
            switch.remove_port(&read::<Named>(params)?.name)?;
            Ok(json!({}))
        },
    },
    Method {
        name: "port.list",
        parameters: &[],
        about: "lists the ports in the order of addition",
        run: |params, switch| {
            read::<Nothing>(params)?;
            let ports: Value = switch.ports().map(|port| report::port_line(switch, port)).collect();
            Ok(json!({ "ports": ports }))
        },
    },
    Method {
        name: "port.show",
        parameters: &[NAME],
        about: "tells all about a port",
        run: |params, switch| {
            let port = switch.port(&read::<Named>(params)?.name)?;
            Ok(report::port(switch, port))
        },
    },
    Method {
        name: "fdb.list",
        parameters: &[OF_VLAN, OF_PORT],
        about: "lists learned and static addresses",
        run: fdb_list,
    },
    Method {
        name: "fdb.add",
        parameters: &[MAC, VLAN, ("port", "the port it lies behind")],
        about: "adds a static address",
        run: |params, switch| {
            let Station { mac, vlan, port } = read(params)?;
            switch.add_entry(address(&mac)?, vlan.0, &port)?;
            Ok(json!({}))
        },
    },
    Method {
        name: "fdb.remove",
        parameters: &[MAC, VLAN],
        about: "removes a static address",
        run: |params, switch| {
            let Address { mac, vlan } = read(params)?;
            switch.remove_entry(address(&mac)?, vlan.0)?;
            Ok(json!({}))
        },
    },
    Method {
        name: "fdb.flush",
        parameters: &[OF_VLAN, OF_PORT, ("static?", "true: static addresses as well")],
        about: "forgets learned addresses",
        run: |params, switch| {
            let Flushed { vlan, port, with_static } = read(params)?;
            let removed = switch.flush(port.as_deref(), vlan.map(|vid| vid.0), with_static)?;
            Ok(json!({ "removed": removed }))
        },
    },
    Method {
        name: "stats.get",
        parameters: &[("name?", "only this port")],
        about: "tells frames, bytes and drops by reason, per port and queue",
        run: stats_get,
    },
    Method {
        name: "threads.get",
        parameters: &[],
        about: "tells what each poll thread has done since it started",
        run: |params, switch| {
            read::<Nothing>(params)?;
            let threads: Value = switch.datapath.threads().iter().map(report::thread).collect();
            Ok(json!({ "threads": threads }))
        },
    },
    Method {
        name: "config.show",
        parameters: &[],
        about: "tells the running configuration, as TOML and as an object",
        run: |params, switch| {
            read::<Nothing>(params)?;
            let config = switch.config();
            let toml = config.to_toml().map_err(|error| Refusal::caused_by(&error))?;
            Ok(json!({ "toml": toml, "configuration": config }))
        },
    },
    Method {
        name: "config.save",
        parameters: &[],
        about: "saves the running configuration to the file the daemon was started with",
        run: config_save,
    },
    Method {
        name: "switch.hand_over",
        parameters: &[("version", "the version of the hand-over")],
        about: "hands everything over to another ringway: what run --take-over asks for",
        run: switch_hand_over,
    },
    Method {
        name: "rpc.methods",
        parameters: &[],
        about: "lists the methods with their parameters",
        run: |params, _| {
            read::<Nothing>(params)?;
            Ok(json!({ "methods": METHODS.iter().map(describe).collect::<Value>() }))
        },
    },
    Method {
        name: "version.get",
        parameters: &[],
        about: "tells the daemon's version",
        run: |params, _| {
            read::<Nothing>(params)?;
            Ok(json!({ "ringway": env!("CARGO_PKG_VERSION"), "protocol": 1 }))
        },
    },
];

/// Carries out a method.
///
/// # Errors
///
/// [`RpcError`] if there is none of this name, its parameters are wrong, or it refuses.
pub(crate) fn call(name: &str, params: Value, switch: &mut Switch) -> Outcome {
    let method = METHODS.iter().find(|method| method.name == name);
    let method = method.ok_or_else(|| RpcError::MethodNotFound(name.to_owned()))?;
    let port = named_port(method, &params).map(str::to_owned);
    let outcome = (method.run)(params, switch);
    outcome.map_err(|error| match port {
        Some(port) => error.about(&port),
        None => error,
    })
}

/// The port that parameters name, if the method has a parameter for one.
fn named_port<'a>(method: &Method, params: &'a Value) -> Option<&'a str> {
    let mut names = method.parameters.iter().map(|(name, _)| name.trim_end_matches('?'));
    let name = names.find(|name| ["name", "port"].contains(name))?;
    params.get(name)?.as_str()
}

fn describe(method: &Method) -> Value {
    let parameters: Value = method
        .parameters
        .iter()
        .map(|(name, about)| {
            let is_required = !name.ends_with('?');
            json!({ "name": name.trim_end_matches('?'), "required": is_required, "about": about })
        })
        .collect();
    json!({ "name": method.name, "about": method.about, "parameters": parameters })
}

fn port_add(params: Value, switch: &mut Switch) -> Outcome {
    let spec = port_spec(params)?;
    let name = spec.name.clone();
    switch.add_port(spec)?;
    switch.warn_of_loops(&name);
    Ok(json!({}))
}

fn port_set(params: Value, switch: &mut Switch) -> Outcome {
    let Changed { name, vlan, addresses, mtu, offloads } = read(gather_vlan(params))?;
    let change = PortChange { vlan, addresses, mtu, offloads };
    if change == PortChange::default() {
        let refusal = Refusal::new("there is nothing to change")
            .hint("give --access, --trunk, --native, --addresses, --mtu or --offloads");
        return Err(RpcError::InvalidParams(refusal));
    }
    switch.set_port(&name, change)?;
    Ok(json!({}))
}

fn fdb_list(params: Value, switch: &mut Switch) -> Outcome {
    let filter: Filter = read(params)?;
    let entries = switch.entries(filter.port.as_deref(), filter.vid())?;
    let names = switch.names_by_slot();
    let lines: Value =
        entries.iter().map(|entry| report::entry(entry, names.get(&entry.slot).copied())).collect();
    let counts = switch.fdb.statistics();
    Ok(json!({
        "entries": lines,
        "total": counts.entries,
        "static": counts.static_entries,
        "moves": counts.moves,
        "refused_full": counts.refused_full,
        "refused_limit": counts.refused_limit,
    }))
}

fn stats_get(params: Value, switch: &mut Switch) -> Outcome {
    if let Some(name) = read::<PerhapsNamed>(params)?.name {
        let port = report::statistics(switch, switch.port(&name)?);
        return Ok(json!({ "ports": [port] }));
    }
    let ports: Value = switch.ports().map(|port| report::statistics(switch, port)).collect();
    Ok(json!({ "ports": ports, "removed_ports": report::removed_ports(switch) }))
}

fn switch_hand_over(params: Value, switch: &mut Switch) -> Outcome {
    let Successor { version } = read(params)?;
    if version != hand_over::VERSION {
        let known = hand_over::VERSION;
        let cause = format!("version {version} of the hand-over is not known here, {known} is");
        let hint = "end this switch and start the other one: guests connect again";
        return Err(Refusal::new(cause).hint(hint).into());
    }
    switch.want();
    Ok(json!({ "version": version, "ringway": env!("CARGO_PKG_VERSION") }))
}

fn config_save(params: Value, switch: &mut Switch) -> Outcome {
    read::<Nothing>(params)?;
    let file = switch.file().ok_or_else(|| {
        Refusal::new("the daemon was started without a configuration file")
            .hint("config show prints what runs; start it with --config FILE")
    })?;
    switch.config().save(file).map_err(|error| Refusal::caused_by(&error))?;
    Ok(json!({ "file": file }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_its_own_name_and_says_what_it_does() {
        let names: std::collections::HashSet<_> =
            METHODS.iter().map(|method| method.name).collect();

        assert_eq!(names.len(), METHODS.len());
        assert!(METHODS.iter().all(|method| !method.about.is_empty()));
    }

    #[test]
    fn optional_parameters_are_told_from_required_ones() {
        let method = METHODS.iter().find(|method| method.name == "fdb.list").unwrap();

        assert_eq!(describe(method)["parameters"][0]["name"], json!("vlan"));
        assert_eq!(describe(method)["parameters"][0]["required"], json!(false));
    }

    #[test]
    fn port_is_found_under_the_name_that_the_method_has_for_it() {
        let named = |method, params| {
            let method = METHODS.iter().find(|known| known.name == method).unwrap();
            named_port(method, &params).map(str::to_owned)
        };

        assert_eq!(named("port.set", json!({"name": "vm1"})), Some("vm1".to_owned()));
        assert_eq!(named("fdb.flush", json!({"port": "vm1"})), Some("vm1".to_owned()));
        assert_eq!(named("fdb.flush", json!({"name": "vm1"})), None);
        assert_eq!(named("port.set", json!({"name": 1})), None);
    }
}
