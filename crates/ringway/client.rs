//! The other end of the control socket: one request, one answer.
//!
//! Every wait is bounded, so that a daemon that hangs makes a command fail and not hang with it.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::refusal::Refusal;

/// How long the daemon may take. Removing a port waits for frames on their way, which takes
/// microseconds; opening an interface takes what its driver takes, a second or two.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to the daemon.
#[derive(Debug)]
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
    next_id: u64,
}

impl Client {
    /// Connects and reads the greeting.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] that says whether nobody listens, or access is denied.
    pub(crate) fn connect(socket: &Path) -> Result<Self, Refusal> {
        let place = socket.display();
        let failed = |error: &io::Error| {
            let hint = match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                    "is ringway run running? --control or RINGWAY_CONTROL names another socket"
                }
                io::ErrorKind::PermissionDenied => "become root or a member of the socket's group",
                _ => "see the daemon's log",
            };
            Refusal::new(format!("control socket {place}: {error}")).hint(hint)
        };
        let stream = UnixStream::connect(socket).map_err(|error| failed(&error))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(|error| failed(&error))?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(|error| failed(&error))?;
        let mut client = Self { stream: BufReader::new(stream), next_id: 1 };
        let greeting = client.read_line().map_err(|error| failed(&error))?;
        if greeting.get("protocol") != Some(&json!(1)) {
            return Err(Refusal::new(format!("control socket {place}: no ringway answers there"))
                .hint("it speaks another protocol; use the ringway that belongs to the daemon"));
        }
        Ok(client)
    }

    /// Has a method carried out.
    ///
    /// # Errors
    ///
    /// What the daemon refused, or that the connection broke.
    pub(crate) fn call(&mut self, method: &str, params: Value) -> Result<Value, Refusal> {
        let id = self.next_id;
        self.next_id += 1;
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
        let lost = |error: io::Error| {
            Refusal::new(format!("the daemon does not answer {method}: {error}"))
                .hint("see its log")
        };
        let line = format!("{request}\n");
        self.stream.get_mut().write_all(line.as_bytes()).map_err(lost)?;
        let mut answer = self.read_line().map_err(lost)?;
        match answer.get_mut("error") {
            Some(error) => Err(refusal(error)),
            None => Ok(answer["result"].take()),
        }
    }

    fn read_line(&mut self) -> io::Result<Value> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            let text = "the connection was closed";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        serde_json::from_str(&line).map_err(io::Error::from)
    }
}

/// An error object as the refusal it was made of.
fn refusal(error: &Value) -> Refusal {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let data = &error["data"];
    let cause = text(&data["cause"]).or_else(|| text(&error["message"]));
    Refusal {
        port: text(&data["port"]),
        cause: cause.unwrap_or_else(|| error.to_string()),
        hint: text(&data["hint"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_survives_its_way_over_the_socket() {
        let error =
            json!({"code": 1, "message": "m", "data": {"port": "a", "cause": "c", "hint": null}});

        assert_eq!(refusal(&error), Refusal::new("c").about("a"));
        assert_eq!(refusal(&json!({"code": -32601, "message": "m"})), Refusal::new("m"));
    }

    #[test]
    fn nobody_there_is_said_with_the_way_out() {
        let refusal = Client::connect(Path::new("/nonexistent/control.sock")).unwrap_err();

        assert!(refusal.to_string().contains("is ringway run running?"), "{refusal}");
    }
}
