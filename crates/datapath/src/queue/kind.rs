//! What a queue is: a guest's two rings, an interface's socket, or a tap's file.

use std::os::fd::BorrowedFd;

use afxdp::XdpQueue;
use frame::DropReason;
use tap::TapQueue;
use virtio::offload::Receiver;
use virtio::{QueueFault, ReceiveQueue, Refusal, TransmitQueue};

use crate::call::PeerCall;
use crate::eventfd::PeerEventfd;

/// How far a virtqueue is from being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingState {
    Running,
    /// Takes nothing more; the control thread waits for what is lent.
    Stopping,
    /// The guest broke the ring's rules: takes nothing more until it is stopped and started.
    Faulted,
}

/// A guest's transmitq: ingress.
#[derive(Debug)]
pub(crate) struct Transmitq {
    pub(crate) ring: TransmitQueue,
    /// `None`: the driver never kicks, so the queue is polled for ever.
    pub(crate) kick: Option<PeerEventfd>,
    pub(crate) call: Option<PeerCall>,
    pub(crate) is_enabled: bool,
    pub(crate) state: RingState,
}

/// A guest's receiveq: egress.
#[derive(Debug)]
pub(crate) struct Receiveq {
    pub(crate) ring: ReceiveQueue,
    pub(crate) call: Option<PeerCall>,
    pub(crate) is_enabled: bool,
    pub(crate) state: RingState,
}

impl Receiveq {
    pub(super) fn takes_frames(&self) -> bool {
        self.state == RingState::Running && self.is_enabled
    }
}

/// What a queue is.
#[derive(Debug)]
pub(crate) enum Kind {
    Guest {
        transmitq: Option<Box<Transmitq>>,
        receiveq: Option<Box<Receiveq>>,
    },
    Interface(Box<XdpQueue>),
    /// With what the host takes beside ready frames.
    Tap(Box<TapQueue>, Receiver),
}

impl Kind {
    /// What to watch for work, if that is no guest's kick.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Guest { .. } => None,
            Self::Interface(queue) => Some(queue.as_fd()),
            Self::Tap(queue, _) => Some(queue.as_fd()),
        }
    }
}

/// Why a copy was not delivered.
#[derive(Debug)]
pub(crate) enum Undelivered {
    Dropped(DropReason),
    /// The guest broke the rules of its receiveq, which must be stopped.
    Fault(QueueFault),
}

impl From<Refusal> for Undelivered {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NoBuffer => Self::Dropped(DropReason::NoReceiveBuffer),
            Refusal::TooSmall => Self::Dropped(DropReason::ReceiveBufferTooSmall),
            Refusal::Fault(fault) => Self::Fault(fault),
        }
    }
}
