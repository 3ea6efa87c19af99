//! Announcing a guest that has come to a port by migration: the network is to learn its place.
//!
//! The frame is a RARP request to everybody from the guest's address, as QEMU and the kernel's
//! vhost users send it (RFC 903). It takes the way of a flood that came in by the port, but for what
//! needs a buffer to be lent: each thread is told of the frame, learns the address, and sends the
//! copies that leave by its own queues. All choose as seen from the same thread, so that a port with
//! several queues gets one copy.

use bridge::Egress;
use frame::{Frame, Header, MIN_WIRE_FRAME_BYTES, PortId};

use crate::clock;
use crate::thread::PollThread;

/// The thread that all threads choose as seen from.
const SEEN_FROM: u8 = 0;

/// EtherType, hardware type Ethernet, protocol type IPv4, lengths of their addresses, and the
/// operation "request reverse".
const RARP_REQUEST: [u8; 10] = [0x80, 0x35, 0, 1, 0x08, 0, 6, 4, 0, 3];

/// Where sender and target hardware address lie in the frame; the protocol addresses are zeros.
const HARDWARE_ADDRESSES: [usize; 2] = [22, 32];

/// The frame that announces a guest.
fn rarp(address: [u8; 6]) -> [u8; MIN_WIRE_FRAME_BYTES] {
    let mut bytes = [0; MIN_WIRE_FRAME_BYTES];
    bytes[..6].fill(0xff);
    bytes[6..12].copy_from_slice(&address);
    bytes[12..22].copy_from_slice(&RARP_REQUEST);
    for at in HARDWARE_ADDRESSES {
        bytes[at..at + 6].copy_from_slice(&address);
    }
    bytes
}

impl PollThread {
    /// Sends this thread's part of an announcement by the guest of a port. Nothing else is under way:
    /// commands come before any burst.
    pub(crate) fn announce(&mut self, port: PortId, address: [u8; 6]) {
        let bytes = rarp(address);
        let Ok(header) = Header::parse(&bytes) else { return };
        let now = self.clock.seconds(clock::ticks());
        if self.port(port).is_none() {
            return;
        }
        // The port's VLANs may not let it pass: then nobody could reach the guest either.
        let Ok(forward) = self.bridge.decide(port.slot, &header, now) else { return };
        if forward.egress != Egress::Flood {
            return;
        }
        #[expect(clippy::cast_possible_truncation, reason = "60")]
        let frame = Frame { header, length_bytes: bytes.len() as u32, ..Frame::EMPTY };
        self.work.burst.clear();
        self.work.burst.frames.push(frame);
        self.order_flood_here(0, &forward, port.slot, SEEN_FROM);
        self.transmit();
        self.work.burst.clear();
    }
}
