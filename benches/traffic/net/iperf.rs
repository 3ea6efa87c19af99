//! iperf3: a server that stays, and what its client says.

use std::path::Path;
use std::process::Stdio;

use super::Namespace;
use crate::systems::process::Daemon;

/// How much longer than its time a client may take.
const PATIENCE_SECONDS: u64 = 10;

/// A server in a namespace, on the load's core.
#[derive(Debug)]
pub(crate) struct Server {
    _daemon: Daemon,
}

impl Server {
    /// Starts one, with its log in `directory`, and waits until it listens.
    pub(crate) fn start(namespace: &Namespace, directory: &Path) -> Result<Self, String> {
        let mut command = namespace.command("iperf3");
        command.args(["--server", "--forceflush"]);
        let mut daemon = Daemon::start("iperf3", &mut command, directory)?;
        daemon.await_answer("listening socket", |daemon| {
            daemon.log().contains("Server listening").then_some(())
        })?;
        Ok(Self { _daemon: daemon })
    }
}

/// TCP from a namespace to the server at an address, for so many seconds: bits a second.
pub(crate) fn throughput(from: &Namespace, to: &str, seconds: u64) -> Result<f64, String> {
    let longest = (seconds + PATIENCE_SECONDS).to_string();
    let mut command = from.command("timeout");
    // Should the bench be killed, `timeout` ends at once and iperf3 with it.
    command.args(["--kill-after=2", &longest, "setpriv", "--pdeathsig", "KILL", "iperf3"]);
    command.args(["--client", to, "--time", &seconds.to_string(), "--interval", "0", "--json"]);
    // It says in its report what went wrong.
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    bits_per_second(&String::from_utf8_lossy(&output.stdout))
}

/// What arrived, of the client's `--json`.
pub(crate) fn bits_per_second(report: &str) -> Result<f64, String> {
    let report: serde_json::Value = serde_json::from_str(report)
        .map_err(|error| format!("iperf3 gives no JSON ({error}): {report}"))?;
    report["end"]["sum_received"]["bits_per_second"]
        .as_f64()
        .filter(|bits| *bits > 0.0)
        .ok_or_else(|| format!("iperf3: {}", report["error"].as_str().unwrap_or("nothing arrived")))
}
