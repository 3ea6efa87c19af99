//! Features, protocol features, acknowledgements (vhost-user: Header, Message types, Protocol
//! features, VHOST_USER_PROTOCOL_F_REPLY_ACK).

use virtio::Features;
use virtio::testing::TestMemory;

use crate::back_end::{BackEnd, with_protocol};
use crate::guest::PLAIN;
use crate::protocol::{
    CONFIGURE_MEM_SLOTS, GET_MAX_MEM_SLOTS, GET_QUEUE_NUM, GET_STATUS, MQ, MTU, PROTOCOL_FEATURES,
    RARP, REPLY_ACK, SET_STATUS, STATUS, Talk, ask, body, reply, send_asking,
};
use crate::support::messages::{
    GET_FEATURES, GET_PROTOCOL_FEATURES, NET_SET_MTU, SEND_RARP, SET_FEATURES, SET_MEM_TABLE,
    SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_NUM,
};
use crate::support::{ALICE, BROADCAST};

/// Mem slots that every back end has (VHOST_MEMORY_BASELINE_NREGIONS).
const BASELINE_SLOTS: u64 = 8;

/// A conversation in which these protocol features are agreed on.
fn agreed(back_end: &BackEnd, protocol_features: u64) -> Talk {
    let mut talk = back_end.talk();
    talk.send(SET_OWNER, &[], &[]);
    talk.send(GET_FEATURES, &[], &[]);
    talk.reply_u64();
    talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
    talk.reply_u64();
    talk.send_u64(SET_PROTOCOL_FEATURES, &[protocol_features], &[]);
    talk
}

/// A reply names the request, has version 1 in its lowest two bits of flags, and the reply bit.
#[test]
fn vhost_user_header_of_a_reply_has_the_request_version_1_and_the_reply_bit() {
    let back_end = BackEnd::start();
    let mut talk = back_end.talk();

    talk.send(GET_FEATURES, &[], &[]);
    let reply = reply(&mut talk).unwrap();

    assert_eq!(reply.request, GET_FEATURES);
    assert_eq!(reply.flags & 0b111, 0b101, "flags {:#x}", reply.flags);
    assert_eq!(reply.body.len(), 8);
}

/// A device offers VIRTIO_F_VERSION_1.
#[test]
fn virtio_6_1_version_1_is_offered() {
    let back_end = BackEnd::start();

    assert!(back_end.offers(Features::VERSION_1));
}

/// Protocol features are asked for and acknowledged before features are: only that the bit is on offer
/// matters.
#[test]
fn vhost_user_get_protocol_features_is_answered_before_set_features() {
    let Some(back_end) = with_protocol(0) else { return };
    let mut talk = back_end.talk();

    talk.send(GET_FEATURES, &[], &[]);
    let features = talk.reply_u64();
    talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
    let protocol_features = talk.reply_u64();
    talk.send_u64(SET_PROTOCOL_FEATURES, &[protocol_features], &[]);
    talk.send(GET_FEATURES, &[], &[]);

    assert_ne!(features & PROTOCOL_FEATURES, 0);
    assert_eq!(talk.reply_u64(), features, "what is offered stays");
}

/// With REPLY_ACK, a message that asks for it is acknowledged; zero says that it was carried out.
#[test]
fn vhost_user_reply_ack_is_zero_for_what_was_carried_out() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);
    let wanted = body(&[Features::VERSION_1.0 | PROTOCOL_FEATURES]);

    assert_eq!(ask(&mut talk, SET_FEATURES, &wanted, &[]), Some(0));
}

/// The same for a message with descriptors: the acknowledgement says that the memory is mapped.
#[test]
fn vhost_user_reply_ack_of_a_memory_table_is_zero() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);
    let memory = TestMemory::new(1 << 20);
    let base = TestMemory::GUEST_BASE;
    let table = body(&[1, base, 1 << 20, base + TestMemory::USER_OFFSET, 0]);

    assert_eq!(ask(&mut talk, SET_MEM_TABLE, &table, &[memory.file()]), Some(0));
}

/// An acknowledgement is a reply like any other: same request, reply bit, 64 bits.
#[test]
fn vhost_user_reply_ack_has_the_header_of_a_reply() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);

    send_asking(&talk, SET_OWNER, &[], &[]);
    let reply = reply(&mut talk).unwrap();

    assert_eq!((reply.request, reply.flags & 0b111), (SET_OWNER, 0b101));
    assert_eq!(reply.body.len(), 8);
}

/// What fails is not acknowledged with zero. Hanging up says so, too, if less kindly.
#[test]
fn vhost_user_reply_ack_is_not_zero_for_features_that_were_not_offered() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);
    talk.send(GET_FEATURES, &[], &[]);
    let not_offered = !talk.reply_u64();

    let answer = ask(&mut talk, SET_FEATURES, &body(&[not_offered]), &[]);

    assert_ne!(answer, Some(0));
}

/// The same for a ring that does not exist.
#[test]
fn vhost_user_reply_ack_is_not_zero_for_a_ring_that_does_not_exist() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);
    let state = [0x1_0000, 256].map(u32::to_le_bytes).concat();

    let answer = ask(&mut talk, SET_VRING_NUM, &state, &[]);

    assert_ne!(answer, Some(0));
}

/// The same for a size that no split ring has: it is a power of two (VIRTIO 1.2, 2.7).
#[test]
fn virtio_2_7_split_ring_whose_size_is_no_power_of_two_is_not_acknowledged() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);
    talk.send_u64(SET_FEATURES, &[Features::VERSION_1.0 | PROTOCOL_FEATURES], &[]);
    let state = [0, 100].map(u32::to_le_bytes).concat();

    let answer = ask(&mut talk, SET_VRING_NUM, &state, &[]);

    assert_ne!(answer, Some(0));
}

/// A message that has a reply anyway gets that one alone.
#[test]
fn vhost_user_reply_ack_adds_nothing_to_a_message_that_has_a_reply() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);

    send_asking(&talk, GET_FEATURES, &[], &[]);
    talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
    let replies = [reply(&mut talk).unwrap(), reply(&mut talk).unwrap()];

    assert_eq!(replies.map(|reply| reply.request), [GET_FEATURES, GET_PROTOCOL_FEATURES]);
}

/// A request that the back end does not know fails, or ends the session; the port takes the next
/// front end.
#[test]
fn vhost_user_unknown_request_fails_and_does_no_harm() {
    let Some(back_end) = with_protocol(REPLY_ACK) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK);

    let answer = ask(&mut talk, 200, &body(&[0]), &[]);
    drop(talk);

    assert_ne!(answer, Some(0));
    assert!(back_end.pair(PLAIN).is_some());
}

/// With MQ the front end may ask how many queue pairs there are, which is at least one.
#[test]
fn vhost_user_get_queue_num_is_at_least_one_pair() {
    let Some(back_end) = with_protocol(MQ) else { return };
    let mut talk = agreed(&back_end, MQ);

    talk.send(GET_QUEUE_NUM, &[], &[]);

    assert!((1..=0x8000).contains(&talk.reply_u64()));
}

/// With CONFIGURE_MEM_SLOTS the back end says how many slots it has: no fewer than a table may have
/// regions without.
#[test]
fn vhost_user_get_max_mem_slots_is_no_less_than_the_baseline() {
    let Some(back_end) = with_protocol(CONFIGURE_MEM_SLOTS) else { return };
    let mut talk = agreed(&back_end, CONFIGURE_MEM_SLOTS);

    talk.send(GET_MAX_MEM_SLOTS, &[], &[]);

    assert!(talk.reply_u64() >= BASELINE_SLOTS);
}

/// With STATUS the back end keeps the device status for the front end.
#[test]
fn vhost_user_get_status_is_what_set_status_said() {
    const ACKNOWLEDGE_AND_DRIVER: u64 = 3;
    let Some(back_end) = with_protocol(STATUS) else { return };
    let mut talk = agreed(&back_end, STATUS);

    talk.send_u64(SET_STATUS, &[ACKNOWLEDGE_AND_DRIVER], &[]);
    talk.send(GET_STATUS, &[], &[]);

    assert_eq!(talk.reply_u64(), ACKNOWLEDGE_AND_DRIVER);
}

/// With MTU and REPLY_ACK an MTU that the back end can serve is acknowledged with zero.
#[test]
fn vhost_user_net_set_mtu_is_acknowledged() {
    let Some(back_end) = with_protocol(REPLY_ACK | MTU) else { return };
    let mut talk = agreed(&back_end, REPLY_ACK | MTU);
    let features = Features::VERSION_1.0 | Features::NET_MTU.0 | PROTOCOL_FEATURES;
    talk.send_u64(SET_FEATURES, &[features], &[]);

    assert_eq!(ask(&mut talk, NET_SET_MTU, &body(&[1_500]), &[]), Some(0));
}

/// With RARP a front end may ask that its guest be announced after it has moved: everybody gets a RARP
/// frame from the address in the message's first six bytes.
#[test]
fn vhost_user_send_rarp_announces_the_guest_to_everybody() {
    let Some(back_end) = with_protocol(RARP) else { return };
    let Some((alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.talk.send(SEND_RARP, &[&ALICE[..], &[0, 0]].concat(), &[]);
    let frame = bob.receive().frame;

    assert_eq!((&frame[..6], &frame[6..12]), (&BROADCAST[..], &ALICE[..]));
    assert_eq!(frame[12..14], [0x80, 0x35]);
}
