//! What QEMU 7.2 says, step by step, and what the back end is then told.
//!
//! The sequences were captured from QEMU 7.2 with two queue pairs: realize, start, firmware
//! moving memory under live rings, stop, continue, arrival by migration. Addresses are invented.

use vhost_user::{FrontendReq as Req, LogExtent, RingEnabling, VringAddresses};

use crate::support::{
    Asked, Bench, FEATURES, NEED_REPLY, PROTOCOL_FEATURES_BIT, REPLY_ACK, SERVED, Tracer,
    addresses, number, numbers, region, slot, state,
};

/// MQ, LOG_SHMFD, RARP, REPLY_ACK, MTU, RESET_DEVICE, CONFIGURE_MEM_SLOTS, STATUS.
const OFFERED: u64 = 1 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 13 | 1 << 15 | 1 << 16;
const LOW: [u64; 4] = [0, 0xa_0000, 0x7f00_0000_0000, 0];
const HIGH: [u64; 4] = [0x10_0000, 0x700_0000, 0x7f00_0010_0000, 0x10_0000];
const RING: [u64; 4] = [0x7f00_0020_0000, 0x7f00_0020_2000, 0x7f00_0020_1000, 0x42];

/// Sends messages that want no reply, `true` with a descriptor, and returns the calls.
fn play(steps: &[(Req, Vec<u8>, bool)]) -> Vec<Asked> {
    let mut bench = Bench::acknowledging();
    let file = Tracer::new("conversation");
    for (request, body, with_file) in steps {
        let files = file.times(usize::from(*with_file));
        bench.try_send(*request, 0, body, &files).expect("taken");
    }
    assert!(bench.is_silent());
    assert_eq!(file.leaked(), 0);
    bench.backend.calls
}

fn ring_addresses(log: Option<u64>) -> VringAddresses {
    VringAddresses { descriptor_table: RING[0], used_ring: RING[1], available_ring: RING[2], log }
}

#[test]
fn realize_learns_what_is_on_offer() {
    let mut bench = Bench::new();

    let features = bench.ask(Req::GET_FEATURES, 0, &[]);
    let protocol_features = bench.ask(Req::GET_PROTOCOL_FEATURES, 0, &[]);
    bench.try_send(Req::SET_PROTOCOL_FEATURES, 0, &number(OFFERED), &[]).expect("taken");
    let queue_pairs = bench.ask(Req::GET_QUEUE_NUM, 0, &[]);
    let slots = bench.ask(Req::GET_MAX_MEM_SLOTS, 0, &[]);
    bench.try_send(Req::SET_OWNER, 0, &[], &[]).expect("taken");

    assert_eq!(features, number(FEATURES | PROTOCOL_FEATURES_BIT));
    assert_eq!(protocol_features, number(OFFERED));
    assert_eq!(queue_pairs, number(2));
    assert_eq!(slots, number(509));
    assert!(bench.is_silent());
}

#[test]
fn rings_are_enabled_and_given_descriptors_before_features_are_acknowledged() {
    let calls = play(&[
        (Req::SET_VRING_CALL, number(0).to_vec(), true),
        (Req::SET_VRING_ERR, number(0).to_vec(), true),
        (Req::SET_VRING_CALL, number(3).to_vec(), true),
        (Req::SET_VRING_ERR, number(3).to_vec(), true),
        (Req::SET_VRING_ENABLE, state(0, 1), false),
        (Req::SET_VRING_ENABLE, state(1, 1), false),
        (Req::SET_VRING_ENABLE, state(2, 0), false),
        (Req::SET_VRING_ENABLE, state(3, 0), false),
    ]);

    assert_eq!(
        calls,
        [
            Asked::Call(0, true),
            Asked::Err(0, true),
            Asked::Call(3, true),
            Asked::Err(3, true),
            Asked::Enable(0, true),
            Asked::Enable(1, true),
            Asked::Enable(2, false),
            Asked::Enable(3, false),
        ]
    );
}

#[test]
fn start_reaches_the_back_end_in_the_order_it_was_sent() {
    let calls = play(&[
        (Req::SET_FEATURES, number(FEATURES | PROTOCOL_FEATURES_BIT).to_vec(), false),
        (Req::SET_STATUS, number(8).to_vec(), false),
        (Req::ADD_MEM_REG, slot(LOW), true),
        (Req::ADD_MEM_REG, slot(HIGH), true),
        (Req::SET_VRING_NUM, state(0, 256), false),
        (Req::SET_VRING_BASE, state(0, 7), false),
        (Req::SET_VRING_ADDR, addresses(0, 0, RING), false),
        (Req::SET_VRING_KICK, number(0).to_vec(), true),
        (Req::SET_VRING_CALL, number(0).to_vec(), true),
        (Req::SET_STATUS, number(0xf).to_vec(), false),
    ]);

    assert_eq!(
        calls,
        [
            Asked::Features(FEATURES, RingEnabling::ByRequest),
            Asked::Status(8),
            Asked::Add(region(LOW)),
            Asked::Add(region(HIGH)),
            Asked::Size(0, 256),
            Asked::Base(0, 7),
            Asked::Addresses(0, ring_addresses(None)),
            Asked::Kick(0, true),
            Asked::Call(0, true),
            Asked::Status(0xf),
        ]
    );
}

#[test]
fn memory_goes_and_comes_under_live_rings() {
    let calls = play(&[
        (Req::ADD_MEM_REG, slot(LOW), true),
        (Req::ADD_MEM_REG, slot(HIGH), true),
        (Req::SET_VRING_KICK, number(0).to_vec(), true),
        (Req::REM_MEM_REG, slot(HIGH), false),
        (Req::REM_MEM_REG, slot(LOW), true),
        (Req::ADD_MEM_REG, slot(LOW), true),
    ]);

    assert_eq!(
        calls,
        [
            Asked::Add(region(LOW)),
            Asked::Add(region(HIGH)),
            Asked::Kick(0, true),
            Asked::Remove(region(HIGH)),
            Asked::Remove(region(LOW)),
            Asked::Add(region(LOW)),
        ]
    );
}

#[test]
fn stop_returns_each_ring_s_base_verbatim() {
    let mut bench = Bench::new();
    bench.try_send(Req::SET_STATUS, 0, &number(0), &[]).expect("taken");

    let first = bench.ask(Req::GET_VRING_BASE, 0, &state(0, 0));
    let second = bench.ask(Req::GET_VRING_BASE, 0, &state(1, 0));

    assert_eq!(first, state(0, 0x8000_8000));
    assert_eq!(second, state(1, 0x8000_8001));
    assert_eq!(bench.backend.calls, [Asked::Status(0), Asked::Stop(0), Asked::Stop(1)]);
}

#[test]
fn mtu_is_acknowledged_and_status_reads_back() {
    let mut bench = Bench::acknowledging();

    let acknowledged = bench.ask(Req::NET_SET_MTU, NEED_REPLY, &number(1_500));
    bench.try_send(Req::SET_STATUS, 0, &number(0xf), &[]).expect("taken");
    let status = bench.ask(Req::GET_STATUS, 0, &[]);

    assert_eq!(acknowledged, number(0));
    assert_eq!(status, number(0xf));
    assert_eq!(bench.backend.calls, [Asked::Mtu(1_500), Asked::Status(0xf)]);
}

#[test]
fn announcement_comes_before_the_rings_start() {
    let body = [0x52, 0x54, 0, 0x12, 0x34, 0x56, 0, 0];

    let calls = play(&[(Req::SEND_RARP, body.to_vec(), false)]);

    assert_eq!(calls, [Asked::Rarp([0x52, 0x54, 0, 0x12, 0x34, 0x56])]);
}

#[test]
fn log_address_counts_only_with_its_flag() {
    let calls = play(&[
        (Req::SET_VRING_ADDR, addresses(1, 0, RING), false),
        (Req::SET_VRING_ADDR, addresses(1, 1, RING), false),
    ]);

    assert_eq!(
        calls,
        [
            Asked::Addresses(1, ring_addresses(None)),
            Asked::Addresses(1, ring_addresses(Some(RING[3]))),
        ]
    );
}

#[test]
fn memory_table_comes_as_a_whole_with_its_files() {
    let mut bench = Bench::new();
    let file = Tracer::new("memory table");
    let body = [state(2, 0), numbers(&LOW), numbers(&HIGH)].concat();

    bench.try_send(Req::SET_MEM_TABLE, 0, &body, &file.times(2)).expect("taken");

    assert_eq!(bench.backend.calls, [Asked::Table(vec![region(LOW), region(HIGH)])]);
    assert_eq!(file.leaked(), 0);
}

/// As User Mode Linux sends it, which has one region.
#[test]
fn memory_table_may_have_room_for_more_regions_than_it_counts() {
    let mut bench = Bench::new();
    let file = Tracer::new("memory table with room");
    let body = [state(1, 0), numbers(&LOW), numbers(&[0; 4])].concat();

    bench.try_send(Req::SET_MEM_TABLE, 0, &body, &file.times(1)).expect("taken");

    assert_eq!(bench.backend.calls, [Asked::Table(vec![region(LOW)])]);
}

#[test]
fn rings_without_descriptors_say_so() {
    let calls = play(&[
        (Req::SET_VRING_KICK, number(0x101).to_vec(), false),
        (Req::SET_VRING_CALL, number(0x101).to_vec(), false),
        (Req::SET_VRING_ERR, number(0x101).to_vec(), false),
    ]);

    assert_eq!(calls, [Asked::Kick(1, false), Asked::Call(1, false), Asked::Err(1, false)]);
}

#[test]
fn without_protocol_features_rings_are_enabled_from_the_start() {
    let calls = play(&[(Req::SET_FEATURES, number(FEATURES).to_vec(), false)]);

    assert_eq!(calls, [Asked::Features(FEATURES, RingEnabling::FromTheStart)]);
}

#[test]
fn features_that_are_served_may_be_acknowledged_though_they_were_not_offered() {
    let calls = play(&[(Req::SET_FEATURES, number(FEATURES | SERVED).to_vec(), false)]);

    assert_eq!(calls, [Asked::Features(FEATURES | SERVED, RingEnabling::FromTheStart)]);
}

#[test]
fn resets_reach_the_back_end() {
    let calls =
        play(&[(Req::RESET_OWNER, Vec::new(), false), (Req::RESET_DEVICE, Vec::new(), false)]);

    assert_eq!(calls, [Asked::ResetOwner, Asked::ResetDevice]);
}

#[test]
fn need_reply_means_nothing_before_it_was_negotiated() {
    let mut bench = Bench::new();

    bench.try_send(Req::SET_OWNER, NEED_REPLY, &[], &[]).expect("taken");

    assert!(bench.is_silent());
}

#[test]
fn the_message_that_negotiates_acknowledgements_can_ask_for_one() {
    let mut bench = Bench::new();

    let acknowledged = bench.ask(Req::SET_PROTOCOL_FEATURES, NEED_REPLY, &number(REPLY_ACK));

    assert_eq!(acknowledged, number(0));
}

#[test]
fn question_with_need_reply_is_answered_once() {
    let mut bench = Bench::acknowledging();

    bench.ask(Req::GET_FEATURES, NEED_REPLY, &[]);

    assert!(bench.is_silent());
}

#[test]
fn refusal_is_acknowledged_and_the_session_goes_on() {
    let mut bench = Bench::acknowledging();
    bench.backend.refuses = true;

    let refused = bench.ask(Req::NET_SET_MTU, NEED_REPLY, &number(9_000));
    let refusal = bench.session.take_refusal().expect("noted");
    bench.backend.refuses = false;
    let taken = bench.ask(Req::NET_SET_MTU, NEED_REPLY, &number(1_500));

    assert_eq!(refused, number(1));
    assert_eq!(refusal.request, Req::NET_SET_MTU);
    assert_eq!(taken, number(0));
    assert_eq!(bench.session.take_refusal(), None);
}

/// QEMU reads the answer and does not look at its body.
#[test]
fn dirty_log_is_handed_on_and_answered_whether_or_not_that_was_asked_for() {
    let mut bench = Bench::new();
    let file = Tracer::new("log");

    bench.try_send(Req::SET_LOG_BASE, 0, &numbers(&[0x2000, 0x40]), &file.times(1)).expect("taken");
    let answer = bench.reply(Req::SET_LOG_BASE);
    bench.try_send(Req::SET_LOG_FD, 0, &[], &file.times(1)).expect("taken");

    assert_eq!(answer, number(0));
    let extent = LogExtent { size_bytes: 0x2000, mmap_offset: 0x40 };
    assert_eq!(bench.backend.calls, [Asked::Log(extent)]);
    assert!(bench.is_silent());
    assert_eq!(file.leaked(), 0);
}
