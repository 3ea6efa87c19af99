//! Starting the poll threads, one pinned to each core, and reaching them from the control thread.
//!
//! Behind them comes the I/O thread: one more, pinned to no core, for queues that cost a system call
//! a frame. It has the same turn, sleeps whenever they have nothing, and costs nothing without any.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
use crate::idle::{Bed, Sleep, Waker};
use crate::notifier;
use crate::queue_table::QueueTable;
use crate::rivals::Rivals;
use crate::settings::{PollMode, Settings};
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
    #[error("cannot {call} for the {}", describe(*core))]
    System {
        /// What was called.
        call: &'static str,
        /// Where the thread was to run; the I/O thread anywhere.
        core: Option<usize>,
        /// What the kernel said.
        source: io::Error,
    },
}

fn describe(core: Option<usize>) -> String {
    core.map_or_else(|| "I/O thread".to_owned(), |core| format!("poll thread on core {core}"))
}

/// One poll thread as the control thread sees it.
#[derive(Debug)]
pub(crate) struct Handle {
    /// None of the I/O thread.
    core: Option<usize>,
    name: String,
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
                    log::error!("thread {} does not answer", self.name);
                    self.waker.wake();
                }
                Err(RecvTimeoutError::Disconnected) => {
                    // A poll thread does not end by itself; if one panicked, nothing that it
                    // owned can be trusted, and its guests are better served by a restart.
                    log::error!("thread {} is gone: aborting", self.name);
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
    let places: Vec<Option<usize>> = cores.iter().copied().map(Some).chain([None]).collect();
    for &core in &places {
        wakers.push(Arc::new(Waker::new().map_err(failed("make an eventfd", core))?));
    }
    let io_has_queues = Arc::new(AtomicBool::new(false));
    let mut handles = Vec::new();
    for ((index, &core), links) in places.iter().enumerate().zip(links(&wakers)) {
        let (commands_out, commands) = ring::ring(COMMAND_SLOTS);
        let (replies, replies_in) = unbounded();
        let counters = Arc::new(ThreadCounters::default());
        let orphans = Arc::new(Counters::default());
        let waker = &wakers[index];
        // Most switches' I/O threads have no queues to nap for.
        let sleep = if core.is_some() { Sleep::LIGHT } else { Sleep::SOUND };
        let thread = PollThread {
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_OWNERS")]
            index: index as u8,
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_OWNERS")]
            io_thread: cores.len() as u8,
            io_has_queues: Arc::clone(&io_has_queues),
            mode: if core.is_some() { settings.poll } else { PollMode::Adaptive },
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
            bed: Bed::new(Arc::clone(waker), sleep).map_err(failed("make an epoll set", core))?,
            clock: Clock::new(start),
            rivals: Rivals::default(),
            counters: Arc::clone(&counters),
            orphans: Arc::clone(&orphans),
            lent: Vec::with_capacity(BURST_FRAMES),
            returned: Vec::new(),
            work: Work { burst: frame::Burst::new(), ..Work::default() },
            is_running: true,
        };
        let name = core.map_or_else(|| "io".to_owned(), |core| format!("poll-{core}"));
        handles.push(Handle {
            core,
            name: name.clone(),
            commands: commands_out,
            replies: replies_in,
            waker: Arc::clone(waker),
            counters,
            orphans,
            queue_count: 0,
            thread: Some(spawn(thread, core, name)?),
        });
    }
    Ok(handles)
}

/// Starts one thread, and returns once it is pinned, if it is to be.
fn spawn(
    thread: PollThread,
    core: Option<usize>,
    name: String,
) -> Result<JoinHandle<()>, StartError> {
    let (pinned, is_pinned) = unbounded();
    let body = move || {
        let ok = core.is_none_or(|id| core_affinity::set_for_current(CoreId { id }));
        notifier::prepare();
        let _ = pinned.send(ok);
        if ok {
            thread.run();
        }
    };
    let handle = std::thread::Builder::new()
        .name(name)
        .spawn(body)
        .map_err(|source| StartError::System { call: "start a thread", core, source })?;
    match is_pinned.recv() {
        Ok(true) => Ok(handle),
        Ok(false) | Err(_) => Err(StartError::CoreNotAllowed(core.unwrap_or_default())),
    }
}

/// The ends of the connections between all threads: for each thread, by the other's index.
fn links(wakers: &[Arc<Waker>]) -> Vec<Vec<Option<Link>>> {
    let count = wakers.len();
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
