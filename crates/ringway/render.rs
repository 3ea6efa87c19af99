//! Answers of the daemon as people read them: aligned columns.
//!
//! Text is aligned to the left, numbers to the right. What is unknown or does not apply is `-`.

mod statistics;

use serde_json::Value;

pub(crate) use statistics::{rates, statistics};

/// A table that is laid out when it is complete.
struct Table {
    rows: Vec<Vec<String>>,
    /// Which columns hold numbers.
    is_number: Vec<bool>,
}

impl Table {
    /// A table with these headings; those of numbers begin with `#`.
    fn new(headings: &[&str]) -> Self {
        let is_number = headings.iter().map(|heading| heading.starts_with('#')).collect();
        let headings = headings.iter().map(|heading| heading.trim_start_matches('#').to_owned());
        Self { rows: vec![headings.collect()], is_number }
    }

    fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    fn render(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.is_number.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for ((cell, &width), &is_number) in row.iter().zip(&widths).zip(&self.is_number) {
                let padding = " ".repeat(width.saturating_sub(cell.chars().count()));
                let (before, after) =
                    if is_number { (padding, String::new()) } else { (String::new(), padding) };
                line.push_str(&format!("{before}{cell}{after}  "));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// A value as a cell.
fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}

fn items<'a>(result: &'a Value, key: &str) -> &'a [Value] {
    result[key].as_array().map_or(&[], Vec::as_slice)
}

/// A table with a row for each item of `result[key]`, made of these fields.
fn listing(result: &Value, key: &str, columns: &[(&str, &str)]) -> String {
    let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
    let mut table = Table::new(&headings);
    for item in items(result, key) {
        table.push(columns.iter().map(|(_, field)| cell(&item[*field])).collect());
    }
    table.render()
}

/// `port list`.
pub(crate) fn ports(result: &Value) -> String {
    let columns = [
        ("NAME", "name"),
        ("TYPE", "type"),
        ("STATE", "state"),
        ("VLAN", "vlan"),
        ("#ADDRESSES", "addresses"),
        ("AT", "at"),
    ];
    listing(result, "ports", &columns)
}

/// `port show`: a line for each thing that is known.
pub(crate) fn port(result: &Value) -> String {
    let mut table = Table::new(&["", ""]);
    table.rows.clear();
    let fields = result.as_object().into_iter().flatten();
    for (name, value) in fields {
        match value {
            // The parts of the configuration are shown above already.
            Value::Object(_) if name == "configuration" => {}
            Value::Object(parts) => {
                for (part, value) in parts {
                    table.push(vec![format!("{name} {part}").replace('_', " "), cell(value)]);
                }
            }
            _ => table.push(vec![name.replace('_', " "), cell(value)]),
        }
    }
    table.render()
}

/// `fdb list`.
pub(crate) fn addresses(result: &Value) -> String {
    let columns = [
        ("#VLAN", "vlan"),
        ("MAC", "mac"),
        ("PORT", "port"),
        ("STATIC", "static"),
        ("#AGE", "age_seconds"),
    ];
    listing(result, "entries", &columns)
}

/// `threads`.
pub(crate) fn threads(result: &Value) -> String {
    let mut table = Table::new(&[
        "#THREAD",
        "#CORE",
        "#QUEUES",
        "#FRAMES/S",
        "#BUSY",
        "#CYCLES/FRAME",
        "#FRAMES/BURST",
    ]);
    for thread in items(result, "threads") {
        let number = |key: &str, digits: usize| {
            thread[key]
                .as_f64()
                .map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
        };
        let busy = thread["busy_share"].as_f64();
        let busy = busy.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0));
        table.push(vec![
            cell(&thread["thread"]),
            cell(&thread["core"]),
            cell(&thread["queues"]),
            number("frames_per_second", 0),
            busy,
            number("cycles_per_frame", 0),
            number("frames_per_burst", 1),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let result = json!({"entries": [
            {"vlan": 1, "mac": "52:54:00:00:00:01", "port": "vm1", "static": false, "age_seconds": 12},
            {"vlan": 4094, "mac": "52:54:00:00:00:02", "port": "uplink", "static": true, "age_seconds": null},
        ]});

        let text = addresses(&result);

        assert_eq!(
            text,
            "VLAN  MAC                PORT    STATIC  AGE\n   \
             1  52:54:00:00:00:01  vm1     no       12\n\
             4094  52:54:00:00:00:02  uplink  yes       -\n"
        );
    }

    #[test]
    fn thread_that_moved_nothing_shows_dashes() {
        let text =
            threads(&json!({"threads": [{"thread": 0, "core": 1, "cycles_per_frame": null}]}));

        assert!(text.lines().nth(1).unwrap().contains('-'));
    }
}
