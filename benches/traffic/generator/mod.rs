//! The load generator: guests of this process, without a hypervisor.
//!
//! A guest is a vhost-user front end (`guest.rs`) with its memory (`memory.rs`) and the driver's
//! side of its rings (`ring.rs`). A stream (`stream.rs`) is one direction of traffic between two
//! of them: it writes numbered frames, and looks at the number and length of each that arrives
//! and at every byte of one in 256. Frames that did not arrive intact are not counted as
//! forwarded. One thread drives all guests, so that a system under test has the other core to
//! itself.
//!
//! How fast all this is without a switch shows `null.rs`, which hands descriptors over uncopied;
//! what a switch that makes one copy can reach at most shows `copying.rs`.

mod clock;
mod copying;
mod counted;
mod guest;
mod memory;
mod null;
mod ring;
mod stream;

pub(crate) use clock::{ticks, ticks_per_second};
pub(crate) use copying::memcpy_mpps;
pub(crate) use counted::Counted;
pub(crate) use guest::{Guest, Manner};
pub(crate) use null::Null;
pub(crate) use stream::{Checks, Stations, Stream};
