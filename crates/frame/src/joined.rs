//! Several frames' payloads behind one head: what leaves when segments were joined.

use crate::{Gathered, Outgoing, Reader, Room};

/// A place in a frame whose payload lies in several. Each byte is read once, in order.
#[derive(Debug, Clone)]
pub struct Joined<'a, Payloads> {
    current: Reader<'a>,
    payloads: Payloads,
}

impl<'a, Payloads: Iterator<Item = Reader<'a>>> Joined<'a, Payloads> {
    /// Starts reading at the first byte of `head`, behind which all of the payloads come.
    #[must_use]
    pub fn new(head: &'a [u8], payloads: Payloads) -> Self {
        Self { current: Outgoing::new(head, &[]).reader(), payloads }
    }

    /// What is left of the private bytes that come first.
    #[must_use]
    pub const fn head(&self) -> &'a [u8] {
        self.current.head()
    }

    /// Copies the next bytes into `room`, until either ends. Returns how many.
    pub fn copy_to(&mut self, room: &mut Room) -> usize {
        let mut copied = self.current.copy_to(room);
        // A reader stops before the room is full at its end only.
        while room.length_bytes() != 0 {
            let Some(next) = self.payloads.next() else { break };
            self.current = next;
            copied += self.current.copy_to(room);
        }
        copied
    }

    /// Adds all bytes that were not read. False if that are too many extents.
    #[must_use]
    pub fn gather<'g>(mut self, gathered: &mut Gathered<'g>) -> bool
    where
        'a: 'g,
    {
        gathered.push(self.current) && self.payloads.all(|payload| gathered.push(payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::{room, segment};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn payloads_follow_each_other_wherever_rooms_end(
            head in vec(any::<u8>(), 0..20),
            payloads in vec((vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..40)), 0..5),
            cuts in vec(0usize..60, 0..6),
        ) {
            let segments: Vec<_> = payloads.iter().map(|(_, bytes)| [segment(bytes)]).collect();
            let readers = payloads.iter().zip(&segments);
            let readers = readers.map(|((head, _), segments)| Outgoing::new(head, segments).reader());
            let pieces = payloads.iter().flat_map(|(head, bytes)| [head.clone(), bytes.clone()]);
            let whole = [head.clone(), pieces.flatten().collect()].concat();
            let mut arrived = vec![0; whole.len()];
            let (mut rooms, mut joined) = (arrived.as_mut_slice(), Joined::new(&head, readers));
            let mut copied = 0;

            for cut in cuts {
                let (front, rest) = rooms.split_at_mut(cut.min(rooms.len()));
                copied += joined.copy_to(&mut room(front));
                rooms = rest;
            }
            copied += joined.copy_to(&mut room(rooms));

            prop_assert_eq!(copied, whole.len());
            prop_assert_eq!(arrived, whole);
        }
    }
}
