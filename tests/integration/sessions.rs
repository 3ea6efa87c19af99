//! Where a session ends: what a front end may rely on when it sees its socket closed.

use std::time::Duration;

use crate::support::front_end::{FrontEnd, MODERN, RING_ENTRIES};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, frame};

const SESSIONS: usize = 100;

#[test]
fn rings_stand_still_when_the_socket_is_closed() {
    let switch = Switch::with_config(&guests(&["alice"]));
    let socket = switch.path("alice.sock");
    let mut alice = FrontEnd::plug_in_as(&socket, MODERN);

    for session in 0..SESSIONS {
        alice.begin_to_vanish();
        while !alice.is_vanished() {
            if alice.in_flight_on(0) < RING_ENTRIES {
                alice.send(&frame(BOB, ALICE, &[1; 46]));
            }
        }
        let given_back = alice.given_back_on(0);
        (alice.in_flight_on(0)..RING_ENTRIES)
            .for_each(|_| alice.send(&frame(BOB, ALICE, &[1; 46])));
        std::thread::sleep(Duration::from_micros(300));

        assert_eq!(alice.given_back_on(0), given_back, "in session {session}");
        alice.boot(&socket);
    }
}
