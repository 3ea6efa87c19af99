//! Namespace to namespace through one poll thread: packets, and TCP.
//!
//! Packets come from a generator that outruns every system (`net/flood.rs`), so what is measured is
//! what a system forwards while more is offered. The far end's interface counts frames and bytes;
//! a packet socket there compares one frame in 256 byte for byte, and in an untimed pass every one.

use std::time::{Duration, Instant};

use crate::bench::{Bench, Spec, StealClock, Trouble};
use crate::generator::{Checks, Stations, Stream};
use crate::net::{CONGESTION_CONTROL, Flood, Received, Server, Sink, Wires, ipv4, throughput};
use crate::samples::{Better, Sample};
use crate::systems::{Running, System};

const PACKETS: &str = "namespace to namespace, packets";
const TCP: &str = "namespace to namespace, TCP";

/// The longest frame that the systems are set up for.
pub(super) const LONGEST: usize = 1_514;

/// The lengths that are measured.
pub(super) const fn lengths(bench: &Bench) -> &'static [usize] {
    if bench.is_quick { &[64] } else { &[64, LONGEST] }
}

/// A result above this share of what the generator reaches or offers may be the generator's.
const BOUND_SHARE: f64 = 0.8;

/// How long anything may take that must happen.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a flood lasts before the clock runs, so that queues are full.
const FILLING: Duration = Duration::from_millis(50);

/// A system with a wire on each side. Dropped in this order.
#[derive(Debug)]
struct Session {
    running: Box<dyn Running>,
    wires: Wires,
    directory: tempfile::TempDir,
}

pub(crate) fn run(bench: &mut Bench) {
    let lengths = lengths(bench);
    let mut limits: Option<(u32, Vec<f64>)> = None;
    bench.rounds("wire", |bench, system, round| {
        // No goal names it here, and a quick run has no time for what none names.
        if bench.is_quick && system.name() == "linux-bridge" {
            return Err(Trouble::CannotDo);
        }
        // Before a system has the core.
        if limits.as_ref().is_none_or(|(of, _)| *of != round) {
            let limit = |&length| flood_limit(length, Flood::CALL);
            limits = Some((round, lengths.iter().map(limit).collect::<Result<_, _>>()?));
        }
        let session = start(system)?;
        session.wires.take_bare_frames(true)?;
        let limits = limits.iter().flat_map(|(_, limits)| limits);
        for (&length, &limit) in lengths.iter().zip(limits) {
            let clock = StealClock::start();
            let (value, offered) = session.forward(length, bench.time)?;
            // A bridge works on the generator's time, so all that is offered goes through.
            let offered = if session.running.process().is_some() { offered } else { f64::MAX };
            let is_generator_bound = value > BOUND_SHARE * limit.min(offered);
            let sample = Sample { round, value, is_generator_bound, stolen: clock.stolen() };
            bench.add(&packets(length), system.name(), sample);
        }
        session.wires.take_bare_frames(false)?;
        let clock = StealClock::start();
        let seconds = if bench.is_quick { 1 } else { 3 };
        let value = session.tcp(seconds)? / 1e9;
        let sample = Sample { round, value, is_generator_bound: false, stolen: clock.stolen() };
        bench.add(&tcp(), system.name(), sample);
        Ok(())
    });
}

/// What a flood of so many frames a call offers when nobody takes them from the wire's other end:
/// Mpps.
pub(super) fn flood_limit(length: usize, call: u32) -> Result<f64, String> {
    let wires = Wires::new(1)?;
    wires.take_bare_frames(true)?;
    let frame = stream(length).template();
    let mut flood = wires.outer[0].flood(frame)?;
    let wait = || std::thread::sleep(Duration::from_millis(200));
    let ((), offered) = wires.outer[0].flooded(&mut flood, call, wait)?;
    Ok(offered / 1e6)
}

fn start(system: &dyn System) -> Result<Session, Trouble> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let wires = Wires::new(2)?;
    let topology = wires.topology(Vec::new(), LONGEST);
    if !system.can(&topology) {
        return Err(Trouble::CannotDo);
    }
    let running = system.start(&topology, directory.path())?;
    Ok(Session { running, wires, directory })
}

/// What goes from the first wire to the second.
fn stream(length: usize) -> Stream {
    let stations = Stations { from: 1, to: 2, sources: 1, destinations: 1 };
    Stream::new(length, stations, Checks::All)
}

impl Session {
    /// Sends frames as fast as can be for so long. Returns how many million a second arrived and
    /// how many were offered.
    fn forward(&self, length: usize, time: Duration) -> Result<(f64, f64), String> {
        let stream = stream(length);
        let [from, to] = [&self.wires.outer[0], &self.wires.outer[1]];
        let mut flood = from.flood(stream.template())?;
        let all = to.sink(0)?;
        from.inside(|| {
            await_passage(&stream, &mut flood, &all)?;
            send_intact(&stream, &all, flood.sent, |count| flood.send(count))
        })?;
        drop(all);

        let some = to.sink(255)?;
        let (received, offered) = from.flooded(&mut flood, Flood::CALL, || {
            std::thread::sleep(FILLING);
            receive_while(&some, || std::thread::sleep(time))
        })?;
        let (received, seconds) = received?;
        look(&stream, &some, received)?;
        #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
        let frames = received.frames as f64;
        Ok((frames / seconds / 1e6, offered / 1e6))
    }

    /// One TCP connection for so long: bits a second that arrived.
    fn tcp(&self, seconds: u64) -> Result<f64, String> {
        let [from, to] = [&self.wires.outer[0], &self.wires.outer[1]];
        let _server = Server::start(to, self.directory.path())?;
        throughput(from, &ipv4(1), seconds)
    }
}

/// Counts what arrives while `work` goes on, and says for how many seconds that was.
pub(super) fn receive_while(sink: &Sink, work: impl FnOnce()) -> Result<(Received, f64), String> {
    let (before, start) = (sink.received()?, Instant::now());
    work();
    let (after, seconds) = (sink.received()?, start.elapsed().as_secs_f64());
    Ok((after.since(before), seconds))
}

/// Lets the system learn where the far station is, and sends frames one at a time until one
/// arrives.
fn await_passage(stream: &Stream, flood: &mut Flood, sink: &Sink) -> Result<(), String> {
    let answer = stream.reversed().template();
    let start = Instant::now();
    let mut has_passed = false;
    while !has_passed {
        if start.elapsed() > PATIENCE {
            return Err("no frame passes from wire to wire".to_owned());
        }
        sink.send(&answer)?;
        flood.send(1)?;
        std::thread::sleep(Duration::from_millis(20));
        sink.take(|frame| has_passed |= stream.number_of(frame).is_some());
    }
    Ok(())
}

/// Sends some frames, the first with the number `first`, no faster than they arrive at a sink for
/// all: all must, once, in order and byte for byte.
pub(super) fn send_intact(
    stream: &Stream,
    sink: &Sink,
    first: u64,
    mut send: impl FnMut(u32) -> Result<(), String>,
) -> Result<(), String> {
    let (mut next, start) = (first, Instant::now());
    for _ in 0..16 {
        send(32)?;
        let end = next + 32;
        while next < end {
            let mut stray = None;
            sink.take(|frame| match stream.number_of(frame) {
                Some(number) if number == next => next += 1,
                // Sent to see whether any passes.
                Some(number) if number < first => {}
                number => stray = Some(number),
            });
            if stray.is_some() || start.elapsed() > PATIENCE {
                return Err(format!("frame {next} does not arrive intact: {stray:?} instead"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Checks what arrived while the clock ran: the length of every frame by the counted bytes, and
/// each frame that the socket got.
pub(super) fn look(stream: &Stream, sink: &Sink, received: Received) -> Result<(), String> {
    let (mut last, mut is_good) = (None, true);
    let looked_at = sink.take(|frame| {
        let number = stream.number_of(frame);
        is_good &= number > last;
        last = number;
    });
    let due = received.frames * stream.length() as u64;
    // The kernel says a few words of its own, such as reports of multicast groups.
    let is_whole = received.bytes.abs_diff(due) <= due / 1_000;
    if received.frames == 0 || looked_at == 0 || !is_good || !is_whole {
        return Err(format!("frames do not arrive intact: {received:?}, {looked_at} looked at"));
    }
    Ok(())
}

/// What all figures here hold for.
const SET_UP: &str = "MTU 1500, transmit checksum offload (and with it segmentation offload) off at \
                      the outer ends; veth with one queue, AF_XDP in copy mode (Linux bridge: \
                      members); what a wire's far end receives costs the core that sent it";

fn packets(length: usize) -> Spec {
    Spec {
        group: PACKETS,
        label: format!("{length} B"),
        unit: "Mpps",
        better: Better::More,
        conditions: format!(
            "one direction, more offered than forwarded: frames that the far end's interface \
             counts, loss allowed; byte for byte 1 in 256 of them; {SET_UP}"
        ),
        goals: Vec::new(),
    }
}

fn tcp() -> Spec {
    Spec {
        group: TCP,
        label: "one connection".to_owned(),
        unit: "Gbit/s",
        better: Better::More,
        conditions: format!(
            "iperf3, congestion control {CONGESTION_CONTROL}, both ends on the load's core; {SET_UP}"
        ),
        goals: vec![("ovs-dpdk", 1.5), ("testpmd", 1.0)],
    }
}
