//! The switch under test: the real binary, in a directory of its own, observed from outside.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use virtio::Features;

use super::{PATIENCE, wait_for};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ringway");

/// A running switch. It is ended when dropped.
#[derive(Debug)]
pub(crate) struct Switch {
    child: Child,
    directory: TempDir,
    /// The command that starts it, if it is not started directly.
    starter: Vec<String>,
}

impl Switch {
    /// Starts a switch without ports, one poll thread.
    pub(crate) fn start() -> Self {
        Self::with_config("")
    }

    /// Starts a switch with this configuration; `DIR` in it is the switch's own directory.
    pub(crate) fn with_config(config: &str) -> Self {
        Self::in_namespace(None, config)
    }

    /// The same in a network namespace.
    pub(crate) fn in_namespace(namespace: Option<&str>, config: &str) -> Self {
        match namespace {
            Some(namespace) => Self::under(&["ip", "netns", "exec", namespace], config),
            None => Self::under(&[], config),
        }
    }

    /// The same by way of a command that becomes the program which its last arguments name.
    pub(crate) fn under(starter: &[&str], config: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("ringway-").tempdir().unwrap();
        let config = config.replace("DIR", directory.path().to_str().unwrap());
        fs::write(directory.path().join("ringway.toml"), config).unwrap();
        let starter: Vec<String> = starter.iter().map(|&word| word.to_owned()).collect();
        let child = Self::spawn(directory.path(), &starter);
        let switch = Self { child, directory, starter };
        switch.await_ready();
        switch
    }

    fn spawn(directory: &Path, starter: &[String]) -> Child {
        let mut command = Self::command_to_run(directory, starter);
        command.arg("--config").arg(directory.join("ringway.toml")).spawn().unwrap()
    }

    /// `ringway run`, logging to the directory, with a control socket there.
    fn command_to_run(directory: &Path, starter: &[String]) -> Command {
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let mut words = starter.iter().map(String::as_str).chain([BINARY]);
        let mut command = Command::new(words.next().unwrap());
        command
            .args(words)
            .arg("run")
            .arg("--control")
            .arg(directory.join("control.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        command
    }

    /// Starts a switch that is to take over from this one, with these options. It is this one's child
    /// until [`succeed`](Self::succeed).
    pub(crate) fn start_successor(&self, options: &[&str]) -> Child {
        Self::spawn_successor(self.directory.path(), &self.starter, options)
    }

    /// The same by way of another command than this one was started with.
    pub(crate) fn start_successor_under(&self, starter: &[&str], options: &[&str]) -> Child {
        let starter: Vec<String> = starter.iter().map(|&word| word.to_owned()).collect();
        Self::spawn_successor(self.directory.path(), &starter, options)
    }

    fn spawn_successor(directory: &Path, starter: &[String], options: &[&str]) -> Child {
        let mut command = Self::command_to_run(directory, starter);
        command.arg("--take-over").args(options).spawn().unwrap()
    }

    /// Waits for the end of this switch, and becomes the other one.
    pub(crate) fn succeed(&mut self, successor: Child) {
        let status = wait_for("the old switch's end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{}", self.log());
        self.child = successor;
        drop(self.connect());
    }

    fn await_ready(&self) {
        // The socket is there before the ports are; the greeting comes when all is.
        let path = self.path("control.sock");
        wait_for("the switch", || UnixStream::connect(&path).ok().map(drop));
        drop(self.connect());
    }

    /// `kill -9`, and a new start with the same configuration. Returns when it answers.
    pub(crate) fn kill_and_start(&mut self) -> Instant {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = Self::spawn(self.directory.path(), &self.starter);
        self.await_ready();
        Instant::now()
    }

    /// `kill -9`, and no waiting for its end.
    pub(crate) fn begin_kill(&mut self) {
        self.child.kill().unwrap();
    }

    /// `kill -9`, and nothing else.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// A path in the switch's directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Everything it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Lines of the log with this text.
    pub(crate) fn log_lines(&self, text: &str) -> usize {
        self.log().lines().filter(|line| line.contains(text)).count()
    }

    /// Runs a command of the command line against it.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        Command::new(BINARY)
            .arg("--control")
            .arg(self.path("control.sock"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Runs a command that must succeed.
    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}\n{}", self.log());
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that must be refused: status 1, one line on standard error, which it
    /// returns.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        assert_eq!(errors.trim_end().lines().count(), 1, "{arguments:?}: {errors}");
        errors
    }

    /// A connection to the control socket.
    pub(crate) fn connect(&self) -> Rpc {
        Rpc::connect(&self.path("control.sock"))
    }

    /// The counters of one port.
    pub(crate) fn statistics(&self, port: &str) -> Value {
        let text = self.run(&["stats", port, "--json"]);
        let statistics: Value = serde_json::from_str(&text).unwrap();
        statistics["ports"][0].clone()
    }

    /// A counter of a port.
    pub(crate) fn counter(&self, port: &str, name: &str) -> u64 {
        self.statistics(port)[name].as_u64().unwrap_or(0)
    }

    /// Frames that a port dropped for a reason.
    pub(crate) fn drops(&self, port: &str, reason: &str) -> u64 {
        self.statistics(port)["drops"][reason].as_u64().unwrap_or(0)
    }

    /// What is told of a port.
    pub(crate) fn shown(&self, port: &str) -> Value {
        serde_json::from_str(&self.run(&["port", "show", port, "--json"])).unwrap()
    }

    /// The features that a port's driver has acknowledged.
    pub(crate) fn features(&self, port: &str) -> Features {
        let shown = self.shown(port);
        let features = shown["features"].as_str().expect("features are shown");
        Features(u64::from_str_radix(features.trim_start_matches("0x"), 16).unwrap())
    }

    /// Says whether a port's front end has started its rings.
    pub(crate) fn is_up(&self, port: &str) -> bool {
        self.shown(port)["state"] == "up"
    }

    /// Waits until a port's front end has started its rings.
    pub(crate) fn await_up(&self, port: &str) {
        wait_for(&format!("port {port}"), || self.is_up(port).then_some(()));
    }

    /// Open descriptors, threads, and resident anonymous memory in KiB.
    pub(crate) fn footprint(&self) -> (usize, usize, u64) {
        let process = self.process();
        let count = |what| fs::read_dir(format!("/proc/{process}/{what}")).unwrap().count();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).unwrap();
        let memory = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        (count("fd"), count("task"), memory)
    }

    /// Stops it, so that what is sent meanwhile waits for it all at once.
    pub(crate) fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
        // A thread that runs stops a little later.
        wait_for("all threads to stop", || self.has_stopped().then_some(()));
    }

    fn has_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process())).unwrap();
        let state = |task: io::Result<fs::DirEntry>| {
            fs::read_to_string(task.unwrap().path().join("stat")).unwrap()
        };
        tasks.map(state).all(|state| state.contains(") T "))
    }

    /// Lets it go on.
    pub(crate) fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_raw(self.process().cast_signed()).unwrap();
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// The process, which `ip netns exec` has become.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Says whether it runs still.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the switch has logged:\n{}", self.log());
        }
        let process = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !std::thread::panicking() {
            panic!("the switch did not end when told to");
        }
    }
}

/// Runs a command that needs no switch.
pub(crate) fn ringway(arguments: &[&str]) -> Output {
    Command::new(BINARY).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// A client of the control socket.
#[derive(Debug)]
pub(crate) struct Rpc {
    pub(crate) stream: UnixStream,
    pub(crate) lines: BufReader<UnixStream>,
}

impl Rpc {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut rpc = Self { lines: BufReader::new(stream.try_clone().unwrap()), stream };
        assert_eq!(rpc.line()["protocol"], 1);
        rpc
    }

    /// The next line.
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    /// Sends a line as it is and returns the answer.
    pub(crate) fn send(&mut self, line: &str) -> Value {
        writeln!(self.stream, "{line}").unwrap();
        self.line()
    }

    /// Calls a method.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        self.send(&request.to_string())
    }
}

/// A configuration with a guest's port for each name; their sockets are `NAME.sock`.
pub(crate) fn guests(names: &[&str]) -> String {
    let port = |name: &&str| {
        format!("[[port]]\nname = '{name}'\ntype = 'vhost-user'\nsocket = 'DIR/{name}.sock'\n")
    };
    names.iter().map(port).collect()
}

/// The configuration of a port for an interface.
pub(crate) fn interface(name: &str, interface: &str) -> String {
    format!("[[port]]\nname = '{name}'\ntype = 'af-xdp'\ninterface = '{interface}'\n")
}
