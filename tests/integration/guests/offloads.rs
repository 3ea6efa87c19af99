//! Guests whose kernels left checksums and segmentation to the switch, when their ports do so no
//! more.

use std::time::Duration;

use super::{CONFIG, SNMP, assert_no_checksum_errors, pair, ping, ping_within, transfer};
use crate::support::guest::Guest;
use crate::support::switch::Switch;

/// How long QEMU may take to come back: it looks once in vain, and tries every second.
const BACK: Duration = Duration::from_secs(20);

const PORTS: [&str; 2] = ["vm1", "vm2"];

/// Says whether the guest's kernel has its segments cut by the switch.
fn leaves_segmentation(guest: &mut Guest) -> bool {
    guest.run(5, "ethtool -k eth0").contains("tcp-segmentation-offload: on")
}

/// Both guests reach each other, and what crosses is whole and unhurt.
fn assert_carry_on(vm1: &mut Guest, vm2: &mut Guest) {
    ping_within(vm1, 2, BACK);
    ping_within(vm2, 1, BACK);
    transfer(vm1, vm2, 2);
}

#[test]
fn guests_keep_their_offloads_and_carry_on_after_their_ports_offer_none() {
    let mut switch = Switch::with_config(CONFIG);
    let (mut vm1, mut vm2) = pair(&switch, 1);
    ping(&mut vm1, 2);
    assert!(leaves_segmentation(&mut vm1) && leaves_segmentation(&mut vm2));

    for port in PORTS {
        switch.run(&["port", "set", port, "--offloads", "off"]);
    }
    assert_carry_on(&mut vm1, &mut vm2);

    // QEMU comes back to a new switch.
    switch.run(&["config", "save"]);
    switch.kill_and_start();
    assert_carry_on(&mut vm1, &mut vm2);

    // And to a new port of the same one.
    let socket = switch.path("vm1.sock");
    switch.run(&["port", "remove", "vm1"]);
    let add = ["port", "add", "vm1", "vhost-user", "--socket", socket.to_str().unwrap()];
    switch.run(&[&add[..], &["--queues", "2", "--offloads", "off"]].concat());
    assert_carry_on(&mut vm1, &mut vm2);

    // A driver that starts anew while its QEMU stays.
    vm2.qmp("system_reset");
    std::thread::sleep(Duration::from_secs(1));
    vm2.await_booted();
    assert_carry_on(&mut vm1, &mut vm2);
    assert!(leaves_segmentation(&mut vm1) && leaves_segmentation(&mut vm2));
    assert_eq!(PORTS.map(|port| switch.counter(port, "faults")), [0, 0]);
    for guest in [&mut vm1, &mut vm2] {
        assert_no_checksum_errors(&guest.run(5, SNMP));
    }

    // Another QEMU.
    drop(vm2);
    let plan = super::Plan { server: true, ..super::plan("vm2", 2) };
    let mut vm2 = Guest::boot(plan, &switch.path("vm2.sock"), &switch.path(""));
    vm2.await_booted();
    assert_carry_on(&mut vm1, &mut vm2);
    assert!(!leaves_segmentation(&mut vm2));
}
