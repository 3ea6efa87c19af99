//! A frame whose checksum is completed while its payload is copied.
//!
//! The checksum stands in the head and depends on the payload, which is read once, by the copy.
//! So the payload goes first, to where it will lie behind the head, and the head last:
//!
//! ```text
//!   1. split_front   │ room of the head │                        nothing written yet
//!   2. copy_payload  │                  │ payload, summed
//!   3. finish        │ head, complete   │ payload
//! ```
//!
//! Internet checksum: RFC 1071; for TCP RFC 9293, 3.1; for UDP RFC 768.

use crate::{Reader, Room, Sum};

/// Where a checksum begins and where it stands, both in bytes from the start of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// First byte that is summed. What lies behind it, to the frame's end, is summed too.
    pub start: usize,
    /// First byte of the field, which must lie in the head and not before `start`.
    pub field: usize,
}

/// What becomes of a checksum that comes out as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    /// It is sent as it is: TCP.
    Kept,
    /// It is sent as 0xffff, which is the same number: UDP, where zero says that there is no
    /// checksum (RFC 768).
    Inverted,
}

/// A frame that leaves, its checksum not known before the payload is copied.
#[derive(Debug)]
pub struct Completing<'a> {
    head: &'a mut [u8],
    payload: Reader<'a>,
    /// Bytes of the payload that are not copied yet.
    left_bytes: usize,
    length_bytes: usize,
    sum: Sum,
    field: usize,
    zero: Zero,
}

impl<'a> Completing<'a> {
    /// The frame of this head and the next `payload_bytes` bytes of `payload`. The field holds
    /// what is to be added to the sum: the pseudo-header's sum, or zero.
    ///
    /// None if the field is not in the head behind the start.
    #[must_use]
    #[inline]
    pub fn new(
        head: &'a mut [u8],
        payload: Reader<'a>,
        payload_bytes: usize,
        place: Place,
        zero: Zero,
    ) -> Option<Self> {
        if place.field < place.start || place.field.checked_add(2)? > head.len() {
            return None;
        }
        let mut sum = Sum::ZERO;
        sum.add(&head[place.start..]);
        let length_bytes = head.len() + payload_bytes;
        let (left_bytes, field) = (payload_bytes, place.field);
        Some(Self { head, payload, left_bytes, length_bytes, sum, field, zero })
    }

    /// The head as it is before the checksum is known.
    #[must_use]
    pub const fn head(&self) -> &[u8] {
        self.head
    }

    /// Length of the head, in bytes: so much room is to be left in front of the payload.
    #[must_use]
    pub const fn head_bytes(&self) -> usize {
        self.head.len()
    }

    /// Length of head and payload together, in bytes.
    #[must_use]
    pub const fn length_bytes(&self) -> usize {
        self.length_bytes
    }

    /// Copies the payload's next bytes into `room`, until either ends. Returns how many.
    #[inline]
    pub fn copy_payload(&mut self, room: &mut Room) -> usize {
        let wanted = u32::try_from(self.left_bytes).unwrap_or(u32::MAX);
        let copied = self.payload.copy_summing(&mut room.split_front(wanted), &mut self.sum);
        self.left_bytes -= copied;
        copied
    }

    /// The head, complete once the payload is copied.
    #[inline]
    pub fn finish(self) -> &'a [u8] {
        let checksum = match (self.sum.checksum(), self.zero) {
            (0, Zero::Inverted) => 0xffff,
            (checksum, Zero::Inverted | Zero::Kept) => checksum,
        };
        self.head[self.field..self.field + 2].copy_from_slice(&checksum.to_be_bytes());
        self.head
    }

    /// Writes the whole frame into one room, if it is large enough. Returns the frame's length,
    /// or nothing, and nothing was written then.
    #[must_use]
    pub fn write_to(mut self, room: &mut Room) -> Option<usize> {
        let (length_bytes, head_bytes) = (self.length_bytes, self.head.len());
        if (room.length_bytes() as usize) < length_bytes {
            return None;
        }
        let mut front = room.split_front(u32::try_from(head_bytes).ok()?);
        self.copy_payload(room);
        front.write(self.finish());
        Some(length_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Outgoing;

    const PLACE: Place = Place { start: 2, field: 4 };

    fn complete(payload: &[u8], zero: Zero) -> [u8; 6] {
        let mut head = [9, 9, 0, 1, 0, 0];
        let reader = Outgoing::new(payload, &[]).reader();
        let mut completing =
            Completing::new(&mut head, reader, payload.len(), PLACE, zero).unwrap();
        let mut bytes = vec![0; payload.len()];
        completing.copy_payload(&mut crate::segment::tests::room(&mut bytes));
        assert_eq!(bytes, payload);
        completing.finish().try_into().unwrap()
    }

    #[test]
    fn checksum_covers_head_and_payload_from_its_start() {
        assert_eq!(complete(&[0, 2, 3], Zero::Kept), [9, 9, 0, 1, 0xfc, 0xfc]);
    }

    #[test]
    fn zero_is_inverted_where_it_means_none() {
        assert_eq!(complete(&[0xff, 0xfe], Zero::Inverted), [9, 9, 0, 1, 0xff, 0xff]);
        assert_eq!(complete(&[0xff, 0xfe], Zero::Kept), [9, 9, 0, 1, 0, 0]);
    }

    #[test]
    fn field_outside_of_the_head_is_refused() {
        let refused = |place| {
            let reader = Outgoing::new(&[], &[]).reader();
            Completing::new(&mut [0; 6], reader, 0, place, Zero::Kept).is_none()
        };

        assert!(refused(Place { start: 0, field: 5 }));
        assert!(refused(Place { start: 0, field: usize::MAX }));
        assert!(refused(Place { start: 5, field: 4 }));
        assert!(!refused(Place { start: 4, field: 4 }));
    }

    #[test]
    fn room_that_is_too_small_stays_as_it_was() {
        let (mut head, mut bytes) = ([9, 9, 0, 1, 0, 0], [7; 8]);
        let reader = Outgoing::new(&[1, 2, 3], &[]).reader();
        let completing = Completing::new(&mut head, reader, 3, PLACE, Zero::Kept).unwrap();

        let written = completing.write_to(&mut crate::segment::tests::room(&mut bytes));

        assert_eq!((written, bytes), (None, [7; 8]));
    }
}
