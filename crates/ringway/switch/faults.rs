//! Rings that their guests broke: what a poll thread tells, the log says, and `port show` shows.
//!
//! A ring is told of once each time that it was started. A guest can have it started as often as
//! it likes, so the log is bounded ([`PortLog`]); the last fault is kept whether it was logged or
//! not.

use std::fmt;
use std::time::Instant;

use datapath::Event;
use log::Level;
use virtio::QueueFault;

use super::{Behind, Switch};
use crate::port_log::PortLog;

/// A ring's place among those of its port (VIRTIO 1.2, 5.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RingName {
    /// One of a queue pair.
    OfPair(u16),
    Control,
}

impl fmt::Display for RingName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::OfPair(ring) => {
                let kind = if ring.is_multiple_of(2) { "receiveq" } else { "transmitq" };
                write!(formatter, "{kind} {}", ring / 2)
            }
            Self::Control => formatter.write_str("control queue"),
        }
    }
}

/// What a guest did, and when.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) ring: RingName,
    pub(crate) cause: QueueFault,
    pub(crate) at: Instant,
}

/// The faults of one port. How many there were is counted where the rings are worked.
#[derive(Debug)]
pub(crate) struct Faults {
    log: PortLog,
    pub(crate) last: Option<Fault>,
    /// How many the control queue had.
    pub(crate) of_control: u64,
}

impl Faults {
    /// No fault yet of the port of this name.
    pub(super) fn new(port: &str) -> Self {
        Self { log: PortLog::new(port), last: None, of_control: 0 }
    }

    pub(super) fn take(&mut self, ring: RingName, cause: QueueFault) {
        let line = format_args!("{ring} stopped, its guest broke the rules: {cause}");
        self.log.write(Level::Warn, line);
        self.of_control += u64::from(ring == RingName::Control);
        self.last = Some(Fault { ring, cause, at: Instant::now() });
    }
}

impl Switch {
    /// Takes note of what the poll threads have told.
    pub(crate) fn take_events(&mut self) {
        for event in self.datapath.take_events() {
            let (Event::QueueFault { port: id, .. } | Event::InterfaceGone { port: id }) = event;
            let Some(port) = self.ports.values_mut().find(|port| port.id == id) else { continue };
            match (event, &mut port.behind) {
                (Event::QueueFault { vring, fault, .. }, behind) => {
                    if let Behind::Guest(guest) = behind {
                        guest.guest.break_ring(vring);
                    }
                    port.faults.take(RingName::OfPair(vring), fault);
                }
                (Event::InterfaceGone { .. }, Behind::Tap(tap)) if !tap.is_gone => {
                    tap.is_gone = true;
                    let (name, interface) = (&port.spec.name, tap.tap.name());
                    log::warn!(
                        "port {name}: down, somebody removed the tap {interface}; remove the port \
                         and add it again to make a new one"
                    );
                }
                (Event::InterfaceGone { .. }, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_is_named_by_its_kind_and_pair() {
        assert_eq!(RingName::OfPair(0).to_string(), "receiveq 0");
        assert_eq!(RingName::OfPair(5).to_string(), "transmitq 2");
    }
}
