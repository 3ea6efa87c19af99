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
//! (A veth's other end may still mix them up that has `rx-gro-list` or `rx-udp-gro-forwarding` on,
//! `veth_skb_is_eligible_for_gro` in drivers/net/veth.c; both are off by default.)
//!
//! An interface that does not cut itself (any more) refuses: the kernel would have to cut, which
//! this way of sending excludes (`__dev_direct_xmit`, net/core/dev.c). So it is when an XDP program
//! is attached to a veth's other end (`veth_fix_features`, same file), which must not get
//! partial checksums. Such a frame is cut by the switch, and so are some after it: each that is tried
//! shows among the frames that the interface says it has dropped on the way out.

use std::os::fd::{AsFd, OwnedFd};

use frame::{DropReason, Gathered};

use super::XdpQueue;

/// Bytes of a net header without `num_buffers`, as a packet socket has it.
pub const LARGE_NET_HEADER_BYTES: usize = 10;

/// Longest large frame, with all of its headers (`GSO_LEGACY_MAX_SIZE`, linux/netdevice.h).
const MOST_BYTES: usize = 65_535;

/// Most large frames that are not tried after one was refused.
const MOST_SPARED: u32 = 1_024;

/// The packet socket, and what the interface has refused: of IPv4 and IPv6 apart, for it may cut one
/// and not the other.
#[derive(Debug)]
pub(crate) struct LargeFrames {
    socket: OwnedFd,
    pub(super) refusals: [Refusals; 2],
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refusals {
    /// So many frames are not tried.
    pub(super) to_spare: u32,
    /// As many as were not tried after the last refusal.
    pub(super) spared: u32,
}

impl LargeFrames {
    /// By a socket that is bound to the interface and does not wait.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, refusals: Default::default() }
    }

    fn refusals(&mut self, head: &[u8]) -> &mut Refusals {
        let is_v6 = [12, 16].iter().any(|&at| head.get(at..at + 2) == Some(&[0x86, 0xdd]));
        &mut self.refusals[usize::from(is_v6)]
    }

    /// Says whether a frame with this head is to be cut by the switch, and counts it then.
    fn spares(&mut self, head: &[u8]) -> bool {
        let refusals = self.refusals(head);
        let spares = refusals.to_spare > 0;
        refusals.to_spare = refusals.to_spare.saturating_sub(1);
        spares
    }

    fn send(&mut self, head: &[u8], frame: &Gathered<'_>) -> Result<(), DropReason> {
        let error = frame.write_to(self.socket.as_fd()).err();
        let refusals = self.refusals(head);
        match error.map(|error| error.raw_os_error()) {
            None => {
                *refusals = Refusals::default();
                return Ok(());
            }
            // This frame's fault, or too much on its way.
            Some(Some(libc::EFAULT | libc::EINVAL | libc::EAGAIN)) => {}
            Some(_) => {
                refusals.spared = (refusals.spared * 2).clamp(1, MOST_SPARED);
                refusals.to_spare = refusals.spared;
            }
        }
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
        if large.spares(head) {
            return Err(DropReason::OffloadUnfit);
        }
        self.flush();
        match &mut self.large {
            Some(large) if self.socket.tx.pending() == 0 => large.send(head, frame),
            Some(_) | None => Err(DropReason::OffloadUnfit),
        }
    }
}
