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

impl Guest {
    /// A ring that has all it needs and does not run.
    pub(super) fn ready(&self, port: PortId, index: u16) -> Result<Option<StartedVring>, Refused> {
        let Some(vring) = self.vrings.get(usize::from(index)) else { return Ok(None) };
        let (Some(size), Some(addresses), Some(kick)) = (vring.size, vring.addresses, &vring.kick)
        else {
            return Ok(None);
        };
        // A ring that stands where new ones do is one, but for few that came round to there.
        let is_new = vring.base == 0 || vring.base == NEW_PACKED_BASE;
        let waits = self.is_held && index % 2 == 1 && !is_new;
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
        let is_enabled = vring.is_enabled;
        Ok(Some(StartedVring { port, vring: index, setup, kick, call, is_enabled }))
    }

    /// Takes note of what came of starting a ring.
    pub(crate) fn note_start(
        &mut self,
        index: u16,
        outcome: Result<(), SetupError>,
    ) -> Result<(), Refused> {
        let Some(vring) = self.vrings.get_mut(usize::from(index)) else { return Ok(()) };
        match outcome {
            Ok(()) => (vring.is_running, vring.is_broken) = (true, false),
            Err(SetupError::RingOutsideMemory { .. }) => {}
            Err(error) => return Err(Refused::new(format!("ring {index}: {error}"))),
        }
        Ok(())
    }
}
