//! The first seconds after a switch has died: guests come back one after the other, with frames
//! for one another that the old switch had not taken yet.
//!
//! Whoever comes first would have them dropped, for those whom they are for are not there yet. So a
//! transmitq that was worked before, which shows in where it is to carry on, is started only when
//! all guests are there, or after [`PATIENCE`]: a port whose guest does not run must not hold up
//! the others. Guests that are new wait for nobody.

use std::time::{Duration, Instant};

use super::{Behind, Switch};

/// How long guests are waited for: QEMU tries again every second.
const PATIENCE: Duration = Duration::from_millis(1_500);

impl Switch {
    /// Begins to wait for the guests of the ports there are.
    pub(crate) fn begin_reunion(&mut self) {
        for port in self.ports.values_mut() {
            if let Behind::Guest(guest) = &mut port.behind {
                guest.guest.hold();
                self.reunion = Some(Instant::now() + PATIENCE);
            }
        }
    }

    /// Ends the wait if all guests are there, or it has lasted long enough.
    pub(super) fn end_reunion(&mut self) {
        let Some(limit) = self.reunion else { return };
        let is_missing =
            |behind: &Behind| matches!(behind, Behind::Guest(guest) if !guest.guest.is_up());
        let anyone_is_missing = self.ports.values().any(|port| is_missing(&port.behind));
        if anyone_is_missing && Instant::now() < limit {
            return;
        }
        self.reunion = None;
        for port in self.ports.values_mut() {
            let Behind::Guest(guest) = &mut port.behind else { continue };
            let released = guest.guest.attached(&mut self.datapath, port.id).release();
            if let Err(refused) = released {
                log::warn!("port {}: {refused}", port.spec.name);
            }
        }
    }
}
