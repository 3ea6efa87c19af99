//! Net headers that lie, and frames that are not what their net header says: dropped for a reason
//! that is counted, or delivered as VIRTIO 1.2, 5.1.6.2 has it. Nobody else notices.

mod rubbish;

use virtio::Features;
use virtio::offload::NetHeader;

use crate::support::flow::{CWR, Flow, PROTOCOLS, TCP4};
use crate::support::front_end::{FrontEnd, MODERN, Manner, Received};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, wait_for};

use super::abilities::{ASKS, Sent, TAKES_ALL_MERGED, arriving, assert_arrived, merging};
use super::assert_accounted;

/// What a frame is to be cut into.
const SIZE: u16 = 1_000;

/// Where things stand in an untagged frame over IPv4.
const TOTAL_LENGTH: usize = 14 + 2;
const FRAGMENT: usize = 14 + 6;

/// A driver that may ask for TSO over IPv4 and nothing else.
const MODEST: Features = Features(Features::NET_CSUM.0 | Features::NET_HOST_TSO4.0);

/// What becomes of a frame.
#[derive(Debug, Clone)]
enum Fate {
    /// Nobody gets it.
    Refused(&'static str),
    /// Only who takes it whole gets it, as it was sent.
    Unfit,
    /// It comes as it was sent to who takes it whole, and to others as these.
    Comes(Vec<Vec<u8>>),
    /// It comes to all as it was sent, and nothing is said of it.
    Plain,
}

use Fate::{Comes, Plain, Refused, Unfit};

const INVALID: Fate = Refused("offload_invalid");
const NOT_NEGOTIATED: Fate = Refused("offload_not_negotiated");

/// A port for one that lies, and for two that see what comes of it.
struct Lab {
    switch: Switch,
    mallory: FrontEnd,
    /// Takes ready frames only.
    bob: FrontEnd,
    /// Takes everything.
    carol: FrontEnd,
}

impl Lab {
    fn new(manner: Manner) -> Self {
        let switch = Switch::with_config(&guests(&["mallory", "bob", "carol"]));
        let plug_in = |name: &str, manner| FrontEnd::plug_in_as(&switch.path(name), manner);
        let mallory = plug_in("mallory.sock", manner);
        let bob = plug_in("bob.sock", MODERN);
        let carol = plug_in("carol.sock", TAKES_ALL_MERGED);
        // Whatever senders Mallory's frames name.
        for (mac, port) in [("52:54:00:00:00:0b", "bob"), ("52:54:00:00:00:0c", "carol")] {
            switch.run(&["fdb", "add", mac, "--vlan", "1", "--port", port]);
        }
        Self { switch, mallory, bob, carol }
    }

    /// Sends a frame to everybody and sees what becomes of it.
    fn meet(&mut self, what: &str, net_header: NetHeader, frame: &[u8], fate: &Fate) {
        let refused = |lab: &Self, reason| lab.switch.drops("mallory", reason);
        let unfit = |lab: &Self| lab.switch.drops("bob", "offload_unfit");
        let before = match fate {
            Refused(reason) => refused(self, reason),
            Unfit => unfit(self),
            Comes(_) | Plain => 0,
        };
        self.mallory.send_asking(net_header, frame);
        self.mallory.await_sent();
        let whole = (net_header, frame.to_vec());
        let plain = (NetHeader::default(), frame.to_vec());
        let (for_bob, for_carol) = match fate {
            Refused(_) => (vec![], None),
            Unfit => (vec![], Some(whole)),
            Comes(frames) => (frames.clone(), Some(whole)),
            Plain => (vec![frame.to_vec()], Some(plain)),
        };
        for wanted in for_bob {
            let came = next(what, &mut self.bob);
            assert_arrived(&came, &arriving(MODERN, NetHeader::default(), wanted), what);
        }
        if let Some((net_header, frame)) = for_carol {
            let came = next(what, &mut self.carol);
            // A hint that lies is not passed on.
            let net_header = NetHeader { hdr_len: 0, ..net_header };
            assert_arrived(&came, &arriving(TAKES_ALL_MERGED, net_header, frame), what);
        }
        match fate {
            Refused(reason) => assert_eq!(refused(self, reason), before + 1, "{what}"),
            Unfit => assert_eq!(unfit(self), before + 1, "{what}"),
            Comes(_) | Plain => {}
        }
        assert_eq!(self.bob.try_receive_told(), None, "{what}");
        assert_eq!(self.carol.try_receive_told(), None, "{what}");
    }

    /// The others talk to each other, and every frame is accounted for.
    fn finish(mut self) {
        assert!(self.switch.is_alive());
        for _ in 0..3 {
            self.carol.send(&frame(BOB, CAROL, &[8; 46]));
            assert_eq!(next("a frame", &mut self.bob).frame, frame(BOB, CAROL, &[8; 46]));
            self.bob.send(&frame(CAROL, BOB, &[7; 46]));
            assert_eq!(next("a frame back", &mut self.carol).frame, frame(CAROL, BOB, &[7; 46]));
            while self.mallory.try_receive().is_some() {}
        }
        ["mallory", "bob", "carol"].into_iter().for_each(|name| {
            let statistics = assert_accounted(&self.switch, name);
            assert_eq!(statistics["faults"], 0, "{statistics}");
        });
    }
}

fn next(what: &str, guest: &mut FrontEnd) -> Received {
    wait_for(what, || guest.try_receive_told())
}

/// A large frame to everybody, as a driver that does not lie sends it.
fn large(flow: Flow) -> Sent {
    let payload = (0..3_500).map(|at| u8::try_from(at % 251).unwrap()).collect();
    Sent { flow: Flow { to: BROADCAST, ..flow }, payload, is_partial: true, size: Some(SIZE) }
}

/// A frame with other bytes at a place.
fn altered(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

#[test]
fn numbers_that_lie_are_refused_or_do_not_matter() {
    let mut lab = Lab::new(merging(ASKS));
    let sent = large(TCP4);
    let (right, frame) = sent.packet();
    let ready = Comes(sent.ready());
    let end = u16::try_from(frame.len()).unwrap();
    let field = right.csum_start + right.csum_offset;
    let cases: [(&str, NetHeader, &Fate); 19] = [
        ("no lie", right, &ready),
        ("hdr_len 0", NetHeader { hdr_len: 0, ..right }, &ready),
        ("hdr_len 65535", NetHeader { hdr_len: 65_535, ..right }, &ready),
        ("DATA_VALID, too", NetHeader { flags: 3, ..right }, &ready),
        ("gso_size 0", NetHeader { gso_size: 0, ..right }, &INVALID),
        ("gso_size 1", NetHeader { gso_size: 1, ..right }, &INVALID),
        ("gso_size 65535", NetHeader { gso_size: 65_535, ..right }, &INVALID),
        ("csum_start 0", NetHeader { csum_start: 0, ..right }, &INVALID),
        ("csum_start in the MACs", NetHeader { csum_start: 13, ..right }, &INVALID),
        ("csum_start in IP", NetHeader { csum_start: 14, ..right }, &INVALID),
        ("csum_start behind", NetHeader { csum_start: field, ..right }, &INVALID),
        ("csum_start past the end", NetHeader { csum_start: end, ..right }, &INVALID),
        ("csum_start 65535", NetHeader { csum_start: 65_535, ..right }, &INVALID),
        ("csum_offset 0", NetHeader { csum_offset: 0, ..right }, &INVALID),
        ("csum_offset of UDP", NetHeader { csum_offset: 6, ..right }, &INVALID),
        ("csum_offset past the end", NetHeader { csum_offset: end, ..right }, &INVALID),
        ("csum_offset 65535", NetHeader { csum_offset: 65_535, ..right }, &INVALID),
        ("sums that wrap", NetHeader { csum_start: 0xfff0, csum_offset: 0x20, ..right }, &INVALID),
        ("no NEEDS_CSUM", NetHeader { flags: 0, ..right }, &INVALID),
    ];

    for (what, net_header, fate) in cases {
        // What is said beside NEEDS_CSUM is not passed on.
        let is_valid_too = net_header.flags == 3;
        if is_valid_too {
            lab.mallory.send_asking(net_header, &frame);
            sent.ready()
                .iter()
                .for_each(|piece| assert_eq!(next(what, &mut lab.bob).frame, *piece));
            assert_eq!(next(what, &mut lab.carol).net_header.flags, NetHeader::NEEDS_CSUM);
        } else {
            lab.meet(what, net_header, &frame, fate);
        }
    }

    lab.finish();
}

#[test]
fn checksums_are_completed_wherever_they_are_in_a_frame_and_nowhere_else() {
    let mut lab = Lab::new(merging(ASKS));
    let short = Sent { size: None, payload: vec![5; 200], ..large(TCP4) };
    let (right, bytes) = short.packet();
    let end = u16::try_from(bytes.len()).unwrap();
    let other = frame(BROADCAST, ALICE, &[9; 301]);
    let place = NetHeader { csum_start: 14, csum_offset: 100, ..right };
    let last = NetHeader { csum_start: 14, csum_offset: 301 - 2, ..right };

    lab.meet("no lie", right, &bytes, &Comes(short.ready()));
    lab.meet("no IP", place, &other, &Comes(vec![completed(&other, place)]));
    lab.meet("too far back to be completed", last, &other, &Unfit);
    for (what, start, offset) in [
        ("in the MACs", 11, 1),
        ("over the end", 14, end - 14 - 1),
        ("past the end", end, 0),
        ("offset past the end", 34, end),
        ("far past the end", 65_535, 65_535),
    ] {
        let net_header = NetHeader { csum_start: start, csum_offset: offset, ..right };
        lab.meet(what, net_header, &bytes, &INVALID);
    }
    let valid = NetHeader { flags: NetHeader::DATA_VALID, ..NetHeader::default() };
    lab.meet("DATA_VALID of a driver", valid, &short.ready()[0], &Plain);
    let rest = NetHeader { flags: 0xfc, hdr_len: 9, gso_size: 9, csum_start: 9, ..right };
    lab.meet("flags that nobody knows", rest, &short.ready()[0], &Plain);

    lab.finish();
}

/// A frame with the sum over its rest at a place, as RFC 1071 has it.
fn completed(frame: &[u8], net_header: NetHeader) -> Vec<u8> {
    let words = frame[usize::from(net_header.csum_start)..].chunks(2);
    let words =
        words.map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| low.into()));
    let sum = words.sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    let checksum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    let at = usize::from(net_header.csum_start + net_header.csum_offset);
    altered(frame, at, &checksum.to_be_bytes())
}

#[test]
fn kinds_that_are_not_the_frames_are_refused() {
    let mut lab = Lab::new(merging(ASKS));

    for flow in PROTOCOLS {
        let (right, frame) = large(flow).packet();
        let own = right.gso_type;
        let others = [1, 2, 4, 5, 6, 0x7f, 0x80, 0x82, 0x85, 0xff];
        for other in others.into_iter().filter(|other| *other != own) {
            let net_header = NetHeader { gso_type: other, ..right };
            lab.meet(&format!("{own} as {other}"), net_header, &frame, &INVALID);
        }
        let fragments = NetHeader { gso_type: NetHeader::GSO_UDP, ..right };
        lab.meet("UFO", fragments, &frame, &NOT_NEGOTIATED);
    }

    lab.finish();
}

#[test]
fn what_was_not_negotiated_is_refused() {
    let mut lab = Lab::new(MODERN);
    let (right, frame) = large(TCP4).packet();
    let short = Sent { size: None, payload: vec![5; 200], ..large(TCP4) };
    lab.meet("partial", short.packet().0, &short.packet().1, &NOT_NEGOTIATED);
    lab.meet("large", right, &frame, &NOT_NEGOTIATED);
    lab.meet("unknown", NetHeader { gso_type: 99, ..right }, &frame, &NOT_NEGOTIATED);
    lab.finish();

    let mut lab = Lab::new(merging(MODEST));
    lab.meet("TSO over IPv4", right, &frame, &Comes(large(TCP4).ready()));
    for flow in &PROTOCOLS[1..] {
        let (net_header, frame) = large(*flow).packet();
        lab.meet("another", net_header, &frame, &NOT_NEGOTIATED);
    }
    let (net_header, frame) = large(Flow { flags: CWR, ..TCP4 }).packet();
    lab.meet("ECN", net_header, &frame, &NOT_NEGOTIATED);
    lab.finish();
}

#[test]
fn packets_that_are_not_whole_are_not_cut() {
    let mut lab = Lab::new(merging(ASKS));
    let sent = large(TCP4);
    let (right, frame) = sent.packet();
    for length in [18, 33, 35, 49, 53] {
        lab.meet(&format!("{length} bytes"), right, &frame[..length], &INVALID);
    }
    let more_fragments = altered(&frame, FRAGMENT, &[0x20, 0]);
    lab.meet("first fragment", right, &more_fragments, &INVALID);
    lab.meet("later fragment", right, &altered(&frame, FRAGMENT, &[0, 5]), &INVALID);
    lab.meet("IPv4 that says 6", right, &altered(&frame, 14, &[0x65]), &INVALID);
    lab.meet("IPv4 header of 16", right, &altered(&frame, 14, &[0x44]), &INVALID);
    lab.meet("IPv4 header of 60", right, &altered(&frame, 14, &[0x4f]), &INVALID);
    lab.meet("TCP header of 16", right, &altered(&frame, 34 + 12, &[0x40]), &INVALID);

    // What the large frame's own length says does not matter (5.1.6.2).
    for length in [0, 20, 40, 1_000, 65_535u16] {
        let frame = altered(&frame, TOTAL_LENGTH, &length.to_be_bytes());
        lab.meet(&format!("total length {length}"), right, &frame, &Comes(sent.ready()));
    }

    lab.finish();
}

#[test]
fn extension_headers_are_followed_as_far_as_headers_are_gathered() {
    let mut lab = Lab::new(merging(ASKS));
    let sent = large(Flow { is_v6: true, options: 0, ..TCP4 });
    let (right, frame) = sent.packet();

    for extensions in [1, 2, 5, 9, 14, 16, 60] {
        let start = right.csum_start + 8 * extensions;
        let (right, count) = (NetHeader { csum_start: start, ..right }, usize::from(extensions));
        let pieces = sent.ready().iter().map(|piece| extended(piece, count)).collect();
        let fate = if extensions <= 14 { Comes(pieces) } else { Unfit };
        lab.meet(&format!("{extensions} extensions"), right, &extended(&frame, count), &fate);
    }
    // It ends behind what is looked at when it comes in.
    let endless = altered(&extended(&frame, 1), 54, &[60, 0xff]);
    let right = NetHeader { csum_start: right.csum_start + 8, ..right };
    lab.meet("one of 2,048 bytes", right, &endless, &Unfit);

    lab.finish();
}

/// A frame over IPv6 with so many extension headers of eight bytes (destination options, RFC 8200,
/// 4.6).
fn extended(frame: &[u8], extensions: usize) -> Vec<u8> {
    let length = u16::from_be_bytes([frame[18], frame[19]]);
    let length = length + 8 * u16::try_from(extensions).unwrap();
    let mut extended = altered(frame, 18, &length.to_be_bytes());
    let protocol = std::mem::replace(&mut extended[20], 60);
    let next = |left: usize| if left > 0 { 60 } else { protocol };
    let options = (0..extensions).rev().flat_map(|left| [next(left), 0, 1, 4, 0, 0, 0, 0]);
    extended.splice(54..54, options);
    extended
}
