//! A frame that fits the guest's next buffer, and comes in few pieces: most frames there are.
//!
//! Nothing is taken apart here that need not be, and little is stored but what goes to the guest.
//! Stores leave a processor in order: behind one to a line that another processor has, those to
//! private memory wait as well, and with enough of them a processor stands still. A delivery by
//! parts has forty of these a frame.

#![allow(unsafe_code)]

use frame::Outgoing;

use super::Receive;
use super::write::room;
use crate::first_bytes::MAX_NET_HEADER_BYTES;
use crate::offload::NetHeader;
use crate::vring::Ring;

impl<R: Ring> Receive<R> {
    /// Delivers a frame that is simple, if the next chain is a single piece that holds it. Returns
    /// false if it is to be delivered [by parts](Self::deliver_by_parts), and nothing was done.
    #[inline(always)]
    pub(super) fn deliver_simple(&mut self, net_header: NetHeader, frame: &Outgoing<'_>) -> bool {
        let written_bytes = MAX_NET_HEADER_BYTES + frame.length_bytes;
        if self.net_header_bytes != MAX_NET_HEADER_BYTES
            || !frame.is_simple()
            || self.chains.is_logged()
            || self.chains.check_alive().is_err()
        {
            return false;
        }
        let Some((head, piece, next)) = self.ahead.take_single(written_bytes) else { return false };
        // SAFETY: this queue holds the map.
        let mut room = unsafe { room(&piece) };
        if let Some(next) = next {
            room = room.followed_by(next.host.0);
        }
        let (first, second) = net_header.to_words(1);
        room.write_words(first, second);
        frame.copy_simple(&mut room);
        #[expect(clippy::cast_possible_truncation, reason = "the piece holds them")]
        self.chains.ring.set_used(self.next, head, written_bytes as u32);
        self.next = self.chains.ring.after(self.next, head);
        true
    }
}
