//! Checksums on the wire as tshark finds them: those of frames that the switch has completed or
//! cut are right, and it does find a wrong one.

use virtio::offload::NetHeader;

use super::abilities::{ASKS, Sent, merging};
use super::assert_accounted;
use crate::support::BROADCAST;
use crate::support::flow::{Flow, PROTOCOLS};
use crate::support::front_end::FrontEnd;
use crate::support::switch::Switch;
use crate::support::tshark::{Dissected, Tshark, Verdict};
use crate::uplink::two_wires;

const VLAN: u16 = 100;

/// Where IPv4 has what routers count down.
const IPV4_TTL: usize = 14 + 8;

/// A guest, a wire without tags and one with.
const CONFIG: &str = "
[[port]]
name = 'vm'
type = 'vhost-user'
socket = 'DIR/vm.sock'
vlan = { access = 100 }
[[port]]
name = 'untagged'
type = 'af-xdp'
interface = 'uplink'
vlan = { access = 100 }
[[port]]
name = 'tagged'
type = 'af-xdp'
interface = 'uplink2'
vlan = { trunk = [100] }
";

/// A frame to everybody, and how it must be found on a wire.
struct Case {
    packet: (NetHeader, Vec<u8>),
    /// So many frames.
    count: usize,
    frame: Dissected,
}

impl Case {
    fn new(flow: Flow, packet: (NetHeader, Vec<u8>), count: usize, found: [Verdict; 2]) -> Self {
        let [network, transport] = found;
        let network = if flow.is_v6 { Verdict::Absent } else { network };
        let (tcp, udp) =
            if flow.is_udp { (Verdict::Absent, transport) } else { (transport, Verdict::Absent) };
        Self { packet, count, frame: Dissected { vlan: None, network, tcp, udp } }
    }
}

/// Frames that the switch completes or cuts. What comes of them is right.
fn asking(flow: Flow) -> impl Iterator<Item = Case> {
    let lengths = [(1, None), (1_400, None), (50_001, Some(1_399)), (20_000, Some(900))];
    lengths.into_iter().map(move |(length, size)| {
        let payload = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let sent = Sent { flow, payload, is_partial: true, size };
        Case::new(flow, sent.packet(), sent.ready().len(), [Verdict::Good; 2])
    })
}

/// Frames that leave the guest with one wrong byte and arrive so: what is wrong is seen.
fn wrong(flow: Flow) -> impl Iterator<Item = Case> {
    let last = flow.head_bytes() + 999;
    let places = [
        (last, [Verdict::Good, Verdict::Bad], true),
        (IPV4_TTL, [Verdict::Bad, Verdict::Good], !flow.is_v6),
    ];
    places.into_iter().filter(|(.., exists)| *exists).map(move |(at, found, _)| {
        let mut frame = flow.ready(&[7; 1_000]);
        frame[at] ^= 1;
        Case::new(flow, (NetHeader::default(), frame), 1, found)
    })
}

#[test]
fn tshark_finds_no_wrong_checksum_on_the_wire_and_every_wrong_byte() {
    let flows = PROTOCOLS.map(|flow| Flow { to: BROADCAST, ..flow });
    let cases: Vec<Case> = flows.iter().flat_map(|&flow| asking(flow).chain(wrong(flow))).collect();
    let count = cases.iter().map(|case| case.count).sum();
    let wire = two_wires();
    ["uplink", "uplink2"].iter().for_each(|interface| wire.switch_off(interface, "tso"));
    let switch = Switch::in_namespace(Some(&wire.namespace), CONFIG);
    let mut guest = FrontEnd::plug_in_as(&switch.path("vm.sock"), merging(ASKS));
    let tshark = |interface| Tshark::start(&wire, interface, count, &switch.path(""));
    let tsharks = [(tshark("outside"), None), (tshark("outside2"), Some(VLAN))];

    for Case { packet: (net_header, packet), .. } in &cases {
        guest.send_asking(*net_header, packet);
    }

    for (tshark, vlan) in tsharks {
        for Case { packet: (_, packet), count, frame } in &cases {
            let wanted = vec![Dissected { vlan, ..*frame }; *count];
            assert_eq!(tshark.frames(*count), wanted, "{:02x?}", &packet[..60.min(packet.len())]);
        }
    }

    for port in ["vm", "untagged", "tagged"] {
        assert_accounted(&switch, port);
    }
}
