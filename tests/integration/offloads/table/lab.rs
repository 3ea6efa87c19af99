//! Senders and receivers of all kinds in one VLAN, and what each must get.

use std::io::Write;
use std::process::Command;

use virtio::Features;
use virtio::offload::NetHeader;

use crate::support::flow::{ACK, CWR, FIN, Flow, PSH, assert_ready};
use crate::support::front_end::{FrontEnd, Manner, Received};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::Switch;
use crate::support::wire::Wire;
use crate::support::{numbers, wait_for};
use crate::uplink::three_wires;

use super::super::abilities::{
    ASKS, RECEIVERS, ROOMY, Sent, TAKES_ALL, assert_arrived, assert_same, merging,
};
use super::super::assert_accounted;

const VLAN: u16 = 100;

/// The tag that a sender on a trunk puts on its frames: a priority goes with it.
const SENT_TAG: u16 = 3 << 13 | VLAN;

/// Most pieces of a large frame: so many fit the rings of all guests.
const MOST_PIECES: usize = 60;

/// Receivers that are no guests, by the names of their ports.
const OTHERS: [&str; 4] = ["wire_out", "wire_cutting", "tap_out", "tap_out_plain"];

pub(super) const RECEIVER_COUNT: usize = RECEIVERS.len() + OTHERS.len();

/// A host's kernel behind a tap: what it takes has no count of buffers.
const HOST: Manner = TAKES_ALL;

/// An interface that cuts large TCP frames: one that goes to it whole is seen behind it as it is.
const CUTTING: Manner =
    Manner { features: Features(Features::NET_GUEST_CSUM.0 | TAKES_ANY_TCP.0), ..TAKES_ALL };

const TAKES_ANY_TCP: Features = Features(Features::NET_GUEST_TSO4.0 | Features::NET_GUEST_TSO6.0);

/// How ports see their VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vlan {
    Access,
    Trunk,
}

impl Vlan {
    const fn policy(self) -> &'static str {
        match self {
            Self::Access => "{ access = 100 }",
            Self::Trunk => "{ trunk = [100] }",
        }
    }
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Leaves checksums and segmentation to the switch.
    Guest,
    PlainGuest,
    Wire,
    /// Leaves them, too.
    Tap,
    PlainTap,
}

impl Sender {
    pub(super) const ALL: [Self; 5] =
        [Self::Guest, Self::PlainGuest, Self::Wire, Self::Tap, Self::PlainTap];

    const fn asks(self) -> bool {
        matches!(self, Self::Guest | Self::Tap)
    }
}

/// What labs differ in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) cores: &'static str,
    pub(super) sender_vlan: Vlan,
    pub(super) receiver_vlan: Vlan,
    /// Of wires and taps.
    pub(super) mtu: usize,
}

impl Shape {
    fn config(self) -> String {
        let Self { cores, sender_vlan, receiver_vlan, mtu } = self;
        let port = |name: &str, kind: &str, vlan: Vlan, keys: &str| {
            let policy = vlan.policy();
            format!("[[port]]\nname = '{name}'\ntype = '{kind}'\nvlan = {policy}\n{keys}\n")
        };
        let guest = |name: &str, vlan| {
            port(name, "vhost-user", vlan, &format!("socket = 'DIR/{name}.sock'"))
        };
        let uplink = |name: &str, interface: &str, vlan| {
            port(name, "af-xdp", vlan, &format!("interface = '{interface}'"))
        };
        let tap = |name: &str, vlan, offloads: bool| {
            let keys = format!("interface = '{name}'\nmtu = {mtu}\noffloads = {offloads}");
            port(name, "tap", vlan, &keys)
        };
        let mut config = format!("[threads]\ncores = {cores}\n");
        config += &guest("asking", sender_vlan);
        config += &guest("not_asking", sender_vlan);
        config += &uplink("wire_in", "uplink", sender_vlan);
        config += &uplink("wire_out", "uplink2", receiver_vlan);
        config += &uplink("wire_cutting", "uplink3", receiver_vlan);
        config += &tap("tap_in", sender_vlan, true);
        config += &tap("tap_in_plain", sender_vlan, false);
        config += &tap("tap_out", receiver_vlan, true);
        config += &tap("tap_out_plain", receiver_vlan, false);
        config.extend(RECEIVERS.iter().map(|(name, _)| guest(name, receiver_vlan)));
        config
    }
}

/// Senders and receivers in one VLAN.
pub(super) struct Lab {
    shape: Shape,
    asking: FrontEnd,
    plain: FrontEnd,
    wire_in: PacketSocket,
    taps_in: [PacketSocket; 2],
    guests: Vec<(&'static str, Manner, FrontEnd)>,
    wire_out: PacketSocket,
    wire_cutting: PacketSocket,
    taps_out: [(Manner, PacketSocket); 2],
    /// All that came to the wire, without padding.
    seen: Vec<Vec<u8>>,
    random: Box<dyn Iterator<Item = u64>>,
    switch: Switch,
    // The namespace goes last.
    _wire: Wire,
}

/// A receiver's address.
pub(super) fn address(number: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 1, u8::try_from(number).unwrap()]
}

/// The names of the receivers' ports.
fn receivers() -> impl Iterator<Item = &'static str> {
    RECEIVERS.iter().map(|(name, _)| *name).chain(OTHERS)
}

impl Lab {
    pub(super) fn new(shape: Shape) -> Self {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().max(1);
        eprintln!("seed {seed}");
        let wire = three_wires();
        wire.keep_quiet();
        for interface in ["uplink", "outside", "uplink2", "outside2", "uplink3", "outside3"] {
            wire.ip(&["link", "set", interface, "mtu", &shape.mtu.to_string()]);
        }
        wire.switch_off("uplink2", "tso");
        let switch = Switch::in_namespace(Some(&wire.namespace), &shape.config());
        let plug_in =
            |name, manner| FrontEnd::plug_in_as(&switch.path(&format!("{name}.sock")), manner);
        let asking = Manner { buffer_bytes: ROOMY.buffer_bytes, ..merging(ASKS) };
        let (asking, plain) = (plug_in("asking", asking), plug_in("not_asking", ROOMY));
        let guests = RECEIVERS.map(|(name, manner)| (name, manner, plug_in(name, manner)));
        for (number, name) in receivers().enumerate() {
            let mac = address(number).map(|byte| format!("{byte:02x}")).join(":");
            switch.run(&["fdb", "add", &mac, "--vlan", "100", "--port", name]);
        }
        let (wire_in, wire_out) = (wire.socket(), wire.socket_on("outside2"));
        wire_out.prepare_for_tags();
        let tap = |name| {
            let socket = wire.socket_on(name);
            socket.prepare_for_tags();
            socket.prepare_for_offloads();
            socket
        };
        Self {
            shape,
            asking,
            plain,
            wire_in,
            taps_in: [tap("tap_in"), tap("tap_in_plain")],
            guests: guests.into(),
            wire_out,
            wire_cutting: tap("outside3"),
            taps_out: [(HOST, tap("tap_out")), (ROOMY, tap("tap_out_plain"))],
            seen: Vec::new(),
            random: Box::new(numbers(seed.into()).skip(10)),
            switch,
            _wire: wire,
        }
    }

    /// A number below `end`.
    fn below(&mut self, end: usize) -> usize {
        let number = self.random.next().unwrap() >> 11;
        usize::try_from(number % u64::try_from(end).unwrap()).unwrap()
    }

    /// A frame of a flow, as this sender sends them, of random length.
    pub(super) fn frame(&mut self, sender: Sender, flow: Flow) -> Sent {
        let flow = Flow {
            tag: (self.shape.sender_vlan == Vlan::Trunk).then_some(SENT_TAG),
            identification: u16::try_from(self.below(1 << 16)).unwrap(),
            sequence: u32::try_from(self.below(1 << 32)).unwrap(),
            options: self.below(11),
            flags: ACK | [0, FIN, PSH, CWR, CWR | FIN][self.below(5)],
            ..flow
        };
        let is_large = sender.asks() && self.below(4) > 0;
        let untagged = Flow { tag: None, ..flow };
        let most = 14 + self.shape.mtu - untagged.head_bytes();
        let longest = match sender {
            _ if !is_large => most,
            // The kernel cuts longer ones itself (`gso_max_size`, tag and all).
            Sender::Tap => 65_535 - flow.head_bytes(),
            // As long as the field of IP's length can say.
            _ => 65_535 + 14 - untagged.head_bytes(),
        };
        // One in eight is as long as can be.
        let length = if self.below(8) == 0 { longest } else { 1 + self.below(longest) };
        let least = length.div_ceil(MOST_PIECES);
        let size = is_large.then(|| least + self.below(most - least + 1));
        // Where a frame ends in TCP's options, it is not known whether it is larger than a piece.
        let size = size.filter(|size| !(length..length + 40).contains(size));
        let length = if size.is_none() { length.min(most) } else { length };
        let first = self.below(251);
        let payload = (first..first + length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let size = size.map(|size| u16::try_from(size).unwrap());
        Sent { flow, payload, is_partial: sender.asks(), size }
    }

    pub(super) fn send(&mut self, sender: Sender, sent: &Sent) {
        let (net_header, frame) = sent.packet();
        match sender {
            Sender::Guest => self.asking.send_asking(net_header, &frame),
            Sender::PlainGuest => self.plain.send(&frame),
            Sender::Wire => self.wire_in.send(&frame),
            Sender::Tap => self.taps_in[0].send_asking(net_header, &frame),
            Sender::PlainTap => self.taps_in[1].send_asking(net_header, &frame),
        }
    }

    /// The tag that receivers on a trunk see.
    fn tag(&self) -> Option<u16> {
        match (self.shape.sender_vlan, self.shape.receiver_vlan) {
            (_, Vlan::Access) => None,
            (Vlan::Access, Vlan::Trunk) => Some(VLAN),
            (Vlan::Trunk, Vlan::Trunk) => Some(SENT_TAG),
        }
    }

    /// Receives a frame in the form that this receiver takes.
    pub(super) fn assert_received(&mut self, number: usize, sent: &Sent) {
        let sent = sent.with_tag(self.tag());
        match number.checked_sub(RECEIVERS.len()) {
            None => self.assert_at_guest(number, &sent),
            Some(0) => self.assert_on_wire(&sent),
            Some(1) => self.assert_behind_cutting_wire(&sent),
            Some(other) => self.assert_at_tap(other - 2, &sent),
        }
    }

    fn assert_at_guest(&mut self, number: usize, sent: &Sent) {
        let (name, manner, guest) = &mut self.guests[number];
        for wanted in sent.received(*manner) {
            let came = wait_for(name, || guest.try_receive_told());
            let what = sent.describe(name);
            assert_arrived(&came, &wanted, &what);
        }
    }

    /// Padded where it is short.
    fn assert_on_wire(&mut self, sent: &Sent) {
        for wanted in sent.ready() {
            let came = wait_for("wire", || self.wire_out.try_receive_with_tag());
            let mut padded = wanted.clone();
            padded.resize(wanted.len().max(60), 0);
            assert_same(&came, &padded, &sent.describe("wire"));
            assert!(came.len() <= 14 + 4 + self.shape.mtu);
            assert_ready(&wanted);
            self.seen.push(wanted);
        }
    }

    /// Large frames of TCP as they are, others as on any wire.
    fn assert_behind_cutting_wire(&mut self, sent: &Sent) {
        // The kernel would cut longer ones itself.
        let is_large = sent.is_large() && sent.flow.head_bytes() + sent.payload.len() <= 65_535;
        let manner = if is_large { CUTTING } else { ROOMY };
        for mut wanted in sent.received(manner) {
            wanted.frame.resize(wanted.frame.len().max(60), 0);
            assert_told(&self.wire_cutting, &wanted, &sent.describe("wire_cutting"));
        }
    }

    fn assert_at_tap(&mut self, number: usize, sent: &Sent) {
        let (manner, socket) = &self.taps_out[number];
        for wanted in sent.received(*manner) {
            let what = sent.describe(OTHERS[2 + number]);
            assert_told(socket, &wanted, &what);
            if wanted.net_header.flags & NetHeader::NEEDS_CSUM == 0 {
                assert_ready(&wanted.frame);
            }
        }
    }

    /// Takes what a flood has brought to those who are senders otherwise.
    pub(super) fn drain_others(&mut self) {
        while self.plain.try_receive().is_some() {}
    }

    /// Nobody got more than that, every frame is accounted for, and tcpdump likes what it sees.
    pub(super) fn finish(mut self) {
        for (name, _, guest) in &mut self.guests {
            assert_eq!(guest.try_receive_told(), None, "{name}");
        }
        assert_eq!(self.wire_out.try_receive_with_tag(), None);
        assert_eq!(self.wire_cutting.try_receive_told_with_tag(), None);
        for (_, socket) in &self.taps_out {
            assert_eq!(socket.try_receive_told_with_tag(), None);
        }
        let senders = ["asking", "not_asking", "tap_in", "tap_in_plain"];
        for name in receivers().chain(senders) {
            let statistics = assert_accounted(&self.switch, name);
            assert_eq!(statistics["drops_in"], 0, "{statistics}");
            assert_eq!(statistics["drops_out"], 0, "{statistics}");
        }
        assert_read_by_tcpdump(&self.seen);
    }
}

/// Receives a frame at an interface of the host.
fn assert_told(socket: &PacketSocket, wanted: &Received, what: &str) {
    let (mut net_header, frame) = wait_for(what, || socket.try_receive_told_with_tag());
    // The kernel tells how it has put the frame into memory.
    net_header.hdr_len = wanted.net_header.hdr_len;
    let came = Received { net_header, num_buffers: 1, frame };
    assert_arrived(&came, wanted, what);
}

/// Lets tcpdump read frames from a file: all checksums are right.
fn assert_read_by_tcpdump(frames: &[Vec<u8>]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    // libpcap's file format, version 2.4, Ethernet.
    let head = [0xa1b2_c3d4, 2 | 4 << 16, 0, 0, 1 << 18, 1u32];
    file.write_all(&head.map(u32::to_ne_bytes).concat()).unwrap();
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap();
        file.write_all(&[0, 0, length, length].map(u32::to_ne_bytes).concat()).unwrap();
        file.write_all(frame).unwrap();
    }
    let output = Command::new("tcpdump").args(["-n", "-vv", "-r"]).arg(file.path()).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let right = text.matches("(correct)").count() + text.matches("udp sum ok").count();
    assert!(!text.contains("incorrect") && !text.contains("bad cksum"), "{text}");
    assert_eq!(right, frames.len(), "{text}");
}
