//! A tap port: the host's own foot in the switch.
//!
//! The interface's queues go to the I/O thread; what is left here can change its MTU. It goes with
//! its queues, unless it was there before.

use std::os::fd::OwnedFd;

use datapath::IdleQueue;
use datapath::tap::{Tap, TapQueue};

use crate::port_spec::Settings;
use crate::refusal::Refusal;

/// A tap that the switch has opened.
#[derive(Debug)]
pub(crate) struct HostTap {
    pub(crate) tap: Tap,
    /// It was removed under us.
    pub(crate) is_gone: bool,
    /// Its queues while a switch takes over from another.
    pub(crate) idle: Vec<IdleQueue>,
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
        let tap = Self { tap, is_gone: false, idle: Vec::new() };
        tap.set_mtu(settings)?;
        Ok((tap, queues))
    }

    /// Goes on with a tap of another switch. Its queues are idle yet.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if these are no queues of it.
    pub(crate) fn adopt(interface: &str, queues: Vec<OwnedFd>) -> Result<Self, Refusal> {
        let adopted = Tap::adopt(interface, queues).map_err(|error| Refusal::caused_by(&error))?;
        let (tap, queues) = adopted;
        let receiver = tap.receiver();
        let idle = queues.into_iter().map(|queue| IdleQueue::of_tap(queue, receiver)).collect();
        Ok(Self { tap, is_gone: false, idle })
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
