//! Conformance of vhost-user back ends for network devices, clause by clause.
//!
//! Two ports of one back end, which forwards between them: what a guest sends into one must come out
//! of the other. Every case is named after the clause that it tests, of VIRTIO 1.2 (`virtio_` and the
//! section) or of QEMU's docs/interop/vhost-user.rst (`vhost_user_` and the heading or message), and
//! says in its comment what the clause demands. The front ends and drivers in this process are written
//! after these texts and know nothing of the back end's code.
//!
//! The back end is this project's own unless `RINGWAY_CONFORMANCE_SOCKETS` names two sockets, with a
//! comma between them, at which another listens (`scripts/conformance` starts some). A case that needs
//! what the back end does not offer says so on standard error and passes; here nothing may be missing.

#![deny(unsafe_code)]

mod back_end;
mod control_queue;
mod driver;
mod guest;
mod memory;
mod negotiation;
mod net;
mod offload;
mod packed;
mod protocol;
mod ring_bases;
mod ring_events;
mod ring_states;
mod split;
#[path = "../integration/support/mod.rs"]
#[expect(dead_code, reason = "the integration tests use the rest of it")]
mod support;
