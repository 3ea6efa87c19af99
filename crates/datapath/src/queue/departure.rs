//! Copies that need more than being copied, because of what is left to do to their frame.

use frame::{Completing, DropReason, Joined, Outgoing, Reader};
use virtio::Features;
use virtio::offload::{NetHeader, Receiver};

use super::{Kind, Queue, Undelivered};

/// A NIC that completes checksums, and cuts nothing.
const CHECKSUMS: Receiver = Receiver::new(Features::NET_GUEST_CSUM);

/// A frame as it leaves by one queue.
#[derive(Debug)]
pub(crate) enum Departure<'a> {
    /// As it lies, what is left to do in the net header. One that asks for nothing may go anywhere.
    Whole(NetHeader, Outgoing<'a>),
    /// Its checksum is completed by the copy.
    Completing(Completing<'a>),
}

impl Queue {
    /// What the far side takes beside ready frames, of a frame of so many bytes.
    #[inline]
    pub(crate) fn receiver(&self, frame_bytes: u32) -> Receiver {
        match &self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if self.traits.has_offloads => {
                receiveq.ring.receiver()
            }
            Kind::Interface(queue)
                if self.traits.has_offloads && queue.takes_partial(frame_bytes) =>
            {
                CHECKSUMS
            }
            Kind::Tap(_, receiver) if self.traits.has_offloads => *receiver,
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => Receiver::PLAIN,
        }
    }

    /// As [`deliver`](Self::deliver), for a frame that is not just copied.
    pub(crate) fn depart(&mut self, departure: Departure<'_>) -> Result<(), Undelivered> {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                match departure {
                    Departure::Whole(net_header, frame) => {
                        receiveq.ring.deliver_with(net_header, &frame)?;
                    }
                    Departure::Completing(frame) => receiveq.ring.deliver_completing(frame)?,
                }
                Ok(())
            }
            Kind::Interface(queue) if !self.is_leaving => match departure {
                Departure::Whole(net_header, frame)
                    if net_header.flags & NetHeader::NEEDS_CSUM != 0 =>
                {
                    let NetHeader { csum_start, csum_offset, .. } = net_header;
                    queue.send_partial(&frame, csum_start, csum_offset)
                }
                Departure::Whole(_, frame) => queue.send(&frame),
                Departure::Completing(frame) => queue.send_completing(frame),
            }
            .map_err(Undelivered::Dropped),
            Kind::Tap(queue, _) if !self.is_leaving => match departure {
                Departure::Whole(net_header, frame) => queue.send(net_header, &frame),
                Departure::Completing(frame) => queue.send_completing(frame),
            }
            .map_err(Undelivered::Dropped),
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {
                Err(Undelivered::Dropped(DropReason::PortDown))
            }
        }
    }

    /// The same for several frames that were joined into one of `length_bytes` bytes, for a receiver
    /// that takes large frames.
    pub(crate) fn depart_joined<'a>(
        &mut self,
        net_header: NetHeader,
        length_bytes: usize,
        frame: Joined<'a, impl Iterator<Item = Reader<'a>>>,
    ) -> Result<(), Undelivered> {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                Ok(receiveq.ring.deliver_joined(net_header, length_bytes, frame)?)
            }
            Kind::Tap(queue, _) if !self.is_leaving => {
                queue.send_joined(net_header, frame).map_err(Undelivered::Dropped)
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {
                Err(Undelivered::Dropped(DropReason::PortDown))
            }
        }
    }
}
