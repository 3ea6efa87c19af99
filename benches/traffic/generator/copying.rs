//! Plain memcpy between the buffers of two guests: what a switch that makes one copy cannot beat.

#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use super::guest::{Guest, Manner};
use super::ring::NET_HEADER_BYTES;

/// Copies frames of this length on a core for so long, from every transmit buffer of one guest in
/// turn to as many receive buffers of another as they take. Returns million frames a second.
///
/// # Errors
///
/// If there is no memory for the guests.
pub(crate) fn memcpy_mpps(length: usize, core: usize, time: Duration) -> std::io::Result<f64> {
    let manner = Manner::for_frames_of(length);
    let (from, to) = (Guest::alone(manner)?, Guest::alone(manner)?);
    let work = move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
        let (source, target) = (&from.pairs[0].1.ring, &to.pairs[0].0.ring);
        let mut entry = 0u16;
        let start = Instant::now();
        let mut frames = 0u32;
        while start.elapsed() < time {
            for slot in 0..manner.entries {
                let (mut at, total) = (0, NET_HEADER_BYTES + length);
                while at < total {
                    let count = (total - at).min(manner.receive_buffer_bytes);
                    let place = source.buffer(slot).wrapping_add(at);
                    // SAFETY: both buffers have so many bytes, in memory that the guests hold and
                    // nobody else knows; they belong to two guests, so they do not overlap.
                    unsafe { target.buffer(entry).copy_from_nonoverlapping(place, count) };
                    entry = (entry + 1) % manner.entries;
                    at += count;
                }
                frames += 1;
            }
        }
        f64::from(frames) / start.elapsed().as_secs_f64() / 1e6
    };
    std::thread::spawn(work)
        .join()
        .map_err(|_| std::io::Error::other("the copying thread panicked"))
}
