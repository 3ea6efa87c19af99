//! Open vSwitch on DPDK, from Debian's packages, as a learning switch (its bridge's default).
//!
//! It consists of two processes, the database and the switch, on a database, sockets and logs of
//! their own. The switch creates tap devices for its bridges; they stay out of the machine's own
//! network, since without a namespace to run in it gets a new one.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::dpdk::{
    FCS_BYTES, Leftovers, ORDINARY_FRAME_BYTES, has_drivers, probe_huge_pages, wire_device,
};
use super::process::{Daemon, Place, bounded, run};
use super::{Port, Running, System, Topology};

/// The switch; `ovs-vswitchd` in the path is the one without DPDK unless the administrator says so.
const BINARY: &str = "/usr/lib/openvswitch-switch-dpdk/ovs-vswitchd-dpdk";

/// What the tables of the database are.
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";

/// The bridge, which is also the name of its tap device.
const BRIDGE: &str = "rwbench";

/// Its tap devices: the bridge's and the data path's. They outlive it unless it closes them.
const TAPS: [&str; 2] = [BRIDGE, "ovs-netdev"];

/// The longest frame it can be set to (`NETDEV_DPDK_MAX_PKT_LEN`, with frame check sequence).
const LONGEST_FRAME_BYTES: usize = 9728 - FCS_BYTES;

/// The same on wires, where a buffer is one AF_XDP chunk, at most a page: longer frames are lost
/// without a word. Tried.
const LONGEST_ON_WIRES: usize = 2864;

/// The huge pages it is given. Without a limit it takes all there are for long frames, and the load
/// finds none; within this one it has 32,768 buffers for jumbo frames, four times as many else.
const MEMORY_MIB: u32 = 512;

/// An Ethernet header: what a frame has beside its MTU.
const HEADER_BYTES: usize = 14;

/// OVS-DPDK with one poll thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ovs;

impl System for Ovs {
    fn name(&self) -> &'static str {
        "ovs-dpdk"
    }

    fn probe(&self) -> Result<String, String> {
        probe_huge_pages()?;
        let version = run(bounded(BINARY).arg("--version"))?;
        Ok(version.lines().collect::<Vec<_>>().join(", "))
    }

    fn can(&self, topology: &Topology) -> bool {
        topology.longest_frame_bytes <= LONGEST_FRAME_BYTES
            && has_drivers(topology, LONGEST_ON_WIRES)
    }

    fn start(&self, topology: &Topology, directory: &Path) -> Result<Box<dyn Running>, String> {
        let place = Place::of(topology)?;
        let database = Database::start(&place, directory)?;
        database.configure(&place)?;
        let daemon = start_switch(&place, directory)?;
        let mut switch = Switch {
            daemon,
            database,
            control: control(directory),
            _leftovers: Leftovers::of(topology, &place, &TAPS),
        };
        switch.add_ports(topology)?;
        switch.daemon.settle(&place)?;
        Ok(Box::new(switch))
    }
}

/// Starts the switch on the database in `directory`.
fn start_switch(place: &Place, directory: &Path) -> Result<Daemon, String> {
    let mut command = if place.is_namespace() {
        place.command(&[place.other_core], BINARY)
    } else {
        let mut command = place.command(&[place.other_core], "unshare");
        command.args(["--net", BINARY]);
        command
    };
    command.arg(format!("unix:{}", socket(directory).display()));
    add_directories(&mut command, directory, "ovs-vswitchd");
    Daemon::start("ovs-vswitchd", &mut command, directory)
}

/// Where the switch listens for `ovs-appctl`.
fn control(directory: &Path) -> PathBuf {
    directory.join("ovs-vswitchd.ctl")
}

/// Makes a process of OVS keep its files in `directory`.
fn add_directories(command: &mut Command, directory: &Path, name: &str) {
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, directory);
    }
    let file = |suffix: &str| directory.join(format!("{name}.{suffix}")).display().to_string();
    command.arg(format!("--unixctl={}", file("ctl"))).arg("-vconsole:info");
}

/// Adds words to a command of `ovs-vsctl` that add a port.
fn add_port(
    command: &mut Command,
    number: usize,
    port: &Port,
    longest_frame_bytes: usize,
) -> Result<(), String> {
    let name = format!("p{number}");
    command.args(["--", "add-port", BRIDGE, &name, "--", "set", "Interface", &name]);
    match port {
        Port::Guest { socket, .. } => command
            .arg("type=dpdkvhostuserclient")
            .arg(format!("options:vhost-server-path={}", socket.display())),
        Port::Wire { interface } => command
            .arg("type=dpdk")
            .arg(format!("options:dpdk-devargs=\"{}\"", wire_device(number, interface))),
        Port::Tap { interface } => return Err(format!("ovs-dpdk has no tap ports: {interface}")),
    };
    if longest_frame_bytes > ORDINARY_FRAME_BYTES {
        command.arg(format!("mtu_request={}", longest_frame_bytes - HEADER_BYTES));
    }
    Ok(())
}

/// Where the database listens.
fn socket(directory: &Path) -> PathBuf {
    directory.join("db.sock")
}

/// The database of one switch.
#[derive(Debug)]
struct Database {
    // Ended when this is dropped.
    _daemon: Daemon,
    socket: PathBuf,
}

impl Database {
    /// Creates and starts it.
    fn start(place: &Place, directory: &Path) -> Result<Self, String> {
        let file = directory.join("conf.db");
        let socket = socket(directory);
        run(bounded("ovsdb-tool").arg("create").arg(&file).arg(SCHEMA))?;
        let mut command = place.command(&[place.other_core], "ovsdb-server");
        command.arg(&file).arg(format!("--remote=punix:{}", socket.display()));
        add_directories(&mut command, directory, "ovsdb-server");
        let mut daemon = Daemon::start("ovsdb-server", &mut command, directory)?;
        daemon.await_answer("socket", |_| socket.exists().then_some(()))?;
        Ok(Self { _daemon: daemon, socket })
    }

    /// A command to the database, and through it to the switch.
    fn client(&self) -> Command {
        let mut command = bounded("ovs-vsctl");
        command.arg(format!("--db=unix:{}", self.socket.display()));
        command
    }

    /// Sets what the switch reads when it starts.
    fn configure(&self, place: &Place) -> Result<(), String> {
        let mask = |core: usize| format!("0x{:x}", 1_u128 << core);
        run(self.client().args(["--no-wait", "init", "--", "set", "Open_vSwitch", "."]).args([
            "other_config:dpdk-init=true".to_owned(),
            format!("other_config:pmd-cpu-mask={}", mask(place.poll_core)),
            format!("other_config:dpdk-lcore-mask={}", mask(place.other_core)),
            "other_config:dpdk-extra=\"--no-pci --in-memory\"".to_owned(),
            format!("other_config:dpdk-socket-mem=\"{MEMORY_MIB}\""),
            format!("other_config:dpdk-socket-limit=\"{MEMORY_MIB}\""),
        ]))
        .map(drop)
    }
}

/// A running switch; the fields are dropped in this order.
#[derive(Debug)]
struct Switch {
    daemon: Daemon,
    database: Database,
    control: PathBuf,
    _leftovers: Leftovers,
}

impl Switch {
    /// Adds a bridge with all ports, and waits for them.
    fn add_ports(&mut self, topology: &Topology) -> Result<(), String> {
        let mut add = self.database.client();
        add.args(["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"]);
        for (number, port) in topology.ports.iter().enumerate() {
            add_port(&mut add, number, port, topology.longest_frame_bytes)?;
        }
        run(&mut add).map_err(|error| self.daemon.error(&error))?;
        (0..topology.ports.len()).try_for_each(|number| self.await_port(number))
    }

    /// Waits until a port is open.
    fn await_port(&mut self, number: usize) -> Result<(), String> {
        let name = format!("p{number}");
        let database = &self.database;
        let state = self.daemon.await_answer(&name, |_| {
            let columns = ["get", "Interface", &name, "ofport", "error"];
            let text = run(database.client().args(columns)).ok()?;
            (!text.starts_with("[]")).then_some(text)
        })?;
        if state.starts_with("-1") {
            return Err(self.daemon.error(&format!("cannot open {name} ({})", state.trim())));
        }
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        // A signal would end it at once, with XDP programs and tap devices left where they are.
        let mut exit = bounded("ovs-appctl");
        exit.args(["--timeout=5", "-t"]).arg(&self.control).args(["exit", "--cleanup"]);
        if run(&mut exit).is_ok() {
            self.daemon.await_end();
        }
    }
}

impl Running for Switch {
    fn process(&self) -> Option<u32> {
        Some(self.daemon.id())
    }
}
