//! Each row of the table in `request.rs`, and the net headers that broke other switches: checksums
//! outside of the frame (CVE-2024-11614), `gso_size` 0 (DPDK 7023f3e532), headers behind the frame's
//! end (DPDK 706ba48665, e31b57e732).

use super::super::tests::{Flow, GUEST, Received, TCP4, payload};
use super::*;

const UDP4: Flow = Flow { is_udp: true, ..TCP4 };

/// What becomes of a large frame whose net header was changed.
fn changed(flow: &Flow, change: impl FnOnce(&mut NetHeader)) -> Result<Offload, DropReason> {
    let mut net_header = flow.net_header(Some(1_000));
    change(&mut net_header);
    Received::new(&flow.partial(&payload(3_000))).interpret(&net_header)
}

/// What becomes of a large frame whose bytes were changed.
fn damaged(flow: &Flow, change: impl FnOnce(&mut Vec<u8>)) -> Result<Offload, DropReason> {
    let mut bytes = flow.partial(&payload(3_000));
    change(&mut bytes);
    Received::new(&bytes).interpret(&flow.net_header(Some(1_000)))
}

#[test]
fn large_frame_is_understood() {
    let offload = changed(&TCP4, |_| ()).unwrap();

    assert_eq!(offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    let kind = SegmentationKind::Tcp4;
    let size = NonZeroU16::new(1_000).unwrap();
    assert_eq!(offload.segmentation, Some(Segmentation { kind, size, has_cwr: false }));
    assert_eq!(offload.header_bytes, 66);
}

#[test]
fn places_are_told_without_the_tag() {
    let flow = Flow { tag: Some(frame::VlanTag::from_bits(5)), ..TCP4 };

    let offload = changed(&flow, |_| ()).unwrap();

    assert_eq!(offload.checksum, Checksum::Partial { start: 34, offset: 16 });
}

#[test]
fn sizes_that_mean_nothing_drop_the_frame() {
    let with_size = |flow: &Flow, gso_size| changed(flow, |header| header.gso_size = gso_size);

    assert_eq!(with_size(&TCP4, 0), Err(INVALID));
    assert_eq!(with_size(&TCP4, 65_535), Err(INVALID));
    // 3,000 frames are more than anybody's smallest segment makes of 64 KiB.
    assert_eq!(with_size(&TCP4, 1), Err(INVALID));
    assert!(with_size(&TCP4, 3).is_ok());
    assert_eq!(with_size(&UDP4, 23), Err(INVALID));
    assert!(with_size(&UDP4, 24).is_ok());
}

#[test]
fn payload_that_needs_no_cut_leaves_its_checksum_to_be_completed() {
    let offload = changed(&TCP4, |header| header.gso_size = 3_000).unwrap();

    assert_eq!(offload.segmentation, None);
    assert_eq!(offload.checksum, Checksum::Partial { start: 34, offset: 16 });
}

#[test]
fn checksum_outside_of_the_frame_drops_it() {
    let small = |csum_start, csum_offset| {
        let net_header = NetHeader { csum_start, csum_offset, ..TCP4.net_header(None) };
        Received::new(&TCP4.partial(&[0; 34])).interpret(&net_header).map(drop)
    };

    assert_eq!(small(34, 64), Ok(()));
    assert_eq!(small(34, 65), Err(INVALID));
    assert_eq!(small(14, 84), Ok(()));
    assert_eq!(small(98, 0), Ok(()));
    assert_eq!(small(99, 0), Err(INVALID));
    assert_eq!(small(13, 0), Err(INVALID));
    assert_eq!(small(65_535, 65_535), Err(INVALID));
}

#[test]
fn checksum_in_the_tag_drops_the_frame() {
    let flow = Flow { tag: Some(frame::VlanTag::from_bits(5)), ..TCP4 };
    let net_header = NetHeader { csum_start: 17, ..flow.net_header(None) };

    let outcome = Received::new(&flow.partial(&[0; 34])).interpret(&net_header);

    assert_eq!(outcome, Err(INVALID));
}

#[test]
fn checksum_of_a_large_frame_must_be_its_transports() {
    let with = |flow: &Flow, csum_start, csum_offset| {
        changed(flow, |header| (header.csum_start, header.csum_offset) = (csum_start, csum_offset))
            .map(drop)
    };
    let with_options = Flow { extras: 10, ..TCP4 };

    assert_eq!(with(&TCP4, 34, 16), Ok(()));
    assert_eq!(with(&TCP4, 35, 16), Err(INVALID));
    assert_eq!(with(&TCP4, 34, 6), Err(INVALID));
    assert_eq!(with(&with_options, 74, 16), Ok(()));
    assert_eq!(with(&with_options, 34, 16), Err(INVALID));
    // Its headers end behind the private one, but not before they begin.
    let with_extensions = Flow { is_v6: true, extras: 3, ..TCP4 };
    assert_eq!(with(&with_extensions, 78, 16), Ok(()));
    assert_eq!(with(&with_extensions, 53, 16), Err(INVALID));
}

#[test]
fn header_length_is_not_relied_on() {
    let right = changed(&TCP4, |_| ());

    assert_eq!(changed(&TCP4, |header| header.hdr_len = 0), right);
    assert_eq!(changed(&TCP4, |header| header.hdr_len = 65_535), right);
}

#[test]
fn type_that_is_not_the_frames_drops_it() {
    let with_type =
        |flow: &Flow, gso_type| changed(flow, |header| header.gso_type = gso_type).map(drop);

    assert_eq!(with_type(&TCP4, NetHeader::GSO_TCPV6), Err(INVALID));
    assert_eq!(with_type(&TCP4, NetHeader::GSO_UDP_L4), Err(INVALID));
    assert_eq!(with_type(&UDP4, NetHeader::GSO_TCPV4), Err(INVALID));
    let in_disguise = changed(&UDP4, |header| {
        (header.gso_type, header.csum_offset) = (NetHeader::GSO_TCPV4, 16);
    });
    assert_eq!(in_disguise, Err(INVALID));
    assert_eq!(with_type(&Flow { is_v6: true, ..TCP4 }, NetHeader::GSO_TCPV4), Err(INVALID));
    assert_eq!(with_type(&TCP4, 2), Err(INVALID));
    assert_eq!(with_type(&TCP4, NetHeader::GSO_ECN), Err(INVALID));
    assert_eq!(with_type(&UDP4, NetHeader::GSO_UDP_L4 | NetHeader::GSO_ECN), Err(INVALID));
    let fragmentation = with_type(&UDP4, NetHeader::GSO_UDP);
    assert_eq!(fragmentation, Err(DropReason::OffloadNotNegotiated));
}

#[test]
fn large_frame_without_partial_checksum_is_dropped() {
    assert_eq!(changed(&TCP4, |header| header.flags = 0), Err(INVALID));
    assert_eq!(changed(&TCP4, |header| header.flags = NetHeader::DATA_VALID), Err(INVALID));
}

#[test]
fn fragments_are_not_cut() {
    assert_eq!(damaged(&TCP4, |bytes| bytes[20] = 0x20), Err(INVALID));
    assert_eq!(damaged(&TCP4, |bytes| bytes[21] = 1), Err(INVALID));
    let six = Flow { is_v6: true, extras: 1, ..TCP4 };
    assert_eq!(damaged(&six, |bytes| bytes[20] = 44), Err(INVALID));
}

#[test]
fn large_frame_that_ends_in_its_headers_is_dropped() {
    for length in [15, 33, 34, 46, 53, 65] {
        assert_eq!(damaged(&TCP4, |bytes| bytes.truncate(length)), Err(INVALID), "{length}");
    }
}

#[test]
fn tag_behind_the_tag_is_no_ip() {
    let flow = Flow { tag: Some(frame::VlanTag::from_bits(5)), ..TCP4 };
    let twice = |bytes: &mut Vec<u8>| drop(bytes.splice(16..16, [0x81, 0, 0, 6]));

    assert_eq!(damaged(&flow, twice), Err(INVALID));
}

#[test]
fn drivers_do_not_vouch_for_checksums_and_the_host_does() {
    let frame = Received::new(&TCP4.wire(&payload(10)));
    let net_header = NetHeader { flags: NetHeader::DATA_VALID, ..NetHeader::default() };
    let from = |sender| {
        interpret(&net_header, sender, &frame.header, frame.length_bytes)
            .map(|offload| offload.checksum)
    };

    assert_eq!(from(GUEST), Ok(Checksum::Unknown));
    assert_eq!(from(Sender { is_host: true, ..GUEST }), Ok(Checksum::Valid));
}
