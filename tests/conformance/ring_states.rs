//! When a ring is stopped, started, disabled and enabled (vhost-user: Ring states).

use crate::back_end::{BackEnd, await_path};
use crate::guest::{PLAIN, Plan, RECEIVEQ, TRANSMITQ, assert_forwards, to_bob};

/// A ring is stopped until its kick has come, whatever else is known of it.
#[test]
fn vhost_user_ring_states_ring_is_stopped_until_it_is_kicked() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let base = alice.stop(TRANSMITQ);
    alice.describe_ring(TRANSMITQ, base);
    alice.synchronise();

    alice.put(&to_bob(1));
    // By the descriptor of before, which the back end has no more.
    alice.transmitq().kick();
    assert!(alice.is_not_served());
    assert!(bob.stays_silent());
    alice.send_kick(TRANSMITQ);

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// A started ring that is disabled is processed without effect: what is sent is discarded.
#[test]
fn vhost_user_ring_states_started_but_disabled_transmitq_is_processed_without_effect() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.enable(TRANSMITQ, false);
    alice.synchronise();
    alice.send(&to_bob(1));
    alice.await_sent();

    assert!(bob.stays_silent());
}

/// A disabled receiveq gets no frames.
#[test]
fn vhost_user_ring_states_started_but_disabled_receiveq_gets_no_frames() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    bob.enable(RECEIVEQ, false);
    bob.synchronise();
    alice.send(&to_bob(1));
    alice.await_sent();

    assert!(bob.stays_silent());
}

/// A ring that is enabled again goes on: rings are enabled and disabled while they run.
#[test]
fn vhost_user_ring_states_ring_that_is_enabled_again_goes_on() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    for ring in [RECEIVEQ, TRANSMITQ] {
        alice.enable(ring, false);
        alice.synchronise();
        alice.enable(ring, true);
        alice.synchronise();
    }

    await_path(&mut alice, &mut bob);
    await_path(&mut bob, &mut alice);
}

/// If the front end has acknowledged that there are protocol features, a ring is disabled until
/// SET_VRING_ENABLE.
#[test]
fn vhost_user_ring_states_with_protocol_features_rings_start_disabled() {
    let back_end = BackEnd::start();
    let mut alice = back_end.alice(Plan { enables: false, ..PLAIN });
    let mut bob = back_end.bob(PLAIN);

    alice.send(&to_bob(1));
    assert!(bob.stays_silent());
    alice.enable(RECEIVEQ, true);
    alice.enable(TRANSMITQ, true);
    alice.synchronise();

    await_path(&mut alice, &mut bob);
}

/// If it has not, a ring starts enabled.
#[test]
fn vhost_user_ring_states_without_protocol_features_rings_start_enabled() {
    let back_end = BackEnd::start();
    let old = Plan { has_protocol: false, ..PLAIN };

    let Some((mut alice, mut bob)) = back_end.pair(old) else { return };

    assert_forwards(&mut alice, &mut bob, 1);
}

/// A front end that has gone may come back, or another in its place: everything begins anew.
#[test]
fn vhost_user_communication_port_takes_the_next_front_end() {
    let back_end = BackEnd::start();
    for number in 0..3 {
        let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
        assert_forwards(&mut alice, &mut bob, number);
    }
}
