//! Net headers and frames that make no sense: dropped, or sent as bytes; never a panic.

use frame::{Completing, Header};
use proptest::collection::vec;
use proptest::prelude::*;

use super::{Flow, Received, flows, payload};
use crate::offload::{
    CANDIDATE_BYTES, Candidate, Delivery, Head, NetHeader, Receiver, Segments, Train, complete,
    interpret,
};
use crate::testing::{Sink, extents};

/// Net headers that are nearly right.
pub(super) fn net_headers(flow: Flow) -> impl Strategy<Value = NetHeader> {
    let right = flow.net_header(Some(1_000));
    let types = prop_oneof![4 => Just(right.gso_type), 1 => any::<u8>(), 1 => 0u8..6];
    let sizes = prop_oneof![2 => Just(1_000), 1 => 0u16..9, 1 => Just(0xffff), 1 => any::<u16>()];
    let starts = prop_oneof![4 => Just(right.csum_start), 1 => any::<u16>(), 1 => 0u16..250];
    let offsets = prop_oneof![4 => Just(right.csum_offset), 1 => any::<u16>(), 1 => 0u16..40];
    let flags = prop_oneof![4 => Just(right.flags), 1 => any::<u8>()];
    (flags, types, any::<u16>(), sizes, starts, offsets).prop_map(
        |(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)| NetHeader {
            flags,
            gso_type,
            hdr_len,
            gso_size,
            csum_start,
            csum_offset,
        },
    )
}

/// Copies a frame, and returns how long it was.
fn send(completing: Completing<'_>) -> usize {
    let sink = Sink::new(completing.length_bytes());
    completing.write_to(&mut sink.room()).unwrap()
}

/// Takes a frame all the way out to a wire. Behind its private header it is `behind` by then.
fn forward(frame: &Received, net_header: &NetHeader, behind: &[u8]) {
    let Ok(offload) = frame.interpret(net_header) else { return };
    let frame = Received { segments: extents(behind, &[3, 90]), ..*frame };
    let (leaving, mut head) = (frame.leaving(None), Head::EMPTY);
    match Receiver::PLAIN.delivery(&offload, false) {
        Delivery::Whole(_) => {}
        Delivery::Completed => {
            if let Ok(completing) = complete(&offload, &leaving, &mut head) {
                assert_eq!(send(completing), leaving.length_bytes());
            }
        }
        Delivery::Cut => {
            let Ok(mut segments) = Segments::new(&offload, &leaving, &mut head) else { return };
            let mut frames = 0;
            while let Some(completing) = segments.next_frame() {
                assert!(send(completing) <= frame.length_bytes);
                frames += 1;
            }
            assert!(frames <= 1_366);
        }
    }
}

proptest! {
    #[test]
    fn nearly_right_frames_do_no_harm(
        (net_header, flow) in flows().prop_flat_map(|flow| (net_headers(flow.clone()), Just(flow))),
        length in 0usize..2_500,
        changes in vec((12usize..160, any::<u8>()), 0..3),
        cut in prop_oneof![3 => Just(usize::MAX), 1 => 14usize..200],
    ) {
        let mut bytes = flow.partial(&payload(length));
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        bytes.truncate(cut.max(18));
        let frame = Received::new(&bytes);
        let taken = frame.header.taken_bytes();

        forward(&frame, &net_header, &bytes[taken..]);
    }

    #[test]
    fn guest_that_rewrites_its_headers_harms_nobody_else(
        (net_header, flow) in flows().prop_flat_map(|flow| (net_headers(flow.clone()), Just(flow))),
        length in 0usize..2_500,
        fill: u8,
    ) {
        let bytes = flow.partial(&payload(length));
        let frame = Received::new(&bytes);

        forward(&frame, &net_header, &vec![fill; bytes.len() - frame.header.taken_bytes()]);
    }

    #[test]
    fn any_bytes_do_no_harm(
        bytes in vec(any::<u8>(), 18..400), net_header in any::<[u8; 12]>()
    ) {
        let frame = Received::new(&bytes);
        let taken = frame.header.taken_bytes();

        forward(&frame, &NetHeader::from_bytes(&net_header), &bytes[taken..]);
    }

    #[test]
    fn no_bytes_make_a_train_panic(
        flow in flows(),
        changes in vec((12usize..160, any::<u8>()), 0..3),
        frame_bytes in 0usize..300,
    ) {
        let mut bytes = flow.wire(&payload(100));
        for (at, byte) in changes {
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
        }
        let (header, mut head) = (Header::parse(&bytes).unwrap(), Head::EMPTY);
        let segments = extents(&bytes[header.taken_bytes()..], &[]);
        let leaving = crate::offload::Leaving { header: &header, tag: None, segments: &segments };
        head.gather(&leaving, CANDIDATE_BYTES);

        if let Some(candidate) = Candidate::examine(&head, frame_bytes) {
            let _ = candidate.has_valid_checksum(leaving.payload(candidate.head_bytes()).unwrap());
            let mut train = Train::start(&candidate);
            let _ = train.join(&candidate);
            let (made, _) = train.finish();
            prop_assert_eq!(made.len(), candidate.head_bytes());
        }
    }
}

#[test]
fn offload_that_was_not_negotiated_drops_the_frame() {
    let frame = Received::new(&super::TCP4.partial(&payload(3_000)));
    let ask = |features: u64, net_header| {
        let sender = crate::offload::Sender { features: crate::Features(features), is_host: false };
        interpret(&net_header, sender, &frame.header, frame.length_bytes)
    };
    let refused = Err(frame::DropReason::OffloadNotNegotiated);

    assert_eq!(ask(0, super::TCP4.net_header(None)), refused);
    assert_eq!(ask(0, NetHeader { gso_type: 99, ..NetHeader::default() }), refused);
    assert_eq!(ask(1, super::TCP4.net_header(Some(1_000))), refused);
    let with_cwr = NetHeader { gso_type: 0x81, ..super::TCP4.net_header(Some(1_000)) };
    assert_eq!(ask(1 | 1 << 11, with_cwr), refused);
    assert!(ask(1 | 1 << 11, super::TCP4.net_header(Some(1_000))).is_ok());
}
