//! What a guest's driver may negotiate.
//!
//! A guest's driver negotiates once, and lives on when the switch or the port's settings change
//! under it. Offloads that it has are served although the port does not offer them any more:
//!
//! - a front end may acknowledge them whatever is on offer;
//! - QEMU looks at the offer first, and hangs up without a word if something is missing that its
//!   guest has (`vhost_net_init`; seen with 7.2), again and again. So whoever is shown an offer
//!   without offloads and hangs up at once finds them on offer when it comes back.
//!
//! The control queue is on offer to whoever passes it on. Front ends that serve it themselves take none
//! of its bits from here (QEMU 7.2), or the first alone (Cloud Hypervisor). DPDK's virtio-user (22.11) with
//! several queues takes all but the first, and tells its application "done" of commands that it
//! passes on to nobody: with what a port of several pairs offers, that is so of receive modes only, as it
//! is with DPDK's own back end. A driver without the others filters by itself.

use virtio::Features;

use super::Guest;

/// Offloads, and that the control queue switches them.
const SWITCHED_OFFLOADS: Features =
    Features(Features::OFFLOADS.0 | Features::NET_CTRL_GUEST_OFFLOADS.0);

impl Guest {
    /// What a driver may negotiate: offloads if the port is set so.
    pub(super) fn offered(&self) -> Features {
        let offered = Features::VERSION_1
            | Features::NET_CTRL_VQ
            | Features::NET_CTRL_RX
            | Features::NET_CTRL_RX_EXTRA
            | Features::NET_MRG_RXBUF
            | Features::NET_MTU
            | Features::RING_INDIRECT_DESC
            | Features::RING_EVENT_IDX
            | Features::RING_PACKED
            | Features::IN_ORDER
            | Features::NET_GUEST_ANNOUNCE
            | Features::LOG_ALL
            | Features::ANY_LAYOUT;
        let offered = if self.queue_pairs > 1 {
            offered | Features::NET_MQ
        } else {
            offered | Features::NET_CTRL_VLAN | Features::NET_CTRL_MAC_ADDR
        };
        if self.offers_offloads() { offered | SWITCHED_OFFLOADS } else { offered }
    }

    /// What a driver may have that has negotiated elsewhere or earlier: all that is served.
    pub(super) fn served(&self) -> Features {
        self.offered() | Features::CONTROL | SWITCHED_OFFLOADS
    }

    pub(super) const fn offers_offloads(&self) -> bool {
        self.traits.has_offloads || self.offers_again
    }

    /// Says whether offloads are on offer though the port is set otherwise, because the last
    /// front end left without them.
    pub(crate) const fn offers_again(&self) -> bool {
        self.offers_again
    }
}
