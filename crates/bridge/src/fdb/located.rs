//! Look-ups and learning by the burst: all its addresses are located first, so that one waits for
//! their cache lines together instead of for each.

use std::sync::atomic::Ordering::Relaxed;

use frame::{MacAddr, VlanId, prefetch};

use super::mix::{self, Which};
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

impl Fdb {
    /// Where the entry of an address may lie: for [`look_up_at`](Self::look_up_at) and
    /// [`learn_at`](Self::learn_at) soon after, when the processor has fetched it.
    #[inline(always)]
    pub(crate) fn locate(&self, key: Key) -> Location {
        let mixed = self.mix.forward(key.0);
        prefetch(self.buckets.as_ptr().wrapping_add(self.mix.first_bucket(mixed) as usize));
        Location(mixed)
    }

    /// [`look_up`](Self::look_up) of an address that was located.
    #[inline(always)]
    pub(crate) fn look_up_at(&self, location: Location) -> Option<u16> {
        self.nearest(location).slot().or_else(|| self.look_up_elsewhere(location))
    }

    /// The same for one that does not lie where most do.
    #[inline(never)]
    fn look_up_elsewhere(&self, location: Location) -> Option<u16> {
        self.find(&self.mix.place_of(location.0)).map(|found| found.word.slot())
    }

    /// What is noted of the stations heard on a port, which may have `limit` addresses. The slot is
    /// below [`MAX_PORTS`](frame::MAX_PORTS).
    pub(crate) fn hearing(&self, slot: u16, limit: u32, now: Seconds) -> Hearing {
        Hearing { slot, limit, stamp: self.age_scale().stamp(now) }
    }

    /// [`learn`](Self::learn) of an address that was located and is no group's.
    #[inline(always)]
    pub(crate) fn learn_at(&self, location: Location, hearing: &Hearing) -> Learned {
        let heard = Word::learned(0, hearing.slot, hearing.stamp).without(0);
        let is_known = self.nearest(location) == heard;
        if is_known { Learned::Known } else { self.learn_elsewhere(location, hearing) }
    }

    /// The same for one that is not known, or does not lie where most do.
    #[inline(never)]
    fn learn_elsewhere(&self, location: Location, hearing: &Hearing) -> Learned {
        self.learn_place(&self.mix.place_of(location.0), hearing)
    }

    /// What is left of an address's entry without its telling bits, if that lies where most do.
    #[inline(always)]
    pub(super) fn nearest(&self, location: Location) -> Rest {
        let place = self.mix.place_of(location.0);
        let telling = place.telling(Which::First);
        let cells = self.bucket(&place, Which::First).favourites(telling);
        // Without a branch: nobody can foresee which of them it is.
        let [first, second, third, fourth] =
            cells.map(|cell| Word(cell.load(Relaxed)).without(telling));
        first.min(second).min(third.min(fourth))
    }
}
