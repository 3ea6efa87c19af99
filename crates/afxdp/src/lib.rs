//! AF_XDP uplinks: network interfaces whose frames reach this process without the kernel's
//! network stack in between.
//!
//! [`Interface::open`] checks that an interface may be taken, attaches an XDP program that sends
//! every frame to a socket, and returns one [`XdpQueue`] for each of its receive queues. The queues
//! go to the poll threads; the `Interface` stays with the control plane and puts everything back
//! when it is dropped.
//!
//! ```text
//!            chunk addresses                          descriptors
//!   XdpQueue ──── fill ring ───▶ kernel, NIC ──── rx ring ───────▶ XdpQueue::receive
//!            ◀─ completion ring ─             ◀── tx ring ──────── XdpQueue::send
//!                                   │
//!                            UMEM: chunks of 4,096 bytes
//! ```
//!
//! Rx and tx are the interface's words and used only in this crate: rx is ingress, tx is egress.
//! The kernel's interface is linux/if_xdp.h and Documentation/networking/af_xdp.rst. `unsafe` lives
//! in `sys`, `ioctl`, `program`, `rings` and `umem` alone.

#![deny(unsafe_code)]

mod error;
mod interface;
mod ioctl;
mod occupancy;
mod offloads;
mod program;
mod queue;
mod rings;
mod socket;
mod sys;
mod umem;

pub use error::SocketError;
pub use interface::{Interface, LinkStatistics, Mode, Settings, ZeroCopy};
pub use queue::{XdpQueue, XdpStatistics};
pub use umem::UmemPool;
