//! What the control thread does with the filtering database: the sweep, static entries, flushing,
//! listing and counting.
//!
//! None of it stops a poll thread. Each walks the whole table (1 MiB by default, well under a
//! millisecond) and changes one word at a time by compare-exchange: a word that a poll thread
//! changed first is looked at again. A flush thus has removed all that was there when it began;
//! what poll threads learn while it runs may stay. To be rid of a port, take it out of every
//! thread's bridge first.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use frame::{MAX_PORTS, MacAddr, VlanId};

use super::{ATTEMPTS, AgeScale, BUCKET_WORDS, Fdb, Found, Learned, Which, Word};
use crate::Seconds;

/// One entry, for listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The VLAN.
    pub vid: VlanId,
    /// The station's address.
    pub address: MacAddr,
    /// The slot of the port it lies behind.
    pub slot: u16,
    /// How long ago the station was last heard, within one unit; `None` for a static entry, which
    /// has no age.
    pub age: Option<Seconds>,
}

impl Entry {
    /// Says whether an operator made this entry. Such entries neither move nor age.
    #[must_use]
    pub const fn is_static(&self) -> bool {
        self.age.is_none()
    }
}

/// Which entries to remove: those that fit all that is set. The default are all learned ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flush {
    /// Only those behind this port.
    pub slot: Option<u16>,
    /// Only those of this VLAN.
    pub vid: Option<VlanId>,
    /// Static entries as well. Set it when a port goes away: the next one in its slot is not its heir.
    pub with_static: bool,
}

/// Counts of the whole table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FdbStatistics {
    /// Entries, learned and static.
    pub entries: u32,
    /// Of those, the static ones.
    pub static_entries: u32,
    /// Stations that were heard behind another port than before.
    pub moves: u64,
    /// Addresses not learned because the table or their buckets were full.
    pub refused_full: u64,
    /// Addresses not learned because their port had as many as it may.
    pub refused_limit: u64,
}

/// Counts of one port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SlotStatistics {
    /// Addresses learned behind it.
    pub learned: u32,
    /// As in [`FdbStatistics`].
    pub refused_full: u64,
    /// As in [`FdbStatistics`].
    pub refused_limit: u64,
}

/// Why a static entry was not added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StaticEntryError {
    /// A group has no one port.
    #[error("{0} is a group address: an entry names one station")]
    GroupAddress(MacAddr),
    /// No such port.
    #[error("there is no port slot {0}")]
    NoSuchSlot(u16),
    /// There is one already, for another port.
    #[error("there is a static entry for {address} in VLAN {vid} already, for another port")]
    Exists {
        /// The VLAN.
        vid: VlanId,
        /// The address.
        address: MacAddr,
        /// The other port's slot.
        slot: u16,
    },
    /// All words that could hold it hold static entries.
    #[error("no room for {address} in VLAN {vid}: its places in the table hold static entries")]
    Full {
        /// The VLAN.
        vid: VlanId,
        /// The address.
        address: MacAddr,
    },
    /// There is no static entry for the address.
    #[error("there is no static entry for {address} in VLAN {vid}")]
    NotFound {
        /// The VLAN.
        vid: VlanId,
        /// The address.
        address: MacAddr,
    },
}

impl Fdb {
    /// Removes entries whose stations were silent for the ageing time. To be called about once a
    /// second. Returns how many went.
    pub fn age(&self, now: Seconds) -> usize {
        let scale = self.age_scale();
        self.remove_where(|_, word| word.stamp().is_some_and(|stamp| scale.is_expired(stamp, now)))
    }

    /// The ageing time.
    #[must_use]
    pub fn ageing(&self) -> Seconds {
        self.age_scale().ageing()
    }

    /// Changes the ageing time, to 1 to 1,000,000 seconds. Entries keep their age, to within one
    /// unit of the old time and of the new.
    pub fn set_ageing(&self, ageing: Seconds, now: Seconds) {
        let (old, new) = (self.age_scale(), AgeScale::new(ageing));
        self.age_scale.store(new.to_bits(), Relaxed);
        for (_, cell) in self.cells() {
            let word = Word(cell.load(Relaxed));
            if let Some(stamp) = word.stamp() {
                let stamp = old.restamp(stamp, now, new);
                let restamped = Word::learned(word.telling(), word.slot(), stamp);
                // If this fails the station was heard this moment, and has its new stamp.
                let _restamped = Found { cell, word }.replace(restamped);
            }
        }
    }

    /// Learns an address that another table knew and heard of so long ago.
    pub fn learn_aged(
        &self,
        vid: VlanId,
        address: MacAddr,
        slot: u16,
        limit: u32,
        age: Seconds,
        now: Seconds,
    ) -> Learned {
        let learned = self.learn(vid, address, slot, limit, now);
        if learned == Learned::New
            && let Some(found) = self.find(&self.mix.place(vid, address))
        {
            let stamp = self.age_scale().stamp_of_age(age, now);
            // If this fails the station was heard this moment.
            let _aged = found.replace(Word::learned(found.word.telling(), slot, stamp));
        }
        learned
    }

    /// Adds an entry that neither moves nor ages, in place of a learned one if there is. Static
    /// entries count neither against the table's limit nor the port's, and where there is no room
    /// for one, a learned entry of another address makes way. Adding one again changes nothing.
    ///
    /// # Errors
    ///
    /// A group address, a slot not below [`MAX_PORTS`], a static entry for another port, or no room.
    pub fn add_static(
        &self,
        vid: VlanId,
        address: MacAddr,
        slot: u16,
    ) -> Result<(), StaticEntryError> {
        if address.is_group() {
            return Err(StaticEntryError::GroupAddress(address));
        }
        if usize::from(slot) >= MAX_PORTS {
            return Err(StaticEntryError::NoSuchSlot(slot));
        }
        let place = self.mix.place(vid, address);
        for _ in 0..ATTEMPTS * BUCKET_WORDS {
            let found = self.find(&place);
            let (found, telling) = match found {
                Some(found) if found.word.is_static() && found.word.slot() == slot => return Ok(()),
                Some(found) if found.word.is_static() => {
                    let slot = found.word.slot();
                    return Err(StaticEntryError::Exists { vid, address, slot });
                }
                Some(found) => {
                    let telling = found.word.telling();
                    (found, telling)
                }
                None => self
                    .free_cell(&place)
                    .map(|(cell, telling)| (Found { cell, word: Word::EMPTY }, telling))
                    .or_else(|| self.learned_neighbour(&place))
                    .ok_or(StaticEntryError::Full { vid, address })?,
            };
            if self.fix(&found, Word::fixed(telling, slot)) {
                self.settle(&place);
                return Ok(());
            }
        }
        Err(StaticEntryError::Full { vid, address })
    }

    /// A learned entry in one of the buckets, and the telling bits of a word there.
    fn learned_neighbour(&self, place: &super::Place) -> Option<(Found<'_>, u64)> {
        [Which::First, Which::Second].into_iter().find_map(|which| {
            let cells = self.bucket(place, which).0.iter();
            let mut words = cells.map(|cell| Found { cell, word: Word(cell.load(Relaxed)) });
            Some((words.find(|found| found.word.stamp().is_some())?, place.telling(which)))
        })
    }

    /// Puts a static entry in the place of an empty word or a learned entry.
    fn fix(&self, found: &Found<'_>, fixed: Word) -> bool {
        self.totals.fixed.fetch_add(1, Relaxed);
        let is_fixed = found.replace(fixed);
        if !is_fixed {
            self.give_back(fixed);
        } else if !found.word.is_empty() {
            self.give_back(found.word);
        }
        is_fixed
    }

    /// Removes a static entry.
    ///
    /// # Errors
    ///
    /// [`StaticEntryError::NotFound`] if there is none; a learned entry is left alone.
    pub fn remove_static(&self, vid: VlanId, address: MacAddr) -> Result<(), StaticEntryError> {
        let found = self.find(&self.mix.place(vid, address));
        // Only the control thread changes a static entry, so it is still there to be cleared.
        match found.filter(|found| found.word.is_static() && self.clear(found)) {
            Some(_) => Ok(()),
            None => Err(StaticEntryError::NotFound { vid, address }),
        }
    }

    /// Removes the entries that fit. Returns how many went.
    pub fn flush(&self, flush: Flush) -> usize {
        self.remove_where(|bucket, word| {
            (flush.with_static || !word.is_static())
                && flush.slot.is_none_or(|slot| word.slot() == slot)
                && flush.vid.is_none_or(|vid| self.vid_of(bucket, word) == Some(vid))
        })
    }

    /// All entries, in no order. One that is changed meanwhile is listed as it was or as it is.
    #[must_use]
    pub fn entries(&self, now: Seconds) -> Vec<Entry> {
        let scale = self.age_scale();
        self.cells()
            .filter_map(|(bucket, cell)| {
                let word = Word(cell.load(Relaxed));
                let (vid, address) =
                    if word.is_empty() { None } else { self.mix.key(bucket, word.telling()) }?;
                let age = word.stamp().map(|stamp| scale.age(stamp, now));
                Some(Entry { vid, address, slot: word.slot(), age })
            })
            .collect()
    }

    /// How many addresses it learns at most.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// The counts of the whole table.
    #[must_use]
    pub fn statistics(&self) -> FdbStatistics {
        let static_entries = self.totals.fixed.load(Relaxed);
        FdbStatistics {
            entries: static_entries + self.totals.learned.load(Relaxed),
            static_entries,
            moves: self.totals.moves.load(Relaxed),
            refused_full: self.slots.iter().map(|slot| slot.refused_full.load(Relaxed)).sum(),
            refused_limit: self.slots.iter().map(|slot| slot.refused_limit.load(Relaxed)).sum(),
        }
    }

    /// The counts of one port; all zero for a slot not below [`MAX_PORTS`]. Refusals are counted
    /// since the start, whoever had the slot: take the difference.
    #[must_use]
    pub fn slot_statistics(&self, slot: u16) -> SlotStatistics {
        self.slots.get(usize::from(slot)).map_or_else(SlotStatistics::default, |counts| {
            SlotStatistics {
                learned: counts.learned.load(Relaxed),
                refused_full: counts.refused_full.load(Relaxed),
                refused_limit: counts.refused_limit.load(Relaxed),
            }
        })
    }

    fn vid_of(&self, bucket: usize, word: Word) -> Option<VlanId> {
        self.mix.key(bucket, word.telling()).map(|(vid, _)| vid)
    }

    /// Clears every entry that fits, also one that a poll thread changes at that moment, unless it
    /// then no longer fits.
    fn remove_where(&self, fits: impl Fn(usize, Word) -> bool) -> usize {
        let remove = |(bucket, cell): (usize, &AtomicU64)| loop {
            let word = Word(cell.load(Relaxed));
            if word.is_empty() || !fits(bucket, word) {
                return false;
            }
            if self.clear(&Found { cell, word }) {
                return true;
            }
        };
        self.cells().filter(|&at| remove(at)).count()
    }

    /// Every word, with its bucket's number.
    fn cells(&self) -> impl Iterator<Item = (usize, &AtomicU64)> {
        self.buckets
            .iter()
            .enumerate()
            .flat_map(|(number, bucket)| bucket.0.iter().map(move |cell| (number, cell)))
    }
}
