//! What the switch is told of a guest's memory: whole or cut, in one table or by regions, and what
//! is plugged in beside it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use virtio::testing::{TestMemory, memory_file};

use super::FrontEnd;
use crate::support::messages::{ADD_MEM_REG, REM_MEM_REG, SET_MEM_TABLE};

/// The least that memory is cut by: a page.
const PAGE_BYTES: u64 = 0x1000;

impl FrontEnd {
    /// Tells of all memory in one table (SET_MEM_TABLE).
    pub(super) fn share_memory(&self) {
        self.share_table(None);
    }

    /// Tells of all memory, and of some that is beside it, in a new table under live rings. A table
    /// says regions in no order: what is higher comes first.
    pub(crate) fn share_table(&self, beside: Option<&Arc<TestMemory>>) {
        let mut files: Vec<BorrowedFd<'_>> = Vec::new();
        let mut regions: Vec<[u64; 5]> = Vec::new();
        if let Some(beside) = beside {
            regions.push(Self::region_of(beside));
            files.push(beside.file());
        }
        regions.extend(self.regions());
        files.resize(regions.len(), self.memory.file());
        // The number of regions has the place of the first one's padding.
        let mut table: Vec<u64> = vec![regions.len() as u64];
        table.extend(
            regions
                .iter()
                .flat_map(|[_, guest, size, user, offset]| [*guest, *size, *user, *offset]),
        );
        self.conversation.send_u64(SET_MEM_TABLE, &table, &files);
    }

    /// Cuts the memory into regions, as the switch will be told from now on, where a ring's buffer of this
    /// number is: its frames lie over the cut.
    pub(crate) fn cut_memory(&mut self, places: &[(usize, u16)]) {
        let cut = |&(ring, number): &(usize, u16)| {
            let buffer = self.rings[ring].buffer(number) - TestMemory::GUEST_BASE;
            buffer.next_multiple_of(PAGE_BYTES)
        };
        self.cuts = places.iter().map(cut).collect();
        self.cuts.sort_unstable();
    }

    /// Adds the memory as a region of its own (ADD_MEM_REG), as QEMU does.
    pub(crate) fn add_region(&self) {
        self.plug_memory(&self.memory);
    }

    /// Takes the memory away under live rings, if it is whole.
    pub(crate) fn remove_region(&self) {
        debug_assert!(self.cuts.is_empty());
        self.unplug_memory(&self.memory);
    }

    /// Adds one more region, of a page in a file of its own. Returns the switch's answer: zero if it
    /// agrees.
    pub(crate) fn add_page(&mut self, number: u64) -> u64 {
        let file = memory_file(PAGE_BYTES);
        let guest = (1 << 40) + number * 0x1_0000;
        let region = [0, guest, PAGE_BYTES, guest + TestMemory::USER_OFFSET, 0];
        self.conversation.ask(ADD_MEM_REG, &region, &[file.as_fd()])
    }

    /// Adds memory beside that of the rings, as hotplug does.
    pub(crate) fn plug_memory(&self, memory: &Arc<TestMemory>) {
        let numbers = Self::region_of(memory);
        self.conversation.send_u64(ADD_MEM_REG, &numbers, &[memory.file()]);
    }

    /// Takes such memory away.
    pub(crate) fn unplug_memory(&self, memory: &Arc<TestMemory>) {
        self.conversation.send_u64(REM_MEM_REG, &Self::region_of(memory), &[]);
    }

    /// Of the memory's regions, highest first, what [`region_of`](Self::region_of) says.
    fn regions(&self) -> Vec<[u64; 5]> {
        let [padding, guest, size, user, offset] = Self::region_of(&self.memory);
        let starts = [&[0], &self.cuts[..]].concat();
        let ends = [&self.cuts[..], &[size]].concat();
        let region =
            |(start, end)| [padding, guest + start, end - start, user + start, offset + start];
        starts.into_iter().zip(ends).map(region).rev().collect()
    }

    /// Padding, guest address, size, user address, offset in the file.
    fn region_of(memory: &TestMemory) -> [u64; 5] {
        let map = memory.map();
        let region = &map.regions()[0];
        let guest = region.guest_address();
        [0, guest, region.size_bytes(), guest + TestMemory::USER_OFFSET, region.mmap_offset()]
    }
}
