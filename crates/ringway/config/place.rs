//! Where in a TOML file a key stands, for messages.
//!
//! The parser tells an offset for mistakes of form; mistakes of sense are found in values that
//! have lost their place. Both are put back by a walk through the parsed document, which has the
//! span of every key and value. It runs only when there is something to complain about.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One step on the way to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// In a table.
    Name(&'static str),
    /// In an array, counted from 0.
    Place(usize),
}

impl Key {
    /// The path as people write it: `port[2].vlan.access`, counted from 1.
    pub(crate) fn join(path: &[Self]) -> String {
        let mut text = String::new();
        for key in path {
            match key {
                Self::Name(name) => {
                    push_name(&mut text, name);
                }
                Self::Place(place) => push_place(&mut text, *place),
            }
        }
        text
    }
}

fn push_name(text: &mut String, name: &str) {
    if !text.is_empty() {
        text.push('.');
    }
    text.push_str(name);
}

fn push_place(text: &mut String, place: usize) {
    text.push_str(&format!("[{}]", place + 1));
}

/// The line of an offset, counted from 1.
pub(crate) fn line_of_offset(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().iter().take(offset);
    1 + before.filter(|&&byte| byte == b'\n').count()
}

/// The line of a key, or of the nearest part of its path that is there.
pub(crate) fn line_of(text: &str, path: &[Key]) -> usize {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut offset = 0;
    let mut table = Some(table.get_ref());
    let mut array = None;
    for key in path {
        let value: Option<&Spanned<DeValue<'_>>> = match key {
            Key::Name(name) => table
                .and_then(|table| table.iter().find(|(key, _)| key.get_ref() == name))
                .map(|(key, value)| {
                    offset = key.span().start;
                    value
                }),
            Key::Place(place) => array.and_then(|array: &toml::de::DeArray<'_>| array.get(*place)),
        };
        let Some(value) = value else { break };
        if matches!(key, Key::Place(_)) {
            offset = value.span().start;
        }
        table = value.get_ref().as_table();
        array = value.get_ref().as_array();
    }
    line_of_offset(text, offset)
}

/// The path of the innermost key that the offset lies in, or `syntax`.
pub(crate) fn key_at(text: &str, offset: usize) -> String {
    let (table, _) = DeTable::parse_recoverable(text);
    let mut path = String::new();
    descend(table.get_ref(), offset, &mut path);
    if path.is_empty() { "syntax".to_owned() } else { path }
}

/// Tables that are written with a header span the header alone, so all of them are looked through.
fn descend(table: &DeTable<'_>, offset: usize, path: &mut String) -> bool {
    for (key, value) in table {
        let length = path.len();
        push_name(path, key.get_ref());
        if holds(&key.span(), offset) || descend_value(value, offset, path) {
            return true;
        }
        path.truncate(length);
    }
    false
}

fn descend_value(value: &Spanned<DeValue<'_>>, offset: usize, path: &mut String) -> bool {
    if let Some(table) = value.get_ref().as_table()
        && descend(table, offset, path)
    {
        return true;
    }
    if let Some(array) = value.get_ref().as_array() {
        for (place, value) in array.iter().enumerate() {
            let length = path.len();
            push_place(path, place);
            if descend_value(value, offset, path) {
                return true;
            }
            path.truncate(length);
        }
    }
    holds(&value.span(), offset)
}

fn holds(span: &Range<usize>, offset: usize) -> bool {
    span.contains(&offset)
}
