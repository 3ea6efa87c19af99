//! The sending side of a queue: frames into the tx ring, and their chunks back.

use std::os::fd::AsFd;

use frame::{
    Completing, DropReason, ETHERNET_HEADER_BYTES, MIN_WIRE_FRAME_BYTES, Outgoing, Room, Segment,
    TAG_BYTES,
};

use super::{Abilities, XdpQueue};
use crate::chunks::Chunk;
use crate::rings::Descriptor;
use crate::sys;
use crate::umem::{CHUNK_BYTES, SEND_CHUNKS, chunk_of};

/// Frames that the kernel sends for one call in copy mode (`max_tx_budget`, default 32).
const KERNEL_SEND_BURST: u32 = 32;

impl XdpQueue {
    /// Copies a frame into a free chunk, padded to 60 bytes, and puts it into the tx ring. It
    /// leaves with the next [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`DropReason::EgressOversized`] if it is longer than the interface's MTU allows (as it was
    /// when the interface was opened), [`DropReason::TxRingFull`] if no chunk is free.
    pub fn send(&mut self, frame: &Outgoing<'_>) -> Result<(), DropReason> {
        let length_bytes = self.wire_bytes(frame.head, frame.length_bytes)?;
        if length_bytes > self.chunk_room_bytes() {
            let mut reader = frame.reader();
            return self.send_in_several(length_bytes, |room| {
                reader.copy_to(room);
            });
        }
        self.send_written(length_bytes, |room| {
            frame.reader().copy_to(room);
            room.write_zeros(MIN_WIRE_FRAME_BYTES.saturating_sub(frame.length_bytes));
        })
    }

    /// The same for a frame whose checksum is completed by the copy.
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send).
    pub fn send_completing(&mut self, frame: Completing<'_>) -> Result<(), DropReason> {
        let frame_bytes = frame.length_bytes();
        let length_bytes = self.wire_bytes(frame.head(), frame_bytes)?;
        if length_bytes > self.chunk_room_bytes() {
            return self.send_completing_in_several(length_bytes, frame);
        }
        self.send_written(length_bytes, |room| {
            // It fits, as was just seen.
            let _ = frame.write_to(room);
            room.write_zeros(MIN_WIRE_FRAME_BYTES.saturating_sub(frame_bytes));
        })
    }

    /// Puts what `write` writes into a free chunk, `length_bytes` bytes, into the tx ring.
    #[inline]
    fn send_written(
        &mut self,
        length_bytes: u32,
        write: impl FnOnce(&mut Room),
    ) -> Result<(), DropReason> {
        let chunk = self.take_free().ok_or(DropReason::TxRingFull)?;
        let address = chunk + u64::from(self.part.umem().front_bytes());
        let written = self.part.umem().write(address, write);
        let descriptor = Descriptor { address, length_bytes, options: 0 };
        if written.is_none() || !self.socket.tx.push(descriptor) {
            self.free.push(chunk);
            return Err(DropReason::TxRingFull);
        }
        Ok(())
    }

    /// Sends a frame that goes nowhere else: without a copy if its payload lies in this queue's
    /// UMEM. Then the chunk is this queue's from now on, and the one that is returned has to go to
    /// the queue that received the frame, by [`complete_with`](Self::complete_with). Else this is
    /// [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// As for [`send`](Self::send); the frame's chunk is then where it was.
    pub fn forward(&mut self, frame: &Outgoing<'_>) -> Result<Option<Chunk>, DropReason> {
        // Behind a private header of 60 bytes and more nothing has to be padded.
        let [payload] = frame.segments else { return self.send(frame).map(|()| None) };
        let address = self.part.umem().address_before(payload, frame.head.len());
        let Some(address) = address.filter(|_| frame.length_bytes >= MIN_WIRE_FRAME_BYTES) else {
            return self.send(frame).map(|()| None);
        };
        let length_bytes = self.wire_bytes(frame.head, frame.length_bytes)?;
        let free = self.take_free().ok_or(DropReason::TxRingFull)?;
        // Also if it is as it was received: that cache line was read just now, so a store costs
        // less than finding out.
        let written = self.part.umem().write(address, |room| room.write(frame.head));
        let descriptor = Descriptor { address, length_bytes, options: 0 };
        let given = Chunk::at(free).filter(|_| written.is_some());
        if given.is_none() || !self.socket.tx.push(descriptor) {
            self.free.push(free);
            return Err(DropReason::TxRingFull);
        }
        self.part.exchange(free, chunk_of(address));
        Ok(given)
    }

    /// Says whether [`forward`](Self::forward) would leave this payload where it lies.
    #[inline]
    #[must_use]
    pub fn holds(&self, payload: &Segment) -> bool {
        self.part.umem().holds(payload)
    }

    /// Length on the wire of a frame that begins with `head`, if it may go there.
    pub(super) fn wire_bytes(&self, head: &[u8], frame_bytes: usize) -> Result<u32, DropReason> {
        let is_tagged = head.get(12..14).is_some_and(|kind| kind == [0x81, 0x00]);
        let Abilities { mtu_bytes, is_multi_buffer, .. } = self.abilities;
        let tag_bytes = if is_tagged { TAG_BYTES } else { 0 };
        let limit_bytes = mtu_bytes as usize + ETHERNET_HEADER_BYTES + tag_bytes;
        let length_bytes = frame_bytes.max(MIN_WIRE_FRAME_BYTES);
        let length_bytes = u32::try_from(length_bytes).map_err(|_| DropReason::EgressOversized)?;
        let is_single = length_bytes <= self.chunk_room_bytes();
        if frame_bytes > limit_bytes || !(is_single || is_multi_buffer) {
            return Err(DropReason::EgressOversized);
        }
        Ok(length_bytes)
    }

    /// Bytes of a frame that fit one chunk.
    pub(super) fn chunk_room_bytes(&self) -> u32 {
        CHUNK_BYTES - self.part.umem().front_bytes()
    }

    pub(super) fn take_free(&mut self) -> Option<u64> {
        if self.free.is_empty() {
            self.reap();
        }
        self.free.pop()
    }

    /// Publishes what was sent, calls the kernel if it must be called, and takes back the chunks
    /// that have left. What the kernel did not take stays in the ring for the next call;
    /// [`has_work`](Self::has_work) says so.
    pub fn flush(&mut self) {
        self.socket.tx.submit();
        if self.free.len() < SEND_CHUNKS as usize {
            self.wake_sender();
            self.reap();
        }
    }

    fn wake_sender(&mut self) {
        if !self.socket.tx.needs_wakeup() {
            return;
        }
        let mut pending = self.socket.tx.pending();
        // Copy mode sends a burst for each call and answers EAGAIN when there is more, or when
        // the interface is congested. It is called again only as long as it gets on.
        self.is_stalled = false;
        for _ in 0..SEND_CHUNKS / KERNEL_SEND_BURST {
            if pending == 0 {
                break;
            }
            let Err(error) = sys::wake_tx(self.socket.fd.as_fd()) else { break };
            let left = self.socket.tx.pending();
            if left == pending {
                let code = error.raw_os_error();
                self.is_stalled = !matches!(code, Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS));
                break;
            }
            pending = left;
        }
    }

    /// Drains the completion ring.
    pub(super) fn reap(&mut self) {
        while self.free.len() < SEND_CHUNKS as usize {
            let Some(address) = self.socket.completion.pop() else { break };
            self.free.push(chunk_of(address));
        }
        self.socket.completion.release();
    }
}
