//! The Internet checksum (RFC 1071): the sum of 16-bit words in one's complement.
//!
//! A [`Sum`] grows at its end, piece by piece, whatever the pieces' lengths. Words are added in
//! the byte order of memory and swapped once at the end, which RFC 1071, 2 (B) allows; a piece
//! that begins at an odd place has its bytes the wrong way round, so its sum is swapped before it
//! is added.
//!
//! ```text
//!   bytes     │ a b │ c d │ e          pieces: "a b c", "d e"
//!   words     │ ab  │ cd  │ e0         sum of "d e" at an odd place: swap(de) = ed = 0d + e0 …
//! ```

/// A sum of 16-bit words in one's complement, not yet complemented.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Little-endian words, with the carries of all additions still in the upper bits. Each piece
    /// adds less than 2^32, so 2^32 pieces fit.
    words: u64,
    /// An odd number of bytes was added.
    is_odd: bool,
}

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self { words: 0, is_odd: false };

    /// Adds the bytes that come next.
    #[inline]
    pub fn add(&mut self, bytes: &[u8]) {
        self.add_piece(sum_words(bytes), bytes.len());
    }

    /// Adds a number from outside the bytes, for example a word of a pseudo-header. It counts as
    /// standing at an even place.
    #[inline]
    pub const fn add_number(&mut self, number: u16) {
        self.words += number.swap_bytes() as u64;
    }

    /// Adds bytes at an even place without counting them: addresses of a pseudo-header.
    #[inline]
    pub fn add_apart(&mut self, bytes: &[u8]) {
        self.words += fold_to_32(sum_words(bytes));
    }

    /// Adds a piece of `length_bytes` bytes whose little-endian words have the sum `words`.
    #[inline]
    pub(crate) const fn add_piece(&mut self, words: u64, length_bytes: usize) {
        let words = fold_to_32(words);
        self.words += if self.is_odd { fold_to_16(words).swap_bytes() as u64 } else { words };
        self.is_odd ^= length_bytes % 2 == 1;
    }

    /// The sum in 16 bits: what a pseudo-header puts into a field whose checksum somebody else
    /// completes.
    #[must_use]
    #[inline]
    pub const fn folded(self) -> u16 {
        fold_to_16(fold_to_32(self.words)).swap_bytes()
    }

    /// Its complement: the checksum. A message that contains its own checksum has 0.
    #[must_use]
    #[inline]
    pub const fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// The sum of little-endian words, the last one filled up with a zero byte.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut words = 0;
    for &chunk in chunks {
        words += halves(u64::from_le_bytes(chunk));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    words + halves(u64::from_le_bytes(last))
}

/// The sum of a number's 32-bit halves. 2^32 is 1 where words are added in one's complement.
#[inline]
pub(crate) const fn halves(number: u64) -> u64 {
    (number >> 32) + (number & 0xffff_ffff)
}

/// Less than 2^33 for any number, and less than 2^32 + 2 after two steps.
#[inline]
const fn fold_to_32(words: u64) -> u64 {
    halves(halves(words))
}

/// Folds up to 33 bits into 16, carries round to the front.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "folded until 16 bits are left")]
const fn fold_to_16(words: u64) -> u16 {
    let once = (words >> 32) + (words >> 16 & 0xffff) + (words & 0xffff);
    let twice = (once >> 16) + (once & 0xffff);
    ((twice >> 16) + (twice & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071, 3: the numerical example.
    const EXAMPLE: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    /// The sum as the RFC defines it, word by word.
    fn defined(bytes: &[u8]) -> u16 {
        bytes.chunks(2).fold(0u16, |sum, pair| {
            let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
            let (sum, carry) = sum.overflowing_add(word);
            sum + u16::from(carry)
        })
    }

    #[test]
    fn example_of_the_rfc_has_its_sum() {
        let mut sum = Sum::ZERO;

        sum.add(&EXAMPLE);

        assert_eq!(sum.folded(), 0xddf2);
        assert_eq!(sum.checksum(), !0xddf2);
    }

    #[test]
    fn message_with_its_checksum_has_none() {
        let mut sum = Sum::ZERO;
        sum.add(&EXAMPLE);
        let checksum = sum.checksum();

        sum.add(&checksum.to_be_bytes());

        assert_eq!(sum.checksum(), 0);
    }

    proptest! {
        #[test]
        fn sum_of_pieces_is_that_of_the_whole(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|&cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let mut sum = Sum::ZERO;

            cuts.windows(2).for_each(|cut| sum.add(&bytes[cut[0]..cut[1]]));

            prop_assert_eq!(sum.folded(), defined(&bytes));
        }

        #[test]
        fn largest_words_carry(count in 0usize..100_000) {
            let mut sum = Sum::ZERO;

            sum.add(&vec![0xff; count]);

            prop_assert_eq!(sum.folded(), defined(&vec![0xff; count]));
        }

        #[test]
        fn numbers_from_outside_do_not_mind_where_they_are_added(
            bytes in proptest::collection::vec(any::<u8>(), 0..9), number: u16
        ) {
            let (mut before, mut behind) = (Sum::ZERO, Sum::ZERO);

            before.add_number(number);
            before.add(&bytes);
            behind.add(&bytes);
            behind.add_apart(&number.to_be_bytes());

            prop_assert_eq!(before.folded(), behind.folded());
        }
    }
}
