//! Frames that are copied at once: most there are.

#![allow(unsafe_code)]

use super::copy::{INLINE_BYTES, INLINE_STEP, copy, copy_inline};
use super::{Outgoing, Room, Segment};

/// An [`Outgoing`] frame that can be copied at once: there is no payload or one segment of it, and neither
/// that nor the head is tiny.
#[derive(Debug, Clone, Copy)]
pub struct Simple<'a> {
    /// [`INLINE_STEP`] to [`INLINE_BYTES`] bytes.
    head: &'a [u8],
    /// [`INLINE_STEP`] bytes or more.
    payload: Option<Segment>,
}

impl Simple<'_> {
    /// Length of the frame in bytes.
    #[must_use]
    #[inline(always)]
    pub const fn length_bytes(&self) -> usize {
        let payload_bytes = match self.payload {
            None => 0,
            Some(payload) => payload.length_bytes as usize,
        };
        self.head.len().wrapping_add(payload_bytes)
    }

    /// Copies all of it to the front of `room`: if it is small, nothing else is written to memory.
    /// Nothing if it does not fit.
    #[inline(always)]
    pub fn copy_to(&self, room: Room) {
        let Self { head, payload } = *self;
        if (room.length_bytes as usize) < self.length_bytes() {
            return;
        }
        let to = room.start;
        // SAFETY: the head has `INLINE_STEP` bytes or more; `room` has at least as many writable ones
        // by the promise of `Room::new`.
        unsafe { copy_inline(head.as_ptr(), to, head.len()) };
        if let Some(payload) = payload {
            let behind = to.wrapping_add(head.len());
            // SAFETY: readable by the promise of `Segment::new`, writable as above: head and payload
            // together fit.
            unsafe { copy(payload.start, behind, payload.length_bytes as usize, room.to_next) };
        }
    }
}

impl<'a> Outgoing<'a> {
    /// The frame as a [`Simple`] one, if it is that.
    #[must_use]
    #[inline(always)]
    pub const fn simple(&self) -> Option<Simple<'a>> {
        let Self { head, segments, .. } = *self;
        if head.len() < INLINE_STEP || head.len() > INLINE_BYTES {
            return None;
        }
        match *segments {
            [] => Some(Simple { head, payload: None }),
            [payload] if payload.length_bytes as usize >= INLINE_STEP => {
                Some(Simple { head, payload: Some(payload) })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{room, segment};
    use super::*;

    #[test]
    fn simple_frame_is_copied_whole_and_others_not_at_all() {
        let bytes: Vec<u8> = (0..2_000u16).map(|at| (at % 251) as u8 + 1).collect();
        for (head, payload, is_simple) in
            [(16, 0, true), (64, 16, true), (68, 1_450, true), (60, 15, false), (15, 16, false)]
        {
            let (front, behind) = bytes.split_at(head);
            let segments = [segment(&behind[..payload])];
            let segments = if payload == 0 { &segments[..0] } else { &segments };
            let frame = Outgoing::new(front, segments);
            let mut arrived = [0; 2_000];

            let simple = frame.simple();
            if let Some(simple) = simple {
                simple.copy_to(room(&mut arrived));
            }

            let length_bytes = simple.map(|simple| simple.length_bytes());
            assert_eq!(length_bytes, is_simple.then_some(head + payload), "{head} and {payload}");
            let expected = if is_simple { &bytes[..head + payload] } else { &[] };
            assert_eq!(arrived[..expected.len()], *expected);
            assert!(arrived[expected.len()..].iter().all(|&byte| byte == 0));
        }
    }

    #[test]
    fn frame_of_two_segments_is_not_simple() {
        let segments = [segment(&[1; 20]), segment(&[2; 20])];

        assert!(Outgoing::new(&[0; 64], &segments).simple().is_none());
    }

    #[test]
    fn simple_frame_is_not_copied_where_it_does_not_fit() {
        let bytes = [7; 40];
        let mut arrived = [0; 39];

        Outgoing::new(&bytes, &[]).simple().unwrap().copy_to(room(&mut arrived));

        assert_eq!(arrived, [0; 39]);
    }
}
