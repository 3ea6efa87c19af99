//! A ring's eventfds (vhost-user: VHOST_USER_SET_VRING_KICK, _CALL, _ERR).

use std::os::fd::AsFd;

use crate::back_end::{BackEnd, await_path};
use crate::driver::event;
use crate::guest::{PLAIN, RECEIVEQ, TRANSMITQ, assert_forwards, to_bob};
use crate::protocol::NO_DESCRIPTOR;
use crate::support::messages::{SET_VRING_CALL, SET_VRING_ERR, SET_VRING_KICK};
use crate::support::wait_for;

/// The ring's number with bit 8 set says that no kick will come: the back end polls.
#[test]
fn vhost_user_set_vring_kick_without_descriptor_means_polling() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let base = alice.stop(TRANSMITQ);
    alice.describe_ring(TRANSMITQ, base);

    alice.talk.send_u64(SET_VRING_KICK, &[u64::from(TRANSMITQ) | NO_DESCRIPTOR], &[]);
    alice.synchronise();
    alice.put(&to_bob(1));

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// The same for the call descriptor says that the driver polls: it is served all the same.
#[test]
fn vhost_user_set_vring_call_without_descriptor_serves_a_driver_that_polls() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    bob.talk.send_u64(SET_VRING_CALL, &[u64::from(RECEIVEQ) | NO_DESCRIPTOR], &[]);
    bob.synchronise();
    bob.receiveq().was_called();
    assert_forwards(&mut alice, &mut bob, 1);

    assert!(!bob.receiveq().was_called(), "the descriptor that it had is not used any more");
}

/// The call descriptor is signalled when buffers were used.
#[test]
fn vhost_user_set_vring_call_is_signalled_when_buffers_are_used() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    bob.receiveq().was_called();

    assert_forwards(&mut alice, &mut bob, 1);

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// Descriptors may be replaced while the ring runs: from then on the new one is signalled.
#[test]
fn vhost_user_set_vring_call_is_replaced_while_the_ring_runs() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    let former = std::mem::replace(&mut bob.receiveq().call, event());
    bob.talk.send_u64(SET_VRING_CALL, &[RECEIVEQ.into()], &[bob.rings[0].call.as_fd()]);
    bob.synchronise();
    let _ = rustix::io::read(&former, &mut [0; 8]);
    assert_forwards(&mut alice, &mut bob, 1);

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
    assert!(rustix::io::read(&former, &mut [0; 8]).is_err(), "the former one is silent");
}

/// The kick descriptor may be replaced, too.
#[test]
fn vhost_user_set_vring_kick_is_replaced_while_the_ring_runs() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.transmitq().kick = event();
    alice.send_kick(TRANSMITQ);
    alice.synchronise();

    await_path(&mut alice, &mut bob);
}

/// The err descriptor is signalled when the ring is broken: here, more chains are available than it is
/// long.
#[test]
fn vhost_user_set_vring_err_is_signalled_when_the_ring_is_broken() {
    let back_end = BackEnd::start();
    let Some((mut alice, _bob)) = back_end.pair(PLAIN) else { return };
    let err = event();
    alice.talk.send_u64(SET_VRING_ERR, &[TRANSMITQ.into()], &[err.as_fd()]);
    alice.synchronise();

    let beyond = alice.transmitq().driver.used_index().wrapping_add(PLAIN.entries + 1);
    alice.transmitq().driver.set_available_index(beyond);
    alice.transmitq().kick();

    wait_for("word of the broken ring", || rustix::io::read(&err, &mut [0; 8]).ok());
}
