//! Offloads: checksums that somebody else completes, large frames that somebody else cuts.
//!
//! A guest that negotiated it sends frames that are not ready for a wire, and says in the
//! virtio-net header (VIRTIO 1.2, 5.1.6) what is left to do. Whether it is done here depends on
//! who receives the frame:
//!
//! ```text
//!   ingress                         egress, one for each copy
//!   NetHeader ─▶ interpret ─▶ Offload ─▶ delivery ─┬▶ Whole      net header passed on, plain copy
//!   (read once)   │                                ├▶ Completed  complete ─▶ frame::Completing
//!                 └▶ DropReason                    └▶ Cut        Segments ─▶ frame::Completing …
//!
//!   frames of one burst ─▶ Candidate ─▶ Train      joined into a large frame for who takes such
//! ```
//!
//! **What is private.** A frame's [`Header`](frame::Header) holds its first 64 bytes, which is
//! less than the headers of TCP over IPv6 have. So a frame is checked twice: on ingress by
//! [`interpret`] as far as the private header goes, and by whoever changes it at egress,
//! who first gathers up to [`HEAD_BYTES`] bytes into a private [`Head`]: the private header, and
//! what lies behind it, read once. Only the `Head` is interpreted and sent, so a guest that
//! rewrites its buffer between the two gets its frame dropped or its own payload spoilt. Frames
//! that pass whole pay nothing for this, and neither does the hand-over between threads.
//! A frame whose headers do not fit [`HEAD_BYTES`] is dropped as `offload_unfit`: they would be
//! IPv6 extension headers of 74 bytes and more.
//!
//! **UFO** (`gso_type` 3) is understood and refused as not negotiated: never offer HOST_UFO and
//! GUEST_UFO. Linux has sent no such frame since 4.14 (2017), and a guest that is not offered it
//! fragments by itself, as it does on any wire. USO (`gso_type` 5) is what replaced it.

mod coalesce;
mod complete;
mod delivery;
mod head;
mod layers;
mod net_header;
mod request;
mod segments;
#[cfg(test)]
pub(crate) mod tests;

pub use coalesce::{CANDIDATE_BYTES, Candidate, Train};
pub use complete::complete;
pub use delivery::{Delivery, Receiver};
pub use head::{HEAD_BYTES, Head, Leaving};
pub use net_header::NetHeader;
pub use request::{Sender, interpret};
pub use segments::Segments;
