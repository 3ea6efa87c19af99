//! Which work kernel and switch may leave to each other.
//!
//! `TUNSETOFFLOAD` says what the reader of a tap takes, so what the kernel may send. A kernel that
//! does not know one of the bits refuses them all; it is asked for less then:
//!
//! | taken by TUNSETOFFLOAD | since | the kernel sends     | the kernel takes     |
//! |------------------------|-------|----------------------|----------------------|
//! | all                    | 6.2   | checksums, TSO, USO  | checksums, TSO, USO  |
//! | all but USO            | 2.6   | checksums, TSO       | checksums, TSO       |
//! | checksums              |       | checksums            | checksums, TSO       |
//! | nothing                |       | ready frames         | checksums, TSO       |
//!
//! What it takes from a writer is not negotiated: everything that it understands in a net header
//! (`virtio_net_hdr_to_skb`). It learned about trains of datagrams there in the same release as
//! here.

use virtio::Features;
use virtio::offload::{Receiver, Sender};

const TSO: u32 = libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
/// The kernel knows both or neither.
const USO: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// What a tap's two sides take from each other, by what `TUNSETOFFLOAD` accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Offloads(u32);

impl Offloads {
    /// What to ask for, one after the other, until the kernel accepts it.
    pub(crate) const WISHES: [Self; 4] = [
        Self(libc::TUN_F_CSUM | TSO | USO),
        Self(libc::TUN_F_CSUM | TSO),
        Self(libc::TUN_F_CSUM),
        Self::NONE,
    ];

    /// The kernel sends ready frames only.
    pub(crate) const NONE: Self = Self(0);

    /// The `TUN_F_` bits.
    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    /// The host's kernel as a sender of frames: what it may leave to us.
    pub(crate) fn sender(self) -> Sender {
        let named = [
            (libc::TUN_F_CSUM, Features::NET_CSUM),
            (libc::TUN_F_TSO4, Features::NET_HOST_TSO4),
            (libc::TUN_F_TSO6, Features::NET_HOST_TSO6),
            (libc::TUN_F_TSO_ECN, Features::NET_HOST_ECN),
            (USO, Features::NET_HOST_USO),
        ];
        let taken = named.into_iter().filter(|&(bits, _)| self.0 & bits == bits);
        let features = taken.fold(Features::NONE, |all, (_, feature)| all | feature);
        Sender { features, is_host: true }
    }

    /// The host's kernel as a receiver: what we may leave to it.
    pub(crate) fn receiver(self) -> Receiver {
        let always = Features::NET_GUEST_CSUM
            | Features::NET_GUEST_TSO4
            | Features::NET_GUEST_TSO6
            | Features::NET_GUEST_ECN;
        let trains = Features::NET_GUEST_USO4 | Features::NET_GUEST_USO6;
        Receiver::new(if self.0 & USO == USO { always | trains } else { always })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use frame::SegmentationKind;

    #[test]
    fn new_kernel_sends_and_takes_everything() {
        let offloads = Offloads::WISHES[0];

        let sender = offloads.sender();
        let expected = Features::NET_CSUM
            | Features::NET_HOST_TSO4
            | Features::NET_HOST_TSO6
            | Features::NET_HOST_ECN
            | Features::NET_HOST_USO;
        assert_eq!(sender, Sender { features: expected, is_host: true });
        assert!(offloads.receiver().takes(SegmentationKind::Tcp4, true));
        assert!(offloads.receiver().takes(SegmentationKind::Udp6, false));
    }

    #[test]
    fn old_kernel_neither_sends_nor_takes_trains_of_datagrams() {
        let offloads = Offloads::WISHES[1];

        assert!(offloads.sender().features.contains(Features::NET_HOST_TSO6));
        assert!(!offloads.sender().features.contains(Features::NET_HOST_USO));
        assert!(offloads.receiver().takes(SegmentationKind::Tcp6, true));
        assert!(!offloads.receiver().takes(SegmentationKind::Udp4, false));
    }

    #[test]
    fn kernel_that_accepts_nothing_sends_ready_frames_and_takes_tcp_all_the_same() {
        let offloads = Offloads::WISHES[3];

        assert_eq!(offloads.sender().features, Features::NONE);
        assert!(offloads.receiver().takes_checksums());
        assert!(offloads.receiver().takes(SegmentationKind::Tcp4, false));
    }
}
