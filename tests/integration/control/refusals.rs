//! What an operator is refused: one line that names the port, the cause and the way out.

use std::path::Path;

use serde_json::json;

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

#[test]
fn flush_removes_static_entries_only_when_it_is_told_to() {
    let switch = with_static_entry();

    let kept = switch.run(&["fdb", "flush", "--port", "vm1"]);
    let listed = switch.run(&["fdb", "list"]);
    let removed = switch.run(&["fdb", "flush", "--static", "--vlan", "100"]);

    assert!(kept.starts_with("0 ") && removed.starts_with("1 "), "{kept}{removed}");
    assert!(listed.contains(STATION), "{listed}");
    assert!(!switch.run(&["fdb", "list"]).contains(STATION));
}

#[test]
fn vlan_that_cannot_be_is_refused_on_one_line_that_names_the_port() {
    let switch = Switch::with_config(&guests(&["vm1"]));
    let wrong: [(&[&str], &str); 8] = [
        (&["port", "set", "vm1", "--access", "5000"], "5000"),
        (&["port", "set", "vm1", "--access", "70000"], "70000"),
        (&["port", "set", "vm1", "--trunk", "1-5000"], "5000"),
        (&["port", "set", "vm1", "--trunk", "2", "--native", "4095"], "4095"),
        (&["port", "set", "vm1"], "--access"),
        (&["port", "add", "vm1", "vhost-user", "--socket", "/x", "--access", "70000"], "70000"),
        (&["fdb", "add", STATION, "--vlan", "70000", "--port", "vm1"], "70000"),
        (&["fdb", "list", "--vlan", "0", "--port", "vm1"], "VLAN 0"),
    ];

    for (command, cause) in wrong {
        let refusal = switch.refused(command);
        assert!(refusal.starts_with("ringway: port vm1: "), "{command:?}: {refusal}");
        assert!(refusal.contains(cause), "{command:?}: {refusal}");
    }
}

#[test]
fn wrong_parameters_keep_their_code_and_name_the_port() {
    let switch = Switch::with_config(&guests(&["vm1"]));
    let mut rpc = switch.connect();

    let answer = rpc.call("port.set", &json!({ "name": "vm1", "access": 5000 }));

    let error = &answer["error"];
    assert_eq!((&error["code"], &error["data"]["port"]), (&json!(-32602), &json!("vm1")));
    assert!(error["message"].as_str().unwrap().starts_with("port vm1: VLAN 5000"), "{error}");
}

/// The command that adds a port whose front end listens.
fn add_connecting(socket: &Path) -> [&str; 7] {
    ["port", "add", "vm1", "vhost-user", "--connect", "--socket", socket.to_str().unwrap()]
}

#[test]
fn port_that_connects_takes_a_missing_path_and_nothing_that_is_no_socket() {
    let switch = Switch::start();
    let [directory, file, missing] = ["directory", "file", "missing"].map(|name| switch.path(name));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(&file, "").unwrap();

    let directory = switch.refused(&add_connecting(&directory));
    let file = switch.refused(&add_connecting(&file));
    switch.run(&add_connecting(&missing));

    assert!(directory.contains("port vm1: ") && directory.contains("directory"), "{directory}");
    assert!(file.contains("port vm1: ") && file.contains("no socket"), "{file}");
}

#[test]
fn relative_socket_path_is_refused_over_the_control_socket() {
    let switch = Switch::start();
    let mut rpc = switch.connect();

    let add = json!({ "name": "vm1", "type": "vhost-user", "socket": "fixb-relative.sock" });
    let answer = rpc.call("port.add", &add);

    let message = answer["error"]["message"].to_string();
    assert!(message.contains("port vm1: ") && message.contains("absolute"), "{answer}");
    assert!(!Path::new("fixb-relative.sock").exists());
}
