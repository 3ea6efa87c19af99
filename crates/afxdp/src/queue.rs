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

mod jumbo;
mod large;
mod partial;
mod send;

use std::os::fd::{AsFd, BorrowedFd};

use frame::{Burst, DropReason, Intake, SegmentRange};
use serde::{Deserialize, Serialize};

use crate::chunks::{Chunk, Part};
use crate::pool::Bound;
use crate::rings::Descriptor;
use crate::socket::Socket;
use crate::statistics::XdpStatistics;
use crate::sys;
use crate::umem::{RECEIVE_CHUNKS, SEND_CHUNKS, chunk_of};
use jumbo::Jumbo;
pub use large::LARGE_NET_HEADER_BYTES;
pub(crate) use large::LargeFrames;

/// What the interface does for one of its queues.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Abilities {
    /// Longest packet that it sends.
    pub(crate) mtu_bytes: u32,
    /// It sends from this queue.
    pub(crate) can_send: bool,
    /// Frames may leave in several buffers.
    pub(crate) is_multi_buffer: bool,
    /// The NIC completes checksums of frames that are sent.
    pub(crate) completes_checksums: bool,
}

/// One receive queue of an uplink, owned by one poll thread. Methods never wait. Drop it when nothing
/// is [`outstanding`](Self::outstanding) and no duplicate of its socket is left.
#[derive(Debug)]
pub struct XdpQueue {
    // Dropped in this order: the socket is closed before its chunks can be anybody else's.
    pub(crate) socket: Socket,
    pub(crate) part: Part,
    queue: u32,
    abilities: Abilities,
    /// Completed receive chunks on their way back to the fill ring.
    pub(crate) back: Vec<u64>,
    /// Send chunks that are free.
    pub(crate) free: Vec<u64>,
    outstanding: usize,
    /// Frames that came in several buffers.
    pub(crate) jumbo: Jumbo,
    /// Where large frames leave, if the interface cuts them.
    large: Option<LargeFrames>,
    /// The kernel last refused to send for a reason that trying again does not cure, such as an
    /// interface that is down. What lies in the ring waits for the next flush and wakes nobody.
    pub(crate) is_stalled: bool,
    /// The rings are another process': see `hand_over.rs`.
    pub(crate) is_foreign: bool,
}

impl XdpQueue {
    pub(crate) fn new(
        bound: Bound,
        queue: u32,
        abilities: Abilities,
        large: Option<LargeFrames>,
    ) -> Self {
        let Bound { socket, part } = bound;
        Self {
            back: Vec::with_capacity(RECEIVE_CHUNKS as usize),
            free: part.send_chunks().collect(),
            socket,
            part,
            queue,
            abilities,
            outstanding: 0,
            jumbo: Jumbo::new(),
            large,
            is_stalled: false,
            is_foreign: false,
        }
    }

    /// Number of the receive queue, from 0.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.queue
    }

    /// Says whether frames leave by it. An interface may have fewer queues that send than ones that
    /// receive; what lies in the tx ring of the others stays there (`xsk_generic_xmit`,
    /// net/xdp/xsk.c).
    #[must_use]
    pub const fn can_send(&self) -> bool {
        self.abilities.can_send
    }

    /// Takes up to `limit` frames, appends them to `burst` and returns how many. A frame's token
    /// is its chunk's address; of one in several buffers, see `jumbo.rs`. Runts and frames that are
    /// too long are counted in the burst's drops and do not count here.
    pub fn receive(&mut self, burst: &mut Burst, limit: usize) -> usize {
        let before = burst.frames.len();
        for _ in 0..limit {
            let Some(descriptor) = self.socket.rx.pop() else { break };
            if self.jumbo.concerns(&descriptor) {
                self.take_buffer(descriptor, burst);
                continue;
            }
            match self.take(&descriptor, burst) {
                Ok(()) => self.outstanding += 1,
                Err(reason) => {
                    self.back.push(chunk_of(descriptor.address));
                    burst.dropped.count(reason);
                    burst.dropped_bytes += u64::from(descriptor.length_bytes);
                }
            }
        }
        self.socket.rx.release();
        burst.frames.len() - before
    }

    /// Appends the frame of one descriptor, or says why not.
    fn take(&self, descriptor: &Descriptor, burst: &mut Burst) -> Result<(), DropReason> {
        let Descriptor { address, length_bytes, .. } = *descriptor;
        let umem = self.part.umem();
        burst.push_with(|header, _, segments| {
            let mut is_inside = true;
            let parsed = header.read(|first| {
                let count = umem.read(address, length_bytes, first);
                is_inside = count.is_some();
                count.unwrap_or_default()
            });
            if !is_inside {
                return Err(DropReason::Oversized);
            }
            parsed?;
            let taken = u32::try_from(header.taken_bytes()).map_err(|_| DropReason::Oversized)?;
            let rest = length_bytes.saturating_sub(taken);
            let start = u32::try_from(segments.len()).map_err(|_| DropReason::Oversized)?;
            if rest > 0 {
                let segment = umem.segment(address + u64::from(taken), rest);
                segments.push(segment.ok_or(DropReason::Oversized)?);
            }
            let tag_bytes = if header.tag().is_some() { 4 } else { 0 };
            Ok(Intake {
                segments: SegmentRange { start, count: u32::from(rest > 0) },
                length_bytes: length_bytes - tag_bytes,
                token: chunk_of(address),
            })
        })
    }

    /// Takes back the chunk of a frame that was delivered or dropped everywhere. Each token that
    /// [`receive`](Self::receive) gave out is completed exactly once.
    #[inline]
    pub fn complete(&mut self, token: u64) {
        self.outstanding = self.outstanding.saturating_sub(1);
        self.back.push(self.jumbo.chunk_of_token(token));
        if self.jumbo.is_jumbo(token) {
            self.jumbo.give_back(token, &mut self.back);
        }
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

    /// Says whether the queue may be left until its socket is readable: it has no
    /// [work](Self::has_work), and no driver waits for chunks that lie in the fill ring. One that is
    /// found waiting is woken. It asks for that after it has found the ring empty (as does
    /// `virtnet_add_recvbuf_xsk`, drivers/net/virtio_net.c), and does not look again: chunks of a
    /// [`release`](Self::release) in between were seen by neither side.
    pub fn may_rest(&self) -> bool {
        if self.socket.fill.needs_wakeup() && self.socket.fill.pending() > 0 {
            sys::wake_rx(self.socket.fd.as_fd());
        }
        !self.has_work()
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
        if self.is_foreign {
            // The other process counts the chunks. Should it die at once, its sockets may have some.
            self.part.let_rest();
            return;
        }
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

#[cfg(test)]
mod tests;
