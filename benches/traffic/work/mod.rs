//! The kinds of work, one file each.

pub(crate) mod guest_pair;
pub(crate) mod latency;
