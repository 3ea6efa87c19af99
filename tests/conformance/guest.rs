//! A guest whose every step a case can take by itself: front end, memory, and a driver of one pair of
//! rings.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtio::Features;
use virtio::offload::NetHeader;
use virtio::testing::{Buffer, TestMemory};

use crate::back_end::BackEnd;
use crate::driver::{GUEST_BYTES, Ring};
use crate::protocol::{CONFIGURE_MEM_SLOTS, MQ, PROTOCOL_FEATURES, RARP, REPLY_ACK, Talk};
use crate::support::messages::{
    GET_FEATURES, GET_PROTOCOL_FEATURES, GET_VRING_BASE, SET_FEATURES, SET_MEM_TABLE, SET_OWNER,
    SET_PROTOCOL_FEATURES, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
    SET_VRING_KICK, SET_VRING_NUM,
};
use crate::support::{ALICE, BOB, frame, wait_for};

/// The ring that frames come by.
pub(crate) const RECEIVEQ: u16 = 0;
/// The ring that frames are sent by.
pub(crate) const TRANSMITQ: u16 = 1;
/// The ring behind them, which cases start that are about it.
pub(crate) const CONTROL_QUEUE: u16 = 2;

/// Longer than any back end takes for a frame, and short enough to wait for nothing.
const SILENCE: Duration = Duration::from_millis(200);

/// How a guest is set up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) features: Features,
    /// The front end acknowledges that there are protocol features.
    pub(crate) has_protocol: bool,
    /// It enables the rings.
    pub(crate) enables: bool,
    pub(crate) entries: u16,
    /// Receive buffers, and their length.
    pub(crate) posted: u16,
    pub(crate) buffer_bytes: u32,
    /// The rings stand as if so many chains had gone through.
    pub(crate) index: u16,
}

/// A modern driver that has negotiated nothing else.
pub(crate) const PLAIN: Plan = Plan {
    features: Features::VERSION_1,
    has_protocol: true,
    enables: true,
    entries: 128,
    posted: 64,
    buffer_bytes: 2_048,
    index: 0,
};

impl Plan {
    /// The same with more features.
    pub(crate) const fn with(self, features: Features) -> Self {
        Self { features: Features(self.features.0 | features.0), ..self }
    }
}

/// A frame as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) net_header: NetHeader,
    pub(crate) num_buffers: u16,
    /// What the device says that it wrote into each buffer.
    pub(crate) written: Vec<u32>,
    pub(crate) frame: Vec<u8>,
}

/// A guest in this process.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) talk: Talk,
    pub(crate) memory: Arc<TestMemory>,
    pub(crate) address: [u8; 6],
    pub(crate) plan: Plan,
    pub(crate) rings: [Ring; 3],
}

impl Guest {
    /// Connects, negotiates, starts both rings and enables them.
    pub(crate) fn plug_in(socket: &Path, plan: Plan, address: [u8; 6]) -> Self {
        let memory = TestMemory::new(GUEST_BYTES);
        let talk = Talk::connect(socket);
        let rings = [RECEIVEQ, TRANSMITQ, CONTROL_QUEUE];
        let rings = rings.map(|number| Ring::new(&memory, number, &plan));
        let mut guest = Self { talk, memory, address, plan, rings };
        guest.negotiate();
        guest.share_memory();
        for _ in 0..plan.posted {
            let head = guest.receiveq().take_heads(1);
            guest.rings[0].post_writable(head, plan.buffer_bytes);
        }
        for ring in [RECEIVEQ, TRANSMITQ] {
            let base = guest.rings[usize::from(ring)].driver.base();
            guest.start(ring, base);
        }
        if plan.has_protocol && plan.enables {
            [RECEIVEQ, TRANSMITQ].into_iter().for_each(|ring| guest.enable(ring, true));
        }
        guest.synchronise();
        guest
    }

    fn negotiate(&mut self) {
        let mut features = self.plan.features.0;
        self.talk.send(SET_OWNER, &[], &[]);
        self.talk.send(GET_FEATURES, &[], &[]);
        self.talk.reply_u64();
        if self.plan.has_protocol {
            features |= PROTOCOL_FEATURES;
            self.talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
            let offered = self.talk.reply_u64();
            let wanted = offered & (MQ | RARP | REPLY_ACK | CONFIGURE_MEM_SLOTS);
            self.talk.send_u64(SET_PROTOCOL_FEATURES, &[wanted], &[]);
        }
        self.talk.send_u64(SET_FEATURES, &[features], &[]);
    }

    fn share_memory(&self) {
        let guest = TestMemory::GUEST_BASE;
        let table = [1, guest, GUEST_BYTES, guest + TestMemory::USER_OFFSET, 0];
        self.talk.send_u64(SET_MEM_TABLE, &table, &[self.memory.file()]);
    }

    /// Tells the back end all about a ring, and kicks it once: with that it starts.
    pub(crate) fn start(&self, ring: u16, base: u32) {
        self.describe_ring(ring, base);
        self.send_kick(ring);
    }

    /// All but the kick's descriptor.
    pub(crate) fn describe_ring(&self, ring: u16, base: u32) {
        let at = self.rings[usize::from(ring)].driver.addresses();
        let (table, used, available) = (at.descriptor_table, at.used_ring, at.available_ring);
        self.talk.send_vring(SET_VRING_NUM, ring.into(), self.plan.entries.into());
        self.talk.send_vring(SET_VRING_BASE, ring.into(), base);
        self.talk.send_u64(SET_VRING_ADDR, &[ring.into(), table, used, available, 0], &[]);
        let call = self.rings[usize::from(ring)].call.as_fd();
        self.talk.send_u64(SET_VRING_CALL, &[ring.into()], &[call]);
    }

    /// The kick's descriptor, and a kick.
    pub(crate) fn send_kick(&self, ring: u16) {
        let kick = &self.rings[usize::from(ring)];
        self.talk.send_u64(SET_VRING_KICK, &[ring.into()], &[kick.kick.as_fd()]);
        kick.kick();
    }

    pub(crate) fn enable(&self, ring: u16, enabled: bool) {
        self.talk.send_vring(SET_VRING_ENABLE, ring.into(), enabled.into());
    }

    /// Stops a ring. Returns where the back end says that it stopped.
    pub(crate) fn stop(&mut self, ring: u16) -> u32 {
        self.talk.send_vring(GET_VRING_BASE, ring.into(), 0);
        let state = self.talk.reply();
        assert_eq!(state[..4], u32::from(ring).to_le_bytes(), "the answer is about that ring");
        u32::from_le_bytes(state[4..].try_into().unwrap())
    }

    /// Waits until the back end has carried out what was sent before.
    pub(crate) fn synchronise(&mut self) {
        self.talk.send(GET_FEATURES, &[], &[]);
        self.talk.reply_u64();
    }

    pub(crate) const fn receiveq(&mut self) -> &mut Ring {
        &mut self.rings[0]
    }

    pub(crate) const fn transmitq(&mut self) -> &mut Ring {
        &mut self.rings[1]
    }

    /// A frame with its header in front, as it lies in a buffer.
    pub(crate) fn packet(&self, net_header: NetHeader, frame: &[u8]) -> Vec<u8> {
        let header = net_header.to_bytes(0);
        [&header[..self.plan.features.net_header_bytes()], frame].concat()
    }

    /// Sends a frame.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        self.send_asking(NetHeader::default(), frame);
    }

    /// Sends a frame that something is to be done to.
    pub(crate) fn send_asking(&mut self, net_header: NetHeader, frame: &[u8]) {
        let packet = self.packet(net_header, frame);
        self.send_cut(&packet, &[]);
    }

    /// Sends a packet in a chain of pieces: these lengths, and the rest.
    pub(crate) fn send_cut(&mut self, packet: &[u8], lengths: &[usize]) {
        let count = u16::try_from(lengths.len() + 1).unwrap();
        let ring = self.transmitq();
        while ring.driver.take_used().is_some() {}
        let head = ring.take_heads(count);
        let pieces = ring.lay(ring.place(head), packet, lengths);
        ring.driver.describe_chain(head, &pieces);
        ring.post(head);
    }

    /// The same in an indirect table.
    pub(crate) fn send_indirect(&mut self, packet: &[u8], lengths: &[usize]) {
        let ring = self.transmitq();
        while ring.driver.take_used().is_some() {}
        let head = ring.take_heads(1);
        let pieces = ring.lay(ring.place(head), packet, lengths);
        let table = ring.table(head);
        ring.driver.describe_indirect(head, table, &pieces);
        ring.post(head);
    }

    /// Sends a frame and leaves it to the back end to see it: no kick.
    pub(crate) fn put(&mut self, frame: &[u8]) {
        let packet = self.packet(NetHeader::default(), frame);
        let ring = self.transmitq();
        let head = ring.take_heads(1);
        let pieces = ring.lay(ring.place(head), &packet, &[]);
        ring.driver.describe(head, pieces[0]);
        ring.driver.make_available(head);
    }

    /// Frames that the back end has not given back.
    pub(crate) fn in_flight(&self) -> u16 {
        self.rings[1].driver.in_flight()
    }

    /// Waits until it has given all of them back.
    pub(crate) fn await_sent(&self) {
        wait_for("the transmit buffers", || (self.in_flight() == 0).then_some(()));
    }

    /// Says whether the back end takes nothing of what was sent within a time in which it would.
    pub(crate) fn is_not_served(&self) -> bool {
        std::thread::sleep(SILENCE);
        self.in_flight() != 0
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> Received {
        wait_for("a frame", || self.try_receive())
    }

    /// The next frame if there is one. What a back end says of its own accord is passed over.
    pub(crate) fn try_receive(&mut self) -> Option<Received> {
        let received = self.try_receive_any()?;
        let is_of_a_guest = received.frame.get(6..8) == Some(&self.address[..2]);
        is_of_a_guest.then_some(received)
    }

    fn try_receive_any(&mut self) -> Option<Received> {
        let features = self.plan.features;
        let (used, first) = self.take_buffer()?;
        assert!(first.len() >= features.net_header_bytes(), "a header is there: {first:?}");
        let (head, start) = first.split_at(features.net_header_bytes());
        let mut bytes = [0; 12];
        bytes[..head.len()].copy_from_slice(head);
        let num_buffers =
            if head.len() == 12 { u16::from_le_bytes([bytes[10], bytes[11]]) } else { 1 };
        let net_header = NetHeader::from_bytes(&bytes);
        let (mut frame, mut written) = (start.to_vec(), vec![used]);
        if features.contains(Features::NET_MRG_RXBUF) {
            for _ in 1..num_buffers {
                let (used, more) = self.take_buffer().expect("merged buffers come together");
                frame.extend(more);
                written.push(used);
            }
        }
        Some(Received { net_header, num_buffers, written, frame })
    }

    /// Takes a written buffer and makes it available again.
    fn take_buffer(&mut self) -> Option<(u32, Vec<u8>)> {
        let buffer_bytes = self.plan.buffer_bytes;
        let ring = self.receiveq();
        let (used, bytes) = ring.take_written()?;
        ring.post_writable(u16::try_from(used.head).unwrap(), buffer_bytes);
        Some((used.written_bytes, bytes))
    }

    /// Says whether no frame comes within a time in which it would.
    pub(crate) fn stays_silent(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < SILENCE {
            if self.try_receive().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Posts one receive buffer in an indirect table, and has frames sent until it is used. Returns
    /// the frame in it.
    pub(crate) fn receive_in_table(&mut self, mut send: impl FnMut()) -> Vec<u8> {
        let ring = self.receiveq();
        let head = ring.take_heads(1);
        let (place, table) = (ring.place(head), ring.table(head));
        let parts = [(0, 12), (1_024, 100), (2_048, 2_048)];
        let parts = parts.map(|(at, length)| Buffer::writable(place + at, length));
        ring.driver.describe_indirect(head, table, &parts);
        ring.post(head);
        let used = wait_for("the frame", || {
            send();
            std::thread::sleep(Duration::from_millis(20));
            self.receiveq().driver.take_used()
        });
        let rest = usize::try_from(used.written_bytes).unwrap() - 12 - 100;
        [self.memory.read(place + 1_024, 100), self.memory.read(place + 2_048, rest)].concat()
    }

    /// Describes a transmit buffer anywhere in memory and makes it available.
    pub(crate) fn send_from(&mut self, address: u64, length_bytes: u32) {
        let ring = self.transmitq();
        let head = ring.take_heads(1);
        ring.driver.describe(head, Buffer::readable(address, length_bytes));
        ring.post(head);
    }
}

/// Sends frames after pauses, kicking only when the back end asks for it, more than the ring is long.
pub(crate) fn send_after_pauses(plan: Plan) {
    let back_end = BackEnd::start();
    let short = Plan { entries: 16, posted: 16, ..plan };
    let Some((mut alice, mut bob)) = back_end.pair(short) else { return };

    for number in 0..40 {
        std::thread::sleep(Duration::from_millis(u64::from(number % 8)));
        assert_forwards(&mut alice, &mut bob, number);
    }
}

/// A short frame from Alice to Bob.
pub(crate) fn to_bob(number: u8) -> Vec<u8> {
    frame(BOB, ALICE, &[number; 46])
}

/// Sends such a frame and expects it at the other end.
pub(crate) fn assert_forwards(alice: &mut Guest, bob: &mut Guest, number: u8) {
    alice.send(&to_bob(number));
    assert_eq!(bob.receive().frame, to_bob(number));
}
