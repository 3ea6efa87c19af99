//! A guest's port on its way from one switch to another: its socket and its session.

use std::os::fd::BorrowedFd;

use datapath::frame::PortId;
use vhost_user::{Connector, Listener, Session};

use super::{GuestPort, Way};
use crate::guest::Guest;
use crate::hand_over::{Arrived, GuestPortState, Lent, ListenerState, SessionState};
use crate::poller::{Poller, Token};
use crate::port_spec::{Connection, Settings};
use crate::refusal::Refusal;

impl GuestPort {
    /// All there is of it.
    pub(crate) fn describe<'a>(&'a self, port: &str, lent: &mut Lent<'a>) -> GuestPortState {
        let listener = match &self.way {
            Way::Listen { listener, .. } => Some(ListenerState::of(listener, lent)),
            Way::Connect(_) => None,
        };
        let session = self.session.as_ref().map(|session| {
            let state = session.state();
            let mut add = |descriptor: BorrowedFd<'a>| lent.add(descriptor);
            SessionState {
                descriptor: add(state.socket),
                is_owned: state.is_owned,
                protocol_features: state.protocol_features,
                channel: state.channel.map(&mut add),
                unfinished: state.unfinished,
                unfinished_descriptors: state.descriptors.into_iter().map(add).collect(),
                unsent: state.unsent,
            }
        });
        let (port, sessions) = (port.to_owned(), self.sessions);
        GuestPortState { port, listener, session, sessions, guest: self.guest.describe(lent) }
    }

    /// Goes on with a port of another switch. No ring starts, and its socket's file is not its own
    /// yet.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if the state does not fit the settings, or the system refuses something.
    pub(crate) fn adopt(
        (name, id, key): (&str, PortId, u32),
        settings: &Settings,
        poller: &Poller,
        state: GuestPortState,
        arrived: &mut Arrived,
    ) -> Result<Self, Refusal> {
        let Connection::VhostUser { socket, queue_pairs, .. } = &settings.connection else {
            return Err(Refusal::new("the port is no vhost-user port"));
        };
        let failed = |error: std::io::Error| Refusal::caused_by(&error);
        let way = match state.listener {
            Some(state) => {
                let listener = state.adopt(arrived)?;
                poller.add(listener.as_fd(), Token::Listener(key)).map_err(failed)?;
                Way::Listen { listener, is_paused: false }
            }
            None => {
                Way::Connect(Connector::new(socket).map_err(|error| Refusal::caused_by(&error))?)
            }
        };
        let guest = Guest::new(*queue_pairs, settings.traits);
        let mut port = Self::new(name, id, key, way, guest);
        port.guest.adopt(state.guest, arrived)?;
        port.sessions = state.sessions;
        if let Some(state) = state.session {
            let session = Session::go_on(state.adopt(arrived)?);
            let session = session.map_err(|error| Refusal::caused_by(&error))?;
            poller.add(session.as_fd(), Token::Session(key)).map_err(failed)?;
            let wants_write = session.wants_write();
            let token = Token::Session(key);
            poller.set_interest(session.as_fd(), token, true, wants_write).map_err(failed)?;
            port.session = Some(session);
        }
        Ok(port)
    }

    /// Says whether the socket's file goes with this.
    pub(crate) fn own_socket(&mut self, owned: bool) {
        if let Way::Listen { listener, .. } = &mut self.way {
            listener.own_file(owned);
        }
    }

    /// Notes that rings were started or stopped other than by the front end.
    pub(crate) fn settle(&mut self) {
        self.note_state();
    }
}

impl ListenerState {
    /// A listener, for another process.
    pub(crate) fn of<'a>(listener: &'a Listener, lent: &mut Lent<'a>) -> Self {
        let path = listener.path();
        Self {
            descriptor: lent.add(listener.as_fd()),
            // The other process may run in another directory.
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            identity: listener.identity(),
        }
    }

    /// The listener of another process.
    pub(crate) fn adopt(self, arrived: &mut Arrived) -> Result<Listener, Refusal> {
        Ok(Listener::adopt(arrived.take(self.descriptor)?, &self.path, self.identity))
    }
}

impl SessionState {
    fn adopt(
        self,
        arrived: &mut Arrived,
    ) -> Result<vhost_user::SessionState<std::os::fd::OwnedFd>, Refusal> {
        let places = self.unfinished_descriptors.into_iter();
        let descriptors = places.map(|place| arrived.take(place)).collect::<Result<_, _>>()?;
        Ok(vhost_user::SessionState {
            socket: arrived.take(self.descriptor)?,
            is_owned: self.is_owned,
            protocol_features: self.protocol_features,
            channel: self.channel.map(|place| arrived.take(place)).transpose()?,
            unfinished: self.unfinished,
            descriptors,
            unsent: self.unsent,
        })
    }
}
