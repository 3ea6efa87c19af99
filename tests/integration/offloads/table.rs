//! Every pair of sender and receiver, every protocol, with and without tags: what arrives is what
//! was sent, in the form that its receiver takes.
//!
//! ```text
//!   asking ─┐                            ┌─ guests of all abilities
//!   plain ──┼─ VLAN 100, tagged or not ──┤
//!   wire ───┘                            └─ wire
//! ```

use std::io::Write;
use std::process::Command;

use crate::support::flow::{ACK, CWR, FIN, Flow, PROTOCOLS, PSH, assert_ready};
use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::Switch;
use crate::support::wire::Wire;
use crate::support::{BROADCAST, numbers, wait_for};
use crate::uplink::two_wires;

use super::abilities::{ASKS, RECEIVERS, Sent, assert_arrived, assert_same, merging};
use super::assert_accounted;

const VLAN: u16 = 100;

/// The tag that a sender on a trunk puts on its frames: a priority goes with it.
const SENT_TAG: u16 = 3 << 13 | VLAN;

const MTU: usize = 1_500;

/// Most pieces of a large frame: so many fit the rings of all guests.
const MOST_PIECES: usize = 60;

/// Frames of each protocol from each sender to each receiver.
const FRAMES: usize = 6;

/// How ports see their VLAN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vlan {
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

/// A receiver's address.
fn address(number: usize) -> [u8; 6] {
    [0x52, 0x54, 0, 0, 1, u8::try_from(number).unwrap()]
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Asking,
    Plain,
    Wire,
}

/// Senders and receivers in one VLAN.
struct Lab {
    sender_vlan: Vlan,
    receiver_vlan: Vlan,
    asking: FrontEnd,
    plain: FrontEnd,
    wire_in: PacketSocket,
    guests: Vec<(&'static str, Manner, FrontEnd)>,
    wire_out: PacketSocket,
    /// All that came to the wire, without padding.
    seen: Vec<Vec<u8>>,
    random: Box<dyn Iterator<Item = u64>>,
    switch: Switch,
    // The namespace goes last.
    _wire: Wire,
}

impl Lab {
    fn new(cores: &str, sender_vlan: Vlan, receiver_vlan: Vlan) -> Self {
        let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().max(1);
        eprintln!("seed {seed}");
        let wire = two_wires();
        let guest = |name: &str, vlan: Vlan| {
            let (policy, kind) = (vlan.policy(), "type = 'vhost-user'");
            format!(
                "[[port]]\nname = '{name}'\n{kind}\nsocket = 'DIR/{name}.sock'\nvlan = {policy}\n"
            )
        };
        let uplink = |name: &str, interface: &str, vlan: Vlan| {
            let (policy, kind) = (vlan.policy(), "type = 'af-xdp'");
            format!(
                "[[port]]\nname = '{name}'\n{kind}\ninterface = '{interface}'\nvlan = {policy}\n"
            )
        };
        let mut config = format!("[threads]\ncores = {cores}\n");
        config += &guest("asking", sender_vlan);
        config += &guest("not_asking", sender_vlan);
        config += &uplink("wire_in", "uplink", sender_vlan);
        config += &uplink("wire_out", "uplink2", receiver_vlan);
        config.extend(RECEIVERS.iter().map(|(name, _)| guest(name, receiver_vlan)));
        let switch = Switch::in_namespace(Some(&wire.namespace), &config);
        let plug_in =
            |name, manner| FrontEnd::plug_in_as(&switch.path(&format!("{name}.sock")), manner);
        let asking = plug_in("asking", merging(ASKS));
        let plain = plug_in("not_asking", MODERN);
        let guests = RECEIVERS.map(|(name, manner)| (name, manner, plug_in(name, manner)));
        let names = RECEIVERS.iter().map(|(name, _)| *name).chain(["wire_out"]);
        for (number, name) in names.enumerate() {
            let mac = address(number).map(|byte| format!("{byte:02x}")).join(":");
            switch.run(&["fdb", "add", &mac, "--vlan", "100", "--port", name]);
        }
        let (wire_in, wire_out) = (wire.socket(), wire.socket_on("outside2"));
        wire_out.prepare_for_tags();
        Self {
            sender_vlan,
            receiver_vlan,
            asking,
            plain,
            wire_in,
            guests: guests.into(),
            wire_out,
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
    fn frame(&mut self, sender: Sender, flow: Flow) -> Sent {
        let flow = Flow {
            tag: (self.sender_vlan == Vlan::Trunk).then_some(SENT_TAG),
            identification: u16::try_from(self.below(1 << 16)).unwrap(),
            sequence: u32::try_from(self.below(1 << 32)).unwrap(),
            options: self.below(11),
            flags: ACK | [0, FIN, PSH, CWR, CWR | FIN][self.below(5)],
            ..flow
        };
        let is_large = sender == Sender::Asking && self.below(4) > 0;
        let untagged = Flow { tag: None, ..flow };
        let most = 14 + MTU - untagged.head_bytes();
        // As long as the field of IP's length can say.
        let longest = if is_large { 65_535 + 14 - untagged.head_bytes() } else { most };
        let length = 1 + self.below(longest);
        let least = length.div_ceil(MOST_PIECES);
        let size = is_large.then(|| least + self.below(most - least + 1));
        // Where a frame ends in TCP's options, it is not known whether it is larger than a piece.
        let size = size.filter(|size| !(length..length + 40).contains(size));
        let first = self.below(251);
        let payload = (first..first + length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let size = size.map(|size| u16::try_from(size).unwrap());
        Sent { flow, payload, is_partial: sender == Sender::Asking, size }
    }

    fn send(&mut self, sender: Sender, sent: &Sent) {
        let (net_header, frame) = sent.packet();
        match sender {
            Sender::Asking => self.asking.send_asking(net_header, &frame),
            Sender::Plain => self.plain.send(&frame),
            Sender::Wire => self.wire_in.send(&frame),
        }
    }

    /// The tag that receivers on a trunk see.
    fn tag(&self) -> Option<u16> {
        match (self.sender_vlan, self.receiver_vlan) {
            (_, Vlan::Access) => None,
            (Vlan::Access, Vlan::Trunk) => Some(VLAN),
            (Vlan::Trunk, Vlan::Trunk) => Some(SENT_TAG),
        }
    }

    /// Receives a frame in the form that this guest takes.
    fn assert_received(&mut self, number: usize, sent: &Sent) {
        let sent = sent.with_tag(self.tag());
        let (name, manner, guest) = &mut self.guests[number];
        for wanted in sent.received(*manner) {
            let came = wait_for(name, || guest.try_receive_told());
            let what = format!("{name}: {:?} of {} bytes", sent.flow, sent.payload.len());
            assert_arrived(&came, &wanted, &what);
        }
    }

    /// Receives it from the wire, padded where it is short.
    fn assert_on_wire(&mut self, sent: &Sent) {
        let sent = sent.with_tag(self.tag());
        for wanted in sent.ready() {
            let came = wait_for("wire", || self.wire_out.try_receive_with_tag());
            let mut padded = wanted.clone();
            padded.resize(wanted.len().max(60), 0);
            assert_same(&came, &padded, &format!("wire: {:?}", sent.flow));
            assert!(came.len() <= 14 + 4 + MTU);
            assert_ready(&wanted);
            self.seen.push(wanted);
        }
    }

    /// Nobody got more than that, every frame is accounted for, and tcpdump likes what it sees.
    fn finish(mut self) {
        for (name, _, guest) in &mut self.guests {
            assert_eq!(guest.try_receive_told(), None, "{name}");
        }
        assert_eq!(self.wire_out.try_receive_with_tag(), None);
        for name in
            RECEIVERS.iter().map(|(name, _)| *name).chain(["asking", "not_asking", "wire_out"])
        {
            let statistics = assert_accounted(&self.switch, name);
            assert_eq!(statistics["drops_in"], 0, "{statistics}");
            assert_eq!(statistics["drops_out"], 0, "{statistics}");
        }
        assert_read_by_tcpdump(&self.seen);
    }
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

/// Sends from everybody to everybody, one frame at a time.
fn exchange(cores: &str, sender_vlan: Vlan, receiver_vlan: Vlan) {
    let mut lab = Lab::new(cores, sender_vlan, receiver_vlan);
    for sender in [Sender::Asking, Sender::Plain, Sender::Wire] {
        for flow in PROTOCOLS {
            for number in 0..=RECEIVERS.len() {
                for _ in 0..FRAMES {
                    let sent = lab.frame(sender, Flow { to: address(number), ..flow });
                    lab.send(sender, &sent);
                    if number < RECEIVERS.len() {
                        lab.assert_received(number, &sent);
                    } else {
                        lab.assert_on_wire(&sent);
                    }
                }
            }
        }
    }
    lab.finish();
}

#[test]
fn everybody_gets_the_form_he_takes_without_tags() {
    exchange("[0]", Vlan::Access, Vlan::Access);
}

#[test]
fn everybody_gets_the_form_he_takes_when_tags_are_inserted() {
    exchange("[0]", Vlan::Access, Vlan::Trunk);
}

#[test]
fn everybody_gets_the_form_he_takes_when_tags_are_removed() {
    exchange("[0]", Vlan::Trunk, Vlan::Access);
}

#[test]
fn everybody_gets_the_form_he_takes_over_two_poll_threads() {
    exchange("[0, 1]", Vlan::Trunk, Vlan::Trunk);
}

/// Sends large frames to everybody at once.
fn flood(cores: &str, sender_vlan: Vlan, receiver_vlan: Vlan) {
    let mut lab = Lab::new(cores, sender_vlan, receiver_vlan);
    for flow in PROTOCOLS {
        for _ in 0..FRAMES {
            let sent = lab.frame(Sender::Asking, Flow { to: BROADCAST, ..flow });
            lab.send(Sender::Asking, &sent);
            (0..RECEIVERS.len()).for_each(|number| lab.assert_received(number, &sent));
            lab.assert_on_wire(&sent);
            // To the others, too.
            while lab.plain.try_receive().is_some() {}
        }
    }
    lab.finish();
}

#[test]
fn everybody_gets_his_own_form_of_a_flood() {
    flood("[0]", Vlan::Access, Vlan::Trunk);
}

#[test]
fn everybody_gets_his_own_form_of_a_flood_from_another_thread() {
    flood("[0, 1]", Vlan::Trunk, Vlan::Access);
}
