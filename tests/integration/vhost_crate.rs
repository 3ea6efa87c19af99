//! A fourth front end: that of the `vhost` crate, by which VMMs of the rust-vmm family plug in.

use std::path::Path;
use std::sync::Arc;

use rustix::fd::AsRawFd;
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use virtio::testing::{Buffer, Driver, TestMemory};
use virtio::{Features, QueueSize};
use vmm_sys_util::eventfd::EventFd;

use crate::support::front_end::FrontEnd;
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, frame, wait_for};

const ENTRIES: u16 = 128;
const MEMORY_BYTES: u64 = 2 << 20;
const BUFFER_STEP: u64 = 2_048;
/// Frames each way: several rounds of the rings.
const FRAMES: u64 = 1_000;

/// A ring with its buffers.
struct Ring {
    driver: Driver,
    kick: EventFd,
    call: EventFd,
}

impl Ring {
    fn new(memory: &Arc<TestMemory>, number: u64, features: Features) -> Self {
        let address = TestMemory::GUEST_BASE + number * MEMORY_BYTES / 2;
        let size = QueueSize::new(ENTRIES.into(), features).unwrap();
        let driver = Driver::new_at(memory, address, size, features);
        let eventfd = || EventFd::new(libc::EFD_NONBLOCK).unwrap();
        Self { driver, kick: eventfd(), call: eventfd() }
    }

    fn buffer(&self, head: u16) -> u64 {
        self.driver.end() + u64::from(head) * BUFFER_STEP
    }

    fn post(&mut self, head: u16, buffer: Buffer) {
        self.driver.describe(head, buffer);
        if self.driver.make_available(head) {
            self.kick.write(1).unwrap();
        }
    }
}

/// A guest whose front end is the crate's.
struct Guest {
    front_end: Frontend,
    memory: Arc<TestMemory>,
    receive: Ring,
    transmit: Ring,
}

impl Guest {
    fn plug_in(socket: &Path, features: Features) -> Self {
        let memory = TestMemory::new(MEMORY_BYTES);
        let [receive, transmit] = [0, 1].map(|number| Ring::new(&memory, number, features));
        let front_end = Frontend::connect(socket, 2).unwrap();
        let mut guest = Self { front_end, memory, receive, transmit };
        guest.negotiate(features).unwrap();
        for head in 0..ENTRIES {
            let buffer = Buffer::writable(guest.receive.buffer(head), 2_048);
            guest.receive.post(head, buffer);
        }
        guest
    }

    fn negotiate(&mut self, features: Features) -> Result<(), vhost::Error> {
        let front_end = &mut self.front_end;
        front_end.set_owner()?;
        let wanted = features.0 | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        assert_eq!(front_end.get_features()? & wanted, wanted);
        let offered = front_end.get_protocol_features()?;
        let protocol = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        front_end.set_protocol_features(offered & protocol)?;
        front_end.set_features(wanted)?;
        front_end.set_mem_table(&[VhostUserMemoryRegionInfo {
            guest_phys_addr: TestMemory::GUEST_BASE,
            memory_size: MEMORY_BYTES,
            userspace_addr: TestMemory::GUEST_BASE + TestMemory::USER_OFFSET,
            mmap_offset: 0,
            mmap_handle: self.memory.file().as_raw_fd(),
        }])?;
        for (index, ring) in [&self.receive, &self.transmit].into_iter().enumerate() {
            let addresses = ring.driver.addresses();
            // The lower half of a packed ring's: the crate has room for that.
            let base = u16::try_from(Driver::initial_base(features) & 0xffff).unwrap();
            front_end.set_vring_num(index, ENTRIES)?;
            front_end.set_vring_base(index, base)?;
            let config = VringConfigData {
                queue_max_size: ENTRIES,
                queue_size: ENTRIES,
                flags: 0,
                desc_table_addr: addresses.descriptor_table,
                used_ring_addr: addresses.used_ring,
                avail_ring_addr: addresses.available_ring,
                log_addr: None,
            };
            front_end.set_vring_addr(index, &config)?;
            front_end.set_vring_call(index, &ring.call)?;
            front_end.set_vring_kick(index, &ring.kick)?;
        }
        [0, 1].into_iter().try_for_each(|index| front_end.set_vring_enable(index, true))
    }

    fn send(&mut self, number: u64, frame: &[u8]) {
        let ring = &mut self.transmit;
        wait_for("room in the transmitq", || {
            while ring.driver.take_used().is_some() {}
            (ring.driver.in_flight() < ENTRIES).then_some(())
        });
        let head = u16::try_from(number % u64::from(ENTRIES)).unwrap();
        let at = ring.buffer(head);
        self.memory.write(at, &[&[0; 12], frame].concat());
        let length_bytes = u32::try_from(12 + frame.len()).unwrap();
        ring.post(head, Buffer::readable(at, length_bytes));
    }

    fn receive(&mut self) -> Vec<u8> {
        let ring = &mut self.receive;
        let used = wait_for("a frame", || ring.driver.take_used());
        let head = u16::try_from(used.head).unwrap();
        let bytes = self.memory.read(ring.buffer(head), used.written_bytes as usize);
        let buffer = Buffer::writable(ring.buffer(head), 2_048);
        ring.post(head, buffer);
        bytes[12..].to_vec()
    }
}

#[test]
fn numbered_frames_go_both_ways_over_either_ring() {
    for ring in [Features::NONE, Features::RING_PACKED] {
        let features = Features::VERSION_1 | Features::RING_EVENT_IDX | ring;
        let switch = Switch::with_config(&guests(&["vmm", "other"]));
        let mut guest = Guest::plug_in(&switch.path("vmm.sock"), features);
        let mut other = FrontEnd::plug_in(&switch.path("other.sock"));
        switch.await_up("vmm");
        switch.await_up("other");

        for number in 0..FRAMES {
            let there = frame(BOB, ALICE, &number.to_be_bytes());
            let back = frame(ALICE, BOB, &number.to_be_bytes());
            guest.send(number, &there);
            assert_eq!(other.receive(), there);
            other.send(&back);
            assert_eq!(guest.receive(), back);
        }

        assert_eq!(switch.features("vmm"), features);
    }
}
