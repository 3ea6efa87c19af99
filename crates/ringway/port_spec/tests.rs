//! What a port's description may say, and which key is named if it may not.

use super::*;

fn read(toml: &str) -> PortSpec {
    toml::from_str(toml).unwrap()
}

fn invalid_key(toml: &str) -> &'static str {
    read(toml).settings().unwrap_err().key
}

#[test]
fn guest_port_learns_1024_addresses_by_default_and_an_uplink_any_number() {
    let guest = read("name = 'vm1'\ntype = 'vhost-user'\nsocket = '/s'").settings().unwrap();
    let uplink = read("name = 'up'\ntype = 'af-xdp'\ninterface = 'eth1'").settings().unwrap();

    assert_eq!((guest.learn_limit, uplink.learn_limit), (1_024, u32::MAX));
}

#[test]
fn key_of_another_type_is_refused_by_its_name() {
    assert_eq!(
        invalid_key("name = 'a'\ntype = 'vhost-user'\nsocket = '/s'\ninterface = 'x'"),
        "interface"
    );
    assert_eq!(invalid_key("name = 'a'\ntype = 'af-xdp'\ninterface = 'x'\nqueues = 2"), "queues");
}

#[test]
fn missing_socket_or_interface_is_named() {
    assert_eq!(invalid_key("name = 'a'\ntype = 'vhost-user'"), "socket");
    assert_eq!(invalid_key("name = 'a'\ntype = 'af-xdp'"), "interface");
}

#[test]
fn names_are_plain_and_at_most_63_characters() {
    assert!(check_name("vm-1.net_0").is_ok());
    assert!(check_name(&"a".repeat(63)).is_ok());
    assert!(check_name(&"a".repeat(64)).is_err());
    assert!(check_name("").is_err());
    assert!(check_name("vm 1").is_err());
    assert!(check_name("vm/1").is_err());
}

#[test]
fn queue_pairs_are_1_to_32() {
    let text = "name = 'a'\ntype = 'vhost-user'\nsocket = '/s'\n";

    assert_eq!(invalid_key(&format!("{text}queues = 0")), "queues");
    assert_eq!(invalid_key(&format!("{text}queues = 33")), "queues");
    assert!(read(&format!("{text}queues = 32")).settings().is_ok());
}

#[test]
fn mode_is_octal_in_text_and_as_it_is_in_numbers() {
    let text = "name = 'a'\ntype = 'vhost-user'\nsocket = '/s'\n";

    assert_eq!(read(&format!("{text}mode = '0660'")).mode, Some(Mode(0o660)));
    assert_eq!(read(&format!("{text}mode = 0o660")).mode, Some(Mode(0o660)));
    assert!(toml::from_str::<PortSpec>(&format!("{text}mode = 660")).is_err());
    assert!(toml::from_str::<PortSpec>(&format!("{text}mode = '0999'")).is_err());
}

#[test]
fn owner_of_a_socket_that_qemu_makes_is_refused() {
    let text = "name = 'a'\ntype = 'vhost-user'\nsocket = '/s'\nconnect = true\nowner = 'root'";

    assert_eq!(invalid_key(text), "connect");
}
