//! A network namespace with a veth pair: one end is for the switch, the other is the outside
//! world. Both, and whatever is attached to them, go when it is dropped.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::packet_socket::PacketSocket;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// The end that the switch takes.
pub(crate) const UPLINK: &str = "uplink";

/// The end that is the outside world.
pub(crate) const OUTSIDE: &str = "outside";

/// A namespace with a veth pair in it.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) namespace: String,
}

impl Wire {
    /// Makes one with one queue.
    pub(crate) fn new() -> Self {
        Self::with_queues(1)
    }

    /// Makes one whose uplink has so many queues.
    pub(crate) fn with_queues(queues: u32) -> Self {
        Self::with_channels(queues, queues)
    }

    /// Makes one whose ends have so many queues to receive and to send.
    pub(crate) fn with_channels(receive: u32, send: u32) -> Self {
        let wire = Self::empty();
        let (receive, send) = (receive.to_string(), send.to_string());
        let queues = ["numrxqueues", receive.as_str(), "numtxqueues", send.as_str()];
        let (here, there) = (["link", "add", UPLINK], ["type", "veth", "peer", "name", OUTSIDE]);
        wire.ip(&[&here[..], &queues, &there, &queues].concat());
        wire.set_up(UPLINK);
        wire.set_up(OUTSIDE);
        wire
    }

    /// Adds a pair of this number to the namespace.
    pub(crate) fn add(&self, number: u32) {
        let [here, there] = [UPLINK, OUTSIDE].map(|end| format!("{end}{number}"));
        self.ip(&["link", "add", &here, "type", "veth", "peer", "name", &there]);
        self.set_up(&here);
        self.set_up(&there);
    }

    /// Makes a namespace without interfaces.
    pub(crate) fn empty() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("rwt{}-{number}", std::process::id());
        ip(&["netns", "add", &namespace]);
        Self { namespace }
    }

    /// Sets an interface up, without an IPv6 address of its own: the kernel would send reports and
    /// solicitations from it at any time, among the frames of a test.
    pub(crate) fn set_up(&self, interface: &str) {
        // A kernel without IPv6 refuses this, and needs it not.
        let quiet = ["-n", &self.namespace, "link", "set", interface, "addrgenmode", "none"];
        let _ = Command::new("ip").args(quiet).output();
        self.ip(&["link", "set", interface, "up"]);
    }

    /// Keeps the kernel from sending anything by interfaces that are made from now on: they have no
    /// IPv6. A kernel without it needs this not.
    pub(crate) fn keep_quiet(&self) {
        let setting = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
        let write = move || std::fs::write(setting, "1").is_ok();
        self.within(write);
    }

    /// What `ip` says of an interface of the namespace, if there is one of this name.
    pub(crate) fn link(&self, interface: &str) -> Option<String> {
        let name = format!(": {interface}: ");
        let links = self.ip(&["-details", "-oneline", "link", "show"]);
        links.lines().find(|line| line.contains(&name)).map(str::to_owned)
    }

    /// Runs `ip` in the namespace and returns what it prints.
    pub(crate) fn ip(&self, arguments: &[&str]) -> String {
        ip(&[&["-n", self.namespace.as_str()], arguments].concat())
    }

    /// A command to be run in the namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]).stdin(Stdio::null());
        command
    }

    /// Switches an offload of an interface of the namespace off. Without `tso` an uplink is as one of
    /// an ordinary wire: frames leave it as they come from the switch. An outside end without `tx`
    /// sends what a wire would carry, with complete checksums.
    pub(crate) fn switch_off(&self, interface: &str, offload: &str) {
        let off = self.command("ethtool").args(["-K", interface, offload, "off"]).output().unwrap();
        assert!(off.status.success(), "{off:?}");
    }

    /// A raw socket on the outside end.
    pub(crate) fn socket(&self) -> PacketSocket {
        self.socket_on(OUTSIDE)
    }

    /// A raw socket on an interface of the namespace.
    pub(crate) fn socket_on(&self, interface: &str) -> PacketSocket {
        let interface = interface.to_owned();
        self.within(move || PacketSocket::open(&interface))
    }

    /// Makes something in the namespace, such as a socket, which stays in it wherever it goes.
    pub(crate) fn within<T: Send + 'static>(&self, make: impl FnOnce() -> T + Send + 'static) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).unwrap();
        // A thread of its own enters it.
        let enter_and_make = move || {
            let kind = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), kind).unwrap();
            make()
        };
        std::thread::spawn(enter_and_make).join().unwrap()
    }

    /// Starts tcpdump on the outside end: an independent parser that sees tags.
    pub(crate) fn sniff(&self) -> Sniffer {
        self.sniff_on(OUTSIDE)
    }

    /// Starts tcpdump on an interface of the namespace.
    pub(crate) fn sniff_on(&self, interface: &str) -> Sniffer {
        Sniffer::start(self, interface)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "delete", &self.namespace]).status();
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// tcpdump on one end. Its lines are matched by their text.
#[derive(Debug)]
pub(crate) struct Sniffer {
    tcpdump: Child,
    lines: Receiver<String>,
}

impl Sniffer {
    fn start(wire: &Wire, interface: &str) -> Self {
        let mut tcpdump = wire
            .command("tcpdump")
            .args(["-i", interface, "-Q", "in", "-e", "-n", "-l", "-U", "--immediate-mode", "-tt"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(tcpdump.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("listening on") {
            line.clear();
            assert_ne!(errors.read_line(&mut line).unwrap(), 0, "tcpdump ended");
        }
        let (sender, lines) = channel();
        let output = BufReader::new(tcpdump.stdout.take().unwrap());
        std::thread::spawn(move || {
            // Held open, so that tcpdump can still write to it.
            let _errors = errors;
            output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)).ok()
        });
        Self { tcpdump, lines }
    }

    /// The next line that has this text in it.
    pub(crate) fn line_with(&self, text: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(super::PATIENCE);
            let line = line.unwrap_or_else(|_| panic!("nothing with {text:?} came by"));
            if line.contains(text) {
                return line;
            }
        }
    }
}

impl Drop for Sniffer {
    fn drop(&mut self) {
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
    }
}
