//! Guest to namespace through one poll thread, and back: vhost-user to AF_XDP to vhost-user.
//!
//! To the wire, the guest posts as many frames as its ring takes, and the far end's interface counts
//! what arrives. To the guest, the kernel makes frames (`net/flood.rs`) in turn with the guest's own
//! work, no more than the guest has buffers for, since one core does both.

use std::time::{Duration, Instant};

use super::wire::{LONGEST, flood_limit, lengths, look, receive_while, send_intact};
use crate::bench::{Bench, Spec, StealClock, Trouble, plug_in};
use crate::generator::{Checks, Manner, Stations, Stream, ticks_per_second};
use crate::load::{Load, socket};
use crate::net::{Flood, Sink, Wires};
use crate::samples::{Better, Sample};
use crate::systems::{Port, Running, System};

const TO_WIRE: &str = "guest to namespace";
const TO_GUEST: &str = "namespace to guest";

/// Entries of the guest's rings: the most that QEMU allows, for a flood comes in bursts.
const ENTRIES: u16 = 1_024;

/// Frames of one burst of a flood: a call takes some microseconds whatever it sends.
const BURST: u32 = 256;

/// Frames that the guest posts together: what DPDK's generators send at once.
const POSTED: u16 = 32;

/// A result above this share of what the generator reaches may be the generator's.
const BOUND_SHARE: f64 = 0.8;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// A system between a guest and a wire. Dropped in this order.
#[derive(Debug)]
struct Session {
    _running: Box<dyn Running>,
    load: Load,
    wires: Wires,
    _directory: tempfile::TempDir,
}

/// What the generator reaches for frames of one length: Mpps.
#[derive(Debug, Clone, Copy)]
struct Limits {
    to_wire: f64,
    to_guest: f64,
}

pub(crate) fn run(bench: &mut Bench) {
    let lengths = lengths(bench);
    let mut limits: Option<(u32, Vec<Limits>)> = None;
    bench.rounds("guest-wire", |bench, system, round| {
        // Before a system has the core.
        if limits.as_ref().is_none_or(|(of, _)| *of != round) {
            let limit = |&length| Limits::measure(bench, length);
            limits = Some((round, lengths.iter().map(limit).collect::<Result<_, _>>()?));
        }
        let mut session = start(system)?;
        let limits = limits.iter().flat_map(|(_, limits)| limits);
        for (&length, limits) in lengths.iter().zip(limits) {
            let clock = StealClock::start();
            let (to_wire, to_guest) = session.forward(length, bench.time)?;
            let stolen = clock.stolen();
            let figures =
                [(TO_WIRE, to_wire, limits.to_wire), (TO_GUEST, to_guest, limits.to_guest)];
            for (group, value, limit) in figures {
                let is_generator_bound = value > BOUND_SHARE * limit;
                let sample = Sample { round, value, is_generator_bound, stolen };
                bench.add(&spec(group, length), system.name(), sample);
            }
        }
        Ok(())
    });
}

impl Limits {
    fn measure(bench: &Bench, length: usize) -> Result<Self, String> {
        let (to_wire, to_guest) = (bench.limit(length, false)?, flood_limit(length, BURST)?);
        Ok(Self { to_wire, to_guest })
    }
}

fn start(system: &dyn System) -> Result<Session, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let wires = Wires::new(1)?;
    let manner = Manner { entries: ENTRIES, ..Manner::for_frames_of(LONGEST) };
    let guest = Port::Guest { socket: socket(directory.path(), 0), queue_pairs: 1 };
    let topology = wires.topology(vec![guest], LONGEST);
    if !system.can(&topology) {
        return Err(Trouble::CannotDo);
    }
    let mut load = Load::listen(directory.path(), 1, manner)?;
    let running = plug_in(system, &topology, directory.path(), &mut load)?;
    Ok(Session { _running: running, load, wires, _directory: directory })
}

impl Session {
    /// Frames of a length, for so long in each direction: Mpps that arrived at the wire's far end,
    /// and in the guest.
    fn forward(&mut self, length: usize, time: Duration) -> Result<(f64, f64), String> {
        let stations = Stations { from: 1, to: 2, sources: 1, destinations: 1 };
        let mut out = Stream::new(length, stations, Checks::All);
        let mut back = out.reversed();
        let outer = &self.wires.outer[0];
        let mut flood = outer.flood(back.template())?;
        let all = outer.sink(0)?;
        self.await_passage(&mut out, &mut back, &mut flood, &all)?;
        let judge = back.reversed();
        send_intact(&judge, &all, out.counted.sent, |count| self.post_all(&mut out, count))?;
        drop(all);
        self.exchange(&mut back, &mut flood, Duration::from_millis(50))?;
        if back.counted.damaged > 0 {
            return Err(format!("frames do not arrive intact: {:?}", back.counted));
        }

        let some = self.wires.outer[0].sink(255)?;
        let (received, seconds) = receive_while(&some, || {
            let start = Instant::now();
            while start.elapsed() < time {
                self.post(&mut out, u16::MAX);
            }
        })?;
        look(&out, &some, received)?;
        back.use_checks(Checks::Some);
        let to_guest = self.exchange(&mut back, &mut flood, time)?;
        if back.counted.damaged > 0 || to_guest == 0.0 {
            return Err(format!("frames do not arrive intact: {:?}", back.counted));
        }
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let to_wire = received.frames as f64 / seconds / 1e6;
        Ok((to_wire, to_guest))
    }

    /// Sends frames one at a time until one has arrived in each direction.
    fn await_passage(
        &mut self,
        out: &mut Stream,
        back: &mut Stream,
        flood: &mut Flood,
        sink: &Sink,
    ) -> Result<(), String> {
        let start = Instant::now();
        let (mut is_out, mut is_back) = (false, false);
        while !(is_out && is_back) {
            if start.elapsed() > PATIENCE {
                return Err("no frame passes between guest and wire".to_owned());
            }
            self.post(out, 1);
            self.wires.outer[0].inside(|| flood.send(1))?;
            back.note_sent(1);
            std::thread::sleep(Duration::from_millis(20));
            sink.take(|frame| is_out |= out.number_of(frame).is_some());
            back.receive(&mut self.load.guests[0].pairs[0].0, |_| {});
            is_back = back.counted.delivered > 0;
        }
        back.forget();
        Ok(())
    }

    /// Posts up to so many frames, if there is room for some. Returns how many.
    fn post(&mut self, stream: &mut Stream, most: u16) -> u64 {
        let (receive, transmit) = &mut self.load.guests[0].pairs[0];
        // What others say to the guest.
        receive.receive(|_, _| {});
        let count = transmit.reclaim().min(most);
        if count < POSTED.min(most) {
            return 0;
        }
        (0..count).for_each(|_| stream.send(transmit, 0));
        transmit.publish();
        u64::from(count)
    }

    /// Posts so many frames, soon or later.
    fn post_all(&mut self, stream: &mut Stream, count: u32) -> Result<(), String> {
        let (mut left, start) = (u64::from(count), Instant::now());
        while left > 0 {
            left -= self.post(stream, u16::try_from(left).unwrap_or(u16::MAX).min(POSTED));
            if start.elapsed() > PATIENCE {
                return Err(format!("{left} frames cannot be posted"));
            }
        }
        Ok(())
    }

    /// The closed loop from the wire to the guest, for so long: Mpps that arrived.
    fn exchange(
        &mut self,
        stream: &mut Stream,
        flood: &mut Flood,
        time: Duration,
    ) -> Result<f64, String> {
        let window = u64::from(ENTRIES);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a second")]
        let patience = (ticks_per_second() / 10.0) as u64;
        let receive = &mut self.load.guests[0].pairs[0].0;
        self.wires.outer[0].inside(|| {
            let (before, start) = (stream.counted.delivered, Instant::now());
            while start.elapsed() < time {
                if stream.in_flight() + u64::from(BURST) <= window {
                    flood.send(BURST)?;
                    stream.note_sent(BURST.into());
                }
                stream.receive(receive, |_| {});
                stream.give_up_after(patience);
            }
            #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
            let delivered = (stream.counted.delivered - before) as f64;
            Ok(delivered / start.elapsed().as_secs_f64() / 1e6)
        })
    }
}

fn spec(group: &'static str, length: usize) -> Spec {
    let how = match group {
        TO_WIRE => {
            "the guest posts all that its ring takes; frames that the far end's interface counts, \
             loss allowed"
        }
        _ => "closed loop, at most 1024 frames on their way; only intact frames counted",
    };
    Spec {
        group,
        label: format!("{length} B"),
        unit: "Mpps",
        better: Better::More,
        conditions: format!(
            "{how}; byte for byte 1 in 256 of them; rings of 1024, VERSION_1 and MRG_RXBUF, split, \
             no EVENT_IDX; veth with one queue, AF_XDP in copy mode"
        ),
        goals: Vec::new(),
    }
}
