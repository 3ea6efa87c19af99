//! QEMU guests, emulated: booted by `scripts/guest`, commanded over their serial channel by
//! `scripts/lib/guest.sh`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bench::{LOAD_CORE, POLL_CORE};
use crate::net::{Namespace, ipv4};
use crate::systems::Port;
use crate::systems::process::{Daemon, run};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts");

/// What `scripts/bench` sets: the guests' image.
const IMAGE: [&str; 2] = ["RINGWAY_GUEST_KERNEL", "RINGWAY_GUEST_INITRD"];

/// Seconds that two guests may take to boot on one core that others use, too.
const BOOT_SECONDS: u32 = 120;

/// A guest that runs an iperf3 server. QEMU is ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Emulated {
    daemon: Daemon,
    channel: PathBuf,
}

/// Looks whether guests can be booted.
///
/// # Errors
///
/// Why not.
pub(crate) fn probe() -> Result<(), String> {
    let missing = IMAGE.into_iter().find(|variable| std::env::var_os(variable).is_none());
    missing
        .map_or(Ok(()), |variable| Err(format!("{variable} is not set: scripts/bench does that")))
}

impl Emulated {
    /// Starts guest 0 or 1 on a port, with files of its own in `directory`. With vhost-user, QEMU
    /// listens, and boots when the system has connected.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn boot(
        number: usize,
        port: &Port,
        namespace: &Namespace,
        directory: &Path,
    ) -> Result<Self, String> {
        let name = if number == 0 { "vm0" } else { "vm1" };
        // Wherever there is room: guests are not pinned.
        let cores = [POLL_CORE, LOAD_CORE];
        let mut command = namespace.command_on(&cores, Path::new(SCRIPTS).join("guest"));
        match port {
            Port::Guest { socket, .. } => command.arg("--server").arg("--socket").arg(socket),
            Port::Tap { interface } => command
                .arg("--netdev")
                .arg(format!("tap,ifname={interface},script=no,downscript=no,vnet_hdr=on")),
            Port::Wire { interface } => return Err(format!("no guest is put on {interface}")),
        };
        command.args(["--die-with-parent", "--name", name]);
        command.args(["--mac", &format!("52:54:00:77:00:{number:02x}")]);
        command.args(["--ip", &format!("{}/24", ipv4(number))]);
        command.arg("--run-dir").arg(directory).args(["--", "iperf3", "--server"]);
        let daemon = Daemon::start(name, &mut command, directory)?;
        Ok(Self { daemon, channel: directory.join(format!("{name}.channel")) })
    }

    /// Waits until QEMU listens for the system.
    pub(crate) fn await_socket(&mut self, socket: &Path) -> Result<(), String> {
        self.daemon.await_answer("vhost-user socket", |_| socket.exists().then_some(()))
    }

    /// Waits until the guest answers on its channel.
    pub(crate) fn await_booted(&self) -> Result<(), String> {
        let (longest, process) = (BOOT_SECONDS.to_string(), self.daemon.id().to_string());
        let wait = self.talk("guest_wait", &[&longest, &process]);
        wait.map(drop).map_err(|_| self.daemon.error("does not boot"))
    }

    /// Runs a line of shell in the guest that must succeed within so many seconds, and returns its
    /// output.
    pub(crate) fn run(&self, seconds: u64, command: &str) -> Result<String, String> {
        self.talk("guest_run", &[&seconds.to_string(), command])
    }

    fn talk(&self, function: &str, arguments: &[&str]) -> Result<String, String> {
        let script = "set -euo pipefail
            source \"$0/lib/common.sh\"
            source \"$0/lib/guest.sh\"
            \"$@\"";
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "TERM", "bash", "-c", script, SCRIPTS, function])
            .arg(&self.channel)
            .args(arguments);
        run(&mut command)
    }
}
