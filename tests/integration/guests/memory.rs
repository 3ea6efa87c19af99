//! Guests whose memory moves while they talk.

use serde_json::{Value, json};

use super::*;

const MIB: u64 = 1 << 20;

/// Bytes of memory that a port's guest shares.
fn shared_bytes(switch: &Switch, port: &str) -> u64 {
    switch.shown(port)["memory_bytes"].as_u64().unwrap()
}

fn await_shared(switch: &Switch, bytes: u64) {
    wait_at_most(Duration::from_secs(30), "the guest's memory", || {
        (shared_bytes(switch, "vm1") == bytes).then_some(())
    });
}

/// Takes memory from the guest, or gives it back, until it has so much. What is taken is unmapped
/// under the switch's feet, and maps as zeros when it is touched again.
fn set_balloon(guest: &Guest, bytes: u64) {
    guest.qmp_with("balloon", &json!({ "value": bytes }));
    wait_at_most(Duration::from_secs(30), "the balloon", || {
        (guest.qmp("query-balloon")["actual"] == bytes).then_some(())
    });
}

/// Lets the guest have so much of its virtio-mem.
fn set_virtio_mem(guest: &Guest, bytes: u64) {
    let device = json!("/machine/peripheral/more0");
    let wanted = json!({ "path": device, "property": "requested-size", "value": bytes });
    guest.qmp_with("qom-set", &wanted);
    let size = json!({ "path": device, "property": "size" });
    wait_at_most(Duration::from_secs(30), "virtio-mem", || {
        (guest.qmp_with("qom-get", &size) == bytes).then_some(())
    });
}

/// A DIMM and virtio-mem come and go, twice, and a balloon takes pages and gives them back, while TCP
/// streams in both directions cross the guest's rings.
#[test]
fn guest_gets_and_loses_memory_while_it_talks() {
    let switch = Switch::with_config(CONFIG);
    let directory = switch.path("");
    let growing = Plan { more: &["--max-memory", "1G"], ..plan("vm1", 1) };
    let other = Plan { server: true, ..plan("vm2", 2) };
    let mut vm1 = Guest::boot(growing, &switch.path("vm1.sock"), &directory);
    let mut vm2 = Guest::boot(other, &switch.path("vm2.sock"), &directory);
    vm1.await_booted();
    vm2.await_booted();
    ping(&mut vm2, 1);
    let before = shared_bytes(&switch, "vm1");
    let talking = std::thread::spawn(move || {
        let command = "iperf3 --client 10.99.0.1 --bidir --time 20 --interval 0 --json";
        let report: Value = serde_json::from_str(&vm2.run(60, command)).unwrap();
        (vm2, report)
    });

    for round in 0..2 {
        set_balloon(&vm1, 200 * MIB);
        set_virtio_mem(&vm1, 128 * MIB);
        let (memory, dimm) = (format!("more{round}"), format!("dimm{round}"));
        let object = json!({
            "qom-type": "memory-backend-memfd", "id": memory, "size": 128 * MIB, "share": true
        });
        vm1.qmp_with("object-add", &object);
        let device = json!({ "driver": "pc-dimm", "id": dimm, "memdev": memory });
        vm1.qmp_with("device_add", &device);
        await_shared(&switch, before + 128 * MIB);
        // Movable, or the guest's kernel would not let go of it again.
        let online = "for block in /sys/devices/system/memory/memory*; do \
                      grep -q offline $block/state && echo online_movable > $block/state; done";
        vm1.run(20, &format!("sh -c '{online}; true'"));
        vm1.qmp_with("device_del", &json!({ "id": dimm }));
        await_shared(&switch, before);
        set_balloon(&vm1, 256 * MIB);
        set_virtio_mem(&vm1, 0);
        vm1.qmp_with("object-del", &json!({ "id": memory }));
    }

    let (mut vm2, report) = talking.join().unwrap();
    for direction in ["sum_received", "sum_received_bidir_reverse"] {
        let bytes = report["end"][direction]["bytes"].as_u64();
        assert!(bytes > Some(10_000_000), "{direction}: {report}");
    }
    ping(&mut vm2, 1);
    assert_eq!(["vm1", "vm2"].map(|port| switch.counter(port, "faults")), [0, 0]);
}
