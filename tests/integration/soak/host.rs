//! The host, which has a tap: one more station, whose port comes and goes as guests' ports do.

use std::time::Duration;

use serde_json::json;

use super::guest::Time;
use super::traffic::{HOST, Label, WIRE, address};
use super::world::World;
use crate::support::packet_socket::PacketSocket;
use crate::support::wire::Wire;

/// Its interface, which outlives switches and the port.
const TAP: &str = "soaktap";

/// Frames that use every buffer that a tap is read into, in so many goes: its queue in the kernel is
/// shorter than all.
const WARMING_FRAMES: usize = 512;
const WARMINGS: usize = 3;

/// The host's foot in the switch.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) socket: PacketSocket,
    pub(super) sent: u64,
    /// It has no port until this step.
    pub(super) until: Option<u64>,
}

impl Host {
    /// Its port in a configuration. With one queue, the kernel keeps frames of a flow in order.
    pub(super) const PORT: &'static str =
        "[[port]]\nname = 'host'\ntype = 'tap'\ninterface = 'soaktap'\n";

    /// Makes the tap.
    pub(super) fn new(wire: &Wire) -> Self {
        wire.keep_quiet();
        wire.ip(&["tuntap", "add", "dev", TAP, "mode", "tap", "multi_queue", "vnet_hdr"]);
        wire.set_up(TAP);
        let socket = wire.socket_on(TAP);
        socket.prepare_for_tags();
        Self { socket, sent: 0, until: None }
    }

    /// Has a switch that has just begun use all the memory that it uses for the tap, so that it is not
    /// taken for a leak later.
    pub(super) fn warm_up(&mut self, time: Time) {
        let Time { epoch, kills, ms, .. } = time;
        for _ in 0..WARMINGS {
            for _ in 0..WARMING_FRAMES {
                self.sent += 1;
                let number = self.sent;
                let label = Label { guest: HOST, pair: 0, vlan: 1, epoch, kills, number, ms };
                self.socket.try_send(&label.frame(address(WIRE, 0), 1_000));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl World {
    /// The host's port is removed until a step.
    pub(super) fn remove_host(&mut self, until: u64) {
        if self.host.until.is_none() {
            self.story.tell("the port of the host is removed");
            self.ask("port.remove", &json!({ "name": "host" }));
            self.host.until = Some(until);
        }
    }

    /// It is added again.
    pub(super) fn add_host(&mut self) {
        self.story.tell("the port of the host is added");
        self.ask("port.add", &json!({ "name": "host", "type": "tap", "interface": TAP }));
        self.host.until = None;
    }
}
