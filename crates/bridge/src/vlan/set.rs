//! A set of VLANs, and the text an operator writes for it: `100,200-299`.
//!
//! One bit for each of the 4,096 VIDs, in 64 words behind a box: a port's policy stays small
//! enough to be moved about. Bits 0 and 4095 are never set, for a member is a [`VlanId`].
//!
//! What is printed is the shortest form: ascending, runs of two and more as ranges. It reads back
//! as the same set, which is what `config save` relies on.

use std::fmt;
use std::str::FromStr;

use frame::{InvalidVlanId, VlanId};

const WORDS: usize = 4_096 / 64;

/// A set of VLANs.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet(Box<[u64; WORDS]>);

impl VlanSet {
    /// The set without VLANs.
    #[must_use]
    pub fn new() -> Self {
        Self(Box::new([0; WORDS]))
    }

    /// The set of all VLANs, 1 to 4094.
    #[must_use]
    pub fn all() -> Self {
        (1..=4_094).filter_map(|number| VlanId::try_from(number).ok()).collect()
    }

    /// Adds a VLAN. Returns whether it was not in the set before.
    pub fn insert(&mut self, vid: VlanId) -> bool {
        let (word, bit) = place(vid);
        let before = self.0[word];
        self.0[word] |= bit;
        self.0[word] != before
    }

    /// Takes a VLAN out. Returns whether it was in the set.
    pub fn remove(&mut self, vid: VlanId) -> bool {
        let (word, bit) = place(vid);
        let before = self.0[word];
        self.0[word] &= !bit;
        self.0[word] != before
    }

    /// Says whether a VLAN is in the set.
    #[must_use]
    #[inline]
    pub fn contains(&self, vid: VlanId) -> bool {
        let (word, bit) = place(vid);
        self.0[word] & bit != 0
    }

    /// Says whether no VLAN is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// How many VLANs are in the set.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// The VLANs in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> + '_ {
        self.0.iter().zip((0u16..).step_by(64)).flat_map(|(&word, first)| {
            (0u16..64)
                .filter(move |at| word >> at & 1 == 1)
                .filter_map(move |at| VlanId::try_from(first + at).ok())
        })
    }

    /// The runs of neighbouring VLANs in the set, ascending: first and last of each.
    pub fn ranges(&self) -> impl Iterator<Item = (VlanId, VlanId)> + '_ {
        let mut vids = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = vids.next()?;
            let mut last = first;
            while let Some(next) = vids.next_if(|next| next.get() == last.get() + 1) {
                last = next;
            }
            Some((first, last))
        })
    }
}

/// The word and the bit that stand for a VLAN.
const fn place(vid: VlanId) -> (usize, u64) {
    // A `VlanId` is below 4,095, so the word is below 64.
    ((vid.get() / 64) as usize, 1 << (vid.get() % 64))
}

impl Default for VlanSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vids: I) -> Self {
        let mut set = Self::new();
        for vid in vids {
            set.insert(vid);
        }
        set
    }
}

impl fmt::Display for VlanSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (first, last)) in self.ranges().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            if first == last {
                write!(formatter, "{comma}{first}")?;
            } else {
                write!(formatter, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VlanSet({self})")
    }
}

/// The text is not a list of VLANs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseVlanSetError {
    /// Nothing where a VLAN or a range was due.
    #[error("a VLAN is missing: write a list like 100,200-299")]
    Missing,
    /// Not a number, or one above 65,535.
    #[error("{0:?} is not a VLAN: write a list like 100,200-299")]
    NotANumber(String),
    /// A number outside 1 to 4094.
    #[error(transparent)]
    OutOfRange(#[from] InvalidVlanId),
    /// A range whose first VLAN is above its last.
    #[error("the range {first}-{last} runs backwards")]
    Backwards {
        /// What was written before the `-`.
        first: VlanId,
        /// What was written behind it.
        last: VlanId,
    },
}

impl FromStr for VlanSet {
    type Err = ParseVlanSetError;

    /// Reads `VID,VID-VID`, with blanks wherever they please.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut set = Self::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_vid(first)?, parse_vid(last)?);
            if first > last {
                return Err(ParseVlanSetError::Backwards { first, last });
            }
            for number in first.get()..=last.get() {
                set.insert(VlanId::try_from(number)?);
            }
        }
        Ok(set)
    }
}

fn parse_vid(text: &str) -> Result<VlanId, ParseVlanSetError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(ParseVlanSetError::Missing);
    }
    // `parse` would take a sign; no VLAN has one.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { text.parse().ok() } else { None };
    let number: u16 = number.ok_or_else(|| ParseVlanSetError::NotANumber(text.to_owned()))?;
    Ok(VlanId::try_from(number)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn list_with_ranges_is_read_and_printed_in_its_shortest_form() {
        let set: VlanSet = "299, 100,200-298,3,4 ,4".parse().unwrap();

        assert_eq!(set.to_string(), "3-4,100,200-299");
        assert_eq!(set.count(), 103);
    }

    #[test]
    fn all_vlans_are_1_to_4094() {
        assert_eq!(VlanSet::all().to_string(), "1-4094");
        assert_eq!("1-4094".parse(), Ok(VlanSet::all()));
    }

    #[test]
    fn text_that_is_no_list_of_vlans_is_refused_with_its_reason() {
        let refusal = |text: &str| text.parse::<VlanSet>().unwrap_err().to_string();

        assert!(refusal("").starts_with("a VLAN is missing"));
        assert!(refusal("1,,2").starts_with("a VLAN is missing"));
        assert!(refusal("7-").starts_with("a VLAN is missing"));
        assert!(refusal("ten").starts_with("\"ten\" is not a VLAN"));
        assert!(refusal("+7").starts_with("\"+7\" is not a VLAN"));
        assert!(refusal("1-2-3").starts_with("\"2-3\" is not a VLAN"));
        assert!(refusal("99999").starts_with("\"99999\" is not a VLAN"));
        assert_eq!(refusal("0"), "VLAN 0 is outside 1 to 4094");
        assert_eq!(refusal("4000-4095"), "VLAN 4095 is outside 1 to 4094");
        assert_eq!(refusal("9-7"), "the range 9-7 runs backwards");
    }

    proptest! {
        #[test]
        fn set_reads_what_it_prints(numbers in proptest::collection::btree_set(1u16..=4_094, 1..300)) {
            let vids: Vec<_> = numbers.iter().map(|&number| VlanId::try_from(number).unwrap()).collect();

            let set: VlanSet = vids.iter().copied().collect();

            prop_assert_eq!(set.to_string().parse(), Ok(set.clone()));
            prop_assert_eq!(set.iter().collect::<Vec<_>>(), vids);
        }
    }
}
