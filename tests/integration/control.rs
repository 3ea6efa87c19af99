//! The control socket and the command line; ports that come and go; bad input.

mod check;
mod faults;
mod refusals;

use std::io::Write;
use std::os::unix::net::UnixListener;

use serde_json::json;

use crate::support::front_end::FrontEnd;
use crate::support::switch::{Switch, guests, ringway};
use crate::support::{ALICE, BOB, BROADCAST, frame};

#[test]
fn a_hundred_ports_added_and_removed_a_thousand_times_leave_nothing() {
    let switch = Switch::start();
    let mut rpc = switch.connect();
    let directory = switch.path("");
    let mut round = |count: usize| {
        for _ in 0..count {
            let requests = (0..100).flat_map(|number| {
                let name = format!("p{number}");
                let socket = directory.join(format!("{name}.sock"));
                let add = json!({ "name": name, "type": "vhost-user", "socket": socket });
                let remove = json!({ "name": name });
                [("port.add", add), ("port.remove", remove)]
            });
            // Added one after the other, then removed one after the other, in two batches.
            let (adds, removes): (Vec<_>, Vec<_>) =
                requests.partition(|(method, _)| *method == "port.add");
            for batch in [adds, removes] {
                let batch: Vec<_> = batch
                    .into_iter()
                    .map(|(method, params)| {
                        json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params })
                    })
                    .collect();
                let answers = rpc.send(&json!(batch).to_string());
                let answers = answers.as_array().unwrap();
                assert!(answers.iter().all(|answer| answer.get("error").is_none()), "{answers:?}");
            }
        }
    };

    round(20);
    let (descriptors, threads, memory) = switch.footprint();
    round(1_000);
    let after = switch.footprint();

    assert_eq!((after.0, after.1), (descriptors, threads));
    // KiB; the allocator's own noise is far below, a leak of 64 bytes a port far above.
    assert!(after.2 < memory + 2_048, "{memory} KiB before, {} KiB after", after.2);
}

#[test]
fn configuration_is_saved_and_starts_the_same_switch() {
    let mut switch = Switch::with_config(&guests(&["alice", "bob"]));
    let socket = switch.path("vm3.sock");
    switch.run(&[
        "port",
        "add",
        "vm3",
        "vhost-user",
        "--socket",
        socket.to_str().unwrap(),
        "--queues",
        "2",
        "--trunk",
        "100,200-299",
        "--native",
        "5",
    ]);
    switch.run(&["port", "remove", "bob"]);
    let shown = switch.run(&["config", "show"]);

    switch.run(&["config", "save"]);
    switch.kill_and_start();

    assert_eq!(switch.run(&["config", "show"]), shown);
    let ports = switch.run(&["port", "list"]);
    assert!(
        ports.contains("vm3") && ports.contains("200-299") && !ports.contains("bob"),
        "{ports}"
    );
}

#[test]
fn listings_are_tables_for_people_and_json_for_programs() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));

    for listing in [
        &["port", "list"][..],
        &["port", "show", "alice"],
        &["fdb", "list"],
        &["stats"],
        &["stats", "alice"],
        &["threads"],
    ] {
        let table = switch.run(listing);
        assert!(!table.trim().is_empty(), "{listing:?}");
        let text = switch.run(&[listing, &["--json"]].concat());
        serde_json::from_str::<serde_json::Value>(&text)
            .unwrap_or_else(|error| panic!("{listing:?}: {error}: {text}"));
    }
}

#[test]
fn bad_line_gets_an_error_object_and_closes_nothing() {
    let switch = Switch::start();
    let mut other = switch.connect();
    let mut rpc = switch.connect();

    assert_eq!(rpc.send("this is not JSON")["error"]["code"], -32700);
    assert_eq!(rpc.send("[]")["error"]["code"], -32600);
    assert_eq!(rpc.call("no.such", &json!({}))["error"]["code"], -32601);
    assert_eq!(rpc.call("port.show", &json!({ "nmae": "x" }))["error"]["code"], -32602);

    assert!(rpc.call("rpc.methods", &json!({}))["result"].to_string().contains("port.add"));
    assert!(other.call("port.list", &json!({})).get("result").is_some());
}

#[test]
fn client_that_stops_reading_or_writing_stalls_nobody() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let mut half = switch.connect();
    half.stream.write_all(br#"{"jsonrpc": "2.0", "id""#).unwrap();
    let mut deaf = switch.connect();
    deaf.stream.set_nonblocking(true).unwrap();
    let request = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"rpc.methods\"}\n".repeat(1_000);
    for _ in 0..100 {
        // Sooner or later the socket is full, or the switch has cut it off.
        if deaf.stream.write_all(request.as_bytes()).is_err() {
            break;
        }
    }

    assert!(switch.connect().call("port.list", &json!({})).get("result").is_some());
}

#[test]
fn wrong_configuration_is_refused_with_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ringway.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = ringway(&["check", file.to_str().unwrap()]);
        let errors = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), errors)
    };
    let port = "[[port]]\nname = 'a'\ntype = 'vhost-user'\nsocket = '/tmp/a'\n";
    let wrong = [
        ("[bridge]\nageing = 3\n".to_owned(), ":2", "ageing"),
        (format!("{port}vlan = {{ access = 4095 }}\n"), ":5", "4095"),
        (format!("{port}{port}"), ":6", "name"),
        ("[threads]\ncores = [4000]\n".to_owned(), ":2", "4000"),
        (format!("{port}queues = 33\n"), ":5", "queues"),
        ("[[port]\n".to_owned(), ":1", ""),
    ];

    for (text, line, key) in wrong {
        let (status, errors) = check(&text);
        assert_eq!(status, Some(1), "{text}");
        let is_one_line = errors.trim_end().lines().count() == 1;
        let names_all = errors.contains("ringway.toml") && errors.contains(line);
        assert!(is_one_line && names_all && errors.contains(key), "{text}{errors}");
    }
    assert_eq!(check(port).0, Some(0));
}

#[test]
fn refused_port_says_why_and_disturbs_nothing() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    let directory = switch.path("directory");
    std::fs::create_dir(&directory).unwrap();
    let live = switch.path("live.sock");
    let _listener = UnixListener::bind(&live).unwrap();
    let long = format!("/tmp/{}", "x".repeat(120));
    let add = |name, socket: &str| {
        switch.refused(&["port", "add", name, "vhost-user", "--socket", socket])
    };

    assert!(add("dir", directory.to_str().unwrap()).contains("directory"));
    assert!(add("long", &long).contains("long"));
    assert!(add("live", live.to_str().unwrap()).contains("live.sock"));
    assert!(add("alice", "/tmp/never.sock").contains("alice"));
    assert!(add("a b", "/tmp/never.sock").contains("a b"));
    assert!(switch.refused(&["port", "remove", "nobody"]).contains("nobody"));
    let vlan = switch.command(&["port", "set", "alice", "--access", "5000"]);
    assert!(matches!(vlan.status.code(), Some(1 | 2)), "{vlan:?}");
    assert!(String::from_utf8_lossy(&vlan.stderr).contains("5000"), "{vlan:?}");

    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(switch.run(&["port", "list", "--json"]).matches("\"name\"").count(), 2);
}

#[test]
fn stale_socket_file_is_replaced() {
    let mut switch = Switch::with_config(&guests(&["alice", "bob"]));

    switch.kill_and_start();

    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    alice.await_sent();
}

#[test]
fn wrong_usage_exits_with_2_and_a_missing_daemon_with_1() {
    let unreachable = ["--control", "/nonexistent/control.sock", "port", "list"];

    assert_eq!(ringway(&["port", "frobnicate"]).status.code(), Some(2));
    let output = ringway(&unreachable);
    assert_eq!(output.status.code(), Some(1));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(
        errors.contains("/nonexistent/control.sock") && errors.contains("ringway run"),
        "{errors}"
    );
}

#[test]
fn two_poll_threads_share_the_queues() {
    let config = format!("[threads]\ncores = [0, 1]\n{}", guests(&["alice", "bob"]));
    let switch = Switch::with_config(&config);
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));

    for number in 0..200u8 {
        alice.send(&frame(BOB, ALICE, &[number; 300]));
        assert_eq!(bob.receive(), frame(BOB, ALICE, &[number; 300]));
        bob.send(&frame(ALICE, BOB, &[number; 300]));
        assert_eq!(alice.receive(), frame(ALICE, BOB, &[number; 300]));
    }

    let threads: serde_json::Value =
        serde_json::from_str(&switch.run(&["threads", "--json"])).unwrap();
    let threads = threads["threads"].as_array().unwrap();
    assert_eq!(threads.len(), 2);
    assert!(threads.iter().all(|thread| thread["queues"] == 1), "{threads:?}");
}

#[test]
fn limit_of_addresses_changes_without_forgetting_any_and_other_vlans_forget_all() {
    let switch = Switch::with_config(&guests(&["alice"]));
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    alice.await_sent();

    switch.run(&["port", "set", "alice", "--addresses", "10"]);
    let with_limit = switch.run(&["fdb", "list"]);
    switch.run(&["port", "set", "alice", "--access", "5"]);
    let elsewhere = switch.run(&["fdb", "list"]);

    assert!(with_limit.contains("52:54:00:00:00:0a"), "{with_limit}");
    assert!(!elsewhere.contains("52:54:00:00:00:0a"), "{elsewhere}");
}

#[test]
fn statistics_of_all_ports_have_what_was_dropped_for_removed_ones() {
    let switch = Switch::with_config(&guests(&["alice"]));

    let text = switch.run(&["stats", "--json"]);

    let statistics: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(statistics["removed_ports"], json!({ "drops_out": 0, "drops": {} }), "{text}");
}
