//! What can be reached at most between two guests on one machine: by the generator itself, and by a
//! back end that copies frames and does nothing else.
//!
//! The second is no system that anybody could use, for it looks at no address and trusts its guests
//! with everything. It shows what the copy costs when the lines that it reads and writes come from
//! another core, and how long a frame takes when nothing but the machine keeps it waiting.

use std::time::Duration;

use crate::bench::{Bench, POLL_CORE};
use crate::generator::{Checks, Manner, Null};
use crate::load::Load;

/// As a system of the tables: the back end that only copies.
pub(crate) const BARE_COPY: &str = "bare copy";

/// What the tables say of it.
pub(crate) const BARE_COPY_IS: &str =
    "bare copy: a thread that hands descriptors over and copies, and does nothing else";

/// Two guests and the back end that only copies. Dropped in this order: it ends before they go.
#[derive(Debug)]
pub(crate) struct BareCopy {
    _back_end: Null,
    pub(crate) load: Load,
    _directory: tempfile::TempDir,
}

impl BareCopy {
    /// Between guests that send each other frames of this length.
    pub(crate) fn start(length: usize, is_both_ways: bool) -> Result<Self, String> {
        let manner = Manner::for_frames_of(length);
        let (mut load, directory) = guests(manner, manner.window(length))?;
        load.pair_streams(length, is_both_ways, Checks::Some);
        let back_end = Null::copying(&load.guests[0], &load.guests[1], POLL_CORE);
        Ok(Self { _back_end: back_end, load, _directory: directory })
    }
}

impl Bench {
    /// What the generator itself reaches between two guests on frames of this length: Mpps.
    pub(crate) fn limit(&self, length: usize, is_both_ways: bool) -> Result<f64, String> {
        self.limit_among(length, is_both_ways, 1)
    }

    /// The same with so many stations on either side.
    pub(crate) fn limit_among(
        &self,
        length: usize,
        is_both_ways: bool,
        stations: u32,
    ) -> Result<f64, String> {
        let mut manner = Manner::for_frames_of(length);
        let window = manner.window(length);
        // Nobody merges buffers here.
        manner.receive_buffer_bytes = manner.transmit_buffer_bytes;
        let (mut load, _directory) = guests(manner, window)?;
        load.pair_streams_among(length, is_both_ways, stations, Checks::None);
        let _null = Null::start(&load.guests[0], &load.guests[1], POLL_CORE);
        Ok(load.closed_loop((self.time / 2).min(Duration::from_millis(200))).mpps())
    }
}

/// Two guests that nobody is plugged into.
fn guests(manner: Manner, window: u64) -> Result<(Load, tempfile::TempDir), String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut load = Load::listen(directory.path(), 2, manner)?;
    load.window = window;
    Ok((load, directory))
}
