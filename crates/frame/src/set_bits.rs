//! Walking the bits of a word: ports of a set, frames of a burst.

use std::ops::Range;

/// The places of the bits that are set in a word, ascending. Each step takes the lowest and clears it,
/// so a bit that is not set costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct SetBits(pub u64);

impl SetBits {
    /// The places, if there are some and each follows the one before it.
    #[must_use]
    #[inline]
    pub const fn as_range(self) -> Option<Range<usize>> {
        let start = self.0.trailing_zeros();
        if start == u64::BITS {
            return None;
        }
        let count = (self.0 >> start).trailing_ones();
        if count == self.0.count_ones() {
            Some(start as usize..(start + count) as usize)
        } else {
            None
        }
    }
}

impl Iterator for SetBits {
    type Item = usize;

    #[inline]
    fn next(&mut self) -> Option<usize> {
        let lowest = (self.0 != 0).then(|| self.0.trailing_zeros() as usize);
        self.0 &= self.0.wrapping_sub(1);
        lowest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_walked_from_the_lowest_to_the_highest() {
        assert_eq!(SetBits(1 << 63 | 0b1011).collect::<Vec<_>>(), [0, 1, 3, 63]);
        assert_eq!(SetBits(0).next(), None);
    }

    #[test]
    fn bits_side_by_side_are_a_range_and_others_are_not() {
        assert_eq!(SetBits(0b0111_0000).as_range(), Some(4..7));
        assert_eq!(SetBits(u64::MAX).as_range(), Some(0..64));
        assert_eq!(SetBits(1 << 63).as_range(), Some(63..64));
        assert_eq!(SetBits(0b101).as_range(), None);
        assert_eq!(SetBits(0).as_range(), None);
    }
}
