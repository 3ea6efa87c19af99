//! What it costs to hand a frame over to another poll thread and to get it back.
//!
//! Two poll threads leave no core of this machine's two for a load, so the ingress thread makes its
//! own frames here: what crosses is what `datapath::handover` sends over the rings of `ring`, as
//! long and in such bursts, and nothing is copied at the other end.
//!
//! ```text
//!   ingress thread ── frames, 208 bytes ──▶ egress thread
//!                  ◀── hand-backs, 16 ─────
//! ```

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ring::{Consumer, Producer, ring};

use crate::bench::{Bench, POLL_CORE, Spec, StealClock, Trouble};
use crate::generator::ticks;
use crate::samples::{Better, OWN, Sample};

/// As many as `datapath` has.
const RING_ITEMS: usize = 1_024;

const BURST: usize = 32;

/// A frame that is lent: header, segments and where it goes.
type Lent = [u64; 26];

/// A hand-back: queue, loan and chunk.
type HandBack = [u64; 2];

pub(crate) fn run(bench: &mut Bench) {
    bench.rounds("hand-over", |bench, system, round| {
        if system.name() != OWN {
            return Err(Trouble::CannotDo);
        }
        let clock = StealClock::start();
        let value = ticks_a_frame(bench.time);
        let stolen = clock.stolen();
        let sample = Sample { round, value, is_generator_bound: false, stolen };
        bench.add(&spec(), OWN, sample);
        Ok(())
    });
}

/// Ticks of either core for each frame that went over and came back.
fn ticks_a_frame(time: Duration) -> f64 {
    let (handovers_out, handovers_in) = ring::<Lent>(RING_ITEMS);
    let (returns_out, returns_in) = ring::<HandBack>(RING_ITEMS);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: POLL_CORE });
            hand_back(handovers_in, returns_out, &is_over);
        });
        let ticks = lend(handovers_out, returns_in, time);
        is_over.store(true, Ordering::Relaxed);
        ticks
    })
}

/// The ingress thread: lends bursts as long as loans come back.
fn lend(mut out: Producer<Lent>, mut back: Consumer<HandBack>, time: Duration) -> f64 {
    let (mut lent, mut returned) = (0usize, 0usize);
    let (start, first) = (Instant::now(), ticks());
    while start.elapsed() < time {
        while lent + BURST <= returned + RING_ITEMS {
            for _ in 0..BURST {
                let frame = [lent as u64; 26];
                assert!(out.push(black_box(frame)).is_ok(), "loans are as many as the ring holds");
                lent += 1;
            }
            out.publish();
        }
        while let Some(hand_back) = back.pop() {
            assert_eq!(hand_back[0], returned as u64, "frames come back once and in order");
            returned += 1;
        }
        back.release();
    }
    let passed = ticks().wrapping_sub(first);
    #[expect(clippy::cast_precision_loss, reason = "well below 2^52")]
    let each = passed as f64 / returned as f64;
    each
}

/// The egress thread: takes bursts and hands their frames back.
fn hand_back(mut taken: Consumer<Lent>, mut out: Producer<HandBack>, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let mut count = 0;
        while count < BURST
            && let Some(frame) = taken.pop()
        {
            let frame = black_box(frame);
            assert!(out.push([frame[0], frame[25]]).is_ok(), "as many as are lent at most");
            count += 1;
        }
        if count == 0 {
            spin_loop();
        }
        taken.release();
        out.publish();
    }
}

fn spec() -> Spec {
    Spec {
        group: "ticks a frame handed over to another poll thread",
        label: "to and fro".to_owned(),
        unit: "ticks",
        better: Better::Less,
        conditions: format!(
            "the two rings alone: frames of 208 bytes over, hand-backs of 16 bytes home, in bursts \
             of {BURST}, at most {RING_ITEMS} on their way; made by the thread that lends them"
        ),
        goals: Vec::new(),
    }
}
