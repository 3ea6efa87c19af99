//! Leaving a checksum to the NIC, by metadata in front of the frame (linux/if_xdp.h,
//! `struct xsk_tx_metadata`; Documentation/networking/xsk-tx-metadata.rst).
//!
//! ```text
//!   chunk   │ unused │ flags: 8 │ csum_start: 2, csum_offset: 2, unused │ frame …
//!                     └───────────── metadata: 24 bytes ──────────────┘
//! ```
//!
//! A driver in zero copy has the NIC do it; in copy mode the kernel sees to it, by the NIC or by
//! itself. A veth's other end gets the frame as it is: partial, which its host knows and takes for
//! right, but an XDP program there does not. So only NICs that say that they can are asked to.

use frame::{DropReason, Outgoing};

use super::XdpQueue;
use crate::rings::Descriptor;
use crate::umem::METADATA_BYTES;

#[expect(clippy::cast_possible_truncation, reason = "four")]
const TAG_BYTES: u32 = frame::TAG_BYTES as u32;

impl XdpQueue {
    /// Says whether [`send_partial`](Self::send_partial) sends a frame of so many bytes without tag:
    /// if its NIC can, and it fits one chunk.
    #[must_use]
    #[inline]
    pub fn takes_partial(&self, frame_bytes: u32) -> bool {
        self.abilities.completes_checksums && frame_bytes <= self.chunk_room_bytes() - TAG_BYTES
    }

    /// Sends a frame whose checksum the NIC completes, if it [can](Self::takes_partial): the sum of
    /// all that is behind `start` goes to `offset` from there, where the pseudo-header's is. Both in
    /// bytes, of the frame as it leaves. The frame leaves with the next [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send); and [`DropReason::OffloadUnfit`] if the NIC cannot.
    pub fn send_partial(
        &mut self,
        frame: &Outgoing<'_>,
        start: u16,
        offset: u16,
    ) -> Result<(), DropReason> {
        let length_bytes = self.wire_bytes(frame.head, frame.length_bytes)?;
        if length_bytes > self.chunk_room_bytes() || !self.abilities.completes_checksums {
            return Err(DropReason::OffloadUnfit);
        }
        let chunk = self.take_free().ok_or(DropReason::TxRingFull)?;
        let umem = self.part.umem();
        let address = chunk + u64::from(umem.front_bytes());
        let written = umem.write(address - u64::from(METADATA_BYTES), |room| {
            room.write(&metadata(start, offset));
            frame.reader().copy_to(room);
            let padding = (length_bytes as usize).saturating_sub(frame.length_bytes);
            room.write_zeros(padding);
        });
        let descriptor = Descriptor { address, length_bytes, options: libc::XDP_TX_METADATA };
        if written.is_none() || !self.socket.tx.push(descriptor) {
            self.free.push(chunk);
            return Err(DropReason::TxRingFull);
        }
        Ok(())
    }
}

fn metadata(start: u16, offset: u16) -> [u8; METADATA_BYTES as usize] {
    let mut metadata = [0; METADATA_BYTES as usize];
    let flags = u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM);
    metadata[..8].copy_from_slice(&flags.to_ne_bytes());
    metadata[8..10].copy_from_slice(&start.to_ne_bytes());
    metadata[10..12].copy_from_slice(&offset.to_ne_bytes());
    metadata
}
