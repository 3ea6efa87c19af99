//! Notifications in both directions of one queue: when to tell the driver, and when it should
//! tell us (VIRTIO 1.2, 2.7.7 to 2.7.10).
//!
//! With EVENT_IDX each side names the entry it waits for; without, each has one flag to say that
//! it does not want to be told.
//!
//! Both directions have the same trap: one side stores its index and then looks whether the
//! other sleeps, the other stores that it sleeps and then looks at the index. Processors (x86
//! too) may let the later load pass the earlier store; then both see the old state and nobody is
//! told. A full fence between store and load, on both sides, excludes that.

use std::sync::atomic::{Ordering, fence};

use crate::vring::{NO_INTERRUPT, NO_NOTIFY, Vring};
use crate::{Features, needs_notification};

/// What one queue needs to know about notifications.
#[derive(Debug)]
pub(crate) struct Signals {
    has_event_index: bool,
    /// The first publication notifies in any case: what the ring holds about the time before is
    /// not to be trusted, and a former switch may have died between index and notification.
    is_first: bool,
    /// What we last asked of the driver; `None` before we asked anything.
    is_enabled: Option<bool>,
}

impl Signals {
    pub(crate) const fn new(features: Features) -> Self {
        let has_event_index = features.contains(Features::RING_EVENT_IDX);
        Self { has_event_index, is_first: true, is_enabled: None }
    }

    /// Publishes the used entries from `old` to `new`; true if the driver is to be notified.
    #[inline]
    pub(crate) fn publish(&mut self, ring: &Vring, old: u16, new: u16) -> bool {
        if old == new {
            return false;
        }
        // Needed in a moment, and likely to be with the driver: let it come while stores drain.
        ring.prefetch_driver_flags();
        ring.publish_used(new);
        // Store of the used index before load of `used_event` or flags: see above.
        fence(Ordering::SeqCst);
        if std::mem::replace(&mut self.is_first, false) {
            return true;
        }
        if self.has_event_index {
            needs_notification(ring.used_event(), old, new)
        } else {
            ring.available_flags() & NO_INTERRUPT == 0
        }
    }

    /// Asks the driver for a notification of the entry at `next`; true if it is there already.
    pub(crate) fn enable(&mut self, ring: &Vring, next: u16) -> bool {
        if self.has_event_index {
            ring.set_available_event(next);
        } else if self.is_enabled != Some(true) {
            ring.set_used_flags(0);
        }
        self.is_enabled = Some(true);
        // Store of `avail_event` or flags before load of the available index: see above.
        fence(Ordering::SeqCst);
        ring.available_index() != next
    }

    /// Tells the driver that we look by ourselves.
    pub(crate) fn disable(&mut self, ring: &Vring, next: u16) {
        if self.is_enabled == Some(false) {
            return;
        }
        self.is_enabled = Some(false);
        if self.has_event_index {
            // An entry that is behind us: the driver passes it only after a whole round of
            // 65,536, and one notification too many does no harm.
            ring.set_available_event(next.wrapping_sub(1));
        } else {
            ring.set_used_flags(NO_NOTIFY);
        }
    }
}
