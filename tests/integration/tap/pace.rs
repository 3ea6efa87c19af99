//! A guest that sends to the host faster than the host takes: it waits, loses nothing, and nobody
//! else waits for it.

use std::time::Instant;

use super::{PORT, SHAPES, assert_accounted, host};
use crate::support::flow::{Flow, TCP4};
use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::stream::Stream;
use crate::support::switch::{Switch, guests};
use crate::support::{BOB, BROADCAST, CAROL, PATIENCE, frame, wait_for};

/// The host's address.
const HOST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0xee];

#[test]
fn guest_that_sends_faster_than_the_host_takes_loses_nothing_and_disturbs_nobody() {
    SHAPES.iter().for_each(|&shape| flood(shape));
}

fn flood((cores, queues): (&str, u16)) {
    const LEAST_FRAMES: u64 = 20_000;
    const LEAST_STREAMED: u64 = 2_000;
    let host = host();
    let ports = guests(&["alice", "bob", "carol"]);
    let config = format!("[threads]\ncores = {cores}\n{ports}{PORT}queues = {queues}\n");
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    switch.run(&["fdb", "add", "52:54:00:00:00:ee", "--vlan", "1", "--port", "host"]);
    let plug_in = |name| FrontEnd::plug_in(&switch.path(name));
    let mut carol = plug_in("carol.sock");
    let stream = Stream::start(plug_in("alice.sock"), plug_in("bob.sock"));
    let flow = Flow { to: HOST, from: CAROL, ..TCP4 };

    let begun = wait_for("the stream", || Some(stream.received()).filter(|&count| count > 0));
    let start = Instant::now();
    let mut sent = 0;
    // It goes on until the others have, too.
    while sent < LEAST_FRAMES || stream.received() < begun + LEAST_STREAMED {
        // Of several flows, so that they go by all queues.
        let flow = Flow { port: u16::try_from(sent % 16).unwrap(), ..flow };
        carol.send(&flow.ready(&[7; 1_000]));
        // What the stream floods.
        while carol.try_receive().is_some() {}
        sent += 1;
        assert!(start.elapsed() < PATIENCE, "{} frames of the stream came", stream.received());
    }
    carol.await_sent();
    let flooded = stream.finish().div_ceil(16);

    let taken = |switch: &Switch| switch.counter("host", "frames_out");
    // Carol's, and what the stream floods; Bob's first frame may be flooded, too.
    wait_for("all frames", || (taken(&switch) >= sent + flooded).then_some(()));
    let counted = assert_accounted(&switch, "host");
    assert_eq!(counted["drops_out"], 0, "{counted}");
    assert_eq!(assert_accounted(&switch, "carol")["drops_in"], 0);
}

#[test]
fn burst_of_a_short_ring_is_taken_in_parts_that_may_be_lent() {
    let host = host();
    let config = format!("{}{PORT}", guests(&["alice"]));
    let switch = Switch::in_namespace(Some(&host.namespace), &config);
    switch.run(&["fdb", "add", "52:54:00:00:00:ee", "--vlan", "1", "--port", "host"]);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));

    for _ in 0..20 {
        // A whole ring at once: a quarter of it may be lent.
        switch.pause();
        (0..128).for_each(|_| alice.send(&frame(HOST, BOB, &[7; 100])));
        switch.resume();
        alice.await_sent();
    }

    let counted = assert_accounted(&switch, "host");
    assert_eq!(counted["frames_out"], 20 * 128, "{counted}");
}

#[test]
fn many_guests_that_send_at_once_lose_nothing() {
    const GUESTS: u8 = 24;
    let host = host();
    let names: Vec<String> = (0..GUESTS).map(|number| format!("vm{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let switch = Switch::in_namespace(Some(&host.namespace), &format!("{}{PORT}", guests(&names)));
    switch.run(&["fdb", "add", "52:54:00:00:00:ee", "--vlan", "1", "--port", "host"]);
    let manner = Manner { buffer_bytes: 256, ..MODERN };
    let mut guests: Vec<FrontEnd> = names
        .iter()
        .map(|name| FrontEnd::plug_in_as(&switch.path(&format!("{name}.sock")), manner))
        .collect();

    for _ in 0..5 {
        switch.pause();
        for (number, guest) in (0..).zip(&mut guests) {
            (0..127).for_each(|_| guest.send(&frame(HOST, [2, 0, 0, 0, 2, number], &[7; 100])));
            guest.send(&frame(BROADCAST, [2, 0, 0, 0, 2, number], &[8; 100]));
        }
        switch.resume();
        guests.iter_mut().for_each(FrontEnd::await_sent);
    }

    for name in names {
        assert_eq!(assert_accounted(&switch, name)["drops_in"], 0);
    }
    let counted = assert_accounted(&switch, "host");
    assert_eq!(counted["drops"]["handover_full"], serde_json::Value::Null, "{counted}");
}
