//! When a ring starts: it has all it needs, and nothing keeps it from starting.

use std::io;
use std::sync::Arc;

use datapath::frame::PortId;
use datapath::{PeerCall, PeerEventfd, StartedVring};
use vhost_user::Refused;
use virtio::{SetupError, VringSetup};

use super::Guest;

/// Where a new packed ring starts: at slot 0, with wrap counters of 1, both ways (2.8.1).
const NEW_PACKED_BASE: u32 = 0x8000_8000;

/// Says whether a ring that stands there is new. Few others have come round to there.
pub(super) const fn is_new(base: u32) -> bool {
    base == 0 || base == NEW_PACKED_BASE
}

impl Guest {
    /// A ring that has all it needs and does not run.
    pub(super) fn ready(&self, port: PortId, index: u16) -> Result<Option<StartedVring>, Refused> {
        let Some(vring) = self.vrings.get(usize::from(index)) else { return Ok(None) };
        if index == 2 * self.queue_pairs && !self.is_control(index) {
            // Behind the queue pairs, and no control queue was negotiated to be there.
            return Ok(None);
        }
        let (Some(size), Some(addresses), Some(kick)) = (vring.size, vring.addresses, &vring.kick)
        else {
            return Ok(None);
        };
        let waits = self.is_held && index % 2 == 1 && !is_new(vring.base);
        if vring.is_running || waits {
            return Ok(None);
        }
        let failed = |error: io::Error| {
            Refused::new(format!("cannot duplicate a descriptor of ring {index}: {error}"))
        };
        let kick = kick.as_ref().map(PeerEventfd::try_clone).transpose().map_err(failed)?;
        let call = vring.call.as_ref().map(PeerCall::try_clone).transpose().map_err(failed)?;
        let setup = VringSetup {
            memory: Arc::clone(&self.map),
            size,
            addresses,
            base: vring.base,
            features: self.features,
        };
        let is_enabled = self.passes_frames(index);
        Ok(Some(StartedVring { port, vring: index, setup, kick, call, is_enabled }))
    }

    /// Takes note of what came of starting a ring.
    pub(crate) fn note_start(
        &mut self,
        index: u16,
        outcome: Result<(), SetupError>,
    ) -> Result<(), Refused> {
        let passes = self.passes_frames(index);
        let Some(vring) = self.vrings.get_mut(usize::from(index)) else { return Ok(()) };
        match outcome {
            Ok(()) => {
                (vring.is_running, vring.is_broken, vring.passes) = (true, false, passes);
            }
            Err(SetupError::RingOutsideMemory { .. }) => {}
            Err(error) => return Err(Refused::new(format!("ring {index}: {error}"))),
        }
        Ok(())
    }
}
