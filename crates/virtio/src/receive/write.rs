//! Writing into the chains that were found for a frame.
//!
//! A frame whose checksum is completed on the way has its payload written first, to where it will
//! lie, and its head last: its front may lie in several pieces, too.
//!
//! ```text
//!   pieces   │ net header, head … │ … head │ payload … │ … payload │
//!            └──── written last ─────┘ └────── written first ─────┘
//! ```

#![allow(unsafe_code)]

use frame::{Completing, Room};

use super::Receive;
use crate::first_bytes::MAX_NET_HEADER_BYTES;
use crate::memory::Piece;
use crate::offload::NetHeader;
use crate::vring::Ring;

/// A piece of a buffer, to be written.
///
/// # Safety
///
/// The memory map that the piece was translated with lives as long as the `Room`.
#[inline]
pub(super) unsafe fn room(piece: &Piece) -> Room {
    // SAFETY: the piece is mapped guest memory by `Translator::translate`, as long as the map,
    // which lives by the caller's promise; there are no references to guest memory.
    unsafe { Room::new(piece.host.0, piece.length_bytes) }
}

impl<R: Ring> Receive<R> {
    /// Writes net header and frame into the first so many chains that were walked, and their used
    /// entries. `copy` writes the frame's next bytes, until either ends.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        net_header: NetHeader,
        chains: usize,
        mut copy: impl FnMut(&mut Room) -> usize,
    ) {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_MERGED")]
        let num_buffers = chains as u16;
        let (first, second) = net_header.to_words(num_buffers);
        // Behind the end of the header where it has ten bytes, and then not sent.
        let bytes = net_header.to_bytes(num_buffers);
        let mut header = &bytes[..self.net_header_bytes];
        for _ in 0..chains {
            let Some((chain, pieces, next)) = self.ahead.take() else { break };
            let mut written_bytes = 0usize;
            for piece in pieces {
                // SAFETY: this queue holds the map.
                let mut room = unsafe { room(piece) };
                if let Some(next) = next {
                    room = room.followed_by(next.host.0);
                }
                if header.len() == MAX_NET_HEADER_BYTES && room.write_words(first, second) {
                    written_bytes += MAX_NET_HEADER_BYTES;
                    header = &[];
                } else if !header.is_empty() {
                    let count = room.write(header);
                    written_bytes += count;
                    header = &header[count..];
                }
                written_bytes += copy(&mut room);
            }
            self.chains.log_pieces(pieces, written_bytes);
            #[expect(clippy::cast_possible_truncation, reason = "at most header and frame")]
            self.chains.ring.set_used(self.next, chain.head, written_bytes as u32);
            self.next = self.chains.ring.after(self.next, chain.head);
        }
        self.ahead.rewind();
    }

    /// The same for a frame whose checksum is completed by the copy.
    pub(super) fn write_completing(&mut self, mut frame: Completing<'_>, chains: usize) {
        let net_header_bytes = self.net_header_bytes;
        let mut front_bytes = net_header_bytes + frame.head_bytes();
        self.front.clear();
        for _ in 0..chains {
            let Some((chain, pieces, _)) = self.ahead.take() else { break };
            let mut written_bytes = 0;
            for piece in pieces {
                #[expect(clippy::cast_possible_truncation, reason = "at most the piece's length")]
                let in_front = front_bytes.min(piece.length_bytes as usize) as u32;
                if in_front > 0 {
                    self.front.push(Piece { length_bytes: in_front, ..*piece });
                }
                front_bytes -= in_front as usize;
                // SAFETY: this queue holds the map.
                let mut room = unsafe { room(piece) };
                written_bytes += room.split_front(in_front).length_bytes();
                #[expect(clippy::cast_possible_truncation, reason = "at most the piece's length")]
                let copied = frame.copy_payload(&mut room) as u32;
                written_bytes += copied;
            }
            self.chains.log_pieces(pieces, written_bytes as usize);
            self.chains.ring.set_used(self.next, chain.head, written_bytes);
            self.next = self.chains.ring.after(self.next, chain.head);
        }
        self.ahead.rewind();
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_MERGED")]
        let num_buffers = chains as u16;
        let net_header = NetHeader::default().to_bytes(num_buffers);
        let (mut net_header, mut head) = (&net_header[..net_header_bytes], frame.finish());
        for piece in &self.front {
            // SAFETY: as above; the payload was written behind it.
            let mut room = unsafe { room(piece) };
            let count = room.write(net_header);
            net_header = &net_header[count..];
            let count = room.write(head);
            head = &head[count..];
            self.chains.log_pieces(std::slice::from_ref(piece), piece.length_bytes as usize);
        }
    }
}
