//! tshark on the wire: a parser that nobody here has written looks at what the switch sends, and
//! says of each checksum whether it is right.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::wire::Wire;

/// What is asked of each frame: of its outermost headers, if it has several.
const FIELDS: [&str; 4] =
    ["vlan.id", "ip.checksum.status", "tcp.checksum.status", "udp.checksum.status"];

/// What tshark makes of a checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Bad,
    /// The frame has no header of this kind.
    Absent,
}

/// A frame of TCP or UDP as tshark has seen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dissected {
    pub(crate) vlan: Option<u16>,
    /// IPv4's own header.
    pub(crate) network: Verdict,
    pub(crate) tcp: Verdict,
    pub(crate) udp: Verdict,
}

/// A running tshark.
#[derive(Debug)]
pub(crate) struct Tshark {
    process: Child,
    lines: Receiver<String>,
}

impl Tshark {
    /// Starts it on an interface of a namespace; its files go to this directory. It looks at the
    /// first so many frames, and ends. It tells of them every half second only: let it see them all
    /// before it is asked.
    pub(crate) fn start(wire: &Wire, interface: &str, count: usize, directory: &Path) -> Self {
        let mut command = wire.command("tshark");
        command.args(["-i", interface, "-c", &count.to_string(), "-l", "-n"]);
        command.arg("--temp-dir").arg(directory);
        for protocol in ["ip", "tcp", "udp"] {
            command.args(["-o", &format!("{protocol}.check_checksum:TRUE")]);
        }
        command.args(["-T", "fields", "-E", "occurrence=f", "-E", "separator=,"]);
        command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut errors = BufReader::new(process.stderr.take().unwrap());
        let (mut line, mut said) = (String::new(), String::new());
        while !line.contains("Capture started") {
            line.clear();
            assert_ne!(errors.read_line(&mut line).unwrap(), 0, "tshark ended: {said}");
            said += &line;
        }
        let (sender, lines) = channel();
        let output = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Held open, so that tshark can still write to it.
            let _errors = errors;
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        Self { process, lines }
    }

    /// The next so many frames.
    pub(crate) fn frames(&self, count: usize) -> Vec<Dissected> {
        let next = |number| {
            let line = self.lines.recv_timeout(PATIENCE);
            parse(&line.unwrap_or_else(|_| panic!("tshark has seen {number} of {count} frames")))
        };
        (0..count).map(next).collect()
    }
}

/// What a line says.
fn parse(line: &str) -> Dissected {
    let fields: Vec<&str> = line.split(',').collect();
    assert_eq!(fields.len(), FIELDS.len(), "{line}");
    let verdict = |field: &str| match field {
        "" => Verdict::Absent,
        "1" => Verdict::Good,
        "0" => Verdict::Bad,
        other => panic!("a checksum is neither good nor bad but {other}: {line}"),
    };
    Dissected {
        vlan: fields[0].parse().ok(),
        network: verdict(fields[1]),
        tcp: verdict(fields[2]),
        udp: verdict(fields[3]),
    }
}

impl Drop for Tshark {
    fn drop(&mut self) {
        // If frames are missing. It ends the process that captures for it, too.
        let _ = kill_process(Pid::from_child(&self.process), Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
