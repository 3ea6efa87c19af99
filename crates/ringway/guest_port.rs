//! A guest's port and its socket: who is connected, and what happens when somebody comes or goes.
//!
//! One front end at a time. A second one that connects while the first lives is turned away; the
//! first is looked at before, so that a QEMU that has gone makes room at once. When a front end
//! goes, its rings stop and its memory is unmapped, and the port waits for the next: that is how a
//! QEMU that restarts comes back.
//!
//! Errors of a session are logged once each; a failing connection attempt once per cause; and
//! all of it within the bounds of [`PortLog`].

mod hand_over;

use std::time::Instant;

use datapath::Datapath;
use datapath::frame::PortId;
use log::Level;
use vhost_user::{Connector, Listener, Session, SessionError};

use crate::guest::Guest;
use crate::poller::{Poller, Token};
use crate::port_log::PortLog;
use crate::port_spec::{Connection, Settings};
use crate::refusal::{Refusal, one_line};

/// Where front ends come from.
#[derive(Debug)]
enum Way {
    /// They connect to us. Not listened to while accepting fails (too many open files).
    Listen { listener: Listener, is_paused: bool },
    /// They listen, we connect.
    Connect(Connector),
}

/// A guest's port.
#[derive(Debug)]
pub(crate) struct GuestPort {
    log: PortLog,
    id: PortId,
    /// What stands for the port in the poller.
    key: u32,
    way: Way,
    session: Option<Session>,
    pub(crate) guest: Guest,
    /// Sessions since the port was added.
    pub(crate) sessions: u64,
    was_up: bool,
    has_logged_refusal: bool,
    last_failure: Option<String>,
}

impl GuestPort {
    /// Makes the port's socket, or its schedule of attempts to connect.
    ///
    /// # Errors
    ///
    /// A [`Refusal`]; nothing is left behind.
    pub(crate) fn open(
        name: &str,
        id: PortId,
        key: u32,
        settings: &Settings,
        poller: &Poller,
    ) -> Result<Self, Refusal> {
        let Connection::VhostUser { socket, connect, ownership, queue_pairs } =
            &settings.connection
        else {
            return Err(Refusal::new("the port is no vhost-user port"));
        };
        let refused = |error: vhost_user::SocketError| Refusal::caused_by(&error);
        let way = if *connect {
            Way::Connect(Connector::new(socket).map_err(refused)?)
        } else {
            let listener = Listener::bind(socket, ownership).map_err(refused)?;
            let added = poller.add(listener.as_fd(), Token::Listener(key));
            added.map_err(|error| Refusal::caused_by(&error))?;
            Way::Listen { listener, is_paused: false }
        };
        let guest = Guest::new(*queue_pairs, settings.traits);
        Ok(Self::new(name, id, key, way, guest))
    }

    fn new(name: &str, id: PortId, key: u32, way: Way, guest: Guest) -> Self {
        Self {
            log: PortLog::new(name),
            id,
            key,
            way,
            session: None,
            guest,
            sessions: 0,
            was_up: false,
            has_logged_refusal: false,
            last_failure: None,
        }
    }

    /// Says whether a front end is connected.
    pub(crate) const fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    /// When the next attempt to connect is due, if one is.
    pub(crate) fn next_attempt(&self, now: Instant) -> Option<Instant> {
        match (&self.way, &self.session) {
            (Way::Connect(connector), None) => Some(connector.next_attempt().unwrap_or(now)),
            (Way::Connect(_) | Way::Listen { .. }, _) => None,
        }
    }

    /// Tries to connect, if that is due.
    pub(crate) fn connect(&mut self, now: Instant, poller: &Poller) {
        let Way::Connect(connector) = &mut self.way else { return };
        if self.session.is_some() {
            return;
        }
        match connector.try_connect(now) {
            Some(stream) => {
                self.last_failure = None;
                self.begin(stream, poller);
            }
            None => {
                let failure = connector.last_error().map(|error| one_line(error));
                if failure.is_some() && failure != self.last_failure {
                    let text = failure.as_deref().unwrap_or_default();
                    let line = format_args!("{text}; trying again until it answers");
                    self.log.write(Level::Info, line);
                    self.last_failure = failure;
                }
            }
        }
    }

    /// Listens again after accepting failed.
    pub(crate) fn resume(&mut self, poller: &Poller) {
        if let Way::Listen { listener, is_paused } = &mut self.way
            && *is_paused
        {
            *is_paused = poller.add(listener.as_fd(), Token::Listener(self.key)).is_err();
        }
    }

    /// A front end wants to connect.
    pub(crate) fn accept(&mut self, datapath: &mut Datapath, poller: &Poller) {
        // If the old front end is gone, this is where it shows.
        self.converse(datapath, poller);
        let Way::Listen { listener, is_paused } = &mut self.way else { return };
        match listener.accept() {
            Ok(Some(stream)) if self.session.is_none() => self.begin(stream, poller),
            Ok(Some(_)) => {
                let line = "turned a second front end away; the first is still connected";
                self.log.write(Level::Warn, line);
            }
            Ok(None) => {}
            Err(error) => {
                let line = format_args!("cannot accept a front end: {error}; trying again");
                self.log.write(Level::Error, line);
                poller.remove(listener.as_fd());
                *is_paused = true;
            }
        }
    }

    fn begin(&mut self, stream: std::os::unix::net::UnixStream, poller: &Poller) {
        let session = Session::new(stream).and_then(|session| {
            poller.add(session.as_fd(), Token::Session(self.key))?;
            Ok(session)
        });
        match session {
            Ok(session) => {
                self.log.write(Level::Info, "front end connected");
                self.session = Some(session);
                self.sessions += 1;
                self.has_logged_refusal = false;
            }
            Err(error) => {
                self.log.write(Level::Error, format_args!("cannot serve a front end: {error}"));
            }
        }
    }

    /// Carries out what the front end asks.
    pub(crate) fn converse(&mut self, datapath: &mut Datapath, poller: &Poller) {
        let Some(session) = &mut self.session else { return };
        let outcome = session.on_ready(&mut self.guest.attached(datapath, self.id));
        if let Some(refusal) = session.take_refusal()
            && !std::mem::replace(&mut self.has_logged_refusal, true)
        {
            self.log.write(Level::Warn, refusal);
        }
        if let Some(complaint) = self.guest.take_complaint() {
            self.log.write(Level::Warn, complaint);
        }
        let outcome = outcome.map(|()| {
            let token = Token::Session(self.key);
            poller.set_interest(session.as_fd(), token, true, session.wants_write())
        });
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                let line = format_args!("cannot wait for the front end: {error}");
                self.log.write(Level::Error, line);
                self.end(datapath);
            }
            Err(SessionError::Closed) => {
                self.log.write(Level::Info, "front end disconnected");
                self.end(datapath);
            }
            Err(error) => {
                let cause = one_line(&error);
                self.log.write(Level::Warn, format_args!("session ended: {cause}"));
                self.end(datapath);
            }
        }
        self.note_state();
    }

    /// Has the poller wait for commands on a control queue that has just started.
    pub(crate) fn watch_control(&mut self, poller: &Poller) {
        if let Some(kicks) = self.guest.watch_control()
            && let Err(error) = poller.add(kicks, Token::Commands(self.key))
        {
            let line = format_args!("cannot wait for commands on the control queue: {error}");
            self.log.write(Level::Error, line);
        }
    }

    /// Forgets the front end and all it gave. The socket closes last: whoever sees it closed may use
    /// the rings' memory for something else, or read in them where they stand.
    fn end(&mut self, datapath: &mut Datapath) {
        self.guest.attached(datapath, self.id).detach();
        self.session = None;
        if self.guest.offers_again() {
            let line = "the front end left an offer without offloads: its guest may have some, so \
                        that they are on offer when it comes back";
            self.log.write(Level::Info, line);
        }
    }

    /// Logs when the port has come up or gone down.
    fn note_state(&mut self) {
        let is_up = self.guest.is_up();
        if is_up != self.was_up {
            self.was_up = is_up;
            if is_up {
                let (features, rings) = (self.guest.features(), self.guest.running_rings());
                let line = format_args!("up, {rings} rings, features {features}");
                self.log.write(Level::Info, line);
            } else {
                self.log.write(Level::Info, "down");
            }
        }
    }
}
