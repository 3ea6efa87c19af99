//! Taps on the real kernel, in network namespaces of their own, seen from the host's side through
//! packet sockets and sockets, so that no frame is judged by this crate's own code.
//!
//! Each test runs in a thread that has left for a new network namespace without a name. It ends
//! with the thread and takes its interfaces along, also after a panic or `kill -9`.
//!
//! They need root (CAP_NET_ADMIN, CAP_SYS_ADMIN), and say so when it is missing.

#[path = "tap/lifetime.rs"]
mod lifetime;
#[path = "tap/refusals.rs"]
mod refusals;
#[path = "tap/streams.rs"]
mod streams;
#[path = "tap/world.rs"]
mod world;

use std::time::{Duration, Instant};

use frame::{
    Burst, Checksum, Completing, DropReason, Outgoing, Place, Segmentation, SegmentationKind, Zero,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tap::{Tap, TapQueue};
use virtio::offload::{Delivery, NetHeader};
use world::{Host, content, experimental, in_namespace, large, segment};

const PATIENCE: Duration = Duration::from_secs(5);

/// A tap with one queue.
fn open(name: &str) -> (Tap, TapQueue) {
    let (tap, mut queues) = Tap::open(name, 1).unwrap();
    (tap, queues.remove(0))
}

/// Receives until `count` frames have come, gives their buffers back, and returns what they held.
fn receive(queue: &mut TapQueue, count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut burst, mut received) = (Burst::new(), Vec::new());
    while received.len() < count && Instant::now() < deadline {
        burst.clear();
        queue.receive(&mut burst, 64);
        for frame in &burst.frames {
            received.push(content(&burst, frame));
            queue.complete(frame.token);
        }
    }
    received
}

fn send(queue: &mut TapQueue, net_header: NetHeader, bytes: &[u8]) -> Result<(), DropReason> {
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    queue.send(net_header, &Outgoing::new(head, &[segment(rest)]))
}

fn is_readable(queue: &TapQueue) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::from_borrowed_fd(queue.as_fd(), PollFlags::IN)], Some(&now)).unwrap() == 1
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frames_of_the_host_arrive_byte_for_byte_and_their_buffers_go_round() {
    in_namespace(|| {
        let (tap, mut queue) = open("tap7");
        let host = Host::open("tap7");

        assert!(!tap.is_persistent());
        assert_eq!((tap.name(), tap.queue_count()), ("tap7", 1));
        // More than there are buffers, so that each of them has been used again.
        for round in 0..20 {
            let sent: Vec<_> = (0..50).map(|at| experimental(round * 50 + at, 1_514)).collect();
            sent.iter().for_each(|frame| host.send(frame));
            assert_eq!(receive(&mut queue, 50), sent);
        }
        assert_eq!(queue.outstanding(), 0);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frames_reach_the_host_byte_for_byte_whatever_their_length() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");

        for (number, length_bytes) in [(1, 42), (2, 60), (3, 64), (4, 65), (5, 1_514), (6, 9_216)] {
            let frame = experimental(number, length_bytes);
            send(&mut queue, NetHeader::default(), &frame).unwrap();
            assert_eq!(host.receive().unwrap().1, frame);
        }
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn large_frame_of_the_host_arrives_in_one_piece_with_what_is_left_to_do() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let (net_header, bytes) = large(65_000);
        let mut burst = Burst::new();

        host.send_with(net_header, &bytes);

        assert_eq!(queue.receive(&mut burst, 64), 1);
        let frame = &burst.frames[0];
        let kind = SegmentationKind::Tcp4;
        let segmentation = Segmentation { kind, size: 1_448.try_into().unwrap(), has_cwr: false };
        assert_eq!(frame.offload.segmentation, Some(segmentation));
        assert_eq!(frame.offload.checksum, Checksum::Partial { start: 34, offset: 16 });
        assert_eq!(frame.offload.header_bytes, 54);
        assert_eq!(content(&burst, frame), bytes);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn large_frame_reaches_the_host_in_one_piece_with_what_is_left_to_do() {
    in_namespace(|| {
        let (tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let (net_header, bytes) = large(65_000);
        let mut burst = Burst::new();
        host.send_with(net_header, &bytes);
        queue.receive(&mut burst, 1);
        let frame = burst.frames[0];

        let Delivery::Whole(ours) = tap.receiver().delivery(&frame.offload, false) else {
            panic!("the kernel takes these")
        };
        let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(&frame));
        queue.send(ours, &outgoing).unwrap();

        let (theirs, arrived) = host.receive().unwrap();
        assert_eq!(theirs, NetHeader { hdr_len: theirs.hdr_len, ..net_header });
        assert_eq!(arrived, bytes);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frame_that_is_not_what_its_net_header_says_is_unfit() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let (net_header, bytes) = large(3_000);

        let outside = NetHeader { csum_start: 60_000, ..net_header };
        let refused = send(&mut queue, outside, &bytes);
        let without_size = NetHeader { gso_size: 0, ..net_header };
        let refused_too = send(&mut queue, without_size, &bytes);

        assert_eq!(refused, Err(DropReason::OffloadUnfit));
        assert_eq!(refused_too, Err(DropReason::OffloadUnfit));
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn completed_frame_reaches_the_host_with_nothing_left_to_do() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let bytes = experimental(1, 2_000);
        let (head, rest) = bytes.split_at(64);
        let (mut head, segments) = (head.to_vec(), [segment(rest)]);
        let payload = Outgoing::new(&[], &segments);
        let place = Place { start: 18, field: 20 };

        let frame =
            Completing::new(&mut head, payload.reader(), rest.len(), place, Zero::Kept).unwrap();
        queue.send_completing(frame).unwrap();

        let (net_header, arrived) = host.receive().unwrap();
        assert_eq!(net_header, NetHeader::default());
        assert_eq!([&arrived[..20], &arrived[22..]], [&bytes[..20], &bytes[22..]]);
        assert_ne!(arrived[20..22], bytes[20..22]);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frame_in_more_pieces_than_are_written_at_once_reaches_the_host() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let bytes = experimental(1, 5_000);
        let segments: Vec<_> = bytes[64..].chunks(40).map(segment).collect();

        queue.send(NetHeader::default(), &Outgoing::new(&bytes[..64], &segments)).unwrap();

        assert_eq!(host.receive().unwrap().1, bytes);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn memory_that_a_guest_took_away_costs_its_frame_and_nothing_else() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let file = rustix::fs::memfd_create("guest", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&file, 4_096).unwrap();
        let (protection, flags) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
        // SAFETY: no address is asked for, so no memory that is in use can be replaced.
        let mapped =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4_096, protection, flags, &file, 0) };
        // SAFETY: mapped until the process ends; only the kernel reads it.
        let payload = unsafe { frame::Segment::new(mapped.unwrap().cast(), 4_096) };
        rustix::fs::ftruncate(&file, 0).unwrap();
        let (head, next) = (experimental(1, 64), experimental(2, 64));

        let refused = queue.send(NetHeader::default(), &Outgoing::new(&head, &[payload]));
        send(&mut queue, NetHeader::default(), &next).unwrap();

        assert_eq!(refused, Err(DropReason::PortDown));
        assert_eq!(host.receive().unwrap().1, next);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn tag_of_the_hosts_vlan_interface_leads_to_the_header() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let plain = experimental(1, 200);
        let tagged = [&plain[..12], &[0x81, 0x00, 0xa0, 0x64], &plain[12..]].concat();
        let mut burst = Burst::new();

        host.send(&tagged);

        assert_eq!(queue.receive(&mut burst, 64), 1);
        let frame = &burst.frames[0];
        assert_eq!(frame.header.tag().map(frame::VlanTag::to_bits), Some(0xa064));
        assert_eq!(content(&burst, frame), plain);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn file_is_readable_while_a_frame_waits() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        assert!(receive_nothing(&mut queue));
        assert!(!is_readable(&queue));

        host.send(&experimental(1, 100));

        assert!(is_readable(&queue));
        assert_eq!(receive(&mut queue, 1).len(), 1);
        assert!(receive_nothing(&mut queue));
        assert!(!is_readable(&queue));
        assert!(!queue.has_work());
    });
}

fn receive_nothing(queue: &mut TapQueue) -> bool {
    queue.receive(&mut Burst::new(), 1) == 0
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frames_wait_in_the_kernel_while_no_buffer_is_free() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let sent: Vec<_> = (0..300).map(|number| experimental(number, 200)).collect();
        let mut burst = Burst::new();

        sent.iter().for_each(|frame| host.send(frame));
        assert_eq!(queue.receive(&mut burst, 1_000), 256);
        assert!(receive_nothing(&mut queue));
        let mut received: Vec<_> = burst.frames.iter().map(|one| content(&burst, one)).collect();
        burst.frames.iter().for_each(|frame| queue.complete(frame.token));
        received.extend(receive(&mut queue, 44));

        assert_eq!(received, sent);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn burst_of_large_frames_is_full_before_the_limit() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let (net_header, bytes) = large(65_000);
        (0..20).for_each(|_| host.send_with(net_header, &bytes));

        // 64 times 9,216 bytes are 9.07 of them, with their net headers.
        assert_eq!(queue.receive(&mut Burst::new(), 64), 10);
        assert!(queue.has_work());
        assert_eq!(queue.receive(&mut Burst::new(), 64), 10);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn frame_too_long_for_a_wire_and_not_to_be_cut_is_dropped() {
    in_namespace(|| {
        let (tap, mut queue) = open("tap7");
        tap.set_mtu(20_000).unwrap();
        let host = Host::open("tap7");
        let mut burst = Burst::new();

        host.send(&experimental(1, 9_217));
        host.send(&experimental(2, 9_216));

        assert_eq!(queue.receive(&mut burst, 64), 1);
        assert_eq!(content(&burst, &burst.frames[0]), experimental(2, 9_216));
        assert_eq!(burst.dropped.of(DropReason::Oversized), 1);
        assert_eq!(burst.dropped_bytes, 9_217);
    });
}
