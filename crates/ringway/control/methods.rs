//! The methods of the control socket, each a few lines over the switch.

use std::collections::BTreeMap;

use datapath::Snapshot;
use datapath::frame::{Direction, DropReason, MacAddr, VlanId};
use serde::Serialize;
use serde_json::{Value, json};

use crate::api::{
    ConfigText, Counters, FdbAddress, FdbEntry, FdbFilter, FdbFlush, FdbList, Flushed, Method,
    Methods, Nothing, PROTOCOL, PortChanges, PortList, PortName, PortOptions, PortStats,
    PortStatus, QueueStats, Refusal, Saved, Stats, StatsFilter, Version,
};
use crate::control::protocol::{RpcError, params};
use crate::daemon::Daemon;
use crate::port_spec::{PortKind, PortSpec, vlan_options};
use crate::switch::{Fitting, Port, StaticEntry, Switch};

/// Method, what it does, and its parameters: name and explanation.
type Description = (&'static str, &'static str, &'static [(&'static str, &'static str)]);

const NAME: (&str, &str) = ("name", "required: the port's name");
const VLANS: [(&str, &str); 3] = [
    ("access", "VID of an untagged port, 1 to 4094"),
    ("trunk", "VIDs of a tagged port: \"100,200-299\""),
    ("native", "VID of a trunk's untagged frames"),
];
const LEARN_LIMIT: (&str, &str) = ("learn-limit", "most addresses learned behind the port");

/// Every method there is.
const METHODS: &[Description] = &[
    (
        "port.add",
        "adds a port",
        &[
            NAME,
            ("type", "required: vhost-user or af-xdp"),
            ("socket", "vhost-user, required: path of the socket"),
            ("connect", "vhost-user: true if QEMU listens (default false)"),
            ("queues", "vhost-user: the most queue pairs offered, 1 to 32 (default 1)"),
            ("owner", "vhost-user: owner of the socket"),
            ("group", "vhost-user: group of the socket"),
            ("mode", "vhost-user: permissions of the socket, octal in a string"),
            ("interface", "af-xdp, required: the network interface"),
            ("zero-copy", "af-xdp: auto, always or never (default auto)"),
            ("force", "af-xdp: true to take an interface that the host uses"),
            LEARN_LIMIT,
            VLANS[0],
            VLANS[1],
            VLANS[2],
        ],
    ),
    (
        "port.set",
        "changes a port while traffic flows",
        &[NAME, LEARN_LIMIT, VLANS[0], VLANS[1], VLANS[2]],
    ),
    ("port.remove", "removes a port", &[NAME]),
    ("port.list", "lists the ports", &[]),
    ("port.show", "shows one port", &[NAME]),
    (
        "fdb.list",
        "lists learned and static addresses",
        &[("vlan", "only of this VLAN"), ("port", "only behind this port")],
    ),
    (
        "fdb.add",
        "sets an address behind a port",
        &[("mac", "required"), ("vlan", "required"), ("port", "required")],
    ),
    ("fdb.remove", "takes back a set address", &[("mac", "required"), ("vlan", "required")]),
    (
        "fdb.flush",
        "forgets learned addresses",
        &[
            ("vlan", "only of this VLAN"),
            ("port", "only behind this port"),
            ("static", "true: set ones too"),
        ],
    ),
    ("stats.get", "counters by port and queue", &[("name", "only of this port")]),
    ("threads.get", "what the poll threads do", &[]),
    ("config.show", "the running configuration as TOML", &[]),
    ("config.save", "saves it to the file the daemon was started with", &[]),
    ("version.get", "the daemon's version", &[]),
    ("rpc.methods", "lists the methods", &[]),
];

/// Carries out one request.
pub(crate) fn carry_out(
    daemon: &mut Daemon,
    method: &str,
    given: Option<Value>,
) -> Result<Value, RpcError> {
    match method {
        "port.add" => {
            let options: PortOptions = params(given)?;
            let spec = PortSpec::try_from(&options).map_err(|error| {
                Refusal { cause: error.to_string(), ..Refusal::default() }
                    .about(format!("port {}", options.name))
            })?;
            daemon.switch.add_port(spec, &daemon.poller)?;
            done()
        }
        "port.set" => {
            daemon.switch.set_port(&params::<PortChanges>(given)?)?;
            done()
        }
        "port.remove" => {
            let PortName { name } = params(given)?;
            daemon.switch.remove_port(&name, &daemon.poller)?;
            done()
        }
        "port.list" => {
            let Nothing {} = params(given)?;
            let ports = daemon.switch.ports().iter();
            result(PortList { ports: ports.map(|port| status(&daemon.switch, port)).collect() })
        }
        "port.show" => {
            let PortName { name } = params(given)?;
            result(status(&daemon.switch, daemon.switch.port(&name)?))
        }
        "fdb.list" => result(addresses(&daemon.switch, params(given)?)?),
        "fdb.add" => {
            let FdbAddress { mac, vlan, port } = params(given)?;
            let port = port.ok_or_else(|| RpcError::invalid_params("parameters: port is missing"))?;
            let (address, vid) = (address(&mac)?, vid(vlan)?);
            daemon.switch.add_static(&StaticEntry { address, vid, port })?;
            done()
        }
        "fdb.remove" => {
            let FdbAddress { mac, vlan, .. } = params(given)?;
            daemon.switch.remove_static(vid(vlan)?, address(&mac)?)?;
            done()
        }
        "fdb.flush" => {
            let FdbFlush { vlan, port, with_static } = params(given)?;
            let vlan = vlan.map(vid).transpose()?;
            let flushed = daemon.switch.flush(port.as_deref(), vlan, with_static)?;
            result(Flushed { flushed })
        }
        "stats.get" => {
            let StatsFilter { name } = params(given)?;
            let ports = match &name {
                Some(name) => vec![statistics(&daemon.switch, daemon.switch.port(name)?)],
                None => {
                    let ports = daemon.switch.ports().iter();
                    ports.map(|port| statistics(&daemon.switch, port)).collect()
                }
            };
            result(Stats { ports })
        }
        "threads.get" => {
            let Nothing {} = params(given)?;
            result(daemon.thread_rates())
        }
        "config.show" => {
            let Nothing {} = params(given)?;
            result(ConfigText { toml: daemon.running_config().to_toml() })
        }
        "config.save" => {
            let Nothing {} = params(given)?;
            result(Saved { file: daemon.save_config()? })
        }
        "version.get" => {
            let Nothing {} = params(given)?;
            let version = env!("CARGO_PKG_VERSION").to_owned();
            result(Version { version, protocol: PROTOCOL })
        }
        "rpc.methods" => {
            let Nothing {} = params(given)?;
            result(methods())
        }
        other => Err(RpcError::no_such_method(other)),
    }
}

fn result(result: impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(result).map_err(|error| RpcError::invalid_params(error.to_string()))
}

fn done() -> Result<Value, RpcError> {
    Ok(json!({}))
}

fn methods() -> Methods {
    let describe = |&(method, summary, params): &Description| Method {
        method: method.to_owned(),
        summary: summary.to_owned(),
        params: params.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect(),
    };
    Methods { methods: METHODS.iter().map(describe).collect() }
}

fn vid(number: u16) -> Result<VlanId, Refusal> {
    VlanId::try_from(number)
        .map_err(|error| Refusal { cause: error.to_string(), ..Refusal::default() })
}

fn address(text: &str) -> Result<MacAddr, Refusal> {
    text.parse().map_err(|error: datapath::frame::ParseMacAddrError| Refusal {
        cause: error.to_string(),
        ..Refusal::default()
    })
}

fn status(switch: &Switch, port: &Port) -> PortStatus {
    let (vhost_user, af_xdp) = match &port.fitting {
        Fitting::Guest(guest) => (Some(guest.status()), None),
        Fitting::Uplink(uplink) => (None, Some(uplink.status())),
    };
    let kind = match &port.spec.kind {
        PortKind::VhostUser { .. } => "vhost-user",
        PortKind::AfXdp { .. } => "af-xdp",
    };
    PortStatus {
        name: port.spec.name.clone(),
        kind: kind.to_owned(),
        up: port.is_up(),
        vlan: vlan_options(&port.spec.policy),
        learn_limit: port.spec.learn_limit,
        addresses: switch.fdb.slot_statistics(port.id.slot).learned,
        vhost_user,
        af_xdp,
    }
}

fn addresses(switch: &Switch, filter: FdbFilter) -> Result<FdbList, RpcError> {
    let vlan = filter.vlan.map(vid).transpose()?;
    if let Some(name) = &filter.port {
        switch.port(name)?;
    }
    let entries = switch.addresses().into_iter().filter_map(|entry| {
        let port = switch.name_of(entry.slot)?;
        let is_wanted = vlan.is_none_or(|vlan| vlan == entry.vid)
            && filter.port.as_deref().is_none_or(|wanted| wanted == port);
        is_wanted.then(|| FdbEntry {
            mac: entry.address.to_string(),
            vlan: entry.vid.get(),
            port: port.to_owned(),
            is_static: entry.age.is_none(),
            age_seconds: entry.age.map(|age| age.0),
        })
    });
    let counted = switch.fdb.statistics();
    Ok(FdbList {
        entries: entries.collect(),
        capacity: switch.fdb.capacity(),
        moves: counted.moves,
        refused_full: counted.refused_full,
        refused_limit: counted.refused_limit,
    })
}

fn statistics(switch: &Switch, port: &Port) -> PortStats {
    let statistics = switch.datapath.statistics(port.id);
    let queues = statistics.queues.iter().map(|queue| QueueStats {
        queue: queue.index,
        thread: queue.thread,
        counters: counters(&queue.counters),
        socket: queue.socket.as_ref().map(socket_counters).unwrap_or_default(),
    });
    PortStats {
        name: port.spec.name.clone(),
        counters: counters(&statistics.total),
        queues: queues.collect(),
        interface_drops: match &port.fitting {
            Fitting::Guest(_) => BTreeMap::new(),
            Fitting::Uplink(uplink) => uplink.drops(),
        },
    }
}

fn socket_counters(socket: &datapath::afxdp::XdpStatistics) -> BTreeMap<String, u64> {
    [
        ("rx_dropped", socket.rx_dropped),
        ("rx_invalid_descriptors", socket.rx_invalid_descriptors),
        ("tx_invalid_descriptors", socket.tx_invalid_descriptors),
        ("rx_ring_full", socket.rx_ring_full),
        ("rx_fill_ring_empty", socket.rx_fill_ring_empty),
        ("tx_ring_empty", socket.tx_ring_empty),
    ]
    .map(|(name, count)| (name.to_owned(), count))
    .into()
}

fn counters(snapshot: &Snapshot) -> Counters {
    let drops = |wanted: &dyn Fn(DropReason) -> bool| -> BTreeMap<String, u64> {
        let reasons = DropReason::ALL.iter().filter(|&&reason| wanted(reason));
        let counts = reasons.map(|&reason| (reason.as_str().to_owned(), snapshot.drops(reason)));
        counts.filter(|&(_, count)| count > 0).collect()
    };
    Counters {
        frames_in: snapshot.ingress_frames,
        bytes_in: snapshot.ingress_bytes,
        frames_out: snapshot.egress_frames,
        bytes_out: snapshot.egress_bytes,
        decided: snapshot.decided_frames,
        ordered: snapshot.ordered_copies,
        faults: snapshot.faults,
        drops_in: drops(&|reason| reason.direction() == Direction::Ingress),
        drops_out: drops(&|reason| reason.direction() == Direction::Egress),
        drops: drops(&|_| true),
    }
}
