//! Networks of the bench's own: namespaces joined by veth pairs, with the system under test between.
//!
//! ```text
//!   outer 0            switch                     outer 1
//!   ┌───────┐ veth ┌─────────────────────┐ veth ┌───────┐
//!   │   out ├──────┤ in0   system   in1  ├──────┤ out   │
//!   └───────┘      └─────────────────────┘      └───────┘
//!   10.77.0.1                                   10.77.0.2
//! ```
//!
//! Each end has one queue. The outer ends fill checksums in when sending, for an AF_XDP socket has
//! nobody else to do it; this is so for all systems alike. Namespaces are named after the process
//! (`rwb`, its number, a count), which is how scripts/bench finds those of a bench that was killed;
//! everything in them goes with them.

mod flood;
mod iperf;
mod sink;

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Instant;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::bench::{LOAD_CORE, POLL_CORE};
use crate::systems::process::{bounded, run};
use crate::systems::{Port, Topology};

pub(crate) use flood::Flood;
pub(crate) use iperf::{Server, bits_per_second, throughput};
pub(crate) use sink::{Received, Sink};

/// The end of a wire in its outer namespace.
const OUT: &str = "out";

/// The end of a pair that goes nowhere, in each outer namespace: see [`Flood`].
const SPARE: &str = "spare";

/// The congestion control of TCP's senders: the kernel's own default. A machine may be set to BBR,
/// which paces what it sends by what it takes the way to be able to carry; a thread that forwards
/// then has nothing to do for two fifths of its time.
pub(crate) const CONGESTION_CONTROL: &str = "cubic";

/// How many namespaces this process has made.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A network namespace, deleted when it is dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// What `ip` says.
    pub(crate) fn new() -> Result<Self, String> {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("rwb{}-{number}", std::process::id());
        run(bounded("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        // What IPv6 says of its own accord would be counted. Without IPv6 there is no such setting.
        let [all, default] =
            ["all", "default"].map(|which| format!("net.ipv6.conf.{which}.disable_ipv6=1"));
        let _ = namespace.set(&[&all, &default]);
        namespace.set(&[&format!("net.ipv4.tcp_congestion_control={CONGESTION_CONTROL}")])?;
        Ok(namespace)
    }

    /// Changes settings of its network.
    fn set(&self, settings: &[&str]) -> Result<String, String> {
        let mut command = bounded("ip");
        run(command.args(["netns", "exec", self.name(), "sysctl", "-q", "-w"]).args(settings))
    }

    /// Its name, as `ip netns` has it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a command of iproute2 on its interfaces.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<String, String> {
        run(bounded("ip").args(["-n", &self.name]).args(arguments))
    }

    /// A command that becomes `program` in it, on the load's core, and ends with the bench.
    pub(crate) fn command(&self, program: impl AsRef<Path>) -> Command {
        self.command_on(&[LOAD_CORE], program)
    }

    /// The same on any of these cores.
    pub(crate) fn command_on(&self, cores: &[usize], program: impl AsRef<Path>) -> Command {
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "taskset", "-c", &cores.join(",")]);
        command.args(["ip", "netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Moves the calling thread into it for good: this is for threads that end soon.
    pub(crate) fn enter(&self) -> Result<(), String> {
        let cannot = |error: std::io::Error| format!("cannot enter {}: {error}", self.name);
        let file = File::open(Path::new("/run/netns").join(&self.name)).map_err(cannot)?;
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| cannot(error.into()))
    }

    /// Does something in it: sockets made there stay there.
    pub(crate) fn inside<R: Send>(
        &self,
        work: impl FnOnce() -> Result<R, String> + Send,
    ) -> Result<R, String> {
        let inside = || self.enter().and_then(|()| work());
        std::thread::scope(|scope| {
            let thread = scope.spawn(inside);
            thread.join().map_err(|_| format!("a thread in {} panicked", self.name))?
        })
    }

    /// A flood out of this outer namespace.
    pub(crate) fn flood(&self, frame: Vec<u8>) -> Result<Flood, String> {
        self.inside(|| Flood::new(OUT, SPARE, frame))
    }

    /// A sink for frames that arrive in this outer namespace: see [`Sink::open`].
    pub(crate) fn sink(&self, mask: u8) -> Result<Sink, String> {
        self.inside(|| Sink::open(OUT, mask))
    }

    /// Does something while a flood goes out of it without a pause, so many frames a call. Returns
    /// how many a second were offered beside the result.
    pub(crate) fn flooded<R>(
        &self,
        flood: &mut Flood,
        call: u32,
        work: impl FnOnce() -> R,
    ) -> Result<(R, f64), String> {
        let is_over = AtomicBool::new(false);
        let (begin, start) = (flood.sent, Instant::now());
        let send = || {
            self.enter()?;
            // Relaxed: nothing else is handed over.
            while !is_over.load(Ordering::Relaxed) {
                flood.send(call)?;
            }
            #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
            let sent = (flood.sent - begin) as f64;
            Ok(sent / start.elapsed().as_secs_f64())
        };
        std::thread::scope(|scope| {
            let flooding = scope.spawn(send);
            let result = work();
            is_over.store(true, Ordering::Relaxed);
            let offered = flooding.join().map_err(|_| "the flood panicked".to_owned())?;
            offered.map(|offered| (result, offered))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done if somebody else has deleted it.
        let _ = run(bounded("ip").args(["netns", "delete", &self.name]));
    }
}

/// Wires: one namespace for the system, and one for the far end of each.
#[derive(Debug)]
pub(crate) struct Wires {
    pub(crate) outer: Vec<Namespace>,
    pub(crate) switch: Namespace,
}

impl Wires {
    /// Makes so many.
    pub(crate) fn new(count: usize) -> Result<Self, String> {
        let switch = Namespace::new()?;
        let outer = (0..count).map(|_| Namespace::new()).collect::<Result<_, _>>()?;
        let wires = Self { outer, switch };
        (0..count).try_for_each(|number| wires.connect(number))?;
        Ok(wires)
    }

    fn connect(&self, number: usize) -> Result<(), String> {
        const QUEUES: [&str; 4] = ["numrxqueues", "1", "numtxqueues", "1"];
        let (inner, outer) = (inner(number), &self.outer[number]);
        let add = [&["link", "add", &inner], &QUEUES[..], &["type", "veth", "peer", "name", OUT]];
        self.switch.ip(&[&add.concat(), &QUEUES[..], &["netns", outer.name()]].concat())?;
        for (namespace, interface) in [(&self.switch, inner.as_str()), (outer, OUT)] {
            namespace.ip(&["link", "set", interface, "up"])?;
        }
        outer.ip(&["link", "add", SPARE, "type", "veth"])?;
        outer.ip(&["address", "add", &format!("{}/24", ipv4(number)), "dev", OUT])?;
        run(bounded("ip").args(["netns", "exec", outer.name(), "ethtool", "-K", OUT, "tx", "off"]))
            .map(drop)
    }

    /// Lets the inner ends take frames that no socket buffer was made for (veth: it does with an
    /// XDP program or GRO), or leaves that to the system.
    pub(crate) fn take_bare_frames(&self, takes: bool) -> Result<(), String> {
        let gro = if takes { "on" } else { "off" };
        (0..self.outer.len()).try_for_each(|number| {
            let mut command = bounded("ip");
            command.args(["netns", "exec", self.switch.name(), "ethtool", "-K"]);
            run(command.args([&inner(number), "gro", gro])).map(drop)
        })
    }

    /// These ports and then the wires, for frames of up to so many bytes.
    pub(crate) fn topology(&self, ports: Vec<Port>, longest_frame_bytes: usize) -> Topology {
        let wires = (0..self.outer.len()).map(|number| Port::Wire { interface: inner(number) });
        Topology {
            ports: ports.into_iter().chain(wires).collect(),
            namespace: Some(self.switch.name().to_owned()),
            core: POLL_CORE,
            longest_frame_bytes,
        }
    }
}

/// The system's end of a wire.
fn inner(number: usize) -> String {
    format!("in{number}")
}

/// The address of an outer end.
pub(crate) fn ipv4(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}
