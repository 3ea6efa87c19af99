//! The socket, as a place where whole messages come from and replies go to.
//!
//! The kernel delivers attached descriptors with the first byte that they were sent with, so the
//! rule that keeps them with their message is never to read past its end: first the rest of the
//! header, then the rest of the body, never more. Whatever has come so far is kept between
//! calls; half a message costs its own session patience and nobody else anything.
//!
//! Descriptors arrive close-on-exec and owned. At most 32 are taken a message: beyond that the
//! kernel says MSG_CTRUNC, having closed the surplus itself, and the session ends. However a
//! message ends, what it carried and nobody took is closed by being dropped.

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use vhost::vhost_user::message::FrontendReq;

use crate::error::SessionError;
use crate::wire::{DESCRIPTORS_MAX, HEADER_BYTES, Header, Message, write_reply};

/// Most bytes of replies kept for a front end that does not read: 200 replies of 20 bytes, on top
/// of what the kernel keeps. QEMU waits for every reply before it asks again.
const UNSENT_BYTES_MAX: usize = 4_000;

/// A non-blocking connection to a front end.
#[derive(Debug)]
pub(crate) struct MessageStream {
    socket: UnixStream,
    header_bytes: [u8; HEADER_BYTES],
    header_received: usize,
    /// The header, once it is whole.
    header: Option<Header>,
    /// As long as the header says, filled up to `body_received`.
    body: Vec<u8>,
    body_received: usize,
    descriptors: Vec<OwnedFd>,
    /// Replies that the socket had no room for.
    unsent: Vec<u8>,
}

/// What one read brought.
enum Received {
    Bytes(usize),
    Nothing,
}

impl MessageStream {
    /// Takes a socket over and makes it non-blocking.
    ///
    /// # Errors
    ///
    /// The kernel's, if it cannot be made so.
    pub(crate) fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            header_bytes: [0; HEADER_BYTES],
            header_received: 0,
            header: None,
            body: Vec::new(),
            body_received: 0,
            descriptors: Vec::new(),
            unsent: Vec::new(),
        })
    }

    /// What has come of a message that is not whole: its bytes and its descriptors.
    pub(crate) fn unfinished(&self) -> (Vec<u8>, &[OwnedFd]) {
        let header = &self.header_bytes[..self.header_received];
        ([header, &self.body[..self.body_received]].concat(), &self.descriptors)
    }

    /// Replies that the socket had no room for.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.unsent
    }

    /// Goes on where another stream on the same socket stopped.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if these are not the beginnings of a message.
    pub(crate) fn go_on(
        &mut self,
        unfinished: &[u8],
        descriptors: Vec<OwnedFd>,
        unsent: Vec<u8>,
    ) -> Result<(), SessionError> {
        let (header, body) = unfinished.split_at(unfinished.len().min(HEADER_BYTES));
        self.header_bytes[..header.len()].copy_from_slice(header);
        self.header_received = header.len();
        if header.len() == HEADER_BYTES {
            let header = Header::parse(self.header_bytes)?;
            self.body = vec![0; header.body_bytes];
            let Some(received) = self.body.get_mut(..body.len()) else {
                let (request, size_bytes) = (header.request, u32::MAX);
                return Err(SessionError::InvalidBodySize { request, size_bytes });
            };
            received.copy_from_slice(body);
            self.body_received = body.len();
            self.header = Some(header);
        }
        self.descriptors = descriptors;
        self.unsent = unsent;
        Ok(())
    }

    /// Returns the next whole message, or `None` if the rest of it has not come yet.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if the connection or the header is no good.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, SessionError> {
        let Some(header) = self.next_header()? else {
            return Ok(None);
        };
        while self.body_received < header.body_bytes {
            let mut body = std::mem::take(&mut self.body);
            let received = self.receive(&mut body[self.body_received..]);
            self.body = body;
            match received? {
                Received::Bytes(bytes) => self.body_received += bytes,
                Received::Nothing => return Ok(None),
            }
        }
        self.header = None;
        self.header_received = 0;
        self.body_received = 0;
        Ok(Some(Message {
            request: header.request,
            need_reply: header.need_reply,
            body: std::mem::take(&mut self.body),
            descriptors: std::mem::take(&mut self.descriptors),
        }))
    }

    /// Returns the current message's header, or `None` if the rest of it has not come yet.
    fn next_header(&mut self) -> Result<Option<Header>, SessionError> {
        if self.header.is_some() {
            return Ok(self.header);
        }
        while self.header_received < HEADER_BYTES {
            let mut bytes = self.header_bytes;
            let received = self.receive(&mut bytes[self.header_received..])?;
            self.header_bytes = bytes;
            match received {
                Received::Bytes(bytes) => self.header_received += bytes,
                Received::Nothing => return Ok(None),
            }
        }
        let header = Header::parse(self.header_bytes)?;
        self.body = vec![0; header.body_bytes];
        self.header = Some(header);
        Ok(Some(header))
    }

    /// Reads into `buffer`, which is not empty, and keeps the descriptors that come along.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<Received, SessionError> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = loop {
            let mut parts = [IoSliceMut::new(&mut *buffer)];
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            match recvmsg(&self.socket, &mut parts, &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(Errno::CONNRESET) => return Err(self.hung_up()),
                Err(errno) => return Err(failed("recvmsg", errno)),
                Ok(message) => break message,
            }
        };
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        let truncated = message.flags.contains(ReturnFlags::CTRUNC);
        if truncated || self.descriptors.len() > DESCRIPTORS_MAX {
            return Err(SessionError::TooManyDescriptors);
        }
        match message.bytes {
            0 => Err(self.hung_up()),
            bytes => Ok(Received::Bytes(bytes)),
        }
    }

    /// Queues a reply and sends as much as the socket takes.
    ///
    /// # Errors
    ///
    /// [`SessionError::RepliesUnread`] if too much is queued; otherwise as for
    /// [`flush`](Self::flush).
    pub(crate) fn reply(&mut self, request: FrontendReq, body: &[u8]) -> Result<(), SessionError> {
        write_reply(request, body, &mut self.unsent);
        self.flush()?;
        if self.unsent.len() > UNSENT_BYTES_MAX {
            return Err(SessionError::RepliesUnread { limit_bytes: UNSENT_BYTES_MAX });
        }
        Ok(())
    }

    /// Sends queued replies, as far as the socket takes them.
    ///
    /// # Errors
    ///
    /// [`SessionError`] if the connection is no good.
    pub(crate) fn flush(&mut self) -> Result<(), SessionError> {
        while !self.unsent.is_empty() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&self.socket, &self.unsent, flags) {
                Ok(bytes) => drop(self.unsent.drain(..bytes)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(Errno::PIPE | Errno::CONNRESET) => return Err(self.hung_up()),
                Err(errno) => return Err(failed("send", errno)),
            }
        }
        Ok(())
    }

    /// Says whether replies wait for room in the socket.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// The socket, for an epoll set.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Says where in a message the connection ended.
    fn hung_up(&self) -> SessionError {
        match self.header_received + self.body_received {
            0 => SessionError::Closed,
            received_bytes => SessionError::ClosedMidMessage { received_bytes },
        }
    }
}

fn failed(call: &'static str, errno: Errno) -> SessionError {
    SessionError::Socket { call, source: errno.into() }
}
