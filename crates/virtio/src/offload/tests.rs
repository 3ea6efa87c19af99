//! Completing, cutting and joining, against a parser that is not ours; and all of it against
//! frames that make no sense.

mod flow;
mod hostile;
mod kernel;

pub(crate) use flow::{ACK, CWR, FIN, Flow, GUEST, PSH, Received, TCP4, flows, read, sum};

use frame::{Checksum, Completing, DropReason, Offload, Segmentation, VlanTag};
use proptest::prelude::*;

use super::{Delivery, Head, Receiver, Segments, complete};
use crate::Features;
use crate::testing::Sink;

const TAG: VlanTag = VlanTag::from_bits(0x0007);

/// The bytes that a frame arrives as.
fn written(completing: Completing<'_>) -> Vec<u8> {
    let sink = Sink::new(completing.length_bytes());
    let length_bytes = completing.write_to(&mut sink.room()).unwrap();
    sink.bytes(length_bytes)
}

/// Cuts a frame that is to leave with this tag.
pub(super) fn cut(
    frame: &Received,
    offload: &Offload,
    tag: Option<VlanTag>,
) -> Result<Vec<Vec<u8>>, DropReason> {
    let (leaving, mut head) = (frame.leaving(tag), Head::EMPTY);
    let mut segments = Segments::new(offload, &leaving, &mut head)?;
    let count = segments.frames_left();
    let mut frames = Vec::new();
    while let Some(completing) = segments.next_frame() {
        frames.push(written(completing));
    }
    assert_eq!(frames.len(), count);
    Ok(frames)
}

/// Payload in which no two places look alike.
pub(crate) fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect()
}

fn completed(flow: &Flow, bytes: &[u8], tag: Option<VlanTag>) -> Vec<u8> {
    let frame = Received::new(bytes);
    let offload = frame.interpret(&flow.net_header(None)).unwrap();
    let mut head = Head::EMPTY;
    written(complete(&offload, &frame.leaving(tag), &mut head).unwrap())
}

proptest! {
    #[test]
    fn our_test_frames_are_right(flow in flows(), length in 0usize..200) {
        prop_assert_eq!(read(&flow.wire(&payload(length))).payload, payload(length));
    }

    #[test]
    fn completed_frame_is_what_a_sender_without_offload_sends(
        flow in flows(), length in 0usize..2_000, is_tagged: bool
    ) {
        let tag = is_tagged.then_some(TAG);
        let expected = Flow { tag, ..flow.clone() }.wire(&payload(length));

        let sent = completed(&flow, &flow.partial(&payload(length)), tag);

        read(&sent);
        // 0 and 0xffff are the same checksum.
        prop_assert_eq!(sent.len(), expected.len());
        let field = flow.transport() + flow.checksum_offset() + if is_tagged { 4 } else { 0 };
        prop_assert_eq!(&sent[..field], &expected[..field]);
        prop_assert_eq!(&sent[field + 2..], &expected[field + 2..]);
    }

    #[test]
    fn segments_are_frames_that_carry_the_payload(
        flow in flows(), length in 1usize..20_000, size in 200u16..3_000, is_tagged: bool
    ) {
        let tag = is_tagged.then_some(TAG);
        let frame = Received::new(&flow.partial(&payload(length)));
        let offload = frame.interpret(&flow.net_header(Some(size))).unwrap();
        prop_assume!(offload.segmentation.is_some());

        let frames = cut(&frame, &offload, tag).unwrap();

        let seen: Vec<_> = frames.iter().map(|frame| read(frame)).collect();
        let carried: Vec<u8> = seen.iter().flat_map(|seen| seen.payload.clone()).collect();
        prop_assert_eq!(carried, payload(length));
        let last = seen.len() - 1;
        let mut sequence = flow.sequence;
        for (at, seen) in seen.iter().enumerate() {
            let identification = flow.identification.wrapping_add(u16::try_from(at).unwrap());
            let has = |flag| !flow.is_udp && flow.flags & flag != 0;
            prop_assert_eq!(seen.vlans, usize::from(is_tagged));
            prop_assert_eq!(seen.identification, (!flow.is_v6).then_some(identification));
            prop_assert_eq!(seen.sequence, (!flow.is_udp).then_some(sequence));
            let flags = [has(FIN) && at == last, has(PSH) && at == last, has(CWR) && at == 0];
            prop_assert_eq!(seen.flags, flags);
            prop_assert!(at == last || seen.payload.len() == usize::from(size));
            sequence = sequence.wrapping_add(u32::try_from(seen.payload.len()).unwrap());
        }
    }
}

#[test]
fn large_frame_that_is_not_cut_says_how_long_it_is_whatever_its_sender_said() {
    for flow in [TCP4, Flow { is_v6: true, ..TCP4 }] {
        let right = flow.partial(&payload(9_000));
        let head_bytes = right.len() - 9_000;
        let mut wrong = right.clone();
        // IPv4's length and header checksum or IPv6's length; TCP's checksum.
        let (length, checksum) = if flow.is_v6 { (14 + 4, 14 + 4) } else { (14 + 2, 14 + 10) };
        for at in [length, checksum, flow.transport() + 16] {
            wrong[at..at + 2].copy_from_slice(&[0xab, 0xcd]);
        }
        let frame = Received::new(&wrong);
        let offload = frame.interpret(&flow.net_header(Some(1_400))).unwrap();
        let (leaving, mut head) = (frame.leaving(None), Head::EMPTY);

        let segments = Segments::new(&offload, &leaving, &mut head).unwrap();
        let (net_header, mut whole) = segments.whole();

        assert_eq!((net_header.gso_size, usize::from(net_header.hdr_len)), (1_400, head_bytes));
        let sink = Sink::new(right.len());
        let length_bytes = whole.copy_to(&mut sink.room());
        assert_eq!(length_bytes, right.len());
        assert!(sink.bytes(length_bytes) == right, "{flow:?}");
    }
}

#[test]
fn largest_frame_is_cut_whole() {
    let flow = Flow { is_v6: true, options: 0, ..TCP4 };
    let frame = Received::new(&flow.partial(&payload(65_515)));
    let offload = frame.interpret(&flow.net_header(Some(1_440))).unwrap();

    let frames = cut(&frame, &offload, None).unwrap();

    assert_eq!(frames.len(), 46);
    assert_eq!(frames.iter().map(|frame| read(frame).payload.len()).sum::<usize>(), 65_515);
}

#[test]
fn segments_that_are_left_out_change_nothing_in_the_others() {
    let frame = Received::new(&TCP4.partial(&payload(5_000)));
    let offload = frame.interpret(&TCP4.net_header(Some(1_000))).unwrap();
    let all = cut(&frame, &offload, None).unwrap();
    let (leaving, mut head) = (frame.leaving(None), Head::EMPTY);
    let mut segments = Segments::new(&offload, &leaving, &mut head).unwrap();

    assert_eq!(segments.next_frame().unwrap().length_bytes(), all[0].len());
    assert_eq!(segments.next_frame().unwrap().length_bytes(), all[1].len());

    assert_eq!(written(segments.next_frame().unwrap()), all[2]);
}

#[test]
fn lengths_that_ip_cannot_say_drop_the_frame() {
    // Longer than its length field says, like a frame whose driver leaves that to the device.
    let bytes = [TCP4.partial(&[]), payload(66_000)].concat();
    let frame = Received::new(&bytes);
    let into = |size| {
        let offload = frame.interpret(&TCP4.net_header(Some(size))).unwrap();
        cut(&frame, &offload, None).map(|frames| frames.len())
    };

    assert_eq!(into(65_534), Err(DropReason::OffloadUnfit));
    assert_eq!(into(65_484), Err(DropReason::OffloadUnfit));
    assert_eq!(into(65_483), Ok(2));
}

#[test]
fn headers_that_were_changed_meanwhile_drop_the_frame() {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const FRAGMENT: u8 = 44;
    let flow = Flow { is_v6: true, extras: 3, ..TCP4 };
    let bytes = flow.partial(&payload(3_000));
    let offload = Received::new(&bytes).interpret(&flow.net_header(Some(1_000))).unwrap();
    let changed = |next| {
        let mut bytes = bytes.clone();
        // What the last extension header says comes next: behind the private header.
        bytes[14 + 40 + 16] = next;
        cut(&Received::new(&bytes), &offload, None).map(|frames| frames.len())
    };

    assert_eq!(changed(TCP), Ok(3));
    assert_eq!(changed(UDP), Err(DropReason::OffloadUnfit));
    assert_eq!(changed(FRAGMENT), Err(DropReason::OffloadUnfit));
}

#[test]
fn transport_header_that_is_not_where_the_checksum_begins_drops_the_frame() {
    let flow = Flow { is_v6: true, extras: 3, ..TCP4 };
    let frame = Received::new(&flow.partial(&payload(3_000)));
    let from = |csum_start| {
        let net_header = super::NetHeader { csum_start, ..flow.net_header(Some(1_000)) };
        // Behind the private header, so not known yet.
        let offload = frame.interpret(&net_header).unwrap();
        cut(&frame, &offload, None).map(|frames| frames.len())
    };

    assert_eq!(from(78), Ok(3));
    assert_eq!(from(86), Err(DropReason::OffloadUnfit));
}

#[test]
fn frame_of_another_kind_is_not_cut() {
    let flow = Flow { extras: 5, ..TCP4 };
    let frame = Received::new(&flow.partial(&payload(3_000)));
    let offload = frame.interpret(&flow.net_header(Some(1_000))).unwrap();
    let as_if =
        |bytes: &[u8]| cut(&Received::new(bytes), &offload, None).map(|frames| frames.len());
    let mut fragment = flow.partial(&payload(3_000));
    fragment[20] |= 0x20;

    assert_eq!(as_if(&flow.partial(&payload(3_000))), Ok(3));
    assert_eq!(as_if(&fragment), Err(DropReason::OffloadUnfit));
    // Its TCP header begins at the same place.
    let six = Flow { is_v6: true, ..TCP4 };
    assert_eq!(as_if(&six.partial(&payload(3_000))), Err(DropReason::OffloadUnfit));
}

#[test]
fn options_that_became_shorter_meanwhile_make_no_more_frames() {
    let flow = Flow { is_v6: true, options: 2, ..TCP4 };
    let bytes = flow.partial(&payload(1_366));
    let mut offload = Received::new(&bytes).interpret(&flow.net_header(Some(2))).unwrap();
    let one = std::num::NonZeroU16::MIN;
    offload.segmentation = offload.segmentation.map(|cut| Segmentation { size: one, ..cut });
    let with_words = |words: u8| {
        let mut bytes = bytes.clone();
        bytes[66] = words << 4;
        cut(&Received::new(&bytes), &offload, None).map(|frames| frames.len())
    };

    assert_eq!(with_words(7), Ok(1_366));
    assert_eq!(with_words(6), Err(DropReason::OffloadUnfit));
}

#[test]
fn udp_checksum_of_zero_is_sent_as_ones() {
    let flow = Flow { is_udp: true, ..TCP4 };
    let without = !sum(&flow.partial(&[0, 0])[flow.transport()..]);

    let sent = completed(&flow, &flow.partial(&without.to_be_bytes()), None);

    assert_eq!(sent[flow.transport() + 6..][..2], [0xff, 0xff]);
    read(&sent);
}

#[test]
fn checksum_in_a_tunnel_is_completed_like_any_other() {
    let inner = TCP4.partial(&payload(500));
    let outer = Flow { is_udp: true, ..TCP4 };
    let carried = [&[8, 0, 0, 0, 0, 0, 1, 0], inner.as_slice()].concat();
    let bytes = outer.wire(&carried);
    let start = u16::try_from(outer.payload() + 8 + TCP4.transport()).unwrap();
    let frame = Received::new(&bytes);
    let net_header = super::NetHeader { csum_start: start, ..TCP4.net_header(None) };
    let offload = frame.interpret(&net_header).unwrap();
    let mut head = Head::EMPTY;

    let sent = written(complete(&offload, &frame.leaving(None), &mut head).unwrap());

    assert_eq!(read(&sent[outer.payload() + 8..]).payload, payload(500));
}

#[test]
fn checksum_behind_what_is_gathered_drops_the_frame() {
    let frame = Received::new(&TCP4.partial(&payload(500)));
    let at = |csum_start| {
        let net_header = super::NetHeader { csum_start, ..TCP4.net_header(None) };
        let offload = frame.interpret(&net_header).unwrap();
        let mut head = Head::EMPTY;
        complete(&offload, &frame.leaving(None), &mut head).map(written).err()
    };

    assert_eq!(at(192 - 18), None);
    assert_eq!(at(192 - 17), Some(DropReason::OffloadUnfit));
}

#[test]
fn frame_goes_whole_to_who_takes_it() {
    let frame = Received::new(&TCP4.partial(&payload(5_000)));
    let offload = frame.interpret(&TCP4.net_header(Some(1_448))).unwrap();
    let receiver = Receiver::new(Features::NET_GUEST_CSUM | Features::NET_GUEST_TSO4);
    let hdr_len = u16::try_from(TCP4.payload() + 4).unwrap();

    let Delivery::Whole(net_header) = receiver.delivery(&offload, true) else { panic!() };

    let sent = Flow { tag: Some(TAG), ..TCP4 }.net_header(Some(1_448));
    assert_eq!(net_header, super::NetHeader { hdr_len, ..sent });
}

#[test]
fn frame_is_cut_or_completed_for_who_does_not() {
    let cwr = Flow { flags: ACK | CWR, ..TCP4 };
    let large = |flow: &Flow| {
        let frame = Received::new(&flow.partial(&payload(5_000)));
        frame.interpret(&flow.net_header(Some(1_448))).unwrap()
    };
    let small = Received::new(&TCP4.partial(&[])).interpret(&TCP4.net_header(None)).unwrap();
    let tso_only = Receiver::new(Features::NET_GUEST_TSO4);
    let csum = Receiver::new(Features::NET_GUEST_CSUM | Features::NET_GUEST_TSO6);
    let tso = Receiver::new(Features::NET_GUEST_CSUM | Features::NET_GUEST_TSO4);

    assert_eq!(Receiver::PLAIN.delivery(&large(&TCP4), false), Delivery::Cut);
    assert_eq!(tso_only.delivery(&large(&TCP4), false), Delivery::Cut);
    assert_eq!(csum.delivery(&large(&TCP4), false), Delivery::Cut);
    assert_eq!(tso.delivery(&large(&cwr), false), Delivery::Cut);
    assert_eq!(tso_only.delivery(&small, false), Delivery::Completed);
    assert!(matches!(csum.delivery(&small, false), Delivery::Whole(_)));
}

#[test]
fn verified_checksum_is_told_to_who_trusts_it() {
    let offload = Offload { checksum: Checksum::Valid, ..Offload::NONE };
    let flags = |receiver: Receiver| match receiver.delivery(&offload, false) {
        Delivery::Whole(net_header) => net_header.flags,
        other => panic!("{other:?}"),
    };

    assert_eq!(flags(Receiver::PLAIN), 0);
    assert_eq!(flags(Receiver::new(Features::NET_GUEST_CSUM)), super::NetHeader::DATA_VALID);
}
