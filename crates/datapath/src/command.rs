//! What the control thread tells a poll thread, and what it hears back.
//!
//! Commands cross a ring that the poll thread drains once a turn. Each is answered once, in
//! its own time: most at once, a stop when the last lent frame is back. Whatever is taken out of
//! use travels back in the answer, so that memory is unmapped and sockets are closed by the
//! control thread and never between two bursts.

use std::sync::Arc;

use bridge::VlanPolicy;
use frame::PortId;
use virtio::{QueueFault, ReceiveQueue, TransmitQueue, VringLog};

use crate::call::PeerCall;
use crate::counters::Counters;
use crate::eventfd::PeerEventfd;
use crate::queue::{Kind, Receiveq, Transmitq};
use crate::settings::{PortTraits, Reception};
use crate::steering::Steering;

/// A virtqueue that is ready to run, or was taken out of use.
#[derive(Debug)]
pub(crate) enum Vring {
    Transmitq(TransmitQueue),
    Receiveq(ReceiveQueue),
}

/// What a poll thread must know of a port.
#[derive(Debug)]
pub(crate) struct PortDescription {
    pub(crate) id: PortId,
    pub(crate) policy: VlanPolicy,
    pub(crate) learn_limit: u32,
    pub(crate) traits: PortTraits,
    pub(crate) steering: Arc<Steering>,
    /// For what the receiving thread orders and cannot hand over.
    pub(crate) counters: Arc<Counters>,
}

impl Vring {
    /// Notes what it writes from now on in another log, or in none.
    pub(crate) fn set_log(&mut self, log: Option<Box<VringLog>>) {
        match self {
            Self::Transmitq(ring) => ring.set_log(log),
            Self::Receiveq(ring) => ring.set_log(log),
        }
    }
}

/// A virtqueue to be run.
#[derive(Debug)]
pub(crate) struct StartVring {
    pub(crate) port: PortId,
    pub(crate) pair: u8,
    pub(crate) vring: Vring,
    pub(crate) size: usize,
    pub(crate) kick: Option<PeerEventfd>,
    pub(crate) call: Option<PeerCall>,
    pub(crate) is_enabled: bool,
    pub(crate) counters: Arc<Counters>,
}

/// Which half of a guest's queue pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    Transmitq,
    Receiveq,
}

/// A message to a poll thread.
#[derive(Debug)]
pub(crate) enum Command {
    /// Adds a port, or changes it.
    SetPort(Box<PortDescription>),
    /// Forgets a port. Its queues have been removed before.
    RemovePort(PortId),
    StartVring(Box<StartVring>),
    StopVring(PortId, u8, Half),
    EnableVring(PortId, u8, Half, bool),
    /// Changes which frames a guest gets, and how.
    SetReception(PortId, Reception),
    /// Notes what a virtqueue writes in another log, or in none, without stopping it.
    LogVring(PortId, u8, Half, Option<Box<VringLog>>),
    /// Says that the guest with this address has come to a port.
    Announce(PortId, [u8; 6]),
    /// Adds a queue that is no guest's. It takes nothing in before it is told to.
    AddQueue(PortId, u8, Kind, Arc<Counters>),
    /// Lets a queue that is no guest's take nothing more in. Answered when nothing of it is lent.
    StopIntake(PortId, u8),
    /// Lets it take in again.
    StartIntake(PortId, u8),
    /// Takes a queue of either kind out of the thread's table.
    RemoveQueue(PortId, u8),
    /// Answered when everything that was on its way to this thread has been dealt with.
    Sync,
    Exit,
}

/// What is left of a command.
#[derive(Debug)]
pub(crate) enum Reply {
    Done,
    /// A ring of this port's pair.
    StoppedTransmitq(PortId, u8, Box<Transmitq>),
    StoppedReceiveq(PortId, u8, Box<Receiveq>),
    /// A queue of this port that is no guest's, and its number.
    RemovedQueue(PortId, u8, Kind),
}

/// Something that a poll thread has to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A guest broke the rules of a virtqueue, which has stopped itself. Told once per start.
    QueueFault {
        /// The guest's port.
        port: PortId,
        /// The vring: 2i is the receiveq of pair i, 2i + 1 its transmitq.
        vring: u16,
        /// What the guest did.
        fault: QueueFault,
    },
    /// The interface of a tap's queue was removed: nothing comes and goes there any more. Told once
    /// a queue.
    InterfaceGone {
        /// The tap's port.
        port: PortId,
    },
}
