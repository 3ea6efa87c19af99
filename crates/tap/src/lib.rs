//! Taps: the host's own foot in the switch. What the host sends by such an interface comes in
//! here, and what is sent here the host receives by it.
//!
//! [`Tap::open`] makes an interface or attaches to one that is there, and returns one [`TapQueue`]
//! for each of its queues. The queues go to the poll threads; the `Tap` stays with the control
//! plane.
//!
//! ```text
//!                  host's network stack
//!             ───────── tap interface ─────────
//!               │ read(2)                  ▲ writev(2)
//!               ▼                          │
//!     private buffer ─▶ burst        net header, head, segments where they lie
//!       └── complete ◀──┘            or a private buffer, where they were completed
//! ```
//!
//! Every frame has a net header in front (VIRTIO 1.2, 5.1.6), by which the host leaves checksums
//! and cutting to us and we to it: both sides send large frames of up to 64 KiB, so that one system
//! call moves many segments. What they may leave to each other is in [`Tap::sender`] and
//! [`Tap::receiver`].
//!
//! The interface is the kernel's, Documentation/networking/tuntap.rst and linux/if_tun.h. What
//! belongs to it goes when its last queue is dropped, unless it was made persistent
//! (`ip tuntap add`). `unsafe` lives in `ioctl` and `buffers` alone.

#![deny(unsafe_code)]

mod buffers;
mod error;
mod interface;
mod ioctl;
mod offloads;
mod queue;

pub use error::TapError;
pub use interface::Tap;
pub use queue::TapQueue;
