//! The hand-over ring: a burst of 32 staged and published, taken and released.
//!
//! In one thread this is the cost of the code; the lines of the ring never leave the core. Between
//! threads, `across` times a burst going to another thread and its hand-backs coming home: per
//! frame, both rings and both threads. That needs two cores that have nothing else to do.
//!
//! Items are as long as those of `datapath::handover`, which keeps them to itself: a frame with
//! header and segments 208 bytes, its hand-back 16.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion};
use frame::Origin;
use ring::{Consumer, Producer, ring};

use crate::{BURST, ROUND, part, time_rounds};

/// As many as `datapath` has.
const RING_ITEMS: usize = 1_024;

/// A frame that is lent, with what it takes along.
type Lent = [u64; 26];

const LENT: Lent = [1; 26];

/// A hand-back: which loan is over, and the number of a chunk.
type HandBack = (Origin, u32);

const HAND_BACK: HandBack = (Origin { queue: 1, generation: 2, loan: 3 }, 4);
const _: () = assert!(size_of::<HandBack>() == 16);

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "ring");
    push_and_pop(&mut group, "hand_back_16_bytes", HAND_BACK);
    push_and_pop(&mut group, "frame_208_bytes", LENT);
    across(&mut group);
    group.finish();
}

fn push_and_pop<Item: Copy + Send>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    item: Item,
) {
    let mut ends = ring(RING_ITEMS);
    let through = |(producer, consumer): &mut (Producer<Item>, Consumer<Item>)| {
        for _ in 0..ROUND / BURST {
            push_burst(producer, item);
            let popped = pop_burst(consumer, |item| {
                black_box(&item);
            });
            debug_assert_eq!(popped, BURST);
        }
    };
    group.bench_function(BenchmarkId::new("push_and_pop", name), |bencher| {
        time_rounds(bencher, &mut ends, ROUND, |_| (), through);
    });
}

fn push_burst<Item: Copy + Send>(producer: &mut Producer<Item>, item: Item) {
    for _ in 0..BURST {
        let pushed = producer.push(*black_box(&item));
        assert!(pushed.is_ok(), "no more is ever out than the ring holds");
    }
    producer.publish();
}

/// Takes up to a burst. Returns how many there were.
fn pop_burst<Item: Send>(consumer: &mut Consumer<Item>, mut take: impl FnMut(Item)) -> usize {
    let mut count = 0;
    while count < BURST
        && let Some(item) = consumer.pop()
    {
        take(item);
        count += 1;
    }
    consumer.release();
    count
}

/// Lends frames to a thread that hands them back at once.
fn across(group: &mut BenchmarkGroup<'_, WallTime>) {
    let (handovers_out, mut handovers_in) = ring::<Lent>(RING_ITEMS);
    let (mut returns_out, returns_in) = ring::<HandBack>(RING_ITEMS);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let hand_back = |lent: Lent| {
                    black_box(&lent);
                    assert!(returns_out.push(HAND_BACK).is_ok(), "as many as are lent at most");
                };
                if pop_burst(&mut handovers_in, hand_back) == 0 {
                    spin_loop();
                }
                returns_out.publish();
            }
        });
        let mut ends = (handovers_out, returns_in);
        group.bench_function("across/frame_and_hand_back", |bencher| {
            time_rounds(bencher, &mut ends, ROUND, |_| (), lend_round);
        });
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Lends a round of frames, burst by burst, and waits until all are back.
fn lend_round((handovers_out, returns_in): &mut (Producer<Lent>, Consumer<HandBack>)) {
    let mut returned = 0;
    for _ in 0..ROUND / BURST {
        push_burst(handovers_out, LENT);
        returned += pop_burst(returns_in, |hand_back| {
            black_box(hand_back);
        });
    }
    while returned < ROUND {
        returned += pop_burst(returns_in, |hand_back| {
            black_box(hand_back);
        });
        spin_loop();
    }
}
