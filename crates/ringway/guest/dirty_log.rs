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
    }
}
