//! What the data path is started with.

use std::sync::Arc;

use bridge::Fdb;

/// What a poll thread does when there is nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PollMode {
    /// Queues without work ask for notifications, and a thread whose queues all do sleeps.
    #[default]
    Adaptive,
    /// Every queue is polled for ever; the core is never given up.
    Always,
}

/// What the data path is started with.
#[derive(Debug)]
pub struct Settings {
    /// The cores to run on, one poll thread each; at least one, at most
    /// [`MAX_THREADS`](crate::MAX_THREADS).
    pub cores: Vec<usize>,
    /// What an idle thread does.
    pub poll: PollMode,
    /// The filtering database that all threads learn into.
    pub fdb: Arc<Fdb>,
}
