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
        self.tell_queues(ports, Command::StopIntake);
    }

    /// Lets the queues of these interfaces and taps take in.
    pub fn start_intake(&mut self, ports: &[PortId]) {
        self.tell_queues(ports, Command::StartIntake);
    }

    /// Tells all queues of these ports something, and waits for all answers.
    fn tell_queues(&mut self, ports: &[PortId], command: impl Fn(PortId, u8) -> Command) {
        let mut told = Vec::new();
        for &port in ports {
            let Some(record) = record(&self.ports, port) else { continue };
            for (&pair, queue) in &record.queues {
                self.threads[queue.thread].send(command(port, pair));
                told.push(queue.thread);
            }
        }
        for thread in told {
            let _: Reply = self.threads[thread].reply();
        }
    }

    /// Takes the queues of these interfaces and taps out of use when all that was lent of them is
    /// back, and returns them in their order. The ports stay; what is on its way there is dropped.
    pub fn take_queues(&mut self, ports: &[PortId]) -> Vec<(PortId, IdleQueue)> {
        let pairs = |port: &PortId| {
            let record = record(&self.ports, *port);
            let pairs = record.into_iter().flat_map(|record| record.queues.keys());
            pairs.map(|&pair| (*port, pair)).collect::<Vec<_>>()
        };
        let queues: Vec<(PortId, u8)> = ports.iter().flat_map(pairs).collect();
        let asked = queues.into_iter().filter_map(|(port, pair)| self.order_removal(port, pair));
        let asked: Vec<usize> = asked.collect();
        let replies = asked.into_iter().map(|thread| self.threads[thread].reply());
        let mut taken: Vec<_> = replies.filter_map(removed).collect();
        taken.sort_by_key(|&(port, pair, _)| (port.slot, pair));
        taken.into_iter().map(|(port, _, kind)| (port, IdleQueue(kind))).collect()
    }

    /// Gives queues to threads again, those of a port in their order. They send, and take nothing in
    /// before they are [started](Self::start_intake).
    ///
    /// # Panics
    ///
    /// As [`add_xdp_queue`](Self::add_xdp_queue).
    pub fn put_back(&mut self, queues: Vec<(PortId, IdleQueue)>) {
        let asked = queues.into_iter().map(|(port, queue)| self.order_addition(port, queue.0));
        let asked: Vec<usize> = asked.collect();
        for thread in asked {
            let _: Reply = self.threads[thread].reply();
        }
    }
}

fn removed(reply: Reply) -> Option<(PortId, u8, Kind)> {
    match reply {
        Reply::RemovedQueue(port, pair, kind) => Some((port, pair, kind)),
        // Of a guest's queue, which is none that was asked for.
        Reply::Done | Reply::StoppedTransmitq(..) | Reply::StoppedReceiveq(..) => None,
    }
}
