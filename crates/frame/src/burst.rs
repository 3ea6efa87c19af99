//! The frames that one poll of one ingress queue brought in.
//!
//! A burst is filled by a queue, decided by the bridge, sent by the egresses and handed back, all
//! within one turn of a poll thread. It is allocated once a thread and used again.

use crate::{DropCounts, Header, MAX_FRAME_BYTES, Offload, Segment};

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
        match self.offload.segmentation {
            None => 1,
            // Headers count as payload, for TCP's options are not always known.
            Some(cut) => self.length_bytes.div_ceil(cut.size.get().into()),
        }
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

/// Frames taken from one ingress queue, and what was dropped on taking them.
#[derive(Debug, Default)]
pub struct Burst {
    /// The frames, in the order of arrival.
    pub frames: Vec<Frame>,
    /// The payload segments of all frames.
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
            frames: Vec::with_capacity(BURST_FRAMES),
            segments: Vec::with_capacity(4 * BURST_FRAMES),
            ..Self::default()
        }
    }

    /// Empties it. Drops that were not drained stay.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.segments.clear();
    }

    /// Adds a frame, which `read` puts into its place.
    ///
    /// # Errors
    ///
    /// Those of `read`; the frame is not added then.
    #[inline]
    pub fn push_with<E>(
        &mut self,
        read: impl FnOnce(&mut Frame, &mut Vec<Segment>) -> Result<(), E>,
    ) -> Result<(), E> {
        let segments = self.segments.len();
        // Read in place: a frame is more than a cache line, and this is done for each.
        self.frames.push(Frame::EMPTY);
        let outcome = match self.frames.last_mut() {
            Some(frame) => read(frame, &mut self.segments),
            None => return Ok(()),
        };
        if outcome.is_err() {
            self.frames.pop();
            self.segments.truncate(segments);
        }
        outcome
    }

    /// The payload of one of its frames.
    #[must_use]
    #[inline]
    pub fn segments_of(&self, frame: &Frame) -> &[Segment] {
        let start = frame.segments.start as usize;
        &self.segments[start..start + frame.segments.count as usize]
    }
}
