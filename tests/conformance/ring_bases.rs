//! Where a ring stopped and where it starts (vhost-user: VHOST_USER_GET_VRING_BASE and
//! VHOST_USER_SET_VRING_BASE; Vring descriptor indices).

use virtio::Features;

use crate::back_end::{BackEnd, await_path};
use crate::driver::Ring;
use crate::guest::{PLAIN, Plan, RECEIVEQ, TRANSMITQ, assert_forwards, to_bob};
use crate::support::messages::{
    GET_VRING_BASE, SET_FEATURES, SET_OWNER, SET_VRING_BASE, SET_VRING_NUM,
};

const PACKED: Plan = PLAIN.with(Features::RING_PACKED);

/// GET_VRING_BASE stops the ring: nothing is taken from it any more, kicked or not.
#[test]
fn vhost_user_get_vring_base_stops_the_ring() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.stop(TRANSMITQ);
    alice.send(&to_bob(1));
    alice.transmitq().kick();

    assert!(alice.is_not_served());
    assert!(bob.stays_silent());
}

/// It stops that ring: the guest's other one goes on.
#[test]
fn vhost_user_get_vring_base_stops_no_other_ring() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.stop(RECEIVEQ);

    assert_forwards(&mut alice, &mut bob, 1);
}

/// Of a split ring it says which entry of the available ring would have been next.
#[test]
fn vhost_user_get_vring_base_of_a_split_ring_is_the_next_available_index() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    for number in 0..5 {
        assert_forwards(&mut alice, &mut bob, number);
    }
    alice.await_sent();

    let base = alice.stop(TRANSMITQ);

    assert_eq!(base, u32::from(alice.transmitq().word(1, 2)), "the index in the available ring");
}

/// Of a packed ring it says where the next available and used descriptors are, with wrap counters.
#[test]
fn vhost_user_get_vring_base_of_a_packed_ring_is_both_places_and_wrap_counters() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PACKED) else { return };
    for number in 0..200 {
        assert_forwards(&mut alice, &mut bob, number);
    }
    alice.await_sent();

    let base = alice.stop(TRANSMITQ);

    assert_eq!(base, alice.transmitq().driver.base());
}

/// Stops rings together, as front ends do when the guest stops, or one, and starts them again.
fn restarts(plan: Plan, rings: &[u16]) {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(plan) else { return };

    for number in 0..3 {
        let bases: Vec<_> = rings.iter().map(|&ring| (ring, alice.stop(ring))).collect();
        for (ring, base) in bases {
            alice.start(ring, base);
            alice.enable(ring, true);
        }
        alice.synchronise();
        await_path(&mut alice, &mut bob);
        await_path(&mut bob, &mut alice);
        assert_forwards(&mut alice, &mut bob, number);
    }
}

/// A ring starts where SET_VRING_BASE says: with what GET_VRING_BASE said, nothing is lost or repeated.
#[test]
fn vhost_user_set_vring_base_split_transmitq_goes_on_where_it_stopped() {
    restarts(PLAIN, &[TRANSMITQ]);
}

/// The same for the other ring.
#[test]
fn vhost_user_set_vring_base_split_receiveq_goes_on_where_it_stopped() {
    restarts(PLAIN, &[RECEIVEQ]);
}

/// The same for a packed ring.
#[test]
fn vhost_user_set_vring_base_packed_transmitq_goes_on_where_it_stopped() {
    restarts(PACKED, &[TRANSMITQ]);
}

/// And for the other one.
#[test]
fn vhost_user_set_vring_base_packed_receiveq_goes_on_where_it_stopped() {
    restarts(PACKED, &[RECEIVEQ]);
}

/// The same for both at once.
#[test]
fn vhost_user_set_vring_base_all_split_rings_go_on_where_they_stopped() {
    restarts(PLAIN, &[RECEIVEQ, TRANSMITQ]);
}

/// And for both packed ones.
#[test]
fn vhost_user_set_vring_base_all_packed_rings_go_on_where_they_stopped() {
    restarts(PACKED, &[RECEIVEQ, TRANSMITQ]);
}

/// What was made available while a ring was stopped is served once it is started again.
#[test]
fn vhost_user_set_vring_base_what_waited_in_a_stopped_ring_is_served() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    let base = alice.stop(TRANSMITQ);
    (1..=3).for_each(|number| alice.put(&to_bob(number)));
    alice.start(TRANSMITQ, base);
    alice.enable(TRANSMITQ, true);

    for number in 1..=3 {
        assert_eq!(bob.receive().frame, to_bob(number));
    }
}

/// A ring that was never worked starts from 0 if it is split; if it is packed, from place 0 with both
/// wrap counters at 1.
#[test]
fn vhost_user_set_vring_base_of_a_new_packed_ring_has_wrap_counters_of_one() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PACKED) else { return };

    assert_eq!(Ring::initial_base(PACKED.features), 0x8000_8000);
    assert_forwards(&mut alice, &mut bob, 1);
}

/// A ring that has been given a base and was never kicked stands at that base.
#[test]
fn vhost_user_get_vring_base_of_a_ring_that_never_ran_is_what_was_set() {
    let back_end = BackEnd::start();
    let mut talk = back_end.talk();
    talk.send(SET_OWNER, &[], &[]);
    talk.send_u64(SET_FEATURES, &[Features::VERSION_1.0], &[]);
    talk.send_vring(SET_VRING_NUM, RECEIVEQ.into(), 256);
    talk.send_vring(SET_VRING_BASE, RECEIVEQ.into(), 77);

    talk.send_vring(GET_VRING_BASE, RECEIVEQ.into(), 0);

    assert_eq!(talk.reply()[4..], 77u32.to_le_bytes());
}
