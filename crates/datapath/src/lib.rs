//! Poll threads that move frames from queue to queue: the way of a frame, in the order of its
//! steps.
//!
//! ```text
//!  guest transmitq ──┐                                            ┌──▶ guest receiveq
//!                    │  receive     decide      transmit  release │
//!  AF_XDP rx ring ───┴──▶ burst ──▶ bridge ──▶ one copy ──────────┴──▶ AF_XDP tx ring
//!                                      │                          ▲
//!                                      └── ring ─▶ other thread ──┘
//! ```
//!
//! 1. `thread.rs`: a poll thread's turn over its queues;
//! 2. `ingress.rs`: one burst of one queue: received, decided, its copies ordered;
//! 3. `egress.rs`: every egress queue touched once: one copy a frame (none from interface to
//!    interface), one publication a burst;
//! 4. `handover.rs`, `borrow.rs`, `loans.rs`: when the egress queue is another thread's;
//! 5. `idle.rs`: when nothing comes.
//!
//! The control plane holds a [`Datapath`] and sees none of that: ports, queues, counters.

#![deny(unsafe_code)]

mod announce;
mod borrow;
mod call;
mod clock;
mod command;
mod commands;
mod counters;
mod datapath;
mod egress;
mod eventfd;
mod handover;
mod idle;
mod ingress;
mod loans;
mod notifier;
mod orders;
mod poll_threads;
mod queue;
mod queue_table;
mod rivals;
mod settings;
mod steering;
mod stops;
mod thread;

pub use afxdp;
pub use bridge;
pub use call::PeerCall;
pub use command::Event;
pub use counters::{PortStatistics, QueueStatistics, Snapshot, ThreadStatistics};
pub use datapath::{Datapath, IdleQueue, PortsExhausted, StartedVring, StoppedVring};
pub use eventfd::{NotAnEventfd, PeerEventfd};
pub use frame;
pub use poll_threads::StartError;
pub use settings::{PollMode, PortTraits, Reception, Settings};
pub use steering::{MAX_QUEUES, MAX_THREADS};
pub use tap;
