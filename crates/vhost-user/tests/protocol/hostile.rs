//! Front ends that send harmful values in well-formed messages: each is refused or loses its own
//! session, and nothing leaks or panics.
//!
//! Many cases are those that broke other back ends; their numbers stand beside them.

use std::io::{ErrorKind, Read, Write};

use proptest::prelude::*;
use vhost_user::{FrontendReq as Req, SessionError};

use crate::support::{Bench, NEED_REPLY, Tracer, addresses, header, number, numbers, slot, state};

const MEMORY: [u64; 4] = [0x1000, 0x10_0000, 0x7000_0000_0000, 0];

/// Requests that act on a ring by a 32-bit index, with a body that is right but for the index.
fn ring_requests(index: u32) -> [(Req, Vec<u8>); 5] {
    [
        (Req::SET_VRING_NUM, state(index, 256)),
        (Req::SET_VRING_BASE, state(index, 0)),
        (Req::SET_VRING_ENABLE, state(index, 1)),
        (Req::SET_VRING_ADDR, addresses(index, 0, [0; 4])),
        (Req::GET_VRING_BASE, state(index, 0)),
    ]
}

/// CVE-2020-10723, and rust-vmm/vhost issue 212.
#[test]
fn ring_index_beyond_the_rings_is_refused_in_full_width() {
    for index in [4, 5, 0x100, 0xffff, 0x1_0000, 0x1_0001, 0xffff_ffff] {
        for (request, body) in ring_requests(index) {
            let mut bench = Bench::new();
            let end = bench.try_send(request, 0, &body, &[]);
            assert!(matches!(end, Err(SessionError::Refused { .. })), "{request:?} {index:#x}");
            assert_eq!(bench.backend.calls, []);
        }
    }
}

#[test]
fn ring_index_of_a_descriptor_request_is_refused_beyond_the_rings() {
    for body in [4, 0xff, 0x1ff, 0x200, 0x1_0000_0000, u64::MAX] {
        for request in [Req::SET_VRING_KICK, Req::SET_VRING_CALL, Req::SET_VRING_ERR] {
            let mut bench = Bench::new();
            let file = Tracer::new("beyond");
            let count = usize::from(body & 0x100 == 0);
            let end = bench.try_send(request, 0, &number(body), &file.times(count));
            assert!(matches!(end, Err(SessionError::Refused { .. })));
            assert_eq!(file.leaked(), 0);
        }
    }
}

#[test]
fn memory_regions_that_are_empty_or_wrap_are_refused() {
    let regions = [
        [0, 0, 0, 0],
        [u64::MAX, 1, 0, 0],
        [0x1000, u64::MAX, 0, 0],
        [0, 0x1000, u64::MAX, 0],
        [0, 0x1000, 0, u64::MAX - 0xfff],
    ];
    for region in regions {
        let mut bench = Bench::acknowledging();
        let file = Tracer::new("wrapping");
        let one = file.times(1);
        for (request, body) in [
            (Req::ADD_MEM_REG, slot(region)),
            (Req::REM_MEM_REG, slot(region)),
            (Req::SET_MEM_TABLE, [state(1, 0), numbers(&region)].concat()),
        ] {
            bench.try_send(request, NEED_REPLY, &body, &one).expect("goes on");
            assert_eq!(bench.reply(request), number(1));
        }
        assert_eq!(bench.backend.calls, []);
        assert_eq!(file.leaked(), 0);
    }
}

#[test]
fn memory_tables_of_no_region_or_more_than_eight_are_refused() {
    for count in [0, 9, 32] {
        let mut bench = Bench::acknowledging();
        let file = Tracer::new("tables");
        let count_on_wire = u32::try_from(count).expect("small");
        let body = [state(count_on_wire, 0), numbers(&MEMORY).repeat(count)].concat();
        bench.try_send(Req::SET_MEM_TABLE, NEED_REPLY, &body, &file.times(count)).expect("goes on");
        assert_eq!(bench.reply(Req::SET_MEM_TABLE), number(1));
        assert_eq!(file.leaked(), 0);
    }
}

#[test]
fn memory_table_that_is_shorter_than_its_count_ends_the_session() {
    for count in [3, 9, u32::MAX] {
        let mut bench = Bench::new();
        let body = [state(count, 0), numbers(&MEMORY), numbers(&MEMORY)].concat();
        let end = bench.try_send(Req::SET_MEM_TABLE, 0, &body, &[]);
        assert!(matches!(end, Err(SessionError::InvalidBodySize { .. })));
    }
}

#[test]
fn features_that_were_not_offered_are_refused() {
    let mut bench = Bench::acknowledging();

    let features = bench.ask(Req::SET_FEATURES, NEED_REPLY, &number(u64::MAX));
    let protocol = bench.ask(Req::SET_PROTOCOL_FEATURES, NEED_REPLY, &number(u64::MAX));

    assert_eq!((features, protocol), (number(1).to_vec(), number(1).to_vec()));
    assert_eq!(bench.backend.calls, []);
}

#[test]
fn values_wider_than_what_they_stand_for_are_refused() {
    let mut bench = Bench::acknowledging();

    let mtu = bench.ask(Req::NET_SET_MTU, NEED_REPLY, &number(0x1_0000));
    let status = bench.ask(Req::SET_STATUS, NEED_REPLY, &number(0x100));
    let enable = bench.ask(Req::SET_VRING_ENABLE, NEED_REPLY, &state(0, 2));
    let misaligned = addresses(0, 0, [1, 0, 0, 0]);
    let misaligned = bench.ask(Req::SET_VRING_ADDR, NEED_REPLY, &misaligned);

    for refused in [mtu, status, enable, misaligned] {
        assert_eq!(refused, number(1));
    }
    assert_eq!(bench.backend.calls, []);
}

#[test]
fn unknown_and_unsupported_requests_are_named() {
    let mut unknown = Bench::new();
    unknown.send_bytes(&header(99, 1, 0), &[]);

    let unknown = unknown.turn().expect_err("over").to_string();
    let file = Tracer::new("postcopy");
    let postcopy = Bench::new().try_send(Req::POSTCOPY_ADVISE, 0, &[], &file.times(1));
    let postcopy = postcopy.expect_err("over").to_string();

    assert!(unknown.contains("99"), "{unknown}");
    assert!(postcopy.contains("POSTCOPY_ADVISE"), "{postcopy}");
    assert_eq!(file.leaked(), 0);
}

/// Its sender would take any answer for a "yes".
#[test]
fn dirty_log_that_cannot_be_used_ends_the_session() {
    let file = Tracer::new("log");
    let end_of = |refuses, body: &[u8], files| {
        let mut bench = Bench::acknowledging();
        bench.backend.refuses = refuses;
        let end = bench.try_send(Req::SET_LOG_BASE, NEED_REPLY, body, &file.times(files));
        assert!(bench.is_silent());
        end.expect_err("over")
    };

    let refused = end_of(true, &numbers(&[1, 0]), 1);
    let without_file = end_of(false, &number(0x7f00_0000_0000), 0);
    let with_too_many = end_of(false, &numbers(&[1, 0]), 2);
    let short = end_of(false, &number(1), 1);

    assert!(matches!(refused, SessionError::Refused { .. }));
    assert!(matches!(without_file, SessionError::Refused { .. }));
    assert!(matches!(with_too_many, SessionError::InvalidDescriptorCount { .. }));
    assert!(matches!(short, SessionError::InvalidBodySize { .. }));
    assert_eq!(file.leaked(), 0);
}

#[test]
fn refusal_that_nobody_asked_to_hear_ends_the_session_with_its_reason() {
    let mut bench = Bench::new();
    bench.backend.refuses = true;

    let end = bench.try_send(Req::SET_VRING_NUM, NEED_REPLY, &state(0, 3), &[]);

    let Err(SessionError::Refused { request, source }) = end else {
        panic!("not refused: {end:?}");
    };
    assert_eq!(request, Req::SET_VRING_NUM);
    assert_eq!(source.to_string(), "the recorder was told to refuse");
}

/// CVE-2019-14818.
#[test]
fn same_request_over_and_over_keeps_nothing() {
    let mut bench = Bench::new();
    let file = Tracer::new("over and over");
    let one = file.times(1);

    for _ in 0..20_000 {
        bench.try_send(Req::SET_VRING_KICK, 0, &number(1), &one).expect("taken");
        bench.backend.calls.clear();
    }

    assert_eq!(file.leaked(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any message in any state: taken, refused or the end, and never a panic or a leak.
    #[test]
    fn any_messages_leave_nothing_behind(
        messages in prop::collection::vec(
            (
                0_u32..64,
                prop_oneof![Just(1_u32), Just(1 | NEED_REPLY), any::<u32>()],
                prop_oneof![
                    Just(Vec::new()),
                    prop::collection::vec(any::<u8>(), 8),
                    (0_u64..0x204).prop_map(|n| number(n).to_vec()),
                    (0_u32..6, any::<u32>()).prop_map(|(index, n)| state(index, n)),
                    prop::collection::vec(any::<u8>(), 40),
                    prop::collection::vec(any::<u8>(), 0..300),
                ],
                0_usize..4,
            ),
            1..20,
        ),
        refuses in any::<bool>(),
    ) {
        let mut bench = Bench::acknowledging();
        bench.backend.refuses = refuses;
        let file = Tracer::new("any messages");
        for (code, flags, body, count) in &messages {
            let message = [&header(*code, *flags, body.len())[..], body].concat();
            bench.send_bytes(&message, &file.times(*count));
            if bench.turn().is_err() {
                break;
            }
        }
        drop(bench);
        prop_assert_eq!(file.leaked(), 0);
    }

    /// Any bytes, cut anywhere.
    #[test]
    fn any_bytes_never_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..64), 1..10)) {
        let mut bench = Bench::new();
        for chunk in &chunks {
            bench.front.write_all(chunk).expect("room");
            if bench.turn().is_err() {
                break;
            }
        }
        bench.front.set_nonblocking(true).expect("non-blocking");
        let rest = bench.front.read(&mut [0; 64]);
        prop_assert!(rest.is_ok() || rest.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    }
}
