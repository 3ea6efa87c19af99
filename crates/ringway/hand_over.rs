//! A new switch takes over from a running one: `ringway run --take-over`.
//!
//! The new process asks over the control socket. The old one describes all that it has over that
//! same connection, with the descriptors: listening sockets and sessions, guests' memory, eventfds, taps,
//! and AF_XDP sockets with their memory and programs.
//! Everything that takes time or can fail is done while the old one forwards; then it stops its rings
//! and says where they stand, and the new one goes on from there.
//!
//! ```text
//!        new                                     old
//!         │ ── switch.hand_over {version} ──────▶ │
//!         │ ◀─ description, descriptors ───────── │ forwards on
//!  adopts │ ── ready ───────────────────────────▶ │
//!         │                                       │ stops ┐
//!         │ ◀─ where all stands, taps ─────────── │       │
//!         │ ── taken ───────────────────────────▶ │       │ the pause
//!         │ ◀─ yours ──────────────────────────── │       │
//!  starts │ ── running ─────────────────────────▶ │       ┘
//!         │                                       │ closes what was not taken over
//!         │ ◀─ closed ─────────────────────────── │ ends
//!   opens │                                       │
//! ```
//!
//! Until "yours" the old one goes on as it was if anything fails or takes too long; the new one starts
//! nothing before. After it the old one goes on only if the connection breaks before "running", for
//! that is how it sees that the new one is dead. So there is one that forwards, and never are there two.
//!
//! What does not come along: counters, and connections of other clients of the control socket. An
//! uplink that the new one cannot go on with, because the kernel is older than 6.4 or it has an
//! older version, is closed by the old one and opened by the new one, and loses what arrives
//! meanwhile; the log says so.

mod channel;
mod give;
mod state;
mod take;

pub(crate) use channel::{Arrived, Lent};
pub(crate) use give::give;
pub(crate) use state::{
    GuestPortState, GuestState, LearnedEntry, ListenerState, OrderState, RegionState, RingState,
    RingStopped, SessionState, TapState, UmemFile, UplinkState, UplinkStopped, VERSION,
};
pub(crate) use take::take;
