//! A copy of a guest's memory as a front end makes it that migrates its guest: pages are copied again
//! when they are marked in the dirty log, and in the end the copy is the memory.

use std::collections::HashMap;
use std::ops::Range;

use virtio::testing::{TestLog, TestMemory};

/// [`TestLog::PAGE_BYTES`], for lengths.
const PAGE_BYTES: usize = 0x1000;

/// Copied pages.
#[derive(Debug, Default)]
pub(crate) struct PageCopy {
    pages: HashMap<u64, Vec<u8>>,
    /// Pages that were copied because they were marked.
    pub(crate) marked: usize,
}

impl PageCopy {
    /// Copies the pages of a range, marked or not.
    pub(crate) fn copy(&mut self, memory: &TestMemory, range: &Range<u64>) {
        for page in pages(range) {
            self.pages.insert(page, memory.read(page, PAGE_BYTES));
        }
    }

    /// Copies the pages that are marked, whose marks are cleared before.
    pub(crate) fn take(&mut self, memory: &TestMemory, log: &TestLog) {
        for page in log.take() {
            self.pages.insert(page, memory.read(page, PAGE_BYTES));
            self.marked += 1;
        }
    }

    /// Panics if the memory is another than the copy in this range.
    pub(crate) fn compare(&self, memory: &TestMemory, range: &Range<u64>) {
        for page in pages(range) {
            let (now, copied) = (memory.read(page, PAGE_BYTES), &self.pages[&page]);
            let inside = |at: &usize| range.contains(&(page + *at as u64));
            let differs = (0..PAGE_BYTES).filter(inside).find(|&at| now[at] != copied[at]);
            let place = differs.map(|at| format!("{:#x} of {range:#x?}", page + at as u64));
            assert_eq!(place, None, "written and not marked");
        }
    }
}

/// The pages that a range lies in.
fn pages(range: &Range<u64>) -> impl Iterator<Item = u64> + use<> {
    (range.start - range.start % TestLog::PAGE_BYTES..range.end).step_by(PAGE_BYTES)
}
