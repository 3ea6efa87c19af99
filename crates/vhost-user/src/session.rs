//! One conversation with a front end: what was negotiated, and who is told of a refusal.
//!
//! A [`Session`] is driven by readiness. Each call of [`Session::on_ready`] reads what is there,
//! up to a bound, and has every whole message carried out before the next is read, so requests
//! take effect in the order in which they were sent.
//!
//! Requests that ask for something get their answer. The others get an acknowledgement if the
//! front end set need_reply and REPLY_ACK was negotiated:
//!
//! | the back end says | asked to acknowledge | not asked |
//! |---|---|---|
//! | done | reply 0 | nothing |
//! | refused | reply 1, session goes on | session ends: the front end would go on with what is not so |
//!
//! A message that breaks the protocol itself (size, flags, descriptors, unknown request) ends the
//! session whatever was asked: its sender cannot be followed any more. That includes descriptors
//! on a request that takes none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use vhost::vhost_user::message::{FrontendReq, VhostUserProtocolFeatures};
use vm_memory::ByteValued;

use crate::backend::{Backend, Refused};
use crate::dispatch::{Answer, Failure, carry_out};
use crate::error::SessionError;
use crate::negotiated::Negotiated;
use crate::stream::MessageStream;
use crate::wire::Message;

/// Most messages carried out in one call, so that one front end cannot keep the thread from the
/// others. QEMU's longest burst, a start with two queue pairs, has about 40.
const MESSAGES_PER_CALL: usize = 64;

/// A request that was refused and acknowledged as such; the session went on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("refused {request:?}: {reason}")]
pub struct Refusal {
    /// The request.
    pub request: FrontendReq,
    /// Why.
    pub reason: Refused,
}

/// A session between two messages of [`Session::on_ready`], by which another process goes on with
/// it. `D` is a descriptor: borrowed where it comes from, owned where it goes.
#[derive(Debug)]
pub struct SessionState<D> {
    /// The socket. No process may read from it once another does.
    pub socket: D,
    /// It has said that it owns the session (SET_OWNER).
    pub is_owned: bool,
    /// What the front end acknowledged (SET_PROTOCOL_FEATURES).
    pub protocol_features: u64,
    /// Where the front end would hear requests (SET_BACKEND_REQ_FD).
    pub channel: Option<D>,
    /// What has come of a message that is not whole.
    pub unfinished: Vec<u8>,
    /// Descriptors that came with it.
    pub descriptors: Vec<D>,
    /// Replies that the socket had no room for.
    pub unsent: Vec<u8>,
}

/// A connection to one front end, from its first message until either side has enough.
///
/// Dropping it closes the connection.
#[derive(Debug)]
pub struct Session {
    stream: MessageStream,
    negotiated: Negotiated,
    refusal: Option<Refusal>,
}

impl Session {
    /// Starts a session on a connected socket, which becomes non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's, if the socket cannot be made non-blocking.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        Ok(Self {
            stream: MessageStream::new(stream)?,
            negotiated: Negotiated::nothing(),
            refusal: None,
        })
    }

    /// Where the session stands.
    pub fn state(&self) -> SessionState<BorrowedFd<'_>> {
        let (unfinished, descriptors) = self.stream.unfinished();
        SessionState {
            socket: self.stream.as_fd(),
            is_owned: self.negotiated.is_owned,
            protocol_features: self.negotiated.protocol_features.bits(),
            channel: self.negotiated.channel.as_ref().map(AsFd::as_fd),
            unfinished,
            descriptors: descriptors.iter().map(OwnedFd::as_fd).collect(),
            unsent: self.stream.unsent().to_vec(),
        }
    }

    /// Goes on with a session of another process.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if the state is no session's, or the socket is no good.
    pub fn go_on(state: SessionState<OwnedFd>) -> Result<Self, SessionError> {
        let SessionState { socket, is_owned, protocol_features, channel, .. } = state;
        let failed = |source| SessionError::Socket { call: "set_nonblocking", source };
        let mut session = Self::new(UnixStream::from(socket)).map_err(failed)?;
        session.negotiated = Negotiated {
            is_owned,
            protocol_features: VhostUserProtocolFeatures::from_bits_truncate(protocol_features),
            channel,
        };
        session.stream.go_on(&state.unfinished, state.descriptors, state.unsent)?;
        Ok(session)
    }

    /// Sends waiting replies, then carries out what the front end has asked, up to 64 messages.
    ///
    /// Call it when the socket is readable, or writable while [`wants_write`](Self::wants_write).
    /// Level-triggered polling is assumed: what is left over makes the socket readable again.
    ///
    /// # Errors
    ///
    /// [`SessionError`] when the session is over: drop it. [`SessionError::Closed`] is the plain
    /// end.
    pub fn on_ready(&mut self, backend: &mut dyn Backend) -> Result<(), SessionError> {
        self.stream.flush()?;
        for _ in 0..MESSAGES_PER_CALL {
            let Some(message) = self.stream.next_message()? else {
                break;
            };
            self.handle(message, backend)?;
        }
        Ok(())
    }

    /// Says whether replies wait until the socket is writable.
    pub fn wants_write(&self) -> bool {
        self.stream.has_unsent()
    }

    /// Returns the socket, for an epoll set.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Returns the latest refusal that the front end was told of, once: for a log that must say
    /// why a guest does not start, though the session goes on.
    pub fn take_refusal(&mut self) -> Option<Refusal> {
        self.refusal.take()
    }

    /// Carries one message out and answers it.
    fn handle(&mut self, message: Message, backend: &mut dyn Backend) -> Result<(), SessionError> {
        let request = message.request;
        let need_reply = message.need_reply;
        let outcome = carry_out(message, &mut self.negotiated, backend);
        // Looked at afterwards: the message that negotiates REPLY_ACK may ask for one itself.
        let asked = need_reply && self.has(VhostUserProtocolFeatures::REPLY_ACK);
        match outcome {
            Ok(Answer::Number(number)) => self.stream.reply(request, &number.to_ne_bytes()),
            Ok(Answer::Bytes(bytes)) => self.stream.reply(request, &bytes),
            Ok(Answer::Vring(state)) => self.stream.reply(request, state.as_slice()),
            Ok(Answer::Done) if asked => self.stream.reply(request, &0_u64.to_ne_bytes()),
            Ok(Answer::Done) => Ok(()),
            Err(Failure::Refused(reason)) if asked => {
                self.refusal = Some(Refusal { request, reason });
                self.stream.reply(request, &1_u64.to_ne_bytes())
            }
            Err(Failure::Refused(source) | Failure::NoAnswer(source)) => {
                Err(SessionError::Refused { request, source })
            }
            Err(Failure::Over(error)) => Err(error),
        }
    }

    fn has(&self, feature: VhostUserProtocolFeatures) -> bool {
        self.negotiated.protocol_features.contains(feature)
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
