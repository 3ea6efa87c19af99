//! Each rule by which a segment joins a train, and what becomes of those that do.

use super::super::tests::{
    ACK, CWR, FIN, Flow, PSH, Received, TCP4, cut, flows, payload, read, sum,
};
use super::*;
use frame::VlanTag;
use proptest::prelude::*;

/// The second segment of the flow that [`TCP4`] begins, 100 bytes further on.
fn second() -> Flow {
    let identification = TCP4.identification + 1;
    Flow { identification, sequence: TCP4.sequence.wrapping_add(100), ..TCP4 }
}

fn head(frame: &Received) -> Head {
    let mut head = Head::EMPTY;
    head.gather(&frame.leaving(frame.header.tag()), CANDIDATE_BYTES);
    head
}

/// Begins a train by the first frame, offers it the others, and returns it if they joined.
fn joined(frames: &[Vec<u8>]) -> Option<Train> {
    let mut train: Option<Train> = None;
    for bytes in frames {
        let head = head(&Received::new(bytes));
        let candidate = Candidate::examine(&head, bytes.len())?;
        match &mut train {
            None => train = Some(Train::start(&candidate)),
            Some(train) => train.join(&candidate).then_some(())?,
        }
    }
    train
}

/// Says whether a frame joins the train that [`TCP4`] begins.
fn joins(flow: &Flow, length: usize) -> bool {
    joined(&[TCP4.wire(&payload(100)), flow.wire(&payload(length))]).is_some()
}

/// A frame with a byte changed, and its IPv4 checksum made right.
fn changed(mut bytes: Vec<u8>, at: usize, byte: u8) -> Vec<u8> {
    bytes[at] = byte;
    bytes[24..26].copy_from_slice(&[0, 0]);
    let checksum = !sum(&bytes[14..34]);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// Says whether the second segment joins with a byte changed.
fn joins_changed(at: usize, byte: u8) -> bool {
    let second = changed(second().wire(&payload(100)), at, byte);
    joined(&[TCP4.wire(&payload(100)), second]).is_some()
}

/// The same over IPv6 with an extension header.
fn joins_changed_v6(at: usize, byte: u8) -> bool {
    let [first, mut second] =
        [TCP4, second()].map(|flow| Flow { is_v6: true, extras: 1, ..flow }.wire(&payload(100)));
    second[at] = byte;
    joined(&[first, second]).is_some()
}

#[test]
fn next_segment_joins_and_others_do_not() {
    assert!(joins(&second(), 100));
    assert!(!joins(&TCP4, 100));
    assert!(!joins(&Flow { sequence: second().sequence.wrapping_add(1), ..second() }, 100));
}

#[test]
fn segment_that_is_longer_does_not_join() {
    assert!(joins(&second(), 99));
    assert!(!joins(&second(), 101));
}

#[test]
fn segment_of_another_flow_does_not_join() {
    assert!(!joins_changed(0, 0xff)); // MAC address
    assert!(!joins_changed(29, 9)); // source
    assert!(!joins_changed(33, 9)); // destination
    assert!(!joins_changed(35, 9)); // source port
    assert!(!joins_changed(37, 9)); // destination port
    let tag = Some(VlanTag::from_bits(7));
    assert!(!joins(&Flow { tag, ..second() }, 100));
}

#[test]
fn segment_that_differs_in_what_the_large_frame_says_once_does_not_join() {
    assert!(joins_changed(15, 0x02)); // as it was
    assert!(!joins_changed(15, 0x03)); // TOS: congestion experienced
    assert!(!joins_changed(20, 0x00)); // DF
    assert!(!joins_changed(22, 63)); // TTL
    assert!(!joins_changed(45, 9)); // acknowledgement
    assert!(!joins_changed(46, 0x81)); // a reserved flag
    assert!(!joins_changed(47, 0x50)); // ECE
    assert!(!joins_changed(48, 9)); // window
    assert!(!joins_changed(54, 2)); // options
}

#[test]
fn segment_that_differs_in_its_ipv6_header_does_not_join() {
    assert!(joins_changed_v6(15, 0x12)); // as it was
    assert!(!joins_changed_v6(15, 0x22)); // traffic class
    assert!(!joins_changed_v6(17, 0x57)); // flow label
    assert!(!joins_changed_v6(21, 63)); // hop limit
    assert!(!joins_changed_v6(22, 99)); // source
    assert!(!joins_changed_v6(53, 99)); // destination
    assert!(!joins_changed_v6(57, 9)); // options of the extension header
}

#[test]
fn identification_may_stand_still_with_df_only() {
    let standing = Flow { identification: TCP4.identification, ..second() };
    let frames = [TCP4, standing].map(|flow| flow.wire(&payload(100)));
    let fragmentable = frames.clone().map(|bytes| changed(bytes, 20, 0x00));

    assert!(joined(&frames).is_some());
    assert!(joined(&fragmentable).is_none());
}

#[test]
fn segments_with_special_flags_are_no_candidates() {
    let is_candidate = |flags| joined(&[Flow { flags, ..TCP4 }.wire(&payload(100))]).is_some();

    assert!(is_candidate(ACK | FIN | PSH));
    assert!(!is_candidate(ACK | SYN));
    assert!(!is_candidate(ACK | RST));
    assert!(!is_candidate(ACK | URG));
    assert!(!is_candidate(ACK | CWR));
}

#[test]
fn frames_that_are_not_plain_tcp_with_payload_are_no_candidates() {
    let is_candidate = |bytes: Vec<u8>| joined(&[bytes]).is_some();
    let damaged = |at: usize, byte| {
        let mut bytes = TCP4.wire(&payload(100));
        bytes[at] = byte;
        is_candidate(bytes)
    };

    assert!(!is_candidate(TCP4.wire(&[])));
    assert!(!is_candidate(Flow { is_udp: true, ..TCP4 }.wire(&payload(100))));
    assert!(!is_candidate(Flow { extras: 1, ..TCP4 }.wire(&payload(100))));
    assert!(!is_candidate([TCP4.wire(&payload(100)), vec![0]].concat())); // padded
    assert!(!damaged(24, 0xab)); // header checksum
    let fragment = |bits| is_candidate(changed(TCP4.wire(&payload(100)), 20, bits));
    assert!(fragment(0x40)); // as it was
    assert!(!fragment(0x60)); // more fragments
    assert!(!fragment(0xc0)); // a reserved bit
}

#[test]
fn push_fin_and_a_short_segment_end_the_train() {
    let third = Flow {
        identification: TCP4.identification.wrapping_add(2),
        sequence: second().sequence.wrapping_add(100),
        ..TCP4
    };
    let is_open = |flags, length| {
        let last = Flow { flags, ..second() }.wire(&payload(length));
        let frames = [TCP4.wire(&payload(100)), last];
        let train = joined(&frames).unwrap();
        let [first, last] = frames;
        let goes_on = joined(&[first, last, third.wire(&payload(100))]).is_some();
        assert_eq!(goes_on, train.is_open());
        goes_on
    };

    assert!(is_open(ACK, 100));
    assert!(!is_open(ACK | PSH, 100));
    assert!(!is_open(ACK | FIN, 100));
    assert!(!is_open(ACK, 99));
}

#[test]
fn identification_counts_on_or_stands_still() {
    let frames = |steps: [u16; 3]| {
        let frame = |(at, step): (u32, u16)| {
            let identification = TCP4.identification.wrapping_add(step);
            let sequence = TCP4.sequence.wrapping_add(at * 100);
            Flow { identification, sequence, ..TCP4 }.wire(&payload(100))
        };
        joined(&(0u32..).zip(steps).map(frame).collect::<Vec<_>>()).is_some()
    };

    assert!(frames([0, 1, 2]));
    assert!(frames([0, 0, 0]));
    assert!(!frames([0, 0, 2]));
    assert!(!frames([0, 1, 0]));
    assert!(!frames([0, 1, 1]));
    assert!(!frames([0, 2, 4]));
}

#[test]
fn train_is_not_longer_than_ip_can_say() {
    let flow = |at: u16| Flow {
        identification: TCP4.identification.wrapping_add(at),
        sequence: TCP4.sequence.wrapping_add(u32::from(at) * 1_448),
        ..TCP4
    };
    let train = |count: u16| {
        let frames: Vec<_> = (0..count).map(|at| flow(at).wire(&payload(1_448))).collect();
        joined(&frames)
    };

    let mut longest = train(45).unwrap();
    assert_eq!(longest.length_bytes(), 14 + 20 + 32 + 45 * 1_448);
    assert_eq!(longest.finish().0[16..18], 65_212u16.to_be_bytes());
    assert!(train(46).is_none());
}

#[test]
fn single_frame_stays_as_it_is() {
    let bytes = TCP4.wire(&payload(100));

    let mut train = joined(std::slice::from_ref(&bytes)).unwrap();

    let (head, offload) = train.finish();
    assert_eq!(head, &bytes[..TCP4.payload()]);
    assert_eq!(offload, Offload { checksum: Checksum::Valid, ..Offload::NONE });
}

proptest! {
    #[test]
    fn checksum_is_verified_over_head_and_payload(
        flow in flows(), length in 1usize..2_000, at in 0usize..2_000, bit in 0u32..9
    ) {
        let flow = Flow { is_udp: false, extras: 0, flags: flow.flags & !CWR, ..flow };
        let mut bytes = flow.wire(&payload(length));
        let start = flow.tag_bytes() + flow.transport();
        // The ninth bit changes nothing. Byte 12 says where the payload begins.
        let at = start + at % (bytes.len() - start);
        prop_assume!(at != start + 12 && at != start + 13);
        bytes[at] ^= u8::try_from(1u32 << bit & 0xff).unwrap();
        let frame = Received::new(&bytes);
        let head = head(&frame);
        let candidate = Candidate::examine(&head, bytes.len()).unwrap();
        let leaving = frame.leaving(frame.header.tag());

        let is_valid =
            candidate.has_valid_checksum(leaving.payload(candidate.head_bytes()).unwrap());

        prop_assert_eq!(is_valid, bit == 8);
    }

    #[test]
    fn segments_join_to_the_frame_that_was_cut(
        flow in flows(), length in 2usize..20_000, size in 200u16..3_000
    ) {
        // Options of IPv4 and CWR are never joined.
        let extras = if flow.is_v6 { flow.extras % 2 } else { 0 };
        let flow = Flow { is_udp: false, extras, flags: flow.flags & !CWR, ..flow };
        prop_assume!(length > usize::from(size));
        let large = flow.partial(&payload(length));
        let frame = Received::new(&large);
        let offload = frame.interpret(&flow.net_header(Some(size))).unwrap();
        let frames = cut(&frame, &offload, flow.tag).unwrap();

        let mut train = joined(&frames).unwrap();

        prop_assert_eq!(usize::from(train.frames()), frames.len());
        prop_assert_eq!(train.length_bytes(), large.len());
        let (head, made) = train.finish();
        let carried: Vec<u8> = frames.iter().flat_map(|frame| read(frame).payload).collect();
        prop_assert_eq!([head, &carried].concat(), large);
        prop_assert_eq!(crate::offload::NetHeader::of(&made, flow.tag.is_some()), crate::offload::NetHeader {
            hdr_len: u16::try_from(flow.payload() + flow.tag_bytes()).unwrap(),
            ..flow.net_header(Some(size))
        });
    }
}
