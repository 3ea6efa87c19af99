//! Two guests that send each other numbered frames: what is lost or repeated on the way shows.
//!
//! A guest sends no further than a burst ahead of what the other has got, so that the other's
//! receive buffers suffice even if a burst is repeated, and nothing is dropped for want of them;
//! and no further than may be lent if the guests belong to two threads.

use std::path::Path;
use std::time::{Duration, Instant};

use super::front_end::{FrontEnd, Manner, RING_ENTRIES};
use super::{ALICE, BOB, PATIENCE, frame};

/// Frames that the switch takes at a time, and that may be repeated if it dies.
pub(crate) const BURST_FRAMES: u64 = 64;

/// Frames of a ring that may be lent to another thread at a time: a quarter.
pub(crate) const LENT_FRAMES: u64 = RING_ENTRIES as u64 / 4;

/// What came in one direction.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    /// Different frames that came: all with numbers below this.
    pub(crate) received: u64,
    /// Frames that came again.
    pub(crate) repeated: u64,
    /// Longest time between two frames.
    pub(crate) pause: Duration,
    last: Option<Instant>,
}

impl Tally {
    /// Notes a frame. One that skips numbers shows that others are lost.
    fn note(&mut self, number: u64) {
        assert!(number <= self.received, "frames {} to {number} are lost", self.received);
        if number < self.received {
            self.repeated += 1;
        } else {
            self.received += 1;
        }
        let now = Instant::now();
        self.pause = self.pause.max(self.last.map_or(Duration::ZERO, |last| now - last));
        self.last = Some(now);
    }
}

/// Alice and Bob, and what each sent the other: `tallies[0]` is from Alice to Bob.
#[derive(Debug)]
pub(crate) struct NumberedPair {
    pub(crate) guests: [FrontEnd; 2],
    pub(crate) tallies: [Tally; 2],
    /// How far ahead they send.
    window: u64,
}

impl NumberedPair {
    /// Plugs both in, to send no further ahead than `window`.
    pub(crate) fn plug_in(sockets: [&Path; 2], window: u64, manner: Manner) -> Self {
        let guests = sockets.map(|socket| FrontEnd::plug_in_as(socket, manner));
        Self { guests, tallies: Default::default(), window }
    }

    /// Sends so many frames each way.
    pub(crate) fn exchange(&mut self, frames: u64) {
        let goals = self.tallies.each_ref().map(|tally| tally.sent + frames);
        let start = Instant::now();
        while self.tallies.iter().zip(goals).any(|(tally, goal)| tally.sent < goal) {
            for (direction, goal) in goals.into_iter().enumerate() {
                if self.tallies[direction].sent < goal {
                    self.send_one(direction);
                }
            }
            self.receive();
            assert!(start.elapsed() < 3 * PATIENCE, "stuck at {:?}", self.tallies);
        }
    }

    /// Goes on until told to end. Returns the longest pause.
    pub(crate) fn exchange_until(&mut self, mut is_over: impl FnMut() -> bool) -> Duration {
        self.tallies.iter_mut().for_each(|tally| tally.pause = Duration::ZERO);
        let start = Instant::now();
        while !is_over() {
            self.send_one(0);
            self.send_one(1);
            self.receive();
            assert!(start.elapsed() < 3 * PATIENCE, "no end of it: {:?}", self.tallies);
        }
        self.tallies.iter().map(|tally| tally.pause).max().unwrap_or_default()
    }

    /// Waits until all that was sent has come.
    pub(crate) fn await_all(&mut self) {
        let start = Instant::now();
        while self.tallies.iter().any(|tally| tally.received < tally.sent) {
            self.receive();
            assert!(start.elapsed() < PATIENCE, "frames are lost: {:?}", self.tallies);
        }
    }

    /// Sends a frame if neither the switch nor the other guest is behind.
    pub(crate) fn send_one(&mut self, direction: usize) {
        let (tally, guest) = (&mut self.tallies[direction], &mut self.guests[direction]);
        let ahead = u64::from(guest.in_flight()).max(tally.sent - tally.received);
        if ahead < self.window {
            let (to, from) = [(BOB, ALICE), (ALICE, BOB)][direction];
            guest.send(&frame(to, from, &tally.sent.to_be_bytes()));
            tally.sent += 1;
        }
    }

    /// Takes what has come.
    pub(crate) fn receive(&mut self) {
        for (direction, to) in [(0, BOB), (1, ALICE)] {
            while let Some((_, frame)) = self.guests[1 - direction].try_receive() {
                assert_eq!(frame[..6], to, "a frame for somebody else");
                let number = frame[14..22].try_into().unwrap();
                self.tallies[direction].note(u64::from_be_bytes(number));
            }
        }
    }
}
