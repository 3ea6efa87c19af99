//! A packed ring: one ring of descriptors that the driver fills and the device overwrites with what
//! it used (VIRTIO 1.2, 2.8).
//!
//! ```text
//!   descriptor ring    16 bytes each: address 8, length 4, id 2, flags 2          (2.8.13)
//!   driver area        off_wrap 2, flags 2: which used descriptor the driver waits for
//!   device area        off_wrap 2, flags 2: which available descriptor we wait for   (2.8.14)
//!
//!        published            next
//!            ▼                  ▼
//!   ───┬───┬───┬───┬───┬───┬───┬───┬───   a chain takes as many slots as it has descriptors, and its
//!      │ U │ A   A │ A │ A   A │ A │ ?    used descriptor lies in the first of them; the wrap counter
//!   ───┴───┴───────┴───┴───────┴───┴───   says what A(vailable) and U(sed) look like in this lap
//! ```
//!
//! Orders: the flags of a chain's first descriptor are loaded with Acquire, so that the chain is seen;
//! of the used descriptors that are published together, the first one's flags are stored last, with
//! Release: the driver looks at no later one before it has seen that. All else is Relaxed.

#![allow(unsafe_code)]

use std::sync::atomic::Ordering;

use frame::{prefetch, prefetch_for_writing};

use super::{
    DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE, DESCRIPTORS_A_LINE,
    Descriptor, Position, Ring, find, load_u32, load_u64, store_u16, store_u32, store_u64,
};
use crate::chain::Walk;
use crate::memory::Piece;
use crate::region::HostAddress;
use crate::setup::{RingPart, SetupError, VringSetup};
use crate::{Features, MemoryMap, QueueFault, QueueSize, VringLog};

/// `VIRTQ_DESC_F_AVAIL` and `VIRTQ_DESC_F_USED` (2.8.1).
const DESCRIPTOR_AVAILABLE: u16 = 1 << 7;
const DESCRIPTOR_USED: u16 = 1 << 15;

/// The wrap counter in a base and in an `off_wrap` (2.8.14).
const WRAP: u16 = 1 << 15;

/// `RING_EVENT_FLAGS_ENABLE`, `_DISABLE` and `_DESC` (2.8.14), behind `off_wrap`.
const EVENTS_ENABLED: u32 = 0;
const EVENTS_DISABLED: u32 = 1 << 16;
const EVENTS_AT_DESCRIPTOR: u32 = 2 << 16;

/// A packed ring in guest memory.
#[derive(Debug)]
pub(crate) struct Packed {
    descriptors: HostAddress,
    driver_area: HostAddress,
    device_area: HostAddress,
    size: QueueSize,
    has_event_index: bool,
    /// The first used descriptor that was written and not published: its slot, and its flags.
    unpublished: Option<(u16, u16)>,
}

/// Where a chain starts, in which lap, and the how-many-th it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    number: u16,
    slot: u16,
    wrap: bool,
}

impl Place {
    /// As `off_wrap` and bases have it.
    const fn to_bits(self) -> u16 {
        if self.wrap { self.slot | WRAP } else { self.slot }
    }
}

impl Position for Place {
    #[inline]
    fn number(self) -> u16 {
        self.number
    }

    /// Both halves, for the driver's end and for ours: they are one where a ring stops.
    fn base(self) -> u32 {
        let bits = u32::from(self.to_bits());
        bits | bits << 16
    }
}

/// What goes back to the driver of a chain.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Head {
    /// The buffer id, the driver's own affair.
    id: u16,
    /// How many slots it takes.
    descriptors: u16,
}

impl Ring for Packed {
    type Position = Place;
    type Head = Head;

    unsafe fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let (memory, addresses) = (&setup.memory, &setup.addresses);
        let bytes = u64::from(DESCRIPTOR_BYTES) * u64::from(setup.size.get());
        let ring = RingPart::DescriptorRing;
        let (driver, device) = (RingPart::DriverArea, RingPart::DeviceArea);
        Ok(Self {
            descriptors: find(memory, ring, addresses.descriptor_table, bytes, 16)?,
            driver_area: find(memory, driver, addresses.available_ring, 4, 4)?,
            device_area: find(memory, device, addresses.used_ring, 4, 4)?,
            size: setup.size,
            has_event_index: setup.features.contains(Features::RING_EVENT_IDX),
            unpublished: None,
        })
    }

    /// QEMU sends the driver's end in the lower half and ours in the upper one; every chain from ours
    /// on is still owed to the driver, because we give back in order. DPDK sends the lower half alone.
    /// User Mode Linux sends 0 for a new ring, which leaves out that its first lap counts as 1.
    fn start(&self, base: u32) -> Result<Place, SetupError> {
        #[expect(clippy::cast_possible_truncation, reason = "takes the halves apart")]
        let (lower, upper) = (base as u16, (base >> 16) as u16);
        let bits = if upper == 0 { lower } else { upper };
        let slot = bits & !WRAP;
        if slot >= self.size.get() {
            return Err(SetupError::BaseOutsideRing { base, size: self.size });
        }
        let start = Place { number: 0, slot, wrap: bits & WRAP != 0 };
        match start.to_bits() {
            WRAP if self.was_worked() => Err(SetupError::StaleBase),
            0 if !self.was_worked() => Ok(Place { wrap: true, ..start }),
            _ => Ok(start),
        }
    }

    #[inline]
    fn after(&self, position: Place, head: Head) -> Place {
        let slot = position.slot + head.descriptors;
        let number = position.number.wrapping_add(1);
        if slot >= self.size.get() {
            Place { number, slot: slot - self.size.get(), wrap: !position.wrap }
        } else {
            Place { number, slot, wrap: position.wrap }
        }
    }

    #[inline]
    fn available(&self, _published: Place, next: Place) -> Result<u16, QueueFault> {
        // How many it is shows in walking: each says where the next one is.
        Ok(if self.has_available(next) { self.size.get() } else { 0 })
    }

    #[inline]
    fn has_available(&self, next: Place) -> bool {
        is_available(self.rest(next.slot), next.wrap)
    }

    fn estimate_available(&self, next: Place, limit: u16) -> u16 {
        let mut ahead = 0;
        while ahead < limit {
            let at = self.after(next, Head { id: 0, descriptors: ahead.min(self.size.get()) });
            if !is_available(self.rest(at.slot), at.wrap) {
                break;
            }
            ahead += DESCRIPTORS_A_LINE;
        }
        ahead.min(limit)
    }

    #[inline]
    fn walk<Sink: FnMut(Piece)>(
        &self,
        published: Place,
        next: Place,
        walk: &mut Walk<'_, Sink>,
    ) -> Result<Option<Head>, QueueFault> {
        let mut rest = self.rest(next.slot);
        if !is_available(rest, next.wrap) {
            return Ok(None);
        }
        let size = self.size.get();
        let room = size.wrapping_sub(self.distance(published, next));
        let (mut slot, mut descriptors) = (next.slot, 1);
        loop {
            if descriptors > room {
                let ahead = size.saturating_add(1);
                return Err(QueueFault::TooManyAvailable { ahead, size: self.size });
            }
            let descriptor = self.descriptor(slot, rest);
            // The id of a chain's last descriptor counts (2.8.6).
            let head = Head { id: descriptor.next, descriptors };
            if descriptor.flags & DESCRIPTOR_INDIRECT != 0 {
                walk.check_indirect(slot, descriptor)?;
                walk.flat_table(slot, descriptor)?;
                return Ok(Some(head));
            }
            walk.direct(slot, descriptor)?;
            if descriptor.flags & DESCRIPTOR_NEXT == 0 {
                return Ok(Some(head));
            }
            walk.check_length(next.slot)?;
            slot = if slot + 1 == size { 0 } else { slot + 1 };
            rest = self.rest(slot);
            descriptors += 1;
        }
    }

    #[inline(always)]
    fn single(&self, published: Place, next: Place) -> Option<(Head, Descriptor)> {
        let rest = self.rest(next.slot);
        let descriptor = self.descriptor(next.slot, rest);
        let is_there = is_available(rest, next.wrap)
            && self.distance(published, next) < self.size.get()
            && descriptor.flags & DESCRIPTOR_NEXT == 0;
        is_there.then_some((Head { id: descriptor.next, descriptors: 1 }, descriptor))
    }

    #[inline]
    fn prefetch_chains(&self, next: Place, count: u16) {
        for ahead in (0..count).step_by(DESCRIPTORS_A_LINE.into()) {
            self.prefetch_chain(next, ahead);
        }
    }

    #[inline]
    fn prefetch_chain(&self, next: Place, ahead: u16) {
        prefetch(self.at(self.slot_behind(next, ahead)).0);
    }

    #[inline]
    fn prefetch_used(&self, next: Place, count: u16) {
        for ahead in (0..count).step_by(DESCRIPTORS_A_LINE.into()) {
            prefetch_for_writing(self.at(self.slot_behind(next, ahead)).0);
        }
    }

    #[inline]
    fn set_used(&mut self, position: Place, head: Head, written_bytes: u32) {
        let lap = if position.wrap { DESCRIPTOR_AVAILABLE | DESCRIPTOR_USED } else { 0 };
        let written = if written_bytes > 0 { DESCRIPTOR_WRITE } else { 0 };
        let flags = lap | written;
        let at = self.at(position.slot).0.wrapping_add(8);
        let visible = if self.unpublished.is_some() {
            flags
        } else {
            self.unpublished = Some((position.slot, flags));
            // As it was when the chain was found: available, not used.
            flags ^ DESCRIPTOR_USED
        };
        let rest = u64::from(written_bytes) | u64::from(head.id) << 32 | u64::from(visible) << 48;
        // SAFETY: a slot inside the ring, whose extent and alignment `find` checked.
        unsafe { store_u64(at, rest.to_le()) };
    }

    #[inline]
    fn publish_used(&mut self, _next: Place) {
        let Some((slot, flags)) = self.unpublished.take() else { return };
        let at = self.at(slot).0.wrapping_add(14);
        // SAFETY: a slot inside the ring, whose extent and alignment `find` checked.
        unsafe { store_u16(at, flags.to_le(), Ordering::Release) };
    }

    #[inline]
    fn prefetch_awaited(&self) {
        prefetch(self.driver_area.0);
    }

    #[inline]
    fn is_awaited(&self, old: Place, new: Place) -> bool {
        // SAFETY: the driver area, whose extent and alignment `find` checked.
        let events = u32::from_le(unsafe { load_u32(self.driver_area.0) });
        #[expect(clippy::cast_possible_truncation, reason = "takes the fields apart")]
        let off_wrap = events as u16;
        match events & !u32::from(u16::MAX) {
            EVENTS_DISABLED => false,
            EVENTS_AT_DESCRIPTOR if self.has_event_index => {
                let event = Place { number: 0, slot: off_wrap & !WRAP, wrap: off_wrap & WRAP != 0 };
                self.distance(old, event) < self.distance(old, new)
            }
            // Reserved values as well: better told than asleep.
            _ => true,
        }
    }

    fn ask_for_notification(&self, next: Place) {
        self.set_events(if self.has_event_index {
            EVENTS_AT_DESCRIPTOR | u32::from(next.to_bits())
        } else {
            EVENTS_ENABLED
        });
    }

    fn decline_notifications(&self, _next: Place) {
        self.set_events(EVENTS_DISABLED);
    }

    /// The ring itself is guest memory like any other: the log's address is that of the device area.
    #[cold]
    fn log_used(&self, log: &VringLog, map: &MemoryMap, old: Place, new: Place) {
        let mark = |from: u16, to: u16| {
            let offset = usize::from(from) * DESCRIPTOR_BYTES as usize;
            let at = HostAddress(self.descriptors.0.wrapping_add(offset));
            log.mark_host(map, at, u64::from(DESCRIPTOR_BYTES) * u64::from(to - from));
        };
        if old.wrap == new.wrap {
            mark(old.slot, new.slot);
        } else {
            mark(old.slot, self.size.get());
            mark(0, new.slot);
        }
    }

    #[cold]
    fn log_events(&self, log: &VringLog) {
        log.mark_used_ring(0, 4);
    }
}

impl Packed {
    /// A descriptor of the ring. `slot` is inside it.
    #[inline]
    fn at(&self, slot: u16) -> HostAddress {
        debug_assert!(slot < self.size.get(), "slot {slot} of {}", self.size);
        let offset = usize::from(slot) * DESCRIPTOR_BYTES as usize;
        HostAddress(self.descriptors.0.wrapping_add(offset))
    }

    /// The slot that is `ahead` behind a place, for a hint; `ahead` may be anything.
    #[inline]
    fn slot_behind(&self, place: Place, ahead: u16) -> u16 {
        let slot = u32::from(place.slot) + u32::from(ahead);
        let size = u32::from(self.size.get());
        #[expect(clippy::cast_possible_truncation, reason = "less than the size")]
        let slot = if slot < size { slot } else { slot % size } as u16;
        slot
    }

    /// Length, id and flags of a descriptor, and with them all that the driver wrote before.
    #[inline]
    fn rest(&self, slot: u16) -> u64 {
        // SAFETY: a slot inside the ring, whose extent and alignment `find` checked.
        unsafe { load_u64(self.at(slot).0.wrapping_add(8), Ordering::Acquire) }
    }

    /// A copy of a descriptor whose second half was read.
    #[inline]
    fn descriptor(&self, slot: u16, rest: u64) -> Descriptor {
        // SAFETY: a slot inside the ring, whose extent and alignment `find` checked.
        Descriptor::from_packed_words(unsafe { load_u64(self.at(slot).0, Ordering::Relaxed) }, rest)
    }

    /// How many slots lie from one place to another, which is not before it: up to twice the size
    /// less one, as far as two laps can be told apart.
    #[inline]
    fn distance(&self, from: Place, to: Place) -> u16 {
        let size = i32::from(self.size.get());
        let lap = if from.wrap == to.wrap { 0 } else { size };
        let distance = i32::from(to.slot) - i32::from(from.slot) + lap;
        let distance = if distance < 0 { distance + 2 * size } else { distance };
        u16::try_from(distance).unwrap_or(u16::MAX)
    }

    /// Says whether some device has used descriptors of this ring and not ended with a whole number of
    /// rounds: in its first lap a driver never sets USED, and where every second lap ends, none is
    /// left that has it.
    fn was_worked(&self) -> bool {
        (0..self.size.get()).any(|slot| u64::from_le(self.rest(slot)) >> 63 != 0)
    }

    fn set_events(&self, events: u32) {
        // SAFETY: the device area, whose extent and alignment `find` checked.
        unsafe { store_u32(self.device_area.0, events.to_le()) };
    }
}

/// Says whether a descriptor with this second half is available in the lap of this wrap counter.
#[inline]
const fn is_available(rest: u64, wrap: bool) -> bool {
    let flags = (u64::from_le(rest) >> 48) as u16;
    let is_marked = flags & DESCRIPTOR_AVAILABLE != 0;
    is_marked == wrap && (flags & DESCRIPTOR_USED != 0) != wrap
}

#[cfg(test)]
mod tests;
