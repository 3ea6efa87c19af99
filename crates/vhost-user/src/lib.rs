//! The vhost-user protocol, seen from the back end: everything between a Unix socket and the
//! question what a request means for a device.
//!
//! QEMU (the front end) hands over a guest's memory and the places of its rings by messages on a
//! socket, some with file descriptors attached. This crate takes the messages apart, checks what
//! can be checked without knowing the device, calls one method of a [`Backend`] for each, and
//! answers. It knows nothing of rings, frames or threads, and it has no `unsafe` code.
//!
//! ```text
//!   Listener::accept ──┐                  ┌──────────────┐  one method
//!                      ├──▶ UnixStream ──▶│   Session    │  a request   ┌─────────┐
//!   Connector::        │                  │ header, body,│─────────────▶│ Backend │
//!     try_connect ─────┘      replies ◀───│ descriptors  │◀─────────────│         │
//!                                         └──────────────┘   result     └─────────┘
//! ```
//!
//! Nothing here waits: sockets are non-blocking, half a message is kept until the rest comes, and
//! a front end that misbehaves gets a [`SessionError`], which ends its own session and nothing
//! else. One thread can drive any number of sessions from one epoll set.
//!
//! The `vhost` crate gives the layouts and codes. Its dispatcher is not used: it blocks, it ends
//! the session when a ring is enabled before features are acknowledged (QEMU does that), and it
//! has no STATUS, NET_SET_MTU and SEND_RARP.

#![forbid(unsafe_code)]

mod backend;
mod config_space;
mod connector;
mod dispatch;
mod error;
mod listener;
mod negotiated;
mod ownership;
mod path;
mod session;
mod stream;
mod wire;

pub use backend::{
    Backend, LogExtent, MEMORY_SLOTS_MAX, MemoryRegion, Refused, RingEnabling, VringAddresses,
};
pub use connector::Connector;
pub use error::{SessionError, SocketError};
pub use listener::Listener;
pub use ownership::Ownership;
pub use session::{Refusal, Session, SessionState};
/// Request codes as [`SessionError`] and [`Refusal`] name them.
pub use vhost::vhost_user::message::FrontendReq;
