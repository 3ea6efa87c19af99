//! The device's side of virtio-net's virtqueues, over raw guest memory.
//!
//! A driver makes chains of descriptors available and gets them back: in a split ring through one
//! ring for each way (VIRTIO 1.2, 2.7), in a packed ring through one for both (2.8).
//! [`TransmitQueue`] is where a guest's frames come in, [`ReceiveQueue`] where
//! they go out to it; both are worked by one poll thread, in bursts, without allocation, system
//! call or lock. Kicks and calls are events between processes and belong to the caller.
//!
//! ```text
//!   avail_idx ─▶ ┌───────────────┐   descriptors copied    ┌─────────────┐
//!   (driver)     │ available ring│──▶ into locals, then ──▶│ extents in  │──▶ frame::Burst
//!                └───────────────┘   checked               │ GuestRegion │◀── frame::Outgoing
//!   used_idx  ◀─ ┌───────────────┐                         └─────────────┘
//!   (we)         │ used ring     │◀── heads, in the order they were taken
//!                └───────────────┘
//! ```
//!
//! The picture shows a split ring. What a queue does is the same over a packed one; how its memory is
//! read and written is each kind's own (`vring/split.rs`, `vring/packed.rs`).
//!
//! Everything in guest memory may change while we look. So ring fields are read by single atomic
//! loads, descriptors are copied before they are checked, a frame's first bytes are copied once
//! and only the copy is parsed, and no Rust reference into guest memory outlives one load or
//! store. What a driver does wrong ends in a [`QueueFault`] on its own queue.
//!
//! What a guest leaves to be done to its frames, and what may be left to it, is in [`offload`]: pure
//! logic over private headers. A transmitq notes it in the frames that it takes, a receiveq passes on
//! what its driver takes over; what is to be done in between is the data path's.
//!
//! What a driver orders on its control queue is in [`control`].
//!
//! A [`MemoryMap`] is immutable; when the front end changes a guest's memory, queues are stopped
//! and made anew with the next map. While the guest is migrated, what queues write is noted in its
//! [`DirtyLog`]. A region's file may be truncated while we use it:
//! [`install_sigbus_guard`] turns that into a fault of the queues concerned.

#![deny(unsafe_code)]

mod chain;
pub mod control;
mod dirty_log;
mod fault;
mod features;
mod first_bytes;
#[cfg(test)]
mod hostile_tests;
mod memory;
mod notification;
#[cfg(test)]
mod notification_tests;
pub mod offload;
mod queues;
mod receive;
mod region;
mod setup;
mod sigbus;
mod signal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod transmit;
mod vring;

pub use dirty_log::{DirtyLog, VringLog};
pub use fault::{GuestAddress, QueueFault};
pub use features::Features;
pub use memory::{MAX_REGIONS, MemoryError, MemoryMap};
pub use notification::needs_notification;
pub use queues::{ControlQueue, ReceiveQueue, TransmitQueue};
pub use receive::Refusal;
pub use region::GuestRegion;
pub use setup::{InvalidQueueSize, QueueSize, RingPart, SetupError, VringAddresses, VringSetup};
pub use sigbus::install_sigbus_guard;
