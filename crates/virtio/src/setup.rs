//! What a front end says about a ring before it is started, checked.
//!
//! A [`QueueSize`] is valid once it exists; a [`VringSetup`] is checked when a queue is made of
//! it. The addresses are the front end's own (VHOST_USER_SET_VRING_ADDR), so they are looked up
//! by user address; those inside descriptors are guest physical addresses.

use std::fmt;
use std::sync::Arc;

use crate::{Features, MemoryMap};

/// Number of descriptors of a ring: from 1 to 32,768, and a power of two in a split one (2.7, 2.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueSize(u16);

impl QueueSize {
    /// The number.
    #[must_use]
    #[inline]
    pub const fn get(self) -> u16 {
        self.0
    }

    /// The number, if a ring of a driver with these features can have it.
    ///
    /// # Errors
    ///
    /// [`InvalidQueueSize`].
    pub fn new(number: u32, features: Features) -> Result<Self, InvalidQueueSize> {
        let is_packed = features.contains(Features::RING_PACKED);
        match u16::try_from(number) {
            Ok(size @ 1..=0x8000) if is_packed || size.is_power_of_two() => Ok(Self(size)),
            _ => Err(InvalidQueueSize { number, is_packed }),
        }
    }

    /// What a free-running index is masked with to find its place in a ring whose size is a power
    /// of two.
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

/// The number cannot be the size of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "queue size {number} is not {}from 1 to 32768",
    if *is_packed { "" } else { "a power of two " }
)]
pub struct InvalidQueueSize {
    /// The number.
    pub number: u32,
    /// The ring is a packed one.
    pub is_packed: bool,
}

/// The three parts of a ring in the front end's own address space, by the names of a split one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VringAddresses {
    /// Start of the descriptor table, or of a packed ring.
    pub descriptor_table: u64,
    /// Start of the available ring, or of a packed ring's driver area.
    pub available_ring: u64,
    /// Start of the used ring, or of a packed ring's device area.
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
    /// Where to start, as SET_VRING_BASE has it. A split ring knows better (see its `start`).
    pub base: u32,
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
    /// A packed ring's descriptors.
    DescriptorRing,
    /// A packed ring's driver area.
    DriverArea,
    /// A packed ring's device area.
    DeviceArea,
}

impl fmt::Display for RingPart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::DescriptorTable => "descriptor table",
            Self::AvailableRing => "available ring",
            Self::UsedRing => "used ring",
            Self::DescriptorRing => "descriptor ring",
            Self::DriverArea => "driver area",
            Self::DeviceArea => "device area",
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

    /// Not aligned as 2.7 and 2.8 ask: 16 bytes for descriptors, 2 for an available ring, 4 else.
    #[error("{part} at {user_address:#x} is not aligned")]
    Misaligned {
        /// Which part.
        part: RingPart,
        /// Its address in the front end's address space.
        user_address: u64,
    },

    /// Split rings have a power of two of descriptors (2.7).
    #[error("queue size {size} is not a power of two")]
    SizeNotPowerOfTwo {
        /// The size.
        size: QueueSize,
    },

    /// A packed ring has no such descriptor.
    #[error("base {base:#x} is outside a ring of {size}")]
    BaseOutsideRing {
        /// As the front end sent it.
        base: u32,
        /// Length of the ring.
        size: QueueSize,
    },

    /// A packed ring was worked before, and the base says that it was not: whoever worked it ended
    /// without a word. Where it stopped does not show in the ring.
    #[error(
        "a packed ring was worked before and nobody knows up to where: \
         the guest's driver must start anew"
    )]
    StaleBase,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(number: u32) -> Result<u16, ()> {
        QueueSize::new(number, Features::NONE).map(QueueSize::get).map_err(drop)
    }

    fn packed(number: u32) -> Result<u16, ()> {
        QueueSize::new(number, Features::RING_PACKED).map(QueueSize::get).map_err(drop)
    }

    #[test]
    fn size_of_a_split_ring_is_a_power_of_two_up_to_32768() {
        assert_eq!(split(1), Ok(1));
        assert_eq!(split(32_768), Ok(32_768));
        for refused in [0, 3, 65_536, 65_537] {
            assert_eq!(split(refused), Err(()), "{refused}");
        }
    }

    #[test]
    fn size_of_a_packed_ring_is_any_up_to_32768() {
        assert_eq!(packed(1), Ok(1));
        assert_eq!(packed(3), Ok(3));
        assert_eq!(packed(32_768), Ok(32_768));
        for refused in [0, 32_769, 65_536, 65_537] {
            assert_eq!(packed(refused), Err(()), "{refused}");
        }
    }
}
