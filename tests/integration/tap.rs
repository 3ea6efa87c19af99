//! Tap ports: the host is one more station, and its foot in the switch an interface of its own.
//!
//! The host is the network namespace that the switch runs in. Frames are put on its interface, and
//! looked at, through packet sockets, or its stack speaks TCP.

mod deletion;
mod frames;
mod lifetime;
mod offloads;
mod pace;
mod refusals;
mod reports;
mod streams;

use serde_json::Value;

use crate::offloads::assert_accounted;
use crate::support::front_end::{FrontEnd, Manner};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::{Switch, guests};
use crate::support::wire::Wire;

/// The host's interface.
const TAP: &str = "tap0";

/// The command that adds its port.
const ADD: [&str; 6] = ["port", "add", "host", "tap", "--interface", TAP];

/// A tap's port in a configuration; keys of its own may follow.
const PORT: &str = "[[port]]\nname = 'host'\ntype = 'tap'\ninterface = 'tap0'\n";

/// Poll threads and queues of the tap: frames cross to another thread by different ways.
const SHAPES: [(&str, u16); 3] = [("[0]", 1), ("[0, 1]", 1), ("[0, 1]", 2)];

/// A namespace that sends nothing of its own accord.
fn host() -> Wire {
    let host = Wire::new();
    host.keep_quiet();
    host
}

/// A guest, Alice's, and the host.
struct Lab {
    alice: FrontEnd,
    socket: PacketSocket,
    switch: Switch,
    // The namespace goes last.
    _host: Wire,
}

impl Lab {
    fn new((cores, queues): (&str, u16), keys: &str, manner: Manner) -> Self {
        let host = host();
        let config = format!(
            "[threads]\ncores = {cores}\n{}{PORT}queues = {queues}\n{keys}",
            guests(&["alice"])
        );
        let switch = Switch::in_namespace(Some(&host.namespace), &config);
        let alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), manner);
        let socket = host.socket_on(TAP);
        Self { alice, socket, switch, _host: host }
    }
}

/// A JSON answer of the command line.
fn json(switch: &Switch, command: &[&str]) -> Value {
    serde_json::from_str(&switch.run(&[command, &["--json"]].concat())).unwrap()
}

/// Nothing vanishes at any of these ports.
fn assert_all_accounted(switch: &Switch, ports: &[&str]) {
    for port in ports {
        assert_accounted(switch, port);
    }
}
