//! The driver's side of a packed ring (VIRTIO 1.2, 2.8), after the text and not after the device's
//! side: what one of them has wrong the other shows.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::{Buffer, TestMemory, Used};
use crate::QueueSize;
use crate::vring::{DESCRIPTOR_BYTES, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE};

const AVAIL: u16 = 1 << 7;
const USED: u16 = 1 << 15;

const ENABLE: u16 = 0;
const DISABLE: u16 = 1;
const DESC: u16 = 2;

/// A slot, and the wrap counter of the lap in which it is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    slot: u16,
    wrap: bool,
}

/// A packed ring in a test's memory.
#[derive(Debug)]
pub(super) struct PackedRing {
    memory: Arc<TestMemory>,
    size: QueueSize,
    has_event_index: bool,
    /// Guest addresses of the three parts.
    descriptors: u64,
    driver_area: u64,
    device_area: u64,
    /// What was described, by its index.
    described: HashMap<u16, Buffer>,
    /// How many slots the chain of an id takes.
    lengths: HashMap<u16, u16>,
    next: Place,
    used: Place,
    /// Chains made available, and taken back.
    made: u16,
    taken: u16,
}

impl PackedRing {
    pub(super) fn new(
        memory: Arc<TestMemory>,
        descriptors: u64,
        size: QueueSize,
        has_event_index: bool,
    ) -> Self {
        let driver_area = descriptors + u64::from(DESCRIPTOR_BYTES) * u64::from(size.get());
        let start = Place { slot: 0, wrap: true };
        Self {
            memory,
            size,
            has_event_index,
            descriptors,
            driver_area,
            device_area: driver_area + 4,
            described: HashMap::new(),
            lengths: HashMap::new(),
            next: start,
            used: start,
            made: 0,
            taken: 0,
        }
    }

    pub(super) const fn end(&self) -> u64 {
        (self.device_area + 4).next_multiple_of(64)
    }

    pub(super) const fn parts(&self) -> [u64; 3] {
        [self.descriptors, self.driver_area, self.device_area]
    }

    pub(super) fn base(&self) -> u32 {
        let Place { slot, wrap } = self.place_of(self.used_index());
        let bits = u32::from(slot) | u32::from(wrap) << 15;
        bits | bits << 16
    }

    pub(super) fn start_at(&mut self, index: u16) {
        (self.made, self.taken) = (index, index);
        self.next = self.lap(index);
        self.used = self.next;
        // What a ring looks like whose descriptors were all used in the lap before their next use.
        for slot in 0..self.size.get() {
            let is_behind = slot < self.next.slot;
            let flags = if is_behind == self.next.wrap { AVAIL | USED } else { 0 };
            self.memory.store(self.at(slot) + 14, flags);
        }
    }

    pub(super) fn describe(&mut self, index: u16, buffer: Buffer) {
        self.described.insert(index, buffer);
    }

    pub(super) fn make_all_available(&mut self, heads: &[u16]) -> bool {
        let old = self.next;
        for &head in heads {
            self.put_chain(head);
        }
        // Store of the flags before load of the device area (2.8.21.3.1).
        fence(Ordering::SeqCst);
        let [off_wrap, flags] = [0, 2].map(|offset| self.memory.load(self.device_area + offset));
        match flags {
            ENABLE => true,
            DESC if self.has_event_index => {
                let event = Place { slot: off_wrap & !USED, wrap: off_wrap & USED != 0 };
                self.passes(old, event)
            }
            _ => false,
        }
    }

    /// Writes a chain: the flags of its first descriptor last.
    fn put_chain(&mut self, head: u16) {
        let (first, mut first_flags) = (self.next, 0);
        let (mut index, mut count) = (head, 0);
        loop {
            let buffer = self.described.get(&index).copied();
            let buffer = buffer.unwrap_or(Buffer::readable(0, 0));
            let lap = if self.next.wrap { AVAIL } else { USED };
            let flags = buffer.flags & !(AVAIL | USED) | lap;
            let at = self.at(self.next.slot);
            let bytes = Buffer { next: head, ..buffer }.to_packed_bytes();
            self.memory.write(at, &bytes[..14]);
            if count == 0 {
                first_flags = flags;
            } else {
                self.memory.store(at + 14, flags);
            }
            count += 1;
            self.next = self.behind(self.next, 1);
            if buffer.flags & DESCRIPTOR_NEXT == 0 || count == self.size.get() {
                break;
            }
            index = buffer.next;
        }
        self.lengths.insert(head, count);
        self.made = self.made.wrapping_add(1);
        self.memory.store(self.at(first.slot) + 14, first_flags);
    }

    pub(super) fn take_used(&mut self) -> Option<Used> {
        let (used, count) = self.used_at(self.used)?;
        self.used = self.behind(self.used, count);
        self.taken = self.taken.wrapping_add(1);
        Some(used)
    }

    /// The used chain at a place, and how many slots it takes.
    fn used_at(&self, place: Place) -> Option<(Used, u16)> {
        let at = self.at(place.slot);
        let flags = self.memory.load(at + 14);
        if (flags & AVAIL != 0) != place.wrap || (flags & USED != 0) != place.wrap {
            return None;
        }
        let bytes = self.memory.read(at + 8, 6);
        let length = u32::from_le_bytes(std::array::from_fn(|byte| bytes[byte]));
        let id = u16::from_le_bytes([bytes[4], bytes[5]]);
        // The length says something only if WRITE is set (2.8.5).
        let written_bytes = if flags & DESCRIPTOR_WRITE != 0 { length } else { 0 };
        Some((Used { head: id.into(), written_bytes }, self.lengths.get(&id).copied()?))
    }

    pub(super) fn in_flight(&self) -> u16 {
        self.made.wrapping_sub(self.used_index())
    }

    pub(super) fn used_index(&self) -> u16 {
        let (mut index, mut place) = (self.taken, self.used);
        while index != self.made
            && let Some((_, count)) = self.used_at(place)
        {
            index = index.wrapping_add(1);
            place = self.behind(place, count);
        }
        index
    }

    /// Where the chain of this index starts, which is one that was taken back or is about to be.
    fn place_of(&self, index: u16) -> Place {
        let mut place = self.used;
        for _ in 0..index.wrapping_sub(self.taken) {
            let (_, count) = self.used_at(place).expect("it was counted");
            place = self.behind(place, count);
        }
        place
    }

    /// With EVENT_IDX the event alone says it, as in a split ring.
    pub(super) fn want_notifications(&self, wanted: bool) {
        if self.has_event_index {
            return;
        }
        self.memory.store(self.driver_area + 2, if wanted { ENABLE } else { DISABLE });
    }

    pub(super) fn set_used_event(&self, index: u16) {
        if !self.has_event_index {
            return;
        }
        let Place { slot, wrap } = self.lap(index);
        self.memory.store(self.driver_area, slot | u16::from(wrap) << 15);
        self.memory.store(self.driver_area + 2, DESC);
    }

    /// The place after `index` slots.
    const fn lap(&self, index: u16) -> Place {
        let size = self.size.get();
        Place { slot: index % size, wrap: (index / size).is_multiple_of(2) }
    }

    const fn behind(&self, place: Place, count: u16) -> Place {
        let (slot, size) = (place.slot + count, self.size.get());
        if slot < size {
            Place { slot, ..place }
        } else {
            Place { slot: slot - size, wrap: !place.wrap }
        }
    }

    /// Says whether a place lies in what was made available since `old`: slot by slot.
    fn passes(&self, old: Place, event: Place) -> bool {
        let mut place = old;
        while place != self.next {
            if place == event {
                return true;
            }
            place = self.behind(place, 1);
        }
        false
    }

    fn at(&self, slot: u16) -> u64 {
        self.descriptors + u64::from(DESCRIPTOR_BYTES) * u64::from(slot)
    }
}
