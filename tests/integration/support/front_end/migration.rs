//! What a front end does to migrate its guest: it shares a dirty log, stops rings and goes on with
//! them elsewhere.

use std::ops::Range;
use std::path::Path;

use virtio::Features;
use virtio::testing::{TestLog, TestMemory};

use super::{BUFFER_STEP, FrontEnd, MODERN, PROTOCOL_FEATURES, RING_ENTRIES};
use crate::support::messages::{
    Conversation, GET_VRING_BASE, SEND_RARP, SET_FEATURES, SET_LOG_BASE, SET_LOG_FD, SET_VRING_ADDR,
};

/// The flag of SET_VRING_ADDR that makes its log address count.
const VRING_LOGGED: u64 = 1;

impl FrontEnd {
    /// Connects and says nothing of rings or memory.
    pub(crate) fn connect_only(socket: &Path) -> Self {
        let (manner, memory) = (MODERN, TestMemory::new(TestLog::PAGE_BYTES));
        let conversation = Conversation::connect(socket);
        Self { conversation, memory, cuts: Vec::new(), manner, rings: Vec::new() }
    }

    /// A log for all of the guest's memory.
    pub(crate) fn new_log(&self) -> TestLog {
        let map = self.memory.map();
        let last = map.regions().last().unwrap();
        TestLog::up_to(last.guest_address() + last.size_bytes())
    }

    /// Shares a log and waits for the answer.
    pub(crate) fn share_log(&mut self, log: &TestLog) {
        self.offer_log(log, log.size_bytes(), 0);
        assert_eq!(self.conversation.reply_u64(), 0);
    }

    /// Says that a log has this size and lies there in its file.
    pub(crate) fn offer_log(&self, log: &TestLog, size_bytes: u64, offset: u64) {
        let numbers = [size_bytes, offset];
        self.conversation.send_u64(SET_LOG_BASE, &numbers, &[log.file()]);
    }

    /// Sends a descriptor that the switch may tell the front end by when it has logged something.
    pub(crate) fn send_log_fd(&mut self) {
        self.conversation.send(SET_LOG_FD, &[], &[self.memory.file()]);
        self.synchronise();
    }

    /// Has writes logged, or no more, in QEMU's way, while the rings run.
    pub(crate) fn set_logging(&mut self, is_logging: bool) {
        self.set_features_and_log(is_logging, |used_ring| used_ring);
    }

    /// Has writes logged, and those to used rings as if these lay elsewhere.
    pub(crate) fn set_logging_at(&mut self, used_ring: u64) {
        self.set_features_and_log(true, |_| used_ring);
    }

    fn set_features_and_log(&mut self, is_logging: bool, logged_at: impl Fn(u64) -> u64) {
        let log_all = if is_logging { Features::LOG_ALL.0 } else { 0 };
        let features = self.manner.features.0 | PROTOCOL_FEATURES | log_all;
        self.conversation.send_u64(SET_FEATURES, &[features], &[]);
        let flags = if is_logging { VRING_LOGGED } else { 0 };
        for (index, ring) in (0..).zip(&self.rings) {
            let at = ring.driver.addresses();
            let log = logged_at(at.used_ring - TestMemory::USER_OFFSET);
            let addresses = [at.descriptor_table, at.used_ring, at.available_ring, log];
            let body = [&[index | flags << 32], &addresses[..]].concat();
            self.conversation.send_u64(SET_VRING_ADDR, &body, &[]);
        }
        self.synchronise();
    }

    /// Stops a ring and returns where it goes on.
    pub(crate) fn stop(&mut self, ring: usize) -> u32 {
        let index = u32::try_from(ring).unwrap();
        self.conversation.send_vring(GET_VRING_BASE, index, 0);
        let body = self.conversation.reply();
        u32::from_le_bytes(body[4..].try_into().unwrap())
    }

    /// Stops all rings, of which the switch must have given back what it had in hand.
    pub(crate) fn stop_all_where_they_are(&mut self) {
        for ring in 0..self.rings.len() {
            let base = self.stop(ring);
            assert_eq!(base, self.rings[ring].driver.base(), "of ring {ring}");
        }
    }

    /// Goes on with all rings after a migration that has failed: nothing is logged any more.
    pub(crate) fn resume(&mut self) {
        let features = self.manner.features.0 | PROTOCOL_FEATURES;
        self.conversation.send_u64(SET_FEATURES, &[features], &[]);
        (0..self.rings.len()).for_each(|index| self.start(index));
        self.synchronise();
    }

    /// Goes on at another port with all rings as they are, and leaves the first one then.
    pub(crate) fn move_to(&mut self, socket: &Path) {
        let first = self.conversation.stream.try_clone().unwrap();
        self.reconnect(socket);
        Conversation::new(first).hang_up();
    }

    /// Says that the guest of this address has come.
    pub(crate) fn send_rarp(&mut self, address: [u8; 6]) {
        let [a, b, c, d, e, f] = address;
        self.conversation.send(SEND_RARP, &[a, b, c, d, e, f, 0, 0], &[]);
        self.synchronise();
    }

    /// Guest addresses that nobody but the switch writes to: used rings and receive buffers.
    pub(crate) fn written_by_switch(&self) -> Vec<Range<u64>> {
        let used_ring = |ring: &super::Ring| ring.driver.parts()[2]..ring.driver.end();
        let buffers = |ring: &super::Ring| ring.buffers..ring.buffer(RING_ENTRIES);
        debug_assert!(self.rings.iter().all(|ring| ring.buffers + BUFFER_STEP == ring.buffer(1)));
        let used_rings = self.rings.iter().map(used_ring);
        let receiveqs = self.rings.iter().take(2 * usize::from(self.manner.queue_pairs)).step_by(2);
        used_rings.chain(receiveqs.map(buffers)).collect()
    }

    /// The same without what lies between: of receive buffers what the switch may use, and with the
    /// descriptors of packed rings, which the driver writes to as well.
    pub(crate) fn written_by_switch_at_most(&self) -> Vec<Range<u64>> {
        let length = u64::from(self.manner.buffer_bytes);
        let buffers = |ring: &super::Ring| {
            let starts: Vec<u64> = (0..RING_ENTRIES).map(|head| ring.buffer(head)).collect();
            starts.into_iter().map(|start| start..start + length)
        };
        let used_ring = |ring: &super::Ring| ring.driver.parts()[2]..ring.driver.end();
        let used_rings = self.rings.iter().map(used_ring);
        let buffers = self.rings.iter().step_by(2).flat_map(buffers);
        self.packed_descriptors().into_iter().chain(used_rings).chain(buffers).collect()
    }

    /// The descriptors of packed rings.
    pub(crate) fn packed_descriptors(&self) -> Vec<Range<u64>> {
        let is_packed = self.manner.features.contains(Features::RING_PACKED);
        let descriptors = |ring: &super::Ring| ring.driver.parts()[0]..ring.driver.parts()[1];
        self.rings.iter().filter(|_| is_packed).map(descriptors).collect()
    }

    /// Hangs up and returns when the switch has, which it does if it was told something wrong.
    pub(crate) fn await_end(&mut self) {
        self.conversation.await_end();
    }
}
