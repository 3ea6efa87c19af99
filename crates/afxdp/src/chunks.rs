//! Which chunks of a UMEM belong to whom: nobody, a queue, or nobody yet because the kernel may
//! still have them.
//!
//! ```text
//!            take                              drop
//!   free ───────────▶ part of a queue ───────────────────▶ free
//!    ▲                     │  ▲    └─ zero copy, or ─▶ resting ─┐
//!    │                     ▼  │       not all sent               │ RESTING_TIME
//!    │               part of another                             │
//!    └───────────────────────────────────────────────────────────┘
//! ```
//!
//! A queue begins with as many chunks as its rings hold and keeps that number: for each chunk that
//! it gets from another queue it gives one away (see `queue.rs`). Only who has which changes, and
//! each [`Part`] notes that for itself, so that it gives back what it has in the end.
//!
//! The lock is taken when a queue comes or goes, never on the way of a frame.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::umem::{CHUNK_BYTES, RECEIVE_CHUNKS, SEND_CHUNKS, Umem};

/// Chunks of one queue.
pub(crate) const PART_CHUNKS: u32 = RECEIVE_CHUNKS + SEND_CHUNKS;

/// How long chunks rest that the NIC or a packet on its way may still have. The kernel takes a
/// zero-copy queue from its NIC in a worker, some time after the socket was closed
/// (`xp_release_deferred`, net/xdp/xsk_buff_pool.c): up to 2 s were seen on a busy machine, see
/// `PREDECESSOR_PATIENCE` in `interface.rs`.
const RESTING_TIME: Duration = Duration::from_secs(5);

/// A chunk by its number: what a queue gets for one that another queue kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
// The number and one, so that an `Option` of it takes four bytes: it crosses rings.
pub struct Chunk(NonZeroU32);

impl Chunk {
    /// The chunk of this address. `None` beyond 16 TiB, where no UMEM reaches.
    pub(crate) fn at(address: u64) -> Option<Self> {
        let number = u32::try_from(address / u64::from(CHUNK_BYTES)).ok()?;
        NonZeroU32::new(number.wrapping_add(1)).map(Self)
    }

    /// Its address in the UMEM.
    pub(crate) fn address(self) -> u64 {
        u64::from(self.0.get() - 1) * u64::from(CHUNK_BYTES)
    }
}

/// Number of the chunk that this address lies in, for another process.
pub(crate) fn number_of(address: u64) -> u32 {
    u32::try_from(address / u64::from(CHUNK_BYTES)).unwrap_or(u32::MAX)
}

/// Address of the chunk of this number.
pub(crate) const fn address_of(number: u32) -> u64 {
    number as u64 * CHUNK_BYTES as u64
}

/// A set of chunks: one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChunkSet {
    words: Vec<u64>,
}

impl ChunkSet {
    /// The first `count` chunks of a UMEM; a multiple of 64.
    fn first(count: usize) -> Self {
        Self { words: vec![u64::MAX; count / 64] }
    }

    pub(crate) fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Takes the chunk of this number out. False if it is not in the set.
    pub(crate) fn take_out(&mut self, number: u32) -> bool {
        let bit = 1 << (number % 64);
        match self.words.get_mut(number as usize / 64) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }

    /// The numbers of its chunks, ascending.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.addresses().map(number_of).collect()
    }

    /// Adds the chunk of this address, or takes it out if it is there.
    fn toggle(&mut self, address: u64) {
        let number = address / u64::from(CHUNK_BYTES);
        let place = usize::try_from(number / 64).unwrap_or(usize::MAX);
        if let Some(word) = self.words.get_mut(place) {
            *word ^= 1 << (number % 64);
        }
    }

    fn unite(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(word, more)| *word |= more);
    }

    /// Takes `count` chunks out, those of the lowest addresses. `None` if there are fewer.
    fn split(&mut self, count: usize) -> Option<Self> {
        if self.count() < count {
            return None;
        }
        let mut taken = Self { words: vec![0; self.words.len()] };
        let chosen: Vec<u64> = self.addresses().take(count).collect();
        for address in chosen {
            self.toggle(address);
            taken.toggle(address);
        }
        Some(taken)
    }

    /// Addresses, ascending.
    fn addresses(&self) -> impl Iterator<Item = u64> {
        let words = (0u64..).zip(&self.words);
        words.flat_map(|(place, &word)| {
            let bits = (0..64).filter(move |bit| word >> bit & 1 == 1);
            bits.map(move |bit| (place * 64 + bit) * u64::from(CHUNK_BYTES))
        })
    }
}

/// The chunks of a UMEM that no queue has.
#[derive(Debug)]
pub(crate) struct FreeChunks(Mutex<Idle>);

#[derive(Debug)]
struct Idle {
    free: ChunkSet,
    /// Chunks that may be used again from this moment on.
    resting: Vec<(Instant, ChunkSet)>,
}

impl FreeChunks {
    /// Those of a new UMEM with this many parts.
    pub(crate) fn of_parts(parts: u32) -> Self {
        let free = ChunkSet::first(parts as usize * PART_CHUNKS as usize);
        Self(Mutex::new(Idle { free, resting: Vec::new() }))
    }

    /// Those of a UMEM of another process with this many parts, of which these are free. The others
    /// wait to be [claimed](Self::claim); those that are not rest, for the other process' sockets
    /// may have them.
    pub(crate) fn of_another(parts: u32, free: &[u32]) -> Self {
        let mut others = ChunkSet::first(parts as usize * PART_CHUNKS as usize);
        let mut set = Self::none_of(&others);
        for &number in free {
            if others.take_out(number) {
                set.toggle(address_of(number));
            }
        }
        let resting = vec![(Instant::now() + RESTING_TIME, others)];
        Self(Mutex::new(Idle { free: set, resting }))
    }

    fn none_of(whole: &ChunkSet) -> ChunkSet {
        ChunkSet { words: vec![0; whole.words.len()] }
    }

    /// Takes these chunks, which were another process', out. `None` if one of them is free, was
    /// claimed before, or does not exist.
    fn claim(&self, numbers: &[u32]) -> Option<ChunkSet> {
        self.with(|Idle { resting, .. }| {
            let (_, waiting) = resting.first_mut()?;
            let mut claimed = Self::none_of(waiting);
            for &number in numbers {
                if !waiting.take_out(number) {
                    return None;
                }
                claimed.toggle(address_of(number));
            }
            Some(claimed)
        })
    }

    /// The numbers of the chunks that may be used now.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.with(|idle| idle.free.numbers())
    }

    fn with<R>(&self, act: impl FnOnce(&mut Idle) -> R) -> R {
        // Whoever panicked with the lock left sets of chunks all the same.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Chunks for one queue, if so many may be used now.
    fn take(&self, now: Instant) -> Option<ChunkSet> {
        self.with(|Idle { free, resting }| {
            resting.retain(|(until, chunks)| {
                let rests = *until > now;
                if !rests {
                    free.unite(chunks);
                }
                rests
            });
            free.split(PART_CHUNKS as usize)
        })
    }

    fn give_back(&self, chunks: &ChunkSet, rest_until: Option<Instant>) {
        self.with(|idle| match rest_until {
            Some(until) => idle.resting.push((until, chunks.clone())),
            None => idle.free.unite(chunks),
        });
    }

    /// How many chunks no queue has, those at rest included.
    pub(crate) fn count(&self) -> usize {
        self.with(|Idle { free, resting }| {
            let resting = resting.iter().map(|(_, chunks)| chunks.count());
            free.count() + resting.sum::<usize>()
        })
    }
}

/// The chunks of one queue. They go back when it is dropped: whoever has it drops it after the
/// socket that was given the chunks.
#[derive(Debug)]
pub(crate) struct Part {
    umem: Arc<Umem>,
    chunks: ChunkSet,
    rests: bool,
    is_lost: bool,
}

impl Part {
    /// Takes chunks for one queue. `None` if there are too few.
    pub(crate) fn take(umem: &Arc<Umem>) -> Option<Self> {
        let chunks = umem.free.take(Instant::now())?;
        Some(Self { umem: Arc::clone(umem), chunks, rests: false, is_lost: false })
    }

    /// Takes chunks for so many queues, or none at all.
    pub(crate) fn take_several(umem: &Arc<Umem>, queues: u32) -> Option<Vec<Self>> {
        (0..queues).map(|_| Self::take(umem)).collect()
    }

    /// Takes the chunks of these numbers, which a queue of another process had: see
    /// [`FreeChunks::of_another`]. `None` if one of them is not to be had; those before it are at rest
    /// then.
    pub(crate) fn claim(umem: &Arc<Umem>, numbers: &[u32], rests: bool) -> Option<Self> {
        let chunks = umem.free.claim(numbers)?;
        Some(Self { umem: Arc::clone(umem), chunks, rests, is_lost: false })
    }

    /// Which chunks they are.
    pub(crate) const fn chunks(&self) -> &ChunkSet {
        &self.chunks
    }

    /// Says whether they are to rest before anybody else gets them.
    pub(crate) const fn rests(&self) -> bool {
        self.rests
    }

    /// The memory they lie in.
    pub(crate) const fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// Addresses of the chunks that begin in the fill ring.
    pub(crate) fn receive_chunks(&self) -> impl Iterator<Item = u64> {
        self.chunks.addresses().take(RECEIVE_CHUNKS as usize)
    }

    /// Addresses of the chunks that begin as free ones for the tx ring.
    pub(crate) fn send_chunks(&self) -> impl Iterator<Item = u64> {
        self.chunks.addresses().skip(RECEIVE_CHUNKS as usize)
    }

    /// Notes that the queue gave one chunk away and got another for it.
    ///
    /// Both bits are turned over, whatever they were. Hand-backs of other threads may come out of
    /// order, so a queue may hear that it got a chunk again before it hears that it had given it
    /// away; turned over twice, its bit is right when all have come.
    pub(crate) fn exchange(&mut self, given: u64, got: u64) {
        self.chunks.toggle(given);
        self.chunks.toggle(got);
    }

    /// Lets the chunks rest before anybody else gets them: the kernel may have some of them for a
    /// while after the socket was closed.
    pub(crate) const fn let_rest(&mut self) {
        self.rests = true;
    }

    /// Never gives them back, because it is not known which they are.
    pub(crate) const fn lose(&mut self) {
        self.is_lost = true;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.is_lost {
            let rest_until = self.rests.then(|| Instant::now() + RESTING_TIME);
            self.umem.free.give_back(&self.chunks, rest_until);
        }
    }
}

#[cfg(test)]
mod tests;
