//! A guest's receiveq: frames delivered, 32 between publications.
//!
//! The frames lie in another guest's memory, behind their private header, as egress finds them.
//! They are whole before the clock starts, so this is `ReceiveQueue::prepare`,
//! `deliver` and `release` alone: `copy` times the tag and all.
//!
//! | bench                | a buffer has          | a frame takes |
//! |----------------------|-----------------------|---------------|
//! | `deliver/64`, …      | room for any frame    | one           |
//! | `deliver/9000_in_6`  | 1,536 bytes, as Linux | six, merged   |
//! | `deliver/no_buffer`  |                       | none: refused |

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use frame::Outgoing;
use virtio::Refusal;

use crate::frames::frame;
use crate::guests::{Receiver, Sender, sent_burst};
use crate::{BURST, ROUND, part, time_rounds};

/// What Linux gives for an MTU of 1,500 where buffers merge: a multiple of its cache line.
const MERGED_BYTES: u32 = 1_536;

/// Name, length of the frame, and of the buffers with net header; how many a frame takes.
const SHAPES: [(&str, usize, u32, usize); 4] = [
    ("64", 64, MERGED_BYTES, 1),
    ("1514", 1_514, MERGED_BYTES, 1),
    ("9000", 9_000, 9_088, 1),
    ("9000_in_6", 9_000, MERGED_BYTES, 6),
];

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "receiveq");
    for (name, length_bytes, buffer_bytes, buffers) in SHAPES {
        let sender = sent_burst(&frame(0, 1, None, length_bytes));
        let outgoing = outgoing(&sender);
        let mut receiver = Receiver::new(buffer_bytes);
        let frames = ROUND / buffers;
        check(&mut receiver, &outgoing, frames);
        group.bench_function(BenchmarkId::new("deliver", name), |bencher| {
            let deliver = |receiver: &mut Receiver| deliver(receiver, &outgoing, frames);
            time_rounds(bencher, &mut receiver, frames, Receiver::refill, deliver);
        });
    }
    let sender = sent_burst(&frame(0, 1, None, 64));
    let (outgoing, mut receiver) = (outgoing(&sender), Receiver::new(MERGED_BYTES));
    group.bench_function("deliver/no_buffer", |bencher| {
        bencher.iter(|| {
            let refused = receiver.queue.deliver(black_box(&outgoing[0]));
            black_box(&refused);
        });
    });
    group.finish();
}

/// The frames of a guest's burst as they leave, without tag.
fn outgoing(sender: &Sender) -> Vec<Outgoing<'_>> {
    let frames = sender.burst.frames.iter();
    frames
        .map(|frame| Outgoing::new(frame.header.untagged(), sender.burst.segments_of(frame)))
        .collect()
}

/// Makes sure that a round is as many frames as it is counted for, and not one more.
fn check(receiver: &mut Receiver, outgoing: &[Outgoing<'_>], frames: usize) {
    receiver.refill();
    deliver(receiver, outgoing, frames);
    let refused = receiver.queue.deliver(&outgoing[0]);
    assert_eq!(refused, Err(Refusal::NoBuffer), "the round took every buffer");
}

fn deliver(receiver: &mut Receiver, outgoing: &[Outgoing<'_>], frames: usize) {
    let mut left = frames;
    while left > 0 {
        let burst = &outgoing[..left.min(BURST)];
        let bytes = burst.iter().map(|frame| frame.length_bytes).sum();
        receiver.queue.prepare(burst.len(), bytes);
        for frame in burst {
            let delivered = receiver.queue.deliver(black_box(frame));
            delivered.expect("a round has buffers for all its frames");
        }
        black_box(receiver.queue.release());
        left -= burst.len();
    }
}
