//! Huge pages for as long as a test needs them.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many the machine has, all in all.
const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// Bytes of each, as x86 and most others have them.
pub(crate) const HUGE_PAGE_BYTES: u64 = 2 << 20;

/// The machine's huge pages are changed by one test at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Huge pages that the machine has beside those that it had. They go when this is dropped, and when
/// the tests end in any other way.
#[derive(Debug)]
pub(crate) struct HugePages {
    keeper: Child,
    _turn: MutexGuard<'static, ()>,
}

impl HugePages {
    /// Has the kernel set this many aside.
    pub(crate) fn reserve(count: u64) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let before = number(COUNT);
        // A process that is in nobody's way when tests are interrupted, and sees its input end then.
        let restore = format!("read _; echo {before} > {COUNT}");
        let keeper = Command::new("setsid")
            .args(["sh", "-c", &restore])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let pages = Self { keeper, _turn: turn };
        fs::write(COUNT, (before + count).to_string()).unwrap();
        assert!(number(COUNT) >= before + count, "the machine has no {count} huge pages free");
        pages
    }

    /// How many nobody uses.
    pub(crate) fn free() -> u64 {
        number("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

fn number(path: &str) -> u64 {
    fs::read_to_string(path).unwrap().trim().parse().unwrap()
}
