//! What was counted, as the control plane reads it.

use std::os::fd::AsFd;

use afxdp::XdpStatistics;
use frame::PortId;

use super::{Datapath, record};
use crate::counters::{PortStatistics, QueueStatistics, Snapshot, ThreadStatistics};

impl Datapath {
    /// What was counted at a port.
    #[must_use]
    pub fn statistics(&self, port: PortId) -> PortStatistics {
        let mut statistics = PortStatistics::default();
        let Some(record) = record(&self.ports, port) else { return statistics };
        for (&index, queue) in &record.queues {
            let mut counters = Snapshot::default();
            queue.counters.add_to(&mut counters);
            queue.counters.add_to(&mut statistics.total);
            let index = u16::from(index);
            let socket = queue.socket.as_ref().map(|socket| XdpStatistics::read(socket.as_fd()));
            let thread = queue.thread;
            statistics.queues.push(QueueStatistics { index, thread, counters, socket });
        }
        for counters in &record.by_thread {
            counters.add_to(&mut statistics.total);
        }
        statistics
    }

    /// What was dropped on its way to ports that were removed meanwhile, since the start.
    #[must_use]
    pub fn removed_ports(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        self.threads.iter().for_each(|thread| thread.orphans.add_to(&mut sum));
        sum
    }

    /// What the poll threads did, in the order of their cores in the settings; then the I/O thread,
    /// if it has queues.
    #[must_use]
    pub fn threads(&self) -> Vec<ThreadStatistics> {
        let threads = self.threads.iter().enumerate();
        let all = threads.map(|(index, thread)| thread.statistics(index));
        all.filter(|thread| thread.core.is_some() || thread.queues > 0).collect()
    }
}
