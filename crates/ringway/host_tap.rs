//! A tap port: the host's own foot in the switch.
//!
//! The interface's queues go to the I/O thread; what is left here can change its MTU. It goes with
//! its queues, unless it was there before.

use datapath::tap::{Tap, TapQueue};

use crate::port_spec::Settings;
use crate::refusal::Refusal;

/// A tap that the switch has opened.
#[derive(Debug)]
pub(crate) struct HostTap {
    pub(crate) tap: Tap,
    /// It was removed under us.
    pub(crate) is_gone: bool,
}

impl HostTap {
    /// Opens a tap, or makes it, with the MTU of the port if one was chosen.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] with the way out.
    pub(crate) fn open(
        interface: &str,
        queues: u16,
        settings: &Settings,
    ) -> Result<(Self, Vec<TapQueue>), Refusal> {
        let (tap, queues) =
            Tap::open(interface, queues.into()).map_err(|error| Refusal::caused_by(&error))?;
        let tap = Self { tap, is_gone: false };
        tap.set_mtu(settings)?;
        Ok((tap, queues))
    }

    /// Gives the interface the MTU of the port, if one was chosen.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the kernel does not take it.
    pub(crate) fn set_mtu(&self, settings: &Settings) -> Result<(), Refusal> {
        if !settings.has_mtu {
            return Ok(());
        }
        let mtu = settings.traits.mtu();
        self.tap.set_mtu(mtu).map_err(|error| Refusal::caused_by(&error))
    }
}
