//! A set of ports: one bit for each of the 1,024 slots, two cache lines.
//!
//! A VLAN's member set is one of these, and flooding is a walk over it. The walk takes the lowest
//! bit of a word, gives its place, clears it and goes on, so an empty word of 64 ports costs one
//! comparison: a VLAN of 3 ports among 1,000 floods in 16 comparisons and 3 steps.
//!
//! A slot not below [`MAX_PORTS`] is in no set and cannot be put into one. That keeps every
//! function here free of panics, whatever number a caller comes with.

use std::fmt;

use frame::{MAX_PORTS, SetBits};

const WORDS: usize = MAX_PORTS / 64;

/// A set of port slots, each below [`MAX_PORTS`].
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet([u64; WORDS]);

impl PortSet {
    /// The set without ports.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds a slot. Returns whether it was not in the set before; a slot not below [`MAX_PORTS`]
    /// is not added.
    pub fn insert(&mut self, slot: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(slot / 64)) else { return false };
        let before = *word;
        *word |= bit(slot);
        *word != before
    }

    /// Takes a slot out. Returns whether it was in the set.
    pub fn remove(&mut self, slot: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(slot / 64)) else { return false };
        let before = *word;
        *word &= !bit(slot);
        *word != before
    }

    /// Says whether a slot is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, slot: u16) -> bool {
        self.0.get(usize::from(slot / 64)).is_some_and(|word| word & bit(slot) != 0)
    }

    /// Says whether the set holds any slot but this one.
    #[must_use]
    #[inline]
    pub fn has_other_than(&self, slot: u16) -> bool {
        let own_word = usize::from(slot / 64);
        let others = |(at, &word): (usize, &u64)| {
            if at == own_word { word & !bit(slot) != 0 } else { word != 0 }
        };
        self.0.iter().enumerate().any(others)
    }

    /// Says whether no slot is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many slots are in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The slots in the set, ascending.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.0.iter().zip((0u16..).step_by(64)).flat_map(|(&word, first)| {
            #[expect(clippy::cast_possible_truncation, reason = "a place in a word, below 64")]
            SetBits(word).map(move |place| first + place as u16)
        })
    }
}

/// A slot's bit within its word.
const fn bit(slot: u16) -> u64 {
    1 << (slot % 64)
}

impl Default for PortSet {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.iter()).finish()
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(slots: I) -> Self {
        let mut set = Self::EMPTY;
        for slot in slots {
            set.insert(slot);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn slot_beyond_the_last_port_is_in_no_set() {
        let mut set = PortSet::EMPTY;

        assert!(!set.insert(1_024));
        assert!(!set.insert(u16::MAX));
        assert!(!set.remove(1_024));
        assert!(!set.contains(u16::MAX));
        assert!(set.is_empty());
    }

    #[test]
    fn set_of_one_port_has_no_other_than_that() {
        let set = PortSet::from_iter([700]);

        assert!(!set.has_other_than(700));
        assert!(set.has_other_than(60));
        assert!(!PortSet::EMPTY.has_other_than(700));
    }

    proptest! {
        #[test]
        fn set_holds_what_a_tree_of_slots_holds(
            steps in proptest::collection::vec((0u16..1_024, any::<bool>()), 0..200),
            probe in 0u16..1_024,
        ) {
            let mut set = PortSet::EMPTY;
            let mut model = BTreeSet::new();

            for (slot, is_insert) in steps {
                if is_insert {
                    prop_assert_eq!(set.insert(slot), model.insert(slot));
                } else {
                    prop_assert_eq!(set.remove(slot), model.remove(&slot));
                }
            }

            prop_assert_eq!(set.iter().collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
            prop_assert_eq!(set.count(), model.len());
            prop_assert_eq!(set.contains(probe), model.contains(&probe));
            prop_assert_eq!(set.has_other_than(probe), model.iter().any(|&slot| slot != probe));
        }
    }
}
