//! What a session's two ends have agreed on beside the device's features.
//!
//! Most protocol features are on offer to everybody. Two are for owners only: front ends that have
//! said SET_OWNER before they ask. It is to come first (vhost-user, SET_OWNER), and QEMU is the
//! only one known that asks first. It has no use for them:
//!
//! - CONFIG: QEMU has a configuration space of its own, and 7.2 warns at every start of a back end
//!   that offers another. User Mode Linux needs it.
//! - BACKEND_REQ: a channel for requests to the front end, of which there are none yet. User Mode
//!   Linux 6.1 works only if it may open one: no interrupt is set up without ("Flags mismatch irq
//!   0").

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::VhostUserProtocolFeatures;

use crate::backend::Refused;

/// The protocol features on offer to everybody.
const FOR_EVERYBODY: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::LOG_SHMFD)
    .union(VhostUserProtocolFeatures::RARP)
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::MTU)
    .union(VhostUserProtocolFeatures::RESET_DEVICE)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS)
    .union(VhostUserProtocolFeatures::STATUS);
/// Those on offer to owners only.
const FOR_OWNERS: VhostUserProtocolFeatures =
    VhostUserProtocolFeatures::CONFIG.union(VhostUserProtocolFeatures::BACKEND_REQ);

/// What was agreed on, and what goes with it.
#[derive(Debug)]
pub(crate) struct Negotiated {
    /// The front end said SET_OWNER.
    pub(crate) is_owned: bool,
    /// What it acknowledged.
    pub(crate) protocol_features: VhostUserProtocolFeatures,
    /// Where it would hear requests (SET_BACKEND_REQ_FD). Held open, for it takes its end for a
    /// fault.
    pub(crate) channel: Option<OwnedFd>,
}

impl Negotiated {
    pub(crate) const fn nothing() -> Self {
        let protocol_features = VhostUserProtocolFeatures::empty();
        Self { is_owned: false, protocol_features, channel: None }
    }

    /// The protocol features on offer.
    pub(crate) const fn offered(&self) -> VhostUserProtocolFeatures {
        if self.is_owned { FOR_EVERYBODY.union(FOR_OWNERS) } else { FOR_EVERYBODY }
    }

    /// Takes note of what the front end acknowledged.
    pub(crate) fn acknowledge(&mut self, acknowledged: u64) -> Result<(), Refused> {
        let unknown = acknowledged & !self.offered().bits();
        if unknown != 0 {
            return Err(Refused::new(format!("protocol features {unknown:#x} were not offered")));
        }
        self.protocol_features = VhostUserProtocolFeatures::from_bits_truncate(acknowledged);
        Ok(())
    }
}
