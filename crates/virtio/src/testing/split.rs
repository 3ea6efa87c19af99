//! The driver's side of a split ring (VIRTIO 1.2, 2.7).

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use super::{Buffer, TestMemory, Used};
use crate::vring::DESCRIPTOR_BYTES;
use crate::vring::split::{NO_INTERRUPT, NO_NOTIFY};
use crate::{QueueSize, needs_notification};

/// A split ring in a test's memory.
#[derive(Debug)]
pub(super) struct SplitRing {
    memory: Arc<TestMemory>,
    size: QueueSize,
    has_event_index: bool,
    /// Guest addresses of the three parts.
    table: u64,
    available: u64,
    used: u64,
    next_available: u16,
    next_used: u16,
}

impl SplitRing {
    pub(super) fn new(
        memory: Arc<TestMemory>,
        table: u64,
        size: QueueSize,
        has_event_index: bool,
    ) -> Self {
        let entries = u64::from(size.get());
        let available = table + u64::from(DESCRIPTOR_BYTES) * entries;
        let used = (available + 6 + 2 * entries).next_multiple_of(4);
        let (next_available, next_used) = (0, 0);
        Self { memory, size, has_event_index, table, available, used, next_available, next_used }
    }

    pub(super) fn end(&self) -> u64 {
        (self.used + 6 + 8 * u64::from(self.size.get())).next_multiple_of(64)
    }

    pub(super) const fn parts(&self) -> [u64; 3] {
        [self.table, self.available, self.used]
    }

    pub(super) fn start_at(&mut self, index: u16) {
        self.next_available = index;
        self.next_used = index;
        self.memory.store(self.available + 2, index);
        self.memory.store(self.used + 2, index);
    }

    pub(super) fn describe(&self, index: u16, buffer: Buffer) {
        let at = self.table + u64::from(DESCRIPTOR_BYTES) * u64::from(index);
        self.memory.write(at, &buffer.to_bytes());
    }

    pub(super) fn make_all_available(&mut self, heads: &[u16]) -> bool {
        let old = self.next_available;
        for &head in heads {
            self.put_available(self.next_available, head);
            self.next_available = self.next_available.wrapping_add(1);
        }
        self.memory.store(self.available + 2, self.next_available);
        // Store of the index before load of event or flags (2.7.13.4.1).
        fence(Ordering::SeqCst);
        if self.has_event_index {
            let event = self.memory.load(self.used + 4 + 8 * u64::from(self.size.get()));
            needs_notification(event, old, self.next_available)
        } else {
            self.memory.load(self.used) & NO_NOTIFY == 0
        }
    }

    pub(super) fn put_available(&self, index: u16, head: u16) {
        let place = u64::from(index & self.size.mask());
        self.memory.store(self.available + 4 + 2 * place, head);
    }

    pub(super) fn set_available_index(&self, index: u16) {
        self.memory.store(self.available + 2, index);
    }

    pub(super) fn take_used(&mut self) -> Option<Used> {
        if self.used_index() == self.next_used {
            return None;
        }
        let place = u64::from(self.next_used & self.size.mask());
        let entry = self.memory.read(self.used + 4 + 8 * place, 8);
        self.next_used = self.next_used.wrapping_add(1);
        let word = |at| u32::from_le_bytes(std::array::from_fn(|byte| entry[at + byte]));
        Some(Used { head: word(0), written_bytes: word(4) })
    }

    pub(super) fn in_flight(&self) -> u16 {
        self.next_available.wrapping_sub(self.used_index())
    }

    pub(super) fn used_index(&self) -> u16 {
        self.memory.load(self.used + 2)
    }

    pub(super) fn want_notifications(&self, wanted: bool) {
        self.memory.store(self.available, if wanted { 0 } else { NO_INTERRUPT });
    }

    pub(super) fn set_used_event(&self, index: u16) {
        self.memory.store(self.available + 4 + 2 * u64::from(self.size.get()), index);
    }
}
