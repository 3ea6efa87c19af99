//! The driver's side of a split ring (VIRTIO 1.2, 2.7), for speed: descriptors are written once
//! and stay, entry i describes buffer i.
//!
//! ```text
//!   offset of the ring ─▶ descriptor table │ available ring │ used ring │ buffers, one a slot
//! ```
//!
//! A driver polls: it asks for no interrupts, and notifies the device only if that wants to be.

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering, fence};

use vmm_sys_util::eventfd::EventFd;

use super::memory::Memory;

/// Bytes of a net header with the number of merged buffers.
pub(crate) const NET_HEADER_BYTES: usize = 12;

/// How many frames ahead a buffer's first line is asked for, which the other core has: or the load
/// would wait for it, and be the limit.
const AHEAD: u16 = 16;

const WRITE: u16 = 2;
const NO_INTERRUPT: u16 = 1;
const NO_NOTIFY: u16 = 1;

/// What both directions have in common.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(super) memory: Arc<Memory>,
    /// Offsets of the three parts and the first buffer.
    pub(super) table: usize,
    pub(super) available: usize,
    pub(super) used: usize,
    buffers: usize,
    buffer_bytes: usize,
    pub(super) entries: u16,
    next_available: u16,
    next_used: u16,
    /// The device's used index, when last read.
    seen_used: u16,
    pub(super) kick: EventFd,
    pub(super) call: EventFd,
}

impl Ring {
    /// Bytes of a ring with its buffers.
    pub(crate) const fn bytes(entries: u16, buffer_bytes: usize) -> usize {
        // Table 16, available 2, used 8 bytes an entry, heads of the parts, each on its own page.
        let parts = (16 * entries as usize).next_multiple_of(4096)
            + (6 + 2 * entries as usize).next_multiple_of(4096)
            + (6 + 8 * entries as usize).next_multiple_of(4096);
        parts + entries as usize * buffer_bytes
    }

    fn new(
        memory: &Arc<Memory>,
        offset: usize,
        entries: u16,
        buffer_bytes: usize,
        flags: u16,
    ) -> std::io::Result<Self> {
        let count = usize::from(entries);
        let available = offset + (16 * count).next_multiple_of(4096);
        let used = available + (6 + 2 * count).next_multiple_of(4096);
        let buffers = used + (6 + 8 * count).next_multiple_of(4096);
        let ring = Self {
            memory: Arc::clone(memory),
            table: offset,
            available,
            used,
            buffers,
            buffer_bytes,
            entries,
            next_available: 0,
            next_used: 0,
            seen_used: 0,
            kick: EventFd::new(libc::EFD_NONBLOCK)?,
            call: EventFd::new(libc::EFD_NONBLOCK)?,
        };
        for entry in 0..entries {
            let address = buffers + usize::from(entry) * buffer_bytes;
            ring.write_u64(offset + 16 * usize::from(entry), address as u64);
            ring.set_length(entry, u32::try_from(buffer_bytes).unwrap_or(u32::MAX));
            ring.write_u16(offset + 16 * usize::from(entry) + 12, flags);
        }
        ring.write_u16(available, NO_INTERRUPT);
        Ok(ring)
    }

    fn write_u16(&self, offset: usize, value: u16) {
        // SAFETY: the place is inside the memory and aligned: parts start at pages.
        unsafe { self.memory.at(offset, 2).cast::<u16>().write_volatile(value) };
    }

    fn write_u64(&self, offset: usize, value: u64) {
        // SAFETY: as in `write_u16`; descriptors lie at multiples of 16.
        unsafe { self.memory.at(offset, 8).cast::<u64>().write_volatile(value) };
    }

    fn read_u16(&self, offset: usize) -> u16 {
        // SAFETY: as in `write_u16`.
        unsafe { self.memory.at(offset, 2).cast::<u16>().read_volatile() }
    }

    fn index(&self, offset: usize) -> &AtomicU16 {
        // SAFETY: inside the memory, aligned, and reached by both sides as an atomic only.
        unsafe { AtomicU16::from_ptr(self.memory.at(offset, 2).cast()) }
    }

    fn set_length(&self, entry: u16, length: u32) {
        let place = self.memory.at(self.table + 16 * usize::from(entry) + 8, 4).cast::<u32>();
        // SAFETY: inside the memory and aligned, as in `write_u16`.
        unsafe { place.write_volatile(length) };
    }

    const fn slot(&self, index: u16) -> usize {
        (index & (self.entries - 1)) as usize
    }

    /// Puts an entry into the available ring; the device sees it with [`publish`](Self::publish).
    #[inline]
    fn make_available(&mut self, entry: u16) {
        self.write_u16(self.available + 4 + 2 * self.slot(self.next_available), entry);
        self.next_available = self.next_available.wrapping_add(1);
    }

    /// Shows the device what was made available, and notifies it if it wants that.
    fn publish(&self) {
        // Release: the entries and buffers are there before the index says so.
        self.index(self.available + 2).store(self.next_available, Ordering::Release);
        // The index must be visible before the flag is read (2.7.13.3.1), or both sides sleep.
        fence(Ordering::SeqCst);
        if self.read_u16(self.used) & NO_NOTIFY == 0 {
            // A full counter is a notification, too.
            let _ = self.kick.write(1);
        }
    }

    /// How many entries the device has given back that were not taken yet.
    #[inline]
    fn used_count(&mut self) -> u16 {
        // Acquire: the entries and buffers behind the index are there.
        self.seen_used = self.index(self.used + 2).load(Ordering::Acquire);
        self.seen_used.wrapping_sub(self.next_used)
    }

    /// Takes one that the device gave back: the entry, and how many bytes the device wrote.
    #[inline]
    fn take_used(&mut self) -> (u16, u32) {
        let place = self.memory.at(self.used + 4 + 8 * self.slot(self.next_used), 8).cast::<u64>();
        // SAFETY: inside the memory; used elements lie at 4 modulo 8, hence unaligned.
        let element = unsafe { place.read_unaligned() };
        self.next_used = self.next_used.wrapping_add(1);
        let [head, written] = [element & 0xffff, element >> 32];
        #[expect(clippy::cast_possible_truncation, reason = "masked and shifted to their width")]
        let (head, written) = (head as u16, written as u32);
        assert!(head < self.entries, "the device gave back entry {head} of {}", self.entries);
        (head, written)
    }

    /// Asks for the buffer that the device gave back so many after the next.
    #[inline]
    fn prefetch_used(&self, ahead: u16) {
        let slot = self.slot(self.next_used.wrapping_add(ahead));
        let entry = self.read_u16(self.used + 4 + 8 * slot);
        frame::prefetch(self.buffer(entry & (self.entries - 1)));
    }

    #[inline]
    pub(super) fn buffer(&self, entry: u16) -> *mut u8 {
        self.memory.at(self.buffers + usize::from(entry) * self.buffer_bytes, self.buffer_bytes)
    }
}

/// A transmitq.
#[derive(Debug)]
pub(crate) struct TransmitRing {
    pub(super) ring: Ring,
    /// Entries the device does not have, oldest first from `first_free` on.
    free: Box<[u16]>,
    first_free: u16,
    free_count: u16,
    lengths: Box<[u32]>,
}

impl TransmitRing {
    pub(super) fn new(
        memory: &Arc<Memory>,
        offset: usize,
        entries: u16,
        buffer_bytes: usize,
    ) -> std::io::Result<Self> {
        let ring = Ring::new(memory, offset, entries, buffer_bytes, 0)?;
        let free = (0..entries).collect();
        let lengths = vec![0; usize::from(entries)].into();
        Ok(Self { ring, free, first_free: 0, free_count: entries, lengths })
    }

    /// Takes back what the device is done with. Returns how many entries are free now.
    pub(crate) fn reclaim(&mut self) -> u16 {
        for _ in 0..self.ring.used_count() {
            let (entry, _) = self.ring.take_used();
            let place = self.ring.slot(self.first_free.wrapping_add(self.free_count));
            self.free[place] = entry;
            self.free_count += 1;
        }
        self.free_count
    }

    /// Makes a frame available in the oldest free buffer, which `fill` writes: it gets the place
    /// behind the net header and the entry's number. The net header is written with the first frame
    /// of its length.
    ///
    /// # Panics
    ///
    /// If no entry is free or the frame does not fit.
    #[inline]
    pub(crate) fn post(
        &mut self,
        net_header: &[u8; NET_HEADER_BYTES],
        length: usize,
        fill: impl FnOnce(&mut Place, u16),
    ) {
        assert!(self.free_count > 0 && NET_HEADER_BYTES + length <= self.ring.buffer_bytes);
        let entry = self.free[self.ring.slot(self.first_free)];
        if self.free_count > AHEAD {
            let soon = self.free[self.ring.slot(self.first_free.wrapping_add(AHEAD))];
            frame::prefetch_for_writing(self.ring.buffer(soon));
        }
        self.first_free = self.first_free.wrapping_add(1);
        self.free_count -= 1;
        let front = self.ring.buffer(entry);
        // SAFETY: just checked: the header is within the buffer.
        let start = unsafe { front.add(NET_HEADER_BYTES) };
        fill(&mut Place { start, length }, entry);
        let total = u32::try_from(NET_HEADER_BYTES + length).unwrap_or(u32::MAX);
        if self.lengths[usize::from(entry)] != total {
            Place { start: front, length: NET_HEADER_BYTES }.write(0, net_header);
            self.lengths[usize::from(entry)] = total;
            self.ring.set_length(entry, total);
        }
        self.ring.make_available(entry);
    }

    /// Shows the device what was posted.
    pub(crate) fn publish(&self) {
        self.ring.publish();
    }
}

/// A stretch of a buffer that this side owns: the device has not got it, or has given it back.
#[derive(Debug)]
pub(crate) struct Place {
    start: *mut u8,
    length: usize,
}

impl Place {
    /// Its bytes.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    fn check(&self, offset: usize, length: usize) {
        assert!(offset.checked_add(length).is_some_and(|end| end <= self.length));
    }

    /// Writes bytes.
    #[inline]
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let to = self.start.wrapping_add(offset);
        // SAFETY: just checked, and `bytes` is private memory.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Reads bytes.
    #[inline]
    pub(crate) fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        self.check(offset, N);
        let mut bytes = [0; N];
        // SAFETY: just checked, and `bytes` is private memory.
        unsafe { self.start.wrapping_add(offset).copy_to_nonoverlapping(bytes.as_mut_ptr(), N) };
        bytes
    }

    /// Says whether these bytes stand there.
    pub(crate) fn holds(&self, offset: usize, bytes: &[u8]) -> bool {
        self.check(offset, bytes.len());
        let start = self.start.wrapping_add(offset);
        // SAFETY: just checked; a device that writes to a buffer it gave back breaks the
        // measurement only, for the bytes are compared and forgotten.
        let there = unsafe { std::slice::from_raw_parts(start, bytes.len()) };
        there == bytes
    }
}

/// A receiveq with merged buffers.
#[derive(Debug)]
pub(crate) struct ReceiveRing {
    pub(super) ring: Ring,
}

impl ReceiveRing {
    pub(super) fn new(
        memory: &Arc<Memory>,
        offset: usize,
        entries: u16,
        buffer_bytes: usize,
    ) -> std::io::Result<Self> {
        let mut ring = Ring::new(memory, offset, entries, buffer_bytes, WRITE)?;
        (0..entries).for_each(|entry| ring.make_available(entry));
        ring.publish();
        Ok(Self { ring })
    }

    /// Takes the frames that have arrived, shows each to `look` in pieces (without net header)
    /// with its length, and gives their buffers back. Returns how many they were.
    pub(crate) fn receive(&mut self, mut look: impl FnMut(&[Place], usize)) -> usize {
        let mut left = self.ring.used_count();
        if left == 0 {
            return 0;
        }
        let mut frames = 0;
        let mut pieces: [Place; 17] =
            std::array::from_fn(|_| Place { start: std::ptr::null_mut(), length: 0 });
        while left > 0 {
            if left > AHEAD {
                self.ring.prefetch_used(AHEAD);
            }
            let (entry, written) = self.ring.take_used();
            let first = self.take_piece(entry, written);
            let merged = usize::from(u16::from_le_bytes(first.read(10))).clamp(1, pieces.len());
            let mut length = first.length - NET_HEADER_BYTES;
            // SAFETY: reading its last two bytes showed that the net header is inside.
            let start = unsafe { first.start.add(NET_HEADER_BYTES) };
            pieces[0] = Place { start, length };
            left -= 1;
            for piece in pieces.iter_mut().take(merged).skip(1) {
                assert!(left > 0, "merged buffers come together (VIRTIO 1.2, 5.1.6.4)");
                let (entry, written) = self.ring.take_used();
                *piece = self.take_piece(entry, written);
                length += piece.length;
                left -= 1;
            }
            look(&pieces[..merged], length);
            frames += 1;
        }
        self.ring.publish();
        frames
    }

    /// The written part of a buffer, which goes back to the device with the next publication.
    #[inline]
    fn take_piece(&mut self, entry: u16, written: u32) -> Place {
        let written = written as usize;
        let fits = written > 0 && written <= self.ring.buffer_bytes;
        assert!(fits, "the device says it wrote {written} bytes");
        self.ring.make_available(entry);
        Place { start: self.ring.buffer(entry), length: written }
    }
}
