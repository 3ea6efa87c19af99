//! Notifications in both directions of one queue: when to tell the driver, and when it should
//! tell us (VIRTIO 1.2, 2.7.7 to 2.7.10 and 2.8.14).
//!
//! With EVENT_IDX each side names the entry it waits for; without, each has one flag to say that
//! it does not want to be told.
//!
//! Both directions have the same trap: one side stores its index and then looks whether the
//! other sleeps, the other stores that it sleeps and then looks at the index. Processors (x86
//! too) may let the later load pass the earlier store; then both see the old state and nobody is
//! told. A full fence between store and load, on both sides, excludes that.

use std::sync::atomic::{Ordering, fence};

use crate::vring::Ring;

/// What one queue needs to know about notifications.
#[derive(Debug)]
pub(crate) struct Signals {
    /// The first publication notifies in any case: what the ring holds about the time before is
    /// not to be trusted, and a former switch may have died between index and notification.
    is_first: bool,
    /// What we last asked of the driver; `None` before we asked anything.
    is_enabled: Option<bool>,
}

impl Signals {
    pub(crate) const fn new() -> Self {
        Self { is_first: true, is_enabled: None }
    }

    /// Publishes the chains from `old` to `new`; true if the driver is to be notified.
    #[inline]
    pub(crate) fn publish<R: Ring>(
        &mut self,
        ring: &mut R,
        old: R::Position,
        new: R::Position,
    ) -> bool {
        if old == new {
            return false;
        }
        // Needed in a moment, and likely to be with the driver: let it come while stores drain.
        ring.prefetch_awaited();
        ring.publish_used(new);
        // Store of the used index before load of `used_event` or flags: see above.
        fence(Ordering::SeqCst);
        std::mem::replace(&mut self.is_first, false) || ring.is_awaited(old, new)
    }

    /// Asks the driver for a notification of the chain at `next`; true if it is there already.
    pub(crate) fn enable<R: Ring>(&mut self, ring: &R, next: R::Position) -> bool {
        ring.ask_for_notification(next);
        self.is_enabled = Some(true);
        // Store of `avail_event` or flags before load of the available index: see above.
        fence(Ordering::SeqCst);
        ring.has_available(next)
    }

    /// Tells the driver that we look by ourselves.
    pub(crate) fn disable<R: Ring>(&mut self, ring: &R, next: R::Position) {
        if self.is_enabled != Some(false) {
            self.is_enabled = Some(false);
            ring.decline_notifications(next);
        }
    }
}
