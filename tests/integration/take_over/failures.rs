//! A take-over that comes to nothing: the old switch goes on as it was, and both say why.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::lab;
use super::uplinks::Lab;
use crate::support::PATIENCE;
use crate::support::switch::{Rpc, ringway};
use crate::uplink::two_wires;

/// A new switch that dies when it has come so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Asked,
    Described,
    Ready,
    Stopped,
    Taken,
    Yours,
}

/// Reads a message. Its descriptors are lost, as nobody takes them.
fn read(stream: &mut UnixStream) -> Value {
    let head: Value = serde_json::from_str(&line(stream)).unwrap();
    let number = |name: &str| usize::try_from(head[name].as_u64().unwrap()).unwrap();
    let marks = number("descriptors").div_ceil(128);
    let mut body = vec![0; marks + number("bytes")];
    stream.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body[marks..]).unwrap()
}

pub(super) fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8(line).unwrap()
}

pub(super) fn say(stream: &mut UnixStream, word: &Value) {
    let body = word.to_string();
    let head = json!({ "bytes": body.len(), "descriptors": 0 });
    stream.write_all(format!("{head}\n{body}").as_bytes()).unwrap();
}

/// Asks the switch that listens here to hand over.
pub(super) fn ask(control: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(control).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    line(&mut stream);
    let params = json!({ "version": 1 });
    let request =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "switch.hand_over", "params": params });
    writeln!(stream, "{request}").unwrap();
    line(&mut stream);
    stream
}

/// Goes as far as this stage. It dies when the connection is dropped.
fn go_as_far_as(control: &Path, last: Stage) -> UnixStream {
    let mut stream = ask(control);
    let mut uplinks: Vec<Value> = Vec::new();
    if last >= Stage::Described {
        let offer = read(&mut stream);
        assert!(offer["Description"]["guests"][0]["port"].is_string());
        let described = offer["Description"]["uplinks"].as_array().unwrap();
        uplinks = described.iter().map(|uplink| uplink["port"].clone()).collect();
    }
    if last >= Stage::Ready {
        say(&mut stream, &json!("Ready"));
    }
    if last >= Stage::Stopped {
        assert_eq!(read(&mut stream)["uplinks"].as_array().map(Vec::len), Some(uplinks.len()));
    }
    if last >= Stage::Taken {
        let taken =
            if uplinks.is_empty() { json!("Taken") } else { json!({ "TakenWith": uplinks }) };
        say(&mut stream, &taken);
    }
    if last >= Stage::Yours {
        assert_eq!(read(&mut stream), "Yours");
    }
    stream
}

#[test]
fn old_switch_goes_on_whenever_the_new_one_dies() {
    use Stage::{Asked, Described, Ready, Stopped, Taken, Yours};
    let (mut switch, mut pair) = lab("");

    for (died, stage) in (1..).zip([Asked, Described, Ready, Stopped, Taken, Yours]) {
        pair.exchange(200);
        std::thread::scope(|scope| {
            let control = switch.path("control.sock");
            let dying = scope.spawn(move || drop(go_as_far_as(&control, stage)));
            pair.exchange_until(|| dying.is_finished());
        });
        pair.exchange_until(|| switch.log_lines("not handed over") == died);
        pair.exchange(200);
        pair.await_all();
        assert_eq!(switch.log_lines("not handed over"), died, "{stage:?}: {}", switch.log());
    }

    assert!(switch.is_alive());
    assert_eq!(pair.tallies.each_ref().map(|tally| tally.repeated), [0, 0]);
    super::take_over(&mut switch, &mut pair);
}

#[test]
fn old_switch_goes_on_with_its_uplinks_whenever_the_new_one_dies() {
    use Stage::{Ready, Stopped, Taken, Yours};
    let mut lab = Lab::new(two_wires(), "", 900);

    for (died, stage) in (1..).zip([Ready, Stopped, Taken, Yours]) {
        let control = lab.switch.path("control.sock");
        let dying = std::thread::spawn(move || drop(go_as_far_as(&control, stage)));
        lab.flow_until(|_| dying.is_finished());
        lab.flow_until(|switch| switch.log_lines("not handed over") == died);
        lab.flow_for(Duration::from_millis(50));
        lab.await_all();
    }

    assert_eq!(lab.switch.log_lines("anew"), 0, "{}", lab.switch.log());
    lab.take_over();
    lab.await_all();
}

#[test]
fn old_switch_goes_on_when_the_new_one_falls_silent() {
    let (switch, mut pair) = lab("");
    let _silent = go_as_far_as(&switch.path("control.sock"), Stage::Ready);
    pair.exchange_until(|| switch.log_lines("not handed over") == 1);
    pair.exchange(200);
    pair.await_all();

    assert!(switch.log().contains("the other switch does not answer"), "{}", switch.log());
    assert_eq!(pair.tallies.each_ref().map(|tally| tally.repeated), [0, 0]);
}

#[test]
fn successor_of_nobody_says_so() {
    let output = ringway(&["run", "--take-over", "--control", "/nonexistent/control.sock"]);

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("no ringway to take over from at /nonexistent/control.sock"),
        "{errors}"
    );
}

#[test]
fn version_that_the_old_switch_does_not_know_is_refused_and_changes_nothing() {
    let (switch, mut pair) = lab("");
    let mut rpc: Rpc = switch.connect();

    let answer = rpc.call("switch.hand_over", &json!({ "version": 99 }));

    assert_eq!(answer["error"]["code"], 1, "{answer}");
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.contains("version 99 of the hand-over is not known here, 1 is"), "{message}");
    pair.exchange(200);
    pair.await_all();
}

#[test]
fn successor_that_cannot_start_leaves_the_old_switch_as_it_was() {
    let (switch, mut pair) = lab("");
    // More threads than there can be.
    let config = switch.path("wrong.toml");
    std::fs::write(&config, "[threads]\ncores = [0, 0]\n").unwrap();

    let mut successor = switch.start_successor(&["--config", config.to_str().unwrap()]);
    pair.exchange_until(|| successor.try_wait().unwrap().is_some());

    assert_eq!(successor.wait().unwrap().code(), Some(1));
    pair.exchange(200);
    pair.await_all();
    std::thread::sleep(Duration::from_millis(10));
    assert_eq!(switch.run(&["port", "list", "--json"]).matches("\"up\"").count(), 2);
}
