//! Two emulated QEMU guests with TCP between them: the real driver on the real front end.
//!
//! Both guests run on the load's core, without KVM, so they set the pace as much as the system
//! does. On the Linux bridge they have taps with segmentation offload, as libvirt would give them.

use std::path::Path;

use crate::bench::{Bench, POLL_CORE, Spec, StealClock, Trouble};
use crate::emulated::{self, Emulated};
use crate::net::{Namespace, bits_per_second, ipv4};
use crate::samples::{Better, Sample};
use crate::systems::{Port, Running, System, Topology};

/// Guests take long to boot; more rounds than that are not worth it.
const MOST_ROUNDS: u32 = 3;

/// Seconds of one connection.
const SECONDS: u64 = 5;

/// Two guests on a system. Dropped in this order.
#[derive(Debug)]
struct Session {
    guests: Vec<Emulated>,
    _running: Box<dyn Running>,
    _namespace: Namespace,
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
    bench.rounds("qemu", |bench, system, round| {
        let session = start(system)?;
        let clock = StealClock::start();
        let value = session.tcp()? / 1e6;
        let sample = Sample { round, value, is_generator_bound: false, stolen: clock.stolen() };
        bench.add(&spec(), system.name(), sample);
        Ok(())
    });
    bench.rounds = rounds;
}

/// What a system is given: vhost-user if it can, else taps. Testpmd is no switch that somebody would
/// run guests on.
fn topology(
    system: &dyn System,
    namespace: &Namespace,
    directory: &Path,
) -> Result<Topology, Trouble> {
    let socket = |number: usize| directory.join(format!("vm{number}.sock"));
    let guest = |number| Port::Guest { socket: socket(number), queue_pairs: 1 };
    let tap = |number| Port::Tap { interface: format!("tap{number}") };
    let topology = |ports| Topology {
        ports,
        namespace: Some(namespace.name().to_owned()),
        core: POLL_CORE,
        longest_frame_bytes: 1_514,
    };
    let ports = [[guest(0), guest(1)], [tap(0), tap(1)]];
    ports
        .into_iter()
        .map(|ports| topology(ports.into()))
        .find(|topology| system.can(topology) && system.name() != "testpmd")
        .ok_or(Trouble::CannotDo)
}

/// Starts a system and boots two guests on it.
fn start(system: &dyn System) -> Result<Session, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let path = directory.path();
    let namespace = Namespace::new()?;
    let topology = topology(system, &namespace, path)?;
    let boot = || {
        let ports = topology.ports.iter().enumerate();
        let boot = |(number, port)| Emulated::boot(number, port, &namespace, path);
        ports.map(boot).collect::<Result<Vec<_>, _>>()
    };
    let is_listening = matches!(topology.ports[0], Port::Guest { .. });
    let mut guests = if is_listening { boot()? } else { Vec::new() };
    for (guest, port) in guests.iter_mut().zip(&topology.ports) {
        if let Port::Guest { socket, .. } = port {
            guest.await_socket(socket)?;
        }
    }
    let running = system.start(&topology, path)?;
    if !is_listening {
        // QEMU opens taps that are there already.
        guests = boot()?;
    }
    guests.iter().try_for_each(Emulated::await_booted)?;
    Ok(Session { guests, _running: running, _namespace: namespace, _directory: directory })
}

impl Session {
    /// One TCP connection from guest 1 to guest 0: bits a second that arrived.
    fn tcp(&self) -> Result<f64, String> {
        let (to, from) = (ipv4(0), &self.guests[1]);
        from.run(30, &format!("until ping -c 1 -W 1 {to} >/dev/null; do sleep 0.2; done"))?;
        let command = format!("iperf3 --client {to} --time {SECONDS} --interval 0 --json");
        bits_per_second(&from.run(SECONDS + 60, &command)?)
    }
}

fn spec() -> Spec {
    Spec {
        group: "two emulated QEMU guests, TCP",
        label: "one connection".to_owned(),
        unit: "Mbit/s",
        better: Better::More,
        conditions: format!(
            "iperf3 for {SECONDS} s; QEMU without KVM, both guests on the load's core, rings of 256, \
             1 queue pair, MTU 1500, features as QEMU and the system agree; Linux bridge: taps with \
             vnet_hdr, segmentation offload on"
        ),
        goals: Vec::new(),
    }
}
