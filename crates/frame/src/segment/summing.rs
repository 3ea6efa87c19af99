//! Reading a frame in other ways than plain copying: summing what is copied, into private
//! memory, or not at all.

#![allow(unsafe_code)]

use std::ptr;

use super::{Reader, Room, sum};
use crate::Sum;

impl Reader<'_> {
    /// As [`copy_to`](Self::copy_to), and adds what was copied to `sum`, in the same pass.
    #[inline]
    pub fn copy_summing(&mut self, room: &mut Room, sum: &mut Sum) -> usize {
        let mut copied = room.write(self.head);
        sum.add(&self.head[..copied]);
        self.head = &self.head[copied..];
        copied += self.walk(room.length_bytes, |from, count| {
            // SAFETY: `from` has `count` readable bytes, as `walk` says, and `room` as many
            // writable ones, by `Room::new` and the limit given to `walk`.
            let words = unsafe { sum::sum::<true>(from, room.start, count) };
            room.advance(count);
            sum.add_piece(words, count);
        });
        copied
    }

    /// Adds up to `limit` of the frame's next bytes to `sum`, without copying them. Returns how
    /// many.
    ///
    /// What is copied later may differ, if a guest writes meanwhile: then it has spoilt its own
    /// checksum.
    pub fn sum(&mut self, limit: usize, sum: &mut Sum) -> usize {
        let count = self.head.len().min(limit);
        let (head, rest) = self.head.split_at(count);
        self.head = rest;
        sum.add(head);
        count
            + self.walk(limit_bytes(limit - count), |from, count| {
                // SAFETY: `from` has `count` readable bytes, as `walk` says; nothing is stored.
                let words = unsafe { sum::sum::<false>(from, ptr::null_mut(), count) };
                sum.add_piece(words, count);
            })
    }

    /// Copies the frame's next bytes into private memory, until either ends. Returns how many.
    pub fn read(&mut self, place: &mut [u8]) -> usize {
        let copied = self.head.len().min(place.len());
        let (head, rest) = self.head.split_at(copied);
        place[..copied].copy_from_slice(head);
        self.head = rest;
        let mut to = &mut place[copied..];
        copied
            + self.walk(limit_bytes(to.len()), |from, count| {
                let (target, rest) = std::mem::take(&mut to).split_at_mut(count);
                // SAFETY: `from` has `count` readable bytes, as `walk` says, and `target` as
                // many; private memory is no guest's, so they do not overlap.
                unsafe { ptr::copy_nonoverlapping(from, target.as_mut_ptr(), count) };
                to = rest;
            })
    }

    /// Passes over the frame's next `count` bytes, or all if there are fewer. Returns how many.
    #[inline]
    pub fn skip(&mut self, count: usize) -> usize {
        let skipped = self.head.len().min(count);
        self.head = &self.head[skipped..];
        skipped + self.walk(limit_bytes(count - skipped), |_, _| ())
    }

    /// Passes over up to `limit` bytes of the segments, and calls `visit` with each run of them:
    /// its address, and how many bytes are readable there, by the promise of `Segment::new`.
    /// Returns how many bytes those were together: not more than `limit`.
    #[inline]
    fn walk(&mut self, limit: u32, mut visit: impl FnMut(*const u8, usize)) -> usize {
        let mut wanted = limit;
        while let [segment, rest @ ..] = self.segments {
            let left = segment.length_bytes - self.offset;
            let count = left.min(wanted);
            visit(segment.start.wrapping_add(self.offset as usize), count as usize);
            wanted -= count;
            if count < left {
                self.offset += count;
                break;
            }
            self.segments = rest;
            self.offset = 0;
        }
        (limit - wanted) as usize
    }
}

/// A limit as `walk` counts; no frame is longer.
fn limit_bytes(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{room, segment};
    use super::*;
    use crate::{Outgoing, Segment};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn segments(pieces: &[Vec<u8>]) -> Vec<Segment> {
        pieces.iter().map(|piece| segment(piece)).collect()
    }

    fn folded(bytes: &[u8]) -> u16 {
        let mut sum = Sum::ZERO;
        sum.add(bytes);
        sum.folded()
    }

    proptest! {
        #[test]
        fn frame_cut_anywhere_is_copied_and_summed_whole(
            head in vec(any::<u8>(), 0..20),
            pieces in vec(vec(any::<u8>(), 0..400), 0..4),
            cuts in vec(0usize..200, 0..6),
        ) {
            let (segments, whole) = (segments(&pieces), [head.clone(), pieces.concat()].concat());
            let mut arrived = vec![0; whole.len()];
            let (mut rooms, mut sum) = (arrived.as_mut_slice(), Sum::ZERO);
            let mut reader = Outgoing::new(&head, &segments).reader();

            for cut in cuts {
                let (front, rest) = rooms.split_at_mut(cut.min(rooms.len()));
                reader.copy_summing(&mut room(front), &mut sum);
                rooms = rest;
            }
            reader.copy_summing(&mut room(rooms), &mut sum);

            prop_assert_eq!(&arrived, &whole);
            prop_assert_eq!(sum.folded(), folded(&whole));
        }

        #[test]
        fn skipped_summed_and_read_bytes_are_those_that_come_next(
            head in vec(any::<u8>(), 0..20),
            pieces in vec(vec(any::<u8>(), 0..40), 0..4),
            skip in 0usize..200,
            limit in 0usize..200,
        ) {
            let (segments, whole) = (segments(&pieces), [head.clone(), pieces.concat()].concat());
            let skip = skip.min(whole.len());
            let end = skip.saturating_add(limit).min(whole.len());
            let mut reader = Outgoing::new(&head, &segments).reader();
            let (mut sum, mut rest) = (Sum::ZERO, vec![0; whole.len() - end + 1]);

            prop_assert_eq!(reader.skip(skip), skip);
            prop_assert_eq!(reader.sum(limit, &mut sum), end - skip);
            prop_assert_eq!(reader.read(&mut rest), whole.len() - end);

            prop_assert_eq!(sum.folded(), folded(&whole[skip..end]));
            prop_assert_eq!(&rest[..whole.len() - end], &whole[end..]);
        }
    }

    #[test]
    fn overlapping_places_are_copied_within_their_bounds() {
        let mut bytes = vec![0u8; 300];
        bytes[..100].fill(7);
        let shared = bytes.as_mut_ptr();
        // SAFETY: both lie in `bytes`, which is looked at only after they are gone.
        let segments = [unsafe { Segment::new(shared, 200) }];
        // SAFETY: as above.
        let mut room = unsafe { Room::new(shared.wrapping_add(10), 200) };

        let mut sum = Sum::ZERO;
        let copied = Outgoing::new(&[], &segments).reader().copy_summing(&mut room, &mut sum);

        assert_eq!(copied, 200);
        assert_eq!(bytes[210..], [0; 90]);
    }
}
