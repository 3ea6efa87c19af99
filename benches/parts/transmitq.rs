//! A guest's transmitq: a burst of 32 taken, and given back to the driver.
//!
//! `take_and_give_back` is what the poll thread does with each burst but for deciding and
//! copying; `take` is the first half of it. `64` and `1514` are a frame in one buffer; a
//! frame of 64 bytes fits the private header whole, one of 1,514 leaves a segment to copy.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};

use crate::frames::frame;
use crate::guests::{Layout, Sender};
use crate::{part, time_rounds};

/// What the frames look like in the guest, and how to call that.
const SHAPES: [(&str, usize, Layout); 4] = [
    ("64", 64, Layout::One),
    ("1514", 1_514, Layout::One),
    ("1514_in_two", 1_514, Layout::Two),
    ("1514_indirect", 1_514, Layout::Indirect),
];

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "transmitq");
    for (name, length_bytes, layout) in SHAPES {
        let mut sender = Sender::new(&frame(0, 1, None, length_bytes), layout);
        let frames = sender.frames();
        check(&mut sender);
        group.bench_function(BenchmarkId::new("take", name), |bencher| {
            time_rounds(bencher, &mut sender, frames, Sender::refill, take);
        });
        sender.refill();
        take_and_give_back(&mut sender);
        group.bench_function(BenchmarkId::new("take_and_give_back", name), |bencher| {
            time_rounds(bencher, &mut sender, frames, Sender::refill, take_and_give_back);
        });
    }
    group.finish();
}

/// Makes sure that a round is as many frames as it is counted for.
fn check(sender: &mut Sender) {
    sender.refill();
    take(sender);
    assert_eq!(sender.queue.outstanding(), sender.frames(), "every frame was taken");
    sender.refill();
    take_and_give_back(sender);
    assert_eq!(sender.queue.outstanding(), 0, "every frame was given back");
}

fn take(sender: &mut Sender) {
    while black_box(sender.receive()) > 0 {
        black_box(&sender.burst);
    }
}

fn take_and_give_back(sender: &mut Sender) {
    while black_box(sender.receive()) > 0 {
        black_box(&sender.burst);
        for at in 0..sender.burst.frames.len() {
            sender.queue.complete(sender.burst.frames[at].token);
        }
        black_box(sender.queue.release());
    }
}
