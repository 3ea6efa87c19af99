//! What a front end says about a ring before it is started, checked.
//!
//! A [`QueueSize`] is valid once it exists; a [`VringSetup`] is checked when a queue is made of
//! it. The addresses are the front end's own (VHOST_USER_SET_VRING_ADDR), so they are looked up
//! by user address; those inside descriptors are guest physical addresses.

use std::fmt;
use std::sync::Arc;

use crate::{Features, MemoryMap};

/// Number of descriptors of a split ring: a power of two from 1 to 32,768 (2.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueSize(u16);

impl QueueSize {
    /// The number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// What a free-running index is masked with to find its place in the ring.
    #[must_use]
    #[inline]
    pub(crate) const fn mask(self) -> u16 {
        self.0.wrapping_sub(1)
    }
}

impl fmt::Display for QueueSize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)
    }
}

/// The number cannot be the size of a split ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("queue size {0} is not a power of two from 1 to 32768")]
pub struct InvalidQueueSize(pub u32);

impl TryFrom<u32> for QueueSize {
    type Error = InvalidQueueSize;

    fn try_from(number: u32) -> Result<Self, Self::Error> {
        let size = u16::try_from(number).map_err(|_| InvalidQueueSize(number))?;
        if size.is_power_of_two() { Ok(Self(size)) } else { Err(InvalidQueueSize(number)) }
    }
}

/// The three parts of a ring in the front end's own address space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VringAddresses {
    /// Start of the descriptor table.
    pub descriptor_table: u64,
    /// Start of the available ring.
    pub available_ring: u64,
    /// Start of the used ring.
    pub used_ring: u64,
}

/// All that is needed to work a ring.
#[derive(Debug, Clone)]
pub struct VringSetup {
    /// The guest's memory of this generation.
    pub memory: Arc<MemoryMap>,
    /// Number of descriptors.
    pub size: QueueSize,
    /// Where the ring lies.
    pub addresses: VringAddresses,
    /// The index to start at, as SET_VRING_BASE has it. The used index that lies in the ring wins
    /// where it differs: every chain from there on is still owed to the driver, because we give
    /// back in order. Cloud Hypervisor sends `avail_idx` here after a reconnect, which would
    /// lose every buffer the guest has posted.
    pub next: u16,
    /// What the driver acknowledged.
    pub features: Features,
}

/// A part of a ring, for messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RingPart {
    /// The descriptor table.
    DescriptorTable,
    /// The available ring.
    AvailableRing,
    /// The used ring.
    UsedRing,
}

impl fmt::Display for RingPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DescriptorTable => "descriptor table",
            Self::AvailableRing => "available ring",
            Self::UsedRing => "used ring",
        })
    }
}

/// Why a queue cannot be made of a [`VringSetup`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Not wholly inside one region. It may be there again soon: QEMU removes and adds regions
    /// under live rings, so the caller pauses the ring and tries again with the next memory.
    #[error("{part} at {user_address:#x} is not in guest memory")]
    RingOutsideMemory {
        /// Which part.
        part: RingPart,
        /// Its address in the front end's address space.
        user_address: u64,
    },

    /// Not aligned as 2.7 asks: 16 bytes for the table, 2 and 4 for the rings.
    #[error("{part} at {user_address:#x} is not aligned")]
    Misaligned {
        /// Which part.
        part: RingPart,
        /// Its address in the front end's address space.
        user_address: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_size_is_a_power_of_two_up_to_32768() {
        assert_eq!(QueueSize::try_from(1).map(QueueSize::get), Ok(1));
        assert_eq!(QueueSize::try_from(32_768).map(QueueSize::get), Ok(32_768));
        assert_eq!(QueueSize::try_from(0), Err(InvalidQueueSize(0)));
        assert_eq!(QueueSize::try_from(3), Err(InvalidQueueSize(3)));
        assert_eq!(QueueSize::try_from(65_536), Err(InvalidQueueSize(65_536)));
        assert_eq!(QueueSize::try_from(65_537), Err(InvalidQueueSize(65_537)));
    }
}
