//! QEMU guests: the switch's main job, with the real front end on the other side.
//!
//! Guests take seconds to boot, so the tests here check several things each, and one boots both
//! kinds of connection: guest 1's QEMU connects (`reconnect=1`), guest 2's listens (`server=on`).

mod memory;
mod offloads;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use virtio::Features;

use crate::support::guest::{Guest, Plan};
use crate::support::switch::Switch;
use crate::support::wire::Wire;
use crate::support::{wait_at_most, wait_for};

const CONFIG: &str = r#"
[[port]]
name = "vm1"
type = "vhost-user"
socket = "DIR/vm1.sock"
queues = 2
[[port]]
name = "vm2"
type = "vhost-user"
socket = "DIR/vm2.sock"
connect = true
queues = 2
"#;

fn plan(name: &str, number: u8) -> Plan<'_> {
    Plan { name, number, server: false, queues: 1, namespace: None, more: &[] }
}

fn pair(switch: &Switch, queues: u16) -> (Guest, Guest) {
    let directory = switch.path("");
    let first = Plan { queues, ..plan("vm1", 1) };
    let second = Plan { queues, server: true, ..plan("vm2", 2) };
    let mut vm1 = Guest::boot(first, &switch.path("vm1.sock"), &directory);
    let mut vm2 = Guest::boot(second, &switch.path("vm2.sock"), &directory);
    vm1.await_booted();
    vm2.await_booted();
    (vm1, vm2)
}

fn ping(guest: &mut Guest, number: u8) {
    let command = format!("ping -c 3 -i 0.3 -W 2 {}", Guest::address(number));
    guest.run(15, &command);
}

/// Pings until an answer comes, for so long.
fn ping_within(guest: &mut Guest, number: u8, longest: Duration) {
    let command = format!("ping -c 1 -W 1 {}", Guest::address(number));
    wait_at_most(longest, "an answer to ping", || {
        (guest.try_run(Duration::from_secs(5), &command).0 == 0).then_some(())
    });
}

/// A file of 16 MiB goes from one guest to the other, compared by its digest.
fn transfer(from: &mut Guest, to: &mut Guest, number: u8) {
    from.run(30, "sh -c 'dd if=/dev/urandom of=/tmp/file bs=65536 count=256 2>/dev/null'");
    let digest = from.run(30, "sha256sum /tmp/file");
    to.run(5, "sh -c 'rm -f /tmp/came; sleep 90 | nc -l -p 7000 > /tmp/came &'");
    std::thread::sleep(Duration::from_millis(500));
    from.run(60, &format!("sh -c 'nc {} 7000 < /tmp/file'", Guest::address(number)));
    let whole = "sh -c 'until [ $(wc -c < /tmp/came) = 16777216 ]; do sleep 0.2; done'";
    to.run(30, whole);
    let came = to.run(30, "sha256sum /tmp/came");
    assert_eq!(digest.split(' ').next(), came.split(' ').next());
}

fn iperf(guest: &mut Guest, number: u8, more: &str) -> serde_json::Value {
    let address = Guest::address(number);
    let command = format!("iperf3 --client {address} --time 5 --interval 0 --json {more}");
    serde_json::from_str(&guest.run(30, &command)).unwrap()
}

#[test]
fn guest_pair_pings_and_moves_tcp_udp_and_a_file_both_ways() {
    let switch = Switch::with_config(CONFIG);
    let (mut vm1, mut vm2) = pair(&switch, 1);

    ping(&mut vm1, 2);
    ping(&mut vm2, 1);
    transfer(&mut vm1, &mut vm2, 2);
    transfer(&mut vm2, &mut vm1, 1);
    let tcp = iperf(&mut vm1, 2, "");
    assert!(tcp["end"]["sum_received"]["bytes"].as_u64().unwrap() > 10_000_000, "{tcp}");
    let before = counted_losses(&switch, &mut vm1);
    let udp = iperf(&mut vm2, 1, "--udp --bitrate 20M");
    let lost = udp["end"]["sum"]["lost_packets"].as_u64().unwrap();
    let counted = counted_losses(&switch, &mut vm1) - before;

    assert!(lost <= counted, "{lost} datagrams lost, {counted} losses counted");
    for guest in [&mut vm1, &mut vm2] {
        assert_no_checksum_errors(&guest.run(5, SNMP));
    }
    for port in ["vm1", "vm2"] {
        let statistics = switch.statistics(port);
        let number = |name: &str| statistics[name].as_u64().unwrap();
        assert_eq!(number("frames_in"), number("drops_in") + number("decided"), "{statistics}");
    }
}

/// Linux's packed driver under QEMU, beside a split one, and through a reboot: rings start anew then.
#[test]
fn guest_with_packed_rings_talks_to_one_with_split_rings() {
    let switch = Switch::with_config(CONFIG);
    let directory = switch.path("");
    let packed = Plan { more: &["--device", "packed=on"], ..plan("vm1", 1) };
    let split = Plan { server: true, ..plan("vm2", 2) };
    let mut vm1 = Guest::boot(packed, &switch.path("vm1.sock"), &directory);
    let mut vm2 = Guest::boot(split, &switch.path("vm2.sock"), &directory);
    vm1.await_booted();
    vm2.await_booted();
    assert!(switch.features("vm1").contains(Features::RING_PACKED));
    // The control queue is QEMU's.
    assert_eq!(switch.features("vm1").0 & Features::CONTROL.0, 0);

    ping(&mut vm1, 2);
    transfer(&mut vm1, &mut vm2, 2);
    transfer(&mut vm2, &mut vm1, 1);
    vm1.qmp("stop");
    vm1.qmp("cont");
    ping(&mut vm1, 2);
    vm1.qmp("system_reset");
    std::thread::sleep(Duration::from_secs(1));
    vm1.await_booted();
    ping_within(&mut vm2, 1, Duration::from_secs(20));
}

/// Every loss of datagrams from guest 2 to guest 1 that somebody has counted: those for which guest
/// 1 had no receive buffer, and those for which its kernel found no room in the socket of its
/// `iperf3` server. Other drops, of whatever else the guests send, could hide a loss.
fn counted_losses(switch: &Switch, vm1: &mut Guest) -> u64 {
    switch.drops("vm1", "no_receive_buffer") + receive_buffer_errors(vm1)
}

/// `RcvbufErrors` of the guest's UDP.
fn receive_buffer_errors(guest: &mut Guest) -> u64 {
    let errors = counted(&guest.run(5, SNMP), "RcvbufErrors");
    errors.iter().find(|(protocol, _)| protocol == "Udp").unwrap().1
}

/// Nothing came whose checksum a kernel found wrong, by what it has counted of IPv4.
fn assert_no_checksum_errors(snmp: &str) {
    let errors = counted(snmp, "InCsumErrors");
    let wanted = ["Icmp", "Tcp", "Udp", "UdpLite"].map(|protocol| (protocol.to_owned(), 0));
    assert_eq!(errors, wanted, "{snmp}");
}

/// The command that shows what a kernel has counted of IPv4 and what it carries.
const SNMP: &str = "cat /proc/net/snmp";

/// A counter by its name, with the name of each protocol that has it: one line has a protocol's
/// names, the next its counts.
fn counted(snmp: &str, name: &str) -> Vec<(String, u64)> {
    let lines: Vec<&str> = snmp.lines().collect();
    let of_protocol = |pair: &[&str]| {
        let (protocol, names) = pair[0].split_once(": ")?;
        let place = names.split(' ').position(|found| found == name)?;
        let count = pair[1].split(' ').nth(1 + place).unwrap().parse().unwrap();
        Some((protocol.to_owned(), count))
    };
    lines.chunks(2).filter_map(of_protocol).collect()
}

#[test]
fn guests_carry_on_after_the_switch_was_killed_whoever_connects() {
    let mut switch = Switch::with_config(CONFIG);
    let (mut vm1, mut vm2) = pair(&switch, 1);
    ping(&mut vm1, 2);

    // Pings go on all the time, one each 200 ms: the gap in their numbers is the pause.
    let pinging = std::thread::spawn(move || {
        let (_, answers) = vm2.try_run(Duration::from_secs(20), "ping -c 40 -i 0.2 -W 1 10.99.0.1");
        (vm2, answers)
    });
    std::thread::sleep(Duration::from_secs(2));
    switch.kill_and_start();
    // Guest 2 is kept: when its `Guest` is dropped, it ends.
    let (_vm2, answers) = pinging.join().unwrap();

    let numbers: Vec<u32> = answers
        .split("seq=")
        .skip(1)
        .filter_map(|rest| rest.split(' ').next()?.parse().ok())
        .collect();
    let pause = numbers.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    assert_eq!(numbers.last(), Some(&39), "{answers}");
    assert!(pause * 200 <= 2_000, "a pause of {} ms: {answers}", pause * 200);
    ping(&mut vm1, 2);
}

#[test]
fn guest_stops_goes_on_reboots_and_its_front_end_comes_back() {
    let switch = Switch::with_config(CONFIG);
    let (mut vm1, mut vm2) = pair(&switch, 1);
    ping(&mut vm1, 2);

    vm2.qmp("stop");
    let (status, _) = vm1.try_run(Duration::from_secs(5), "ping -c 1 -W 1 10.99.0.2");
    assert_ne!(status, 0);
    vm2.qmp("cont");
    ping(&mut vm1, 2);
    vm2.qmp("system_reset");
    std::thread::sleep(Duration::from_secs(1));
    vm2.await_booted();
    ping_within(&mut vm1, 2, Duration::from_secs(20));
    drop(vm2);
    let mut vm2 = Guest::boot(
        Plan { server: true, ..plan("vm2", 2) },
        &switch.path("vm2.sock"),
        &switch.path(""),
    );
    vm2.await_booted();

    ping_within(&mut vm1, 2, Duration::from_secs(20));
    assert_eq!(switch.log_lines("its guest broke the rules"), 0, "{}", switch.log());
    assert_eq!(["vm1", "vm2"].map(|port| switch.counter(port, "faults")), [0, 0]);
}

#[test]
fn guests_with_two_queues_exchange_tcp_and_switch_queues_while_they_ping() {
    let switch = Switch::with_config(&format!("[threads]\ncores = [0, 1]\n{CONFIG}"));
    let (mut vm1, mut vm2) = pair(&switch, 2);
    [&mut vm1, &mut vm2].into_iter().for_each(Guest::use_two_pairs);
    let await_enabled = |rings: u32| {
        wait_for("the rings", || (switch.shown("vm1")["rings_enabled"] == rings).then_some(()));
    };

    ping(&mut vm1, 2);
    let tcp = iperf(&mut vm2, 1, "--parallel 4");
    assert!(tcp["end"]["sum_received"]["bytes"].as_u64().unwrap() > 10_000_000, "{tcp}");

    await_enabled(4);
    let pinging = std::thread::spawn(move || {
        vm2.try_run(Duration::from_secs(20), "ping -c 30 -i 0.2 -W 1 10.99.0.1").1
    });
    for (pairs, rings) in [(1, 2), (2, 4), (1, 2), (2, 4)] {
        vm1.run(5, &format!("ethtool -L eth0 combined {pairs}"));
        await_enabled(rings);
        std::thread::sleep(Duration::from_secs(1));
    }

    // One may be on its way over a pair that is switched off.
    let answers = pinging.join().unwrap();
    let lost = 30 - answers.matches("seq=").count();
    assert!(lost <= 4 && answers.contains("seq=29 "), "{answers}");
    assert_eq!(["vm1", "vm2"].map(|port| switch.counter(port, "faults")), [0, 0]);
}

#[test]
fn guests_and_a_host_behind_the_uplink_talk_to_one_another() {
    let wire = Wire::new();
    wire.ip(&["address", "add", "10.99.0.9/24", "dev", "outside"]);
    wire.switch_off("outside", "tx");
    let config = format!("{CONFIG}[[port]]\nname='up'\ntype='af-xdp'\ninterface='uplink'\n");
    let switch = Switch::in_namespace(Some(&wire.namespace), &config);
    let _server = Background::start(wire.command("iperf3").arg("--server"));
    let (mut vm1, mut vm2) = pair(&switch, 1);

    ping(&mut vm1, 9);
    ping(&mut vm2, 9);
    ping(&mut vm1, 2);
    for result in
        [iperf(&mut vm1, 9, ""), iperf(&mut vm2, 9, "--reverse"), iperf(&mut vm2, 1, "--time 3")]
    {
        assert!(result["end"]["sum_received"]["bytes"].as_u64().unwrap() > 1_000_000, "{result}");
    }
    for guest in [&mut vm1, &mut vm2] {
        assert_no_checksum_errors(&guest.run(5, SNMP));
    }
    let outside = wire.command("cat").arg("/proc/net/snmp").output().unwrap().stdout;
    assert_no_checksum_errors(&String::from_utf8(outside).unwrap());

    let learned = switch.run(&["port", "list", "--json"]);
    let learned: serde_json::Value = serde_json::from_str(&learned).unwrap();
    let ports = learned["ports"].as_array().unwrap();
    assert!(ports.iter().all(|port| port["addresses"] == 1), "{learned}");
}

/// A process that ends with the test.
struct Background(Child);

impl Background {
    fn start(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
