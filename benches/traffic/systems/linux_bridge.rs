//! The kernel's own bridge, with ends of veth pairs and taps as members.
//!
//! It has no process: its work is done in the context of whoever sends, so there is no core to give
//! it, and a figure of it shows what a switch without AF_XDP and vhost-user costs. Taps are created
//! here (for QEMU's `-netdev tap,ifname=…,script=no,downscript=no`) with `vnet_hdr`, so that
//! segmentation offload passes between guests.

use std::fs;
use std::path::Path;

use super::process::{Place, bounded, run};
use super::{Port, Running, System, Topology};

/// The bridge. One system runs at a time.
const BRIDGE: &str = "rwbench";

/// An Ethernet header: what a frame has beside its MTU.
const HEADER_BYTES: usize = 14;

/// The MTU of an interface unless something longer is to pass.
const ORDINARY_MTU: usize = 1500;

/// A bridge of the kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinuxBridge;

impl System for LinuxBridge {
    fn name(&self) -> &'static str {
        "linux-bridge"
    }

    fn probe(&self) -> Result<String, String> {
        // In a network namespace that is gone with the command.
        run(bounded("unshare").args(["--net", "ip", "link", "add", BRIDGE, "type", "bridge"]))?;
        fs::read_to_string("/proc/sys/kernel/osrelease")
            .map(|release| format!("Linux {}", release.trim()))
            .map_err(|error| format!("cannot read the kernel's version: {error}"))
    }

    fn can(&self, topology: &Topology) -> bool {
        !topology.ports.iter().any(|port| matches!(port, Port::Guest { .. }))
    }

    fn start(&self, topology: &Topology, _directory: &Path) -> Result<Box<dyn Running>, String> {
        let mut bridge = Bridge { place: Place::of(topology)?, devices: Vec::new() };
        let mtu = topology.longest_frame_bytes.saturating_sub(HEADER_BYTES).max(ORDINARY_MTU);
        let mtu = mtu.to_string();
        bridge.add(&["link", "add", BRIDGE, "type", "bridge"], BRIDGE)?;
        for port in &topology.ports {
            let interface = match port {
                Port::Wire { interface } => interface,
                Port::Tap { interface } => {
                    let add = ["tuntap", "add", "dev", interface, "mode", "tap", "vnet_hdr"];
                    bridge.add(&add, interface)?;
                    interface
                }
                Port::Guest { socket, .. } => {
                    return Err(format!("a Linux bridge cannot reach {}", socket.display()));
                }
            };
            bridge.place.ip(&["link", "set", interface, "mtu", &mtu, "master", BRIDGE, "up"])?;
        }
        bridge.place.ip(&["link", "set", BRIDGE, "mtu", &mtu, "addrgenmode", "none", "up"])?;
        Ok(Box::new(bridge))
    }
}

/// A bridge that is there, and what else was created for it.
#[derive(Debug)]
struct Bridge {
    place: Place,
    devices: Vec<String>,
}

impl Bridge {
    /// Creates a device, which is removed when this is dropped.
    fn add(&mut self, command: &[&str], device: &str) -> Result<(), String> {
        self.place.ip(command)?;
        self.devices.push(device.to_owned());
        Ok(())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for device in &self.devices {
            // Nothing can be done if the namespace is gone, and they with it.
            let _ = self.place.ip(&["link", "delete", device]);
        }
    }
}

impl Running for Bridge {
    fn process(&self) -> Option<u32> {
        None
    }
}
