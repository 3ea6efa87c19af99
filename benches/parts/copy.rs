//! The one copy at egress, from a guest's memory to another's, and what a change of tag adds.
//!
//! `frame::Room` has no safe constructor, so a receiveq makes it: each figure holds what
//! `ReceiveQueue::deliver` costs without a byte of payload, which is about that of 64 bytes.
//! `memcpy` copies as many bytes, net header and all, between as many buffers of our own, and does
//! nothing else: what the copy itself can come down to; other ways of copying are in `copy_ways`.
//!
//! | bench        | came      | leaves   | and so                                               |
//! |--------------|-----------|----------|------------------------------------------------------|
//! | `untagged`   | untagged  | untagged | the header is pointed to                             |
//! | `tag_pushed` | untagged  | tagged   | the header is written anew, payload shifts by 4 bytes |
//! | `tag_popped` | tagged    | untagged | the header is pointed to, payload shifts by 4 bytes  |
//! | `tag_kept`   | tagged    | tagged   | the header is written anew                           |

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use frame::{HEADER_BYTES, Outgoing, TAG_BYTES, VlanTag};

use crate::copy_ways::{Buffers, memcpy};
use crate::frames::{frame, vlan};
use crate::guests::{Receiver, Sender, sent_burst};
use crate::{BURST, ROUND, part, time_rounds};

/// Frame lengths without tag: the shortest, Ethernet's longest, a jumbo frame.
const LENGTHS: [usize; 3] = [64, 1_514, 9_000];

/// Longest frame with net header and tag, in whole cache lines.
const fn buffer_bytes(length_bytes: usize) -> usize {
    (length_bytes + 12 + TAG_BYTES).next_multiple_of(64)
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let tag: VlanTag = vlan(100).into();
    let changes = [
        ("untagged", None, None),
        ("tag_pushed", None, Some(tag)),
        ("tag_popped", Some(tag), None),
        ("tag_kept", Some(tag), Some(tag)),
    ];
    let mut group = part(criterion, "copy");
    for length_bytes in LENGTHS {
        let room_bytes = u32::try_from(buffer_bytes(length_bytes)).expect("a buffer's length");
        for (name, came, leaves) in changes {
            let sender = sent_burst(&frame(0, 1, came, length_bytes));
            assert!(sender.burst.frames.iter().all(|frame| frame.header.tag() == came));
            let mut receiver = Receiver::new(room_bytes);
            group.bench_function(BenchmarkId::new(name, length_bytes), |bencher| {
                let send = |receiver: &mut Receiver| send(receiver, &sender, leaves);
                time_rounds(bencher, &mut receiver, ROUND, Receiver::refill, send);
            });
        }
        let stride = buffer_bytes(length_bytes);
        let mut buffers = Buffers::new(12 + length_bytes, stride, BURST, ROUND);
        group.bench_function(BenchmarkId::new("memcpy", length_bytes), |bencher| {
            let copy = |buffers: &mut Buffers| buffers.copy_all(memcpy);
            time_rounds(bencher, &mut buffers, ROUND, |_| (), copy);
        });
    }
    group.finish();
}

/// Sends a burst as often as the receiver has buffers for it, as the poll thread's egress does.
fn send(receiver: &mut Receiver, sender: &Sender, tag: Option<VlanTag>) {
    let frames = &sender.burst.frames;
    for _ in 0..ROUND / BURST {
        let bytes = frames.iter().map(|frame| frame.length_bytes as usize).sum();
        receiver.queue.prepare(frames.len(), bytes);
        for frame in frames {
            let mut scratch;
            let header = &black_box(frame).header;
            let head = match black_box(tag) {
                Some(tag) => {
                    scratch = [0; HEADER_BYTES + TAG_BYTES];
                    header.with_tag(tag, &mut scratch)
                }
                None => header.untagged(),
            };
            let outgoing = Outgoing::new(head, sender.burst.segments_of(frame));
            receiver.queue.deliver(&outgoing).expect("a round has buffers for all its frames");
        }
        black_box(receiver.queue.release());
    }
}
