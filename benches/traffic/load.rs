//! The load on guests: closed loop (as much as goes through without loss) and open loop (so many
//! frames a second, come what may).
//!
//! In the closed loop a stream has at most a window of frames on their way, no more than the
//! receiver has buffers for; so nothing is lost for want of room, and what is lost counts
//! against the system. In the open loop frames are due at fixed times and stamped with these,
//! so that a system that falls behind is charged with the waiting (no coordinated omission).

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::generator::{Counted, Guest, Manner, Stream, ticks, ticks_per_second};

/// Frames that are posted together: what DPDK's generators send at once. Half a window of large
/// ones, of which fewer can be on their way.
pub(crate) const POSTED: u64 = 32;

/// After so long without an arrival, frames on their way are lost: seconds. A machine that shares
/// its cores may stop a poll thread for a good part of this.
pub(crate) const PATIENCE: f64 = 0.1;

/// How long a frame may be late that was sent before a sample.
const LATENESS: Duration = Duration::from_millis(500);

/// How often a ring is looked at between two looks at the clock of the thread.
const LOOKS: u32 = 1_024;

/// A stream and the guests at its ends.
#[derive(Debug)]
pub(crate) struct Way {
    pub(crate) stream: Stream,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// The queue pair at both ends.
    pub(crate) pair: usize,
}

/// Guests and what goes on between them.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) guests: Vec<Guest>,
    pub(crate) ways: Vec<Way>,
    /// The most frames of a stream that are on their way in the closed loop.
    pub(crate) window: u64,
}

/// What a load saw in some time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    pub(crate) counted: Counted,
    pub(crate) seconds: f64,
}

impl Seen {
    /// Million frames a second that arrived intact, all streams added.
    pub(crate) fn mpps(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let delivered = self.counted.delivered as f64;
        delivered / self.seconds / 1e6
    }
}

impl Load {
    /// Guests that listen at `guest0.sock`, `guest1.sock`, … in a directory.
    pub(crate) fn listen(directory: &Path, guests: usize, manner: Manner) -> Result<Self, String> {
        let guest = |number: usize| Guest::listen(&socket(directory, number), manner);
        let guests = (0..guests).map(guest).collect::<Result<_, _>>();
        let guests = guests.map_err(|error| format!("cannot make guests: {error}"))?;
        Ok(Self { guests, ways: Vec::new(), window: 0 })
    }

    /// Adds guests that only have to be there, with little memory.
    pub(crate) fn add_idle(&mut self, directory: &Path, count: usize) -> Result<(), String> {
        // A guest takes seven descriptors here, and the system inherits the limit.
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
        let manner = Manner { entries: 64, ..Manner::for_frames_of(0) };
        for _ in 0..count {
            let socket = socket(directory, self.guests.len());
            let guest = Guest::listen(&socket, manner);
            self.guests.push(guest.map_err(|error| format!("cannot make guests: {error}"))?);
        }
        Ok(())
    }

    /// Waits for the system to connect to each guest.
    pub(crate) fn plug_in(&mut self) -> Result<(), String> {
        self.guests.iter_mut().try_for_each(Guest::plug_in)
    }

    /// As much as goes through, for so long.
    pub(crate) fn closed_loop(&mut self, duration: Duration) -> Seen {
        let before = self.counted();
        let (start, rate) = (ticks(), ticks_per_second());
        let (length, patience) = (in_ticks(duration, rate), in_ticks_f(PATIENCE, rate));
        while ticks().wrapping_sub(start) < length {
            for Way { stream, from, to, pair } in &mut self.ways {
                stream.receive(&mut self.guests[*to].pairs[*pair].0, |_| {});
                let transmit = &mut self.guests[*from].pairs[*pair].1;
                let free = u64::from(transmit.reclaim());
                let count = free.min(self.window - stream.in_flight().min(self.window));
                if count >= POSTED.min(self.window / 2) || stream.in_flight() == 0 {
                    let now = ticks();
                    (0..count).for_each(|_| stream.send(transmit, now));
                    transmit.publish();
                }
                stream.give_up_after(patience);
            }
        }
        self.seen_since(before, start, rate)
    }

    /// `rate` frames a second and stream, for so long. `latency` gets each frame's ticks from the
    /// moment it was due to the moment it was seen.
    pub(crate) fn open_loop(
        &mut self,
        frames_per_second: f64,
        duration: Duration,
        mut latency: impl FnMut(u64),
    ) -> Seen {
        let before = self.counted();
        let (start, rate) = (ticks(), ticks_per_second());
        let (length, patience) = (in_ticks(duration, rate), in_ticks_f(PATIENCE, rate));
        let gap = rate / frames_per_second;
        let mut sent = vec![0u64; self.ways.len()];
        loop {
            let passed = ticks().wrapping_sub(start);
            if passed > length + patience {
                break;
            }
            for (Way { stream, from, to, pair }, sent) in self.ways.iter_mut().zip(&mut sent) {
                stream.receive(&mut self.guests[*to].pairs[*pair].0, |stamp| {
                    latency(ticks().wrapping_sub(stamp));
                });
                let transmit = &mut self.guests[*from].pairs[*pair].1;
                let mut free = transmit.reclaim();
                let mut is_due = in_ticks_f_of(*sent, gap) <= passed && passed < length;
                let posts = is_due && free > 0;
                while is_due && free > 0 {
                    stream.send(transmit, start.wrapping_add(in_ticks_f_of(*sent, gap)));
                    *sent += 1;
                    free -= 1;
                    is_due = in_ticks_f_of(*sent, gap) <= passed;
                }
                if posts {
                    transmit.publish();
                }
                stream.give_up_after(patience);
            }
        }
        self.seen_since(before, start, rate)
    }

    /// Sends one frame of the first stream, and returns the ticks until it is seen. `None`: it is
    /// not seen in a second of looking, which a second for which all were stopped is not.
    pub(crate) fn one_frame(&mut self) -> Option<u64> {
        let Way { stream, from, to, pair } = self.ways.first_mut()?;
        let transmit = &mut self.guests[*from].pairs[*pair].1;
        transmit.reclaim();
        let (start, looking) = (ticks(), thread_seconds());
        stream.send(transmit, start);
        transmit.publish();
        let mut taken = None;
        while taken.is_none() && thread_seconds() - looking < 1.0 {
            for _ in 0..LOOKS {
                let receive = &mut self.guests[*to].pairs[*pair].0;
                stream.receive(receive, |stamp| taken = Some(ticks().wrapping_sub(stamp)));
            }
        }
        taken
    }

    /// Sends frames one at a time until one has arrived in each direction: a system may need a
    /// while to take its ports into service.
    pub(crate) fn await_passage(&mut self) -> Result<(), String> {
        let window = std::mem::replace(&mut self.window, 1);
        let start = std::time::Instant::now();
        let mut has_passed = false;
        while !has_passed && start.elapsed() < Duration::from_secs(10) {
            self.closed_loop(Duration::from_millis(20));
            has_passed = self.ways.iter().all(|way| way.stream.counted.delivered > 0);
        }
        self.window = window;
        if !has_passed {
            return Err("no frame passes between the guests".to_owned());
        }
        // What comes late is forgotten: a machine that shares its cores may be long about it.
        let last = std::time::Instant::now() + LATENESS;
        while self.ways.iter().any(|way| way.stream.in_flight() > 0)
            && std::time::Instant::now() < last
        {
            for Way { stream, to, pair, .. } in &mut self.ways {
                stream.receive(&mut self.guests[*to].pairs[*pair].0, |_| {});
            }
        }
        self.drain();
        for way in &mut self.ways {
            way.stream.forget();
        }
        Ok(())
    }

    /// Takes away what is still on its way, until nothing has come for a millisecond.
    pub(crate) fn drain(&mut self) {
        let (rate, mut last) = (ticks_per_second(), ticks());
        let quiet = in_ticks_f(0.001, rate);
        while ticks().wrapping_sub(last) < quiet {
            for (receive, transmit) in self.guests.iter_mut().flat_map(|guest| &mut guest.pairs) {
                if receive.receive(|_, _| {}) > 0 {
                    last = ticks();
                }
                transmit.reclaim();
            }
        }
    }

    fn counted(&self) -> Counted {
        self.ways.iter().fold(Counted::default(), |sum, way| sum.and(way.stream.counted))
    }

    fn seen_since(&self, before: Counted, start: u64, rate: f64) -> Seen {
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let seconds = ticks().wrapping_sub(start) as f64 / rate;
        Seen { counted: self.counted().since(before), seconds }
    }
}

/// The processor time of this thread.
fn thread_seconds() -> f64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default().as_secs_f64()
}

/// The socket of a guest.
pub(crate) fn socket(directory: &Path, number: usize) -> std::path::PathBuf {
    directory.join(format!("guest{number}.sock"))
}

pub(crate) fn in_ticks(duration: Duration, rate: f64) -> u64 {
    in_ticks_f(duration.as_secs_f64(), rate)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds, not years")]
pub(crate) fn in_ticks_f(seconds: f64, rate: f64) -> u64 {
    (seconds * rate) as u64
}

/// When frame `number` is due, in ticks from the start.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "seconds of ticks, below 2^52"
)]
fn in_ticks_f_of(number: u64, gap: f64) -> u64 {
    (number as f64 * gap) as u64
}
