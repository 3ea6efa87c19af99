//! A new switch takes over from a running one: `ringway run --take-over`.
//!
//! The new process asks over the control socket. The old one describes all that it has over that
//! same connection, with the descriptors: listening sockets and sessions, guests' memory, eventfds, taps.
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
//!         │                                       │ closes its uplinks
//!         │ ◀─ closed ─────────────────────────── │ ends
//!   opens │                                       │
//! ```
//!
//! Until "yours" the old one goes on as it was if anything fails or takes too long; the new one starts
//! nothing before. After it the old one goes on only if the connection breaks before "running", for
//! that is how it sees that the new one is dead. So there is one that forwards, and never are there two.
//!
//! What does not come along: counters, connections of other clients of the control socket, and for now
//! AF_XDP sockets: uplinks are closed by the old one and opened by the new one, a gap of what the
//! interface takes for that.

mod channel;
mod give;
mod state;
mod take;

pub(crate) use channel::{Arrived, Lent};
pub(crate) use give::give;
pub(crate) use state::{
    GuestPortState, GuestState, LearnedEntry, ListenerState, OrderState, RegionState, RingState,
    RingStopped, SessionState, TapState, VERSION,
};
pub(crate) use take::take;
