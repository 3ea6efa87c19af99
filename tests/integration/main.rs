//! The real binary, observed from outside: over its control socket, from its guests, on its wires.
//!
//! Guests are front ends in this process (`support/front_end.rs`), or booted by QEMU
//! (`support/guest.rs`, for which `scripts/test` builds the image), or DPDK's. Wires are veth pairs in
//! network namespaces of their own. The tests need root.

#![deny(unsafe_code)]

mod bench_report;
mod control;
mod control_queue;
mod forwarding;
mod guests;
mod hostile;
mod memory;
mod migration;
mod offloads;
mod readme;
mod restart;
mod rights;
mod sessions;
mod soak;
mod support;
mod take_over;
mod tap;
mod threads;
mod uml;
mod uplink;
mod vhost_crate;
mod virtio_user;
mod vlan;
mod zero_copy;
