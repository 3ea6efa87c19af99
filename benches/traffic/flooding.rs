//! The load of flooding: one guest's frames for all others.
//!
//! The frames are for a station that nobody has heard, so each goes to every other guest. Each copy
//! is looked at as any frame is. A frame is on its way until the last guest has it, and no more
//! than a window of them are; so credit is given back only when all receivers have been drained.

use std::time::Duration;

use crate::generator::{Checks, Counted, Guest, Stations, Stream, ticks, ticks_per_second};
use crate::load::{PATIENCE, POSTED, Seen, in_ticks, in_ticks_f};

/// Station numbers (see [`Stations`]): the sender's, and one that stays silent.
const SENDER: u8 = 1;
const NOBODY: u8 = 0xff;

/// What the first guest sends, and what the others see of it.
#[derive(Debug)]
pub(crate) struct Flooding {
    sent: Stream,
    /// By receiver.
    copies: Vec<Stream>,
    window: u64,
}

impl Flooding {
    pub(crate) fn new(receivers: usize, length: usize, window: u64, checks: Checks) -> Self {
        let stations = Stations { from: SENDER, to: NOBODY, sources: 1, destinations: 1 };
        let sent = Stream::new(length, stations, checks);
        Self { copies: vec![sent.clone(); receivers], sent, window }
    }

    /// As many as go through, for so long: the first guest's frames to the next ones. What was
    /// delivered, lost and damaged are copies.
    pub(crate) fn closed_loop(&mut self, guests: &mut [Guest], duration: Duration) -> Seen {
        let before = self.counted();
        let (start, rate) = (ticks(), ticks_per_second());
        let (length, patience) = (in_ticks(duration, rate), in_ticks_f(PATIENCE, rate));
        let Some((sender, receivers)) = guests.split_first_mut() else {
            return Seen { counted: Counted::default(), seconds: 0.0 };
        };
        let transmit = &mut sender.pairs[0].1;
        while ticks().wrapping_sub(start) < length {
            let mut in_flight = 0;
            for (copies, guest) in self.copies.iter_mut().zip(receivers.iter_mut()) {
                copies.receive(&mut guest.pairs[0].0, |_| {});
                copies.give_up_after(patience);
                in_flight = in_flight.max(copies.in_flight());
            }
            let free = u64::from(transmit.reclaim());
            let count = free.min(self.window - in_flight.min(self.window));
            if count >= POSTED || in_flight == 0 {
                let now = ticks();
                (0..count).for_each(|_| self.sent.send(transmit, now));
                transmit.publish();
                self.copies.iter_mut().for_each(|copies| copies.follow(&self.sent));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let seconds = ticks().wrapping_sub(start) as f64 / rate;
        Seen { counted: self.counted().since(before), seconds }
    }

    /// Whether every receiver has got something.
    pub(crate) fn reaches_all(&self) -> bool {
        self.copies.iter().all(|copies| copies.counted.delivered > 0)
    }

    fn counted(&self) -> Counted {
        let sent = Counted { sent: self.sent.counted.sent, ..Counted::default() };
        self.copies.iter().fold(sent, |sum, copies| sum.and(copies.counted))
    }
}
