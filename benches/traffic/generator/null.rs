//! A back end that does nothing but hand descriptors over: the limit of the generator itself.
//!
//! What a guest makes available on its transmitq is given back as used at once, and as many
//! buffers of the other's receiveq with the same lengths. No byte is copied, so the generator
//! finds stale frames there and must not check them, unless the back end is told to copy.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::JoinHandle;

use super::guest::Guest;
use super::memory::Memory;
use super::ring::{NET_HEADER_BYTES, Ring};

/// Where `num_buffers` stands in a net header (VIRTIO 1.2, 5.1.6).
const NUM_BUFFERS: u32 = 10;

/// A running null back end. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Null {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Null {
    /// Works the first pairs of two guests, each one's frames to the other, on a core.
    pub(crate) fn start(a: &Guest, b: &Guest, core: usize) -> Self {
        Self::between(a, b, core, false)
    }

    /// The same, with the frames' bytes.
    pub(crate) fn copying(a: &Guest, b: &Guest, core: usize) -> Self {
        Self::between(a, b, core, true)
    }

    fn between(a: &Guest, b: &Guest, core: usize, copies: bool) -> Self {
        let ends = |guest: &Guest| {
            let (receive, transmit) = &guest.pairs[0];
            (End::new(&receive.ring), End::new(&transmit.ring))
        };
        let ((a_receive, a_transmit), (b_receive, b_transmit)) = (ends(a), ends(b));
        let mut ways = [(a_transmit, b_receive), (b_transmit, a_receive)];
        Self::spawn(core, move || {
            for (transmit, receive) in &mut ways {
                hand_over(transmit, receive, copies);
            }
        })
    }

    /// Hands the first guest's frames over to all others.
    pub(crate) fn flood(guests: &[Guest], core: usize) -> Self {
        let mut transmit = End::new(&guests[0].pairs[0].1.ring);
        let mut receivers: Vec<End> =
            guests[1..].iter().map(|guest| End::new(&guest.pairs[0].0.ring)).collect();
        Self::spawn(core, move || hand_to_all(&mut transmit, &mut receivers))
    }

    /// Does this again and again on a core.
    fn spawn(core: usize, mut turn: impl FnMut() + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let work = move || {
            core_affinity::set_for_current(core_affinity::CoreId { id: core });
            while !seen.load(Ordering::Relaxed) {
                turn();
            }
        };
        Self { stop, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Null {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The device's side of a ring, as plain as can be.
#[derive(Debug)]
struct End {
    memory: Arc<Memory>,
    table: usize,
    available: usize,
    used: usize,
    entries: u16,
    next: u16,
}

impl End {
    fn new(ring: &Ring) -> Self {
        let Ring { memory, table, available, used, entries, .. } = ring;
        let end = Self {
            memory: Arc::clone(memory),
            table: *table,
            available: *available,
            used: *used,
            entries: *entries,
            next: 0,
        };
        // NO_NOTIFY: this back end polls.
        // SAFETY: the flags are two aligned bytes of the used ring.
        unsafe { end.memory.at(end.used, 2).cast::<u16>().write_volatile(1) };
        end
    }

    fn available_count(&self) -> u16 {
        // SAFETY: inside the memory, aligned, and an atomic for both sides.
        let index = unsafe { AtomicU16::from_ptr(self.memory.at(self.available + 2, 2).cast()) };
        index.load(Ordering::Acquire).wrapping_sub(self.next)
    }

    /// The next available entry and the length of its buffer.
    fn peek(&self) -> (u16, u32) {
        let slot = usize::from(self.next & (self.entries - 1));
        let place = self.memory.at(self.available + 4 + 2 * slot, 2).cast::<u16>();
        // SAFETY: inside the memory and aligned.
        let entry = unsafe { place.read_volatile() };
        let place = self.memory.at(self.table + 16 * usize::from(entry) + 8, 4).cast::<u32>();
        // SAFETY: as above; an entry outside the table would be outside the memory at worst.
        let length = unsafe { place.read_volatile() };
        (entry, length)
    }

    /// `length` bytes of an entry's buffer, from `at` on.
    fn buffer(&self, entry: u16, at: u32, length: u32) -> *mut u8 {
        let place = self.memory.at(self.table + 16 * usize::from(entry), 8).cast::<usize>();
        // SAFETY: as in `peek`; the guest's addresses are offsets.
        let offset = unsafe { place.read_volatile() };
        self.memory.at(offset + at as usize, length as usize)
    }

    fn put_used(&mut self, entry: u16, written: u32) {
        let slot = usize::from(self.next & (self.entries - 1));
        let element = u64::from(entry) | u64::from(written) << 32;
        let place = self.memory.at(self.used + 4 + 8 * slot, 8).cast::<u64>();
        // SAFETY: inside the memory; elements lie at 4 modulo 8, hence unaligned.
        unsafe { place.write_unaligned(element) };
        self.next = self.next.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: as in `available_count`.
        let index = unsafe { AtomicU16::from_ptr(self.memory.at(self.used + 2, 2).cast()) };
        index.store(self.next, Ordering::Release);
    }
}

/// Gives back what was sent, and says that as much has come, which it has if it `copies`.
fn hand_over(transmit: &mut End, receive: &mut End, copies: bool) {
    let count = transmit.available_count().min(32);
    let mut room = receive.available_count();
    if count == 0 || room == 0 {
        return;
    }
    for _ in 0..count {
        let (entry, total) = transmit.peek();
        let total = total.max(u32::try_from(NET_HEADER_BYTES).unwrap_or(0));
        let (first, first_capacity) = receive.peek();
        if u32::from(room) * first_capacity < total {
            break;
        }
        let mut left = total;
        while left > 0 {
            let (target, capacity) = receive.peek();
            let written = left.min(capacity);
            if copies {
                let from = transmit.buffer(entry, total - left, written);
                let to = receive.buffer(target, 0, written);
                // SAFETY: so many bytes of two guests' memories, which are not the same.
                unsafe { to.copy_from_nonoverlapping(from, written as usize) };
            }
            receive.put_used(target, written);
            left -= written;
            room -= 1;
        }
        if copies {
            let merged = receive.buffer(first, NUM_BUFFERS, 2).cast::<u16>();
            let count = u16::try_from(total.div_ceil(first_capacity)).unwrap_or(u16::MAX);
            // SAFETY: inside the memory; buffers begin at even addresses.
            unsafe { merged.write(count) };
        }
        transmit.put_used(entry, 0);
    }
    receive.publish();
    transmit.publish();
}

/// Gives back what was sent, and says that all receivers have got it: frames of one buffer.
fn hand_to_all(transmit: &mut End, receivers: &mut [End]) {
    let room = receivers.iter().map(End::available_count).min().unwrap_or(0);
    let count = transmit.available_count().min(room).min(32);
    if count == 0 {
        return;
    }
    for _ in 0..count {
        let (entry, total) = transmit.peek();
        for receive in receivers.iter_mut() {
            let (target, _) = receive.peek();
            receive.put_used(target, total);
        }
        transmit.put_used(entry, 0);
    }
    receivers.iter().for_each(End::publish);
    transmit.publish();
}
