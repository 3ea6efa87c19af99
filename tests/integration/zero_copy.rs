//! Zero copy, which takes a driver that has it: `virtio_net` in a guest with a newer kernel. The switch
//! runs in there, between two cards whose other ends are taps out here.
//!
//! ```text
//!   namespace `here`  │       guest        │  namespace `there`
//!   10.98.0.1 here ───┼── eth0 ═══ eth1 ───┼─── there 10.98.0.2
//! ```
//!
//! The driver binds for zero copy only if the device does DMA through the platform, and takes an XDP
//! program only if the device merges no frames. With one virtual CPU it uses one of the device's two
//! queue pairs; the other, too, once it has a program, but only to receive.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::guest::{Guest, Plan};
use crate::support::packet_socket::PacketSocket;
use crate::support::switch::BINARY;
use crate::support::wire::Wire;
use crate::support::{ALICE, BOB, BROADCAST, PATIENCE, frame, tagged, wait_for};

const CARD: &str = "disable-legacy=on,iommu_platform=on,guest_csum=off,guest_tso4=off,\
                    guest_tso6=off,guest_ecn=off,guest_ufo=off";

const HERE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);
const THERE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 2);

/// The guest with the switch, and the two taps. QEMU ends before its taps go.
struct Rig {
    guest: Guest,
    here: Wire,
    there: Wire,
    _directory: TempDir,
}

impl Rig {
    fn boot() -> Self {
        Self::boot_with(&[], 2)
    }

    /// The same with more options of `scripts/guest`, and this many queues for the second card. QEMU
    /// has vmxnet3 set up only the first of its back end's queues: from another, frames come without
    /// the net header that the card then takes off all the same.
    fn boot_with(options: &[&str], second_queues: usize) -> Self {
        let (here, there) = (Wire::empty(), Wire::empty());
        let [first, second] = [("here", 2), ("there", second_queues)].map(|(tap, queues)| {
            let several = if queues > 1 { &["multi_queue"][..] } else { &[] };
            here.ip(&[&["tuntap", "add", tap, "mode", "tap"], several].concat());
            format!("tap,ifname={tap},script=no,downscript=no,queues={queues}")
        });
        let directory = tempfile::Builder::new().prefix("ringway-").tempdir().unwrap();
        let more = ["--netdev", &first, "--second-netdev", &second, "--device", CARD];
        let programs = ["--program", BINARY, "--program", "/sbin/ip"];
        let plan = Plan {
            name: "switch",
            number: 1,
            server: false,
            queues: 2,
            namespace: Some(&here.namespace),
            more: &[&more[..], &programs, options, &["--memory", "512M"]].concat(),
        };
        let mut guest = Guest::boot_newer(plan, directory.path());
        guest.await_booted();
        // It was opened by now, and stays QEMU's wherever it goes.
        here.ip(&["link", "set", "there", "netns", &there.namespace]);
        for (wire, tap, address) in [(&here, "here", HERE), (&there, "there", THERE)] {
            wire.ip(&["address", "add", &format!("{address}/24"), "dev", tap]);
            wire.set_up(tap);
        }
        // The card is the switch's: the guest's own kernel is to be silent there.
        guest.run(5, "ip address flush dev eth0");
        guest.run(5, "sysctl -w net.ipv6.conf.all.disable_ipv6=1");
        Self { guest, here, there, _directory: directory }
    }

    fn start_switch(&mut self) {
        let start = "ringway --control /tmp/control run >/tmp/log 2>&1 &";
        let listing = "ringway --control /tmp/control port list";
        self.guest.run(15, &format!("sh -c '{start} until {listing}; do sleep 0.2; done'"));
    }

    /// Runs a command against the switch.
    fn ringway(&mut self, arguments: &str) -> String {
        self.guest.run(15, &format!("ringway --control /tmp/control {arguments}"))
    }

    fn json(&mut self, arguments: &str) -> Value {
        serde_json::from_str(&self.ringway(&format!("{arguments} --json"))).unwrap()
    }

    /// Adds a port, which must come up in this mode with both queues.
    fn add(&mut self, name: &str, interface: &str, options: &str, mode: &str) {
        self.ringway(&format!("port add {name} af-xdp --interface {interface} {options}"));
        let shown = self.json(&format!("port show {name}"));
        assert_eq!(shown["mode"], mode, "{shown}");
        assert_eq!(shown["queues"], 2, "{shown}");
        self.await_promiscuous(interface);
    }

    /// Waits until the card takes frames for other addresses than its own. The driver tells it so by a
    /// worker, some time after the interface has become promiscuous (`virtnet_set_rx_mode`,
    /// drivers/net/virtio_net.c); until then it drops them.
    fn await_promiscuous(&self, interface: &str) {
        let card = usize::from(interface == "eth1");
        wait_for("a promiscuous card", || {
            let filters = self.guest.qmp("query-rx-filter");
            (filters[card]["promiscuous"] == true).then_some(())
        });
    }

    /// Adds both in zero copy.
    fn add_in_zero_copy(&mut self) {
        self.add("a", "eth0", "--zero-copy always", "zero-copy");
        self.add("b", "eth1", "--zero-copy always", "zero-copy");
    }

    /// Lets the driver use both queue pairs of the cards.
    fn use_all_queues(&mut self) {
        for card in ["eth0", "eth1"] {
            self.guest.run(5, &format!("ethtool -L {card} combined 2"));
        }
    }

    fn has_program(&mut self) -> bool {
        self.guest.run(5, "/bin/ip -d link show").contains("prog/xdp")
    }

    fn sockets(&self) -> (PacketSocket, PacketSocket) {
        (self.here.socket_on("here"), self.there.socket_on("there"))
    }
}

#[test]
fn switch_in_a_guest_switches_between_its_cards_in_zero_copy() {
    let mut rig = Rig::boot();
    rig.start_switch();
    rig.use_all_queues();
    rig.add_in_zero_copy();

    cross_from_every_queue(&rig);
    transfer(&rig.here, &rig.there, THERE);
    transfer(&rig.there, &rig.here, HERE);
    let statistics = rig.json("stats");
    for port in statistics["ports"].as_array().unwrap() {
        assert!(port["frames_in"].as_u64() > Some(1_000), "{statistics}");
        assert_eq!(port["drops"], serde_json::json!({}), "{statistics}");
    }

    // Chunks of a removed port rest, for its card may have them yet.
    for _ in 0..3 {
        rig.ringway("port remove b");
        rig.add("b", "eth1", "--zero-copy always", "zero-copy");
        transfer(&rig.here, &rig.there, THERE);
    }

    assert!(rig.has_program());
    rig.guest.run(5, "killall -9 ringway");
    wait_for("the programs' end", || (!rig.has_program()).then_some(()));
    rig.start_switch();
    rig.add("trunk", "eth0", "--zero-copy always --trunk 100", "zero-copy");
    rig.add("access", "eth1", "--zero-copy always --access 100", "zero-copy");
    cross_with_tag(&rig);
}

#[test]
fn queues_that_the_driver_adds_for_the_program_are_served_in_copy_mode() {
    let mut rig = Rig::boot();
    rig.start_switch();

    let always =
        "ringway --control /tmp/control port add a af-xdp --interface eth0 --zero-copy always";
    let (status, text) = rig.guest.try_run(PATIENCE, always);
    assert!(status == 1 && text.contains("ethtool -L eth0 combined"), "{text}");
    assert!(!rig.has_program());
    rig.add("a", "eth0", "", "copy");
    rig.add("b", "eth1", "", "copy");

    cross_from_every_queue(&rig);
    transfer(&rig.here, &rig.there, THERE);
    transfer(&rig.there, &rig.here, HERE);
}

/// The card's driver switches LRO off itself for a program, and would leave it off.
#[test]
fn merging_and_tag_stripping_are_off_while_a_card_is_held_and_on_again_after() {
    let mut rig = Rig::boot_with(&["--second-card", "vmxnet3"], 1);
    rig.start_switch();
    rig.add("a", "eth0", "", "copy");
    let offloads = |rig: &mut Rig| {
        let text = rig.guest.run(5, "ethtool -k eth1");
        ["large-receive-offload: ", "rx-vlan-offload: "].map(|name| {
            let (_, value) = text.split_once(name).expect("the card has it");
            value.starts_with("on")
        })
    };
    assert_eq!(offloads(&mut rig), [true, true]);

    rig.ringway("port add b af-xdp --interface eth1");
    assert_eq!(offloads(&mut rig), [false, false]);
    transfer(&rig.here, &rig.there, THERE);
    transfer(&rig.there, &rig.here, HERE);

    rig.ringway("port remove b");
    assert_eq!(offloads(&mut rig), [true, true]);
}

/// Flows that taps spread over all queues, of every kind of length, in both directions.
fn cross_from_every_queue(rig: &Rig) {
    let (here, there) = rig.sockets();
    for number in 0..64 {
        let (length, address) = (46 + usize::from(number) * 23, [2, 0, 0, 0, 1, number]);
        let out = frame(BROADCAST, address, &vec![number; length]);
        here.send(&out);
        assert!(there.receive_from(address) == out, "{length} bytes of payload out");
        let back = frame(address, BOB, &vec![number; length]);
        there.send(&back);
        assert!(here.receive_from(BOB) == back, "{length} bytes of payload back");
    }
}

/// What comes tagged leaves without the tag, and the other way round, and not shorter than a frame
/// may be on a wire.
fn cross_with_tag(rig: &Rig) {
    let (here, there) = rig.sockets();
    let sniffer = rig.here.sniff_on("here");

    there.send(&frame(BROADCAST, BOB, &[7; 10]));
    let line = sniffer.line_with("52:54:00:00:00:0b >");
    assert!(line.contains("length 60: vlan 100,"), "{line}");
    here.send(&tagged(BOB, ALICE, 100, &[8; 10]));
    let padded = [frame(BOB, ALICE, &[8; 10]), vec![0; 36]].concat();
    assert_eq!(there.receive_from(ALICE), padded);

    there.send(&frame(ALICE, BOB, &[9; 1_500]));
    let line = sniffer.line_with("52:54:00:00:00:0b >");
    assert!(line.contains("length 1518: vlan 100,"), "{line}");
    here.send(&tagged(BOB, ALICE, 100, &[1; 1_500]));
    assert_eq!(there.receive_from(ALICE), frame(BOB, ALICE, &[1; 1_500]));
}

/// Four MiB over TCP, compared.
fn transfer(from: &Wire, to: &Wire, address: Ipv4Addr) {
    let sent: Vec<u8> =
        (0..1u32 << 20).flat_map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()).collect();
    let place = SocketAddr::from((address, 7_000));
    let listener = to.within(move || TcpListener::bind(place).unwrap());
    let mut sender = from.within(move || TcpStream::connect_timeout(&place, PATIENCE).unwrap());
    let (mut receiver, _) = listener.accept().unwrap();
    sender.set_write_timeout(Some(PATIENCE)).unwrap();
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();

    let mut came = Vec::with_capacity(sent.len());
    std::thread::scope(|scope| {
        let sent = &sent;
        scope.spawn(move || sender.write_all(sent).unwrap());
        receiver.read_to_end(&mut came).unwrap();
    });

    assert!(came == sent, "{} of {} bytes came, or others", came.len(), sent.len());
}
