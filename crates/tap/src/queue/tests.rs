//! A queue whose other side is a socket that keeps frames apart, as a tap does: so anything can
//! come from it, also what no kernel would send.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use frame::{Checksum, Place, Segmentation, SegmentationKind, Zero};
use virtio::Features;

use super::*;

/// Ethernet, IPv4, TCP: 54 bytes.
const HEADERS: usize = 54;

/// A queue, and what the kernel would be.
fn pair() -> (TapQueue, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let features = Features::NET_CSUM | Features::NET_HOST_TSO4;
    let sender = Sender { features, is_host: true };
    (TapQueue::new(File::from(OwnedFd::from(ours)), 0, sender).unwrap(), theirs)
}

/// A TCP segment over IPv4 whose payload begins with its number.
fn tcp(number: u8, length_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2, 0x08, 0x00, 0x45];
    frame.resize(HEADERS, 0);
    frame[23] = 6;
    frame[46] = 0x50;
    frame.extend((0..=255).cycle().skip(number.into()).take(length_bytes - HEADERS));
    frame
}

const fn partial() -> NetHeader {
    NetHeader {
        flags: NetHeader::NEEDS_CSUM,
        gso_type: NetHeader::GSO_NONE,
        hdr_len: 0,
        gso_size: 0,
        csum_start: 34,
        csum_offset: 16,
    }
}

fn give(kernel: &UnixDatagram, net_header: NetHeader, frame: &[u8]) {
    kernel.send(&[&net_header.to_bytes(0), frame].concat()).unwrap();
}

/// What a frame holds, without tag.
fn content(burst: &Burst, at: usize) -> Vec<u8> {
    let frame = &burst.frames[at];
    let mut bytes = vec![0; frame.length_bytes as usize + 1];
    let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(frame));
    let count = outgoing.reader().read(&mut bytes);
    bytes.truncate(count);
    bytes
}

/// The reason for which the only frame is dropped, and how long it counts.
fn dropped(net_header: NetHeader, frame: &[u8]) -> (DropReason, u64) {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    give(&kernel, net_header, frame);

    assert_eq!(queue.receive(&mut burst, 64), 0);

    assert_eq!((queue.outstanding(), burst.segments.len()), (0, 0));
    let reason = DropReason::ALL.iter().find(|&&reason| burst.dropped.of(reason) == 1);
    (*reason.unwrap(), burst.dropped_bytes)
}

#[test]
fn frame_arrives_with_its_bytes_and_what_is_left_to_do() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    let (short, large) = (tcp(1, 60), tcp(2, MOST_BYTES - 4));
    let size = 1_448;
    give(&kernel, NetHeader::default(), &short);
    let cut = NetHeader { gso_type: NetHeader::GSO_TCPV4, gso_size: size, ..partial() };
    give(&kernel, cut, &large);

    assert_eq!(queue.receive(&mut burst, 64), 2);

    assert_eq!(content(&burst, 0), short);
    assert_eq!(content(&burst, 1), large);
    assert!(burst.frames[0].offload.is_none());
    let offload = burst.frames[1].offload;
    let kind = SegmentationKind::Tcp4;
    let segmentation = Segmentation { kind, size: size.try_into().unwrap(), has_cwr: false };
    assert_eq!(offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    assert_eq!(offload.segmentation, Some(segmentation));
    assert_eq!(burst.frames[0].segments.count, 0);
}

#[test]
fn tag_is_taken_out_and_places_are_those_of_the_frame_without_it() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    let plain = tcp(1, 200);
    let tagged = [&plain[..12], &[0x81, 0x00, 0xa0, 0x64], &plain[12..]].concat();
    give(&kernel, NetHeader { csum_start: 38, ..partial() }, &tagged);

    queue.receive(&mut burst, 64);

    let frame = &burst.frames[0];
    assert_eq!(frame.header.tag().map(frame::VlanTag::to_bits), Some(0xa064));
    assert_eq!(frame.length_bytes, 200);
    assert_eq!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
    assert_eq!(content(&burst, 0), plain);
}

#[test]
fn checksum_that_the_host_vouches_for_is_valid() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    give(&kernel, NetHeader { flags: NetHeader::DATA_VALID, ..NetHeader::default() }, &tcp(1, 60));

    queue.receive(&mut burst, 64);

    assert_eq!(burst.frames[0].offload.checksum, Checksum::Valid);
}

#[test]
fn bad_frames_are_counted_by_reason_and_their_buffers_are_free() {
    let plain = NetHeader::default();
    let longest = frame::MAX_FRAME_BYTES + 1;
    let outside = NetHeader { csum_start: 59, ..partial() };
    let v6 = NetHeader { gso_type: NetHeader::GSO_TCPV6, gso_size: 500, ..partial() };
    let mut six = tcp(1, 2_000);
    six[12..14].copy_from_slice(&[0x86, 0xdd]);
    six[14] = 0x60;

    assert_eq!(dropped(plain, &[0; 13]), (DropReason::Runt, 13));
    assert_eq!(dropped(plain, &tcp(1, longest)), (DropReason::Oversized, longest as u64));
    assert_eq!(dropped(outside, &tcp(1, 60)), (DropReason::OffloadInvalid, 60));
    let csum_start = 54;
    let v6 = NetHeader { csum_start, ..v6 };
    assert_eq!(dropped(v6, &six), (DropReason::OffloadNotNegotiated, 2_000));
}

#[test]
fn frame_without_a_whole_net_header_is_dropped() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    kernel.send(&[0; 11]).unwrap();

    queue.receive(&mut burst, 64);

    assert_eq!(burst.dropped.of(DropReason::NetHeaderIncomplete), 1);
    assert_eq!(burst.dropped_bytes, 0);
}

#[test]
fn frame_that_did_not_fit_its_buffer_is_oversized_whatever_is_to_be_done_to_it() {
    let cut = NetHeader { gso_type: NetHeader::GSO_TCPV4, gso_size: 1_448, ..partial() };

    let (reason, bytes) = dropped(cut, &tcp(1, MOST_BYTES + 100));

    assert_eq!((reason, bytes), (DropReason::Oversized, MOST_BYTES as u64 + 1));
}

#[test]
fn nothing_is_read_while_no_buffer_is_free_and_nothing_is_lost() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    for number in 0..=255 {
        give(&kernel, NetHeader::default(), &tcp(number, 100));
        assert_eq!(queue.receive(&mut burst, 64), 1);
    }
    give(&kernel, NetHeader::default(), &tcp(7, 90));

    assert_eq!(queue.receive(&mut burst, 64), 0);
    assert_eq!((queue.outstanding(), queue.has_work()), (256, false));

    queue.complete(burst.frames[3].token);
    assert!(queue.has_work());
    assert_eq!(queue.receive(&mut burst, 64), 1);
    assert_eq!(content(&burst, 256), tcp(7, 90));
    assert_eq!(burst.frames[256].token, burst.frames[3].token);
    assert_eq!(content(&burst, 255), tcp(255, 100));
    assert_eq!(content(&burst, 0), tcp(0, 100));
}

#[test]
fn token_that_is_not_out_is_ignored() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    give(&kernel, NetHeader::default(), &tcp(1, 100));
    queue.receive(&mut burst, 64);
    let token = burst.frames[0].token;

    queue.complete(token);
    queue.complete(token);
    queue.complete(token + 1);
    queue.complete(SCRATCH as u64);
    queue.complete(u64::MAX);

    assert_eq!((queue.outstanding(), queue.free.len()), (0, RECEIVE_BUFFERS));
}

#[test]
fn queue_has_work_until_a_look_found_nothing() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    give(&kernel, NetHeader::default(), &tcp(1, 100));

    assert_eq!(queue.receive(&mut burst, 1), 1);
    assert!(queue.has_work());
    assert_eq!(queue.receive(&mut burst, 1), 0);
    assert!(!queue.has_work());

    give(&kernel, NetHeader::default(), &tcp(1, 100));
    assert_eq!(queue.receive(&mut burst, 1), 1);
    assert!(queue.has_work());
}

#[test]
fn frame_leaves_with_its_net_header_however_it_is_cut() {
    let (mut queue, kernel) = pair();
    let bytes = tcp(3, 9_000);
    let (head, rest) = bytes.split_at(64);
    let (few, many) = (extents(&queue, rest, 20), extents(&queue, rest, 200));
    let gathered = Gathered::new(&[]).push(Outgoing::new(&[], &many).reader());
    assert!(!gathered, "it goes by way of a copy");
    let expected = [&partial().to_bytes(0), &bytes[..]].concat();
    let mut read = vec![0; 10_000];

    queue.send(partial(), &Outgoing::new(head, &few)).unwrap();
    let count = kernel.recv(&mut read).unwrap();
    assert!(read[..count] == expected);

    queue.send(partial(), &Outgoing::new(head, &many)).unwrap();
    let count = kernel.recv(&mut read).unwrap();
    assert!(read[..count] == expected);
}

/// Puts these bytes into a free buffer of the queue and cuts them in so many extents.
fn extents(queue: &TapQueue, bytes: &[u8], count: usize) -> Vec<Segment> {
    queue.buffers.fill(0, |room| room.write(bytes)).unwrap();
    let step = bytes.len().div_ceil(count);
    let starts = (0..bytes.len()).step_by(step);
    starts.map(|at| queue.buffers.segment(0, at, step.min(bytes.len() - at)).unwrap()).collect()
}

#[test]
fn completed_frame_leaves_with_its_checksum_and_nothing_left_to_do() {
    let (mut queue, kernel) = pair();
    let mut head = [9, 9, 0, 1, 0, 0];
    let payload = Outgoing::new(&[0, 2, 3], &[]);
    let place = Place { start: 2, field: 4 };

    let frame = Completing::new(&mut head, payload.reader(), 3, place, Zero::Kept).unwrap();
    queue.send_completing(frame).unwrap();

    let mut read = [0xee; 100];
    let count = kernel.recv(&mut read).unwrap();
    assert_eq!(read[..12], [0; 12]);
    assert_eq!(read[12..count], [9, 9, 0, 1, 0xfc, 0xfc, 0, 2, 3]);
}

#[test]
fn frame_longer_than_any_is_refused() {
    let (mut queue, kernel) = pair();
    let bytes = vec![0; MOST_BYTES];
    let longest = extents(&queue, &bytes, 1);

    let refused = queue.send(NetHeader::default(), &Outgoing::new(&[0], &longest));
    let sent = queue.send(NetHeader::default(), &Outgoing::new(&[], &longest));

    assert_eq!(refused, Err(DropReason::EgressOversized));
    assert_eq!(sent, Ok(()));
    assert_eq!(kernel.recv(&mut vec![0; 70_000]).unwrap(), 12 + MOST_BYTES);
}

#[test]
fn kernel_without_room_drops_as_a_full_ring_does() {
    let (mut queue, _kernel) = pair();
    let bytes = tcp(1, 60);
    let frame = Outgoing::new(&bytes, &[]);

    let mut refused = (0..10_000).map(|_| queue.send(NetHeader::default(), &frame));

    assert_eq!(refused.find(Result::is_err), Some(Err(DropReason::TxRingFull)));
}

#[test]
fn each_answer_of_the_kernel_has_its_reason() {
    let reason = |code| refusal(&io::Error::from_raw_os_error(code));

    assert_eq!(reason(libc::EAGAIN), DropReason::TxRingFull);
    assert_eq!(reason(libc::ENOBUFS), DropReason::TxRingFull);
    assert_eq!(reason(libc::ENOMEM), DropReason::TxRingFull);
    assert_eq!(reason(libc::EINVAL), DropReason::OffloadUnfit);
    assert_eq!(reason(libc::EMSGSIZE), DropReason::EgressOversized);
    assert_eq!(reason(libc::EIO), DropReason::PortDown);
    assert_eq!(reason(libc::EBADFD), DropReason::PortDown);
    assert_eq!(reason(libc::EFAULT), DropReason::PortDown);
}

#[test]
fn payload_stays_readable_when_its_queue_is_dropped_too_early() {
    let ((mut queue, kernel), mut burst) = (pair(), Burst::new());
    let bytes = tcp(1, 2_000);
    give(&kernel, NetHeader::default(), &bytes);
    queue.receive(&mut burst, 64);

    drop(queue);

    assert_eq!(content(&burst, 0), bytes);
}
