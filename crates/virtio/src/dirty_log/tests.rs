//! What is marked in a log, and that nothing a queue writes is left out.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use frame::{Burst, Completing, Outgoing, Place, Zero};

use super::{DirtyLog, VringLog};
use crate::testing::{Buffer, Driver, TestMemory, memory_file};
use crate::{
    Features, MemoryError, QueueSize, ReceiveQueue, TransmitQueue, VringAddresses, VringSetup,
};

const PAGE: u64 = 0x1000;
const PAGES: u64 = 64;

/// A log as its front end has it.
struct Watched {
    file: File,
    log: Arc<DirtyLog>,
}

impl Watched {
    fn of_bytes(size_bytes: u64) -> Self {
        let file = memory_file(size_bytes);
        let log = DirtyLog::map(file.try_clone().unwrap(), 0, size_bytes).unwrap();
        Self { file: file.into(), log: Arc::new(log) }
    }

    /// One for the memory of [`TestMemory::new`] up to `PAGES` pages.
    fn for_memory() -> Self {
        Self::of_bytes((TestMemory::GUEST_BASE / PAGE + PAGES) / 8)
    }

    /// The pages that are marked, by number, from an address on.
    fn pages_from(&self, start: u64) -> BTreeSet<u64> {
        let mut bytes = vec![0; usize::try_from(self.log.size_bytes()).unwrap()];
        self.file.read_exact_at(&mut bytes, 0).unwrap();
        let is_marked =
            |page: &u64| bytes[usize::try_from(page / 8).unwrap()] >> (page % 8) & 1 == 1;
        let first = start / PAGE;
        (first..8 * self.log.size_bytes()).filter(is_marked).map(|page| page - first).collect()
    }

    fn of_queue(&self, used_ring: Option<u64>) -> Option<Box<VringLog>> {
        Some(Box::new(VringLog { log: Arc::clone(&self.log), used_ring }))
    }
}

fn pages_of(memory: &TestMemory) -> Vec<Vec<u8>> {
    (0..PAGES).map(|page| memory.read(TestMemory::GUEST_BASE + PAGE * page, 0x1000)).collect()
}

/// The pages that are not now as they were.
fn changed(before: &[Vec<u8>], memory: &TestMemory) -> BTreeSet<u64> {
    let pages = (0..).zip(before.iter().zip(pages_of(memory)));
    pages.filter(|(_, (old, new))| *old != new).map(|(page, _)| page).collect()
}

fn driver_at(memory: &Arc<TestMemory>, features: Features) -> Driver {
    let size = QueueSize::new(256, Features::NONE).unwrap();
    // The used ring runs over the end of the second page.
    Driver::new_at(memory, TestMemory::GUEST_BASE + 0x7f0, size, features)
}

#[test]
fn bytes_mark_every_page_that_they_lie_in() {
    let log = Watched::of_bytes(4);

    log.log.mark(0, 1);
    log.log.mark(0x2fff, 2);
    log.log.mark(0x9000, 0x1000);
    log.log.mark(0xb000, 0x1001);
    log.log.mark(0xf000, 0);

    assert_eq!(log.pages_from(0), BTreeSet::from([0, 2, 3, 9, 0xb, 0xc]));
}

#[test]
fn pages_behind_the_log_are_passed_over() {
    let log = Watched::of_bytes(2);

    log.log.mark(0xf000, 0x10_0000);
    log.log.mark(0x1_0000, 1);
    log.log.mark(u64::MAX, u64::MAX);

    assert_eq!(log.pages_from(0), BTreeSet::from([0xf]));
}

#[test]
fn log_larger_than_its_file_is_refused() {
    let map = |offset, size| DirtyLog::map(memory_file(0x1000), offset, size).unwrap_err();

    assert!(matches!(map(0, 0x1001), MemoryError::FileTooShort { .. }));
    assert!(matches!(map(0x1000, 1), MemoryError::FileTooShort { .. }));
    assert!(matches!(map(u64::MAX, 1), MemoryError::AddressWraps { .. }));
    assert!(matches!(map(0, u64::MAX), MemoryError::FileTooShort { .. }));
    assert!(matches!(map(0, 0), MemoryError::Empty { .. }));
}

#[test]
fn receiveq_marks_all_that_it_writes_and_nothing_else() {
    let features = Features::VERSION_1 | Features::NET_MRG_RXBUF | Features::RING_EVENT_IDX;
    let memory = TestMemory::new(PAGES * PAGE);
    let mut driver = driver_at(&memory, features);
    let log = Watched::for_memory();
    let mut queue = ReceiveQueue::new(driver.setup()).unwrap();
    queue.set_log(log.of_queue(Some(driver.parts()[2])));
    let buffer = TestMemory::GUEST_BASE + 8 * PAGE;
    driver.describe(0, Buffer::writable(buffer + 0xfc0, 1_000));
    driver.describe(1, Buffer::writable(buffer + 4 * PAGE, 0x3000));
    driver.make_all_available(&[0, 1]);
    let before = pages_of(&memory);

    queue.deliver(&Outgoing::new(&[0xaa; 1_400], &[])).unwrap();
    let _ = queue.release();

    // The second buffer is written in its first page only; page 1 has the index and the entries.
    let marked = log.pages_from(TestMemory::GUEST_BASE);
    assert!(marked.is_superset(&changed(&before, &memory)), "{marked:?}");
    assert_eq!(marked, BTreeSet::from([1, 2, 8, 9, 12]));
}

#[test]
fn frame_whose_checksum_is_completed_is_marked_like_any_other() {
    let memory = TestMemory::new(PAGES * PAGE);
    let mut driver = driver_at(&memory, Features::VERSION_1);
    let log = Watched::for_memory();
    let mut queue = ReceiveQueue::new(driver.setup()).unwrap();
    queue.set_log(log.of_queue(Some(driver.parts()[2])));
    let buffer = TestMemory::GUEST_BASE + 8 * PAGE;
    // The front in one page, the payload in another and behind it.
    driver
        .describe_chain(0, &[Buffer::writable(buffer, 54), Buffer::writable(buffer + PAGE, 2_000)]);
    driver.make_available(0);
    let before = pages_of(&memory);
    let (mut head, payload) = ([0xaa; 42], [0xbb; 700]);
    let reader = Outgoing::new(&payload, &[]).reader();
    let place = Place { start: 14, field: 16 };
    let frame = Completing::new(&mut head, reader, payload.len(), place, Zero::Kept).unwrap();

    queue.deliver_completing(frame).unwrap();
    let _ = queue.release();

    let marked = log.pages_from(TestMemory::GUEST_BASE);
    assert!(marked.is_superset(&changed(&before, &memory)), "{marked:?}");
    assert!(marked.contains(&8) && marked.contains(&9), "{marked:?}");
}

#[test]
fn transmitq_marks_its_used_ring_and_what_it_asks_of_the_driver() {
    let memory = TestMemory::new(PAGES * PAGE);
    let features = Features::VERSION_1 | Features::RING_EVENT_IDX;
    let mut driver = driver_at(&memory, features);
    // Entries on both sides of a page's end.
    driver.start_at(250);
    let log = Watched::for_memory();
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    queue.set_log(log.of_queue(Some(driver.parts()[2])));
    let buffer = TestMemory::GUEST_BASE + 8 * PAGE;
    for head in 0..10 {
        driver.describe(head, Buffer::readable(buffer, 72));
        driver.make_available(head);
    }
    let before = pages_of(&memory);

    let mut burst = Burst::new();
    assert_eq!(queue.receive(&mut burst, 10).unwrap(), 10);
    burst.frames.iter().for_each(|frame| queue.complete(frame.token));
    let _ = queue.release();
    queue.disable_notifications();

    let marked = log.pages_from(TestMemory::GUEST_BASE);
    assert!(marked.is_superset(&changed(&before, &memory)), "{marked:?}");
    assert_eq!(marked, BTreeSet::from([1, 2]));
}

#[test]
fn entries_on_both_sides_of_the_ring_s_end_are_marked_and_the_index_is() {
    let memory = TestMemory::new(PAGES * PAGE);
    let size = QueueSize::new(1_024, Features::NONE).unwrap();
    // The used ring: its index in page 4, entries to 511 in page 5, the others in page 6.
    let features = Features::VERSION_1 | Features::RING_EVENT_IDX;
    let mut driver = Driver::new_at(&memory, TestMemory::GUEST_BASE + 0x7f0, size, features);
    let used_ring = driver.parts()[2];
    driver.start_at(1_020);
    let [first, second] = [Watched::for_memory(), Watched::for_memory()];
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    let mut burst = Burst::new();
    let mut pass = |queue: &mut TransmitQueue, heads: &[u16]| {
        for &head in heads {
            driver.describe(head, Buffer::readable(TestMemory::GUEST_BASE + 8 * PAGE, 72));
        }
        driver.make_all_available(heads);
        burst.clear();
        queue.receive(&mut burst, 64).unwrap();
        burst.frames.iter().for_each(|frame| queue.complete(frame.token));
        let _ = queue.release();
    };

    queue.set_log(first.of_queue(Some(used_ring)));
    pass(&mut queue, &[0, 1, 2, 3, 4, 5, 6, 7]);
    queue.set_log(second.of_queue(Some(used_ring)));
    pass(&mut queue, &[0, 1]);
    let marked = [first, second].map(|log| log.pages_from(TestMemory::GUEST_BASE));

    // Page 6 also has what is asked of the driver, which is marked with every new log.
    assert_eq!(marked, [BTreeSet::from([4, 5, 6]), BTreeSet::from([4, 5, 6])]);
}

#[test]
fn used_ring_is_marked_where_the_front_end_says_or_not_at_all() {
    let memory = TestMemory::new(PAGES * PAGE);
    let mut driver = driver_at(&memory, Features::VERSION_1);
    let log = Watched::for_memory();
    let mut queue = ReceiveQueue::new(driver.setup()).unwrap();
    queue.set_log(log.of_queue(None));
    driver.describe(0, Buffer::writable(TestMemory::GUEST_BASE + 8 * PAGE, 1_000));
    driver.make_available(0);

    queue.deliver(&Outgoing::new(&[0xaa; 60], &[])).unwrap();
    let _ = queue.release();
    let without = log.pages_from(TestMemory::GUEST_BASE);
    queue.set_log(log.of_queue(Some(TestMemory::GUEST_BASE + 40 * PAGE)));
    let elsewhere = log.pages_from(TestMemory::GUEST_BASE);
    // Wraps around, and lies behind the log.
    queue.set_log(log.of_queue(Some(u64::MAX)));
    queue.set_log(None);

    assert_eq!(without, BTreeSet::from([8]));
    assert_eq!(elsewhere, BTreeSet::from([8, 40]));
}

#[test]
fn packed_ring_marks_the_descriptors_that_it_overwrites() {
    const WRITABLE: u16 = 1 << 7 | 2;
    let memory = TestMemory::new(PAGES * PAGE);
    let (ring, areas) = (TestMemory::GUEST_BASE, TestMemory::GUEST_BASE + 20 * PAGE);
    let features = Features::VERSION_1 | Features::RING_PACKED;
    let size = QueueSize::new(600, features).unwrap();
    let addresses = VringAddresses {
        descriptor_table: ring + TestMemory::USER_OFFSET,
        available_ring: areas + TestMemory::USER_OFFSET,
        used_ring: areas + PAGE + TestMemory::USER_OFFSET,
    };
    // Both wrap counters are one: the last descriptor of the first lap is next.
    let base = 0x8000_8000 | 599 << 16 | 599;
    let setup = VringSetup { memory: memory.map(), size, addresses, base, features };
    let log = Watched::for_memory();
    let mut queue = ReceiveQueue::new(setup).unwrap();
    queue.set_log(log.of_queue(Some(areas + PAGE)));
    for (slot, flags) in [(599_u64, WRITABLE), (0, 1 << 15 | 2)] {
        let buffer = ring + (8 + slot % 2) * PAGE;
        let words = [buffer.to_le_bytes(), (u64::from(flags) << 48 | 1_000).to_le_bytes()];
        memory.write(ring + 16 * slot, &words.concat());
    }
    let before = pages_of(&memory);

    queue.deliver(&Outgoing::new(&[0xaa; 60], &[])).unwrap();
    queue.deliver(&Outgoing::new(&[0xbb; 60], &[])).unwrap();
    let _ = queue.release();
    queue.disable_notifications();

    let marked = log.pages_from(TestMemory::GUEST_BASE);
    assert_eq!(changed(&before, &memory), BTreeSet::from([0, 2, 8, 9, 21]));
    assert_eq!(marked, BTreeSet::from([0, 2, 8, 9, 21]));
}

#[test]
fn truncated_log_kills_nobody() {
    crate::install_sigbus_guard().unwrap();
    let log = Watched::of_bytes(0x2000);

    log.file.set_len(0).unwrap();
    log.log.mark(0x1000, 1);
    log.log.mark(0x1000 * 8 * PAGE, 1);

    assert!(log.log.bitmap.is_poisoned());
}
