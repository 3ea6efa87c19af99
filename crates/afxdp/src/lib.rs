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
//! Interfaces share a UMEM (a [`UmemPool`] hands it out), so that a frame from one to another is
//! not copied: its chunk changes hands ([`XdpQueue::forward`]).
//!
//! Another process can go on with an uplink, see `hand_over.rs`.
//!
//! Rx and tx are the interface's words and used only in this crate: rx is ingress, tx is egress.
//! The kernel's interface is linux/if_xdp.h and Documentation/networking/af_xdp.rst. `unsafe` lives
//! in `sys`, `ioctl`, `program`, `rings` and `umem` alone.

#![deny(unsafe_code)]

mod chunks;
mod error;
mod hand_over;
mod interface;
mod ioctl;
mod netdev;
mod occupancy;
mod offloads;
mod pool;
mod program;
mod queue;
mod rings;
mod socket;
mod statistics;
mod sys;
mod umem;

pub use chunks::Chunk;
pub use error::SocketError;
pub use hand_over::{
    AdoptedQueue, ChunkCount, InterfaceDescriptors, InterfaceState, QueueState, UmemState,
};
pub use interface::{Checksums, Interface, Mode, Settings, ZeroCopy};
pub use pool::UmemPool;
pub use queue::{LARGE_NET_HEADER_BYTES, XdpQueue};
pub use statistics::{LinkStatistics, XdpStatistics};
