//! `stats`: what was counted, and how fast.

use serde_json::Value;

use super::{Table, cell, items};

const COUNTERS: [&str; 6] =
    ["frames_in", "bytes_in", "drops_in", "frames_out", "bytes_out", "drops_out"];

/// What an interface loses before the switch sees it, or after.
const INTERFACE_LOSSES: [&str; 5] =
    ["rx_dropped", "rx_missed", "rx_errors", "tx_dropped", "tx_errors"];

/// What the kernel loses at an AF_XDP socket. `tx_ring_empty` is none: nothing was to be sent.
const SOCKET_LOSSES: [&str; 3] = ["rx_dropped", "rx_ring_full", "rx_fill_ring_empty"];

/// `stats`: a row a port, with `queues` a row a queue as well; then what there is of drops and of
/// stopped rings.
pub(crate) fn statistics(result: &Value, queues: bool) -> String {
    let mut table = Table::new(&[
        "PORT",
        "#QUEUE",
        "#FRAMES IN",
        "#BYTES IN",
        "#DROPS IN",
        "#FRAMES OUT",
        "#BYTES OUT",
        "#DROPS OUT",
    ]);
    for port in items(result, "ports") {
        table.push(statistics_row(port, cell(&port["name"]), "all".to_owned()));
        let shown = if queues { items(port, "queues") } else { &[] };
        for queue in shown {
            table.push(statistics_row(queue, cell(&port["name"]), cell(&queue["index"])));
        }
    }
    let mut text = table.render();
    for table in [drops(result, queues), faults(result)] {
        if table.rows.len() > 1 {
            text.push('\n');
            text.push_str(&table.render());
        }
    }
    text
}

fn statistics_row(counters: &Value, name: String, queue: String) -> Vec<String> {
    let mut row = vec![name, queue];
    row.extend(COUNTERS.iter().map(|key| cell(&counters[*key])));
    row
}

/// What was lost, by reason and direction: by the switch, by the interface, by its sockets.
fn drops(result: &Value, queues: bool) -> Table {
    let mut table = Table::new(&["PORT", "#QUEUE", "DROPPED BECAUSE", "#FRAMES"]);
    for port in items(result, "ports") {
        let mut push = |queue: String, reason: String, count: &Value| {
            table.push(vec![cell(&port["name"]), queue, reason, cell(count)]);
        };
        for (reason, count) in counts(&port["drops"]) {
            push("all".to_owned(), reason.clone(), count);
        }
        for (key, count) in losses(&port["interface"], &INTERFACE_LOSSES) {
            push("-".to_owned(), format!("interface {key}"), count);
        }
        for queue in items(port, "queues") {
            let of_queue = if queues { &queue["drops"] } else { &Value::Null };
            for (reason, count) in counts(of_queue) {
                push(cell(&queue["index"]), reason.clone(), count);
            }
            for (key, count) in losses(&queue["socket"], &SOCKET_LOSSES) {
                push(cell(&queue["index"]), format!("socket {key}"), count);
            }
        }
    }
    // No port has this name.
    for (reason, count) in counts(&result["removed_ports"]["drops"]) {
        table.push(vec!["(removed)".to_owned(), "-".to_owned(), reason.clone(), cell(count)]);
    }
    table
}

fn counts(object: &Value) -> impl Iterator<Item = (&String, &Value)> {
    object.as_object().into_iter().flatten()
}

/// Those of the counters that are not zero.
fn losses<'a>(
    counters: &'a Value,
    keys: &'static [&'static str],
) -> impl Iterator<Item = (&'static str, &'a Value)> {
    let all = keys.iter().map(|&key| (key, &counters[key]));
    all.filter(|(_, count)| count.as_u64().is_some_and(|count| count > 0))
}

/// Rings that were stopped, by queue.
fn faults(result: &Value) -> Table {
    let mut table = Table::new(&["PORT", "#QUEUE", "RING STOPPED BECAUSE", "#TIMES"]);
    for port in items(result, "ports") {
        for queue in items(port, "queues") {
            for (_, count) in losses(queue, &["faults"]) {
                let reason = "its guest broke the rules".to_owned();
                table.push(vec![cell(&port["name"]), cell(&queue["index"]), reason, cell(count)]);
            }
        }
    }
    table
}

/// `stats --watch`: rates since the sample before; totals if there is none.
pub(crate) fn rates(result: &Value, before: Option<(&Value, f64)>) -> String {
    let Some((old, seconds)) = before else { return statistics(result, false) };
    let mut table = Table::new(&[
        "PORT",
        "#FRAMES IN/S",
        "#MBIT IN/S",
        "#DROPS IN/S",
        "#FRAMES OUT/S",
        "#MBIT OUT/S",
        "#DROPS OUT/S",
    ]);
    for port in items(result, "ports") {
        let was = items(old, "ports").iter().find(|was| was["name"] == port["name"]);
        let rise = |key: &str| {
            let then = was.and_then(|was| was[key].as_u64()).unwrap_or(0);
            // A port that was removed and added again starts at zero.
            port[key].as_u64().unwrap_or(0).saturating_sub(then) as f64 / seconds
        };
        let mut row = vec![cell(&port["name"])];
        row.extend(COUNTERS.iter().map(|key| {
            if key.starts_with("bytes") {
                format!("{:.1}", rise(key) * 8.0 / 1e6)
            } else {
                format!("{:.0}", rise(key))
            }
        }));
        table.push(row);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn drops_are_listed_by_reason_when_there_are_any() {
        let port = json!({"name": "vm1", "frames_in": 3, "drops": {"runt": 2}});

        let text = statistics(&json!({ "ports": [port] }), false);

        assert!(text.contains("vm1     all  runt"), "{text}");
        assert!(!statistics(&json!({"ports": []}), false).contains("DROPPED"));
    }

    #[test]
    fn drops_of_a_queue_are_listed_with_the_queues() {
        let queue = json!({"index": 1, "drops": {"runt": 2}});
        let ports = json!({"ports": [{"name": "vm1", "drops": {"runt": 2}, "queues": [queue]}]});

        assert!(statistics(&ports, true).contains("vm1       1  runt"));
        assert!(!statistics(&ports, false).contains("vm1       1  runt"));
    }

    #[test]
    fn losses_of_interface_and_socket_are_listed_when_there_are_any() {
        let socket = json!({"rx_dropped": 0, "rx_ring_full": 7, "tx_ring_empty": 9});
        let interface = json!({"rx_dropped": 0, "rx_missed": 5});
        let queue = json!({"index": 3, "socket": socket});
        let port = json!({"name": "up", "interface": interface, "queues": [queue]});

        let text = statistics(&json!({ "ports": [port] }), false);

        let rows: Vec<Vec<&str>> =
            text.lines().skip(4).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [
                ["up", "-", "interface", "rx_missed", "5"],
                ["up", "3", "socket", "rx_ring_full", "7"]
            ]
        );
    }

    #[test]
    fn drops_for_removed_ports_are_listed_when_there_are_any() {
        let result = |drops| json!({"ports": [], "removed_ports": {"drops": drops}});

        let text = statistics(&result(json!({"port_removed": 4})), false);

        assert!(text.contains("(removed)      -  port_removed          4"), "{text}");
        assert!(!statistics(&result(json!({})), false).contains("removed"));
    }

    #[test]
    fn rings_that_were_stopped_are_listed_by_queue() {
        let queues = json!([{"index": 0, "faults": 0}, {"index": 1, "faults": 2}]);

        let text = statistics(&json!({"ports": [{"name": "vm1", "queues": queues}]}), false);

        assert!(text.contains("RING STOPPED BECAUSE"), "{text}");
        assert!(
            text.trim_end().ends_with("vm1       1  its guest broke the rules      2"),
            "{text}"
        );
    }

    #[test]
    fn rates_are_rises_over_seconds() {
        let sample = |frames: u64, bytes: u64| json!({"ports": [{"name": "vm1", "frames_in": frames, "bytes_in": bytes}]});

        let text = rates(&sample(300, 2_000_000), Some((&sample(100, 1_000_000), 2.0)));

        let row: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(&row[..3], ["vm1", "100", "4.0"]);
    }
}
