//! How old a learned entry is, in seven bits (802.1Q-2018, 8.8.3).
//!
//! Time is cut into units, a power of two of seconds and the smallest of which the ageing time has
//! at most 80. An entry's stamp is the number of the unit in which its station was last heard,
//! modulo 126. A frame of a station whose stamp is of this unit writes nothing, so a busy station
//! costs one write a unit: every 4 seconds with the usual 300.
//!
//! ```text
//!   units since the stamp     0 ……… 80 │ 81 …… 121 │ 122 … 125
//!   the entry is              alive    │ expired   │ of a thread whose clock is ahead: alive
//! ```
//!
//! An entry expires no earlier than the ageing time after its station was last heard, and no
//! more than two units later, if the sweep comes by: a sweep that is late by 40 units would take an
//! expired entry for a new one, which then lives one round longer.

use super::word::STAMPS;
use crate::Seconds;

/// Most units in an ageing time.
const MAX_UNITS: u32 = 80;

/// Stamps that are read as "of a unit that has not begun here yet".
const AHEAD: u32 = 4;

/// The bounds of an ageing time; the standard's are 10 and 1,000,000 seconds (table 8-6).
const AGEING_SECONDS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// The ageing time and the unit that follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AgeScale {
    ageing_seconds: u32,
    /// Binary logarithm of the unit in seconds.
    shift: u32,
}

impl AgeScale {
    /// The scale for an ageing time, which is brought within 1 to 1,000,000 seconds.
    #[inline]
    pub(super) fn new(ageing: Seconds) -> Self {
        let ageing_seconds = ageing.0.clamp(*AGEING_SECONDS.start(), *AGEING_SECONDS.end());
        let shift = ageing_seconds.div_ceil(MAX_UNITS).next_power_of_two().trailing_zeros();
        Self { ageing_seconds, shift }
    }

    /// The scale as a word, which learning reads for each frame.
    pub(super) const fn to_bits(self) -> u64 {
        (self.shift as u64) << 32 | self.ageing_seconds as u64
    }

    /// The scale that a word stands for.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "two halves")]
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self { ageing_seconds: bits as u32, shift: (bits >> 32) as u32 }
    }

    pub(super) const fn ageing(self) -> Seconds {
        Seconds(self.ageing_seconds)
    }

    /// The stamp of this moment.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "below STAMPS")]
    pub(super) const fn stamp(self, now: Seconds) -> u8 {
        ((now.0 >> self.shift) % STAMPS as u32) as u8
    }

    /// Whole units from the stamp's to this moment's.
    const fn units(self, stamp: u8, now: Seconds) -> u32 {
        let units = (self.stamp(now) as u32 + STAMPS as u32 - stamp as u32) % STAMPS as u32;
        if units >= STAMPS as u32 - AHEAD { 0 } else { units }
    }

    /// Says whether an entry with this stamp has outlived the ageing time.
    pub(super) const fn is_expired(self, stamp: u8, now: Seconds) -> bool {
        self.units(stamp, now) > self.ageing_seconds.div_ceil(1 << self.shift)
    }

    /// How long ago the stamp's unit began: at most one unit more than the station's silence.
    pub(super) const fn age(self, stamp: u8, now: Seconds) -> Seconds {
        let into_unit = now.0 & ((1 << self.shift) - 1);
        Seconds((self.units(stamp, now) << self.shift) + into_unit)
    }

    /// The stamp for the same age on another scale; one that is too old for it becomes expired.
    pub(super) fn restamp(self, stamp: u8, now: Seconds, to: Self) -> u8 {
        to.stamp_of_age(self.age(stamp, now), now)
    }

    /// The stamp of a station that was silent for so long; too long becomes expired.
    pub(super) fn stamp_of_age(self, age: Seconds, now: Seconds) -> u8 {
        let units_ago = (age.0 >> self.shift).min(MAX_UNITS + 1);
        let at = u32::from(self.stamp(now)) + u32::from(STAMPS) - units_ago;
        #[expect(clippy::cast_possible_truncation, reason = "below STAMPS")]
        let stamp = (at % u32::from(STAMPS)) as u8;
        stamp
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn usual_ageing_time_is_counted_in_units_of_four_seconds() {
        assert_eq!(AgeScale::new(Seconds(300)).shift, 2);
        assert_eq!(AgeScale::new(Seconds(80)).shift, 0);
        assert_eq!(AgeScale::new(Seconds(81)).shift, 1);
    }

    #[test]
    fn stamp_of_a_clock_that_is_ahead_is_new_and_not_ancient() {
        let scale = AgeScale::new(Seconds(10));
        let ahead = scale.stamp(Seconds(1_001));

        assert!(!scale.is_expired(ahead, Seconds(1_000)));
        assert_eq!(scale.age(ahead, Seconds(1_000)), Seconds(0));
    }

    #[test]
    fn ageing_time_out_of_bounds_is_brought_within() {
        assert_eq!(AgeScale::new(Seconds(0)).ageing(), Seconds(1));
        assert_eq!(AgeScale::new(Seconds(u32::MAX)).ageing(), Seconds(1_000_000));
    }

    proptest! {
        #[test]
        fn entry_expires_within_two_units_of_the_ageing_time(
            ageing in 1u32..=1_000_000, heard in 0u32..2_000_000_000, silent in 0u32..2_000_000,
        ) {
            let scale = AgeScale::new(Seconds(ageing));
            let unit = 1 << scale.shift;
            // What a sweep once a second would ever see.
            let silent = silent.min(ageing + 2 * unit);

            let expired = scale.is_expired(scale.stamp(Seconds(heard)), Seconds(heard + silent));

            prop_assert!(!expired || silent >= ageing);
            prop_assert!(expired || silent < ageing + 2 * unit);
        }

        #[test]
        fn age_survives_a_change_of_scale(
            old in 1u32..100_000, new in 1u32..100_000, heard in 0u32..1_000_000, silent in 0u32..50_000,
        ) {
            let (from, to) = (AgeScale::new(Seconds(old)), AgeScale::new(Seconds(new)));
            let silent = silent.min(old);
            let now = Seconds(heard + silent);

            let stamp = from.restamp(from.stamp(Seconds(heard)), now, to);

            let slack = (1 << from.shift) + (2 << to.shift);
            if silent > new + slack {
                prop_assert!(to.is_expired(stamp, now));
            }
            if silent + slack < new {
                prop_assert!(!to.is_expired(stamp, now));
                prop_assert!(to.age(stamp, now).0.abs_diff(silent) <= slack);
            }
        }
    }
}
