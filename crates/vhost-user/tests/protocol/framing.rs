//! Front ends that break the framing: messages in pieces, torn off, too long, with descriptors
//! where none belong, and replies that nobody reads.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use vhost_user::{FrontendReq as Req, SessionError};

use crate::support::{Asked, Bench, Tracer, header, number, numbers, region, slot, state};

const MEMORY: [u64; 4] = [0x1000, 0x10_0000, 0x7000_0000_0000, 0];

#[test]
fn half_a_header_waits_and_is_taken_up_again() {
    let mut bench = Bench::new();
    let message = header(Req::GET_FEATURES.into(), 1, 0);

    bench.send_bytes(&message[..5], &[]);
    bench.turn().expect("waits");
    let silent = bench.is_silent();
    bench.send_bytes(&message[5..], &[]);
    bench.turn().expect("answers");

    assert!(silent);
    assert_eq!(bench.reply(Req::GET_FEATURES).len(), 8);
}

#[test]
fn message_in_single_bytes_keeps_its_descriptor() {
    let mut bench = Bench::new();
    let file = Tracer::new("single bytes");
    let message = [&header(Req::SET_VRING_CALL.into(), 1, 8)[..], &number(1)].concat();

    bench.send_bytes(&message[..1], &file.times(1));
    for byte in &message[1..] {
        bench.turn().expect("waits");
        bench.send_bytes(&[*byte], &[]);
    }
    bench.turn().expect("taken");

    assert_eq!(bench.backend.calls, [Asked::Call(1, true)]);
    assert_eq!(file.leaked(), 0);
}

#[test]
fn descriptors_stay_with_their_own_message_when_many_come_at_once() {
    let mut bench = Bench::new();
    let file = Tracer::new("own message");

    bench.send(Req::SET_OWNER, 0, &[], &[]);
    bench.send(Req::SET_VRING_KICK, 0, &number(0), &file.times(1));
    bench.send(Req::SET_VRING_NUM, 0, &state(0, 256), &[]);
    bench.send(Req::ADD_MEM_REG, 0, &slot(MEMORY), &file.times(1));
    bench.turn().expect("taken");

    let expected = [Asked::Kick(0, true), Asked::Size(0, 256), Asked::Add(region(MEMORY))];
    assert_eq!(bench.backend.calls, expected);
    assert_eq!(file.leaked(), 0);
}

#[test]
fn hanging_up_in_mid_message_is_told_from_a_plain_end() {
    let mut plain = Bench::new();
    let mut torn = Bench::new();
    let file = Tracer::new("torn");
    torn.send_bytes(&header(Req::ADD_MEM_REG.into(), 1, 40), &file.times(1));

    plain.front.shutdown(Shutdown::Both).expect("hung up");
    torn.front.shutdown(Shutdown::Both).expect("hung up");
    let (plain_end, torn_end) = (plain.turn(), torn.turn());
    drop(torn);

    assert!(matches!(plain_end, Err(SessionError::Closed)));
    assert!(matches!(torn_end, Err(SessionError::ClosedMidMessage { received_bytes: 12 })));
    assert_eq!(file.leaked(), 0);
}

#[test]
fn unread_replies_at_the_end_are_no_worse_than_a_plain_end() {
    let mut bench = Bench::new();
    bench.try_send(Req::GET_FEATURES, 0, &[], &[]).expect("answered");

    // Closing with data unread resets the connection.
    let (other, _) = UnixStream::pair().expect("socket pair");
    bench.front = other;
    let end = bench.turn();

    assert!(matches!(end, Err(SessionError::Closed)));
}

#[test]
fn descriptors_on_requests_that_take_none_end_the_session_and_are_closed() {
    let file = Tracer::new("uninvited");

    for code in 1..=44 {
        let request = Req::try_from(code).expect("a request");
        let sizes = [0, 8, 40];
        for size in sizes {
            let mut bench = Bench::new();
            let end = bench.try_send(request, 0, &vec![0; size], &file.times(8));
            assert!(end.is_err(), "{request:?} with {size} bytes");
            assert_eq!(bench.backend.calls, []);
        }
        assert_eq!(file.leaked(), 0, "{request:?}");
    }
}

#[test]
fn more_descriptors_than_any_message_carries_end_the_session_and_are_closed() {
    let mut thirty_three = Bench::new();
    let mut two_hundred = Bench::new();
    let file = Tracer::new("flood");

    let first = thirty_three.try_send(Req::SET_OWNER, 0, &[], &file.times(33));
    let second = two_hundred.try_send(Req::SET_OWNER, 0, &[], &file.times(200));
    drop((thirty_three, two_hundred));

    assert!(matches!(first, Err(SessionError::TooManyDescriptors)));
    assert!(matches!(second, Err(SessionError::TooManyDescriptors)));
    assert_eq!(file.leaked(), 0);
}

#[test]
fn descriptors_spread_over_the_bytes_of_one_message_are_counted_together() {
    let mut bench = Bench::new();
    let file = Tracer::new("spread");
    let message = header(Req::SET_OWNER.into(), 1, 0);

    bench.send_bytes(&message[..1], &file.times(20));
    bench.turn().expect("waits");
    bench.send_bytes(&message[1..2], &file.times(20));
    let end = bench.turn();
    drop(bench);

    assert!(matches!(end, Err(SessionError::TooManyDescriptors)));
    assert_eq!(file.leaked(), 0);
}

#[test]
fn no_descriptor_where_one_is_needed_ends_the_session() {
    let file = Tracer::new("missing");

    let kick = Bench::new().try_send(Req::SET_VRING_KICK, 0, &number(0), &[]);
    let memory = Bench::new().try_send(Req::ADD_MEM_REG, 0, &slot(MEMORY), &[]);
    let table = [state(2, 0), numbers(&MEMORY), numbers(&MEMORY)].concat();
    let table = Bench::new().try_send(Req::SET_MEM_TABLE, 0, &table, &file.times(1));
    let both = Bench::new().try_send(Req::SET_VRING_CALL, 0, &number(0x100), &file.times(1));

    for end in [kick, memory, table, both] {
        assert!(matches!(end, Err(SessionError::InvalidDescriptorCount { .. })));
    }
    assert_eq!(file.leaked(), 0);
}

/// Header flags: version 0, 2 and 3, a reply, each reserved bit.
#[test]
fn wrong_header_flags_end_the_session() {
    for flags in [0, 2, 3, 1 | 4, 1 | 16, 1 | 1 << 31, u32::MAX] {
        let mut bench = Bench::new();
        bench.send_bytes(&header(Req::GET_FEATURES.into(), flags, 0), &[]);
        let end = bench.turn();
        assert!(matches!(end, Err(SessionError::InvalidFlags { .. })));
        assert!(bench.is_silent());
    }
}

#[test]
fn body_over_four_kibibytes_ends_the_session_before_it_comes() {
    for size in [4_097, 1 << 20, 0xffff_ffff] {
        let mut bench = Bench::new();
        bench.send_bytes(&header(Req::GET_CONFIG.into(), 1, size), &[]);
        let end = bench.turn();
        assert!(matches!(end, Err(SessionError::InvalidBodySize { .. })));
    }
}

#[test]
fn body_one_byte_off_ends_the_session_for_every_request() {
    for code in 1..=44 {
        let request = Req::try_from(code).expect("a request");
        for size in [1, 7, 9, 39, 41] {
            let mut bench = Bench::new();
            let end = bench.try_send(request, 0, &vec![0; size], &[]);
            assert!(end.is_err(), "{request:?} with {size} bytes");
            assert_eq!(bench.backend.calls, []);
        }
    }
}

#[test]
fn front_end_that_reads_no_reply_is_left() {
    let mut bench = Bench::new();
    let question = header(Req::GET_FEATURES.into(), 1, 0).repeat(64);

    // The socket holds a few hundred kilobytes; 64 replies a turn fill it long before the bound.
    let end = (0..10_000).find_map(|_| {
        bench.send_bytes(&question, &[]);
        bench.turn().err()
    });

    assert!(matches!(end, Some(SessionError::RepliesUnread { .. })));
    assert!(bench.session.wants_write());
}

#[test]
fn replies_that_had_to_wait_are_sent_when_there_is_room() {
    let mut bench = Bench::new();
    let mut asked = 0;
    while !bench.session.wants_write() {
        bench.try_send(Req::GET_FEATURES, 0, &[], &[]).expect("queued");
        asked += 1;
        assert!(asked < 1_000_000);
    }

    let mut read = 0;
    while read < asked {
        assert_eq!(bench.reply(Req::GET_FEATURES).len(), 8);
        bench.turn().expect("goes on");
        read += 1;
    }

    assert!(!bench.session.wants_write());
    assert!(bench.is_silent());
}

#[test]
fn one_turn_carries_out_a_bounded_number_of_messages() {
    let mut bench = Bench::new();
    bench.send_bytes(&header(Req::RESET_OWNER.into(), 1, 0).repeat(200), &[]);

    let mut done = Vec::new();
    for _ in 0..4 {
        bench.turn().expect("taken");
        done.push(bench.backend.calls.len());
    }

    assert_eq!(done, [64, 128, 192, 200]);
}
