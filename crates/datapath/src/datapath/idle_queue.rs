//! Queues of interfaces and taps that are taken out of use for a while, to be put back or to go on
//! in another process.

use std::os::fd::{AsFd, BorrowedFd};

use afxdp::XdpQueue;
use frame::PortId;
use tap::TapQueue;
use virtio::offload::Receiver;

use super::{Datapath, record};
use crate::command::{Command, Reply};
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

    /// A queue of an interface.
    #[must_use]
    pub fn of_interface(queue: XdpQueue) -> Self {
        Self(Kind::Interface(Box::new(queue)))
    }

    /// The queue, if it is an interface's.
    pub fn interface(&mut self) -> Option<&mut XdpQueue> {
        match &mut self.0 {
            Kind::Interface(queue) => Some(queue),
            Kind::Tap(..) | Kind::Guest { .. } => None,
        }
    }

    /// Its open file or socket.
    #[must_use]
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.0.descriptor()
    }
}

impl Datapath {
    /// The sockets of an interface's queues, in their order; fewer than there are queues if the
    /// system was short of descriptors.
    pub fn sockets(&self, port: PortId) -> impl Iterator<Item = BorrowedFd<'_>> {
        let queues =
            record(&self.ports, port).into_iter().flat_map(|record| record.queues.values());
        queues.filter_map(|queue| queue.socket.as_ref().map(AsFd::as_fd))
    }

    /// Lets the queues of these interfaces and taps take nothing more in. Returns when all that came
    /// in before has left or was dropped. They send on.
    pub fn stop_intake(&mut self, ports: &[PortId]) {
        let mut asked = Vec::new();
        for &port in ports {
            let Some(record) = record(&self.ports, port) else { continue };
            for (&pair, queue) in &record.queues {
                self.threads[queue.thread].send(Command::StopIntake(port, pair));
                asked.push(queue.thread);
            }
        }
        for thread in asked {
            let _: Reply = self.threads[thread].reply();
        }
    }

    /// Takes the queues of an interface or tap out of use, in their order, when all that was lent of
    /// them is back. The port stays; what is on its way there is dropped.
    pub fn take_queues(&mut self, port: PortId) -> Vec<IdleQueue> {
        let Some(record) = record(&self.ports, port) else { return Vec::new() };
        let pairs: Vec<u8> = record.queues.keys().copied().collect();
        let kinds = pairs.into_iter().filter_map(|pair| self.remove_queue(port, pair));
        kinds.map(IdleQueue).collect()
    }

    /// Gives a queue to a thread again. It sends, and takes nothing in before it is
    /// [started](Self::start_intake).
    ///
    /// # Panics
    ///
    /// As [`add_xdp_queue`](Self::add_xdp_queue).
    pub fn put_back(&mut self, port: PortId, queue: IdleQueue) {
        match queue.0 {
            Kind::Interface(queue) => {
                self.add_xdp_queue_at_rest(port, *queue);
            }
            tap @ Kind::Tap(..) => {
                self.add_queue(port, tap);
            }
            // Never made, see `take_queues`: the reply to removing a guest's queue is empty.
            Kind::Guest { .. } => {}
        }
    }

    /// Lets the queues of these interfaces and taps take in.
    pub fn start_intake(&mut self, ports: &[PortId]) {
        for &port in ports {
            let record = record(&self.ports, port);
            let pairs = record.map(|record| record.queues.keys().copied().collect::<Vec<_>>());
            for pair in pairs.unwrap_or_default() {
                self.start_queue(port, pair);
            }
        }
    }

    pub(super) fn start_queue(&mut self, port: PortId, pair: u8) {
        let Some(record) = record(&self.ports, port) else { return };
        if let Some(queue) = record.queues.get(&pair) {
            self.threads[queue.thread].call(Command::StartIntake(port, pair));
        }
    }
}
