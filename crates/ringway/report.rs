//! What the daemon says about its ports, addresses and threads: the objects of the control
//! protocol, which `--json` prints as they are.
//!
//! Names are long enough to need no legend. Frames and bytes in are what came into the switch by a
//! port, out what left by it. Nothing vanishes: `frames_in = drops_in + decided`, and
//! `copies_ordered = frames_out + drops_out` but for what is on its way.

use datapath::afxdp::Interface;
use datapath::bridge::Entry;
use datapath::frame::{Direction, DropReason};
use datapath::{QueueStatistics, Snapshot, ThreadStatistics};
use serde_json::{Map, Value, json};

use crate::port_spec::Connection;
use crate::switch::{Behind, Fault, Port, Switch};
use crate::vlan_spec;

/// A line of `port list`.
pub(crate) fn port_line(switch: &Switch, port: &Port) -> Value {
    let place = match &port.settings.connection {
        Connection::VhostUser { socket, .. } => socket.display().to_string(),
        Connection::AfXdp { interface, .. } | Connection::Tap { interface, .. } => {
            interface.clone()
        }
    };
    json!({
        "name": port.spec.name,
        "type": port.spec.port_type.as_str(),
        "state": if port.is_up() { "up" } else { "down" },
        "vlan": vlan_spec::describe(&port.settings.policy),
        "at": place,
        "addresses": switch.fdb.slot_statistics(port.id.slot).learned,
    })
}

/// All about a port.
pub(crate) fn port(switch: &Switch, port: &Port) -> Value {
    let mut report = port_line(switch, port);
    let learned = switch.fdb.slot_statistics(port.id.slot);
    let limit = Some(port.settings.learn_limit).filter(|&limit| limit != u32::MAX);
    report["addresses_limit"] = json!(limit);
    report["addresses_refused"] = json!(learned.refused_full + learned.refused_limit);
    report["configuration"] = json!(port.spec);
    let statistics = switch.datapath.statistics(port.id);
    report["queues"] = json!(statistics.queues.len());
    match &port.behind {
        Behind::Guest(guest) => {
            report["front_end"] =
                json!(if guest.is_connected() { "connected" } else { "not connected" });
            report["sessions"] = json!(guest.sessions);
            report["rings_running"] = json!(guest.guest.running_rings());
            report["rings_enabled"] = json!(guest.guest.enabled_rings());
            report["features"] = json!(guest.guest.features().to_string());
            report["memory_bytes"] = json!(guest.guest.memory_bytes());
            report["mtu"] = json!(port.settings.traits.mtu());
            report["mtu_of_front_end"] = json!(guest.guest.mtu());
            report["faults"] = json!(statistics.total.faults + port.faults.of_control);
            report["last_fault"] = json!(port.faults.last.as_ref().map(last_fault));
        }
        Behind::Uplink(uplink) => {
            report["mode"] = json!(uplink.interface.mode().as_str());
            report["program"] =
                json!(if uplink.interface.is_native() { "native" } else { "generic" });
            report["queues"] = json!(uplink.interface.queue_count());
            let mtu = port.settings.traits.mtu().min(uplink.interface.mtu_bytes());
            report["mtu"] = json!(mtu);
            report["interface"] = link(&uplink.interface);
        }
        Behind::Tap(tap) => {
            report["mtu"] = json!(tap.tap.mtu_bytes().ok());
            report["persistent"] = json!(tap.tap.is_persistent());
        }
    }
    report
}

/// Which ring of its guest was stopped last, and why.
fn last_fault(fault: &Fault) -> Value {
    json!({
        "ring": fault.ring.to_string(),
        "cause": fault.cause.to_string(),
        "seconds_ago": fault.at.elapsed().as_secs(),
    })
}

/// What was counted at a port.
pub(crate) fn statistics(switch: &Switch, port: &Port) -> Value {
    let statistics = switch.datapath.statistics(port.id);
    let mut report = counters(&statistics.total);
    report["faults"] = json!(statistics.total.faults + port.faults.of_control);
    report["name"] = json!(port.spec.name);
    report["state"] = json!(if port.is_up() { "up" } else { "down" });
    report["queues"] = statistics.queues.iter().map(queue).collect();
    if let Behind::Uplink(uplink) = &port.behind {
        report["interface"] = link(&uplink.interface);
    }
    report
}

/// What was on its way to ports when they were removed.
pub(crate) fn removed_ports(switch: &Switch) -> Value {
    let counters = switch.datapath.removed_ports();
    json!({ "drops_out": counters.dropped(Direction::Egress), "drops": drops(&counters) })
}

/// What the interface itself has counted, as `ip -s link` shows it.
fn link(interface: &Interface) -> Value {
    let link = interface.statistics();
    json!({
        "rx_dropped": link.rx_dropped,
        "rx_missed": link.rx_missed,
        "rx_errors": link.rx_errors,
        "tx_dropped": link.tx_dropped,
        "tx_errors": link.tx_errors,
    })
}

fn queue(queue: &QueueStatistics) -> Value {
    let mut report = counters(&queue.counters);
    report["index"] = json!(queue.index);
    report["thread"] = json!(queue.thread);
    if let Some(socket) = queue.socket {
        report["socket"] = json!({
            "rx_dropped": socket.rx_dropped,
            "rx_invalid_descriptors": socket.rx_invalid_descriptors,
            "tx_invalid_descriptors": socket.tx_invalid_descriptors,
            "rx_ring_full": socket.rx_ring_full,
            "rx_fill_ring_empty": socket.rx_fill_ring_empty,
            "tx_ring_empty": socket.tx_ring_empty,
        });
    }
    report
}

fn counters(counters: &Snapshot) -> Value {
    json!({
        "frames_in": counters.ingress_frames,
        "bytes_in": counters.ingress_bytes,
        "frames_out": counters.egress_frames,
        "bytes_out": counters.egress_bytes,
        "decided": counters.decided_frames,
        "copies_ordered": counters.ordered_copies,
        "drops_in": counters.dropped(Direction::Ingress),
        "drops_out": counters.dropped(Direction::Egress),
        "faults": counters.faults,
        "drops": drops(counters),
    })
}

/// Drops by reason, those that happened.
fn drops(counters: &Snapshot) -> Value {
    let happened = DropReason::ALL.iter().filter(|&&reason| counters.drops(reason) > 0);
    let by_reason: Map<String, Value> = happened
        .map(|&reason| (reason.as_str().to_owned(), json!(counters.drops(reason))))
        .collect();
    Value::Object(by_reason)
}

/// A line of `fdb list`.
pub(crate) fn entry(entry: &Entry, port: Option<&str>) -> Value {
    json!({
        "vlan": entry.vid.get(),
        "mac": entry.address.to_string(),
        "port": port,
        "static": entry.is_static(),
        "age_seconds": entry.age.map(|age| age.0),
    })
}

/// A thread's counters; rates come from two of these.
pub(crate) fn thread(thread: &ThreadStatistics) -> Value {
    json!({
        "thread": thread.index,
        "core": thread.core,
        "queues": thread.queues,
        "turns": thread.turns,
        "busy_ticks": thread.busy_ticks,
        "idle_ticks": thread.idle_ticks,
        "sleeps": thread.sleeps,
        "frames": thread.frames,
        "bursts": thread.bursts,
        "read_at_ticks": thread.read_at_ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_did_not_happen_are_not_listed() {
        assert_eq!(drops(&Snapshot::default()), json!({}));
        assert_eq!(counters(&Snapshot::default())["frames_in"], json!(0));
    }
}
