//! A guest of the soak: its driver, what became of it, and what it has sent and got.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio::testing::TestMemory;

use super::manners::{MANNERS, MOST_PAIRS};
use super::story::Chance;
use super::traffic::{HOST, Label, Ledger, Receipt, WIRE, address};
use super::watch::{PollThreads, Watch};
use crate::support::BROADCAST;
use crate::support::front_end::{FrontEnd, Manner, RING_ENTRIES};

/// Where memory is plugged: behind what the rings of a guest can need.
const PLUGGED_AT: u64 = 0x1_0000_0000;

/// Its size.
const PLUGGED_BYTES: u64 = 1 << 20;

/// Frames that a pair sends or takes in one go.
const AT_ONCE: usize = 24;

/// How often in one go.
const TEASED_TIMES: usize = 2;

/// After this a queue is polled in vain for the shortest time (`Patience` of the data path): 2 to
/// the power of 15 ticks of the processor, 8 to 16 µs.
const SILENCE: Duration = Duration::from_millis(2);

/// The longest time between two frames that are to fall in just then.
const LONGEST_PAUSE_NANOSECONDS: usize = 30_000;

/// Most bytes of a frame's pattern: the frame stays under 1,500 bytes.
const PATTERN_BYTES: usize = 1_400;

/// What all guests have in common.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Time {
    pub(super) ms: u32,
    /// How often a port's VLAN was changed.
    pub(super) epoch: u32,
    /// How often the switch was killed.
    pub(super) kills: u32,
    /// Nobody can expect to be served now.
    pub(super) is_grace: bool,
}

/// One queue pair.
#[derive(Debug, Default)]
pub(super) struct Pair {
    /// Frames sent ever.
    sent: u64,
    /// Of them, those that were in rings that were laid out anew.
    abandoned: u64,
    /// It is switched off until this step.
    pub(super) off_until: Option<u64>,
    /// Its driver waits for a call.
    is_asleep: bool,
    served: Watch,
    called: Watch,
}

/// One guest. What is wrong with it lasts until a step.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) index: u8,
    pub(super) name: String,
    pub(super) socket: PathBuf,
    pub(super) front_end: FrontEnd,
    /// Of all queue pairs that it has ever had.
    pub(super) pairs: Vec<Pair>,
    pub(super) vlan: u16,
    pub(super) away_until: Option<u64>,
    pub(super) no_memory_until: Option<u64>,
    /// It does not read what it gets.
    pub(super) deaf_until: Option<u64>,
    /// Its processors are stopped.
    pub(super) is_stopped: bool,
    pub(super) has_port: bool,
    pub(super) plugged: Option<Arc<TestMemory>>,
    pub(super) received: u64,
}

impl Guest {
    /// Plugs one in.
    pub(super) fn plug_in(index: u8, name: String, socket: PathBuf) -> Self {
        let manner = MANNERS[usize::from(index)];
        let front_end = FrontEnd::plug_in_with_room(&socket, manner, MOST_PAIRS);
        let pairs = (0..MOST_PAIRS).map(|_| Pair::default()).collect();
        Self {
            index,
            name,
            socket,
            front_end,
            pairs,
            vlan: 1,
            away_until: None,
            no_memory_until: None,
            deaf_until: None,
            is_stopped: false,
            has_port: true,
            plugged: None,
            received: 0,
        }
    }

    /// Ends the session, with all rings running or not.
    pub(super) fn hang_up(&mut self, is_sudden: bool) {
        if is_sudden {
            self.front_end.vanish();
        } else {
            self.front_end.leave();
        }
    }

    /// Says whether the switch is to serve it.
    pub(super) const fn is_served(&self) -> bool {
        self.away_until.is_none() && self.no_memory_until.is_none()
    }

    /// Queue pairs that it has now.
    pub(super) fn pairs_now(&self) -> usize {
        self.front_end.manner().queue_pairs.into()
    }

    /// Says whether its rings do not tell where a switch has died.
    pub(super) const fn is_packed(&self) -> bool {
        self.front_end.manner().features.contains(virtio::Features::RING_PACKED)
    }

    /// Its next driver works the rings so. Everything in them was harvested.
    pub(super) fn take_manner(&mut self, manner: Manner) {
        self.front_end.take_manner(manner);
        self.wake_up();
    }

    /// Frames that the switch has taken from it.
    pub(super) fn given_back(&mut self) -> u64 {
        let front_end = &mut self.front_end;
        let in_flight: u64 = (0..usize::from(front_end.manner().queue_pairs))
            .map(|number| u64::from(front_end.in_flight_on(number)))
            .sum();
        self.pairs.iter().map(|pair| pair.sent - pair.abandoned).sum::<u64>() - in_flight
    }

    /// Says whether all that it sent was taken, and it has taken all that came.
    pub(super) fn is_done(&mut self) -> bool {
        let pairs = self.pairs_now();
        let front_end = &mut self.front_end;
        (0..pairs).all(|pair| front_end.in_flight_on(pair) == 0 && !front_end.has_received(pair))
    }

    /// Sends some frames to anybody.
    pub(super) fn send(&mut self, chance: &mut Chance, time: Time) {
        if self.is_stopped {
            return;
        }
        for number in 0..self.pairs_now() {
            let room = usize::from(RING_ENTRIES - self.front_end.in_flight_on(number));
            (0..chance.below(AT_ONCE).min(room)).for_each(|_| self.send_one(number, chance, time));
        }
    }

    fn send_one(&mut self, number: usize, chance: &mut Chance, time: Time) {
        let to = self.anybody(chance);
        let length = [0, chance.below(64), chance.below(PATTERN_BYTES)][chance.below(3)];
        let pair = &mut self.pairs[number];
        pair.sent += 1;
        let label = Label {
            guest: self.index,
            pair: u8::try_from(number).unwrap(),
            vlan: self.vlan,
            epoch: time.epoch,
            kills: time.kills,
            number: pair.sent,
            ms: time.ms,
        };
        let frame = label.frame(to, u16::try_from(length).unwrap());
        self.front_end.send_on(number, &frame);
    }

    /// Sends frames just when its poll thread may be about to look at the ring no more: one after
    /// a silence after which it looks for the shortest time, and one about that time later. What
    /// is forgotten then is forgotten for good, so nothing else happens until it is served.
    pub(super) fn tease(&mut self, chance: &mut Chance, threads: &mut PollThreads, time: Time) {
        if !self.is_served() || self.is_stopped || time.is_grace {
            return;
        }
        let number = chance.below(self.pairs_now());
        for _ in 0..TEASED_TIMES {
            let nanoseconds = chance.below(LONGEST_PAUSE_NANOSECONDS);
            let pause = Duration::from_nanos(u64::try_from(nanoseconds).unwrap());
            self.await_served(number, threads, time);
            std::thread::sleep(SILENCE);
            self.send_one(number, chance, time);
            self.await_served(number, threads, time);
            let start = Instant::now();
            while start.elapsed() < pause {}
            self.send_one(number, chance, time);
        }
        self.await_served(number, threads, time);
    }

    fn await_served(&mut self, pair: usize, threads: &mut PollThreads, time: Time) {
        while self.front_end.in_flight_on(pair) > 0 {
            threads.sample();
            self.check_served(threads, time);
            // The core may be the poll thread's.
            std::thread::yield_now();
        }
    }

    /// The address of some pair of another, or of all.
    fn anybody(&self, chance: &mut Chance) -> [u8; 6] {
        let others = u8::try_from(MANNERS.len()).unwrap();
        let number = u8::try_from(chance.below(100)).unwrap();
        match number {
            0..2 => BROADCAST,
            2..9 => address(WIRE, 0),
            9..16 => address(HOST, 0),
            _ => {
                let other = (self.index + 1 + number % (others - 1)) % others;
                let pairs = usize::from(MANNERS[usize::from(other)].queue_pairs);
                address(other, u8::try_from(chance.below(pairs)).unwrap())
            }
        }
    }

    /// Takes what has come, unless it sleeps and is not called.
    pub(super) fn receive(&mut self, ledger: &mut Ledger, time: Time) {
        if self.is_stopped || self.deaf_until.is_some() {
            return;
        }
        for pair in 0..self.pairs_now() {
            if self.pairs[pair].is_asleep && !self.front_end.was_called(pair) {
                continue;
            }
            self.pairs[pair].is_asleep = false;
            let taken = self.take(pair, AT_ONCE, ledger, time);
            self.pairs[pair].is_asleep = taken == 0 && self.front_end.lie_down(pair);
        }
    }

    fn take(&mut self, pair: usize, most: usize, ledger: &mut Ledger, time: Time) -> usize {
        let receipt = Receipt {
            guest: self.index,
            pair: u8::try_from(pair).unwrap(),
            vlan: self.vlan,
            epoch: time.epoch,
            kills: time.kills,
            ms: time.ms,
        };
        for taken in 0..most {
            let Some(frame) = self.front_end.try_receive_from(pair) else { return taken };
            ledger.note(&frame, receipt);
            self.received += 1;
        }
        most
    }

    /// Takes all that is there, called or not.
    pub(super) fn take_all(&mut self, ledger: &mut Ledger, time: Time) {
        for pair in 0..self.pairs_now() {
            self.take(pair, usize::MAX, ledger, time);
        }
    }

    /// Takes all that is there, and gives up what was sent and not taken: before rings are laid
    /// out anew, when nobody works them.
    pub(super) fn harvest(&mut self, ledger: &mut Ledger, time: Time) {
        self.take_all(ledger, time);
        for pair in 0..self.pairs_now() {
            self.pairs[pair].abandoned += u64::from(self.front_end.in_flight_on(pair));
        }
    }

    /// All its drivers are awake: they look at their rings unasked.
    pub(super) fn wake_up(&mut self) {
        self.forget_watches();
        self.pairs.iter_mut().for_each(|pair| pair.is_asleep = false);
    }

    /// Begins anew to measure how long it waits: there are other poll threads.
    pub(super) fn forget_watches(&mut self) {
        for pair in &mut self.pairs {
            pair.served.rest();
            pair.called.rest();
        }
    }

    /// A session begins, in which everything is as it should be.
    pub(super) fn begin_session(&mut self) {
        self.wake_up();
        self.plugged = None;
        self.away_until = None;
        self.no_memory_until = None;
        self.pairs.iter_mut().for_each(|pair| pair.off_until = None);
    }

    /// Tells of its memory anew, in one table, cut somewhere or whole.
    pub(super) fn change_table(&mut self, cuts: &[(usize, u16)]) {
        self.front_end.cut_memory(cuts);
        self.front_end.share_table(self.plugged.as_ref());
        self.front_end.synchronise();
    }

    /// Adds memory, or takes it away again.
    pub(super) fn change_memory(&mut self) {
        if let Some(memory) = self.plugged.take() {
            self.front_end.unplug_memory(&memory);
        } else {
            let memory = TestMemory::with_regions(&[(PLUGGED_AT, PLUGGED_BYTES)]);
            self.front_end.plug_memory(&memory);
            self.plugged = Some(memory);
        }
        self.front_end.synchronise();
    }

    /// Panics if it waits for a poll thread that has forgotten it.
    pub(super) fn check_served(&mut self, threads: &PollThreads, time: Time) {
        let is_served = self.is_served() && !time.is_grace;
        let pairs = self.pairs_now();
        for (number, pair) in self.pairs.iter_mut().enumerate().take(pairs) {
            if is_served && self.front_end.in_flight_on(number) > 0 {
                let mark = self.front_end.given_back_on(number).into();
                if let Some(waited) = pair.served.look(mark, threads) {
                    panic!("{}: transmitq {number} was not served for {waited}", self.name);
                }
            } else {
                pair.served.rest();
            }
            if is_served && pair.is_asleep && self.front_end.has_received(number) {
                let was_called = self.front_end.was_called(number);
                pair.is_asleep = !was_called;
                let waited = pair.called.look(0, threads).filter(|_| !was_called);
                if let Some(waited) = waited {
                    panic!("{}: receiveq {number} was not called for {waited}", self.name);
                }
            } else {
                pair.called.rest();
            }
        }
    }
}
