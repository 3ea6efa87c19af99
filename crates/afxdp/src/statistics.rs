//! What the kernel counts at one socket (`XDP_STATISTICS`; af_xdp.rst) and at an interface
//! (/sys/class/net/*/statistics): for reports. Most of it is frames that were lost before or behind
//! the rings, where nobody else counts them.

use std::fs;
use std::os::fd::BorrowedFd;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::sys;

/// The kernel's counters of one socket (`XDP_STATISTICS`), in frames since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct XdpStatistics {
    /// Dropped for another reason than those below, such as a frame longer than a chunk.
    pub rx_dropped: u64,
    /// Fill ring entries that were no chunk.
    pub rx_invalid_descriptors: u64,
    /// Tx descriptors that were not within a chunk.
    pub tx_invalid_descriptors: u64,
    /// Dropped because the rx ring was full: we were too slow.
    pub rx_ring_full: u64,
    /// Times the fill ring was found empty: chunks were lent for too long.
    pub rx_fill_ring_empty: u64,
    /// Times the tx ring was found empty.
    pub tx_ring_empty: u64,
}

impl XdpStatistics {
    /// Reads the counters of an AF_XDP socket, with a system call. For whoever reports: it may
    /// hold a duplicate of [`XdpQueue::as_fd`](crate::XdpQueue::as_fd) while a poll thread owns
    /// the queue, and closes it before the queue is dropped.
    #[must_use]
    pub fn read(socket: BorrowedFd<'_>) -> Self {
        let raw =
            sys::get_option::<libc::xdp_statistics>(socket, libc::SOL_XDP, libc::XDP_STATISTICS);
        raw.map_or_else(
            |_| Self::default(),
            |raw| Self {
                rx_dropped: raw.rx_dropped,
                rx_invalid_descriptors: raw.rx_invalid_descs,
                tx_invalid_descriptors: raw.tx_invalid_descs,
                rx_ring_full: raw.rx_ring_full,
                rx_fill_ring_empty: raw.rx_fill_ring_empty_descs,
                tx_ring_empty: raw.tx_ring_empty_descs,
            },
        )
    }
}

/// The interface's own counters, in frames since it was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkStatistics {
    /// Received and dropped by the kernel or driver.
    pub rx_dropped: u64,
    /// Not received for want of room in the NIC.
    pub rx_missed: u64,
    /// Received damaged.
    pub rx_errors: u64,
    /// Dropped on the way out.
    pub tx_dropped: u64,
    /// Not sent because of an error.
    pub tx_errors: u64,
}

impl LinkStatistics {
    /// Reads the counters of an interface, which begin when its driver says. One that cannot be read
    /// is zero.
    pub(crate) fn read(interface: &str) -> Self {
        let directory = Path::new("/sys/class/net").join(interface).join("statistics");
        let read = |name| {
            let text = fs::read_to_string(directory.join(name)).unwrap_or_default();
            text.trim().parse().unwrap_or(0)
        };
        Self {
            rx_dropped: read("rx_dropped"),
            rx_missed: read("rx_missed_errors"),
            rx_errors: read("rx_errors"),
            tx_dropped: read("tx_dropped"),
            tx_errors: read("tx_errors"),
        }
    }

    /// What was counted since.
    pub(crate) const fn since(self, then: Self) -> Self {
        Self {
            rx_dropped: self.rx_dropped.saturating_sub(then.rx_dropped),
            rx_missed: self.rx_missed.saturating_sub(then.rx_missed),
            rx_errors: self.rx_errors.saturating_sub(then.rx_errors),
            tx_dropped: self.tx_dropped.saturating_sub(then.tx_dropped),
            tx_errors: self.tx_errors.saturating_sub(then.tx_errors),
        }
    }
}
