//! The hand-over ring: a burst of 32 staged and published, taken and released.
//!
//! In one thread this is the cost of the code; the lines of the ring never leave the core. What it
//! is between threads, the traffic bench measures (`work/handover.rs`).
//!
//! Items are as long as those of `datapath::handover`, which keeps them to itself: a frame with
//! header and segments 208 bytes, its hand-back 16.

use std::hint::black_box;

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
