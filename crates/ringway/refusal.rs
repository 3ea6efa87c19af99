//! A "no" to an operator: what it is about, why, and the way out. One line.
//!
//! Everything that can be refused over the control socket or at start ends in a [`Refusal`], and
//! reaches people as `port vm1: cause (hint)` and programs as the three parts.

use std::error::Error;
use std::fmt;

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The port it is about, if it is about one.
    pub(crate) port: Option<String>,
    /// What was wrong, on one line.
    pub(crate) cause: String,
    /// The way out, if the cause does not say it already.
    pub(crate) hint: Option<String>,
}

impl Refusal {
    /// A refusal that is about no port.
    pub(crate) fn new(cause: impl Into<String>) -> Self {
        Self { port: None, cause: cause.into(), hint: None }
    }

    /// A refusal with an error and its sources as the cause.
    pub(crate) fn caused_by(error: &dyn Error) -> Self {
        Self::new(one_line(error))
    }

    /// The same, about a port.
    pub(crate) fn about(mut self, port: &str) -> Self {
        self.port = Some(port.to_owned());
        self
    }

    /// The same, with a way out.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(port) = &self.port {
            write!(formatter, "port {port}: ")?;
        }
        formatter.write_str(&self.cause)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(formatter, " ({hint})"))
    }
}

impl Error for Refusal {}

/// An error with everything that caused it, on one line.
pub(crate) fn one_line(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_names_port_cause_and_way_out_on_one_line() {
        let refusal = Refusal::new("there is no such port").about("vm9").hint("see port list");

        assert_eq!(refusal.to_string(), "port vm9: there is no such port (see port list)");
    }
}
