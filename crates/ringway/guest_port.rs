//! A guest's port on the control thread: the socket that front ends come to or that is connected
//! to, the session with the one that is there, and the guest's rings.
//!
//! One front end at a time. When it goes, however it goes, its rings stop, its memory is
//! unmapped, and the port waits for the next: by listening, or by connecting again for ever.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Instant;

use datapath::Datapath;
use datapath::frame::PortId;
use vhost_user::{Connector, Listener, Ownership, Session, SessionError, SocketError};

use crate::api::{Refusal, VhostUserStatus};
use crate::error_text::chain;
use crate::guest::Guest;
use crate::poller::{Poller, Token};

/// How front ends are met.
#[derive(Debug)]
enum Door {
    Listening(Listener),
    Connecting(Connector),
}

/// Where a guest's port is: what its methods need of its surroundings.
pub(crate) struct Place<'a> {
    pub(crate) name: &'a str,
    pub(crate) key: u32,
    pub(crate) port: PortId,
    pub(crate) poller: &'a Poller,
    pub(crate) datapath: &'a mut Datapath,
}

/// A guest's port.
#[derive(Debug)]
pub(crate) struct GuestPort {
    door: Door,
    queue_pairs: u16,
    guest: Guest,
    session: Option<Session>,
    awaits_room: bool,
    /// Front ends that have come.
    front_ends: u64,
    /// Why the last attempt to connect failed, as it was logged.
    last_error: Option<String>,
}

impl GuestPort {
    /// Listens at `socket`, or gets ready to connect to it.
    pub(crate) fn open(
        socket: &Path,
        connect: bool,
        queue_pairs: u16,
        ownership: &Ownership,
    ) -> Result<Self, Refusal> {
        let refused = |error: SocketError| Refusal { cause: chain(&error), ..Refusal::default() };
        let door = if connect {
            Door::Connecting(Connector::new(socket).map_err(refused)?)
        } else {
            Door::Listening(Listener::bind(socket, ownership).map_err(refused)?)
        };
        Ok(Self {
            door,
            queue_pairs,
            guest: Guest::new(queue_pairs),
            session: None,
            awaits_room: false,
            front_ends: 0,
            last_error: None,
        })
    }

    /// Watches for front ends.
    pub(crate) fn watch(&self, poller: &Poller, key: u32) -> std::io::Result<()> {
        match &self.door {
            Door::Listening(listener) => poller.watch(listener, Token::PortListener(key)),
            Door::Connecting(_) => Ok(()),
        }
    }

    /// Says whether the switch has to try to connect.
    pub(crate) const fn wants_to_connect(&self) -> bool {
        self.session.is_none() && matches!(self.door, Door::Connecting(_))
    }

    /// Tries to connect if it is time.
    pub(crate) fn connect(&mut self, place: &mut Place<'_>, now: Instant) {
        let Door::Connecting(connector) = &mut self.door else { return };
        if self.session.is_some() || connector.next_attempt().is_some_and(|next| next > now) {
            return;
        }
        match connector.try_connect(now) {
            Some(stream) => self.meet(place, stream),
            None => {
                let error = connector.last_error().map(|error| chain(error));
                if error != self.last_error {
                    let text = error.as_deref().unwrap_or("no connection");
                    log::info!("port {}: {text}; trying again", place.name);
                    self.last_error = error;
                }
            }
        }
    }

    /// Somebody has come to the socket.
    pub(crate) fn accept(&mut self, place: &mut Place<'_>) {
        // The one that is there may have left already, with its end still unread.
        if self.session.is_some() {
            self.serve(place);
        }
        let Door::Listening(listener) = &self.door else { return };
        match listener.accept() {
            Ok(Some(stream)) if self.session.is_none() => self.meet(place, stream),
            Ok(Some(_)) => log::warn!(
                "port {}: a second front end came and was turned away; the first is still there",
                place.name
            ),
            Ok(None) => {}
            Err(error) => log::error!("port {}: accept failed: {error}", place.name),
        }
    }

    fn meet(&mut self, place: &mut Place<'_>, stream: UnixStream) {
        let session = match Session::new(stream) {
            Ok(session) => session,
            Err(error) => {
                log::error!("port {}: cannot serve a front end: {error}", place.name);
                return;
            }
        };
        if let Err(error) = place.poller.watch(&session, Token::Session(place.key)) {
            log::error!("port {}: cannot watch a front end: {error}", place.name);
            return;
        }
        self.front_ends += 1;
        self.last_error = None;
        self.awaits_room = false;
        self.session = Some(session);
        log::info!("port {}: front end connected", place.name);
    }

    /// Carries out what the front end has sent.
    pub(crate) fn serve(&mut self, place: &mut Place<'_>) {
        let Some(session) = &mut self.session else { return };
        let was_up = self.guest.is_up();
        let outcome = session.on_ready(&mut self.guest.attached(place.datapath, place.port));
        if let Some(refusal) = session.take_refusal() {
            log::warn!("port {}: {:?} refused: {}", place.name, refusal.request, refusal.reason);
        }
        match outcome {
            Ok(()) => {
                if session.wants_write() != self.awaits_room {
                    self.awaits_room = !self.awaits_room;
                    let token = Token::Session(place.key);
                    place.poller.await_room(&*session, token, self.awaits_room);
                }
                if was_up != self.guest.is_up() {
                    let state = if was_up { "down" } else { "up" };
                    log::info!("port {}: link {state}", place.name);
                }
            }
            Err(error) => self.part(place, &error),
        }
    }

    /// The front end is gone, or has lost its session.
    fn part(&mut self, place: &mut Place<'_>, error: &SessionError) {
        match error {
            SessionError::Closed => log::info!("port {}: front end disconnected", place.name),
            error => {
                log::warn!("port {}: front end's session closed: {}", place.name, chain(error));
            }
        }
        self.close(place);
    }

    /// Ends the session, stops the rings and unmaps the memory.
    pub(crate) fn close(&mut self, place: &mut Place<'_>) {
        if let Some(session) = self.session.take() {
            place.poller.forget(&session);
        }
        self.guest.attached(place.datapath, place.port).detach();
    }

    /// Stops listening. To be called before the port is dropped.
    pub(crate) fn forget(&self, poller: &Poller) {
        if let Door::Listening(listener) = &self.door {
            poller.forget(listener);
        }
    }

    /// Says whether a driver works the port.
    pub(crate) fn is_up(&self) -> bool {
        self.guest.is_up()
    }

    pub(crate) fn status(&self) -> VhostUserStatus {
        let (path, connect) = match &self.door {
            Door::Listening(listener) => (listener.path(), false),
            Door::Connecting(connector) => (connector.path(), true),
        };
        VhostUserStatus {
            socket: path.display().to_string(),
            connect,
            connected: self.session.is_some(),
            reconnects: self.front_ends.saturating_sub(1),
            queue_pairs: self.queue_pairs,
            rings_running: self.guest.running_rings(),
            rings_enabled: self.guest.enabled_rings(),
            features: self.guest.features().to_string(),
            memory_bytes: self.guest.memory_bytes(),
            mtu: self.guest.mtu(),
            last_error: self.last_error.clone(),
        }
    }
}
