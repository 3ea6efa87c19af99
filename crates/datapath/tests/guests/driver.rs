//! Guests that are drivers in this process: what they send and receive, byte for byte.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bridge::{DEFAULT_ADDRESSES, DEFAULT_AGEING, Fdb, VlanPolicy};
use datapath::{Datapath, PeerEventfd, PollMode, PortTraits, Settings};
use frame::{PortId, VlanId};
use rustix::event::{EventfdFlags, eventfd};
use virtio::testing::{Buffer, Driver, TestMemory};
use virtio::{Features, QueueSize};

pub(crate) const NO_LIMIT: u32 = u32::MAX;
pub(crate) const QUEUE_ENTRIES: u16 = 64;
const BUFFER_BYTES: u32 = 2_048;
const PATIENCE: Duration = Duration::from_secs(5);

pub(crate) const ALICE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
pub(crate) const BOB: [u8; 6] = [0x52, 0x54, 0, 0, 0, 2];
pub(crate) const CAROL: [u8; 6] = [0x52, 0x54, 0, 0, 0, 3];
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

fn features() -> Features {
    Features::VERSION_1 | Features::RING_EVENT_IDX
}

/// One half of a guest's queue pair, as its driver works it.
pub(crate) struct Ring {
    pub(crate) driver: Driver,
    memory: Arc<TestMemory>,
    buffers: u64,
    pub(crate) kick: OwnedFd,
    next_head: u16,
}

impl Ring {
    fn new() -> Self {
        let memory = TestMemory::new(1 << 20);
        let size = QueueSize::new(u32::from(QUEUE_ENTRIES), Features::NONE).unwrap();
        let driver = Driver::new(&memory, size, features());
        let kick = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        Self { buffers: driver.end(), driver, memory, kick, next_head: 0 }
    }

    /// The kick descriptor, as a front end sends it.
    pub(crate) fn kick_eventfd(&self) -> PeerEventfd {
        self.kick.try_clone().unwrap().try_into().unwrap()
    }

    fn buffer(&self, head: u16) -> u64 {
        self.buffers + u64::from(head) * u64::from(BUFFER_BYTES)
    }

    fn take_head(&mut self) -> u16 {
        let head = self.next_head;
        self.next_head = (head + 1) % QUEUE_ENTRIES;
        head
    }

    fn post(&mut self, head: u16, buffer: Buffer) {
        self.driver.describe(head, buffer);
        if self.driver.make_available(head) {
            rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
        }
    }
}

pub(crate) struct Guest {
    pub(crate) port: PortId,
    pub(crate) transmitq: Ring,
    pub(crate) receiveq: Ring,
}

impl Guest {
    pub(crate) fn plug_in(datapath: &mut Datapath, policy: &VlanPolicy) -> Self {
        let port = datapath.add_port(policy, NO_LIMIT, PortTraits::default()).unwrap();
        let (transmitq, mut receiveq) = (Ring::new(), Ring::new());
        for _ in 0..QUEUE_ENTRIES {
            let head = receiveq.take_head();
            let buffer = Buffer::writable(receiveq.buffer(head), BUFFER_BYTES);
            receiveq.post(head, buffer);
        }
        for (vring, ring) in [(0, &receiveq), (1, &transmitq)] {
            let kick = Some(ring.kick_eventfd());
            datapath.start_vring(port, vring, ring.driver.setup(), kick, None, true).unwrap();
        }
        Self { port, transmitq, receiveq }
    }

    pub(crate) fn send(&mut self, frame: &[u8]) {
        let (head, buffer) = self.write(frame);
        self.transmitq.post(head, buffer);
    }

    /// Sends frames that the switch sees all at once.
    pub(crate) fn send_at_once(&mut self, frames: &[Vec<u8>]) {
        let mut heads = Vec::new();
        for frame in frames {
            let (head, buffer) = self.write(frame);
            self.transmitq.driver.describe(head, buffer);
            heads.push(head);
        }
        if self.transmitq.driver.make_all_available(&heads) {
            rustix::io::write(&self.transmitq.kick, &1u64.to_ne_bytes()).unwrap();
        }
    }

    fn write(&mut self, frame: &[u8]) -> (u16, Buffer) {
        let head = self.transmitq.take_head();
        let address = self.transmitq.buffer(head);
        let packet = [&[0; 12], frame].concat();
        self.transmitq.memory.write(address, &packet);
        (head, Buffer::readable(address, u32::try_from(packet.len()).unwrap()))
    }

    /// The next frame, without net header; its buffer is made available again.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        wait_for("a frame", || self.try_receive())
    }

    pub(crate) fn try_receive(&mut self) -> Option<Vec<u8>> {
        let used = self.receiveq.driver.take_used()?;
        let head = u16::try_from(used.head).unwrap();
        let address = self.receiveq.buffer(head);
        let bytes = self.receiveq.memory.read(address, used.written_bytes as usize);
        self.receiveq.post(head, Buffer::writable(address, BUFFER_BYTES));
        Some(bytes[12..].to_vec())
    }

    pub(crate) fn await_sent(&mut self) {
        wait_for("the transmit buffer", || self.transmitq.driver.take_used());
    }
}

pub(crate) fn wait_for<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "{what} did not come");
        std::thread::yield_now();
    }
}

pub(crate) fn frame(to: [u8; 6], from: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], payload].concat()
}

pub(crate) fn start(threads: usize, poll: PollMode) -> Datapath {
    let cores = core_affinity::get_core_ids().unwrap();
    let cores = (0..threads).map(|index| cores[index % cores.len()].id).collect();
    let fdb = Arc::new(Fdb::new(DEFAULT_ADDRESSES, DEFAULT_AGEING));
    Datapath::start(Settings { cores, poll, fdb }).unwrap()
}

pub(crate) fn access(vid: u16) -> VlanPolicy {
    VlanPolicy::Access(VlanId::try_from(vid).unwrap())
}
