//! Processes of the systems that are compared: started in their place, waited for, ended.
//!
//! A [`Daemon`] is one process. `setpriv`, `taskset` and `ip netns exec`, which put it in its
//! place, each become the next (execve(2)), so the child's number is that of the system itself. Its
//! words go to a file, the last lines of which are part of every error. It is ended by that number
//! when dropped, and by the kernel should the bench be killed (`PR_SET_PDEATHSIG`; prctl(2): when
//! the *thread* that started it ends, so systems are started by a thread that lives as long).

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Topology;

/// How long anything may take that must happen: a start with all its memory takes under 3 s here.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a process may take to end after it was asked: OVS-DPDK takes 1 s.
const FAREWELL: Duration = Duration::from_secs(5);

/// Lines of a log that an error carries.
const LAST_LINES: usize = 8;

/// Which cores and which network a process is given.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The core of the poll thread.
    pub(crate) poll_core: usize,
    /// The core of everything else.
    pub(crate) other_core: usize,
    namespace: Option<String>,
}

impl Place {
    /// The place that a topology asks for.
    ///
    /// # Errors
    ///
    /// The machine has one core only.
    pub(crate) fn of(topology: &Topology) -> Result<Self, String> {
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let other = cores.iter().map(|core| core.id).find(|core| *core != topology.core);
        Ok(Self {
            poll_core: topology.core,
            other_core: other.ok_or("there is no core beside the poll thread's")?,
            namespace: topology.namespace.clone(),
        })
    }

    /// A command that becomes `program`, allowed to run on `cores` only.
    pub(crate) fn command(&self, cores: &[usize], program: impl AsRef<Path>) -> Command {
        let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "taskset", "-c", &cores.join(",")]);
        if let Some(namespace) = &self.namespace {
            command.args(["ip", "netns", "exec", namespace]);
        }
        command.arg(program.as_ref());
        command
    }

    /// A command of iproute2 on the interfaces of the place.
    pub(crate) fn ip(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = bounded("ip");
        if let Some(namespace) = &self.namespace {
            command.args(["-n", namespace]);
        }
        run(command.args(arguments))
    }

    /// Whether the place is a network namespace of its own.
    pub(crate) fn is_namespace(&self) -> bool {
        self.namespace.is_some()
    }
}

/// A process of a system under test, or of a part of it.
#[derive(Debug)]
pub(crate) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a command of [`Place::command`], with a log of its own in `directory`.
    ///
    /// Its standard input is a pipe on which nothing comes: testpmd ends where input ends.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        directory: &Path,
    ) -> Result<Self, String> {
        let log = directory.join(format!("{name}.log"));
        let cannot = |error| format!("cannot start {name}: {error}");
        let output = File::create(&log).map_err(cannot)?;
        command.stdin(Stdio::piped()).stdout(output.try_clone().map_err(cannot)?).stderr(output);
        let child = command.spawn().map_err(cannot)?;
        Ok(Self { name, child, log })
    }

    /// Tries until `attempt` has an answer.
    ///
    /// # Errors
    ///
    /// It had none for too long, or the process ended: with the last lines of its log.
    pub(crate) fn await_answer<T>(
        &mut self,
        what: &str,
        mut attempt: impl FnMut(&Self) -> Option<T>,
    ) -> Result<T, String> {
        let start = Instant::now();
        loop {
            if let Some(answer) = attempt(self) {
                return Ok(answer);
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.error(&format!("ended ({status}) before {what}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(self.error(&format!("has no {what} after {PATIENCE:?}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What went wrong, with the last lines of the process's log.
    pub(crate) fn error(&self, what: &str) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("{} {what}; its last words:\n{}", self.name, last.join("\n"))
    }

    /// Everything it has said.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |error| format!("(no log: {error})"),
            |bytes| String::from_utf8_lossy(&bytes).into_owned(),
        )
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a thread that is bound to the poll core alone, then moves all others from there.
    ///
    /// # Errors
    ///
    /// There is no such thread, or one cannot be moved.
    pub(crate) fn settle(&mut self, place: &Place) -> Result<(), String> {
        let poll_core = place.poll_core.to_string();
        let has_poll_thread =
            |daemon: &Self| daemon.threads().iter().any(|(_, cores)| *cores == poll_core);
        let what = format!("poll thread on core {poll_core}");
        self.await_answer(&what, |daemon| has_poll_thread(daemon).then_some(()))?;
        let mut cores = CpuSet::new();
        cores.set(place.other_core);
        for (thread, _) in self.threads().iter().filter(|(_, cores)| *cores != poll_core) {
            let moved = sched_setaffinity(Some(*thread), &cores);
            // A thread that ended meanwhile is out of the way as well.
            if let Err(error) = moved
                && error != rustix::io::Errno::SRCH
            {
                return Err(self.error(&format!("has a thread that stays where it is ({error})")));
            }
        }
        Ok(())
    }

    /// Waits for its end, which somebody has asked for.
    pub(crate) fn await_end(&mut self) {
        let _ = self.has_ended(FAREWELL);
    }

    /// Whether it has ended, after at most so long.
    fn has_ended(&mut self, patience: Duration) -> bool {
        let start = Instant::now();
        loop {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return true;
            }
            if start.elapsed() >= patience {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Its threads, and the list of cores that each is allowed to run on.
    fn threads(&self) -> Vec<(Pid, String)> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.id()));
        let describe = |task: fs::DirEntry| {
            let id = Pid::from_raw(task.file_name().to_str()?.parse().ok()?)?;
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            let cores = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
            Some((id, cores.trim().to_owned()))
        };
        tasks.into_iter().flatten().flatten().filter_map(describe).collect()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.has_ended(Duration::ZERO) {
            return;
        }
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !self.has_ended(FAREWELL) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Lets all threads of a process run on these cores, poll threads as well.
///
/// # Errors
///
/// One cannot be moved.
pub(crate) fn unpin(process: u32, cores: &[usize]) -> Result<(), String> {
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let mut command = bounded("taskset");
    command.args(["--all-tasks", "--pid", "--cpu-list", &cores.join(",")]).arg(process.to_string());
    run(&mut command).map(drop)
}

/// A command that is ended if it takes too long.
pub(crate) fn bounded(program: impl AsRef<Path>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=2", &PATIENCE.as_secs().to_string()]).arg(program.as_ref());
    command
}

/// Runs a command that must succeed, and returns what it prints on standard output.
///
/// # Errors
///
/// It cannot be started or fails: with what it prints on standard error.
pub(crate) fn run(command: &mut Command) -> Result<String, String> {
    run_to_end(command).map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The same with all that it prints.
pub(crate) fn run_to_end(command: &mut Command) -> Result<Output, String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{command:?} failed ({}): {}", output.status, errors.trim_end()))
}
