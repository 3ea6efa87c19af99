//! One receive queue of an interface: its socket, its four rings, its chunks.
//!
//! ```text
//!             receive            complete          release
//!   rx ring ──────────▶ burst ───────────▶ back ───────────▶ fill ring
//!   free    ──────────▶ tx ring ─────────▶ completion ring ─▶ free
//!              send       flush                        flush
//! ```
//!
//! As many chunks go round the upper way as the fill ring has slots, and the lower way as the tx
//! ring has, so neither ring can be asked to hold more. Nothing waits: when frames are lent for
//! long, fewer chunks lie in the fill ring and reception slows; when the NIC does not send, frames
//! drop as `tx_ring_full`.
//!
//! A frame from another queue of the same UMEM that goes nowhere else is not copied. The two queues
//! exchange chunks: the egress sends the chunk that the frame lies in, and the ingress goes on with
//! a free one of the egress' in its place:
//!
//! ```text
//!   ingress   rx ring ──▶ burst ─ A ─╮  ╭─ B ─▶ back ──────▶ fill ring
//!                          forward   │  │   complete_with
//!   egress    free ─────────── B ────┼──╯
//!                                    ╰─ A ─▶ tx ring ─▶ completion ring ─▶ free
//! ```
//!
//! Nothing is lent until it was sent: both queues have as many chunks as before at once, so a NIC
//! that has stopped sending holds chunks of its own and no others', and there is no limit to keep.
//!
//! A frame of up to 64 bytes lies wholly in its private header and is written to a free chunk.

use std::os::fd::{AsFd, BorrowedFd};

use frame::{Burst, DropReason, MIN_WIRE_FRAME_BYTES, Outgoing, Segment, SegmentRange, TAG_BYTES};

use crate::chunks::{Chunk, Part};
use crate::pool::Bound;
use crate::rings::Descriptor;
use crate::socket::Socket;
use crate::statistics::XdpStatistics;
use crate::sys;
use crate::umem::{CHUNK_BYTES, RECEIVE_CHUNKS, SEND_CHUNKS, chunk_of};

/// Frames that the kernel sends for one call in copy mode (`max_tx_budget`, default 32).
const KERNEL_SEND_BURST: u32 = 32;

/// One receive queue of an uplink, owned by one poll thread. Methods never wait. Drop it when nothing
/// is [`outstanding`](Self::outstanding) and no duplicate of its socket is left.
#[derive(Debug)]
pub struct XdpQueue {
    // Dropped in this order: the socket is closed before its chunks can be anybody else's.
    socket: Socket,
    part: Part,
    queue: u32,
    /// Longest frame without tag that the interface sends, in bytes.
    limit_bytes: usize,
    /// Completed receive chunks on their way back to the fill ring.
    back: Vec<u64>,
    /// Send chunks that are free.
    free: Vec<u64>,
    outstanding: usize,
    /// The middle of a frame in several buffers: its remaining ones are dropped.
    is_mid_frame: bool,
    /// The kernel last refused to send for a reason that trying again does not cure, such as an
    /// interface that is down. What lies in the ring waits for the next flush and wakes nobody.
    is_stalled: bool,
}

impl XdpQueue {
    pub(crate) fn new(bound: Bound, queue: u32, mtu_bytes: u32) -> Self {
        let Bound { socket, part } = bound;
        Self {
            back: Vec::with_capacity(RECEIVE_CHUNKS as usize),
            free: part.send_chunks().collect(),
            limit_bytes: mtu_bytes as usize + frame::ETHERNET_HEADER_BYTES,
            socket,
            part,
            queue,
            outstanding: 0,
            is_mid_frame: false,
            is_stalled: false,
        }
    }

    /// Number of the receive queue, from 0.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.queue
    }

    /// Takes up to `limit` frames, appends them to `burst` and returns how many. A frame's token
    /// is its chunk's address. Runts and frames in several buffers are counted in the burst's
    /// drops and do not count here.
    pub fn receive(&mut self, burst: &mut Burst, limit: usize) -> usize {
        let before = burst.frames.len();
        for _ in 0..limit {
            let Some(descriptor) = self.socket.rx.pop() else { break };
            let chunk = chunk_of(descriptor.address);
            let taken = self.take(&descriptor, burst);
            match taken {
                Ok(()) => self.outstanding += 1,
                Err(reason) => {
                    self.back.push(chunk);
                    if let Some(reason) = reason {
                        burst.dropped.count(reason);
                    }
                    burst.dropped_bytes += u64::from(descriptor.length_bytes);
                }
            }
        }
        self.socket.rx.release();
        burst.frames.len() - before
    }

    /// Appends the frame of one descriptor, or says why not; a piece of a frame that was counted
    /// with its first piece has no reason of its own.
    fn take(
        &mut self,
        descriptor: &Descriptor,
        burst: &mut Burst,
    ) -> Result<(), Option<DropReason>> {
        let was_mid_frame = self.is_mid_frame;
        self.is_mid_frame = descriptor.options & libc::XDP_PKT_CONTD != 0;
        if was_mid_frame {
            return Err(None);
        }
        if self.is_mid_frame {
            return Err(Some(DropReason::Oversized));
        }
        let Descriptor { address, length_bytes, .. } = *descriptor;
        let umem = self.part.umem();
        burst
            .push_with(|frame, segments| {
                let mut is_inside = true;
                let parsed = frame.header.read(|first| {
                    let count = umem.read(address, length_bytes, first);
                    is_inside = count.is_some();
                    count.unwrap_or_default()
                });
                if !is_inside {
                    return Err(DropReason::Oversized);
                }
                parsed?;
                let header = &frame.header;
                let taken =
                    u32::try_from(header.taken_bytes()).map_err(|_| DropReason::Oversized)?;
                let rest = length_bytes.saturating_sub(taken);
                let start = u32::try_from(segments.len()).map_err(|_| DropReason::Oversized)?;
                if rest > 0 {
                    let segment = umem.segment(address + u64::from(taken), rest);
                    segments.push(segment.ok_or(DropReason::Oversized)?);
                }
                let tag_bytes = if header.tag().is_some() { 4 } else { 0 };
                frame.segments = SegmentRange { start, count: u32::from(rest > 0) };
                frame.length_bytes = length_bytes - tag_bytes;
                frame.token = chunk_of(address);
                Ok(())
            })
            .map_err(Some)
    }

    /// Takes back the chunk of a frame that was delivered or dropped everywhere. Each token that
    /// [`receive`](Self::receive) gave out is completed exactly once.
    #[inline]
    pub fn complete(&mut self, token: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.back.push(token);
    }

    /// The same for a frame whose chunk another queue kept: `replacement`, which that queue's
    /// [`forward`](Self::forward) gave for it, takes the chunk's place.
    #[inline]
    pub fn complete_with(&mut self, token: u64, replacement: Chunk) {
        self.part.exchange(token, replacement.address());
        self.complete(replacement.address());
    }

    /// Gives all completed chunks to the kernel, at once, and wakes the driver if it asks for that.
    pub fn release(&mut self) {
        while let Some(&chunk) = self.back.last() {
            if !self.socket.fill.push(chunk) {
                break;
            }
            self.back.pop();
        }
        if self.socket.fill.submit() && self.socket.fill.needs_wakeup() {
            sys::wake_rx(self.socket.fd.as_fd());
        }
    }

    /// Copies a frame into a free chunk, padded to 60 bytes, and puts it into the tx ring. It
    /// leaves with the next [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// [`DropReason::EgressOversized`] if it is longer than the interface's MTU allows (as it was
    /// when the interface was opened), [`DropReason::TxRingFull`] if no chunk is free.
    pub fn send(&mut self, frame: &Outgoing<'_>) -> Result<(), DropReason> {
        let length_bytes = self.wire_bytes(frame)?;
        let address = self.take_free().ok_or(DropReason::TxRingFull)?;
        let written = self.part.umem().write(address, |room| {
            frame.reader().copy_to(room);
            room.write_zeros(MIN_WIRE_FRAME_BYTES.saturating_sub(frame.length_bytes));
        });
        let descriptor = Descriptor { address, length_bytes, options: 0 };
        if written.is_none() || !self.socket.tx.push(descriptor) {
            self.free.push(address);
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
        let length_bytes = self.wire_bytes(frame)?;
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

    /// Length of a frame on the wire, if it may go there.
    fn wire_bytes(&self, frame: &Outgoing<'_>) -> Result<u32, DropReason> {
        let is_tagged = frame.head.get(12..14).is_some_and(|kind| kind == [0x81, 0x00]);
        let limit_bytes = self.limit_bytes + if is_tagged { TAG_BYTES } else { 0 };
        let length_bytes = frame.length_bytes.max(MIN_WIRE_FRAME_BYTES);
        let length_bytes = u32::try_from(length_bytes).map_err(|_| DropReason::EgressOversized)?;
        if frame.length_bytes > limit_bytes || length_bytes > CHUNK_BYTES {
            return Err(DropReason::EgressOversized);
        }
        Ok(length_bytes)
    }

    fn take_free(&mut self) -> Option<u64> {
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
    fn reap(&mut self) {
        while self.free.len() < SEND_CHUNKS as usize {
            let Some(address) = self.socket.completion.pop() else { break };
            self.free.push(chunk_of(address));
        }
        self.socket.completion.release();
    }

    /// Frames received and not completed.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// Says whether a frame has arrived, or one waits to be sent that needs another
    /// [`flush`](Self::flush). A poll thread that has such a queue must not sleep.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.socket.rx.has_items()
            || (!self.is_stalled && self.socket.tx.pending() > 0 && self.socket.tx.needs_wakeup())
    }

    /// The kernel's counters of this queue's socket: see [`XdpStatistics::read`].
    #[must_use]
    pub fn statistics(&self) -> XdpStatistics {
        XdpStatistics::read(self.as_fd())
    }

    /// The socket; readable when the rx ring has frames.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.fd.as_fd()
    }
}

impl Drop for XdpQueue {
    fn drop(&mut self) {
        self.reap();
        if self.free.len() < SEND_CHUNKS as usize {
            // A packet on its way may still be read from its chunk.
            self.part.let_rest();
        }
        if self.outstanding > 0 {
            // Against the rule above: chunks of its frames may be other queues' by now.
            self.part.lose();
        }
    }
}
