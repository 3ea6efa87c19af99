//! Large frames of TCP: given to the interface whole, to be cut by it.
//!
//! The tx ring takes frames that are ready for a wire. A packet socket takes large ones, too, with
//! the net header of VIRTIO in front that says how they are to be cut (packet(7), `PACKET_VNET_HDR`):
//! one call instead of 45 frames in the ring, and neither checksum nor headers are computed here.
//! The NIC cuts them; or nobody does, where a host is behind the interface that takes them as they
//! are, as behind a veth.
//!
//! Only where no frame overtakes another by that. In copy mode the kernel sends what lies in the tx
//! ring during the call that wakes it, so that the ring is empty before a large frame leaves; and
//! with one queue to send, both ways end in the same. Both pass by the queueing discipline.
//!
//! An interface that does not cut itself (any more) refuses: the kernel would have to cut, which
//! this way of sending excludes (`__dev_direct_xmit`, net/core/dev.c). So it is when an XDP program
//! is attached to a veth's other end (`veth_fix_features`, drivers/net/veth.c), which must not get
//! partial checksums. Such a frame is cut by the switch, and so are some after it.

use std::os::fd::{AsFd, OwnedFd};

use frame::{DropReason, Gathered};

use super::XdpQueue;

/// Bytes of a net header without `num_buffers`, as a packet socket has it.
pub const LARGE_NET_HEADER_BYTES: usize = 10;

/// Longest large frame, with all of its headers (`GSO_LEGACY_MAX_SIZE`, linux/netdevice.h).
const MOST_BYTES: usize = 65_535;

/// Most large frames that are not tried after one was refused.
const MOST_SPARED: u32 = 1_024;

/// The packet socket.
#[derive(Debug)]
pub(crate) struct LargeFrames {
    socket: OwnedFd,
    /// So many are not tried.
    to_spare: u32,
    /// As many as were not tried after the last refusal.
    spared: u32,
}

impl LargeFrames {
    /// By a socket that is bound to the interface and does not wait.
    pub(crate) const fn new(socket: OwnedFd) -> Self {
        Self { socket, to_spare: 0, spared: 0 }
    }

    fn send(&mut self, frame: &Gathered<'_>) -> Result<(), DropReason> {
        if frame.write_to(self.socket.as_fd()).is_ok() {
            self.spared = 0;
            return Ok(());
        }
        self.spared = (self.spared * 2).clamp(1, MOST_SPARED);
        self.to_spare = self.spared;
        Err(DropReason::OffloadUnfit)
    }
}

impl XdpQueue {
    /// Says whether [`send_large`](Self::send_large) is worth a try.
    #[must_use]
    #[inline]
    pub const fn takes_large(&self) -> bool {
        self.large.is_some()
    }

    /// Sends a large TCP frame: a net header of [`LARGE_NET_HEADER_BYTES`] bytes, `head` and payload.
    /// It is cut to frames of at most `piece_bytes` bytes, all headers included, and has left when this
    /// returns, as has all that was [sent](Self::send) before.
    ///
    /// # Errors
    ///
    /// [`DropReason::OffloadUnfit`] if the interface does not take it now: it has to be cut.
    /// [`DropReason::EgressOversized`] if the pieces are longer than the interface's MTU allows.
    pub fn send_large(
        &mut self,
        head: &[u8],
        piece_bytes: usize,
        frame: &Gathered<'_>,
    ) -> Result<(), DropReason> {
        self.wire_bytes(head, piece_bytes)?;
        let Some(large) = &mut self.large else { return Err(DropReason::OffloadUnfit) };
        if frame.length_bytes() > LARGE_NET_HEADER_BYTES + MOST_BYTES {
            return Err(DropReason::OffloadUnfit);
        }
        if large.to_spare > 0 {
            large.to_spare -= 1;
            return Err(DropReason::OffloadUnfit);
        }
        self.flush();
        match &mut self.large {
            Some(large) if self.socket.tx.pending() == 0 => large.send(frame),
            Some(_) | None => Err(DropReason::OffloadUnfit),
        }
    }
}
