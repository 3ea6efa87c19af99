//! The one copy when it sums what it copies (RFC 1071), beside the one that does not; and a large
//! frame cut into wire frames with their checksums.
//!
//! | bench          | what is done for each frame                                            |
//! |----------------|------------------------------------------------------------------------|
//! | `copy`         | payload from where it lies to a room                                   |
//! | `copy_summing` | the same, and its sum                                                  |
//! | `sum`          | its sum alone: verifying a checksum                                    |
//! | `segments`     | one of the wire frames of 64 KiB of TCP: head, copy and checksum       |
//!
//! `copy_summing` is held to take at most 1/0.6 of `copy`'s time at 1,514 bytes.

use std::hint::black_box;
use std::num::NonZeroU16;

use criterion::{BenchmarkId, Criterion};
use frame::{
    Checksum, HEADER_BYTES, Header, Offload, Outgoing, Segment, Segmentation, SegmentationKind, Sum,
};
use virtio::offload::{Head, Leaving, Segments};
use virtio::testing::{Sink, extents};

use crate::{BURST, ROUND, part, time_rounds};

/// Payload lengths: the shortest frame's, Ethernet's longest frame, a jumbo frame.
const LENGTHS: [usize; 3] = [64, 1_514, 9_000];

/// TCP payload of a frame of 1,514 bytes with timestamps.
const SEGMENT_BYTES: u16 = 1_448;

/// As many segments as 64 KiB hold.
const SEGMENTS: usize = 45;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "checksum");
    for length_bytes in LENGTHS {
        let mut places = Places::new(length_bytes);
        let mut bench = |name: &str, work: fn(&mut Places)| {
            group.bench_function(BenchmarkId::new(name, length_bytes), |bencher| {
                time_rounds(bencher, &mut places, ROUND, |_| (), work);
            });
        };
        bench("copy", Places::copy);
        bench("copy_summing", Places::copy_summing);
        bench("sum", Places::sum);
    }
    let mut large = Large::new();
    group.bench_function("segments", |bencher| {
        time_rounds(bencher, &mut large, SEGMENTS, |_| (), Large::cut);
    });
    group.finish();
}

/// A burst of payloads, and a ring full of rooms for them.
struct Places {
    from: Vec<Segment>,
    to: Vec<Sink>,
}

impl Places {
    fn new(length_bytes: usize) -> Self {
        let payload = vec![1; length_bytes];
        let from = (0..BURST).flat_map(|_| extents(&payload, &[])).collect();
        Self { from, to: (0..ROUND).map(|_| Sink::new(length_bytes)).collect() }
    }

    fn copy(&mut self) {
        for (from, to) in self.from.chunks(1).cycle().zip(&self.to) {
            let copied = Outgoing::new(&[], black_box(from)).reader().copy_to(&mut to.room());
            black_box(copied);
        }
    }

    fn copy_summing(&mut self) {
        for (from, to) in self.from.chunks(1).cycle().zip(&self.to) {
            let mut sum = Sum::ZERO;
            let mut reader = Outgoing::new(&[], black_box(from)).reader();
            reader.copy_summing(&mut to.room(), &mut sum);
            black_box(sum.checksum());
        }
    }

    fn sum(&mut self) {
        for (from, _) in self.from.chunks(1).cycle().zip(&self.to) {
            let mut sum = Sum::ZERO;
            Outgoing::new(&[], black_box(from)).reader().sum(usize::MAX, &mut sum);
            black_box(sum.checksum());
        }
    }
}

/// A frame of 64 KiB, and rooms for what it is cut into.
struct Large {
    header: Header,
    segments: Vec<Segment>,
    to: Vec<Sink>,
    head: Head,
}

impl Large {
    fn new() -> Self {
        let mut bytes = vec![0; 66 + SEGMENTS * usize::from(SEGMENT_BYTES)];
        bytes[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
        (bytes[23], bytes[46]) = (6, 8 << 4);
        Self {
            header: Header::parse(&bytes).expect("a frame"),
            segments: extents(&bytes[HEADER_BYTES..], &[]),
            to: (0..SEGMENTS).map(|_| Sink::new(1_514)).collect(),
            head: Head::EMPTY,
        }
    }

    fn cut(&mut self) {
        let size = NonZeroU16::new(SEGMENT_BYTES).expect("not zero");
        let kind = SegmentationKind::Tcp4;
        let offload = Offload {
            checksum: Checksum::Partial { start: 34, offset: 16 },
            segmentation: Some(Segmentation { kind, size, has_cwr: false }),
            header_bytes: 66,
        };
        let frame = Leaving { header: &self.header, tag: None, segments: &self.segments };
        let mut segments =
            Segments::new(black_box(&offload), &frame, &mut self.head).expect("a TCP frame");
        let mut to = self.to.iter();
        while let (Some(frame), Some(to)) = (segments.next_frame(), to.next()) {
            black_box(frame.write_to(&mut to.room()));
        }
    }
}
