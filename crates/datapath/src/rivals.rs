//! Whether other threads wait for a core, such as those of guests on a host that has too few.
//!
//! To poll an idle queue is to wait for work as fast as can be, and on such a host it takes the time
//! from whoever would send something. So while more threads want to run than there are cores, this
//! one included, queues are polled no longer than it takes to see that nothing comes at once. As many
//! threads as cores take nothing from each other: a sender that is busy all the time on the other of
//! two cores is served as fast as can be.
//!
//! The kernel counts those threads (`/proc/loadavg`, proc(5): the fourth field), wherever they run: a
//! poll thread that spins has a core to itself before long, and the guests share what is left. A
//! thread on a core that the kernel keeps free of others (`isolcpus`) takes nothing from anybody. Of
//! cores that are kept free in other ways the count knows nothing: there, `poll = "always"` is better
//! on a host that is busy all over.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Time between two looks at the count: a third of a millisecond or so. A look costs some
/// microseconds.
const TICKS_BETWEEN_LOOKS: u64 = 1 << 20;

/// How long rivals count after they were seen: some twenty milliseconds.
const RIVALRY_TICKS: u64 = 1 << 26;

/// The rivals of one poll thread.
#[derive(Debug)]
pub(crate) struct Rivals {
    /// `None`: there are none, or they cannot be counted.
    load: Option<File>,
    /// As many threads run at a time.
    cores: usize,
    looked: u64,
    seen: Option<u64>,
}

impl Rivals {
    /// Those of a thread on this core, if it is bound to one.
    pub(crate) fn new(core: Option<usize>) -> Self {
        let cores = |list| {
            let path = format!("/sys/devices/system/cpu/{list}");
            fs::read_to_string(path).map(|text| cores(&text)).unwrap_or_default()
        };
        let is_isolated = core.is_some_and(|core| cores("isolated").contains(&core));
        let online = cores("online").len();
        let load = File::open("/proc/loadavg").ok().filter(|_| online > 0 && !is_isolated);
        Self { load, cores: online, looked: 0, seen: None }
    }

    /// Says whether others want the core. To be asked when nothing was found for a while.
    pub(crate) fn want_core(&mut self, now: u64) -> bool {
        if self.seen.is_some_and(|seen| now.wrapping_sub(seen) < RIVALRY_TICKS) {
            return true;
        }
        if now.wrapping_sub(self.looked) < TICKS_BETWEEN_LOOKS {
            return false;
        }
        self.looked = now;
        let are_there = self.count_runnable().is_some_and(|runnable| runnable > self.cores);
        self.seen = are_there.then_some(now);
        are_there
    }

    /// How many threads run or could run.
    fn count_runnable(&self) -> Option<usize> {
        let mut bytes = [0; 64];
        let count = self.load.as_ref()?.read_at(&mut bytes, 0).ok()?;
        runnable(std::str::from_utf8(bytes.get(..count)?).ok()?)
    }
}

/// What /proc/loadavg says: `0.20 0.18 0.12 1/80 11206` is one of 80.
fn runnable(load: &str) -> Option<usize> {
    load.split_ascii_whitespace().nth(3)?.split('/').next()?.parse().ok()
}

/// The cores of a list as the kernel has it: `0-3,8`.
fn cores(list: &str) -> Vec<usize> {
    let range = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    list.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// On two cores, with a count that can be changed.
    fn rivals() -> (Rivals, File) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"0.20 0.18 0.12 2/80 11206\n").unwrap();
        let load = Some(file.reopen().unwrap());
        (Rivals { load, cores: 2, looked: 0, seen: None }, file.into_file())
    }

    #[test]
    fn threads_that_wait_for_a_core_are_rivals_for_a_while() {
        let (mut rivals, file) = rivals();
        let mut now = TICKS_BETWEEN_LOOKS;
        assert!(!rivals.want_core(now), "each has a core");

        file.write_all_at(b"3", 15).unwrap();
        assert!(!rivals.want_core(now + TICKS_BETWEEN_LOOKS - 1), "not looked again");
        now += TICKS_BETWEEN_LOOKS;
        assert!(rivals.want_core(now));

        file.write_all_at(b"2", 15).unwrap();
        assert!(rivals.want_core(now + RIVALRY_TICKS - 1));
        assert!(!rivals.want_core(now + RIVALRY_TICKS));
    }

    #[test]
    fn kernel_is_understood() {
        let rivals = Rivals::new(None);

        assert!(rivals.cores > 0);
        assert!(rivals.count_runnable().is_some_and(|count| count > 0), "this thread is one");
    }

    #[test]
    fn lists_of_cores_are_read() {
        assert_eq!(cores("0-2,5,7-8\n"), [0, 1, 2, 5, 7, 8]);
        assert_eq!(cores("\n"), []);
    }
}
