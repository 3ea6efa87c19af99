//! What the log says of one port's front end, within bounds.
//!
//! A front end chooses how often it connects, breaks the rules and goes: 26,000 times a second if
//! nobody stops it. So a port has 20 lines to spend, which covers some restarts of a guest in a
//! row, and gets one back each second. The next line that is written says how many were not.

use std::fmt::Display;
use std::time::{Duration, Instant};

use log::Level;

/// Lines that a port may write at once.
const LINES_AT_ONCE: u32 = 20;

/// How long it takes until there is a further line to spend.
const TIME_PER_LINE: Duration = Duration::from_secs(1);

/// The log of one port.
#[derive(Debug)]
pub(crate) struct PortLog {
    port: String,
    lines_left: u32,
    /// When a line was last given back.
    refilled: Instant,
    /// Lines not written since the last one that was.
    left_out: u64,
}

impl PortLog {
    /// The log of the port of this name.
    pub(crate) fn new(port: &str) -> Self {
        let refilled = Instant::now();
        Self { port: port.to_owned(), lines_left: LINES_AT_ONCE, refilled, left_out: 0 }
    }

    /// Writes a line about the port, unless there were too many.
    pub(crate) fn write(&mut self, level: Level, line: impl Display) {
        if level > log::max_level() {
            return;
        }
        let Some(left_out) = self.spend(Instant::now()) else { return };
        let port = &self.port;
        if left_out == 0 {
            log::log!(level, "port {port}: {line}");
        } else {
            log::log!(level, "port {port}: {line} ({left_out} lines before this left out)");
        }
    }

    /// Spends a line if there is one left. Returns how many were left out before it.
    fn spend(&mut self, now: Instant) -> Option<u64> {
        let passed = now.saturating_duration_since(self.refilled);
        let lines = u32::try_from(passed.as_secs() / TIME_PER_LINE.as_secs()).unwrap_or(u32::MAX);
        if lines > 0 {
            self.lines_left = self.lines_left.saturating_add(lines).min(LINES_AT_ONCE);
            self.refilled += TIME_PER_LINE * lines;
        }
        let Some(lines_left) = self.lines_left.checked_sub(1) else {
            self.left_out += 1;
            return None;
        };
        self.lines_left = lines_left;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_are_written_and_then_one_a_second_with_a_count() {
        let mut log = PortLog::new("mallory");
        let start = log.refilled;

        let at_once = (0..1_000).filter(|_| log.spend(start).is_some()).count();
        let later = log.spend(start + Duration::from_secs(1));
        let too_soon = log.spend(start + Duration::from_millis(1_999));
        let much_later = log.spend(start + Duration::from_secs(2));

        assert_eq!(at_once, 20);
        assert_eq!(later, Some(980));
        assert_eq!(too_soon, None);
        assert_eq!(much_later, Some(1));
    }

    #[test]
    fn port_that_was_quiet_for_long_has_all_its_lines_again() {
        let mut log = PortLog::new("mallory");
        let start = log.refilled;
        while log.spend(start).is_some() {}

        let day = start + Duration::from_secs(86_400);
        let at_once = (0..1_000).filter(|_| log.spend(day).is_some()).count();

        assert_eq!(at_once, 20);
    }
}
