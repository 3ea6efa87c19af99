//! Why a frame was not forwarded. A plain enum used as a counter index: no text is made and
//! nothing is logged on the way of a frame.

/// Which side of the decision a frame was dropped on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Before the bridge decided to forward it; counted at the port it came in on.
    Ingress,
    /// A copy the bridge ordered; counted at the port it was to leave by.
    Egress,
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident, $direction:ident, $text:literal;)+) => {
        /// Why a frame, or one copy of it, was dropped.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl DropReason {
            /// Every reason; a reason's place is its counter's index.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// The name in statistics and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The side it belongs to.
            #[must_use]
            pub const fn direction(self) -> Direction {
                match self { $(Self::$name => Direction::$direction,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header: under 14 bytes, 18 tagged.
    Runt, Ingress, "runt";
    /// Longer than [`MAX_FRAME_BYTES`](crate::MAX_FRAME_BYTES), or than a receive buffer of the NIC.
    Oversized, Ingress, "oversized";
    /// A guest's buffer that ends before its virtio-net header does.
    NetHeaderIncomplete, Ingress, "net_header_incomplete";
    /// A guest asked for an offload that was not negotiated.
    OffloadNotNegotiated, Ingress, "offload_not_negotiated";
    /// A guest's virtio-net header that contradicts itself or the frame.
    OffloadInvalid, Ingress, "offload_invalid";
    /// Sent on a queue that is started and disabled.
    QueueDisabled, Ingress, "queue_disabled";
    /// The source is a group address.
    SourceIsGroup, Ingress, "source_is_group";
    /// To 01-80-C2-00-00-00 to -0F.
    ReservedGroup, Ingress, "reserved_group";
    /// VID 4095.
    VidReserved, Ingress, "vid_reserved";
    /// A tagged frame on an access port.
    TagNotAdmitted, Ingress, "tag_not_admitted";
    /// An untagged frame on a trunk without native VLAN.
    UntaggedNotAdmitted, Ingress, "untagged_not_admitted";
    /// The port is not a member of the frame's VLAN.
    VlanNotMember, Ingress, "vlan_not_member";
    /// Nobody to send it to: its address lies behind the port it came from, or its VLAN has no
    /// other port.
    NoEgressPort, Ingress, "no_egress_port";
    /// The frame would flood more than its ingress queue may cause in one turn.
    FloodBudget, Ingress, "flood_budget";
    /// The port has no running queue that takes frames.
    PortDown, Egress, "port_down";
    /// The guest has made no receive buffer available.
    NoReceiveBuffer, Egress, "no_receive_buffer";
    /// The guest's receive buffers are too small for the frame, and may not be merged.
    ReceiveBufferTooSmall, Egress, "receive_buffer_too_small";
    /// The transmit ring of the NIC, or its pool of chunks, is exhausted.
    TxRingFull, Egress, "tx_ring_full";
    /// The frame is longer than the egress port takes.
    EgressOversized, Egress, "egress_oversized";
    /// The frame's checksum cannot be completed for this port, or the frame not be cut: its
    /// headers are longer than what is copied of them, or not what its net header says.
    OffloadUnfit, Egress, "offload_unfit";
    /// The guest does not want it: by the receive modes, addresses and VLANs of its control queue.
    ReceiveFilter, Egress, "receive_filter";
    /// No credit or no room left to hand the frame to another poll thread.
    HandoverFull, Egress, "handover_full";
    /// The port was removed while the frame was on its way to it.
    PortRemoved, Egress, "port_removed";
    /// The port left the frame's VLAN while the frame was on its way to it.
    PortLeftVlan, Egress, "port_left_vlan";
}

impl DropReason {
    /// The counter's place in an array of [`ALL`](Self::ALL)`.len()`.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// Drops counted privately during a burst, before they go to the shared counters at once.
#[derive(Debug, Clone, Default)]
pub struct DropCounts {
    counts: [u32; DropReason::ALL.len()],
    total: u32,
}

impl DropCounts {
    /// Counts one drop.
    pub const fn count(&mut self, reason: DropReason) {
        self.count_all(reason, 1);
    }

    /// Counts so many drops.
    #[inline]
    pub const fn count_all(&mut self, reason: DropReason, drops: u32) {
        self.counts[reason.index()] = self.counts[reason.index()].saturating_add(drops);
        self.total = self.total.saturating_add(drops);
    }

    /// Drops counted since the last [`drain`](Self::drain), of any reason.
    #[must_use]
    pub const fn total(&self) -> u32 {
        self.total
    }

    /// How many were counted for this reason.
    #[must_use]
    pub const fn of(&self, reason: DropReason) -> u32 {
        self.counts[reason.index()]
    }

    /// Hands every non-zero count to `sink` and starts again at zero. Cheap when nothing dropped.
    pub fn drain(&mut self, mut sink: impl FnMut(DropReason, u32)) {
        if self.total == 0 {
            return;
        }
        for &reason in DropReason::ALL {
            let count = std::mem::take(&mut self.counts[reason.index()]);
            if count != 0 {
                sink(reason, count);
            }
        }
        self.total = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_name_and_index() {
        let names: std::collections::HashSet<_> =
            DropReason::ALL.iter().map(|reason| reason.as_str()).collect();

        assert_eq!(names.len(), DropReason::ALL.len());
        assert!(DropReason::ALL.iter().enumerate().all(|(at, reason)| reason.index() == at));
    }

    #[test]
    fn drained_counts_start_again_at_zero() {
        let mut counts = DropCounts::default();
        counts.count(DropReason::Runt);
        counts.count(DropReason::Runt);

        let mut seen = Vec::new();
        counts.drain(|reason, count| seen.push((reason, count)));

        assert_eq!(seen, [(DropReason::Runt, 2)]);
        assert_eq!(counts.total(), 0);
    }
}
