//! A third front end: User Mode Linux's (`virtio_uml`), which is in the guest's kernel. It shows its
//! driver the features of the switch as they are, and passes on what QEMU and virtio-user keep to
//! themselves: the configuration space and the control queue. Its rings are packed, and it is
//! called by sockets.
//!
//! It needs neither KVM nor an emulator, so its guests are quick.

use std::time::Duration;

use virtio::Features;

use crate::support::guest::Guest;
use crate::support::switch::{Switch, guests};
use crate::support::wait_for;

/// A switch with a port for each of these guests, and the guests.
fn booted<const N: usize>(switch: &Switch, names: [&str; N]) -> [Guest; N] {
    let directory = switch.path("");
    let mut number = 0;
    let mut guests = names.map(|name| {
        number += 1;
        Guest::boot_uml(name, number, &switch.path(&format!("{name}.sock")), &directory)
    });
    guests.iter_mut().for_each(Guest::await_booted);
    guests
}

#[test]
fn guests_ping_and_move_tcp_both_ways() {
    let switch = Switch::with_config(&guests(&["vm1", "vm2"]));
    let [mut vm1, mut vm2] = booted(&switch, ["vm1", "vm2"]);

    vm1.run(15, "ping -c 3 -i 0.3 -W 2 10.99.0.2");
    for (from, to) in [(&mut vm1, 2), (&mut vm2, 1)] {
        let command = format!("iperf3 --client 10.99.0.{to} --time 2 --interval 0 --json");
        let report: serde_json::Value = serde_json::from_str(&from.run(30, &command)).unwrap();
        let bytes = report["end"]["sum_received"]["bytes"].as_u64().unwrap();
        assert!(bytes > 10_000_000, "{report}");
    }

    let packed = Features::RING_PACKED | Features::NET_CTRL_VQ;
    for port in ["vm1", "vm2"] {
        assert!(switch.features(port).contains(packed), "{}", switch.shown(port));
        assert_eq!(switch.shown(port)["faults"], 0);
    }
}

#[test]
fn guest_pings_across_a_take_over() {
    let mut switch = Switch::with_config(&guests(&["vm1", "vm2"]));
    let [vm1, mut vm2] = booted(&switch, ["vm1", "vm2"]);
    vm2.run(15, "ping -c 2 -i 0.3 -W 2 10.99.0.1");

    let pinging = std::thread::spawn(move || {
        let answers = vm2.try_run(Duration::from_secs(30), "ping -c 60 -i 0.05 -W 2 10.99.0.1");
        (vm2, answers.1)
    });
    for _ in 0..2 {
        std::thread::sleep(Duration::from_secs(1));
        let successor = switch.start_successor(&[]);
        switch.succeed(successor);
    }
    let (_vm2, answers) = pinging.join().unwrap();

    assert_eq!(answers.matches("seq=").count(), 60, "{answers}");
    wait_for("the guests' sessions", || (switch.log_lines("disconnected") == 0).then_some(()));
    drop(vm1);
}

/// What the driver asks of its device by the control queue waits for an answer, in the kernel: a
/// command that came back was answered.
#[test]
fn driver_reads_its_configuration_and_its_commands_are_obeyed() {
    let ports = guests(&["vm1", "vm2"]).replacen("socket", "mtu = 4000\nqueues = 4\nsocket", 1);
    let switch = Switch::with_config(&ports);
    let [mut vm1, mut vm2] = booted(&switch, ["vm1", "vm2"]);
    let passing = || switch.shown("vm1")["rings_enabled"].as_u64().unwrap();

    assert_eq!(vm1.run(5, "cat /sys/class/net/eth0/mtu").trim(), "4000");
    assert_eq!(vm2.run(5, "cat /sys/class/net/eth0/mtu").trim(), "1500");
    assert!(vm1.run(5, "ethtool -l eth0").matches("Combined:\t4").count() >= 1);
    let before = passing();
    vm1.run(5, "ethtool -L eth0 combined 4");
    assert!(passing() > before);
    vm1.run(5, "ping -c 2 -i 0.3 -W 2 10.99.0.2");
    vm1.run(5, "ethtool -L eth0 combined 1");
    assert_eq!(passing(), before);

    vm1.run(5, "ip link set eth0 promisc on");
    vm1.run(5, "ip link set eth0 promisc off");
    vm1.run(5, "ip link set eth0 address 52:54:00:99:00:77");
    vm1.run(5, "vconfig add eth0 5");
    vm2.run(5, "ip neigh flush dev eth0");
    vm2.run(5, "ping -c 2 -i 0.3 -W 2 10.99.0.1");

    // Large frames are cut for a driver that wants them no more: 7,241 of them, but for what is on its
    // way when the client ends, which nobody awaits.
    let most = "sh -c 'cat /sys/class/net/eth0/statistics/rx_packets'";
    let packets = |guest: &mut Guest| guest.run(5, most).trim().parse::<u64>().unwrap();
    for (setting, fewest, most) in [("off", 6_000, u64::MAX), ("on", 1, 5_000)] {
        vm1.run(5, &format!("ethtool -K eth0 rx-gro-hw {setting}"));
        let before = packets(&mut vm1);
        vm2.run(30, "iperf3 --client 10.99.0.1 --bytes 10M");
        let came = packets(&mut vm1) - before;
        assert!((fewest..most).contains(&came), "{came} frames with large ones {setting}");
    }
}
