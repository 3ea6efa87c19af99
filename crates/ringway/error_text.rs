//! Errors as one line: an error's own text, then what it was caused by.

use std::error::Error;

/// The error and its sources, separated by colons. A source that repeats its parent's text is
/// left out.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
