//! Frames from one interface to another: with a common UMEM their chunks change hands, and none is
//! lost or doubled, whoever comes and goes.

use std::time::{Duration, Instant};

use afxdp::{Interface, Settings, UmemPool, XdpQueue};
use frame::{Burst, HEADER_BYTES, Outgoing, TAG_BYTES, VlanTag};

use super::world::{EXPERIMENTAL, Wire, content, experimental, in_namespace, ip};
use super::{open, send};

/// Chunks of one queue.
const PART: usize = 4_096;

/// The tag that frames carry on a trunk: VLAN 100, priority 5.
const TAG: u16 = 0xa064;

/// Makes pairs up0 and wire0, up1 and wire1, and so on.
pub(crate) fn make_pairs(count: usize) {
    for number in 0..count {
        ip(&format!("link add up{number} type veth peer name wire{number}"));
        ip(&format!("link set wire{number} up"));
    }
}

/// Takes an interface with one queue.
pub(crate) fn join(name: &str, pool: &mut UmemPool) -> (XdpQueue, Interface) {
    let (interface, mut queues) = Interface::open(name, &Settings::default(), pool).unwrap();
    (queues.remove(0), interface)
}

/// Receives until `count` experimental frames have come and sends them on with this tag, as the data
/// path does. Returns how many of them moved without a copy.
pub(crate) fn pass(
    from: &mut XdpQueue,
    to: &mut XdpQueue,
    count: usize,
    tag: Option<VlanTag>,
) -> usize {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut burst = Burst::new();
    let (mut passed, mut moved) = (0, 0);
    while passed < count && Instant::now() < deadline {
        burst.clear();
        from.receive(&mut burst, 64);
        let mut replacements = Vec::new();
        for frame in &burst.frames {
            if frame.header.ether_type() != EXPERIMENTAL {
                replacements.push(None);
                continue;
            }
            let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
            let head = frame.header.as_tagged(tag, &mut scratch);
            let outgoing = Outgoing::new(head, burst.segments_of(frame));
            let replacement = to.forward(&outgoing).unwrap();
            passed += 1;
            moved += usize::from(replacement.is_some());
            replacements.push(replacement);
        }
        to.flush();
        for (frame, replacement) in burst.frames.iter().zip(replacements) {
            match replacement {
                Some(chunk) => from.complete_with(frame.token, chunk),
                None => from.complete(frame.token),
            }
        }
        from.release();
    }
    assert_eq!(passed, count);
    moved
}

/// Sends frames from one wire to the other, by way of both interfaces, in bursts of 50. Each must
/// arrive as it was, and move without a copy if `moves`.
fn exchange(wires: [&Wire; 2], from: &mut XdpQueue, to: &mut XdpQueue, bursts: u32, moves: bool) {
    for round in 0..bursts {
        let sent: Vec<_> = (0..50).map(|at| experimental(round * 50 + at, 1_514)).collect();
        sent.iter().for_each(|frame| wires[0].send(frame));
        assert_eq!(pass(from, to, 50, None), if moves { 50 } else { 0 });
        let arrived: Vec<_> = (0..50).map(|_| wires[1].receive().unwrap()).collect();
        assert!(arrived == sent, "burst {round}");
    }
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    let tag = [&[0x81, 0x00], &TAG.to_be_bytes()[..]].concat();
    [&frame[..12], &tag, &frame[12..]].concat()
}

#[test]
fn frame_moves_with_its_tag_put_in_taken_out_or_left() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        let (mut from, _up0) = join("up0", &mut pool);
        let (mut to, _up1) = join("up1", &mut pool);
        let wire = Wire::open("wire0");
        // A packet socket does not see tags.
        let (_wire1, mut beyond) = open("wire1").unwrap();
        let tag = Some(VlanTag::from_bits(TAG));

        for (number, length_bytes) in (0..).zip([60, 61, 64, 65, 68, 69, 500, 1_514]) {
            let frame = experimental(number, length_bytes);
            for (is_tagged, tag) in [(false, None), (false, tag), (true, None), (true, tag)] {
                let received = if is_tagged { tagged(&frame) } else { frame.clone() };
                wire.send(&received);

                let moved = pass(&mut from, &mut to, 1, tag);

                // What lies wholly in the private header is written from there.
                assert_eq!(moved, usize::from(received.len() > 64), "{length_bytes} {is_tagged}");
                assert_eq!(arrived(&mut beyond[0]), (frame.clone(), tag), "{is_tagged}");
            }
        }
    });
}

/// The next experimental frame, and its tag.
fn arrived(queue: &mut XdpQueue) -> (Vec<u8>, Option<VlanTag>) {
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut found = None;
    let mut burst = Burst::new();
    while found.is_none() && Instant::now() < deadline {
        burst.clear();
        queue.receive(&mut burst, 64);
        for frame in &burst.frames {
            if frame.header.ether_type() == EXPERIMENTAL {
                found = Some((content(&burst, frame), frame.header.tag()));
            }
            queue.complete(frame.token);
        }
        queue.release();
    }
    found.expect("the frame arrives")
}

#[test]
fn frame_that_got_shorter_or_was_short_is_padded_with_zeros() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        let (mut from, _up0) = join("up0", &mut pool);
        let (mut to, _up1) = join("up1", &mut pool);
        let wires = [Wire::open("wire0"), Wire::open("wire1")];
        let frame = experimental(1, 42);

        for received in [frame.clone(), tagged(&frame)] {
            // Leaves its bytes in the chunk that is the next to be used.
            let long = experimental(2, 1_514);
            send(&mut to, &long);
            assert_eq!(wires[1].receive().unwrap(), long);
            wires[0].send(&received);
            pass(&mut from, &mut to, 1, None);

            assert_eq!(wires[1].receive().unwrap(), [frame.clone(), vec![0; 18]].concat());
        }
    });
}

#[test]
fn frame_longer_than_the_egress_allows_is_not_moved() {
    in_namespace(|| {
        make_pairs(2);
        ip("link set up1 mtu 1000");
        let mut pool = UmemPool::new();
        let (mut from, _up0) = join("up0", &mut pool);
        let (mut to, _up1) = join("up1", &mut pool);
        Wire::open("wire0").send(&experimental(1, 1_015));
        let mut burst = Burst::new();
        while burst.frames.is_empty() {
            from.receive(&mut burst, 1);
            if burst.frames.iter().any(|frame| frame.header.ether_type() != EXPERIMENTAL) {
                burst.clear();
            }
        }

        let outgoing =
            Outgoing::new(burst.frames[0].header.untagged(), burst.segments_of(&burst.frames[0]));
        let refusal = to.forward(&outgoing).unwrap_err();

        assert_eq!(refusal, frame::DropReason::EgressOversized);
    });
}

#[test]
fn interfaces_of_two_umems_copy() {
    in_namespace(|| {
        make_pairs(2);
        let (mut from, _up0) = join("up0", &mut UmemPool::new());
        let (mut to, _up1) = join("up1", &mut UmemPool::new());
        let wires = [Wire::open("wire0"), Wire::open("wire1")];

        exchange([&wires[0], &wires[1]], &mut from, &mut to, 2, false);
    });
}

#[test]
fn chunks_are_all_back_after_ports_that_exchanged_them_went_in_either_order() {
    in_namespace(|| {
        make_pairs(3);
        let mut pool = UmemPool::new();
        let _other = join("up2", &mut pool);
        let wires = [Wire::open("wire0"), Wire::open("wire1")];
        let (there, back) = ([&wires[0], &wires[1]], [&wires[1], &wires[0]]);

        for is_first_to_go in [true, false] {
            let mut first = join("up0", &mut pool);
            let mut second = join("up1", &mut pool);
            assert_eq!(pool.free_chunks(), [PART]);
            // Each chunk of either is exchanged, more than once.
            exchange(there, &mut first.0, &mut second.0, 200, true);
            exchange(back, &mut second.0, &mut first.0, 100, true);
            assert_eq!(pool.free_chunks(), [PART]);

            let (goes, stays) = if is_first_to_go { (first, second) } else { (second, first) };
            drop(goes);
            assert_eq!(pool.free_chunks(), [2 * PART]);
            drop(stays);
            assert_eq!(pool.free_chunks(), [3 * PART]);
        }
    });
}

#[test]
fn port_that_comes_back_shares_with_those_that_stayed() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        // The one that registered the memory is the one that goes.
        let first = join("up0", &mut pool);
        let mut stays = join("up1", &mut pool);
        let wires = [Wire::open("wire0"), Wire::open("wire1")];
        drop(first);

        let mut again = join("up0", &mut pool);

        exchange([&wires[0], &wires[1]], &mut again.0, &mut stays.0, 2, true);
        exchange([&wires[1], &wires[0]], &mut stays.0, &mut again.0, 2, true);
        drop((again, stays));
        assert!(pool.free_chunks().is_empty());
    });
}

#[test]
fn ports_that_come_and_go_fifty_times_leave_nothing_behind() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        let mut stays = join("up0", &mut pool);
        let wires = [Wire::open("wire0"), Wire::open("wire1")];

        for _ in 0..50 {
            let mut passing = join("up1", &mut pool);
            exchange([&wires[0], &wires[1]], &mut stays.0, &mut passing.0, 1, true);
            drop(passing);

            assert_eq!(pool.free_chunks(), [3 * PART]);
        }
    });
}

#[test]
fn fifth_queue_gets_memory_of_its_own_and_works() {
    in_namespace(|| {
        make_pairs(5);
        let mut pool = UmemPool::new();
        let mut ports: Vec<_> =
            (0..5).map(|number| join(&format!("up{number}"), &mut pool)).collect();
        let wire = Wire::open("wire4");

        send(&mut ports[4].0, &experimental(1, 300));

        assert_eq!(pool.free_chunks(), [0, 3 * PART]);
        assert_eq!(wire.receive().unwrap(), experimental(1, 300));
    });
}

#[test]
fn interface_whose_second_queue_is_still_taken_costs_no_chunks_while_it_waits() {
    in_namespace(|| {
        make_pairs(1);
        let two = "numrxqueues 2 numtxqueues 2";
        ip(&format!("link add two0 {two} type veth peer name end0 {two}"));
        let mut pool = UmemPool::new();
        let _other = join("up0", &mut pool);
        let settings = Settings::default();
        let before = Interface::open("two0", &settings, &mut UmemPool::new()).unwrap();
        let (interface, mut queues) = before;
        let second = queues.remove(1);
        drop((interface, queues));
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(second);
        });

        let taken = Interface::open("two0", &settings, &mut pool).unwrap();

        assert_eq!(pool.free_chunks(), [PART]);
        drop(taken);
        assert_eq!(pool.free_chunks(), [3 * PART]);
        leaving.join().unwrap();
    });
}
