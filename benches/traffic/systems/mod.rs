//! The systems that are compared, behind one interface: Ringway and its peers.

mod dpdk;
mod linux_bridge;
mod ovs;
pub(crate) mod process;
mod ringway;
mod testpmd;

use std::path::{Path, PathBuf};

pub(crate) use linux_bridge::LinuxBridge;
pub(crate) use ovs::Ovs;
pub(crate) use ringway::Ringway;
pub(crate) use testpmd::Testpmd;

/// What a system is to connect, and where it may run.
#[derive(Debug, Clone)]
pub(crate) struct Topology {
    pub(crate) ports: Vec<Port>,
    /// The network namespace that the interfaces are in. Unix sockets are in the file system.
    pub(crate) namespace: Option<String>,
    /// The core of the poll thread. The load runs on the other.
    pub(crate) core: usize,
    /// The longest Ethernet frame, without frame check sequence.
    pub(crate) longest_frame_bytes: usize,
}

/// One port.
#[derive(Debug, Clone)]
pub(crate) enum Port {
    /// A front end listens at `socket` before the system starts; the system connects.
    Guest { socket: PathBuf, queue_pairs: u16 },
    /// One end of a veth pair, over AF_XDP (the Linux bridge takes it as a member).
    Wire { interface: String },
    /// A tap device for a QEMU guest: the Linux bridge only.
    Tap { interface: String },
}

/// A system under test.
pub(crate) trait System: std::fmt::Debug {
    /// As tables name it: `ringway`, `ovs-dpdk`, `testpmd`, `linux-bridge`.
    fn name(&self) -> &'static str;

    /// Looks whether the system can run here, and returns its version.
    ///
    /// # Errors
    ///
    /// Why it cannot, in a line for the reader of the report.
    fn probe(&self) -> Result<String, String>;

    /// Says whether the system can do this at all: testpmd forwards between two ports only, and
    /// a Linux bridge knows no vhost-user.
    fn can(&self, topology: &Topology) -> bool;

    /// Starts it on a topology, with files of its own in `directory`, and returns when its ports
    /// are there.
    ///
    /// # Errors
    ///
    /// What went wrong, with the system's own words.
    fn start(&self, topology: &Topology, directory: &Path) -> Result<Box<dyn Running>, String>;
}

/// A system that runs. Dropping it ends its processes, those alone, and waits for their end.
pub(crate) trait Running: std::fmt::Debug {
    /// The process whose threads do the forwarding, for its CPU time and memory.
    fn process(&self) -> Option<u32>;
}
