//! What copying can come down to: in which way, and between how many buffers.
//!
//! Two guests that send each other frames without a pause go round all the buffers of their rings.
//! Those of one direction fit the second-level cache of most processors, those of both do not any
//! more; from there on a copy takes as long as the lines take to come and go, in whichever way it is
//! made. As `WAY/LENGTH/BUFFERS`, with so many source buffers and as many targets:
//!
//! | way          | what it is                                                              |
//! |--------------|-------------------------------------------------------------------------|
//! | `memcpy`     | the C library's                                                         |
//! | `prefetched` | the same, when the next target's lines have been asked for, to write    |
//! | `movsb`      | `rep movsb`, which need not read what it writes over                    |
//! | `streamed`   | non-temporal stores, past the caches, and `sfence` after each burst     |

#![allow(unsafe_code)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion};
use frame::{CACHE_LINE_BYTES, prefetch_for_writing};

use crate::{BURST, part, time_rounds};

/// A frame's length with the net header in front of it (VIRTIO 1.2, 5.1.6), how far one buffer is
/// from the next, and how many there are: a burst, the receive buffers of one direction (of rings
/// of 256 and, for the longer, pages), those of both.
const LOADS: [(usize, usize, [usize; 3]); 2] =
    [(12 + 1_514, 2_048, [BURST, 256, 512]), (12 + 9_000, 3 * 4_096, [BURST, 85, 170])];

/// Copies between two buffers; `next` is the target after this one.
pub(crate) type Way = fn(from: &[u8], to: &mut [u8], next: *const u8);

const WAYS: &[(&str, Way)] = &[
    ("memcpy", memcpy),
    ("prefetched", prefetched),
    #[cfg(target_arch = "x86_64")]
    ("movsb", movsb),
    #[cfg(target_arch = "x86_64")]
    ("streamed", streamed),
];

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "copy_ways");
    for (bytes, stride, counts) in LOADS {
        for count in counts {
            let mut buffers = Buffers::new(bytes, stride, count, count);
            for &(name, way) in WAYS {
                buffers.to.fill(2);
                let id = BenchmarkId::new(name, format!("{}/{count}", bytes - 12));
                group.bench_function(id, |bencher| {
                    let work = |buffers: &mut Buffers| buffers.copy_all(way);
                    time_rounds(bencher, &mut buffers, count, |_| (), work);
                    assert!(buffers.are_copied(), "{name}");
                });
            }
        }
    }
    group.finish();
}

/// Source and target buffers, laid out as guests' are, one after the other.
pub(crate) struct Buffers {
    bytes: usize,
    stride: usize,
    from: Vec<u8>,
    to: Vec<u8>,
}

impl Buffers {
    /// So many of either, of which `bytes` are copied.
    pub(crate) fn new(bytes: usize, stride: usize, sources: usize, targets: usize) -> Self {
        Self { bytes, stride, from: vec![1; stride * sources], to: vec![2; stride * targets] }
    }

    /// Copies to each target from a source, which take turns, in bursts.
    pub(crate) fn copy_all(&mut self, way: Way) {
        let Self { bytes, stride, from, to } = self;
        let mut sources = from.chunks_exact(*stride).cycle();
        for burst in to.chunks_mut(*stride * BURST) {
            for (to, from) in burst.chunks_exact_mut(*stride).zip(&mut sources) {
                let next = to.as_ptr().wrapping_add(*stride);
                way(&black_box(from)[..*bytes], &mut black_box(to)[..*bytes], next);
            }
            fence();
        }
    }

    fn are_copied(&self) -> bool {
        let sources = self.from.chunks(self.stride).cycle();
        self.to
            .chunks(self.stride)
            .zip(sources)
            .all(|(to, from)| to[..self.bytes] == from[..self.bytes])
    }
}

pub(crate) fn memcpy(from: &[u8], to: &mut [u8], _next: *const u8) {
    to.copy_from_slice(from);
}

fn prefetched(from: &[u8], to: &mut [u8], next: *const u8) {
    for at in (0..to.len()).step_by(CACHE_LINE_BYTES) {
        prefetch_for_writing(next.wrapping_add(at));
    }
    to.copy_from_slice(from);
}

#[cfg(target_arch = "x86_64")]
fn movsb(from: &[u8], to: &mut [u8], _next: *const u8) {
    let count = from.len().min(to.len());
    // SAFETY: `from` is readable and `to` writable for `count` bytes, and the direction flag is clear
    // wherever Rust code runs.
    unsafe {
        std::arch::asm!(
            "rep movsb",
            inout("rcx") count => _,
            inout("rsi") from.as_ptr() => _,
            inout("rdi") to.as_mut_ptr() => _,
            options(nostack, preserves_flags)
        );
    }
}

#[cfg(target_arch = "x86_64")]
fn streamed(from: &[u8], to: &mut [u8], _next: *const u8) {
    use std::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_stream_si128};
    // SAFETY: any bytes are a vector.
    let (head, vectors, tail) = unsafe { to.align_to_mut::<__m128i>() };
    let (to_head, rest) = from.split_at(head.len());
    let (to_vectors, to_tail) = rest.split_at(size_of_val(vectors));
    head.copy_from_slice(to_head);
    for (from, to) in to_vectors.chunks_exact(size_of::<__m128i>()).zip(vectors) {
        // SAFETY: `from` has as many bytes as a vector.
        let vector = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
        // SAFETY: `to` is a vector, aligned; `fence` comes before anyone reads it.
        unsafe { _mm_stream_si128(to, vector) };
    }
    tail.copy_from_slice(to_tail);
}

/// What non-temporal stores need before others may be told of them.
fn fence() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: all processors of this architecture have SSE.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
