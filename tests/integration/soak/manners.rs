//! Drivers of all kinds, one guest of each.

use virtio::Features;

use crate::support::front_end::{MODERN, Manner};

const PACKED: Features = Features(Features::VERSION_1.0 | Features::RING_PACKED.0);
const MERGING: Features = Features(Features::VERSION_1.0 | Features::NET_MRG_RXBUF.0);
const INDIRECT: Features = Features(Features::VERSION_1.0 | Features::RING_INDIRECT_DESC.0);
const EVENTS: Features = Features::RING_EVENT_IDX;

/// Buffers that most frames need several of.
const SMALL: u32 = 600;

/// Most pairs that any of them has.
pub(super) const MOST_PAIRS: u16 = 4;

pub(super) const MANNERS: [Manner; 8] = [
    MODERN,
    Manner { features: or(Features::VERSION_1, Features::NET_MQ), queue_pairs: 2, ..MODERN },
    Manner { features: or(or(PACKED, MERGING), EVENTS), buffer_bytes: SMALL, ..MODERN },
    Manner { features: or(PACKED, Features::NET_MQ), queue_pairs: 4, ..MODERN },
    Manner {
        features: or(or(INDIRECT, MERGING), EVENTS),
        buffer_bytes: SMALL,
        indirect: true,
        ..MODERN
    },
    Manner {
        features: or(or(INDIRECT, EVENTS), or(Features::OFFLOADS, Features::NET_MQ)),
        indirect: true,
        queue_pairs: 3,
        // Offloads may be switched off at its port while it lives.
        insists: true,
        ..MODERN
    },
    Manner { features: Features::ANY_LAYOUT, ..MODERN },
    Manner {
        features: or(or(PACKED, INDIRECT), or(EVENTS, Features::OFFLOADS)),
        indirect: true,
        insists: true,
        ..MODERN
    },
];

const fn or(one: Features, other: Features) -> Features {
    Features(one.0 | other.0)
}
