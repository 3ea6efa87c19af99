//! The filtering database: which port each address of each VLAN lies behind (802.1Q-2018, 8.8).
//!
//! One table that all poll threads read and write, without a lock. It is made of buckets of one
//! cache line, eight words each; an address of a VLAN has two buckets it may lie in, so a look-up
//! touches at most two lines, and it waits for nobody: it reads each word once.
//!
//! ```text
//!   (VLAN, address) ──mix──▶ first bucket   ┌──┬──┬──┬──┬──┬──┬──┬──┐   64 bytes
//!                      │                    └──┴──┴──┴──┴──┴──┴──┴──┘
//!                      └───▶ second bucket  ┌──┬──┬──┬──┬──┬──┬──┬──┐   one word: who, port, age
//!                                           └──┴──┴──┴──┴──┴──┴──┴──┘   (see `word`)
//! ```
//!
//! An entry is one word, so whoever changes one does it by a single compare-exchange and nobody
//! ever sees half of it. A new address goes to its first bucket, or to the emptier of the two when that
//! is nearly full; words are never moved from one
//! to the other, so a look-up cannot miss one on its way. There are twice as many words as
//! addresses may be learned, which fills both buckets of an address about never.
//!
//! A complication: two threads that learn one address at the same moment may each put it into an
//! empty word. Whoever has inserted therefore looks again (sequentially consistent, so that
//! at least one of the two sees both) and clears all but one: a static entry stays before a learned
//! one, then the earlier place before the later, so all threads keep the same one.
//!
//! Another: counts are taken before a word is written and given back after it is cleared, so they are
//! never below the truth, and a limit holds whichever threads race for the last place.

mod age;
mod bucket;
mod control;
mod located;
mod mix;
mod word;

use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use frame::{MAX_PORTS, MacAddr, VlanId};

use crate::Seconds;
use age::AgeScale;
use bucket::{BUCKET_WORDS, Bucket, Found};
use mix::{MIN_BUCKET_BITS, Mix, Place, Which};
use word::Word;

pub(crate) use located::{Hearing, Key, Location, Reader};

pub use control::{Entry, FdbStatistics, Flush, SlotStatistics, StaticEntryError};

/// How many addresses are learned unless configured otherwise.
pub const DEFAULT_ADDRESSES: u32 = 65_536;

/// The most addresses that can be configured to be learned; the table then has 16 MiB.
pub const MAX_ADDRESSES: u32 = 1 << 20;

/// The ageing time unless configured otherwise (802.1Q-2018, table 8-6).
pub const DEFAULT_AGEING: Seconds = Seconds(300);

/// Words that a first bucket keeps for addresses whose second bucket is as full. The more, the
/// fewer addresses find both buckets full; the fewer, the fewer look-ups read a second line.
const SPARE_WORDS: usize = 2;

/// How often a change that met another thread's is tried again. Each failure means that the other
/// one succeeded; who fails this often has nothing to add.
const ATTEMPTS: usize = 8;

/// What is counted for one port, on a cache line of its own: under an address flood the port's
/// thread writes here for each frame, and nobody else should feel that.
#[derive(Debug, Default)]
#[repr(align(64))]
struct SlotCounts {
    learned: AtomicU32,
    refused_full: AtomicU64,
    refused_limit: AtomicU64,
}

/// What all ports have together, apart from what look-ups read.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Totals {
    learned: AtomicU32,
    fixed: AtomicU32,
    moves: AtomicU64,
}

/// What learning came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// The address was known behind this port; its age starts anew.
    Known,
    /// The address was not known.
    New,
    /// The station was behind this other port until now.
    Moved {
        /// That port's slot.
        from: u16,
    },
    /// There is a static entry for the address, which learning leaves alone.
    Static,
    /// Not learned: the table, or both buckets of the address, are full. Counted.
    RefusedFull,
    /// Not learned: the port has as many addresses as it may, or is none. Counted.
    RefusedLimit,
    /// Not learned: it is a group address.
    RefusedGroup,
    /// Not learned: other threads changed the same entry again and again.
    Contended,
}

/// The filtering database. See the module's essay.
#[derive(Debug)]
pub struct Fdb {
    mix: Mix,
    buckets: Box<[Bucket]>,
    /// How many addresses may be learned.
    capacity: u32,
    /// An [`AgeScale`].
    age_scale: AtomicU64,
    /// By slot.
    slots: Box<[SlotCounts]>,
    totals: Totals,
}

impl Fdb {
    /// An empty table that learns up to `addresses` addresses (at most [`MAX_ADDRESSES`]) and
    /// forgets them after `ageing` (1 to 1,000,000 seconds); values outside are brought within.
    /// Its mix is secret and different in each process.
    #[must_use]
    pub fn new(addresses: u32, ageing: Seconds) -> Self {
        Self::with_mix(addresses, ageing, Mix::random(bucket_bits(addresses)))
    }

    /// The same, but with entries always in the same places. For tests: who knows the seed can
    /// aim at a bucket.
    #[must_use]
    pub fn with_seed(addresses: u32, ageing: Seconds, seed: u64) -> Self {
        Self::with_mix(addresses, ageing, Mix::from_seed(bucket_bits(addresses), seed))
    }

    fn with_mix(addresses: u32, ageing: Seconds, mix: Mix) -> Self {
        let buckets = 1usize << bucket_bits(addresses);
        Self {
            mix,
            buckets: std::iter::repeat_with(Bucket::default).take(buckets).collect(),
            capacity: addresses.min(MAX_ADDRESSES),
            age_scale: AtomicU64::new(AgeScale::new(ageing).to_bits()),
            slots: std::iter::repeat_with(SlotCounts::default).take(MAX_PORTS).collect(),
            totals: Totals::default(),
        }
    }

    /// The slot of the port behind which an address of a VLAN lies, if that is known.
    ///
    /// Reads at most two cache lines, writes nothing and waits for nobody.
    #[must_use]
    #[inline]
    pub fn look_up(&self, vid: VlanId, address: MacAddr) -> Option<u16> {
        let (reader, key) = (self.reader(), Key::new(vid, address));
        let location = reader.locate(key);
        reader.slot(location).or_else(|| self.look_up_at(location))
    }

    /// Notes that a station was heard on a port, which may have `limit` addresses.
    ///
    /// Writes nothing if the address is known behind this port and its age is of the current unit
    /// (4 seconds with an ageing time of 300), so a busy station costs a write a unit.
    pub fn learn(
        &self,
        vid: VlanId,
        address: MacAddr,
        slot: u16,
        limit: u32,
        now: Seconds,
    ) -> Learned {
        if address.is_group() {
            return Learned::RefusedGroup;
        }
        if usize::from(slot) >= MAX_PORTS {
            return Learned::RefusedLimit;
        }
        let (reader, hearing) = (self.reader(), self.hearing(slot, limit, now));
        let location = reader.locate(Key::new(vid, address));
        if reader.is_known(location, hearing.rest()) {
            return Learned::Known;
        }
        self.learn_at(location, &hearing)
    }

    fn learn_place(&self, place: &Place, hearing: &Hearing) -> Learned {
        let Hearing { slot, limit, stamp } = *hearing;
        for _ in 0..ATTEMPTS {
            let outcome = match self.find(place) {
                Some(found) => self.confirm(&found, slot, limit, stamp),
                None => self.insert(place, slot, limit, stamp),
            };
            if let Some(learned) = outcome {
                return learned;
            }
        }
        Learned::Contended
    }

    /// Learns an address that has an entry. `None` if another thread changed that meanwhile.
    fn confirm(&self, found: &Found<'_>, slot: u16, limit: u32, stamp: u8) -> Option<Learned> {
        let heard = Word::learned(found.word.telling(), slot, stamp);
        let from = found.word.slot();
        if found.word.is_static() {
            return Some(Learned::Static);
        }
        if from == slot {
            // If this fails, another thread has refreshed it, moved it or swept it away; all three
            // are put right by the station's next frame.
            let _refreshed = found.word == heard || found.replace(heard);
            return Some(Learned::Known);
        }
        if !self.take_place(slot, limit) {
            return Some(Learned::RefusedLimit);
        }
        let moved = found.replace(heard);
        let left = if moved { from } else { slot };
        self.counts(left).learned.fetch_sub(1, Relaxed);
        moved.then(|| {
            self.totals.moves.fetch_add(1, Relaxed);
            Learned::Moved { from }
        })
    }

    /// Learns an address that has no entry. `None` if another thread came between.
    fn insert(&self, place: &Place, slot: u16, limit: u32, stamp: u8) -> Option<Learned> {
        if !self.take_place(slot, limit) {
            return Some(Learned::RefusedLimit);
        }
        let has_room = self.totals.learned.fetch_add(1, Relaxed) < self.capacity;
        let new = |telling| Word::learned(telling, slot, stamp);
        let free = if has_room { self.free_cell(place) } else { None };
        let Some((cell, telling)) = free else {
            self.give_back(new(0));
            self.counts(slot).refused_full.fetch_add(1, Relaxed);
            return Some(Learned::RefusedFull);
        };
        if !(Found { cell, word: Word::EMPTY }).replace(new(telling)) {
            self.give_back(new(0));
            return None;
        }
        self.settle(place);
        Word(cell.load(Relaxed)).is_of(telling).then_some(Learned::New)
    }

    /// Counts one more address behind a port, if it may have one more.
    fn take_place(&self, slot: u16, limit: u32) -> bool {
        let counts = self.counts(slot);
        // Looked at first, so that a port which is full writes no word that others read.
        let has_room = counts.learned.load(Relaxed) < limit
            && (counts.learned.fetch_add(1, Relaxed) < limit || {
                counts.learned.fetch_sub(1, Relaxed);
                false
            });
        if !has_room {
            counts.refused_limit.fetch_add(1, Relaxed);
        }
        has_room
    }

    /// Uncounts an entry that has been cleared, or was not written after all.
    fn give_back(&self, word: Word) {
        if word.is_static() {
            self.totals.fixed.fetch_sub(1, Relaxed);
        } else {
            self.totals.learned.fetch_sub(1, Relaxed);
            self.counts(word.slot()).learned.fetch_sub(1, Relaxed);
        }
    }

    /// The entry of a key, if there is one.
    fn find(&self, place: &Place) -> Option<Found<'_>> {
        let find_in = |which| self.bucket(place, which).find(place.telling(which));
        find_in(Which::First).or_else(|| find_in(Which::Second))
    }

    #[inline(always)]
    fn bucket(&self, place: &Place, which: Which) -> &Bucket {
        &self.buckets[place.bucket(which)]
    }

    /// An empty word of the first bucket, or of the second if the first is nearly full and the
    /// second emptier, and the telling bits of an entry there.
    fn free_cell(&self, place: &Place) -> Option<(&AtomicU64, u64)> {
        let empty_words = |which| self.bucket(place, which).empty_words();
        let in_first = empty_words(Which::First);
        let is_first = in_first > SPARE_WORDS || in_first >= empty_words(Which::Second);
        let which = if is_first { Which::First } else { Which::Second };
        let bucket = self.bucket(place, which);
        let mut cells = bucket.home(place.telling(which)).iter().chain(&bucket.0);
        let cell = cells.find(|cell| cell.load(Relaxed) == 0)?;
        Some((cell, place.telling(which)))
    }

    /// Clears all but one of the entries of a key.
    fn settle(&self, place: &Place) {
        for _ in 0..ATTEMPTS {
            let [first, second] = [Which::First, Which::Second].map(|which| {
                let bucket = self.bucket(place, which);
                let telling = place.telling(which);
                let all = bucket.0.iter().map(|cell| Found { cell, word: Word(cell.load(SeqCst)) });
                all.filter(move |found| found.word.is_of(telling))
            });
            let mut keep: Option<Found<'_>> = None;
            let mut is_settled = true;
            for found in first.chain(second) {
                let is_better = keep
                    .as_ref()
                    .is_none_or(|kept| found.word.is_static() && !kept.word.is_static());
                let spare = if is_better { keep.replace(found) } else { Some(found) };
                is_settled &= spare.is_none_or(|spare| self.clear(&spare));
            }
            if is_settled {
                return;
            }
        }
    }

    /// Clears an entry and uncounts it, unless it has changed meanwhile.
    fn clear(&self, found: &Found<'_>) -> bool {
        let is_cleared = found.replace(Word::EMPTY);
        if is_cleared {
            self.give_back(found.word);
        }
        is_cleared
    }

    /// The counts of a slot that a word held or that was checked on entry.
    fn counts(&self, slot: u16) -> &SlotCounts {
        &self.slots[usize::from(slot)]
    }

    fn age_scale(&self) -> AgeScale {
        AgeScale::from_bits(self.age_scale.load(Relaxed))
    }
}

/// Binary logarithm of the number of buckets: twice as many words as addresses, to the next power
/// of two, and enough for a word to hold the remainder.
fn bucket_bits(addresses: u32) -> u32 {
    const BUCKET_WORD_BITS: u32 = BUCKET_WORDS.trailing_zeros();
    let word_bits = addresses.min(MAX_ADDRESSES).next_power_of_two().trailing_zeros() + 1;
    word_bits.saturating_sub(BUCKET_WORD_BITS).max(MIN_BUCKET_BITS)
}

#[cfg(test)]
mod tests;
