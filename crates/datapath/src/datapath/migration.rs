//! What the data path does for guests that move from one switch to another.

use frame::PortId;
use virtio::VringLog;

use super::vrings::pair_and_half;
use super::{Datapath, record_mut};
use crate::command::Command;

impl Datapath {
    /// Says where what a virtqueue writes to its guest's memory is logged, from now on and whenever
    /// it is started again; `None`: nowhere. One that runs goes on. When this returns the log before
    /// is written to no more.
    pub fn log_vring(&mut self, port: PortId, vring: u16, log: Option<VringLog>) {
        let (pair, half) = pair_and_half(vring);
        let Some(record) = record_mut(&mut self.ports, port) else { return };
        // Kept until the thread has let go of it, so that unmapping it is not the thread's affair.
        let before = match log.clone() {
            Some(log) => record.logs.insert(vring, log),
            None => record.logs.remove(&vring),
        };
        if let Some(queue) = record.queues.get(&pair) {
            let log = log.map(Box::new);
            self.threads[queue.thread].call(Command::LogVring(port, pair, half, log));
        }
        drop(before);
    }

    /// Tells the network that the guest with this address is behind a port: its address is learned
    /// there, and all others of its VLAN get a broadcast from it (RARP).
    pub fn announce(&mut self, port: PortId, address: [u8; 6]) {
        self.call_all(|| Command::Announce(port, address));
    }
}
