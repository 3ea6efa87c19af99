//! The control queue of a network device (VIRTIO 1.2, 5.1.6.5): what its driver orders, and what
//! that means for the frames that go to the guest.
//!
//! ```text
//!   device-readable: class, command, data …    device-writable: acknowledgement
//!  ┌───────┬─────────┬──────────────────────┐ ┌─────┐
//!  │ 1     │ 1       │ by class and command │ │ 1   │    cut into descriptors anyhow
//!  └───────┴─────────┴──────────────────────┘ └─────┘
//! ```
//!
//! The ring is worked by a [`ControlQueue`](crate::ControlQueue), which copies a command once and
//! hands over the copy; a [`ControlState`] carries it out, and says what is in force. Neither moves
//! frames: it is the caller's to see that what was ordered is so before the acknowledgement is
//! published.
//!
//! Strict: a command is as long as the standard has it, its values are in range, and its feature was
//! negotiated. Everything else is refused ([`Acknowledgement::Error`]) and changes nothing.

mod command;
mod filter;
mod state;
#[cfg(test)]
mod tests;
mod work;

pub use filter::ReceiveFilter;
pub use state::ControlState;
pub(crate) use work::Control;

/// Longest command, in bytes: MAC_TABLE_SET with some 10,900 addresses. Linux sends a table of all
/// that its interfaces have; longer commands are refused.
pub const MAX_COMMAND_BYTES: usize = 1 << 16;

/// Most queue pairs that VQ_PAIRS_SET may name (5.1.6.5.5).
pub const MAX_QUEUE_PAIRS: u16 = 0x8000;

/// What the driver is answered (5.1.6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledgement {
    /// VIRTIO_NET_OK: it is so.
    Ok,
    /// VIRTIO_NET_ERR: nothing has changed.
    Error,
}

impl Acknowledgement {
    /// As it is written into the guest's buffer.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
        }
    }
}
