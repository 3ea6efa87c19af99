//! Frames each of which fits the guest's next buffer, and comes in few pieces: most frames there are.
//! Their chains are walked, and they delivered, in loops that have nothing else in them: what these need
//! of the queue stays in registers.
//!
//! Nothing is taken apart here that need not be, and little is stored but what goes to the guest.
//! Stores leave a processor in order: behind one to a line that another processor has, those to
//! private memory wait as well, and with enough of them a processor stands still. A delivery by
//! parts has forty of these a frame.

#![allow(unsafe_code)]

use frame::Outgoing;

use super::write::room;
use super::{PREFETCH_DISTANCE, Receive, prefetch_front};
use crate::chain::Wanted;
use crate::first_bytes::MAX_NET_HEADER_BYTES;
use crate::offload::NetHeader;
use crate::vring::{DESCRIPTORS_A_LINE, Ring};

impl<R: Ring> Receive<R> {
    /// Walks the next chains as long as they are single pieces, as most are, up to `wanted`. Returns how
    /// many there were and what they hold.
    #[inline(never)]
    pub(super) fn walk_singles(&mut self, wanted: usize) -> (usize, usize) {
        if usize::from(self.seen_available) < wanted {
            // Whoever delivers meets a fault again.
            self.seen_available =
                self.chains.ring.available(self.published, self.walked).unwrap_or_default();
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most BURST_FRAMES")]
        let most = (wanted as u16).min(self.seen_available);
        let Self { chains, ahead, published, walked, .. } = self;
        let mut position = *walked;
        for after in (0..most).step_by(DESCRIPTORS_A_LINE.into()) {
            chains.ring.prefetch_chain(position, PREFETCH_DISTANCE + after);
        }
        let singles = std::iter::from_fn(|| {
            let (head, piece) = chains.single(*published, position, Wanted::Writable)?;
            prefetch_front(&piece);
            position = chains.ring.after(position, head);
            Some((head, piece))
        });
        let (count, room_bytes) = ahead.add_singles(singles.take(most.into()));
        *walked = position;
        #[expect(clippy::cast_possible_truncation, reason = "at most what is available")]
        let taken = count as u16;
        self.seen_available -= taken;
        (count, room_bytes)
    }

    /// Delivers frames as long as they are simple and the next chain is a single piece that holds one.
    /// Returns how many; the next one goes [by parts](Self::deliver_by_parts), if at all.
    #[inline(never)]
    pub(crate) fn deliver_simple<'a>(
        &mut self,
        net_header: NetHeader,
        frames: impl Iterator<Item = Outgoing<'a>>,
    ) -> usize {
        if self.net_header_bytes != MAX_NET_HEADER_BYTES
            || self.chains.is_logged()
            || self.chains.check_alive().is_err()
        {
            return 0;
        }
        let Self { chains, ahead, next, .. } = self;
        let (first, second) = net_header.to_words(1);
        let mut position = *next;
        let mut delivered = 0usize;
        for (frame, (head, piece, following)) in frames.zip(ahead.singles()) {
            let Some(frame) = frame.simple() else { break };
            let written_bytes = MAX_NET_HEADER_BYTES.wrapping_add(frame.length_bytes());
            if (piece.length_bytes as usize) < written_bytes {
                break;
            }
            // SAFETY: this queue holds the map.
            let mut room = unsafe { room(&piece) };
            if let Some(following) = following {
                room = room.followed_by(following.host.0);
            }
            room.write_words(first, second);
            frame.copy_to(room);
            #[expect(clippy::cast_possible_truncation, reason = "the piece holds them")]
            chains.ring.set_used(position, head, written_bytes as u32);
            position = chains.ring.after(position, head);
            delivered = delivered.wrapping_add(1);
        }
        *next = position;
        ahead.take_singles(delivered);
        delivered
    }
}
