//! When a queue and its thread stop polling, and how they are woken.
//!
//! Polling is adaptive per queue. A queue that found nothing for a while has its notifications
//! switched on, is looked at once more (work that came in between would never be announced) and
//! leaves the list of polled queues. Its descriptor lies in the thread's epoll set all the time,
//! edge-triggered, so nothing is registered or read on the way. While other queues are busy the
//! set is looked at now and then; when no queue is polled any more, the thread sleeps on it.
//!
//! The set also holds one eventfd for everything that comes from other threads: hand-overs,
//! returns and commands. Whether it must be written is decided by the [`Doorbell`].

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use ring::Doorbell;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};

/// Empty polls in a row after which a queue is no longer polled. A turn over an empty queue takes
/// about 50 ns, so this is some ten microseconds: more than the gap between bursts of a
/// loaded guest, less than a scheduler's tick by far.
pub(crate) const EMPTY_POLLS_BEFORE_IDLE: u32 = 256;

/// Turns between two looks at the epoll set while other queues are busy.
pub(crate) const TURNS_BETWEEN_LOOKS: u64 = 32;

/// Longest sleep. A wake-up is never lost, so this is only a bound on the damage if one were.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// Events taken from the epoll set at a time.
const EVENTS_AT_A_TIME: usize = 32;

/// The mark of the eventfd among the events of queues.
const WAKER_MARK: u64 = u64::MAX;

/// Wakes one poll thread. Shared by all who send it something.
#[derive(Debug)]
pub(crate) struct Waker {
    doorbell: Doorbell,
    eventfd: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let eventfd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { doorbell: Doorbell::new(), eventfd })
    }

    /// Wakes the thread if it sleeps. To be called after publishing to one of its rings.
    #[inline]
    pub(crate) fn wake(&self) {
        if self.doorbell.must_ring() {
            notify(&self.eventfd);
        }
    }
}

/// Adds one to an eventfd of this process. (Those of front ends are signalled otherwise, see
/// `notifier.rs`.)
///
/// It fails only when the counter is full, and then the reader is notified already.
#[inline]
pub(crate) fn notify(eventfd: &OwnedFd) {
    let _ = rustix::io::write(eventfd, &1u64.to_ne_bytes());
}

/// The epoll set of one poll thread.
#[derive(Debug)]
pub(crate) struct Bed {
    epoll: OwnedFd,
    waker: Arc<Waker>,
}

impl Bed {
    pub(crate) fn new(waker: Arc<Waker>) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &set,
            &waker.eventfd,
            epoll::EventData::new_u64(WAKER_MARK),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(Self { epoll: set, waker })
    }

    /// Puts a queue's descriptor in the set. `mark` comes back when it is ready.
    pub(crate) fn add(&self, descriptor: impl AsFd, mark: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, descriptor, epoll::EventData::new_u64(mark), flags)?)
    }

    /// Takes a descriptor out of the set. Closing it is not enough: the front end holds it, too.
    pub(crate) fn remove(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Looks at the set without waiting, and calls `ready` with the mark of each ready queue.
    pub(crate) fn look(&self, ready: impl FnMut(u64)) {
        self.wait(Duration::ZERO, ready);
    }

    /// Announces sleep. The caller looks at all its rings once more and then either sleeps or
    /// gets up.
    pub(crate) fn lie_down(&self) {
        self.waker.doorbell.before_sleep();
    }

    /// Sleeps until something is ready, and calls `ready` with the mark of each ready queue.
    pub(crate) fn sleep(&self, ready: impl FnMut(u64)) {
        self.wait(LONGEST_SLEEP, ready);
        self.get_up();
    }

    /// Takes the announcement back.
    pub(crate) fn get_up(&self) {
        self.waker.doorbell.after_sleep();
    }

    fn wait(&self, longest: Duration, mut ready: impl FnMut(u64)) {
        let timeout = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        // What does not fit is reported by the next call: a ready descriptor stays in line.
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_AT_A_TIME];
        let events = match epoll::wait(&self.epoll, &mut buffer, Some(&timeout)) {
            Ok((events, _)) => events,
            // Interrupted by a signal; nothing else can go wrong with a set and a buffer of ours.
            Err(_) => return,
        };
        for event in events {
            let mark = event.data.u64();
            if mark != WAKER_MARK {
                ready(mark);
            }
        }
    }
}
