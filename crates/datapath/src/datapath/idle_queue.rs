//! Queues of interfaces and taps that are taken out of use for a while, to be put back or to go on
//! in another process.

use std::os::fd::BorrowedFd;

use frame::PortId;
use tap::TapQueue;
use virtio::offload::Receiver;

use super::{Datapath, record};
use crate::queue::Kind;

/// A queue of an interface or a tap that no thread works, and of which nothing is lent.
#[derive(Debug)]
pub struct IdleQueue(Kind);

impl IdleQueue {
    /// A queue of a tap, with what its host takes beside ready frames.
    #[must_use]
    pub fn of_tap(queue: TapQueue, receiver: Receiver) -> Self {
        Self(Kind::Tap(Box::new(queue), receiver))
    }

    /// Its open file or socket.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

impl Datapath {
    /// Takes the queues of an interface or tap out of use, in their order, when all that was lent of
    /// them is back. The port stays; what is on its way there is dropped.
    pub fn take_queues(&mut self, port: PortId) -> Vec<IdleQueue> {
        let Some(record) = record(&self.ports, port) else { return Vec::new() };
        let pairs: Vec<u8> = record.queues.keys().copied().collect();
        let kinds = pairs.into_iter().filter_map(|pair| self.remove_queue(port, pair));
        kinds.map(IdleQueue).collect()
    }

    /// Gives a queue to a thread again.
    ///
    /// # Panics
    ///
    /// As [`add_xdp_queue`](Self::add_xdp_queue).
    pub fn put_back(&mut self, port: PortId, queue: IdleQueue) {
        match queue.0 {
            Kind::Interface(queue) => self.add_xdp_queue(port, *queue),
            Kind::Tap(queue, receiver) => self.add_tap_queue(port, *queue, receiver),
            // Never made, see `take_queues`: the reply to removing a guest's queue is empty.
            Kind::Guest { .. } => {}
        }
    }
}
