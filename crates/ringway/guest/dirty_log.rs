//! Whether and where what the rings write is logged, for a front end that migrates its guest.
//!
//! It takes a log (SET_LOG_BASE), LOG_ALL among the features, and for used rings a log address
//! (SET_VRING_ADDR). QEMU sends these in any order, for rings that run, and takes them back when
//! migration is over or given up.

use std::sync::Arc;

use virtio::{Features, VringLog};

use super::Attached;

impl Attached<'_> {
    /// Has what a ring writes logged as the front end wants it. A ring that runs goes on.
    pub(super) fn log(&mut self, index: u16) {
        let guest = &*self.guest;
        let Some(vring) = guest.vrings.get(usize::from(index)) else { return };
        let log = guest.log.as_ref().filter(|_| guest.features.contains(Features::LOG_ALL));
        let log = log.map(|log| VringLog { log: Arc::clone(log), used_ring: vring.used_log });
        if guest.is_control(index) {
            self.log_control(log);
        } else {
            self.datapath.log_vring(self.port, index, log);
        }
    }

    pub(super) fn log_all(&mut self) {
        self.guest.rings().for_each(|index| self.log(index));
        self.check_log();
    }

    /// Complains, once of each log, of one that is used and has no bits for the end of the guest's
    /// memory. What is written there is not logged, as it cannot be, and the guest would miss it where
    /// it migrates to. A front end enlarges the log before it adds memory.
    pub(super) fn check_log(&mut self) {
        let guest = &mut *self.guest;
        let is_used = guest.features.contains(Features::LOG_ALL);
        let Some(log) = guest.log.as_ref().filter(|_| is_used) else { return };
        let covered = log.covered_bytes();
        let ends = guest
            .map
            .regions()
            .iter()
            .map(|region| region.guest_address().saturating_add(region.size_bytes()));
        let end = ends.max().unwrap_or(0);
        if covered < end && !std::mem::replace(&mut guest.is_short_log_told, true) {
            guest.complaint = Some(format!(
                "the dirty log ends at guest address {covered:#x}, and memory at {end:#x}: what is \
                 written between them does not migrate"
            ));
        }
    }
}
