//! What a NIC must not do to frames while we have it: take VLAN tags out (the XDP program does not
//! see a stripped tag, so a guest's VLAN would be lost) and merge frames (LRO), which no bridge
//! may. Both are switched off, and back to what they were on drop.

use crate::SocketError;
use crate::ioctl::{Device, FLAG_LRO, FLAG_RX_VLAN};

/// The flags that were changed, to be put back.
#[derive(Debug)]
pub(crate) struct Offloads {
    /// Those of the two that were on.
    changed: u32,
}

impl Offloads {
    /// Switches both off. With `force`, one that stays on is accepted.
    pub(crate) fn switch_off(device: &Device, force: bool) -> Result<Self, SocketError> {
        let read = || {
            let failed = SocketError::system("read offloads", device.name());
            device.offload_flags().map(Option::unwrap_or_default).map_err(failed)
        };
        let before = read()?;
        let unwanted = before & (FLAG_RX_VLAN | FLAG_LRO);
        if unwanted == 0 {
            return Ok(Self { changed: 0 });
        }
        // Whether it worked is read back: drivers differ in what they answer.
        let _ = device.set_offload_flags(before & !unwanted);
        let remaining = read()? & unwanted;
        let offloads = Self { changed: unwanted & !remaining };
        if remaining == 0 || force {
            return Ok(offloads);
        }
        offloads.restore(device);
        let offload = if remaining & FLAG_RX_VLAN != 0 { "receive VLAN stripping" } else { "LRO" };
        Err(SocketError::OffloadFixed { interface: device.name().to_owned(), offload })
    }

    /// Switches on again what was on. An interface that has gone needs nothing.
    pub(crate) fn restore(&self, device: &Device) {
        if self.changed != 0
            && let Ok(Some(now)) = device.offload_flags()
        {
            let _ = device.set_offload_flags(now | self.changed);
        }
    }
}
