//! Parsing: a frame's first bytes into its private header, the tag on its way out, the flow hash.
//!
//! `read` is what queues do: in place, from bytes that are copied there; `parse` makes a new one,
//! whose length the compiler does not know. `write_tag` is what egress does with the header before
//! the copy if the port sends tags; without, it is only pointed to.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use frame::{HEADER_BYTES, Header, TAG_BYTES, VlanTag};

use crate::frames::{frame, header, vlan};
use crate::part;

/// First bytes as a queue copies them.
type First = [u8; HEADER_BYTES];

pub(crate) fn benches(criterion: &mut Criterion) {
    parse(criterion);
    use_header(criterion);
}

/// The tag, or its absence, and what to call that.
fn tags() -> [(&'static str, Option<VlanTag>); 2] {
    [("untagged", None), ("tagged", Some(vlan(100).into()))]
}

fn parse(criterion: &mut Criterion) {
    let mut group = part(criterion, "header");
    for (name, tag) in tags() {
        let bytes = frame(0, 1, tag, 1_514);
        let first: First = std::array::from_fn(|at| bytes[at]);
        group.bench_function(BenchmarkId::new("parse", name), |bencher| {
            bencher.iter(|| {
                // By reference: returned by value, it would be moved once more than in use.
                let header = Header::parse(black_box(&first[..]));
                black_box(&header);
            });
        });
        let mut header = Header::EMPTY;
        group.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| {
                let outcome = header.read(|place| {
                    *place = *black_box(&first);
                    place.len()
                });
                black_box((&header, outcome.is_ok()));
            });
        });
    }
    group.finish();
}

fn use_header(criterion: &mut Criterion) {
    let mut group = part(criterion, "header");
    let header = header(0, 1, None);
    let (mut scratch, tag) = ([0; HEADER_BYTES + TAG_BYTES], VlanTag::from(vlan(100)));
    group.bench_function("write_tag", |bencher| {
        bencher.iter(|| {
            let head = black_box(&header).with_tag(black_box(tag), &mut scratch);
            black_box(head);
        });
    });
    group.bench_function("flow_hash/udp", |bencher| {
        bencher.iter(|| black_box(&header).flow_hash());
    });
    group.finish();
}
