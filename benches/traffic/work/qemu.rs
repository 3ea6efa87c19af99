//! Emulated QEMU guests with TCP: between two of them, and from one to a namespace behind a wire. The
//! real driver on the real front end.
//!
//! Guests and systems run on both cores, without KVM and not pinned, so guests set the pace as much
//! as the system does. On the Linux bridge they have taps with segmentation offload, as libvirt would
//! give them.

use crate::bench::{Bench, LOAD_CORE, POLL_CORE, Spec, StealClock, Trouble};
use crate::emulated::{self, Emulated};
use crate::net::{Server, Wires, bits_per_second, ipv4};
use crate::samples::{Better, Sample};
use crate::systems::process::unpin;
use crate::systems::{Port, Running, System, Topology};

/// Guests take long to boot; more rounds than that are not worth it.
const MOST_ROUNDS: u32 = 5;

/// Seconds of one connection.
const SECONDS: u64 = 5;

/// Where a guest's connection goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    Guest,
    Namespace,
}

/// Guests on a system. Dropped in this order.
#[derive(Debug)]
struct Session {
    _server: Option<Server>,
    guests: Vec<Emulated>,
    _running: Box<dyn Running>,
    _wires: Wires,
    _directory: tempfile::TempDir,
}

pub(crate) fn run(bench: &mut Bench) {
    if let Err(reason) = emulated::probe() {
        eprintln!("  qemu: {reason}");
        bench.results.missing.insert("emulated guests".to_owned(), reason);
        return;
    }
    let rounds = bench.rounds;
    bench.rounds = rounds.min(MOST_ROUNDS);
    for (what, far) in [("qemu", Far::Guest), ("qemu to namespace", Far::Namespace)] {
        bench.rounds(what, |bench, system, round| {
            let session = start(system, far)?;
            let clock = StealClock::start();
            let value = session.tcp()? / 1e6;
            let stolen = clock.stolen();
            let sample = Sample { round, value, is_generator_bound: false, stolen };
            bench.add(&spec(far), system.name(), sample);
            Ok(())
        });
    }
    bench.rounds = rounds;
}

/// The guests by number, which their addresses come from; the far end of a wire is number 0.
const fn guests(far: Far) -> &'static [usize] {
    match far {
        Far::Guest => &[0, 1],
        Far::Namespace => &[1],
    }
}

/// What a system is given: vhost-user if it can, else taps. Testpmd is no switch that somebody would
/// run guests on.
fn topology(
    system: &dyn System,
    far: Far,
    wires: &Wires,
    directory: &std::path::Path,
) -> Result<Topology, Trouble> {
    let guest = |&number: &usize| Port::Guest {
        socket: directory.join(format!("vm{number}.sock")),
        queue_pairs: 1,
    };
    let tap = |&number: &usize| Port::Tap { interface: format!("tap{number}") };
    let numbers = guests(far).iter();
    let ports = [numbers.clone().map(guest).collect(), numbers.map(tap).collect()];
    ports
        .into_iter()
        .map(|ports| wires.topology(ports, 1_514))
        .find(|topology| system.can(topology) && system.name() != "testpmd")
        .ok_or(Trouble::CannotDo)
}

/// Starts a system and boots guests on it.
fn start(system: &dyn System, far: Far) -> Result<Session, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path();
    let wires = Wires::new(if far == Far::Namespace { 1 } else { 0 })?;
    let topology = topology(system, far, &wires, path)?;
    let boot = || {
        let ports = guests(far).iter().zip(&topology.ports);
        let boot = |(&number, port)| Emulated::boot(number, port, &wires.switch, path);
        ports.map(boot).collect::<Result<Vec<_>, _>>()
    };
    let is_listening = matches!(topology.ports[0], Port::Guest { .. });
    let mut booted = if is_listening { boot()? } else { Vec::new() };
    for (guest, port) in booted.iter_mut().zip(&topology.ports) {
        if let Port::Guest { socket, .. } = port {
            guest.await_socket(socket)?;
        }
    }
    let running = system.start(&topology, path)?;
    if !is_listening {
        // QEMU opens taps that are there already.
        booted = boot()?;
    }
    if let Some(process) = running.process() {
        unpin(process, &[POLL_CORE, LOAD_CORE])?;
    }
    booted.iter().try_for_each(Emulated::await_booted)?;
    let server = wires.outer.first().map(|outer| Server::start(outer, path)).transpose()?;
    Ok(Session {
        _server: server,
        guests: booted,
        _running: running,
        _wires: wires,
        _directory: directory,
    })
}

impl Session {
    /// One TCP connection from the last guest to number 0: bits a second that arrived.
    fn tcp(&self) -> Result<f64, String> {
        let (to, from) = (ipv4(0), self.guests.last().ok_or("no guest was booted")?);
        from.run(30, &format!("until ping -c 1 -W 1 {to} >/dev/null; do sleep 0.2; done"))?;
        let command = format!("iperf3 --client {to} --time {SECONDS} --interval 0 --json");
        bits_per_second(&from.run(SECONDS + 60, &command)?)
    }
}

fn spec(far: Far) -> Spec {
    let (group, goals) = match far {
        Far::Guest => {
            ("two emulated QEMU guests, TCP", vec![("linux-bridge", 1.0), ("ovs-dpdk", 2.5)])
        }
        // Another build is given to compare with what was before.
        Far::Namespace => ("emulated QEMU guest to namespace, TCP", vec![]),
    };
    Spec {
        group,
        label: "one connection".to_owned(),
        unit: "Mbit/s",
        better: Better::More,
        conditions: format!(
            "iperf3 for {SECONDS} s; QEMU without KVM, guests and systems on both cores and not \
             pinned, adaptive polling, rings of 256, 1 queue pair, MTU 1500, features as QEMU and the \
             system agree; Linux bridge: taps with vnet_hdr, segmentation offload on"
        ),
        goals,
    }
}
