//! Copies that need more than being copied, because of what is left to do to their frame.

use afxdp::{LARGE_NET_HEADER_BYTES, XdpQueue};
use frame::{Completing, DropReason, Gathered, Joined, Outgoing, Reader};
use virtio::Features;
use virtio::offload::{NetHeader, Receiver};

use super::{Kind, Queue, Undelivered};

/// A NIC that completes checksums, and cuts nothing.
const CHECKSUMS: Receiver = Receiver::new(Features::NET_GUEST_CSUM);

/// An interface that cuts large TCP frames.
const LARGE_TCP: Receiver = Receiver::new(Features(
    Features::NET_GUEST_CSUM.0 | Features::NET_GUEST_TSO4.0 | Features::NET_GUEST_TSO6.0,
));

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

    /// What the far side takes of large frames that are put together here, or would be cut here.
    #[inline]
    pub(crate) fn receiver_of_large(&self) -> Receiver {
        match &self.kind {
            Kind::Interface(queue) if self.traits.has_offloads && queue.takes_large() => LARGE_TCP,
            Kind::Interface(_) => Receiver::PLAIN,
            Kind::Guest { .. } | Kind::Tap(..) => self.receiver(0),
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

    /// The same for a large frame of `length_bytes` bytes, for a [receiver](Self::receiver_of_large)
    /// that takes such. An interface that does not take this one says [`DropReason::OffloadUnfit`].
    pub(crate) fn depart_large<'a>(
        &mut self,
        net_header: NetHeader,
        length_bytes: usize,
        frame: Joined<'a, impl Iterator<Item = Reader<'a>> + Clone>,
    ) -> Result<(), Undelivered> {
        match &mut self.kind {
            Kind::Guest { receiveq: Some(receiveq), .. } if receiveq.takes_frames() => {
                Ok(receiveq.ring.deliver_joined(net_header, length_bytes, frame)?)
            }
            Kind::Tap(queue, _) if !self.is_leaving => {
                queue.send_joined(net_header, frame).map_err(Undelivered::Dropped)
            }
            Kind::Interface(queue) if !self.is_leaving => {
                send_large(queue, net_header, frame).map_err(Undelivered::Dropped)
            }
            Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..) => {
                Err(Undelivered::Dropped(DropReason::PortDown))
            }
        }
    }
}

/// Sends a large frame by an interface that may take it.
fn send_large<'a>(
    queue: &mut XdpQueue,
    net_header: NetHeader,
    frame: Joined<'a, impl Iterator<Item = Reader<'a>>>,
) -> Result<(), DropReason> {
    let [front @ .., _, _]: [u8; LARGE_NET_HEADER_BYTES + 2] = net_header.to_bytes(0);
    let head = frame.head();
    let piece_bytes = head.len() + usize::from(net_header.gso_size);
    let mut gathered = Gathered::new(&front);
    if !frame.gather(&mut gathered) {
        return Err(DropReason::OffloadUnfit);
    }
    queue.send_large(head, piece_bytes, &gathered)
}
