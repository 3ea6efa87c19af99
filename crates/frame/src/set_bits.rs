//! Walking the bits of a word: ports of a set, frames of a burst.

/// The places of the bits that are set in a word, ascending. Each step takes the lowest and clears it,
/// so a bit that is not set costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct SetBits(pub u64);

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
}
