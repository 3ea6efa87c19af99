//! Look-ups and learning by the burst: all its addresses are located first, so that one waits for
//! their cache lines together instead of for each.

use std::sync::atomic::Ordering::Relaxed;

use frame::{MacAddr, VlanId, prefetch};

use super::bucket::Bucket;
use super::mix::{self, Mix};
use super::word::{Rest, Word};
use super::{Fdb, Learned};
use crate::Seconds;

/// An address of a VLAN, to be located. The default is none: there is no VLAN 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    #[inline(always)]
    pub(crate) const fn new(vid: VlanId, address: MacAddr) -> Self {
        Self(mix::key(vid, address))
    }
}

/// Where the entry of an address of a VLAN may lie. Valid for the [`Fdb`] that located it; the
/// default is where that of no address lies.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Location(u64);

/// What is noted of every station that is heard on one port at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hearing {
    pub(super) slot: u16,
    pub(super) limit: u32,
    pub(super) stamp: u8,
}

impl Hearing {
    /// What is left of the word of such a station's entry without its telling bits.
    pub(crate) fn rest(&self) -> Rest {
        Word::learned(0, self.slot, self.stamp).without(0)
    }
}

/// The table for the time of a burst, by value: a loop keeps it in registers, while it would read
/// what it needs of the [`Fdb`] again for every address.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a> {
    mix: Mix,
    buckets: &'a [Bucket],
}

impl Reader<'_> {
    /// Where the entry of an address may lie: for what is asked about it soon after, when the
    /// processor has fetched it.
    #[inline(always)]
    pub(crate) fn locate(&self, key: Key) -> Location {
        let mixed = self.mix.forward(key.0);
        prefetch(self.buckets.as_ptr().wrapping_add(self.mix.first_bucket(mixed)));
        Location(mixed)
    }

    /// The port of an address that was located, if its entry lies where most do.
    #[inline(always)]
    pub(crate) fn slot(&self, location: Location) -> Option<u16> {
        self.rest(location).slot()
    }

    /// Says whether an address that was located lies where most do, and need not be learned.
    #[inline(always)]
    pub(crate) fn is_known(&self, location: Location, heard: Rest) -> bool {
        self.rest(location) == heard
    }

    /// What is left of an address's entry without its telling bits, if that lies where most do.
    #[inline(always)]
    fn rest(&self, location: Location) -> Rest {
        let telling = Mix::telling(location.0);
        let home = self.buckets[self.mix.first_bucket(location.0)].home(telling);
        // Without a branch: nobody can foresee which of them it is.
        let [first, second, third, fourth] =
            home.each_ref().map(|cell| Word(cell.load(Relaxed)).without(telling));
        first.min(second).min(third.min(fourth))
    }
}

impl Fdb {
    /// The table, to be read for a burst.
    #[inline(always)]
    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader { mix: self.mix, buckets: &self.buckets }
    }

    /// What is noted of the stations heard on a port, which may have `limit` addresses. The slot is
    /// below [`MAX_PORTS`](frame::MAX_PORTS).
    pub(crate) fn hearing(&self, slot: u16, limit: u32, now: Seconds) -> Hearing {
        Hearing { slot, limit, stamp: self.age_scale().stamp(now) }
    }

    /// [`look_up`](Self::look_up) of an address that was located, wherever its entry lies: for what
    /// the [`Reader`] does not find.
    #[inline(never)]
    pub(crate) fn look_up_at(&self, location: Location) -> Option<u16> {
        self.find(&self.mix.place_of(location.0)).map(|found| found.word.slot())
    }

    /// [`learn`](Self::learn) of an address that was located and is no group's, likewise.
    #[inline(never)]
    pub(crate) fn learn_at(&self, location: Location, hearing: &Hearing) -> Learned {
        self.learn_place(&self.mix.place_of(location.0), hearing)
    }
}
