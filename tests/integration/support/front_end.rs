//! A guest in this process: a vhost-user front end with its driver and memory.

mod changes;
mod control;
mod memory;
mod migration;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use virtio::offload::NetHeader;
use virtio::testing::{Buffer, Driver, TestMemory};
use virtio::{Features, QueueSize};

use super::messages::{
    Conversation, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_VRING_BASE, NET_SET_MTU, SET_FEATURES,
    SET_OWNER, SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL,
    SET_VRING_ENABLE, SET_VRING_KICK, SET_VRING_NUM,
};
use super::wait_for;

/// Entries of every ring.
pub(crate) const RING_ENTRIES: u16 = 128;

/// Guest memory of each queue: its ring and its buffers.
const QUEUE_BYTES: u64 = 10 << 20;

/// Distance between the buffers of a queue: room for the longest frame that is to be cut.
pub(crate) const BUFFER_STEP: u64 = 68 << 10;

const PROTOCOL_FEATURES: u64 = 1 << 30;

/// How the driver uses its rings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) features: Features,
    /// Length of a receive buffer.
    pub(crate) buffer_bytes: u32,
    /// Transmit buffers are described in indirect tables, cut in two.
    pub(crate) indirect: bool,
    pub(crate) queue_pairs: u16,
    /// It passes the control queue on, behind the pairs.
    pub(crate) controls: bool,
    /// It has had its features from another back end, and acknowledges them whatever is on offer.
    pub(crate) insists: bool,
}

/// A driver as Linux has it, but for what the fields say.
pub(crate) const MODERN: Manner = Manner {
    features: Features(Features::VERSION_1.0 | Features::RING_EVENT_IDX.0),
    buffer_bytes: 2_048,
    indirect: false,
    queue_pairs: 1,
    controls: false,
    insists: false,
};

impl Manner {
    /// How many rings it has.
    const fn rings(&self) -> u16 {
        2 * self.queue_pairs + self.controls as u16
    }

    /// Says whether a ring is a receiveq.
    fn receives(&self, ring: usize) -> bool {
        ring.is_multiple_of(2) && ring < 2 * usize::from(self.queue_pairs)
    }
}

/// A frame as it came to a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) net_header: NetHeader,
    /// How many buffers it took, as its header says; one if that has no such field.
    pub(crate) num_buffers: u16,
    pub(crate) frame: Vec<u8>,
}

/// One ring with its buffers.
#[derive(Debug)]
struct Ring {
    driver: Driver,
    buffers: u64,
    kick: OwnedFd,
    call: OwnedFd,
    next_head: u16,
}

/// A guest in this process.
#[derive(Debug)]
pub(crate) struct FrontEnd {
    conversation: Conversation,
    pub(crate) memory: Arc<TestMemory>,
    /// Where the memory is cut into regions, counted from its start.
    cuts: Vec<u64>,
    manner: Manner,
    rings: Vec<Ring>,
}

impl FrontEnd {
    /// Plugs a plain guest in.
    pub(crate) fn plug_in(socket: &Path) -> Self {
        Self::plug_in_as(socket, MODERN)
    }

    /// Plugs a guest in that works its rings in this manner: negotiates and starts all rings, as
    /// QEMU does, which enables them before it sets features.
    pub(crate) fn plug_in_as(socket: &Path, manner: Manner) -> Self {
        let rings = u64::from(manner.rings());
        Self::plug_in_with(socket, manner, TestMemory::new(QUEUE_BYTES * rings), &[])
    }

    /// The same with memory for this many pairs, of which the driver may use more or fewer later.
    pub(crate) fn plug_in_with_room(socket: &Path, manner: Manner, most_pairs: u16) -> Self {
        let rings = 2 * u64::from(most_pairs);
        Self::plug_in_with(socket, manner, TestMemory::new(QUEUE_BYTES * rings), &[])
    }

    /// The same with this memory, [cut](Self::cut_memory) at these places.
    pub(crate) fn plug_in_with(
        socket: &Path,
        manner: Manner,
        memory: Arc<TestMemory>,
        cuts: &[(usize, u16)],
    ) -> Self {
        let conversation = Conversation::connect(socket);
        let rings = Ring::all(&memory, manner);
        let mut guest = Self { conversation, memory, cuts: Vec::new(), manner, rings };
        guest.cut_memory(cuts);
        guest.negotiate();
        for index in 0..manner.rings() {
            guest.enable(index, true);
        }
        guest.conversation.send_u64(SET_FEATURES, &[manner.features.0 | PROTOCOL_FEATURES], &[]);
        guest.share_memory();
        for index in 0..guest.rings.len() {
            if manner.receives(index) {
                guest.fill(index);
            }
            guest.start(index);
        }
        guest.synchronise();
        guest
    }

    fn negotiate(&mut self) {
        let talk = &mut self.conversation;
        talk.send(GET_FEATURES, &[], &[]);
        let offered = talk.reply_u64();
        let wanted = self.manner.features.0 | PROTOCOL_FEATURES;
        let is_enough = self.manner.insists || offered & wanted == wanted;
        assert!(is_enough, "offered {offered:#x}, wanted {wanted:#x}");
        talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
        let protocol = talk.reply_u64();
        talk.send_u64(SET_PROTOCOL_FEATURES, &[protocol], &[]);
        talk.send(SET_OWNER, &[], &[]);
    }

    /// Waits until the switch has carried out what was sent before.
    pub(crate) fn synchronise(&mut self) {
        self.conversation.send(GET_FEATURES, &[], &[]);
        self.conversation.reply_u64();
    }

    /// Stops a ring and starts it again where the switch says that it stopped.
    pub(crate) fn restart(&mut self, index: usize) {
        let number = u32::try_from(index).unwrap();
        self.conversation.send_vring(GET_VRING_BASE, number, 0);
        let state = self.conversation.reply();
        let base = u32::from_le_bytes(state[4..].try_into().unwrap());
        assert_eq!(base, self.rings[index].driver.base(), "of ring {index}");
        self.start(index);
        self.synchronise();
    }

    /// Leaves, and comes back with all rings as they are and bases as the front end once knew them.
    pub(crate) fn come_back(&mut self, socket: &Path) {
        self.conversation.hang_up();
        self.connect_again(socket);
        let initial = Driver::initial_base(self.manner.features);
        (0..self.rings.len()).for_each(|index| self.start_at(index, initial));
    }

    /// Comes back to a switch that was away, with all rings as they are and bases as QEMU knows
    /// them: from the used rings.
    pub(crate) fn reconnect(&mut self, socket: &Path) {
        self.connect_again(socket);
        (0..self.rings.len()).for_each(|index| self.start(index));
        self.synchronise();
    }

    /// All up to the rings.
    fn connect_again(&mut self, socket: &Path) {
        self.conversation = Conversation::connect(socket);
        self.negotiate();
        (0..self.manner.rings()).for_each(|index| self.enable(index, true));
        let features = self.manner.features.0 | PROTOCOL_FEATURES;
        self.conversation.send_u64(SET_FEATURES, &[features], &[]);
        self.share_memory();
    }

    /// Tells the switch all about a ring. With the kick it runs.
    fn start(&self, index: usize) {
        self.start_at(index, self.rings[index].driver.base());
    }

    fn start_at(&self, index: usize, base: u32) {
        let (talk, ring) = (&self.conversation, &self.rings[index]);
        let number = u32::try_from(index).unwrap();
        talk.send_vring(SET_VRING_NUM, number, RING_ENTRIES.into());
        talk.send_vring(SET_VRING_BASE, number, base);
        let at = ring.driver.addresses();
        let (table, used, available) = (at.descriptor_table, at.used_ring, at.available_ring);
        talk.send_u64(SET_VRING_ADDR, &[number.into(), table, used, available, 0], &[]);
        talk.send_u64(SET_VRING_CALL, &[number.into()], &[ring.call.as_fd()]);
        talk.send_u64(SET_VRING_KICK, &[number.into()], &[ring.kick.as_fd()]);
    }

    /// Enables or disables a ring.
    pub(crate) fn enable(&self, index: u16, enabled: bool) {
        self.conversation.send_vring(SET_VRING_ENABLE, index.into(), enabled.into());
    }

    /// Makes all buffers of a receiveq available.
    fn fill(&mut self, index: usize) {
        for _ in 0..RING_ENTRIES {
            let ring = &mut self.rings[index];
            let head = ring.take_head();
            let buffer = Buffer::writable(ring.buffer(head), self.manner.buffer_bytes);
            ring.post(head, buffer);
        }
    }

    /// Sends a frame on the first pair.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.send_on(0, frame);
    }

    /// Sends a frame on a pair. Waits while the ring is full.
    pub(crate) fn send_on(&mut self, pair: usize, frame: &[u8]) {
        self.send_asking_on(pair, NetHeader::default(), frame);
    }

    /// Sends a frame that something is to be done to.
    pub(crate) fn send_asking(&mut self, net_header: NetHeader, frame: &[u8]) {
        self.send_asking_on(0, net_header, frame);
    }

    fn send_asking_on(&mut self, pair: usize, net_header: NetHeader, frame: &[u8]) {
        let net_header = net_header.to_bytes(0);
        let packet = [&net_header[..self.manner.features.net_header_bytes()], frame].concat();
        let ring = &mut self.rings[2 * pair + 1];
        wait_for("room in the transmitq", || {
            while ring.driver.take_used().is_some() {}
            (ring.driver.in_flight() < RING_ENTRIES).then_some(())
        });
        let head = ring.take_head();
        let address = ring.buffer(head);
        self.memory.write(address, &packet);
        let length = u32::try_from(packet.len()).unwrap();
        if self.manner.indirect {
            // The table lies behind the packet; the cut is in the middle of the header.
            let table = address + BUFFER_STEP - 1_024;
            let parts =
                [Buffer::readable(address, 20), Buffer::readable(address + 20, length - 20)];
            ring.driver.describe_indirect(head, table, &parts);
            ring.notify(head);
        } else {
            ring.post(head, Buffer::readable(address, length));
        }
    }

    /// Frames in the transmitq of the first pair that the switch has not given back.
    pub(crate) fn in_flight(&mut self) -> u16 {
        let driver = &mut self.rings[1].driver;
        while driver.take_used().is_some() {}
        driver.in_flight()
    }

    /// Waits until the switch has given all transmit buffers back.
    pub(crate) fn await_sent(&mut self) {
        for ring in self.rings.iter().skip(1).step_by(2) {
            wait_for("the transmit buffers", || (ring.driver.in_flight() == 0).then_some(()));
        }
    }

    /// The next frame, without net header.
    pub(crate) fn receive(&mut self) -> Vec<u8> {
        wait_for("a frame", || self.try_receive()).1
    }

    /// The next frame of any pair, with the pair's number, if there is one.
    pub(crate) fn try_receive(&mut self) -> Option<(usize, Vec<u8>)> {
        let pairs = usize::from(self.manner.queue_pairs);
        (0..pairs).find_map(|pair| self.try_receive_on(pair).map(|frame| (pair, frame)))
    }

    /// The next frame if it is for this address; another is passed over.
    pub(crate) fn try_receive_to(&mut self, address: [u8; 6]) -> Option<Vec<u8>> {
        self.try_receive().map(|(_, frame)| frame).filter(|frame| frame[..6] == address)
    }

    /// The next frame of the first pair and what its net header says, if there is one.
    pub(crate) fn try_receive_told(&mut self) -> Option<Received> {
        self.try_receive_told_on(0)
    }

    fn try_receive_on(&mut self, pair: usize) -> Option<Vec<u8>> {
        self.try_receive_told_on(pair).map(|received| received.frame)
    }

    fn try_receive_told_on(&mut self, pair: usize) -> Option<Received> {
        let features = self.manner.features;
        let first = self.take_buffer(pair)?;
        let is_whole = first.len() >= features.net_header_bytes();
        assert!(is_whole, "{} bytes in a buffer of receiveq {pair}, {features:?}", first.len());
        let (head, start) = first.split_at(features.net_header_bytes());
        let mut net_header = [0; 12];
        net_header[..head.len()].copy_from_slice(head);
        let has_number = head.len() == net_header.len();
        let num_buffers =
            if has_number { u16::from_le_bytes([net_header[10], net_header[11]]) } else { 1 };
        let mut frame = start.to_vec();
        if features.contains(Features::NET_MRG_RXBUF) {
            for _ in 1..num_buffers {
                frame.extend(self.take_buffer(pair).expect("merged buffers come together"));
            }
        }
        Some(Received { net_header: NetHeader::from_bytes(&net_header), num_buffers, frame })
    }

    fn take_buffer(&mut self, pair: usize) -> Option<Vec<u8>> {
        let ring = &mut self.rings[2 * pair];
        let used = ring.driver.take_used()?;
        let head = u16::try_from(used.head).unwrap();
        let address = ring.buffer(head);
        let bytes = self.memory.read(address, usize::try_from(used.written_bytes).unwrap());
        ring.post(head, Buffer::writable(address, self.manner.buffer_bytes));
        Some(bytes)
    }

    /// Says whether no frame comes within a time in which many would.
    pub(crate) fn stays_silent(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            if self.try_receive().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// The driver of a ring, to do wrong with.
    pub(crate) fn driver(&mut self, ring: usize) -> &mut Driver {
        &mut self.rings[ring].driver
    }

    /// The first buffer of a ring.
    pub(crate) fn buffer(&self, ring: usize) -> u64 {
        self.rings[ring].buffer(0)
    }

    /// Sends a descriptor that belongs to a ring (SET_VRING_ERR).
    pub(crate) fn send_descriptor(&mut self, request: u32, ring: u64, descriptor: BorrowedFd<'_>) {
        self.conversation.send_u64(request, &[ring], &[descriptor]);
        self.synchronise();
    }

    /// Tells the switch the guest's MTU (NET_SET_MTU). Returns its answer: zero if it agrees.
    pub(crate) fn set_mtu(&mut self, mtu: u64) -> u64 {
        self.conversation.ask_u64(NET_SET_MTU, mtu)
    }

    /// Kicks a ring whether the switch wants it or not.
    pub(crate) fn kick(&self, ring: usize) {
        rustix::io::write(&self.rings[ring].kick, &1u64.to_ne_bytes()).unwrap();
    }
}

impl Ring {
    /// Those of all pairs.
    fn all(memory: &Arc<TestMemory>, manner: Manner) -> Vec<Self> {
        let new = |index| Self::new(memory, index, manner.features);
        (0..manner.rings()).map(new).collect()
    }

    fn new(memory: &Arc<TestMemory>, index: u16, features: Features) -> Self {
        let size = QueueSize::new(u32::from(RING_ENTRIES), Features::NONE).unwrap();
        let table = TestMemory::GUEST_BASE + QUEUE_BYTES * u64::from(index);
        let driver = Driver::new_at(memory, table, size, features);
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        // Not in the ring's page, and over the end of another.
        let buffers = driver.end().next_multiple_of(0x1000) + 0xc40;
        Self { driver, buffers, kick: event(), call: event(), next_head: 0 }
    }

    fn buffer(&self, head: u16) -> u64 {
        self.buffers + u64::from(head) * BUFFER_STEP
    }

    fn take_head(&mut self) -> u16 {
        let head = self.next_head;
        self.next_head = (head + 1) % RING_ENTRIES;
        head
    }

    fn post(&mut self, head: u16, buffer: Buffer) {
        self.driver.describe(head, buffer);
        self.notify(head);
    }

    fn notify(&mut self, head: u16) {
        if self.driver.make_available(head) {
            rustix::io::write(&self.kick, &1u64.to_ne_bytes()).unwrap();
        }
    }
}
