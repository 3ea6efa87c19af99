//! Guests' rings: started, stopped, enabled; one by one, or many at once.
//!
//! To wait for an answer takes as long as the thread needs to get its core, which on a busy machine
//! is milliseconds. Whoever stops or starts many rings therefore orders all before waiting for any.

use frame::PortId;
use virtio::{ReceiveQueue, SetupError, TransmitQueue, VringSetup};

use super::{Datapath, record, record_mut};
use crate::call::PeerCall;
use crate::command::{Command, Half, Reply, StartVring, Vring};
use crate::eventfd::PeerEventfd;
use crate::settings::Reception;

/// A virtqueue to be run.
#[derive(Debug)]
pub struct StartedVring {
    /// Its guest's port.
    pub port: PortId,
    /// 2i is the receiveq of pair i, 2i + 1 its transmitq.
    pub vring: u16,
    /// Where it lies.
    pub setup: VringSetup,
    /// By which the driver says that there is work. A transmitq without is polled for ever.
    pub kick: Option<PeerEventfd>,
    /// By which the driver is notified; without, it never is.
    pub call: Option<PeerCall>,
    /// Whether it passes frames.
    pub is_enabled: bool,
}

/// A virtqueue that has been stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoppedVring {
    /// Its guest's port.
    pub port: PortId,
    /// As in [`StartedVring`].
    pub vring: u16,
    /// Where it goes on.
    pub base: u32,
}

impl Datapath {
    /// Runs a virtqueue of a guest: `vring` 2i is the receiveq of pair i, 2i + 1 its transmitq. One that runs
    /// already is stopped first. A transmitq without `kick` is polled for ever; without `call`
    /// the guest is never notified.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring cannot be run as described, e.g. lies outside guest memory.
    ///
    /// # Panics
    ///
    /// If `vring` is not below twice [`MAX_QUEUES`](crate::MAX_QUEUES), or the port is not there.
    pub fn start_vring(
        &mut self,
        port: PortId,
        vring: u16,
        setup: VringSetup,
        kick: Option<PeerEventfd>,
        call: Option<PeerCall>,
        enabled: bool,
    ) -> Result<(), SetupError> {
        self.stop_vring(port, vring);
        let start = StartedVring { port, vring, setup, kick, call, is_enabled: enabled };
        let thread = self.order_start(start)?;
        let _: Reply = self.threads[thread].reply();
        Ok(())
    }

    /// Runs virtqueues that do not run. Returns what came of each, in their order.
    ///
    /// # Panics
    ///
    /// As [`start_vring`](Self::start_vring).
    pub fn start_vrings(&mut self, starts: Vec<StartedVring>) -> Vec<Result<(), SetupError>> {
        let ordered = starts.into_iter().map(|start| self.order_start(start));
        let ordered: Vec<Result<usize, SetupError>> = ordered.collect();
        for &thread in ordered.iter().flatten() {
            let _: Reply = self.threads[thread].reply();
        }
        ordered.into_iter().map(|ordered| ordered.map(drop)).collect()
    }

    /// Returns the thread that will answer.
    fn order_start(&mut self, start: StartedVring) -> Result<usize, SetupError> {
        let StartedVring { port, vring, setup, kick, call, is_enabled } = start;
        let (pair, half) = pair_and_half(vring);
        let size = usize::from(setup.size.get());
        let log = record(&self.ports, port).and_then(|record| record.logs.get(&vring));
        let log = log.cloned().map(Box::new);
        let mut vring = match half {
            Half::Transmitq => Vring::Transmitq(TransmitQueue::new(setup)?),
            Half::Receiveq => Vring::Receiveq(ReceiveQueue::new(setup)?),
        };
        vring.set_log(log);
        let (thread, counters) = self.own(port, pair, None);
        let start = StartVring { port, pair, vring, size, kick, call, is_enabled, counters };
        self.threads[thread].send(Command::StartVring(Box::new(start)));
        Ok(thread)
    }

    /// Stops a virtqueue: nothing more is taken, all lent frames are back, the used ring is
    /// published. Returns its base, where it goes on; `None` if it was not running.
    pub fn stop_vring(&mut self, port: PortId, vring: u16) -> Option<u32> {
        self.stop_vrings(&[(port, vring)]).first().map(|stopped| stopped.base)
    }

    /// Stops virtqueues. Returns those that ran, in any order.
    pub fn stop_vrings(&mut self, vrings: &[(PortId, u16)]) -> Vec<StoppedVring> {
        let mut asked = Vec::with_capacity(vrings.len());
        for &(port, vring) in vrings {
            let (pair, half) = pair_and_half(vring);
            let queue = record(&self.ports, port).and_then(|record| record.queues.get(&pair));
            if let Some(thread) = queue.map(|queue| queue.thread) {
                self.threads[thread].send(Command::StopVring(port, pair, half));
                asked.push(thread);
            }
        }
        // Each thread answers in the order in which its rings come to rest.
        let answers = asked.into_iter().map(|thread| self.threads[thread].reply());
        answers.filter_map(stopped).collect()
    }

    /// Changes which frames a guest gets and how, on all its rings, those started later as well. When
    /// this returns no other frame goes to it.
    pub fn set_reception(&mut self, port: PortId, reception: &Reception) {
        let Some(record) = record_mut(&mut self.ports, port) else { return };
        let before = std::mem::replace(&mut record.reception, reception.clone());
        self.call_all(|| Command::SetReception(port, reception.clone()));
        // Freed here, not by a poll thread.
        drop(before);
    }

    /// Enables or disables a running virtqueue. A disabled receiveq gets no frames; what comes
    /// from a disabled transmitq is dropped.
    pub fn enable_vring(&mut self, port: PortId, vring: u16, enabled: bool) {
        let (pair, half) = pair_and_half(vring);
        let Some(record) = record(&self.ports, port) else { return };
        if let Some(queue) = record.queues.get(&pair) {
            self.threads[queue.thread].call(Command::EnableVring(port, pair, half, enabled));
        }
    }
}

/// The ring of an answer, which is dropped here, by the control thread.
fn stopped(reply: Reply) -> Option<StoppedVring> {
    match reply {
        Reply::StoppedTransmitq(port, pair, transmitq) => {
            let (vring, base) = (2 * u16::from(pair) + 1, transmitq.ring.base());
            Some(StoppedVring { port, vring, base })
        }
        Reply::StoppedReceiveq(port, pair, receiveq) => {
            let (vring, base) = (2 * u16::from(pair), receiveq.ring.base());
            Some(StoppedVring { port, vring, base })
        }
        Reply::Done | Reply::RemovedQueue(..) => None,
    }
}

/// The pair that a vring belongs to, and which half of it the vring is (VIRTIO 1.2, 5.1.2).
pub(super) fn pair_and_half(vring: u16) -> (u8, Half) {
    let half = if vring.is_multiple_of(2) { Half::Receiveq } else { Half::Transmitq };
    (u8::try_from(vring / 2).unwrap_or(u8::MAX), half)
}
