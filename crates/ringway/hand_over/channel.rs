//! Messages with descriptors, from one switch to the other.
//!
//! ```text
//!   {"bytes":4711,"descriptors":130}\n  ·  ·  4711 bytes of JSON
//!                                       │  └ a byte with 2 descriptors
//!                                       └ a byte with 128
//! ```
//!
//! Every wait has a limit. Nothing is ever read past what is asked for: the descriptors come with
//! the bytes that they were sent with.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::refusal::Refusal;

/// Descriptors sent at a time; the kernel takes 253.
const DESCRIPTORS_AT_ONCE: usize = 128;

/// The longest line that is read.
const LINE_MAX: usize = 64 << 10;

/// The longest message: well above what the largest switch has to tell.
const MESSAGE_MAX: usize = 256 << 20;

/// Why the other end was not understood.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChannelError {
    /// It is gone, or does not answer.
    #[error("the other switch {}", describe(.0))]
    Lost(io::Error),
    /// It says something else.
    #[error("the other switch said something that this one does not understand: {0}")]
    Strange(String),
    /// A descriptor that was named did not come, or was named twice.
    #[error("the other switch named descriptor {0}, which it did not send or named before")]
    Missing(usize),
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => "does not answer".to_owned(),
        _ if is_end(error) => "has hung up (its log says why)".to_owned(),
        _ => format!("cannot be heard: {error}"),
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

impl From<io::Error> for ChannelError {
    fn from(error: io::Error) -> Self {
        Self::Lost(error)
    }
}

impl From<ChannelError> for Refusal {
    fn from(error: ChannelError) -> Self {
        Self::new(error.to_string())
    }
}

impl ChannelError {
    /// Says whether the other process has closed its end, which it does only by ending.
    pub(crate) fn is_end(&self) -> bool {
        matches!(self, Self::Lost(error) if is_end(error))
    }
}

/// Descriptors that go along with a message.
#[derive(Debug, Default)]
pub(crate) struct Lent<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Lent<'a> {
    /// Adds one; returns its place.
    pub(crate) fn add(&mut self, descriptor: BorrowedFd<'a>) -> usize {
        self.0.push(descriptor);
        self.0.len() - 1
    }
}

/// Descriptors that came along with a message. What nobody takes is closed.
#[derive(Debug)]
pub(crate) struct Arrived(Vec<Option<OwnedFd>>);

impl Arrived {
    /// Takes the one at this place.
    pub(crate) fn take(&mut self, place: usize) -> Result<OwnedFd, ChannelError> {
        let found = self.0.get_mut(place).and_then(Option::take);
        found.ok_or(ChannelError::Missing(place))
    }
}

/// The first line of a message.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    bytes: usize,
    descriptors: usize,
}

/// A connection to the other switch.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
}

impl Channel {
    /// Makes a connection one that waits.
    pub(crate) fn new(stream: UnixStream) -> Result<Self, ChannelError> {
        stream.set_nonblocking(false)?;
        Ok(Self { stream })
    }

    /// Sends a line as it is.
    pub(crate) fn send_line(&mut self, line: &str) -> Result<(), ChannelError> {
        Ok(self.stream.write_all(format!("{line}\n").as_bytes())?)
    }

    /// Reads a line, byte by byte.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String, ChannelError> {
        self.stream.set_read_timeout(Some(patience))?;
        let mut line = Vec::new();
        let mut byte = [0];
        while line.len() < LINE_MAX {
            self.stream.read_exact(&mut byte)?;
            if byte == *b"\n" {
                return String::from_utf8(line).map_err(|error| strange(&error));
            }
            line.extend_from_slice(&byte);
        }
        Err(ChannelError::Strange(format!("a line of more than {LINE_MAX} bytes")))
    }

    /// Sends a message. The other end must take it within `patience`.
    pub(crate) fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &Lent<'_>,
        patience: Duration,
    ) -> Result<(), ChannelError> {
        self.stream.set_write_timeout(Some(patience))?;
        let body = serde_json::to_vec(message).map_err(|error| strange(&error))?;
        let head = Head { bytes: body.len(), descriptors: descriptors.0.len() };
        self.send_line(&serde_json::to_string(&head).map_err(|error| strange(&error))?)?;
        for some in descriptors.0.chunks(DESCRIPTORS_AT_ONCE) {
            self.send_descriptors(some)?;
        }
        Ok(self.stream.write_all(&body)?)
    }

    fn send_descriptors(&self, descriptors: &[BorrowedFd<'_>]) -> Result<(), ChannelError> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ChannelError::Strange("too many descriptors at once".to_owned()));
        }
        loop {
            let parts = [IoSlice::new(b".")];
            match sendmsg(&self.stream, &parts, &mut control, SendFlags::NOSIGNAL) {
                Err(Errno::INTR) => {}
                outcome => return outcome.map(drop).map_err(|errno| io::Error::from(errno).into()),
            }
        }
    }

    /// Waits for a message, at most `patience` for each part.
    pub(crate) fn receive<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<(T, Arrived), ChannelError> {
        let head = self.line(patience)?;
        let head: Head = serde_json::from_str(&head).map_err(|error| strange(&error))?;
        if head.bytes > MESSAGE_MAX {
            return Err(ChannelError::Strange(format!("a message of {} bytes", head.bytes)));
        }
        let mut descriptors = Vec::new();
        while descriptors.len() < head.descriptors {
            self.receive_descriptors(&mut descriptors)?;
        }
        let mut body = vec![0; head.bytes];
        self.stream.read_exact(&mut body)?;
        let message = serde_json::from_slice(&body).map_err(|error| strange(&error))?;
        Ok((message, Arrived(descriptors)))
    }

    /// Reads the byte that descriptors come with.
    fn receive_descriptors(&self, all: &mut Vec<Option<OwnedFd>>) -> Result<(), ChannelError> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_AT_ONCE))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let received = loop {
            let mut parts = [IoSliceMut::new(&mut byte)];
            match recvmsg(&self.stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Err(Errno::INTR) => {}
                outcome => break outcome.map_err(io::Error::from)?,
            }
        };
        let before = all.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                all.extend(descriptors.map(Some));
            }
        }
        if received.bytes == 0 {
            return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
        }
        if received.flags.contains(ReturnFlags::CTRUNC) || all.len() == before {
            let text = "descriptors did not come whole (is the limit on open files too low?)";
            return Err(ChannelError::Strange(text.to_owned()));
        }
        Ok(())
    }
}

fn strange(error: &dyn std::error::Error) -> ChannelError {
    ChannelError::Strange(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Channel::new(ours).unwrap(), Channel::new(theirs).unwrap())
    }

    #[test]
    fn message_arrives_with_more_descriptors_than_go_at_once() {
        let (mut ours, mut theirs) = pair();
        let file = std::fs::File::open("/dev/null").unwrap();
        let mut lent = Lent::default();
        for place in 0..DESCRIPTORS_AT_ONCE + 2 {
            assert_eq!(lent.add(file.as_fd()), place);
        }

        ours.send(&["a", "b"], &lent, PATIENCE).unwrap();
        ours.send(&["c"], &Lent::default(), PATIENCE).unwrap();
        let (first, mut arrived) = theirs.receive::<Vec<String>>(PATIENCE).unwrap();
        let (second, _) = theirs.receive::<Vec<String>>(PATIENCE).unwrap();

        assert_eq!((first.len(), second), (2, vec!["c".to_owned()]));
        assert!(arrived.take(DESCRIPTORS_AT_ONCE + 1).is_ok());
        assert!(matches!(arrived.take(DESCRIPTORS_AT_ONCE + 1), Err(ChannelError::Missing(129))));
        assert!(matches!(arrived.take(130), Err(ChannelError::Missing(130))));
    }

    #[test]
    fn end_is_told_from_silence() {
        let (mut ours, theirs) = pair();

        let silence = ours.line(Duration::from_millis(1)).unwrap_err();
        drop(theirs);
        let end = ours.line(PATIENCE).unwrap_err();

        assert!(!silence.is_end() && end.is_end());
        assert_eq!(silence.to_string(), "the other switch does not answer");
        assert_eq!(end.to_string(), "the other switch has hung up (its log says why)");
    }
}
