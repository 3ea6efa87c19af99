//! Taps that an operator is refused: one line that names the port, the cause and the way out.

use super::{ADD, PORT, TAP, host};
use crate::support::switch::{Switch, ringway};
use crate::support::wire::UPLINK;

#[test]
fn tap_that_cannot_be_is_refused_with_its_cause_and_leaves_nothing() {
    let host = host();
    let switch = Switch::in_namespace(Some(&host.namespace), PORT);
    let ports = switch.run(&["port", "list", "--json"]);
    let wrong: [(&[&str], &str); 7] = [
        (&["other", "tap", "--interface", UPLINK], "uplink is an interface already and not a tap"),
        (&["other", "tap", "--interface", "lo"], "lo is an interface already and not a tap"),
        (&["other", "tap", "--interface", TAP], "port host has this interface"),
        (&["host", "tap", "--interface", "tap1"], "a port of this name already"),
        (&["other", "tap", "--interface", "tap1", "--queues", "0"], "0 queues are outside 1 to 64"),
        (&["other", "tap", "--interface", "tap1", "--queues", "65"], "65 queues are outside"),
        (&["other", "tap", "--interface", "sixteen-bytes-xx"], "sixteen-bytes-xx"),
    ];

    for (port, cause) in wrong {
        let refusal = switch.refused(&[&["port", "add"], port].concat());
        assert!(
            refusal.starts_with(&format!("ringway: port {}: ", port[0])),
            "{port:?}: {refusal}"
        );
        assert!(refusal.contains(cause), "{port:?}: {refusal}");
    }

    assert_eq!(switch.run(&["port", "list", "--json"]), ports);
    assert_eq!(host.link("tap1"), None);
}

#[test]
fn tap_of_another_switch_is_refused_and_taken_once_it_is_free() {
    let host = host();
    let switch = Switch::in_namespace(Some(&host.namespace), "");
    let other = Switch::in_namespace(Some(&host.namespace), PORT);

    let refusal = switch.refused(&ADD);
    other.run(&["port", "remove", "host"]);
    switch.run(&ADD);

    assert!(refusal.contains("port host: tap tap0 is in use by another process"), "{refusal}");
}

#[test]
fn switch_without_the_right_to_make_taps_is_told_what_it_needs_and_takes_one_of_its_own() {
    let host = host();
    host.ip(&[
        "tuntap",
        "add",
        "dev",
        "own",
        "mode",
        "tap",
        "multi_queue",
        "vnet_hdr",
        "user",
        "0",
    ]);
    let rights = ["setpriv", "--inh-caps=-net_admin", "--bounding-set=-net_admin"];
    let enter = ["ip", "netns", "exec", &host.namespace];
    let switch = Switch::under(&[&enter[..], &rights].concat(), "");

    let refusal = switch.refused(&ADD);
    switch.run(&["port", "add", "own", "tap", "--interface", "own"]);

    let wanted = "port host: not permitted to open tap tap0 (CAP_NET_ADMIN is needed, or";
    assert!(refusal.contains(wanted), "{refusal}");
}

#[test]
fn check_finds_keys_that_a_tap_has_not() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringway.toml");
    let wrong = [
        ("socket = '/s'", "socket"),
        ("zero-copy = 'auto'", "zero-copy"),
        ("force = true", "force"),
        ("mode = '0660'", "mode"),
        ("queues = 65", "queues"),
        ("mtu = 9203", "mtu"),
    ];

    for (line, key) in wrong {
        std::fs::write(&file, format!("{PORT}{line}\n")).unwrap();
        let output = ringway(&["check", file.to_str().unwrap()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
        assert!(errors.contains(key), "{line}: {errors}");
    }
}
