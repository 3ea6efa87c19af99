//! One ring of a guest, its buffers and its eventfds.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use virtio::testing::{Buffer, Driver, TestMemory, Used};
use virtio::{Features, QueueSize};

use crate::guest::Plan;

/// Guest memory of each ring: the ring, then its buffers.
pub(crate) const RING_BYTES: u64 = 16 << 20;
/// All of it: for the rings of a pair and one more.
pub(crate) const GUEST_BYTES: u64 = 3 * RING_BYTES;
const BUFFERS_AT: u64 = 1 << 20;

/// Distance between buffers, and how many places there are for them.
pub(crate) const BUFFER_STEP: u64 = 64 << 10;
const PLACES: u16 = 128;

/// Distance between the pieces of one packet, beside their lengths: they do not touch.
const GAP: u64 = 64;

/// Where the indirect table of a packet lies, behind the packet.
const TABLE_AT: u64 = BUFFER_STEP - 4_096;

/// A ring.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) driver: Driver,
    pub(crate) kick: OwnedFd,
    pub(crate) call: OwnedFd,
    memory: Arc<TestMemory>,
    buffers: u64,
    entries: u16,
    next_head: u16,
}

impl Ring {
    /// Ring `number` of a guest.
    pub(crate) fn new(memory: &Arc<TestMemory>, number: u16, plan: &Plan) -> Self {
        let size = QueueSize::new(plan.entries.into(), plan.features).unwrap();
        let start = TestMemory::GUEST_BASE + RING_BYTES * u64::from(number);
        let mut driver = Driver::new_at(memory, start, size, plan.features);
        if plan.index != 0 {
            driver.start_at(plan.index);
        }
        Self {
            driver,
            kick: event(),
            call: event(),
            memory: Arc::clone(memory),
            buffers: start + BUFFERS_AT,
            entries: plan.entries,
            next_head: 0,
        }
    }

    /// Takes this many descriptors in a row, which must be free.
    pub(crate) fn take_heads(&mut self, count: u16) -> u16 {
        if self.next_head + count > self.entries {
            self.next_head = 0;
        }
        let head = self.next_head;
        self.next_head += count;
        head
    }

    /// Where the packet of a head lies.
    pub(crate) fn place(&self, head: u16) -> u64 {
        self.buffers + u64::from(head % PLACES) * BUFFER_STEP
    }

    /// Where its indirect table lies.
    pub(crate) fn table(&self, head: u16) -> u64 {
        self.place(head) + TABLE_AT
    }

    /// Writes a packet, cut into pieces of these lengths and the rest, and describes them.
    pub(crate) fn lay(&self, place: u64, packet: &[u8], lengths: &[usize]) -> Vec<Buffer> {
        let mut rest = packet;
        let mut address = place;
        let mut buffers = Vec::new();
        for &length in lengths.iter().chain([&usize::MAX]) {
            let (piece, behind) = rest.split_at(length.min(rest.len()));
            if !piece.is_empty() {
                self.memory.write(address, piece);
                buffers.push(Buffer::readable(address, u32::try_from(piece.len()).unwrap()));
                address += u64::try_from(piece.len()).unwrap() + GAP;
            }
            rest = behind;
        }
        buffers
    }

    /// Makes a chain available that is described, and kicks if it is asked for.
    pub(crate) fn post(&mut self, head: u16) {
        self.post_all(&[head]);
    }

    /// The same for several at once.
    pub(crate) fn post_all(&mut self, heads: &[u16]) {
        if self.driver.make_all_available(heads) {
            self.kick();
        }
    }

    pub(crate) fn kick(&self) {
        rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
    }

    /// Makes a buffer available for frames to be written to.
    pub(crate) fn post_writable(&mut self, head: u16, length_bytes: u32) {
        self.driver.describe(head, Buffer::writable(self.place(head), length_bytes));
        self.post(head);
    }

    /// Takes back the next chain, and what was written to its one buffer.
    pub(crate) fn take_written(&mut self) -> Option<(Used, Vec<u8>)> {
        let used = self.driver.take_used()?;
        let head = u16::try_from(used.head).unwrap();
        let length = usize::try_from(used.written_bytes).unwrap();
        Some((used, self.memory.read(self.place(head), length)))
    }

    /// Says whether the back end has called since this was last asked.
    pub(crate) fn was_called(&self) -> bool {
        rustix::io::read(&self.call, &mut [0; 8]).is_ok()
    }

    /// A word of the ring's parts: 0 descriptors, 1 what the driver writes, 2 what the device writes.
    pub(crate) fn word(&self, part: usize, offset: u64) -> u16 {
        let bytes = self.memory.read(self.driver.parts()[part] + offset, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    /// What a ring that was never worked starts from.
    pub(crate) fn initial_base(features: Features) -> u32 {
        Driver::initial_base(features)
    }
}

/// An eventfd as QEMU makes them.
pub(crate) fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}
