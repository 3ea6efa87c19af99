//! The driver's side of a ring, split or packed, and guest memory to put it in: for tests, benches and
//! fuzzing, in this crate and others (feature `testing`).
//!
//! A [`Driver`] writes whatever it is told, right or wrong: it lays out a ring, describes
//! buffers, makes chains available and takes back what was used. It keeps no list of free
//! descriptors; tests say which they mean. In a packed ring a chain's head is its buffer id, and its
//! descriptors are written into the ring when it is made available.
//!
//! ```text
//!   let memory = TestMemory::new(0x10000);
//!   let mut driver = Driver::new(&memory, QUEUE_OF_FOUR, Features::VERSION_1);
//!   let buffer = driver.end();                         first address behind the ring
//!   memory.write(buffer, &bytes);
//!   driver.describe(0, Buffer::readable(buffer, 72));
//!   driver.make_available(0);
//!   let mut queue = TransmitQueue::new(driver.setup())?;
//! ```
//!
//! Accesses are the same atomics as the device's, so a driver may run on a thread of its own.
//! Mistakes of the test (an address outside memory) panic.

mod extents;
mod log;
mod memory;
mod packed;
mod split;

use std::sync::Arc;

use crate::vring::{DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE};
use crate::{Features, QueueSize, VringAddresses, VringSetup};
use packed::PackedRing;
use split::SplitRing;

pub use extents::{Sink, extents};
pub use log::TestLog;
pub use memory::{TestMemory, memory_file};

/// Makes tests, for a split ring and for a packed one, of functions that take the features by which
/// the two differ.
#[cfg(test)]
macro_rules! over_both_rings {
    ($($name:ident),* $(,)?) => {
        mod split {
            $(#[test] fn $name() { super::$name($crate::Features::NONE); })*
        }
        mod packed {
            $(#[test] fn $name() { super::$name($crate::Features::RING_PACKED); })*
        }
    };
}
#[cfg(test)]
pub(crate) use over_both_rings;

/// A descriptor to be written, valid or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    /// Guest physical address.
    pub address: u64,
    /// Length in bytes.
    pub length_bytes: u32,
    /// NEXT 1, WRITE 2, INDIRECT 4.
    pub flags: u16,
    /// The next descriptor, if NEXT is set.
    pub next: u16,
}

impl Buffer {
    /// A device-readable buffer.
    #[must_use]
    pub const fn readable(address: u64, length_bytes: u32) -> Self {
        Self { address, length_bytes, flags: 0, next: 0 }
    }

    /// A device-writable buffer.
    #[must_use]
    pub const fn writable(address: u64, length_bytes: u32) -> Self {
        Self { address, length_bytes, flags: DESCRIPTOR_WRITE, next: 0 }
    }

    /// An indirect table with this many descriptors.
    #[must_use]
    pub const fn indirect(address: u64, entries: u32) -> Self {
        let length_bytes = entries * DESCRIPTOR_BYTES;
        Self { address, length_bytes, flags: DESCRIPTOR_INDIRECT, next: 0 }
    }

    /// The same, continued at descriptor `next`.
    #[must_use]
    pub const fn then(self, next: u16) -> Self {
        Self { flags: self.flags | DESCRIPTOR_NEXT, next, ..self }
    }

    /// As it lies in a split ring's tables.
    fn to_bytes(self) -> [u8; 16] {
        self.with_last_two(self.flags, self.next)
    }

    /// As it lies in a packed ring and its tables, where the id stands in front of the flags.
    fn to_packed_bytes(self) -> [u8; 16] {
        self.with_last_two(self.next, self.flags)
    }

    fn with_last_two(self, first: u16, second: u16) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length_bytes.to_le_bytes());
        bytes[12..14].copy_from_slice(&first.to_le_bytes());
        bytes[14..].copy_from_slice(&second.to_le_bytes());
        bytes
    }
}

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Its head, or its buffer id.
    pub head: u32,
    /// Bytes that the device says it wrote.
    pub written_bytes: u32,
}

/// The driver of one ring.
#[derive(Debug)]
pub struct Driver {
    memory: Arc<TestMemory>,
    size: QueueSize,
    features: Features,
    ring: Ring,
}

/// A ring of either kind.
#[derive(Debug)]
enum Ring {
    Split(SplitRing),
    Packed(PackedRing),
}

impl Driver {
    /// A ring at the start of the memory: a packed one if that is among the features.
    #[must_use]
    pub fn new(memory: &Arc<TestMemory>, size: QueueSize, features: Features) -> Self {
        let start = memory.map().regions()[0].guest_address();
        Self::new_at(memory, start, size, features)
    }

    /// A ring at this guest address, which is a multiple of 16.
    #[must_use]
    pub fn new_at(
        memory: &Arc<TestMemory>,
        address: u64,
        size: QueueSize,
        features: Features,
    ) -> Self {
        let memory = Arc::clone(memory);
        let has_event_index = features.contains(Features::RING_EVENT_IDX);
        let ring = if features.contains(Features::RING_PACKED) {
            Ring::Packed(PackedRing::new(Arc::clone(&memory), address, size, has_event_index))
        } else {
            Ring::Split(SplitRing::new(Arc::clone(&memory), address, size, has_event_index))
        };
        Self { memory, size, features, ring }
    }

    /// The split ring. Tests of one kind of ring ask only for what it has.
    fn split(&mut self) -> &mut SplitRing {
        match &mut self.ring {
            Ring::Split(ring) => ring,
            Ring::Packed(_) => panic!("a packed ring has no such thing"),
        }
    }

    /// The first guest address behind the ring, a multiple of 64.
    #[must_use]
    pub fn end(&self) -> u64 {
        match &self.ring {
            Ring::Split(ring) => ring.end(),
            Ring::Packed(ring) => ring.end(),
        }
    }

    /// The guest addresses of the ring's three parts: descriptors, what the driver writes beside
    /// them, what the device writes.
    #[must_use]
    pub const fn parts(&self) -> [u64; 3] {
        match &self.ring {
            Ring::Split(ring) => ring.parts(),
            Ring::Packed(ring) => ring.parts(),
        }
    }

    /// The ring's addresses as a front end sends them.
    #[must_use]
    pub fn addresses(&self) -> VringAddresses {
        let [descriptors, driver, device] =
            self.parts().map(|address| address + TestMemory::USER_OFFSET);
        VringAddresses { descriptor_table: descriptors, available_ring: driver, used_ring: device }
    }

    /// What SET_VRING_BASE says, for a device that starts where it has given everything back up to
    /// now.
    #[must_use]
    pub fn base(&self) -> u32 {
        match &self.ring {
            Ring::Split(ring) => ring.used_index().into(),
            Ring::Packed(ring) => ring.base(),
        }
    }

    /// What SET_VRING_BASE says of a ring that was never worked.
    #[must_use]
    pub const fn initial_base(features: Features) -> u32 {
        if features.contains(Features::RING_PACKED) { 0x8000_8000 } else { 0 }
    }

    /// What a device needs to work the ring from where the driver stands.
    #[must_use]
    pub fn setup(&self) -> VringSetup {
        VringSetup {
            memory: self.memory.map(),
            size: self.size,
            addresses: self.addresses(),
            base: self.base(),
            features: self.features,
        }
    }

    /// Starts as if `index` chains of one descriptor had gone through the ring, before a device is
    /// set up: to get near where its indices wrap.
    pub fn start_at(&mut self, index: u16) {
        match &mut self.ring {
            Ring::Split(ring) => ring.start_at(index),
            Ring::Packed(ring) => ring.start_at(index),
        }
    }

    /// Describes a buffer: in a split ring's table, or for the time when a packed chain is made
    /// available.
    pub fn describe(&mut self, index: u16, buffer: Buffer) {
        match &mut self.ring {
            Ring::Split(ring) => ring.describe(index, buffer),
            Ring::Packed(ring) => ring.describe(index, buffer),
        }
    }

    /// Writes a descriptor of the indirect table at a guest address.
    pub fn describe_in(&mut self, table: u64, index: u16, buffer: Buffer) {
        let at = table + u64::from(DESCRIPTOR_BYTES) * u64::from(index);
        let bytes = match self.ring {
            Ring::Split(_) => buffer.to_bytes(),
            Ring::Packed(_) => buffer.to_packed_bytes(),
        };
        self.memory.write(at, &bytes);
    }

    /// Describes buffers in descriptors `head`, `head + 1`, …, chained.
    pub fn describe_chain(&mut self, head: u16, buffers: &[Buffer]) {
        for (place, &buffer) in (0..).zip(buffers) {
            let index = head + place;
            let is_last = usize::from(place) + 1 == buffers.len();
            self.describe(index, if is_last { buffer } else { buffer.then(index + 1) });
        }
    }

    /// Describes buffers in an indirect table at a guest address, and the table in `head`.
    pub fn describe_indirect(&mut self, head: u16, table: u64, buffers: &[Buffer]) {
        let mut index = 0;
        for &buffer in buffers {
            let is_last = usize::from(index) + 1 == buffers.len();
            self.describe_in(table, index, if is_last { buffer } else { buffer.then(index + 1) });
            index += 1;
        }
        self.describe(head, Buffer::indirect(table, u32::from(index)));
    }

    /// Makes a chain available. True if the device asked for a notification.
    pub fn make_available(&mut self, head: u16) -> bool {
        self.make_all_available(&[head])
    }

    /// Makes chains available. True if the device asked for a notification.
    pub fn make_all_available(&mut self, heads: &[u16]) -> bool {
        match &mut self.ring {
            Ring::Split(ring) => ring.make_all_available(heads),
            Ring::Packed(ring) => ring.make_all_available(heads),
        }
    }

    /// Writes an entry of a split ring's available ring and nothing else.
    pub fn put_available(&mut self, index: u16, head: u16) {
        self.split().put_available(index, head);
    }

    /// Writes the index of a split ring's available ring and nothing else.
    pub fn set_available_index(&mut self, index: u16) {
        self.split().set_available_index(index);
    }

    /// Takes the next chain that the device gave back.
    pub fn take_used(&mut self) -> Option<Used> {
        match &mut self.ring {
            Ring::Split(ring) => ring.take_used(),
            Ring::Packed(ring) => ring.take_used(),
        }
    }

    /// Chains that the device has: made available and not given back.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.in_flight(),
            Ring::Packed(ring) => ring.in_flight(),
        }
    }

    /// How many chains the device has given back, modulo 65,536.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        match &self.ring {
            Ring::Split(ring) => ring.used_index(),
            Ring::Packed(ring) => ring.used_index(),
        }
    }

    /// Says, without EVENT_IDX, whether the driver wants to be notified of used chains.
    pub fn want_notifications(&mut self, wanted: bool) {
        match &mut self.ring {
            Ring::Split(ring) => ring.want_notifications(wanted),
            Ring::Packed(ring) => ring.want_notifications(wanted),
        }
    }

    /// Asks, with EVENT_IDX, for a notification when the chain of this index was given back. In a
    /// packed ring all chains up to there have one descriptor.
    pub fn set_used_event(&mut self, index: u16) {
        match &mut self.ring {
            Ring::Split(ring) => ring.set_used_event(index),
            Ring::Packed(ring) => ring.set_used_event(index),
        }
    }
}
