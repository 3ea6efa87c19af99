//! The control plane's handle on the data path: ports, queues, counters.
//!
//! One thread uses it. Every call returns when the poll threads concerned have acknowledged, so
//! that afterwards memory may be unmapped, sockets closed and numbers used again.
//!
//! The life of a port: [`add_port`](Datapath::add_port), then its queues as they come and go
//! ([`start_vring`](Datapath::start_vring), [`add_xdp_queue`](Datapath::add_xdp_queue)), then
//! [`remove_port`](Datapath::remove_port). A slot is used again only after all threads have
//! forgotten the port and all that was on its way to it has been dealt with.

mod idle_queue;
mod migration;
mod statistics;
mod vrings;

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use afxdp::XdpQueue;
use bridge::{Fdb, Flush, Seconds, VlanPolicy};
use crossbeam::channel::{self, unbounded};
use frame::{MAX_PORTS, PortId};
use rustix::event::{EventfdFlags, eventfd};
use tap::TapQueue;
use virtio::VringLog;
use virtio::offload::Receiver;

use crate::clock;
use crate::command::{Command, Event, PortDescription, Reply};
use crate::counters::Counters;
use crate::notifier;
use crate::poll_threads::{self, Handle, StartError};
use crate::queue::Kind;
use crate::settings::{PortTraits, Reception, Settings};
use crate::steering::{MAX_QUEUES, Steering};
pub use idle_queue::IdleQueue;
pub use vrings::{StartedVring, StoppedVring};

/// All slots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch has {MAX_PORTS} ports already")]
pub struct PortsExhausted;

/// A queue of a port: who owns it and what was counted at it.
#[derive(Debug)]
struct QueueRecord {
    thread: usize,
    counters: Arc<Counters>,
    /// A duplicate of an AF_XDP socket, for the kernel's counters.
    socket: Option<OwnedFd>,
}

/// What the control thread knows of a port.
#[derive(Debug)]
struct PortRecord {
    id: PortId,
    policy: VlanPolicy,
    steering: Arc<Steering>,
    queues: BTreeMap<u8, QueueRecord>,
    /// By vring: where its writes are logged. Empty unless the guest is migrated.
    logs: BTreeMap<u16, VringLog>,
    /// Kept here so that no poll thread is the last to have it.
    reception: Reception,
    /// By thread: for what no queue of the port counts.
    by_thread: Vec<Arc<Counters>>,
}

/// The data path. See the module's text. Dropping it stops the poll threads.
#[derive(Debug)]
pub struct Datapath {
    /// The poll threads, and the I/O thread behind them.
    threads: Vec<Handle>,
    fdb: Arc<Fdb>,
    started: Instant,
    /// By slot.
    ports: Vec<Option<PortRecord>>,
    /// The generation of the next tenant, by slot.
    generations: Vec<u32>,
    events: channel::Receiver<Event>,
    event_fd: Arc<OwnedFd>,
}

impl Datapath {
    /// Starts a poll thread on each core of `settings`.
    ///
    /// # Errors
    ///
    /// [`StartError`] if a core does not exist or a system call fails.
    pub fn start(settings: Settings) -> Result<Self, StartError> {
        let started = Instant::now();
        notifier::prepare();
        let core = settings.cores.first().copied();
        let failed = |source: rustix::io::Errno| StartError::System {
            call: "make an eventfd",
            core,
            source: source.into(),
        };
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event_fd = Arc::new(eventfd(0, flags).map_err(failed)?);
        let (sender, events) = unbounded();
        let threads = poll_threads::start(&settings, started, &sender, &event_fd)?;
        Ok(Self {
            threads,
            fdb: settings.fdb,
            started,
            ports: (0..MAX_PORTS).map(|_| None).collect(),
            generations: vec![0; MAX_PORTS],
            events,
            event_fd,
        })
    }

    /// Seconds since the start: the time that the filtering database counts in.
    #[must_use]
    pub fn now(&self) -> Seconds {
        clock::since(self.started)
    }

    /// Adds a port without queues, a member of the VLANs of `policy`, behind which at most
    /// `learn_limit` addresses are learned.
    ///
    /// # Errors
    ///
    /// [`PortsExhausted`] if there are [`MAX_PORTS`] already.
    pub fn add_port(
        &mut self,
        policy: &VlanPolicy,
        learn_limit: u32,
        traits: PortTraits,
    ) -> Result<PortId, PortsExhausted> {
        let slot = self.ports.iter().position(Option::is_none).ok_or(PortsExhausted)?;
        let generation = self.generations[slot];
        self.generations[slot] = generation.wrapping_add(1);
        let slot = u16::try_from(slot).map_err(|_| PortsExhausted)?;
        let id = PortId { slot, generation };
        self.ports[usize::from(slot)] = Some(PortRecord {
            id,
            policy: policy.clone(),
            steering: Arc::new(Steering::new()),
            queues: BTreeMap::new(),
            logs: BTreeMap::new(),
            reception: Reception::default(),
            by_thread: self.threads.iter().map(|_| Arc::default()).collect(),
        });
        self.set_port(id, policy, learn_limit, traits);
        Ok(id)
    }

    /// Changes a port's VLANs, learning limit and traits while traffic flows. With other VLANs, what
    /// was learned behind it is forgotten; static entries stay.
    pub fn set_port(
        &mut self,
        port: PortId,
        policy: &VlanPolicy,
        learn_limit: u32,
        traits: PortTraits,
    ) {
        let Some(record) = record_mut(&mut self.ports, port) else { return };
        let is_other = std::mem::replace(&mut record.policy, policy.clone()) != *policy;
        for (index, thread) in self.threads.iter_mut().enumerate() {
            thread.send(Command::SetPort(Box::new(PortDescription {
                id: port,
                policy: policy.clone(),
                learn_limit,
                traits,
                steering: Arc::clone(&record.steering),
                counters: Arc::clone(&record.by_thread[index]),
            })));
        }
        self.await_all();
        if is_other {
            // What was learned behind the port may belong to a VLAN that it has left.
            self.fdb.flush(Flush { slot: Some(port.slot), ..Flush::default() });
        }
    }

    /// Removes a port: its queues are stopped and dropped, what was on its way to it is dropped,
    /// its addresses are forgotten.
    pub fn remove_port(&mut self, port: PortId) {
        let Some(record) = record(&self.ports, port) else { return };
        let queues: Vec<u8> = record.queues.keys().copied().collect();
        for pair in queues {
            for vring in [2 * u16::from(pair), 2 * u16::from(pair) + 1] {
                let _ = self.stop_vring(port, vring);
            }
            // Dropped here, by the control thread: closing sockets and unmapping takes time.
            drop(self.remove_queue(port, pair));
        }
        self.call_all(|| Command::RemovePort(port));
        self.call_all(|| Command::Sync);
        self.fdb.flush(Flush { slot: Some(port.slot), with_static: true, ..Flush::default() });
        self.ports[usize::from(port.slot)] = None;
    }

    /// Takes a queue out of its thread, and returns it if it is no guest's.
    fn remove_queue(&mut self, port: PortId, pair: u8) -> Option<Kind> {
        let thread = self.order_removal(port, pair)?;
        match self.threads[thread].reply() {
            Reply::RemovedQueue(_, _, queue) => Some(queue),
            Reply::Done | Reply::StoppedTransmitq(..) | Reply::StoppedReceiveq(..) => None,
        }
    }

    /// Orders a queue out of its thread. Returns the thread, which will answer.
    fn order_removal(&mut self, port: PortId, pair: u8) -> Option<usize> {
        let queue = record_mut(&mut self.ports, port)?.queues.remove(&pair)?;
        // A duplicate would keep the socket bound.
        drop(queue.socket);
        let thread = &mut self.threads[queue.thread];
        thread.queue_count -= 1;
        thread.send(Command::RemoveQueue(port, pair));
        Some(queue.thread)
    }

    /// Gives a queue of an interface to a poll thread. Queues are numbered as they come, at most
    /// [`MAX_QUEUES`] a port.
    ///
    /// # Panics
    ///
    /// If the port has [`MAX_QUEUES`] already, or is not there.
    pub fn add_xdp_queue(&mut self, port: PortId, queue: XdpQueue) {
        self.add_queue(port, Kind::Interface(Box::new(queue)));
    }

    /// Gives a queue of a tap, whose host takes this beside ready frames, to the I/O thread, which
    /// makes a system call for each frame. Numbered likewise.
    ///
    /// # Panics
    ///
    /// As [`add_xdp_queue`](Self::add_xdp_queue).
    pub fn add_tap_queue(&mut self, port: PortId, queue: TapQueue, receiver: Receiver) {
        self.add_queue(port, Kind::Tap(Box::new(queue), receiver));
    }

    fn add_queue(&mut self, port: PortId, kind: Kind) {
        let thread = self.order_addition(port, kind);
        let _: Reply = self.threads[thread].reply();
        self.start_intake(&[port]);
    }

    /// Orders a queue to a thread, where it takes nothing in before it is
    /// [started](Self::start_intake). Returns the thread, which will answer.
    fn order_addition(&mut self, port: PortId, kind: Kind) -> usize {
        let record = record(&self.ports, port).expect("the port was added before its queues");
        let pair = u8::try_from(record.queues.len()).unwrap_or(u8::MAX);
        let owner = matches!(kind, Kind::Tap(..)).then_some(self.threads.len() - 1);
        let socket = match &kind {
            Kind::Interface(queue) => queue.as_fd().try_clone_to_owned().ok(),
            Kind::Tap(..) | Kind::Guest { .. } => None,
        };
        let (thread, counters) = self.own(port, pair, owner);
        if let Some(record) = record_mut(&mut self.ports, port)
            && let Some(record) = record.queues.get_mut(&pair)
        {
            record.socket = socket;
        }
        self.threads[thread].send(Command::AddQueue(port, pair, kind, counters));
        thread
    }

    /// The thread that owns a queue, and the queue's counters. If it has no owner yet it becomes
    /// `wanted`, or the poll thread with the fewest.
    fn own(&mut self, port: PortId, pair: u8, wanted: Option<usize>) -> (usize, Arc<Counters>) {
        assert!(usize::from(pair) < MAX_QUEUES, "queue {pair} is not below {MAX_QUEUES}");
        // The last one is the I/O thread.
        let fewest = (0..self.threads.len() - 1)
            .min_by_key(|&index| self.threads[index].queue_count)
            .expect("there is at least one poll thread");
        let fewest = wanted.unwrap_or(fewest);
        let record = record_mut(&mut self.ports, port).expect("the port is there");
        let queue = record.queues.entry(pair).or_insert_with(|| {
            self.threads[fewest].queue_count += 1;
            #[expect(clippy::cast_possible_truncation, reason = "below MAX_THREADS")]
            record.steering.assign(pair, fewest as u8);
            QueueRecord { thread: fewest, counters: Arc::default(), socket: None }
        });
        (queue.thread, Arc::clone(&queue.counters))
    }

    /// A descriptor that becomes readable when [`take_events`](Self::take_events) has something.
    #[must_use]
    pub fn events(&self) -> BorrowedFd<'_> {
        self.event_fd.as_fd()
    }

    /// What the poll threads have told since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        let mut count = [0; 8];
        // Empty if nothing was told; then there is nothing to take either.
        let _: io::Result<usize> =
            rustix::io::read(&*self.event_fd, &mut count).map_err(Into::into);
        self.events.try_iter().collect()
    }

    fn call_all(&mut self, command: impl Fn() -> Command) {
        for thread in &mut self.threads {
            thread.send(command());
        }
        self.await_all();
    }

    fn await_all(&self) {
        for thread in &self.threads {
            let _: Reply = thread.reply();
        }
    }
}

fn record(ports: &[Option<PortRecord>], id: PortId) -> Option<&PortRecord> {
    ports.get(usize::from(id.slot))?.as_ref().filter(|record| record.id == id)
}

fn record_mut(ports: &mut [Option<PortRecord>], id: PortId) -> Option<&mut PortRecord> {
    ports.get_mut(usize::from(id.slot))?.as_mut().filter(|record| record.id == id)
}
