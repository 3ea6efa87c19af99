//! Checksums that are left to the NIC: a veth asks its kernel to complete them, or to tell the
//! other end that they are not.

use afxdp::{Checksums, Interface, Settings, UmemPool, XdpQueue};
use frame::{Outgoing, Sum};

use super::make_pair;
use super::world::{Wire, ethtool, experimental, in_namespace, ip, segment};

/// Where the checksum of the test's frames begins, and where it stands from there.
const START: u16 = 34;
const OFFSET: u16 = 16;

fn open(checksums: Checksums) -> (Interface, Vec<XdpQueue>) {
    let settings = Settings { checksums, ..Settings::default() };
    Interface::open("up0", &settings, &mut UmemPool::new()).unwrap()
}

/// Sends a frame whose checksum is partial, and returns it as it arrives.
fn exchange(queue: &mut XdpQueue, wire: &Wire, length: usize) -> Vec<u8> {
    let mut frame = experimental(7, length);
    frame[50..52].fill(0);
    let (head, rest) = frame.split_at(frame.len().min(64));
    let segments = [segment(rest)];
    queue.send_partial(&Outgoing::new(head, &segments), START, OFFSET).unwrap();
    queue.flush();
    let arrived = wire.receive().unwrap();
    assert_eq!(arrived.len(), frame.len());
    assert!(arrived[..50] == frame[..50] && arrived[52..] == frame[52..]);
    arrived
}

/// The sum of what the checksum covers: zero if it is right.
fn checksum(frame: &[u8]) -> u16 {
    let mut sum = Sum::ZERO;
    sum.add(&frame[START.into()..]);
    sum.checksum()
}

#[test]
fn checksum_is_completed_where_the_interface_says_that_it_cannot_do_it() {
    in_namespace(|| {
        make_pair();
        // Then the kernel completes what leaves by it.
        ethtool("-K up0 tx off");
        let (_interface, mut queues) = open(Checksums::Nic);
        assert!(queues[0].takes_partial(1_514));
        let wire = Wire::open("wire0");

        // More than there are chunks, so that each of them has been used again.
        for _ in 0..5_000 {
            assert_eq!(checksum(&exchange(&mut queues[0], &wire, 64)), 0);
        }
        for length in [65, 1_000, 1_513, 1_514] {
            assert_eq!(checksum(&exchange(&mut queues[0], &wire, length)), 0, "{length} bytes");
        }
    });
}

#[test]
fn frames_with_and_without_metadata_leave_in_their_order() {
    in_namespace(|| {
        make_pair();
        ethtool("-K up0 tx off");
        let (_interface, mut queues) = open(Checksums::Nic);
        let wire = Wire::open("wire0");
        for round in 0..200 {
            let plain = experimental(round, 1_200);
            super::send(&mut queues[0], &plain);
            assert!(wire.receive().unwrap() == plain);
            assert_eq!(checksum(&exchange(&mut queues[0], &wire, 900)), 0);
        }
    });
}

#[test]
fn frame_that_has_no_room_behind_metadata_is_left_to_the_caller() {
    in_namespace(|| {
        make_pair();
        ip("link set up0 mtu 9000");
        let (_interface, mut queues) = open(Checksums::Nic);
        let frame = experimental(1, 4_033);
        let segments = [segment(&frame[64..])];

        assert!(!queues[0].takes_partial(4_033));
        let outcome = queues[0].send_partial(&Outgoing::new(&frame[..64], &segments), 34, 16);

        assert_eq!(outcome, Err(frame::DropReason::OffloadUnfit));
    });
}

#[test]
fn veth_does_not_say_that_it_completes_checksums() {
    in_namespace(|| {
        make_pair();
        let (_interface, queues) = open(Checksums::Auto);

        assert!(!queues[0].takes_partial(1_514));
    });
}
