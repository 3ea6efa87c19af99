//! Carrying out one order: a copy, or what it takes to make a frame ready for its receiver.

use frame::{Burst, DropReason, Frame, HEADER_BYTES, Outgoing, Segment, TAG_BYTES, VlanTag};
use virtio::QueueFault;
use virtio::offload::{Delivery, Head, Leaving, NetHeader, Segments, complete};

use super::Tally;
use crate::queue::{Departure, Order, Queue, Undelivered};

/// Carries out orders of a guest's queue as long as they are of ready frames that leave without a tag,
/// as most are, in a loop of its own. Returns how many there were.
#[inline(never)]
pub(super) fn deliver_plain(queue: &mut Queue, burst: &Burst, orders: &[Order]) -> usize {
    let limit_bytes = queue.traits.limit_bytes;
    let (frames, segments) = (&*burst.frames, &*burst.segments);
    queue.deliver_many(PlainFrames { frames, segments, orders, limit_bytes })
}

/// The frames of orders, up to the first that needs more than being copied. (The lists of the burst and
/// not itself: where they lie then stays in registers, whatever is written.)
struct PlainFrames<'a> {
    frames: &'a [Frame],
    segments: &'a [Segment],
    orders: &'a [Order],
    limit_bytes: u32,
}

impl<'a> Iterator for PlainFrames<'a> {
    type Item = Outgoing<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<Outgoing<'a>> {
        let (order, rest) = self.orders.split_first()?;
        let frame = &self.frames[order.frame()];
        if order.tag.is_some() || !frame.offload.is_none() || frame.length_bytes > self.limit_bytes
        {
            return None;
        }
        self.orders = rest;
        prefetch_first(self.frames, self.segments, rest);
        Some(Outgoing::new(frame.header.untagged(), frame.segments.of(self.segments)))
    }
}

/// Asks the processor for the payload of the first of these orders, which is copied next.
#[inline(always)]
pub(super) fn prefetch_first(frames: &[Frame], segments: &[Segment], orders: &[Order]) {
    if let [next, ..] = orders
        && let [payload, ..] = frames[next.frame()].segments.of(segments)
    {
        payload.prefetch();
    }
}

/// Carries out one order, of whatever kind.
#[inline(never)]
pub(super) fn deliver(
    queue: &mut Queue,
    burst: &Burst,
    order: &Order,
    head: &mut Head,
    tally: &mut Tally,
) -> Result<(), QueueFault> {
    let frame = &burst.frames[order.frame()];
    if !frame.offload.is_none() {
        return deliver_offloaded(queue, burst, order, head, tally);
    }
    let outcome = match order.tag {
        _ if frame.length_bytes > queue.traits.limit_bytes => {
            Err(Undelivered::Dropped(DropReason::EgressOversized))
        }
        None => {
            let header = frame.header.untagged();
            queue.deliver(&Outgoing::new(header, burst.segments_of(frame)))
        }
        Some(tag) => deliver_tagged(queue, burst, frame, tag),
    };
    tally.note(outcome, frame.length_bytes as usize)
}

/// A copy that leaves with a tag, in a function of its own so that others do not clear the place
/// where its header is put together.
#[inline(never)]
fn deliver_tagged(
    queue: &mut Queue,
    burst: &Burst,
    frame: &Frame,
    tag: VlanTag,
) -> Result<(), Undelivered> {
    let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
    let header = frame.header.with_tag(tag, &mut scratch);
    queue.deliver(&Outgoing::new(header, burst.segments_of(frame)))
}

/// A copy of a frame that something is left to be done to, unless its receiver does it.
#[inline(never)]
fn deliver_offloaded(
    queue: &mut Queue,
    burst: &Burst,
    order: &Order,
    head: &mut Head,
    tally: &mut Tally,
) -> Result<(), QueueFault> {
    let frame = &burst.frames[order.frame()];
    if frame.piece_bytes() > queue.traits.limit_bytes {
        return tally.note(Err(Undelivered::Dropped(DropReason::EgressOversized)), 0);
    }
    let segments = burst.segments_of(frame);
    let leaving = Leaving { header: &frame.header, tag: order.tag, segments };
    match queue.receiver(frame.length_bytes).delivery(&frame.offload, order.tag.is_some()) {
        Delivery::Whole(net_header) => {
            let outcome = deliver_whole(queue, net_header, &leaving);
            tally.note(outcome, frame.length_bytes as usize)
        }
        Delivery::Completed => {
            let completing = complete(&frame.offload, &leaving, head);
            let outcome = completing
                .map_err(Undelivered::Dropped)
                .and_then(|completing| queue.depart(Departure::Completing(completing)));
            tally.note(outcome, frame.length_bytes as usize)
        }
        Delivery::Cut => match Segments::new(&frame.offload, &leaving, head) {
            Ok(pieces) => deliver_cut(queue, pieces, &leaving, tally),
            Err(reason) => tally.note(Err(Undelivered::Dropped(reason)), 0),
        },
    }
}

/// A copy as its frame lies.
pub(super) fn deliver_whole(
    queue: &mut Queue,
    net_header: NetHeader,
    frame: &Leaving<'_>,
) -> Result<(), Undelivered> {
    let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
    let header = frame.header.as_tagged(frame.tag, &mut scratch);
    queue.depart(Departure::Whole(net_header, Outgoing::new(header, frame.segments)))
}

/// A large frame that a wire gets in pieces: cut by the interface if that does it, or here.
fn deliver_cut(
    queue: &mut Queue,
    pieces: Segments<'_>,
    frame: &Leaving<'_>,
    tally: &mut Tally,
) -> Result<(), QueueFault> {
    let cut = pieces.segmentation();
    let (net_header, whole) = pieces.whole();
    let piece_bytes = whole.head().len() - frame.tag_bytes() + usize::from(cut.size.get());
    if pieces.frames_left() > 1
        && piece_bytes <= queue.traits.limit_bytes as usize
        && queue.receiver_of_large().takes(cut.kind, cut.has_cwr)
    {
        let length_bytes = frame.length_bytes();
        match queue.depart_large(net_header, length_bytes, whole) {
            Err(Undelivered::Dropped(DropReason::OffloadUnfit)) => {}
            outcome => return tally.note(outcome, length_bytes - frame.tag_bytes()),
        }
    }
    deliver_pieces(queue, pieces, frame.tag_bytes(), tally)
}

/// The pieces of a large frame: each is a copy of its own, and a full ring may take some of them.
fn deliver_pieces(
    queue: &mut Queue,
    mut pieces: Segments<'_>,
    tag_bytes: usize,
    tally: &mut Tally,
) -> Result<(), QueueFault> {
    let limit_bytes = queue.traits.limit_bytes as usize;
    tally.further += pieces.frames_left().saturating_sub(1) as u64;
    while let Some(piece) = pieces.next_frame() {
        let length_bytes = piece.length_bytes() - tag_bytes;
        let outcome = if length_bytes > limit_bytes {
            Err(Undelivered::Dropped(DropReason::EgressOversized))
        } else {
            queue.depart(Departure::Completing(piece))
        };
        tally.note(outcome, length_bytes)?;
    }
    Ok(())
}
