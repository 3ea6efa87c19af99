//! Segments of a TCP flow that come off a wire together: one large frame for a guest that takes such
//! and for a wire whose interface cuts it, and for nobody else. Cut again, it is what was sent.

use virtio::offload::NetHeader;

use crate::support::flow::{ACK, CWR, Flow, PROTOCOLS, PSH, TCP4, assert_ready};
use crate::support::front_end::{FrontEnd, MODERN, Manner, RING_ENTRIES, Received};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::Switch;
use crate::support::wire::Wire;
use crate::support::{ALICE, BOB, BROADCAST, CAROL, numbers, wait_for};
use crate::uplink::three_wires;

use super::abilities::{Sent, TAKES_ALL_MERGED, arriving, assert_arrived, assert_same};
use super::assert_accounted;

/// Payload of a full segment.
const SIZE: u16 = 1_000;

/// Frames of the mix that are on their way together. Those of both wires fit a ring.
const MIXED: usize = 60;

/// Two wires whose interfaces do not cut, and a far one whose interface does; Bob, who takes large
/// frames, and Carol, who does not.
struct Lab {
    switch: Switch,
    sockets: [PacketSocket; 2],
    far: PacketSocket,
    bob: FrontEnd,
    carol: FrontEnd,
    // The namespace goes last.
    _wire: Wire,
}

impl Lab {
    fn new(cores: &str, manner: Manner) -> Self {
        let vlan = "vlan = { trunk = [100, 200], native = 1 }\n";
        let mut config = format!("[threads]\ncores = {cores}\n");
        for (name, interface) in [("up", "uplink"), ("up2", "uplink2"), ("far", "uplink3")] {
            config += &format!("[[port]]\nname = '{name}'\ntype = 'af-xdp'\n");
            config += &format!("interface = '{interface}'\n{vlan}");
        }
        for name in ["bob", "carol"] {
            config += &format!("[[port]]\nname = '{name}'\ntype = 'vhost-user'\n");
            config += &format!("socket = 'DIR/{name}.sock'\n{vlan}");
        }
        let wire = three_wires();
        ["uplink", "uplink2"].iter().for_each(|interface| wire.switch_off(interface, "tso"));
        let switch = Switch::in_namespace(Some(&wire.namespace), &config);
        let bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);
        let carol = FrontEnd::plug_in_as(&switch.path("carol.sock"), MODERN);
        for (mac, port) in [("52:54:00:00:00:0b", "bob"), ("52:54:00:00:00:0c", "carol")] {
            switch.run(&["fdb", "add", mac, "--vlan", "1", "--port", port]);
        }
        let sockets = [wire.socket(), wire.socket_on("outside2")];
        let far = wire.socket_on("outside3");
        far.prepare_for_tags();
        far.prepare_for_offloads();
        Self { switch, sockets, far, bob, carol, _wire: wire }
    }

    /// Sends frames so that they come to the switch all at once.
    fn send_together<'a>(&self, frames: impl Iterator<Item = (usize, &'a [u8])>) {
        self.switch.pause();
        frames.for_each(|(wire, frame)| self.sockets[wire].send(frame));
        self.switch.resume();
    }

    /// The next frame behind the far wire's interface, without padding.
    fn next_far(&self) -> Received {
        let (net_header, mut frame) =
            wait_for("a far frame", || self.far.try_receive_told_with_tag());
        let network = if frame[12..14] == [0x81, 0] { 18 } else { 14 };
        let number = |at: usize| usize::from(u16::from_be_bytes([frame[at], frame[at + 1]]));
        let is_v6 = frame[network] >> 4 == 6;
        frame
            .truncate(network + if is_v6 { 40 + number(network + 4) } else { number(network + 2) });
        // The kernel tells how it has put the frame into memory.
        let net_header = match net_header.gso_type {
            NetHeader::GSO_NONE => NetHeader { hdr_len: 0, ..net_header },
            _ => NetHeader { hdr_len: u16::MAX, ..net_header },
        };
        arriving(TAKES_ALL_MERGED, net_header, frame)
    }

    fn finish(self) {
        for name in ["up", "up2", "far", "bob", "carol"] {
            assert_accounted(&self.switch, name);
        }
    }
}

/// A flow's bytes, as many as so many full segments have.
fn stream(segments: usize) -> Vec<u8> {
    (0..segments * usize::from(SIZE)).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn next(guest: &mut FrontEnd) -> Received {
    wait_for("a frame", || guest.try_receive_told())
}

/// Sends consecutive segments to Bob, who gets large frames of them, and to Carol.
fn join(cores: &str, flow: Flow) {
    let mut lab = Lab::new(cores, TAKES_ALL_MERGED);
    let sent = Sent { flow, payload: stream(50), is_partial: false, size: Some(SIZE) };
    let to_carol = Sent { flow: Flow { to: CAROL, ..flow }, ..sent.clone() };

    lab.send_together(sent.ready().iter().map(|frame| (0, frame.as_slice())));
    let mut frames = 0u16;
    let mut pieces = sent.ready().into_iter().peekable();
    while let Some(first) = pieces.peek() {
        let came = next(&mut lab.bob);
        for piece in cut(&came, &begun_by(flow, first)) {
            assert_same(&piece, &pieces.next().unwrap(), "joined");
        }
        frames += 1;
    }
    lab.send_together(to_carol.ready().iter().map(|frame| (0, frame.as_slice())));
    for wanted in to_carol.received(MODERN) {
        assert_arrived(&next(&mut lab.carol), &wanted, "not joined");
    }

    // One, unless a poll thread was faster than the wire.
    assert!(frames <= 5, "{frames} frames of 50");
    assert_eq!(lab.bob.try_receive_told(), None);
    lab.finish();
}

/// What a large frame says if this one is its first.
fn begun_by(flow: Flow, frame: &[u8]) -> Mixed {
    let at = flow.transport() + 4;
    let sequence = u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    let count = (sequence.wrapping_sub(flow.sequence) / u32::from(SIZE)).try_into().unwrap();
    let identification = flow.identification.wrapping_add(count);
    let flow = Flow { sequence, identification, ..flow };
    Mixed { wire: 0, flow, frame: frame.to_vec(), is_spoilt: false }
}

#[test]
fn consecutive_segments_of_ipv4_are_joined_for_whoever_takes_them() {
    join("[0]", Flow { flags: ACK | PSH, ..TCP4 });
}

#[test]
fn consecutive_segments_of_ipv6_are_joined_for_whoever_takes_them() {
    join("[0]", Flow { is_v6: true, ..TCP4 });
}

#[test]
fn consecutive_segments_are_joined_behind_a_hand_over() {
    join("[0, 1]", Flow { options: 0, ..TCP4 });
}

#[test]
fn nothing_is_joined_for_a_port_without_offloads() {
    let mut lab = Lab::new("[0]", TAKES_ALL_MERGED);
    lab.switch.run(&["port", "set", "bob", "--offloads", "off"]);
    let sent = Sent { flow: TCP4, payload: stream(50), is_partial: false, size: Some(SIZE) };

    lab.send_together(sent.ready().iter().map(|frame| (0, frame.as_slice())));

    for frame in sent.ready() {
        let wanted = arriving(TAKES_ALL_MERGED, NetHeader::default(), frame);
        assert_arrived(&next(&mut lab.bob), &wanted, "not joined");
    }
    lab.finish();
}

#[test]
fn datagrams_are_not_joined() {
    let mut lab = Lab::new("[0]", TAKES_ALL_MERGED);
    let flow = Flow { is_udp: true, ..TCP4 };
    let sent = Sent { flow, payload: stream(20), is_partial: false, size: Some(SIZE) };

    lab.send_together(sent.ready().iter().map(|frame| (0, frame.as_slice())));

    for frame in sent.ready() {
        let wanted = arriving(TAKES_ALL_MERGED, NetHeader::default(), frame);
        assert_arrived(&next(&mut lab.bob), &wanted, "datagram");
    }
    lab.finish();
}

#[test]
fn segments_come_one_by_one_while_buffers_are_too_few_for_the_joined_frame() {
    const LEFT: u16 = 10;
    // One is as much as a segment takes, and ten segments in one frame take ten.
    let mut lab = Lab::new("[0]", Manner { buffer_bytes: 1_100, ..TAKES_ALL_MERGED });
    let other = Flow { is_udp: true, ..TCP4 }.ready(&[1; 100]);
    let used = RING_ENTRIES - LEFT;
    (0..used).for_each(|_| lab.sockets[0].send(&other));
    let has_come = |frames: u16| lab.switch.counter("bob", "frames_out") == u64::from(frames);
    wait_for("the other frames", || has_come(used).then_some(()));
    let pieces = TCP4.pieces(&stream(40), SIZE);

    lab.send_together(pieces.iter().map(|frame| (0, frame.as_slice())));

    wait_for("the rest", || (lab.switch.drops("bob", "no_receive_buffer") == 30).then_some(()));
    assert!(has_come(RING_ENTRIES));
    (0..used).for_each(|_| assert_eq!(next(&mut lab.bob).frame, other));
    for piece in &pieces[..usize::from(LEFT)] {
        let wanted = arriving(TAKES_ALL_MERGED, NetHeader::default(), piece.clone());
        assert_arrived(&next(&mut lab.bob), &wanted, "one by one");
    }
    assert_eq!(lab.bob.try_receive_told(), None);
    lab.finish();
}

/// A frame of the mix.
#[derive(Debug, Clone)]
struct Mixed {
    wire: usize,
    flow: Flow,
    frame: Vec<u8>,
    /// Its checksum is wrong.
    is_spoilt: bool,
}

impl Mixed {
    /// What of it tells flows apart.
    fn key(&self) -> (usize, Option<u16>, bool, bool, u16) {
        (self.wire, self.flow.tag, self.flow.is_v6, self.flow.is_udp, self.flow.port)
    }
}

/// Frames of several flows, most of which continue the last of theirs.
fn mix(seed: u64) -> Vec<Mixed> {
    let mut random = numbers(seed);
    let mut below = move |end: u64| usize::try_from((random.next().unwrap() >> 20) % end).unwrap();
    let addresses = [(ALICE, 0), (BOB, 1)];
    let mut flows: Vec<(usize, Flow)> = Vec::new();
    for (from, wire) in addresses {
        for tag in [None, Some(100), Some(200)] {
            let protocols = PROTOCOLS.iter().take(3);
            flows.extend(protocols.map(|&flow| (wire, Flow { to: BROADCAST, from, tag, ..flow })));
            flows.push((wire, Flow { to: BROADCAST, from, tag, port: 51_001, ..TCP4 }));
        }
    }
    let mut mixed = Vec::new();
    while mixed.len() < MIXED {
        let chosen = below(flows.len() as u64);
        for _ in 0..=below(8) {
            let (wire, flow) = &mut flows[chosen];
            let mut length = usize::from(SIZE);
            let (mut flags, mut is_spoilt) = (flow.flags, false);
            match below(24) {
                0 => flags |= PSH,
                1 => flags |= CWR,
                2 => flow.sequence = flow.sequence.wrapping_add(1),
                3 => flow.acknowledgement = flow.acknowledgement.wrapping_add(1),
                4 => flow.identification = flow.identification.wrapping_add(7),
                5 => length = 1 + below(2 * u64::from(SIZE) / 3),
                6 => is_spoilt = true,
                7 => flow.options = below(11),
                8 => length = 0,
                _ => {}
            }
            let here = Flow { flags, ..*flow };
            let mut frame = here.ready(&stream(1)[..length]);
            *frame.last_mut().unwrap() ^= u8::from(is_spoilt);
            flow.identification = flow.identification.wrapping_add(1);
            flow.sequence = flow.sequence.wrapping_add(u32::try_from(length).unwrap());
            mixed.push(Mixed { wire: *wire, flow: here, frame, is_spoilt });
        }
    }
    mixed
}

/// The frames that one was made of, as it says itself.
fn cut(came: &Received, sent: &Mixed) -> Vec<Vec<u8>> {
    if came.net_header.gso_type == NetHeader::GSO_NONE {
        let is_valid = came.net_header.flags == NetHeader::DATA_VALID;
        assert!(!is_valid || !sent.is_spoilt, "a wrong checksum is vouched for");
        let flags = if is_valid { NetHeader::DATA_VALID } else { 0 };
        assert_eq!(came.net_header, NetHeader { flags, ..NetHeader::default() });
        return vec![came.frame.clone()];
    }
    // Its first segment is the one that was sent, but for the flags of its last.
    let flags = came.frame[sent.flow.transport() + 13];
    let flow = Flow { flags, ..sent.flow };
    let size = came.net_header.gso_size;
    let payload = &came.frame[flow.head_bytes()..];
    let wanted = arriving(TAKES_ALL_MERGED, flow.net_header(Some(size)), flow.partial(payload));
    assert_arrived(came, &wanted, "joined");
    flow.pieces(payload, size)
}

/// Sends frames of many flows over two wires to both guests.
fn mixture(cores: &str) {
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos().max(1);
    eprintln!("seed {seed}");
    let mut lab = Lab::new(cores, TAKES_ALL_MERGED);
    let mut joined = [0; 2];
    for round in 0..30 {
        let sent = mix(u64::from(seed) + round);

        lab.send_together(sent.iter().map(|mixed| (mixed.wire, mixed.frame.as_slice())));

        joined[0] += assert_all_come(&sent, || next(&mut lab.bob));
        joined[1] += assert_all_come(&sent, || lab.next_far());
        let mut carols = [0, 1].map(|wire| sent.iter().filter(move |mixed| mixed.wire == wire));
        for _ in 0..sent.len() {
            let came = next(&mut lab.carol);
            let wire = usize::from(came.frame[6..12] == BOB);
            let wanted = carols[wire].next().unwrap().frame.clone();
            assert_arrived(&came, &arriving(MODERN, NetHeader::default(), wanted), "uncut");
        }
        let ready = sent.iter().filter(|mixed| !mixed.is_spoilt);
        ready.for_each(|mixed| assert_ready(&mixed.frame));
    }
    assert_eq!(lab.bob.try_receive_told(), None);
    assert!(joined.iter().all(|&joined| joined > 30), "{joined:?} were joined");
    lab.finish();
}

/// Receives frames that are, cut again, those that were sent, each flow in its order. Returns how many
/// large ones there were.
fn assert_all_come(sent: &[Mixed], mut next: impl FnMut() -> Received) -> usize {
    let mut left: Vec<&Mixed> = sent.iter().collect();
    let mut joined = 0;
    while !left.is_empty() {
        let came = next();
        // The first of a flow that has not come yet is the one that must.
        let key = |mixed: &Mixed| mixed.key();
        let mut heads: Vec<&Mixed> = Vec::new();
        for &mixed in &left {
            if heads.iter().all(|head| key(head) != key(mixed)) {
                heads.push(mixed);
            }
        }
        let begins = |head: &&Mixed| begins_as(&came.frame, &head.frame, head.flow);
        let head = heads.into_iter().find(begins);
        let head = head.unwrap_or_else(|| panic!("{:02x?} is no flow's next", &came.frame[..54]));
        let pieces = cut(&came, head);
        joined += usize::from(pieces.len() > 1);
        for piece in pieces {
            let at = left.iter().position(|mixed| key(mixed) == key(head)).unwrap();
            assert_same(&piece, &left.remove(at).frame, "piece");
        }
    }
    joined
}

/// Says whether a frame has the addresses, tag, ports, and sequence number of another.
fn begins_as(came: &[u8], sent: &[u8], flow: Flow) -> bool {
    let transport = flow.transport();
    let network = transport - if flow.is_v6 { 40 } else { 20 };
    let identification = if flow.is_v6 { 0..0 } else { network + 4..network + 6 };
    let ports = transport..transport + if flow.is_udp { 4 } else { 8 };
    let alike = [0..network, identification, ports];
    came.len() > alike[2].end && alike.into_iter().all(|at| came[at.clone()] == sent[at])
}

#[test]
fn mixed_flows_come_in_their_order_and_are_what_was_sent() {
    mixture("[0]");
}

#[test]
fn mixed_flows_come_in_their_order_over_two_poll_threads() {
    mixture("[0, 1]");
}
