//! Lending a frame to another poll thread and getting it back.
//!
//! ```text
//!   ingress owner                                    egress owner
//!   lend ──── handover ring: header and segments ──▶ copies from where the frame lies
//!   settle ◀── return ring: queue and loan ───────── hand back
//! ```
//!
//! The frame itself does not move: private header and payload segments cross by value, in cells
//! of fixed size; a frame in many pieces takes several cells. If the egress keeps the chunk that
//! the frame lies in, the hand-back names the one to be used in its place. A hand-back cannot fail: every
//! loan takes one of the link's credits, and the return ring holds as many as there are. Nothing
//! waits: without credit or room the copy drops as `handover_full`.

use std::sync::Arc;

use afxdp::Chunk;
use frame::{Header, Offload, Origin, PortId, Segment};
use ring::{Consumer, Marker, Producer};

use crate::idle::Waker;
use bridge::Forward;

/// Loans that one thread may have out at another at any time, over all its queues; also the
/// length of the rings. Sixteen bursts: more than a turn of the other thread takes.
pub(crate) const LINK_CREDITS: usize = 1_024;

/// Segments in the cell of the frame itself: what nearly every frame needs.
const SEGMENTS_IN_HEAD: usize = 2;

/// Segments in each further cell.
const SEGMENTS_IN_CELL: usize = 8;

/// Where a lent frame is to go, as its ingress owner decided.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    /// To this port by this pair.
    One(PortId, u8),
    /// To all ports of its VLAN whose chosen pair is the receiving thread's.
    Flood,
}

/// A frame that crosses to the thread that owns its egress.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lent {
    pub(crate) header: Header,
    pub(crate) length_bytes: u32,
    pub(crate) offload: Offload,
    /// As [`frame::Frame::wire`].
    pub(crate) wire: Option<u16>,
    pub(crate) forward: Forward,
    pub(crate) target: Target,
    /// The slot it came in by, which a flood leaves out.
    pub(crate) ingress: PortId,
    /// Where it is handed back to.
    pub(crate) origin: Origin,
}

/// What crosses the ring.
#[derive(Debug)]
enum Cell {
    Frame { lent: Lent, segment_count: u32, segments: [Option<Segment>; SEGMENTS_IN_HEAD] },
    Segments([Option<Segment>; SEGMENTS_IN_CELL]),
}

/// A hand-back: the loan of this number is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Return {
    pub(crate) origin: Origin,
    /// The chunk that takes the place of the frame's, which another queue kept.
    pub(crate) replacement: Option<Chunk>,
}

// Four to a cache line: frames between guests of two threads pay for each that crosses.
const _: () = assert!(size_of::<Return>() == 16);

/// One thread's ends of the rings to and from another.
#[derive(Debug)]
pub(crate) struct Link {
    handovers_out: Producer<Cell>,
    returns_in: Consumer<Return>,
    handovers_in: Consumer<Cell>,
    returns_out: Producer<Return>,
    /// Loans out at the other thread. Only this thread counts them.
    lent: usize,
    peer: Arc<Waker>,
}

/// Makes the two ends of the connection between two threads, which wake each other by these.
pub(crate) fn link(first: &Arc<Waker>, second: &Arc<Waker>) -> (Link, Link) {
    let (handovers_to_second, handovers_from_first) = ring::ring(LINK_CREDITS);
    let (handovers_to_first, handovers_from_second) = ring::ring(LINK_CREDITS);
    let (returns_to_second, returns_from_first) = ring::ring(LINK_CREDITS);
    let (returns_to_first, returns_from_second) = ring::ring(LINK_CREDITS);
    let end_of_first = Link {
        handovers_out: handovers_to_second,
        returns_in: returns_from_second,
        handovers_in: handovers_from_second,
        returns_out: returns_to_second,
        lent: 0,
        peer: Arc::clone(second),
    };
    let end_of_second = Link {
        handovers_out: handovers_to_first,
        returns_in: returns_from_first,
        handovers_in: handovers_from_first,
        returns_out: returns_to_first,
        lent: 0,
        peer: Arc::clone(first),
    };
    (end_of_first, end_of_second)
}

impl Link {
    /// Says whether a frame of so many segments can be lent now.
    pub(crate) fn has_room(&mut self, segment_count: usize) -> bool {
        let more = segment_count.saturating_sub(SEGMENTS_IN_HEAD).div_ceil(SEGMENTS_IN_CELL);
        self.lent < LINK_CREDITS && self.handovers_out.has_room(1 + more)
    }

    /// Lends a frame; the other thread sees it after [`publish`](Self::publish). Returns whether
    /// it was lent: always, if [`has_room`](Self::has_room) said so.
    pub(crate) fn lend(&mut self, lent: Lent, segments: &[Segment]) -> bool {
        if !self.has_room(segments.len()) {
            return false;
        }
        let (first, rest) = segments.split_at(segments.len().min(SEGMENTS_IN_HEAD));
        let segment_count = u32::try_from(segments.len()).expect("bounded by the ring's length");
        let head = Cell::Frame { lent, segment_count, segments: fill(first) };
        let mut is_pushed = self.handovers_out.push(head).is_ok();
        for piece in rest.chunks(SEGMENTS_IN_CELL) {
            is_pushed &= self.handovers_out.push(Cell::Segments(fill(piece))).is_ok();
        }
        debug_assert!(is_pushed, "has_room promised room for every cell");
        self.lent += 1;
        true
    }

    /// Takes the next frame that the other thread lent to this one, and appends its segments.
    pub(crate) fn take(&mut self, segments: &mut Vec<Segment>) -> Option<Lent> {
        // Cells of one frame are published together, so the next is a frame's first: the loop
        // only passes over what a mistake of ours would leave behind.
        let (lent, segment_count, first) = loop {
            if let Cell::Frame { lent, segment_count, segments } = self.handovers_in.pop()? {
                break (lent, segment_count, segments);
            }
        };
        let end = segments.len() + segment_count as usize;
        segments.extend(first.into_iter().flatten());
        while segments.len() < end
            && let Some(Cell::Segments(more)) = self.handovers_in.pop()
        {
            segments.extend(more.into_iter().flatten());
        }
        Some(lent)
    }

    /// Hands a frame back to its ingress owner, who sees it after [`publish`](Self::publish).
    pub(crate) fn hand_back(&mut self, origin: Origin, replacement: Option<Chunk>) {
        let handed_back = self.returns_out.push(Return { origin, replacement });
        debug_assert!(handed_back.is_ok(), "the return ring holds as many as there are credits");
    }

    /// Takes the next hand-back from the other thread.
    pub(crate) fn take_return(&mut self) -> Option<Return> {
        let handed_back = self.returns_in.pop()?;
        self.lent -= 1;
        Some(handed_back)
    }

    /// Says whether the other thread has lent anything that was not taken.
    pub(crate) fn has_handovers(&mut self) -> bool {
        !self.handovers_in.is_empty()
    }

    /// A place behind everything the other thread has lent until now.
    pub(crate) fn marker(&mut self) -> Marker {
        self.handovers_in.marker()
    }

    /// Says whether everything before the marker has been taken.
    pub(crate) fn has_passed(&self, marker: Marker) -> bool {
        self.handovers_in.has_passed(marker)
    }

    /// Says whether the other thread has sent anything.
    pub(crate) fn is_empty(&mut self) -> bool {
        self.handovers_in.is_empty() && self.returns_in.is_empty()
    }

    /// Makes visible what was lent and handed back, gives back the slots of what was taken, and
    /// wakes the other thread if it sleeps.
    pub(crate) fn publish(&mut self) {
        self.handovers_in.release();
        self.returns_in.release();
        let has_lent = self.handovers_out.publish();
        let has_returned = self.returns_out.publish();
        if has_lent || has_returned {
            self.peer.wake();
        }
    }
}

/// The segments in an array that has room for them.
fn fill<const N: usize>(segments: &[Segment]) -> [Option<Segment>; N] {
    let mut array = [None; N];
    for (place, segment) in array.iter_mut().zip(segments) {
        *place = Some(*segment);
    }
    array
}
