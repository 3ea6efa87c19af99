//! Who wakes whom: the flag of a thread that sleeps when all its rings are empty.
//!
//! ```text
//!   sleeper                          waker
//!   1 flag = asleep                  1 publish to a ring
//!   2 fence                          2 fence
//!   3 look at the rings once more    3 look at the flag: asleep? ring the bell
//!   4 nothing there: sleep
//! ```
//!
//! The two fences make it impossible that both look before the other wrote: either the sleeper
//! finds the item or the waker finds the flag. A lost wake-up is a hang, so loom checks it. What
//! sleeping and ringing are (an eventfd in an epoll set, say) is the caller's business.

use crate::sync::{AtomicBool, Ordering, fence};

/// The flag of one sleeper, shared with all who may have to wake it.
#[derive(Debug)]
pub struct Doorbell {
    is_asleep: AtomicBool,
}

impl Doorbell {
    /// The doorbell of a thread that is awake.
    #[must_use]
    #[cfg_attr(loom, expect(clippy::new_without_default, reason = "as outside loom"))]
    pub fn new() -> Self {
        Self { is_asleep: AtomicBool::new(false) }
    }

    /// Says that the caller is about to sleep. It must look at its rings once more before it does.
    pub fn before_sleep(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        // Forbids that the caller's next look at its rings moves before the store of the flag.
        // Pairs with the fence in `must_ring`.
        fence(Ordering::SeqCst);
    }

    /// Says that the caller is awake again, or found something and did not sleep.
    pub fn after_sleep(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }

    /// Says whether the sleeper must be woken for what the caller has just published.
    #[must_use]
    pub fn must_ring(&self) -> bool {
        // Forbids that the load of the flag moves before the caller's publishing store. Pairs
        // with the fence in `before_sleep`.
        fence(Ordering::SeqCst);
        self.is_asleep.load(Ordering::Relaxed)
    }
}

#[cfg(not(loom))]
impl Default for Doorbell {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use loom::sync::Arc;
    use loom::thread;

    use super::*;
    use crate::ring;

    fn publish_while_falling_asleep(must_ring: fn(&Doorbell) -> bool) {
        let bell = Arc::new(Doorbell::new());
        let (mut producer, mut consumer) = ring(2);
        let waker = thread::spawn({
            let bell = Arc::clone(&bell);
            move || {
                producer.push(1u32).unwrap();
                producer.publish();
                must_ring(&bell)
            }
        });
        bell.before_sleep();
        let found = consumer.pop().is_some();
        let rang = waker.join().unwrap();
        assert!(found || rang, "lost wake-up");
    }

    #[test]
    fn item_published_while_falling_asleep_is_found_or_announced() {
        loom::model(|| publish_while_falling_asleep(Doorbell::must_ring));
    }

    #[test]
    #[should_panic(expected = "lost wake-up")]
    fn loom_rejects_a_waker_without_fence() {
        loom::model(|| {
            publish_while_falling_asleep(|bell| bell.is_asleep.load(Ordering::Relaxed));
        });
    }
}
