//! What an operator is refused: one line that names the port, the cause and the way out.

use crate::support::switch::{Switch, guests};

const STATION: &str = "52:54:00:00:00:0a";

/// A switch whose port has a static entry in its VLAN, 100.
fn with_static_entry() -> Switch {
    let switch = Switch::with_config(&guests(&["vm1"]));
    switch.run(&["port", "set", "vm1", "--access", "100"]);
    switch.run(&["fdb", "add", STATION, "--vlan", "100", "--port", "vm1"]);
    switch
}

#[test]
fn port_does_not_leave_the_vlan_of_its_static_entry_and_what_is_saved_starts() {
    let mut switch = with_static_entry();

    let refusal = switch.refused(&["port", "set", "vm1", "--access", "200"]);
    switch.run(&["config", "save"]);
    switch.kill_and_start();

    assert!(refusal.contains("port vm1: ") && refusal.contains("VLAN 100"), "{refusal}");
    assert!(refusal.contains(STATION) && refusal.contains("ringway fdb remove"), "{refusal}");
    assert!(switch.run(&["port", "list"]).contains("access 100"));
    assert!(switch.run(&["fdb", "list"]).contains(STATION));
}

#[test]
fn port_leaves_a_vlan_once_its_static_entries_there_are_removed() {
    let switch = with_static_entry();

    switch.run(&["port", "set", "vm1", "--trunk", "100,200"]);
    switch.run(&["fdb", "remove", STATION, "--vlan", "100"]);
    switch.run(&["port", "set", "vm1", "--access", "200"]);

    assert!(switch.run(&["port", "list"]).contains("access 200"));
}
