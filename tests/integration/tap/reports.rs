//! What operators see of a tap, and of the thread that serves it.

use serde_json::{Value, json};

use super::{ADD, PORT, TAP, host, json};
use crate::support::switch::Switch;

#[test]
fn port_is_listed_shown_and_counted_as_others_are() {
    let host = host();
    let switch = Switch::in_namespace(Some(&host.namespace), &format!("{PORT}queues = 2\n"));

    let listed = json(&switch, &["port", "list"])["ports"][0].clone();
    let shown = json(&switch, &["port", "show", "host"]);
    let counted = switch.statistics("host");

    for report in [&listed, &shown] {
        assert_eq!(report["name"], "host", "{report}");
        assert_eq!(report["type"], "tap", "{report}");
        assert_eq!(report["state"], "up", "{report}");
        assert_eq!(report["at"], TAP, "{report}");
        assert_eq!(report["vlan"], "access 1", "{report}");
    }
    assert_eq!(
        (&shown["queues"], &shown["persistent"], &shown["mtu"]),
        (&json!(2), &json!(false), &json!(1_500)),
        "{shown}"
    );
    assert_eq!(counted["state"], "up", "{counted}");
    let queues = counted["queues"].as_array().unwrap();
    let places: Vec<_> = queues.iter().map(|queue| (&queue["index"], &queue["thread"])).collect();
    assert_eq!(places, [(&json!(0), &json!(1)), (&json!(1), &json!(1))], "{counted}");
    for command in [&["port", "list"][..], &["port", "show", "host"], &["stats"]] {
        let table = switch.run(command);
        assert!(table.contains("host"), "{table}");
    }
}

#[test]
fn io_thread_is_listed_only_while_it_has_queues() {
    let host = host();
    let config = "[threads]\ncores = [0, 1]\n";
    let switch = Switch::in_namespace(Some(&host.namespace), config);
    let cores = || -> Vec<Value> {
        let threads = json(&switch, &["threads"]);
        threads["threads"].as_array().unwrap().iter().map(|one| one["core"].clone()).collect()
    };

    assert_eq!(cores(), [json!(0), json!(1)]);
    switch.run(&ADD);
    assert_eq!(cores(), [json!(0), json!(1), Value::Null]);
    assert_eq!(switch.run(&["threads"]).lines().count(), 4, "{}", switch.run(&["threads"]));
    switch.run(&["port", "remove", "host"]);
    assert_eq!(cores(), [json!(0), json!(1)]);
}
