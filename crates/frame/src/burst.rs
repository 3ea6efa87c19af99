//! The frames that one poll of one ingress queue brought in.
//!
//! A burst is filled by a queue, decided by the bridge, sent by the egresses and handed back, all
//! within one turn of a poll thread. It is allocated once a thread and used again.

mod frames;

use crate::{DropCounts, Header, MAX_FRAME_BYTES, Offload, Segment};

pub use frames::Frames;

/// Most frames taken from one queue at a time. 64 frames of 1,514 bytes are 78 µs at 10 Gbit/s
/// and their headers fit the first-level cache; peers use 32 to 64.
pub const BURST_FRAMES: usize = 64;

/// Bytes after which a burst is full: a burst of the largest frames that a wire takes. Large ones
/// take no more of the thread's time.
pub const BURST_BYTES: usize = BURST_FRAMES * MAX_FRAME_BYTES;

/// What the queue that received a frame needs to get it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The ingress queue's place in the queue table of the thread that owns it.
    pub queue: u16,
    /// The tenant of that place: a hand-back to a former tenant is not given to its successor.
    pub generation: u32,
    /// The number of the loan, which stands for the buffer: `datapath/src/loans.rs`.
    pub loan: u32,
}

/// The segments of one frame within a [`Burst`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SegmentRange {
    /// Place of the first.
    pub start: u32,
    /// How many; none if the whole frame fits the private header.
    pub count: u32,
}

impl SegmentRange {
    /// These of the segments of all frames.
    #[must_use]
    #[inline(always)]
    pub fn of(self, segments: &[Segment]) -> &[Segment] {
        let start = self.start as usize;
        &segments[start..start + self.count as usize]
    }
}

/// One frame of a burst.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// The private copy of its first bytes.
    pub header: Header,
    /// Where the rest lies.
    pub segments: SegmentRange,
    /// Length of header and segments in bytes, without a tag.
    pub length_bytes: u32,
    /// The receiving queue's own name for the buffer: a position in a transmitq, a chunk's address
    /// in a UMEM.
    pub token: u64,
    /// What is left to do to it before a wire can have it.
    pub offload: Offload,
    /// The slot of the port that it came in by, if that is a wire: such frames may be joined.
    pub wire: Option<u16>,
}

impl Frame {
    /// Length of the longest frame that a wire gets of it, in bytes and without tag: its own, or
    /// if it is to be cut, that of a piece, but for TCP's options.
    #[must_use]
    #[inline]
    pub fn piece_bytes(&self) -> u32 {
        match self.offload.piece_bytes() {
            None => self.length_bytes,
            Some(piece_bytes) => piece_bytes.min(self.length_bytes),
        }
    }

    /// Most frames that a wire gets of it: one, unless it is to be cut.
    #[must_use]
    #[inline]
    pub fn most_wire_frames(&self) -> u32 {
        self.offload.most_wire_frames(self.length_bytes)
    }

    /// No frame: what a place in a burst holds before a frame is read into it.
    pub const EMPTY: Self = Self {
        header: Header::EMPTY,
        segments: SegmentRange { start: 0, count: 0 },
        length_bytes: 0,
        token: 0,
        offload: Offload::NONE,
        wire: None,
    };
}

/// What whoever takes a frame in says of it, with its header and what is left to do to it apart.
#[derive(Debug, Clone, Copy)]
pub struct Intake {
    /// [`Frame::segments`].
    pub segments: SegmentRange,
    /// [`Frame::length_bytes`].
    pub length_bytes: u32,
    /// [`Frame::token`].
    pub token: u64,
}

/// Frames taken from one ingress queue, and what was dropped on taking them.
#[derive(Debug, Default)]
pub struct Burst {
    /// The frames, in the order of arrival.
    pub frames: Frames,
    /// The payload segments of all frames; some are no frame's, and empty.
    pub segments: Vec<Segment>,
    /// Frames that were taken and dropped before they could be decided.
    pub dropped: DropCounts,
    /// Length of those, in bytes.
    pub dropped_bytes: u64,
}

impl Burst {
    /// An empty burst with room for [`BURST_FRAMES`] frames.
    #[must_use]
    pub fn new() -> Self {
        Self {
            frames: Frames::new(),
            segments: Vec::with_capacity(4 * BURST_FRAMES),
            ..Self::default()
        }
    }

    /// Empties it. Drops that were not drained stay.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.segments.clear();
    }

    /// Adds a frame. `read` puts its header into its place, where another may be, says if something is
    /// left to do to it, and returns the rest. [`Frame::wire`] is none until somebody sets it.
    ///
    /// # Errors
    ///
    /// Those of `read`; the frame is not added then.
    #[inline(always)]
    pub fn push_with<E>(
        &mut self,
        read: impl FnOnce(&mut Header, &mut Offload, &mut Vec<Segment>) -> Result<Intake, E>,
    ) -> Result<(), E> {
        let segments_before = self.segments.len();
        let frame = &mut self.frames.room_for(1)[0];
        (frame.offload, frame.wire) = (Offload::NONE, None);
        match read(&mut frame.header, &mut frame.offload, &mut self.segments) {
            Ok(Intake { segments, length_bytes, token }) => {
                frame.segments = segments;
                frame.length_bytes = length_bytes;
                frame.token = token;
                self.frames.add(1);
                Ok(())
            }
            Err(error) => {
                self.segments.truncate(segments_before);
                Err(error)
            }
        }
    }

    /// Adds a frame of each of these things, up to the first that `read` refuses. `read` puts a frame's
    /// header into its place, where another may be, says if something is left to do to it, and returns its
    /// length in bytes and its token. What the header leaves of that is the `payload`, in one segment.
    /// [`Frame::wire`] is none until somebody sets it.
    ///
    /// Returns how many frames there were, and why there are no more if it was refused.
    #[inline(always)]
    pub fn push_many<T, E>(
        &mut self,
        things: &[T],
        mut read: impl FnMut(&T, &mut Header, &mut Offload) -> Result<(u32, u64), E>,
        payload: impl Fn(&T) -> Segment,
    ) -> (usize, Option<E>) {
        #[expect(clippy::cast_possible_truncation, reason = "at most the pieces of a burst")]
        let mut start = self.segments.len() as u32;
        let (mut count, mut refusal) = (0, None);
        for (frame, thing) in self.frames.room_for(things.len()).iter_mut().zip(things) {
            (frame.offload, frame.wire) = (Offload::NONE, None);
            match read(thing, &mut frame.header, &mut frame.offload) {
                Ok((length_bytes, token)) => {
                    (frame.length_bytes, frame.token) = (length_bytes, token);
                }
                Err(error) => {
                    refusal = Some(error);
                    break;
                }
            }
            // The segments are added below: one for each frame, of which those without payload say
            // nothing.
            let has_payload = frame.length_bytes as usize > frame.header.length_bytes();
            frame.segments = SegmentRange { start, count: has_payload.into() };
            start = start.wrapping_add(1);
            count += 1;
        }
        self.frames.add(count);
        self.segments.extend(things[..count].iter().map(payload));
        (count, refusal)
    }

    /// The payload of one of its frames.
    #[must_use]
    #[inline]
    pub fn segments_of(&self, frame: &Frame) -> &[Segment] {
        frame.segments.of(&self.segments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::tests::segment;
    use crate::{Checksum, DropReason};

    /// Reads a frame of 14 bytes.
    fn read(header: &mut Header) -> Result<Intake, DropReason> {
        header.read(|place| {
            place[..14].fill(7);
            14
        })?;
        Ok(Intake { segments: SegmentRange::default(), length_bytes: 14, token: 3 })
    }

    #[test]
    fn place_that_is_used_again_has_nothing_of_the_frame_before() {
        let mut burst = Burst::new();
        let mut before = Frame { wire: Some(9), token: 8, ..Frame::EMPTY };
        before.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
        before
            .header
            .read(|place| {
                place.fill(1);
                place.len()
            })
            .unwrap();
        burst.frames.push(before);
        burst.clear();

        burst.push_with(|header, _, _| read(header)).unwrap();

        let frame = &burst.frames[0];
        assert_eq!((frame.offload, frame.wire, frame.token), (Offload::NONE, None, 3));
        assert_eq!(frame.header.untagged(), [7; 14]);
    }

    #[test]
    fn many_frames_have_their_own_payload_and_nothing_of_those_before() {
        let mut burst = Burst::new();
        let mut before = Frame { wire: Some(9), ..Frame::EMPTY };
        before.offload.checksum = Checksum::Partial { start: 34, offset: 16 };
        for _ in 0..4 {
            burst.frames.push(before);
        }
        burst.clear();
        let bytes = [1; 60];
        burst.segments.push(segment(&bytes));
        let payloads: Vec<&[u8]> = vec![&bytes[..30], &[], &bytes[..20], &bytes[..10]];

        let (count, refusal) = burst.push_many(
            &payloads,
            |payload, header, _| {
                read(header)?;
                let length = segment(payload).length_bytes();
                if length == 10 { Err(DropReason::Runt) } else { Ok((14 + length, length.into())) }
            },
            |payload| segment(payload),
        );

        assert_eq!(refusal, Some(DropReason::Runt));
        assert_eq!((count, burst.frames.len(), burst.segments.len()), (3, 3, 4));
        for (frame, length) in burst.frames.iter().zip([30, 0, 20]) {
            let lengths: Vec<u32> =
                burst.segments_of(frame).iter().map(Segment::length_bytes).collect();
            assert_eq!(lengths, if length == 0 { vec![] } else { vec![length] });
            assert_eq!((frame.length_bytes, frame.token), (14 + length, length.into()));
            assert_eq!((frame.offload, frame.wire), (Offload::NONE, None));
        }
    }

    #[test]
    fn frame_that_cannot_be_read_is_not_added() {
        let mut burst = Burst::new();
        burst.push_with(|header, _, _| read(header)).unwrap();

        let outcome = burst.push_with(|header, offload, _| {
            offload.checksum = Checksum::Valid;
            read(header).and(Err(DropReason::Runt))
        });

        assert_eq!(outcome, Err(DropReason::Runt));
        assert_eq!(burst.frames.len(), 1);
        assert_eq!(burst.frames.iter().count(), 1);
    }
}
