//! Starting the poll threads, one pinned to each core, and reaching them from the control thread.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bridge::Bridge;
use core_affinity::CoreId;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use frame::{BURST_FRAMES, MAX_PORTS};
use ring::Producer;

use crate::clock::Clock;
use crate::command::{Command, Event, Reply};
use crate::counters::{Counters, ThreadCounters, ThreadStatistics};
use crate::handover::{Link, link};
use crate::idle::{Bed, Waker};
use crate::notifier;
use crate::queue_table::QueueTable;
use crate::settings::Settings;
use crate::steering::MAX_THREADS;
use crate::thread::{PollThread, Work};

/// Commands that may wait in a thread's ring; the control thread sends one and awaits the answer.
const COMMAND_SLOTS: usize = 16;

/// How long an answer may take before the log says so. It is never given up: what the thread holds
/// must not be unmapped.
const PATIENCE: Duration = Duration::from_secs(5);

/// The data path could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No core was named, or too many.
    #[error("{0} cores named for poll threads, want 1 to {MAX_THREADS}")]
    CoreCount(usize),
    /// The kernel refused to pin a poll thread.
    #[error("cannot run on core {0}: it does not exist or is not allowed to this process")]
    CoreNotAllowed(usize),
    /// A system call failed.
    #[error("cannot {call} for the poll thread on core {core}")]
    System {
        /// What was called.
        call: &'static str,
        /// Where the thread was to run.
        core: usize,
        /// What the kernel said.
        source: io::Error,
    },
}

/// One poll thread as the control thread sees it.
#[derive(Debug)]
pub(crate) struct Handle {
    core: usize,
    commands: Producer<Command>,
    replies: Receiver<Reply>,
    waker: Arc<Waker>,
    counters: Arc<ThreadCounters>,
    /// Drops that belong to no port any more.
    pub(crate) orphans: Arc<Counters>,
    /// Queues that the control thread gave to this one, for spreading them.
    pub(crate) queue_count: usize,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Sends a command without waiting for its answer. None is ever lost: it waits for room, which
    /// there is, because every command is taken before it is answered.
    pub(crate) fn send(&mut self, mut command: Command) {
        while let Err(refused) = self.commands.push(command) {
            command = refused;
            self.waker.wake();
            std::thread::yield_now();
        }
        self.commands.publish();
        self.waker.wake();
    }

    /// Waits for the answer to a command.
    pub(crate) fn reply(&self) -> Reply {
        loop {
            match self.replies.recv_timeout(PATIENCE) {
                Ok(reply) => return reply,
                Err(RecvTimeoutError::Timeout) => {
                    log::error!("the poll thread on core {} does not answer", self.core);
                    self.waker.wake();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // A poll thread does not end by itself; if one panicked, nothing that it
                    // owned can be trusted, and its guests are better served by a restart.
                    log::error!("the poll thread on core {} is gone: aborting", self.core);
                    std::process::abort();
                }
            }
        }
    }

    /// Sends a command and waits for its answer.
    pub(crate) fn call(&mut self, command: Command) -> Reply {
        self.send(command);
        self.reply()
    }

    pub(crate) fn statistics(&self, index: usize) -> ThreadStatistics {
        self.counters.read(index, self.core)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.send(Command::Exit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Starts a poll thread on each core.
pub(crate) fn start(
    settings: &Settings,
    start: Instant,
    events: &Sender<Event>,
    event_waker: &Arc<OwnedFd>,
) -> Result<Vec<Handle>, StartError> {
    let cores = &settings.cores;
    if !(1..=MAX_THREADS).contains(&cores.len()) {
        return Err(StartError::CoreCount(cores.len()));
    }
    let failed = |call, core| move |source| StartError::System { call, core, source };
    let mut wakers = Vec::new();
    for &core in cores {
        wakers.push(Arc::new(Waker::new().map_err(failed("make an eventfd", core))?));
    }
    let mut handles = Vec::new();
    for ((index, &core), links) in cores.iter().enumerate().zip(links(&wakers)) {
        let (commands_out, commands) = ring::ring(COMMAND_SLOTS);
        let (replies, replies_in) = unbounded();
        let counters = Arc::new(ThreadCounters::default());
        let orphans = Arc::new(Counters::default());
        let waker = &wakers[index];
        let thread = PollThread {
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_THREADS")]
            index: index as u8,
            mode: settings.poll,
            bridge: Bridge::new(Arc::clone(&settings.fdb)),
            ports: (0..MAX_PORTS).map(|_| None).collect(),
            queues: QueueTable::default(),
            polled: Vec::new(),
            stopping: Vec::new(),
            links,
            commands,
            replies,
            events: events.clone(),
            event_waker: Arc::clone(event_waker),
            bed: Bed::new(Arc::clone(waker)).map_err(failed("make an epoll set", core))?,
            clock: Clock::new(start),
            counters: Arc::clone(&counters),
            orphans: Arc::clone(&orphans),
            lent: Vec::with_capacity(BURST_FRAMES),
            returned: Vec::new(),
            work: Work { burst: frame::Burst::new(), ..Work::default() },
            is_running: true,
        };
        handles.push(Handle {
            core,
            commands: commands_out,
            replies: replies_in,
            waker: Arc::clone(waker),
            counters,
            orphans,
            queue_count: 0,
            thread: Some(spawn(thread, core)?),
        });
    }
    Ok(handles)
}

/// Starts one thread, and returns once it is pinned.
fn spawn(thread: PollThread, core: usize) -> Result<JoinHandle<()>, StartError> {
    let (pinned, is_pinned) = unbounded();
    let body = move || {
        let ok = core_affinity::set_for_current(CoreId { id: core });
        notifier::prepare();
        let _ = pinned.send(ok);
        if ok {
            thread.run();
        }
    };
    let handle = std::thread::Builder::new()
        .name(format!("poll-{core}"))
        .spawn(body)
        .map_err(|source| StartError::System { call: "start a thread", core, source })?;
    match is_pinned.recv() {
        Ok(true) => Ok(handle),
        Ok(false) | Err(_) => Err(StartError::CoreNotAllowed(core)),
    }
}

/// The ends of the connections between all threads: for each thread, by the other's index.
fn links(wakers: &[Arc<Waker>]) -> Vec<Vec<Option<Link>>> {
    let count = wakers.len();
    if count == 1 {
        return vec![Vec::new()];
    }
    let mut ends: Vec<Vec<Option<Link>>> =
        (0..count).map(|_| (0..count).map(|_| None).collect()).collect();
    for first in 0..count {
        for second in first + 1..count {
            let (end_of_first, end_of_second) = link(&wakers[first], &wakers[second]);
            ends[first][second] = Some(end_of_first);
            ends[second][first] = Some(end_of_second);
        }
    }
    ends
}
