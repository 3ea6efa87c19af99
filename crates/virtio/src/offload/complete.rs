//! Completing a partial checksum for a receiver that cannot: in the private head, while the
//! payload is copied.
//!
//! The field holds the pseudo-header's sum (VIRTIO 1.2, 5.1.6.2), so the sum from `csum_start` to
//! the frame's end, field included, is what is missing. What protocol that is does not matter:
//! the checksum in a tunnel is completed like any other, if it lies in the first
//! [`HEAD_BYTES`](super::HEAD_BYTES). A result of zero is sent as 0xffff, as Linux does
//! (`skb_checksum_help`): UDP needs it, and for others both are the same number.

use frame::{Checksum, Completing, DropReason, Offload, Place, Zero};

use super::{Head, Leaving};

/// The frame with its checksum to be completed by the copy. `head` is the caller's, so that the
/// frame may borrow it.
///
/// # Errors
///
/// [`DropReason::OffloadUnfit`] if nothing is to be completed, or the checksum lies too far back.
pub fn complete<'a>(
    offload: &Offload,
    frame: &Leaving<'a>,
    head: &'a mut Head,
) -> Result<Completing<'a>, DropReason> {
    const UNFIT: DropReason = DropReason::OffloadUnfit;
    let Checksum::Partial { start, offset } = offload.checksum else { return Err(UNFIT) };
    let start = usize::from(start) + frame.tag_bytes();
    let place = Place { start, field: start + usize::from(offset) };
    head.gather(frame, place.field + 2);
    let head_bytes = head.bytes().len();
    let payload = frame.payload(head_bytes).ok_or(UNFIT)?;
    let payload_bytes = frame.length_bytes() - head_bytes;
    let head = head.bytes_mut();
    Completing::new(head, payload, payload_bytes, place, Zero::Inverted).ok_or(UNFIT)
}
