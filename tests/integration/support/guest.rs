//! Guests of QEMU and of User Mode Linux: booted by `scripts/guest`, commanded over a virtio serial
//! port or a console.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};

use super::{wait_at_most, wait_for};

/// How long a guest may take to boot on a loaded machine.
const BOOT: Duration = Duration::from_secs(120);

/// How much of a guest's console is shown when it fails.
const CONSOLE_TAIL_BYTES: usize = 4_096;

/// Where `scripts/test` says what guests boot.
const IMAGES: [&str; 6] = [
    "RINGWAY_GUEST_KERNEL",
    "RINGWAY_GUEST_INITRD",
    "RINGWAY_NEWER_GUEST_KERNEL",
    "RINGWAY_NEWER_GUEST_INITRD",
    "RINGWAY_UML_GUEST_KERNEL",
    "RINGWAY_UML_GUEST_INITRD",
];

/// What is particular to a guest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    pub(crate) name: &'a str,
    /// The last number of its addresses.
    pub(crate) number: u8,
    /// QEMU listens, the switch connects.
    pub(crate) server: bool,
    pub(crate) queues: u16,
    /// The network namespace of QEMU, if not that of the tests.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) more: &'a [&'a str],
}

/// How a guest is commanded.
#[derive(Debug)]
enum Channel {
    /// One connection after the other.
    At(PathBuf),
    /// One for ever.
    Open(UnixStream),
}

/// A booted guest. Its process is ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    process: Child,
    channel: Channel,
    qmp: PathBuf,
    console: PathBuf,
    next_command: u32,
}

impl Guest {
    /// Starts QEMU; [`await_booted`](Self::await_booted) returns when the guest is there.
    pub(crate) fn boot(plan: Plan<'_>, socket: &Path, directory: &Path) -> Self {
        Self::start(&[&["--socket", socket.to_str().unwrap()], plan.more].concat(), plan, directory)
    }

    /// The same for one with a newer kernel, plugged in as `plan.more` says.
    pub(crate) fn boot_newer(plan: Plan<'_>, directory: &Path) -> Self {
        Self::start(&[&["--newer"], plan.more].concat(), plan, directory)
    }

    /// Starts a guest of User Mode Linux: no QEMU, no control of it, but a front end of its own.
    pub(crate) fn boot_uml(name: &str, number: u8, socket: &Path, directory: &Path) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let log = File::create(directory.join(format!("{name}.log"))).unwrap();
        let process = script(None, name, number, directory)
            .args(["--uml", "--memory", "128M", "--socket", socket.to_str().unwrap()])
            .args(["--", "iperf3", "--server"])
            .stdin(OwnedFd::from(theirs.try_clone().unwrap()))
            .stdout(OwnedFd::from(theirs))
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            process,
            channel: Channel::Open(ours),
            qmp: PathBuf::new(),
            // Its kernel logs to standard error.
            console: directory.join(format!("{name}.log")),
            next_command: 0,
        }
    }

    fn start(options: &[&str], plan: Plan<'_>, directory: &Path) -> Self {
        let mut command = script(plan.namespace, plan.name, plan.number, directory);
        command.args(options).args(["--queues", &plan.queues.to_string()]);
        if plan.server {
            command.arg("--server");
        }
        let log = File::create(directory.join(format!("{}.log", plan.name))).unwrap();
        let process = command
            .args(["--", "iperf3", "--server"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self {
            process,
            channel: Channel::At(directory.join(format!("{}.channel", plan.name))),
            qmp: directory.join(format!("{}.qmp", plan.name)),
            console: directory.join(format!("{}.console", plan.name)),
            next_command: 0,
        }
    }

    /// The IPv4 address of the guest with this number.
    pub(crate) fn address(number: u8) -> String {
        format!("10.99.0.{number}")
    }

    /// Waits until the guest answers on its channel.
    pub(crate) fn await_booted(&mut self) {
        wait_at_most(BOOT, "the guest", || {
            assert!(self.process.try_wait().unwrap().is_none(), "it ended: {:?}", self.channel);
            self.greet().map(drop)
        });
    }

    /// A connection to the channel, if the guest answers on it.
    fn greet(&self) -> Option<BufReader<UnixStream>> {
        let mut stream = match &self.channel {
            Channel::At(path) => UnixStream::connect(path).ok()?,
            Channel::Open(stream) => stream.try_clone().ok()?,
        };
        stream.set_read_timeout(Some(Duration::from_millis(500))).ok()?;
        stream.write_all(b"\nhello\n").ok()?;
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        while lines.read_line(&mut line).ok()? > 0 {
            if line.trim_end() == "ready" {
                return Some(lines);
            }
            line.clear();
        }
        None
    }

    /// Runs a shell command in the guest. Returns its status and output.
    pub(crate) fn try_run(&mut self, longest: Duration, command: &str) -> (i32, String) {
        let mut lines = wait_for("the guest's channel", || self.greet());
        self.next_command += 1;
        let id = format!("c{}", self.next_command);
        writeln!(lines.get_mut(), "run {id} timeout {} {command}", longest.as_secs()).unwrap();
        lines.get_mut().set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let start = Instant::now();
        let (mut output, mut line) = (String::new(), String::new());
        loop {
            match lines.read_line(&mut line) {
                Ok(0) => panic!("the guest's channel closed"),
                Ok(_) => {}
                Err(_) => {
                    let is_late = start.elapsed() >= longest + super::PATIENCE;
                    assert!(!is_late, "{command} did not end; so far: {output}\n{}", self.state());
                    continue;
                }
            }
            if let Some(text) = line.strip_prefix(&format!("out {id} ")) {
                output.push_str(text);
            }
            if let Some(status) = line.strip_prefix(&format!("done {id} ")) {
                return (status.trim().parse().unwrap(), output);
            }
            line.clear();
        }
    }

    /// What can be seen of a guest that does not do what it should.
    fn state(&mut self) -> String {
        let process = self.process.try_wait();
        let is_there = if self.greet().is_some() { "answers" } else { "does not answer" };
        let console = std::fs::read(&self.console).unwrap_or_default();
        let tail = &console[console.len().saturating_sub(CONSOLE_TAIL_BYTES)..];
        let console = String::from_utf8_lossy(tail);
        format!("it {is_there} now; its process: {process:?}; its console ends: {console}")
    }

    /// Runs a shell command that must succeed.
    pub(crate) fn run(&mut self, seconds: u64, command: &str) -> String {
        let (status, output) = self.try_run(Duration::from_secs(seconds), command);
        assert_eq!(status, 0, "{command}: {output}");
        output
    }

    /// Has it use two queue pairs, which a guest with one processor does not by itself, and spread its
    /// flows over them.
    pub(crate) fn use_two_pairs(&mut self) {
        self.run(5, "ethtool -L eth0 combined 2");
        // By flow and not by processor.
        self.run(
            5,
            "sh -c 'for i in 0 1; do echo 0 > /sys/class/net/eth0/queues/tx-$i/xps_cpus; done'",
        );
    }

    /// Sends a command to QEMU itself (QMP) and returns its answer.
    pub(crate) fn qmp(&self, command: &str) -> Value {
        self.qmp_with(command, &json!({}))
    }

    /// The same with arguments.
    pub(crate) fn qmp_with(&self, command: &str, arguments: &Value) -> Value {
        let mut stream = UnixStream::connect(&self.qmp).unwrap();
        stream.set_read_timeout(Some(super::PATIENCE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        for (command, arguments) in [("qmp_capabilities", &json!({})), (command, arguments)] {
            writeln!(stream, "{}", json!({ "execute": command, "arguments": arguments })).unwrap();
            line.clear();
            while !line.contains("\"return\"") {
                line.clear();
                lines.read_line(&mut line).unwrap();
                assert!(!line.contains("\"error\""), "{command}: {line}");
            }
        }
        serde_json::from_str::<Value>(&line).unwrap()["return"].take()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // User Mode Linux leads a process group of its own, whose others outlive it.
        if let Some(group) = i32::try_from(self.process.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `scripts/guest` with what all guests have.
fn script(namespace: Option<&str>, name: &str, number: u8, directory: &Path) -> Command {
    for variable in IMAGES {
        assert!(
            std::env::var_os(variable).is_some(),
            "{variable} is not set: scripts/test builds the guests' image and sets it"
        );
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/guest");
    let mut command = match namespace {
        None => Command::new(script),
        Some(namespace) => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", namespace]).arg(script);
            command
        }
    };
    command
        .args(["--name", name])
        .args(["--mac", &format!("52:54:00:99:00:{number:02x}")])
        .args(["--ip", &format!("{}/24", Guest::address(number))])
        .arg("--run-dir")
        .arg(directory);
    command
}
