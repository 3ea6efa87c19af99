//! When a queue and its thread stop polling, and how they are woken.
//!
//! Polling is adaptive per queue. A queue that found nothing for a while ([`Patience`]) has its notifications
//! switched on, is looked at once more (work that came in between would never be announced) and
//! leaves the list of polled queues. Its descriptor lies in the thread's epoll set all the time,
//! edge-triggered, so nothing is registered or read on the way. While other queues are busy the
//! set is looked at now and then; when no queue is polled any more, the thread sleeps on it, for a
//! minute in naps. While others want the core (`rivals.rs`), queues are polled as short as possible.
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

use crate::clock;

/// How long a queue is polled without finding anything, at least: a dozen microseconds on today's
/// processors, more than the gap between bursts of a loaded guest.
const LEAST_PATIENCE_TICKS: u64 = 1 << 15;

/// How long at most: the better part of a millisecond.
const MOST_PATIENCE_TICKS: u64 = 1 << 21;

/// Between two looks at the epoll set while other queues are busy, each a system call: some 50
/// microseconds on today's processors, half of which an idle queue's first frame waits on average. By
/// time and not by turns, for turns without work are many, and short.
const LOOK_INTERVAL_TICKS: u64 = 1 << 17;

/// How a thread sleeps that has nothing to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sleep {
    /// At first in naps of this length,
    nap: Duration,
    /// so many,
    naps: u32,
    /// and then in one piece. A wake-up is never lost, so both together are only a bound on the
    /// damage if one were.
    longest: Duration,
}

impl Sleep {
    /// In naps for a minute.
    ///
    /// A core that was halted for long takes longer to wake up. On a virtual machine, naps of 4 ms
    /// made the first frame after a second of silence 0.65 times as late in the median, those of
    /// 2.5 ms or 10 ms no better; they took 0.8 % of the core, 35 microseconds each, nearly all of
    /// it to halt the core and be woken.
    pub(crate) const LIGHT: Self =
        Self { nap: Duration::from_millis(4), naps: 15_000, ..Self::SOUND };

    /// Without naps.
    pub(crate) const SOUND: Self =
        Self { nap: Duration::ZERO, naps: 0, longest: Duration::from_secs(30) };
}

/// Events taken from the epoll set at a time.
const EVENTS_AT_A_TIME: usize = 32;

/// The mark of the eventfd among the events of queues.
const WAKER_MARK: u64 = u64::MAX;

/// How long one queue is polled on when it finds nothing.
///
/// A wake-up costs whoever sends it a system call, and often an interrupt to a halted core: many
/// times what a frame costs. So a queue whose work came back soon after it had fallen idle is
/// polled twice as long the next time, up to a limit; one whose silence was long, as short as
/// possible (the way KVM's halt polling grows and shrinks).
#[derive(Debug)]
pub(crate) struct Patience {
    ticks: u64,
    most_ticks: u64,
    last_work: u64,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { ticks: LEAST_PATIENCE_TICKS, most_ticks: MOST_PATIENCE_TICKS, last_work: 0 }
    }

    /// None: of a queue that costs a system call to look at.
    pub(crate) const fn none() -> Self {
        Self { ticks: 0, most_ticks: 0, last_work: 0 }
    }

    /// The queue had work at this time.
    #[inline]
    pub(crate) const fn found_work(&mut self, now: u64) {
        self.last_work = now;
    }

    /// Says whether to stop polling the queue.
    #[inline]
    pub(crate) const fn is_over(&self, now: u64) -> bool {
        now.wrapping_sub(self.last_work) > self.ticks
    }

    /// Says whether nothing came for the time for which any queue is polled.
    #[inline]
    pub(crate) const fn is_tried(&self, now: u64) -> bool {
        now.wrapping_sub(self.last_work) > LEAST_PATIENCE_TICKS
    }

    /// The queue is polled again.
    pub(crate) fn begin_again(&mut self, now: u64) {
        let silence = now.wrapping_sub(self.last_work);
        let was_short = silence < self.ticks.saturating_add(MOST_PATIENCE_TICKS);
        let grown = (self.ticks * 2).min(self.most_ticks);
        self.ticks = if was_short { grown } else { LEAST_PATIENCE_TICKS.min(self.most_ticks) };
        self.last_work = now;
    }
}

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
    /// When it was last looked at, in ticks.
    looked: u64,
    /// Not all that was ready then was reported.
    has_more: bool,
    sleep: Sleep,
    /// Nothing came for the whole of the last sleep, so that the next one needs no naps.
    is_deserted: bool,
}

impl Bed {
    pub(crate) fn new(waker: Arc<Waker>, sleep: Sleep) -> io::Result<Self> {
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &set,
            &waker.eventfd,
            epoll::EventData::new_u64(WAKER_MARK),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        Ok(Self { epoll: set, waker, looked: 0, has_more: false, sleep, is_deserted: false })
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

    /// Says whether it is time to look at the set again.
    #[inline]
    pub(crate) const fn must_look(&self, now: u64) -> bool {
        self.has_more || now.wrapping_sub(self.looked) > LOOK_INTERVAL_TICKS
    }

    /// Looks at the set without waiting, and calls `ready` with the mark of each ready queue.
    pub(crate) fn look(&mut self, mut ready: impl FnMut(u64)) {
        self.wait(Duration::ZERO, &mut ready);
    }

    /// Announces sleep. The caller looks at all its rings once more and then either sleeps or
    /// gets up.
    pub(crate) fn lie_down(&self) {
        self.waker.doorbell.before_sleep();
    }

    /// Sleeps until something is ready, and calls `ready` with the mark of each ready queue.
    pub(crate) fn sleep(&mut self, mut ready: impl FnMut(u64)) {
        let Sleep { nap, naps, longest } = self.sleep;
        let naps = if self.is_deserted { 0 } else { naps };
        let is_called =
            (0..naps).any(|_| self.wait(nap, &mut ready)) || self.wait(longest, &mut ready);
        self.is_deserted = !is_called;
        self.get_up();
    }

    /// Takes the announcement back.
    pub(crate) fn get_up(&self) {
        self.waker.doorbell.after_sleep();
    }

    /// Says whether anything was ready.
    fn wait(&mut self, longest: Duration, ready: &mut impl FnMut(u64)) -> bool {
        let timeout = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        // What does not fit is reported by the next call: a ready descriptor stays in line.
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_AT_A_TIME];
        let events = match epoll::wait(&self.epoll, &mut buffer, Some(&timeout)) {
            Ok((events, _)) => events,
            // Interrupted by a signal; nothing else can go wrong with a set and a buffer of ours.
            Err(_) => return false,
        };
        self.looked = clock::ticks();
        self.has_more = events.len() == EVENTS_AT_A_TIME;
        let is_any = !events.is_empty();
        for event in events {
            let mark = event.data.u64();
            if mark != WAKER_MARK {
                ready(mark);
            }
        }
        is_any
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    /// When the work comes that wakes the queue, after so many ticks of silence.
    fn woken_after(patience: &mut Patience, silence: u64) {
        let now = patience.last_work + silence;
        patience.begin_again(now);
    }

    #[test]
    fn set_with_more_that_is_ready_than_a_look_takes_is_looked_at_again_at_once() {
        let mut bed = Bed::new(Arc::new(Waker::new().unwrap()), Sleep::SOUND).unwrap();
        let descriptors: Vec<OwnedFd> = (0..EVENTS_AT_A_TIME + 1)
            .map(|_| eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap())
            .collect();
        for (mark, descriptor) in (0..).zip(&descriptors) {
            bed.add(descriptor, mark).unwrap();
        }
        let mut marks = Vec::new();

        bed.look(|mark| marks.push(mark));
        assert!(bed.must_look(bed.looked), "{} of {}", marks.len(), descriptors.len());
        bed.look(|mark| marks.push(mark));

        marks.sort_unstable();
        assert_eq!(marks, (0..descriptors.len() as u64).collect::<Vec<_>>());
        assert!(!bed.must_look(bed.looked + LOOK_INTERVAL_TICKS));
        assert!(bed.must_look(bed.looked + LOOK_INTERVAL_TICKS + 1));
    }

    #[test]
    fn thread_takes_its_naps_again_only_after_it_was_called() {
        const NAP: Duration = Duration::from_millis(20);
        const MARK: u64 = 5;
        let sleep = Sleep { nap: NAP, naps: 3, longest: Duration::ZERO };
        let mut bed = Bed::new(Arc::new(Waker::new().unwrap()), sleep).unwrap();
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        bed.add(&bell, MARK).unwrap();
        let start = Instant::now();

        bed.sleep(|_| panic!("nobody called"));
        assert!(start.elapsed() >= 3 * NAP, "{:?}", start.elapsed());

        bed.sleep.nap = Duration::from_secs(20);
        bed.sleep(|_| panic!("nobody called"));
        notify(&bell);
        let mut called = Vec::new();
        bed.sleep(|mark| called.push(mark));
        assert_eq!(called, [MARK]);
        assert!(start.elapsed() < bed.sleep.nap, "it took a nap");

        bed.sleep.nap = NAP;
        let start = Instant::now();
        bed.sleep(|_| panic!("nobody called"));
        assert!(start.elapsed() >= 3 * NAP, "{:?}", start.elapsed());
    }

    #[test]
    fn patience_grows_with_work_that_comes_back_soon_and_not_beyond_its_limit() {
        let mut patience = Patience::new();

        woken_after(&mut patience, LEAST_PATIENCE_TICKS + 1);
        assert_eq!(patience.ticks, 2 * LEAST_PATIENCE_TICKS);
        (0..20).for_each(|_| woken_after(&mut patience, MOST_PATIENCE_TICKS));

        assert_eq!(patience.ticks, MOST_PATIENCE_TICKS);
    }

    #[test]
    fn patience_is_short_again_after_a_long_silence() {
        let mut patience = Patience::new();
        (0..20).for_each(|_| woken_after(&mut patience, MOST_PATIENCE_TICKS));

        woken_after(&mut patience, 3 * MOST_PATIENCE_TICKS);

        assert_eq!(patience.ticks, LEAST_PATIENCE_TICKS);
    }

    #[test]
    fn patience_is_over_when_nothing_came_for_its_time() {
        let mut patience = Patience::new();
        patience.found_work(1_000);

        assert!(!patience.is_over(1_000 + LEAST_PATIENCE_TICKS));
        assert!(patience.is_over(1_001 + LEAST_PATIENCE_TICKS));
    }

    #[test]
    fn queue_that_may_be_polled_long_is_tried_after_the_shortest_time() {
        let mut patience = Patience::new();
        (0..20).for_each(|_| woken_after(&mut patience, MOST_PATIENCE_TICKS));
        let tried = patience.last_work + LEAST_PATIENCE_TICKS + 1;

        assert!(!patience.is_tried(tried - 1));
        assert!(patience.is_tried(tried) && !patience.is_over(tried));
    }
}
