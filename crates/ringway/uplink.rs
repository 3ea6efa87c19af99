//! An interface's port on the control thread. Its queues are the poll threads'; what stays here is
//! the interface itself: program, promiscuous mode, settings to restore.

use std::collections::BTreeMap;

use datapath::afxdp::{Interface, Settings, UmemPool, XdpQueue, ZeroCopy};
use datapath::MAX_QUEUES;

use crate::api::{AfXdpStatus, Refusal};
use crate::error_text::chain;

/// An interface that the switch has taken. Its queues must be dropped before it.
#[derive(Debug)]
pub(crate) struct Uplink {
    interface: Interface,
}

impl Uplink {
    /// Takes an interface. Returns it with its queues, one a channel.
    pub(crate) fn open(
        name: &str,
        zero_copy: ZeroCopy,
        force: bool,
        pool: &mut UmemPool,
    ) -> Result<(Self, Vec<XdpQueue>), Refusal> {
        let max_queues = u32::try_from(MAX_QUEUES).unwrap_or(u32::MAX);
        let settings = Settings { zero_copy, force, max_queues };
        let (interface, queues) = Interface::open(name, &settings, pool)
            .map_err(|error| Refusal { cause: chain(&error), ..Refusal::default() })?;
        Ok((Self { interface }, queues))
    }

    /// The interface's name, and how the switch reads it, for the log.
    pub(crate) fn describe(&self) -> String {
        format!(
            "{} in {} mode, {} queue(s), XDP program in {}",
            self.interface.name(),
            self.interface.mode().as_str(),
            self.interface.queue_count(),
            if self.interface.is_native() { "the driver" } else { "the kernel's generic code" },
        )
    }

    /// What the interface itself dropped since it was taken.
    pub(crate) fn drops(&self) -> BTreeMap<String, u64> {
        let statistics = self.interface.statistics();
        [
            ("rx_dropped", statistics.rx_dropped),
            ("rx_missed", statistics.rx_missed),
            ("rx_errors", statistics.rx_errors),
            ("tx_dropped", statistics.tx_dropped),
            ("tx_errors", statistics.tx_errors),
        ]
        .map(|(name, count)| (name.to_owned(), count))
        .into()
    }

    pub(crate) fn status(&self) -> AfXdpStatus {
        AfXdpStatus {
            interface: self.interface.name().to_owned(),
            mode: self.interface.mode().as_str().to_owned(),
            native: self.interface.is_native(),
            queues: self.interface.queue_count(),
            interface_drops: self.drops(),
        }
    }
}
