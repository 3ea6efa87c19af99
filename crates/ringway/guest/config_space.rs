//! A network device's configuration space, for front ends that have none of their own.
//!
//! ```text
//!    0          6        8                    10     12
//!   ┌──────────┬────────┬────────────────────┬──────┬───── ─ ─
//!   │ mac      │ status │ max_virtqueue_pairs│ mtu  │ 0 …            little-endian
//!   └──────────┴────────┴────────────────────┴──────┴───── ─ ─
//! ```
//!
//! VIRTIO 1.2, 5.1.4. The address is the guest's business, as NET_MAC is not on offer: it takes a
//! random one unless it is told otherwise.

use datapath::PortTraits;

use super::Guest;

/// With speed, duplex and what goes with RSS, which are not on offer.
const CONFIG_BYTES: usize = 24;
/// `VIRTIO_NET_S_LINK_UP`.
const LINK_UP: u16 = 1;
/// What Ethernet carries everywhere.
const ETHERNET_MTU: u16 = 1_500;

impl Guest {
    /// What a driver reads of its device.
    pub(super) fn config_space(&self) -> Vec<u8> {
        let fields = [LINK_UP, self.queue_pairs, self.guest_mtu()];
        let mac = [0; 6].into_iter();
        let mut space: Vec<u8> = mac.chain(fields.into_iter().flat_map(u16::to_le_bytes)).collect();
        space.resize(CONFIG_BYTES, 0);
        space
    }

    /// The MTU that a driver is told, which takes it over. A limit that nobody set is what the
    /// switch can carry, not what the network does.
    fn guest_mtu(&self) -> u16 {
        let limit = self.traits.mtu();
        let is_set = limit != PortTraits::default().mtu();
        self.mtu.unwrap_or_else(|| match u16::try_from(limit) {
            Ok(limit) if is_set => limit,
            _ => ETHERNET_MTU,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mtu_of(traits: PortTraits) -> u16 {
        let space = Guest::new(3, traits).config_space();
        u16::from_le_bytes([space[10], space[11]])
    }

    #[test]
    fn driver_reads_link_and_queue_pairs_where_the_standard_has_them() {
        let space = Guest::new(3, PortTraits::default()).config_space();

        assert_eq!(space.len(), 24);
        assert_eq!(space[..10], [0, 0, 0, 0, 0, 0, 1, 0, 3, 0]);
    }

    #[test]
    fn driver_takes_the_mtu_that_was_set_or_that_of_ethernet() {
        assert_eq!(mtu_of(PortTraits::default()), 1_500);
        assert_eq!(mtu_of(PortTraits { limit_bytes: 9_014, ..PortTraits::default() }), 9_000);
        assert_eq!(mtu_of(PortTraits { limit_bytes: 1_294, ..PortTraits::default() }), 1_280);
    }
}
