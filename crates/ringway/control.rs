//! The control socket: who may use it, and lines in and out.
//!
//! Nobody waits for anybody. Sockets are non-blocking; half a line is kept until the rest comes;
//! answers wait in the client's own buffer until it reads. While more than a bound waits there,
//! that client's next requests are left unread, so a client that only writes costs a bounded
//! amount of memory, and one whose answers nobody reads for half a minute is cut off.
//!
//! Root, the daemon's own user and the socket's group may use it. The file's mode says so to the
//! kernel; the peer's credentials (SO_PEERCRED) are looked at as well.

pub(crate) mod client_connection;
pub(crate) mod methods;
mod parameters;
pub(crate) mod protocol;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use nix::unistd::{Gid, Group, Uid, User};
use vhost_user::{Listener, Ownership};

use crate::hand_over::{Arrived, Lent, ListenerState};
use crate::poller::{Poller, Token};
use crate::refusal::Refusal;
use crate::switch::Switch;
use client_connection::ClientConnection;

/// Most clients at a time; a further one is turned away.
const CLIENTS_MAX: usize = 256;

/// Permissions of the control socket: owner and group.
const MODE: u32 = 0o660;

/// The control socket and its clients.
#[derive(Debug)]
pub(crate) struct ControlServer {
    listener: Listener,
    is_paused: bool,
    /// The group of the socket's file.
    group: u32,
    clients: BTreeMap<u32, ClientConnection>,
    next_client: u32,
    poller: Rc<Poller>,
}

impl ControlServer {
    /// Listens at `path`. A missing directory is made, one level.
    ///
    /// # Errors
    ///
    /// A [`Refusal`], above all if another daemon listens there.
    pub(crate) fn bind(path: &Path, poller: Rc<Poller>) -> Result<Self, Refusal> {
        if let Some(parent) = path.parent()
            && !parent.as_os_str().is_empty()
            && !parent.exists()
            && fs::create_dir(parent).is_ok()
        {
            log::info!("made the directory {}", parent.display());
        }
        let ownership = Ownership { mode: Some(MODE), ..Ownership::default() };
        let refused = |error: &dyn std::error::Error| {
            let mut refusal = Refusal::caused_by(error);
            refusal.cause = format!("control socket: {}", refusal.cause);
            refusal
        };
        let listener = Listener::bind(path, &ownership).map_err(|error| refused(&error))?;
        Self::with_listener(listener, poller).map_err(|error| refused(&error))
    }

    fn with_listener(listener: Listener, poller: Rc<Poller>) -> io::Result<Self> {
        let group = fs::metadata(listener.path())?.gid();
        poller.add(listener.as_fd(), Token::Control)?;
        let clients = BTreeMap::new();
        Ok(Self { listener, is_paused: false, group, clients, next_client: 0, poller })
    }

    /// Goes on with the control socket of another switch.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if its file is gone.
    pub(crate) fn adopt(
        state: ListenerState,
        arrived: &mut Arrived,
        poller: Rc<Poller>,
    ) -> Result<Self, Refusal> {
        let listener = state.adopt(arrived)?;
        Self::with_listener(listener, poller)
            .map_err(|error| Refusal::new(format!("control socket: {error}")))
    }

    /// The socket, for another switch.
    pub(crate) fn describe<'a>(&'a self, lent: &mut Lent<'a>) -> ListenerState {
        ListenerState::of(&self.listener, lent)
    }

    /// Says whether the socket's file goes with this.
    pub(crate) fn own_socket(&mut self, owned: bool) {
        self.listener.own_file(owned);
    }

    /// Says whether a client may have everything: the memory of all guests.
    pub(crate) fn trusts(client: &UnixStream) -> bool {
        let daemon = rustix::process::geteuid();
        rustix::net::sockopt::socket_peercred(client)
            .is_ok_and(|peer| peer.uid.is_root() || peer.uid == daemon)
    }

    /// A client wants to connect.
    pub(crate) fn accept(&mut self) {
        match self.listener.accept() {
            Ok(Some(stream)) => {
                if let Err(error) = self.admit(stream) {
                    log::warn!("control socket: cannot serve a client: {error}");
                }
            }
            Ok(None) => {}
            Err(error) => {
                log::error!("control socket: cannot accept a client: {error}; trying again");
                self.poller.remove(self.listener.as_fd());
                self.is_paused = true;
            }
        }
    }

    fn admit(&mut self, stream: UnixStream) -> io::Result<()> {
        let peer = rustix::net::sockopt::socket_peercred(&stream)?;
        let (user, group) = (peer.uid.as_raw(), peer.gid.as_raw());
        if !is_allowed(user, group, self.group) {
            log::warn!("control socket: turned away user {user}, who is not in its group");
            return Ok(());
        }
        if self.clients.len() >= CLIENTS_MAX {
            log::warn!("control socket: turned a client away, there are {CLIENTS_MAX} already");
            return Ok(());
        }
        stream.set_nonblocking(true)?;
        let key = self.next_client;
        self.next_client = key.wrapping_add(1);
        self.poller.add(&stream, Token::Client(key))?;
        let mut client = ClientConnection::new(stream);
        client.greet();
        self.clients.insert(key, client);
        self.settle(key);
        Ok(())
    }

    /// A client has sent something, or reads again. Returns its connection if it has asked for
    /// everything.
    pub(crate) fn serve(&mut self, key: u32, switch: &mut Switch) -> Option<UnixStream> {
        let client = self.clients.get_mut(&key)?;
        client.serve(|line| protocol::answer(line, switch));
        if switch.take_wanted() {
            let stream = self.clients.remove(&key)?.into_stream();
            self.poller.remove(&stream);
            return Some(stream);
        }
        self.settle(key);
        None
    }

    /// Waits for what the client is waited for, or closes the connection.
    fn settle(&mut self, key: u32) {
        let Some(client) = self.clients.get_mut(&key) else { return };
        let interest = client.interest();
        let is_over = interest.is_none_or(|(reads, writes)| {
            let (stream, token) = (client.stream(), Token::Client(key));
            self.poller.set_interest(stream, token, reads, writes).is_err()
        });
        if is_over {
            self.clients.remove(&key);
        }
    }

    /// What is to be done once a second: clients that do not read are cut off.
    pub(crate) fn tick(&mut self) {
        let now = Instant::now();
        self.clients.retain(|_, client| {
            let is_stuck = client.is_stuck(now);
            if is_stuck {
                log::warn!("control socket: cut off a client that does not read its answers");
            }
            !is_stuck
        });
        if self.is_paused {
            self.is_paused = self.poller.add(self.listener.as_fd(), Token::Control).is_err();
        }
    }
}

/// Says whether a user may use a socket of this group.
fn is_allowed(user: u32, group: u32, socket_group: u32) -> bool {
    let daemon = rustix::process::geteuid().as_raw();
    user == 0 || user == daemon || group == socket_group || is_member(user, socket_group)
}

/// Says whether the group data base has the user in the group.
fn is_member(user: u32, group: u32) -> bool {
    let user = User::from_uid(Uid::from_raw(user)).ok().flatten();
    let group = Group::from_gid(Gid::from_raw(group)).ok().flatten();
    user.zip(group).is_some_and(|(user, group)| group.mem.contains(&user.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_the_daemons_user_and_the_sockets_group_are_allowed() {
        let daemon = rustix::process::geteuid().as_raw();

        assert!(is_allowed(0, 0, 77));
        assert!(is_allowed(daemon, 12, 77));
        assert!(is_allowed(4_000_000_001, 77, 77));
        assert!(!is_allowed(4_000_000_001, 4_000_000_001, 4_000_000_002));
    }
}
