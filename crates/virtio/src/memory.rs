//! A guest's memory: its regions by address, and the translation of addresses into extents here.
//!
//! A map never changes. When the front end adds or removes a region, a new map is made of the
//! same [`GuestRegion`]s and the queues are started anew with it.
//!
//! Guest addresses are translated once a descriptor, so each queue keeps a [`Translator`] with
//! its own copy of the region it found last: two comparisons if the guess holds, a binary search
//! if not. A buffer may run on from one region into the next where their guest addresses touch;
//! it comes out as one [`Piece`] a region.

use std::io;
use std::sync::Arc;

use crate::fault::GuestAddress;
use crate::region::HostAddress;
use crate::{GuestRegion, QueueFault, sigbus};

/// Most regions of a guest: what QEMU's memory slots and DPDK allow.
pub const MAX_REGIONS: usize = 509;

/// Why memory from a front end is refused.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A region without bytes.
    #[error("memory region at {guest_address:#x} is empty")]
    Empty {
        /// Its guest physical address.
        guest_address: u64,
    },
    /// An address or file offset plus the size is past 2^64.
    #[error("memory region of {size_bytes} bytes at {address:#x} wraps around")]
    AddressWraps {
        /// The guest or user address or the file offset.
        address: u64,
        /// The region's size.
        size_bytes: u64,
    },
    /// More than this process can map.
    #[error("memory region of {size_bytes} bytes is too large")]
    TooLarge {
        /// The region's size.
        size_bytes: u64,
    },
    /// Touching the region's end would raise SIGBUS.
    #[error("file of a memory region has {file_bytes} bytes and needs {needed_bytes}")]
    FileTooShort {
        /// Length of the file.
        file_bytes: u64,
        /// Where the region ends in it.
        needed_bytes: u64,
    },
    /// Two regions have guest addresses in common.
    #[error("memory regions at {first:#x} and {second:#x} overlap")]
    Overlap {
        /// Guest physical address of the lower one.
        first: u64,
        /// Guest physical address of the higher one.
        second: u64,
    },
    /// More than [`MAX_REGIONS`].
    #[error("{0} memory regions are more than 509")]
    TooManyRegions(usize),
    /// The host refused.
    #[error("cannot {call} a memory region")]
    Call {
        /// The system call.
        call: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// The regions of one guest, in the order of their guest addresses.
#[derive(Debug)]
pub struct MemoryMap {
    regions: Vec<Arc<GuestRegion>>,
}

impl MemoryMap {
    /// The map of these regions, in any order. No regions at all is a valid map.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Overlap`] if two have guest addresses in common (user addresses may: front
    /// ends map aliases), [`MemoryError::TooManyRegions`].
    pub fn new(mut regions: Vec<Arc<GuestRegion>>) -> Result<Self, MemoryError> {
        if regions.len() > MAX_REGIONS {
            return Err(MemoryError::TooManyRegions(regions.len()));
        }
        regions.sort_by_key(|region| region.guest_address());
        for pair in regions.windows(2) {
            let distance = pair[1].guest_address().wrapping_sub(pair[0].guest_address());
            if distance < pair[0].size_bytes() {
                let (first, second) = (pair[0].guest_address(), pair[1].guest_address());
                return Err(MemoryError::Overlap { first, second });
            }
        }
        Ok(Self { regions })
    }

    /// The regions, by rising guest address.
    #[must_use]
    pub fn regions(&self) -> &[Arc<GuestRegion>] {
        &self.regions
    }

    /// Says whether the file of any of its regions was truncated under us.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.regions.iter().any(|region| region.is_poisoned())
    }

    /// Where `length_bytes` at a front end's address lie here, if wholly inside one region.
    pub(crate) fn resolve_user(&self, address: u64, length_bytes: u64) -> Option<HostAddress> {
        self.regions
            .iter()
            .find_map(|region| Extent::of_user(region).resolve(address, length_bytes))
    }

    /// The guest address of a byte of one of its regions.
    pub(crate) fn guest_address_of(&self, host: HostAddress) -> Option<u64> {
        self.regions.iter().find_map(|region| {
            let offset = host.0.addr().wrapping_sub(region.host().0.addr()) as u64;
            (offset < region.size_bytes()).then(|| region.guest_address().wrapping_add(offset))
        })
    }

    /// The region that a guest address lies in.
    fn extent_around(&self, address: u64) -> Option<Extent> {
        let after = self.regions.partition_point(|region| region.guest_address() <= address);
        let extent = Extent::of_guest(self.regions.get(after.checked_sub(1)?)?);
        (address.wrapping_sub(extent.start) < extent.size_bytes).then_some(extent)
    }
}

/// A range of addresses and where it lies here.
#[derive(Debug, Clone, Copy)]
struct Extent {
    start: u64,
    size_bytes: u64,
    host: HostAddress,
}

impl Extent {
    /// Holds no address.
    const NOWHERE: Self = Self { start: 0, size_bytes: 0, host: HostAddress(std::ptr::null_mut()) };

    fn of_guest(region: &GuestRegion) -> Self {
        let (start, size_bytes) = (region.guest_address(), region.size_bytes());
        Self { start, size_bytes, host: region.host() }
    }

    fn of_user(region: &GuestRegion) -> Self {
        Self { start: region.user_address(), ..Self::of_guest(region) }
    }

    /// Where `length_bytes` at `address` lie, if wholly inside.
    #[inline]
    fn resolve(&self, address: u64, length_bytes: u64) -> Option<HostAddress> {
        let offset = address.wrapping_sub(self.start);
        #[expect(clippy::cast_possible_truncation, reason = "used if inside a mapped region")]
        let host = HostAddress(self.host.0.wrapping_add(offset as usize));
        (offset < self.size_bytes && length_bytes <= self.size_bytes.wrapping_sub(offset))
            .then_some(host)
    }
}

/// Bytes of a buffer that lie in one region: inside its mapping as long as the map lives.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    /// First byte.
    pub(crate) host: HostAddress,
    /// Length in bytes; not zero.
    pub(crate) length_bytes: u32,
}

impl Piece {
    /// What holds the place of a piece.
    pub(crate) const NONE: Self = Self { host: HostAddress(std::ptr::null_mut()), length_bytes: 0 };
}

/// A map, and the region in which the last address was found.
#[derive(Debug)]
pub(crate) struct Translator {
    map: Arc<MemoryMap>,
    last: Extent,
    /// Regions lost in the whole process when we last looked at ours.
    seen_poisonings: u64,
}

impl Translator {
    pub(crate) fn new(map: Arc<MemoryMap>) -> Self {
        // One less than now, so that the first look is a thorough one.
        let seen_poisonings = sigbus::poisonings().wrapping_sub(1);
        Self { map, last: Extent::NOWHERE, seen_poisonings }
    }

    /// The map.
    pub(crate) const fn map(&self) -> &Arc<MemoryMap> {
        &self.map
    }

    /// Refuses to go on if a region was lost. One load if none was, anywhere.
    #[inline]
    pub(crate) fn check_alive(&mut self) -> Result<(), QueueFault> {
        let poisonings = sigbus::poisonings();
        if poisonings != self.seen_poisonings {
            if self.map.is_poisoned() {
                return Err(QueueFault::MemoryLost);
            }
            self.seen_poisonings = poisonings;
        }
        Ok(())
    }

    /// A buffer as one piece, if it lies wholly in the region in which the last address was found.
    #[inline(always)]
    pub(crate) fn piece(&self, address: u64, length_bytes: u32) -> Option<Piece> {
        let host = self.last.resolve(address, u64::from(length_bytes))?;
        (length_bytes > 0).then_some(Piece { host, length_bytes })
    }

    /// Where `length_bytes` at a guest address lie, if wholly inside one region.
    #[inline]
    pub(crate) fn resolve(&mut self, address: u64, length_bytes: u32) -> Option<HostAddress> {
        if let Some(host) = self.last.resolve(address, u64::from(length_bytes)) {
            return Some(host);
        }
        self.last = self.map.extent_around(address)?;
        self.last.resolve(address, u64::from(length_bytes))
    }

    /// Hands the pieces of a buffer to `sink`: one, or more where it runs on into touching
    /// regions. None for a buffer of no bytes, whose address does not matter.
    ///
    /// # Errors
    ///
    /// [`QueueFault::OutsideMemory`], perhaps after some pieces were handed over.
    #[inline]
    pub(crate) fn translate(
        &mut self,
        address: u64,
        length_bytes: u32,
        mut sink: impl FnMut(Piece),
    ) -> Result<(), QueueFault> {
        if length_bytes == 0 {
            return Ok(());
        }
        if let Some(piece) = self.piece(address, length_bytes) {
            sink(piece);
            return Ok(());
        }
        self.translate_slowly(address, length_bytes, &mut sink)
    }

    #[cold]
    fn translate_slowly(
        &mut self,
        address: u64,
        length_bytes: u32,
        sink: &mut dyn FnMut(Piece),
    ) -> Result<(), QueueFault> {
        let outside = QueueFault::OutsideMemory { address: GuestAddress(address), length_bytes };
        let (mut at, mut left) = (address, length_bytes);
        while left > 0 {
            let extent = self.map.extent_around(at).ok_or(outside)?;
            let room = extent.size_bytes.wrapping_sub(at.wrapping_sub(extent.start));
            let here = u32::try_from(room).map_or(left, |room| room.min(left));
            let host = extent.resolve(at, u64::from(here)).ok_or(outside)?;
            sink(Piece { host, length_bytes: here });
            self.last = extent;
            left = left.wrapping_sub(here);
            at = at.wrapping_add(u64::from(here));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestMemory, memory_file};

    fn region(guest_address: u64, size_bytes: u64) -> Arc<GuestRegion> {
        GuestRegion::map(memory_file(size_bytes), guest_address, size_bytes, 0, 0).unwrap()
    }

    fn lengths(map: &TestMemory, address: u64, length_bytes: u32) -> Option<Vec<u32>> {
        let mut lengths = Vec::new();
        Translator::new(map.map())
            .translate(address, length_bytes, |piece| lengths.push(piece.length_bytes))
            .ok()
            .map(|()| lengths)
    }

    #[test]
    fn regions_that_overlap_are_refused_in_any_order() {
        let refused = MemoryMap::new(vec![region(0x2000, 0x1000), region(0x1000, 0x1001)]);

        assert!(matches!(
            refused.unwrap_err(),
            MemoryError::Overlap { first: 0x1000, second: 0x2000 }
        ));
    }

    #[test]
    fn regions_that_touch_are_accepted_and_sorted() {
        let map = MemoryMap::new(vec![region(0x2000, 0x1000), region(0x1000, 0x1000)]).unwrap();

        let starts: Vec<_> = map.regions().iter().map(|region| region.guest_address()).collect();

        assert_eq!(starts, [0x1000, 0x2000]);
    }

    #[test]
    fn there_may_be_509_regions_and_no_more() {
        let region = region(0, 0x1000);

        let refused = MemoryMap::new(vec![region; 510]).unwrap_err();

        assert!(matches!(refused, MemoryError::TooManyRegions(510)));
    }

    #[test]
    fn buffer_is_split_where_regions_touch() {
        let memory =
            TestMemory::with_regions(&[(0x2000, 0x1000), (0x1000, 0x1000), (0x4000, 0x1000)]);

        assert_eq!(lengths(&memory, 0x1000, 0x2000), Some(vec![0x1000, 0x1000]));
        assert_eq!(lengths(&memory, 0x1fff, 2), Some(vec![1, 1]));
        assert_eq!(lengths(&memory, 0x4000, 0x1000), Some(vec![0x1000]));
        assert_eq!(lengths(&memory, 0x9999, 0), Some(vec![]));
    }

    #[test]
    fn buffer_that_reaches_into_a_gap_is_outside() {
        let memory = TestMemory::with_regions(&[(0x1000, 0x1000), (0x4000, 0x1000)]);

        assert_eq!(lengths(&memory, 0x1fff, 2), None);
        assert_eq!(lengths(&memory, 0x0fff, 2), None);
        assert_eq!(lengths(&memory, 0x3fff, 2), None);
        assert_eq!(lengths(&memory, 0x4fff, 2), None);
        assert_eq!(lengths(&memory, u64::MAX, u32::MAX), None);
    }

    #[test]
    fn map_without_regions_resolves_nothing() {
        let map = MemoryMap::new(Vec::new()).unwrap();

        assert!(map.resolve_user(0, 1).is_none());
        assert!(map.extent_around(0).is_none());
    }
}
