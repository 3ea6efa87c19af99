//! What owners are offered: the configuration space, who may read what of it and that nothing is
//! written, and a channel for requests.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use vhost_user::{FrontendReq as Req, Session, SessionError};

use crate::hand_over::sent;
use crate::support::{Bench, CONFIG_SPACE, NEED_REPLY, REPLY_ACK, number};

const CONFIG: u64 = 1 << 9;

/// The body of GET_CONFIG and SET_CONFIG.
fn question(offset: u32, size: u32, bytes: usize) -> Vec<u8> {
    let record: Vec<u8> = [offset, size, 0].iter().flat_map(|word| word.to_ne_bytes()).collect();
    [record, vec![0xee; bytes]].concat()
}

fn protocol_features(bench: &mut Bench) -> u64 {
    let reply = bench.ask(Req::GET_PROTOCOL_FEATURES, 0, &[]);
    u64::from_ne_bytes(reply.try_into().expect("a number"))
}

/// A front end that asks as User Mode Linux does.
fn owner() -> Bench {
    let mut bench = Bench::new();
    bench.try_send(Req::SET_OWNER, 0, &[], &[]).expect("taken");
    bench.try_send(Req::SET_PROTOCOL_FEATURES, 0, &number(CONFIG | REPLY_ACK), &[]).expect("taken");
    bench
}

#[test]
fn owner_is_offered_the_space() {
    let mut bench = owner();

    assert_eq!(protocol_features(&mut bench) & CONFIG, CONFIG);
}

#[test]
fn front_end_that_asks_before_it_owns_the_session_is_not() {
    let mut bench = Bench::new();

    let offered = protocol_features(&mut bench);
    let acknowledged = bench.try_send(Req::SET_PROTOCOL_FEATURES, 0, &number(CONFIG), &[]);

    assert_eq!(offered & CONFIG, 0);
    assert!(matches!(acknowledged, Err(SessionError::Refused { .. })));
}

#[test]
fn owner_is_one_for_the_next_process_too() {
    let mut bench = owner();

    bench.session = Session::go_on(sent(&bench.session.state())).expect("goes on");

    assert_eq!(protocol_features(&mut bench) & CONFIG, CONFIG);
}

#[test]
fn channel_for_requests_is_held_open_and_goes_along() {
    let mut bench = owner();
    let (theirs, ours) = UnixStream::pair().expect("a pair");
    bench.try_send(Req::SET_BACKEND_REQ_FD, 0, &[], &[ours.as_fd()]).expect("taken");
    drop(ours);

    bench.session = Session::go_on(sent(&bench.session.state())).expect("goes on");

    theirs.set_nonblocking(true).expect("non-blocking");
    let read = (&theirs).read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock));
}

#[test]
fn any_part_of_the_space_can_be_read() {
    for (offset, size) in [(0, 12), (0, 1), (11, 1), (6, 2)] {
        let mut bench = owner();

        let reply = bench.ask(Req::GET_CONFIG, 0, &question(offset, size, size as usize));

        let part = &CONFIG_SPACE[offset as usize..][..size as usize];
        assert_eq!(reply, [&question(offset, size, 0), part].concat(), "{size} at {offset}");
    }
}

#[test]
fn what_lies_outside_is_answered_by_nothing() {
    for (offset, size) in [(0, 13), (12, 1), (11, 2), (u32::MAX, 1), (300, 4), (0, 0)] {
        let mut bench = owner();

        let reply = bench.ask(Req::GET_CONFIG, 0, &question(offset, size, size as usize));

        assert_eq!(reply, question(offset, 0, 0), "{size} at {offset}");
    }
}

#[test]
fn question_with_more_or_less_bytes_than_it_says_ends_the_session() {
    for bytes in [0, 1, 3, 4_000] {
        let mut bench = owner();

        let end = bench.try_send(Req::GET_CONFIG, 0, &question(0, 2, bytes), &[]);

        assert!(matches!(end, Err(SessionError::InvalidBodySize { .. })), "{bytes} bytes");
    }
}

#[test]
fn nothing_can_be_written() {
    let mut bench = owner();

    let answer = bench.ask(Req::SET_CONFIG, NEED_REPLY, &question(0, 6, 6));

    assert_eq!(answer, number(1));
    let refusal = bench.session.take_refusal().expect("told").to_string();
    assert!(refusal.contains("6 bytes") && refusal.contains("read-only"), "{refusal}");
}
