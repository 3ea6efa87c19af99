//! Who takes what, and what a frame becomes for them: the model that the switch is held against.

use virtio::Features;
use virtio::offload::NetHeader;

use crate::support::flow::Flow;
use crate::support::front_end::{MODERN, Manner, Received};

/// What a driver may ask the switch to do.
pub(super) const ASKS: Features = Features(
    Features::NET_CSUM.0
        | Features::NET_HOST_TSO4.0
        | Features::NET_HOST_TSO6.0
        | Features::NET_HOST_ECN.0
        | Features::NET_HOST_USO.0,
);

/// All that a driver takes beside ready frames.
const TAKES: Features = Features(
    Features::NET_GUEST_CSUM.0
        | Features::NET_GUEST_TSO4.0
        | Features::NET_GUEST_TSO6.0
        | Features::NET_GUEST_ECN.0
        | Features::NET_GUEST_USO4.0
        | Features::NET_GUEST_USO6.0,
);

/// Room for the longest frame that may be cut, its tag and its net header.
const LARGE_BUFFER_BYTES: u32 = 65_700;

/// A driver with these features beside the usual ones, that lets buffers be merged.
pub(super) const fn merging(features: Features) -> Manner {
    let merging = MODERN.features.0 | Features::NET_MRG_RXBUF.0;
    Manner { features: Features(merging | features.0), ..MODERN }
}

/// A driver that takes everything, in one buffer each.
pub(super) const TAKES_ALL: Manner = Manner {
    features: Features(MODERN.features.0 | TAKES.0),
    buffer_bytes: LARGE_BUFFER_BYTES,
    ..MODERN
};

/// A driver that takes everything in merged buffers.
pub(super) const TAKES_ALL_MERGED: Manner = merging(TAKES);

/// A driver that takes ready frames of any length.
pub(super) const ROOMY: Manner = Manner { buffer_bytes: 9_300, ..MODERN };

/// Drivers that take different things.
pub(super) const RECEIVERS: [(&str, Manner); 8] = [
    ("plain", ROOMY),
    ("plain_merged", Manner { buffer_bytes: 1_024, ..merging(Features::NONE) }),
    ("checksums", merging(Features::NET_GUEST_CSUM)),
    ("tso4", merging(Features(Features::NET_GUEST_CSUM.0 | Features::NET_GUEST_TSO4.0))),
    ("no_ecn", merging(Features(TAKES.0 & !Features::NET_GUEST_ECN.0))),
    ("all", TAKES_ALL),
    ("all_merged", TAKES_ALL_MERGED),
    // A net header of ten bytes.
    ("all_legacy", Manner { features: TAKES, ..TAKES_ALL }),
];

/// A frame, and what is left to do to it.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) flow: Flow,
    pub(super) payload: Vec<u8>,
    /// Its checksum is partial.
    pub(super) is_partial: bool,
    /// It is to be cut into pieces of this many bytes.
    pub(super) size: Option<u16>,
}

impl Sent {
    /// Net header and frame, as its sender sends it.
    pub(super) fn packet(&self) -> (NetHeader, Vec<u8>) {
        if self.is_partial {
            (self.flow.net_header(self.size), self.flow.partial(&self.payload))
        } else {
            (NetHeader::default(), self.flow.ready(&self.payload))
        }
    }

    /// What it is, on its way to a receiver.
    pub(super) fn describe(&self, receiver: &str) -> String {
        let (flow, length, size) = (self.flow, self.payload.len(), self.size);
        format!("{receiver}: {flow:?} of {length} bytes in pieces of {size:?}")
    }

    /// The same frame with another tag, or none.
    pub(super) fn with_tag(&self, tag: Option<u16>) -> Self {
        Self { flow: Flow { tag, ..self.flow }, ..self.clone() }
    }

    /// Says whether it is to be cut into more than one piece.
    pub(super) fn is_large(&self) -> bool {
        self.size.is_some_and(|size| self.payload.len() > size.into())
    }

    /// What a wire, or a driver that takes ready frames only, gets of it.
    pub(super) fn ready(&self) -> Vec<Vec<u8>> {
        match self.size {
            Some(size) => self.flow.pieces(&self.payload, size),
            None => vec![self.flow.ready(&self.payload)],
        }
    }

    /// What a driver in this manner gets of it (VIRTIO 1.2, 5.1.6.4.1).
    pub(super) fn received(&self, manner: Manner) -> Vec<Received> {
        let takes = |feature| manner.features.contains(feature);
        let flow = &self.flow;
        let size = self.size.filter(|_| self.is_large());
        let takes_kind = takes(match (flow.is_udp, flow.is_v6) {
            (false, false) => Features::NET_GUEST_TSO4,
            (false, true) => Features::NET_GUEST_TSO6,
            (true, false) => Features::NET_GUEST_USO4,
            (true, true) => Features::NET_GUEST_USO6,
        }) && (!flow.has_cwr() || takes(Features::NET_GUEST_ECN));
        let is_whole = takes(Features::NET_GUEST_CSUM) && (size.is_none() || takes_kind);
        if self.is_partial && is_whole {
            vec![arriving(manner, flow.net_header(size), flow.partial(&self.payload))]
        } else {
            let frames = self.ready().into_iter();
            frames.map(|frame| arriving(manner, NetHeader::default(), frame)).collect()
        }
    }
}

/// A frame as it comes to a driver in this manner.
pub(super) fn arriving(manner: Manner, net_header: NetHeader, frame: Vec<u8>) -> Received {
    let bytes = manner.features.net_header_bytes() + frame.len();
    let merged = u16::try_from(bytes.div_ceil(manner.buffer_bytes as usize)).unwrap();
    let is_merging = manner.features.contains(Features::NET_MRG_RXBUF);
    Received { net_header, num_buffers: if is_merging { merged } else { 1 }, frame }
}

/// Compares what came with what must come. `hdr_len` is a hint, which may be too long.
pub(super) fn assert_arrived(came: &Received, wanted: &Received, what: &str) {
    let hint = |received: &Received| received.net_header.hdr_len;
    assert!(hint(came) >= hint(wanted), "{what}: hdr_len {} of {wanted:?}", hint(came));
    let net_header = NetHeader { hdr_len: hint(wanted), ..came.net_header };
    assert_eq!(net_header, wanted.net_header, "{what}");
    assert_eq!(came.num_buffers, wanted.num_buffers, "{what}: num_buffers");
    assert_same(&came.frame, &wanted.frame, what);
}

/// Compares frames, and says where they differ rather than print them.
pub(super) fn assert_same(came: &[u8], wanted: &[u8], what: &str) {
    let differs = came.iter().zip(wanted).position(|(ours, theirs)| ours != theirs);
    assert_eq!(differs, None, "{what}: {:02x?}… awaited, {:02x?}… came", head(wanted), head(came));
    assert_eq!(came.len(), wanted.len(), "{what}: length");
}

/// A frame's first bytes.
fn head(frame: &[u8]) -> &[u8] {
    &frame[..frame.len().min(90)]
}
