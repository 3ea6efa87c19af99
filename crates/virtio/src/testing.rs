//! The driver's side of a split ring, and guest memory to put it in: for tests, benches and
//! fuzzing, in this crate and others (feature `testing`).
//!
//! A [`Driver`] writes whatever it is told, right or wrong: it lays out a ring, describes
//! buffers, makes chains available and takes back what was used. It keeps no list of free
//! descriptors; tests say which they mean.
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
mod memory;

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use crate::vring::split::{NO_INTERRUPT, NO_NOTIFY};
use crate::vring::{DESCRIPTOR_BYTES, DESCRIPTOR_INDIRECT, DESCRIPTOR_NEXT, DESCRIPTOR_WRITE};
use crate::{Features, QueueSize, VringAddresses, VringSetup, needs_notification};

pub use extents::{Sink, extents};
pub use memory::{TestMemory, memory_file};

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

    fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.address.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length_bytes.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flags.to_le_bytes());
        bytes[14..].copy_from_slice(&self.next.to_le_bytes());
        bytes
    }
}

/// A chain that the device gave back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// Its head.
    pub head: u32,
    /// Bytes that the device says it wrote.
    pub written_bytes: u32,
}

/// The driver of one split ring.
#[derive(Debug)]
pub struct Driver {
    memory: Arc<TestMemory>,
    size: QueueSize,
    features: Features,
    /// Guest addresses of the three parts.
    table: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
}

impl Driver {
    /// A ring at the start of the memory.
    #[must_use]
    pub fn new(memory: &Arc<TestMemory>, size: QueueSize, features: Features) -> Self {
        let start = memory.map().regions()[0].guest_address();
        Self::new_at(memory, start, size, features)
    }

    /// A ring at this guest address, which is a multiple of 16.
    #[must_use]
    pub fn new_at(
        memory: &Arc<TestMemory>,
        table: u64,
        size: QueueSize,
        features: Features,
    ) -> Self {
        let entries = u64::from(size.get());
        let available = table + u64::from(DESCRIPTOR_BYTES) * entries;
        let used = (available + 6 + 2 * entries).next_multiple_of(4);
        let memory = Arc::clone(memory);
        Self { memory, size, features, table, available, used, next_available: 0, next_used: 0 }
    }

    /// The first guest address behind the ring, a multiple of 64.
    #[must_use]
    pub fn end(&self) -> u64 {
        (self.used + 6 + 8 * u64::from(self.size.get())).next_multiple_of(64)
    }

    /// The guest addresses of descriptor table, available ring and used ring.
    #[must_use]
    pub const fn parts(&self) -> [u64; 3] {
        [self.table, self.available, self.used]
    }

    /// The ring's addresses as a front end sends them.
    #[must_use]
    pub const fn addresses(&self) -> VringAddresses {
        VringAddresses {
            descriptor_table: self.table + TestMemory::USER_OFFSET,
            available_ring: self.available + TestMemory::USER_OFFSET,
            used_ring: self.used + TestMemory::USER_OFFSET,
        }
    }

    /// What a device needs to work the ring from where the driver stands.
    #[must_use]
    pub fn setup(&self) -> VringSetup {
        VringSetup {
            memory: self.memory.map(),
            size: self.size,
            addresses: self.addresses(),
            base: self.memory.load(self.used + 2).into(),
            features: self.features,
        }
    }

    /// Starts both indices at `index`, before a device is set up: to get near their wrap.
    pub fn start_at(&mut self, index: u16) {
        self.next_available = index;
        self.next_used = index;
        self.memory.store(self.available + 2, index);
        self.memory.store(self.used + 2, index);
    }

    /// Writes a descriptor of the table.
    pub fn describe(&mut self, index: u16, buffer: Buffer) {
        self.describe_in(self.table, index, buffer);
    }

    /// Writes a descriptor of the indirect table at a guest address.
    pub fn describe_in(&mut self, table: u64, index: u16, buffer: Buffer) {
        let at = table + u64::from(DESCRIPTOR_BYTES) * u64::from(index);
        self.memory.write(at, &buffer.to_bytes());
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

    /// Makes chains available, visible at once. True if the device asked for a notification.
    pub fn make_all_available(&mut self, heads: &[u16]) -> bool {
        let old = self.next_available;
        for &head in heads {
            self.put_available(self.next_available, head);
            self.next_available = self.next_available.wrapping_add(1);
        }
        self.memory.store(self.available + 2, self.next_available);
        // Store of the index before load of event or flags (2.7.13.4.1).
        fence(Ordering::SeqCst);
        if self.features.contains(Features::RING_EVENT_IDX) {
            let event = self.memory.load(self.used + 4 + 8 * u64::from(self.size.get()));
            needs_notification(event, old, self.next_available)
        } else {
            self.memory.load(self.used) & NO_NOTIFY == 0
        }
    }

    /// Writes an entry of the available ring and nothing else.
    pub fn put_available(&mut self, index: u16, head: u16) {
        let place = u64::from(index & self.size.mask());
        self.memory.store(self.available + 4 + 2 * place, head);
    }

    /// Writes the index of the available ring and nothing else.
    pub fn set_available_index(&mut self, index: u16) {
        self.memory.store(self.available + 2, index);
    }

    /// Takes the next chain that the device gave back.
    pub fn take_used(&mut self) -> Option<Used> {
        if self.used_index() == self.next_used {
            return None;
        }
        let place = u64::from(self.next_used & self.size.mask());
        let entry = self.memory.read(self.used + 4 + 8 * place, 8);
        self.next_used = self.next_used.wrapping_add(1);
        let word = |at| u32::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]));
        Some(Used { head: word(0), written_bytes: word(4) })
    }

    /// Chains that the device has: made available and not given back.
    #[must_use]
    pub fn in_flight(&self) -> u16 {
        self.next_available.wrapping_sub(self.used_index())
    }

    /// The index of the used ring.
    #[must_use]
    pub fn used_index(&self) -> u16 {
        self.memory.load(self.used + 2)
    }

    /// Says, without EVENT_IDX, whether the driver wants to be notified of used chains.
    pub fn want_notifications(&mut self, wanted: bool) {
        self.memory.store(self.available, if wanted { 0 } else { NO_INTERRUPT });
    }

    /// Asks, with EVENT_IDX, for a notification when the used entry at this index was written.
    pub fn set_used_event(&mut self, index: u16) {
        self.memory.store(self.available + 4 + 2 * u64::from(self.size.get()), index);
    }
}
