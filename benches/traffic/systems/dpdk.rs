//! What the peers on DPDK have in common: huge pages, AF_XDP devices, the length of frames.

use std::fs;

use super::process::Place;
use super::{Port, Topology};

/// The longest frame for which nothing must be set: 1514 bytes and a VLAN tag.
pub(super) const ORDINARY_FRAME_BYTES: usize = 1518;

/// The frame check sequence, which DPDK counts although no frame here has one.
pub(super) const FCS_BYTES: usize = 4;

/// Huge pages of 2 MiB that a peer needs: OVS takes 512 MiB, testpmd 370 (seen).
const HUGE_PAGES: usize = 256;

/// Looks whether there are huge pages left for a peer.
///
/// # Errors
///
/// There are too few.
pub(super) fn probe_huge_pages() -> Result<(), String> {
    let file = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let text = fs::read_to_string(file).map_err(|error| format!("cannot read {file}: {error}"))?;
    match text.trim().parse::<usize>() {
        Ok(free) if free >= HUGE_PAGES => Ok(()),
        _ => Err(format!("{} huge pages of 2 MiB are free, not {HUGE_PAGES}", text.trim())),
    }
}

/// Says whether DPDK has a driver for all ports, with wires for frames up to `longest_on_wires`.
///
/// Wires must be in a namespace, since some of what a peer does there is undone here.
pub(super) fn has_drivers(topology: &Topology, longest_on_wires: usize) -> bool {
    topology.ports.iter().all(|port| match port {
        Port::Guest { .. } => true,
        Port::Wire { .. } => {
            topology.namespace.is_some() && topology.longest_frame_bytes <= longest_on_wires
        }
        Port::Tap { .. } => false,
    })
}

/// The AF_XDP device of a wire, as DPDK's options have it.
pub(super) fn wire_device(number: usize, interface: &str) -> String {
    format!("net_af_xdp{number},iface={interface}")
}

/// What a peer may leave in a namespace. When this is dropped, which is to be after the peer's end,
/// interfaces are as they were: DPDK leaves them promiscuous always, and with its XDP program on
/// them if it had no time to close them.
#[derive(Debug)]
pub(super) struct Leftovers {
    place: Place,
    wires: Vec<String>,
    taps: &'static [&'static str],
}

impl Leftovers {
    /// Of a peer on a topology that creates these tap devices.
    pub(super) fn of(topology: &Topology, place: &Place, taps: &'static [&'static str]) -> Self {
        let interface = |port: &Port| match port {
            Port::Wire { interface } => Some(interface.clone()),
            Port::Guest { .. } | Port::Tap { .. } => None,
        };
        let wires = topology.ports.iter().filter_map(interface).collect();
        Self { place: place.clone(), wires, taps }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        if !self.place.is_namespace() {
            return;
        }
        // What is not there any more is as it should be, and so is a namespace that is gone.
        for interface in &self.wires {
            let _ = self.place.ip(&["link", "set", interface, "promisc", "off", "xdp", "off"]);
        }
        for tap in self.taps {
            let _ = self.place.ip(&["link", "delete", tap]);
        }
    }
}
