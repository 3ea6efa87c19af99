//! What the kernel counts at one socket (`XDP_STATISTICS`; af_xdp.rst): for reports. Most of it is
//! frames that were lost before or behind the rings, where nobody else counts them.

use std::os::fd::BorrowedFd;

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
