//! How a driver can break the virtqueue protocol.
//!
//! Everything a ring holds was written by the guest, which may be broken or hostile. Whatever it
//! writes leads to a frame, to a drop that is counted, or to a [`QueueFault`]; never to a panic,
//! a hang or an access outside its memory. A fault stops the one queue it happened on.

use std::fmt;

use crate::QueueSize;

/// An address in the guest's physical memory, as descriptors have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestAddress(pub u64);

impl fmt::Display for GuestAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:#x}", self.0)
    }
}

/// How a driver broke the virtqueue protocol.
///
/// Every variant but the last is a breach of VIRTIO 1.2 by the guest; the last is one by whoever
/// holds its memory. It stops the queue it happened on and nothing else. The text is to be logged
/// once per stop, never once per frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QueueFault {
    /// `avail_idx` ran further ahead of the used index than the ring is long (2.7.13.3).
    #[error("driver has {ahead} chains available on a queue of {size}")]
    TooManyAvailable {
        /// Distance from the published used index to `avail_idx`.
        ahead: u16,
        /// Length of the ring.
        size: QueueSize,
    },

    /// A head or `next` index points past its descriptor table.
    #[error("descriptor {index} is outside a table of {entries}")]
    IndexOutOfRange {
        /// The index.
        index: u16,
        /// Descriptors in the table, direct or indirect.
        entries: u32,
    },

    /// Longer than the queue (2.7.5.2), which only a loop can be, or than the 1,024 descriptors
    /// that a chain may have here; Linux drivers use at most 19.
    #[error("chain from head {head} has more than {limit} descriptors")]
    ChainTooLong {
        /// Where the chain starts.
        head: u16,
        /// Most descriptors a chain may have on this queue.
        limit: u16,
    },

    /// Device-writable parts must come last (2.7.4.2).
    #[error("descriptor {index} is device-readable after a device-writable one")]
    ReadableAfterWritable {
        /// The readable descriptor.
        index: u16,
    },

    /// A buffer of the receiveq is not device-writable (5.1.6.3).
    #[error("descriptor {index} of a receive buffer is not device-writable")]
    NotWritable {
        /// The readable descriptor.
        index: u16,
    },

    /// The buffer is not wholly inside the memory the front end gave us.
    #[error("buffer at {address} of {length_bytes} bytes is outside guest memory")]
    OutsideMemory {
        /// Where it starts.
        address: GuestAddress,
        /// Its length.
        length_bytes: u32,
    },

    /// An indirect descriptor without RING_INDIRECT_DESC (2.7.5.3.1).
    #[error("descriptor {index} is indirect, which was not negotiated")]
    IndirectNotNegotiated {
        /// The indirect descriptor.
        index: u16,
    },

    /// An indirect descriptor inside an indirect table (2.7.5.3.1).
    #[error("descriptor {index} of an indirect table is itself indirect")]
    NestedIndirect {
        /// Its place in the indirect table.
        index: u16,
    },

    /// INDIRECT and NEXT are both set (2.7.5.3.1).
    #[error("descriptor {index} is indirect and has a next one")]
    IndirectWithNext {
        /// The indirect descriptor.
        index: u16,
    },

    /// An indirect table is empty or not a whole number of descriptors (2.7.5.3.2).
    #[error("indirect table of {length_bytes} bytes is not a number of descriptors")]
    IndirectLength {
        /// Length of the table as described.
        length_bytes: u32,
    },

    /// A command on the control queue without a device-writable byte for its answer (5.1.6.5).
    #[error("control command has no room for its acknowledgement")]
    NoAcknowledgement,

    /// The file behind a memory region was truncated under us.
    #[error("guest memory was taken away by truncating its file")]
    MemoryLost,
}
