//! The control socket's connections: lines in, lines out, nobody waits for anybody.
//!
//! All sockets are non-blocking. A client that sends half a line keeps it in its own buffer; one
//! that does not read its answers keeps them there, up to a bound, and is then cut off.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::sockopt::socket_peercred;
use rustix::process::{geteuid, getgid};
use serde_json::Value;
use vhost_user::{Listener, Ownership, SocketError};

use crate::api::{Greeting, PROTOCOL};
use crate::control::protocol::{RpcError, answer_line};
use crate::poller::{Poller, Token};

/// Longest line: a thousand ports in one batch fit many times.
const LINE_BYTES: usize = 1 << 20;

/// Most bytes of answers that a client may leave unread.
const UNREAD_BYTES: usize = 8 << 20;

/// Most connections at a time.
const MAX_CLIENTS: usize = 64;

/// The control socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServerError {
    #[error("control socket {path}: cannot make its directory (choose another with --control)")]
    Directory { path: PathBuf, source: io::Error },
    #[error("control socket")]
    Bind(#[from] SocketError),
    #[error("control socket {path}: cannot watch it")]
    Watch { path: PathBuf, source: io::Error },
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    unparsed: Vec<u8>,
    unsent: Vec<u8>,
    awaits_room: bool,
}

/// The control socket and its clients.
#[derive(Debug)]
pub(crate) struct Server {
    listener: Listener,
    clients: HashMap<u32, Client>,
    next_key: u32,
}

impl Server {
    /// Listens at `path`, mode 0660. A missing directory is made, such as `/run/ringway`.
    pub(crate) fn bind(path: &Path, poller: &Poller) -> Result<Self, ServerError> {
        if let Some(directory) = path.parent().filter(|parent| !parent.exists()) {
            let path = path.to_owned();
            std::fs::create_dir_all(directory)
                .map_err(|source| ServerError::Directory { path, source })?;
        }
        let ownership = Ownership { mode: Some(0o660), ..Ownership::default() };
        let listener = Listener::bind(path, &ownership)?;
        let path = path.to_owned();
        poller
            .watch(&listener, Token::ControlListener)
            .map_err(|source| ServerError::Watch { path, source })?;
        Ok(Self { listener, clients: HashMap::new(), next_key: 0 })
    }

    /// Greets whoever has connected.
    pub(crate) fn accept(&mut self, poller: &Poller) {
        let stream = match self.listener.accept() {
            Ok(Some(stream)) => stream,
            Ok(None) => return,
            Err(error) => {
                log::error!("control socket: accept failed: {error}");
                return;
            }
        };
        if let Err(reason) = self.admit(&stream) {
            log::warn!("control socket: a connection was turned away: {reason}");
            return;
        }
        let key = self.next_key;
        self.next_key = self.next_key.wrapping_add(1);
        let watched = stream
            .set_nonblocking(true)
            .and_then(|()| poller.watch(&stream, Token::Client(key)));
        if let Err(error) = watched {
            log::error!("control socket: cannot serve a connection: {error}");
            return;
        }
        let (unparsed, unsent) = (Vec::new(), Vec::new());
        let mut client = Client { stream, unparsed, unsent, awaits_room: false };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let greeting = Greeting { ringway: version, protocol: PROTOCOL };
        client.queue(&serde_json::to_value(greeting).unwrap_or(Value::Null));
        if client.send(poller, key) {
            self.clients.insert(key, client);
        }
    }

    /// Checks who is at the other end: root, the user that runs the switch, or a member of the
    /// socket's group.
    fn admit(&self, stream: &UnixStream) -> Result<(), String> {
        if self.clients.len() >= MAX_CLIENTS {
            return Err(format!("{MAX_CLIENTS} are there already"));
        }
        let peer = socket_peercred(stream).map_err(|error| error.to_string())?;
        if peer.uid.is_root() || peer.uid == geteuid() {
            return Ok(());
        }
        let group = std::fs::metadata(self.listener.path())
            .map_or_else(|_| getgid().as_raw(), |file| file.gid());
        let process = peer.pid.as_raw_nonzero();
        if peer.gid.as_raw() == group || groups_of(process.get()).contains(&group) {
            return Ok(());
        }
        Err(format!("user {} is neither root nor in group {group}", peer.uid.as_raw()))
    }

    /// Serves a client that has sent something or has room again.
    pub(crate) fn serve(
        &mut self,
        key: u32,
        poller: &Poller,
        mut carry_out: impl FnMut(&str, Option<Value>) -> Result<Value, RpcError>,
    ) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let is_open = client.receive(&mut carry_out);
        // What was asked before the client closed its end is answered still.
        let is_sent = client.send(poller, key);
        if !is_open || !is_sent {
            self.clients.remove(&key);
        }
    }
}

/// The groups of a process, its supplementary ones included. None if it is gone.
fn groups_of(process: i32) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

impl Client {
    /// Reads what is there, once, and answers all complete lines. False if the client is gone or
    /// broke a limit.
    fn receive(
        &mut self,
        carry_out: &mut impl FnMut(&str, Option<Value>) -> Result<Value, RpcError>,
    ) -> bool {
        let mut buffer = [0; 64 << 10];
        let count = match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(count) => count,
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                );
            }
        };
        self.unparsed.extend_from_slice(&buffer[..count]);
        let mut start = 0;
        while let Some(length) = self.unparsed[start..].iter().position(|&byte| byte == b'\n') {
            let line = self.unparsed[start..start + length].trim_ascii();
            let answer = if line.is_empty() { None } else { answer_line(line, &mut *carry_out) };
            if let Some(answer) = answer {
                self.queue(&answer);
            }
            start += length + 1;
        }
        self.unparsed.drain(..start);
        self.unparsed.len() <= LINE_BYTES && self.unsent.len() <= UNREAD_BYTES
    }

    fn queue(&mut self, message: &Value) {
        self.unsent.extend_from_slice(message.to_string().as_bytes());
        self.unsent.push(b'\n');
    }

    /// Sends what the socket takes. False if the client is gone.
    fn send(&mut self, poller: &Poller, key: u32) -> bool {
        let mut sent = 0;
        let is_open = loop {
            match self.stream.write(&self.unsent[sent..]) {
                Ok(0) => break true,
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break error.kind() == io::ErrorKind::WouldBlock,
            }
        };
        self.unsent.drain(..sent);
        let awaits_room = !self.unsent.is_empty();
        if is_open && awaits_room != self.awaits_room {
            self.awaits_room = awaits_room;
            poller.await_room(&self.stream, Token::Client(key), awaits_room);
        }
        is_open
    }
}
