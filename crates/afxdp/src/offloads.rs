//! What a NIC must not do to frames while we have it: take VLAN tags out (the XDP program does not
//! see a stripped tag, so a guest's VLAN would be lost) and merge frames (LRO), which no bridge
//! may. Both are switched off, and back to what they were on drop.
//!
//! What was on is noted before the program is attached, and switched on again after it is gone:
//! drivers switch LRO off themselves for a program, and refuse it while there is one
//! (`vmxnet3_xdp_set`, `dev_disable_lro`), and leave it off.

use crate::SocketError;
use crate::ioctl::{Device, FLAG_LRO, FLAG_RX_VLAN};

/// Both.
const UNWANTED: u32 = FLAG_RX_VLAN | FLAG_LRO;

/// What was on. To be dropped when the program has been detached.
#[derive(Debug)]
pub(crate) struct Offloads {
    device: Device,
    were_on: u32,
    /// Another process switches them on again.
    is_foreign: bool,
}

impl Offloads {
    /// Notes which of the two are on.
    pub(crate) fn of(device: Device) -> Result<Self, SocketError> {
        let were_on = unwanted(&device)?;
        Ok(Self { device, were_on, is_foreign: false })
    }

    /// Those that another process has noted.
    pub(crate) const fn adopt(device: Device, were_on: u32) -> Self {
        Self { device, were_on, is_foreign: true }
    }

    /// What was on.
    pub(crate) const fn were_on(&self) -> u32 {
        self.were_on
    }

    /// Leaves it to another process to switch them on again, or not.
    pub(crate) const fn leave(&mut self, is_foreign: bool) {
        self.is_foreign = is_foreign;
    }

    /// Switches both off. With `force`, one that stays on is accepted.
    pub(crate) fn switch_off(&self, force: bool) -> Result<(), SocketError> {
        if unwanted(&self.device)? == 0 {
            return Ok(());
        }
        // Whether it worked is read back: drivers differ in what they answer.
        if let Ok(Some(now)) = self.device.offload_flags() {
            let _ = self.device.set_offload_flags(now & !UNWANTED);
        }
        let remaining = unwanted(&self.device)?;
        if remaining == 0 || force {
            return Ok(());
        }
        let offload = if remaining & FLAG_RX_VLAN != 0 { "receive VLAN stripping" } else { "LRO" };
        Err(SocketError::OffloadFixed { interface: self.device.name().to_owned(), offload })
    }
}

/// Those of the two that are on.
fn unwanted(device: &Device) -> Result<u32, SocketError> {
    let failed = SocketError::system("read offloads", device.name());
    let flags = device.offload_flags().map(Option::unwrap_or_default).map_err(failed)?;
    Ok(flags & UNWANTED)
}

/// An interface that has gone needs nothing.
impl Drop for Offloads {
    fn drop(&mut self) {
        if self.were_on != 0
            && !self.is_foreign
            && let Ok(Some(now)) = self.device.offload_flags()
            && now & self.were_on != self.were_on
        {
            let _ = self.device.set_offload_flags(now | self.were_on);
        }
    }
}
