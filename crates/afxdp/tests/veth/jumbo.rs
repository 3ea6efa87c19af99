//! Frames that are longer than a chunk: in several buffers, both ways.

use afxdp::{SocketError, UmemPool};
use frame::{Burst, Completing, MAX_FRAME_BYTES, Outgoing, Place, Sum, Zero};

use super::exchange::{join, make_pairs, pass};
use super::world::{Wire, experimental, in_namespace, ip, segment};
use super::{make_pair, open, receive, receive_for_nothing, send};

/// The MTU of the longest frame.
const MTU: usize = MAX_FRAME_BYTES - 14;

/// Lengths around those at which a frame takes one buffer more: the kernel fills chunks behind a
/// headroom of 256 bytes, we fill them from their start.
const LENGTHS: [usize; 12] =
    [60, 1_514, 3_840, 3_841, 4_096, 4_097, 7_680, 7_681, 8_192, 8_193, 9_000, MAX_FRAME_BYTES];

fn make_jumbo_pair() {
    make_pair();
    ip(&format!("link set up0 mtu {MTU}"));
    ip(&format!("link set wire0 mtu {MTU}"));
}

#[test]
fn frames_of_any_length_arrive_and_their_chunks_go_round() {
    in_namespace(|| {
        make_jumbo_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");

        // More than there are chunks, so that each of them has been used again.
        for round in 0..250u32 {
            let lengths = (round * 12..).zip(LENGTHS);
            let sent: Vec<_> = lengths.map(|(at, length)| experimental(at, length)).collect();
            sent.iter().for_each(|frame| wire.send(frame));
            assert!(receive(&mut queues, 12) == sent, "round {round}");
        }

        assert_eq!(queues[0].outstanding(), 0);
    });
}

#[test]
fn frames_of_any_length_leave_and_their_chunks_go_round() {
    in_namespace(|| {
        make_jumbo_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");

        for round in 0..250u32 {
            for (at, length) in (round * 12..).zip(LENGTHS) {
                let frame = experimental(at, length);
                send(&mut queues[0], &frame);
                assert!(wire.receive().unwrap() == frame, "{length} bytes in round {round}");
            }
        }
    });
}

#[test]
fn checksum_of_a_jumbo_frame_is_completed_on_the_way() {
    in_namespace(|| {
        make_jumbo_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        let frame = experimental(7, 9_000);
        let (head, payload) = frame.split_at(64);
        let mut head = head.to_vec();
        head[40..42].fill(0);
        let segments = [segment(payload)];
        let reader = Outgoing::new(&[], &segments).reader();
        let place = Place { start: 30, field: 40 };
        let length = payload.len();
        let completing = Completing::new(&mut head, reader, length, place, Zero::Kept).unwrap();

        queues[0].send_completing(completing).unwrap();
        queues[0].flush();
        let arrived = wire.receive().unwrap();

        let mut sum = Sum::ZERO;
        sum.add(&arrived[30..]);
        assert_eq!(sum.checksum(), 0);
        assert!(arrived[..40] == frame[..40] && arrived[42..] == frame[42..]);
    });
}

#[test]
fn frame_in_several_buffers_is_copied_from_interface_to_interface() {
    in_namespace(|| {
        make_pairs(2);
        for name in ["up0", "up1", "wire0", "wire1"] {
            ip(&format!("link set {name} mtu {MTU}"));
        }
        let mut pool = UmemPool::new();
        let [(mut first, _first), (mut second, _second)] =
            ["up0", "up1"].map(|name| join(name, &mut pool));
        let wires = [Wire::open("wire0"), Wire::open("wire1")];

        for round in 0..500u32 {
            let sent: Vec<_> =
                [9_000, 1_514, 5_000].map(|length| experimental(round, length)).into();
            sent.iter().for_each(|frame| wires[0].send(frame));
            assert_eq!(pass(&mut first, &mut second, 3, None), 1);
            let arrived: Vec<_> = (0..3).map(|_| wires[1].receive().unwrap()).collect();
            assert!(arrived == sent, "round {round}");
        }

        assert_eq!(first.outstanding(), 0);
    });
}

#[test]
fn burst_that_ends_within_a_frame_goes_on_with_it() {
    in_namespace(|| {
        make_jumbo_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        receive_for_nothing(&mut queues[0]);
        let sent = experimental(1, 9_000);
        wire.send(&sent);
        let mut burst = Burst::new();

        let mut taken = Vec::new();
        for _ in 0..1_000 {
            burst.clear();
            queues[0].receive(&mut burst, 1);
            for frame in &burst.frames {
                let bytes = super::content(&burst, frame);
                if bytes[12..14] == sent[12..14] {
                    taken.push(bytes);
                }
                queues[0].complete(frame.token);
            }
            queues[0].release();
        }

        assert!(taken == [sent]);
    });
}

#[test]
fn mtu_beyond_the_longest_frame_is_refused() {
    in_namespace(|| {
        make_pair();
        ip(&format!("link set up0 mtu {}", MTU + 1));

        let refusal = open("up0").unwrap_err();

        assert!(matches!(refusal, SocketError::MtuTooLarge { mtu_bytes: 9_203, .. }), "{refusal}");
    });
}
