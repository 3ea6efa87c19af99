//! A bounded ring between exactly one producer and one consumer, for handing bursts from one
//! poll thread to another.
//!
//! [`ring`] gives the two halves. Items are staged with [`Producer::push`] and become visible
//! all at once with [`Producer::publish`]; they are taken with [`Consumer::pop`], and their
//! slots go back all at once with [`Consumer::release`]: one shared store a burst on either
//! side, no read-modify-write, and no shared load as long as the last look promises enough.
//!
//! A [`Doorbell`] decides whether the consumer's thread sleeps and has to be woken.
//!
//! The interleavings are checked with loom (`RUSTFLAGS="--cfg loom" cargo test -p ring --release`).

#![deny(unsafe_code)]

mod doorbell;
mod spsc;
mod sync;

pub use doorbell::Doorbell;
pub use spsc::{Consumer, Marker, Producer, ring};
