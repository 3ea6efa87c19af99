//! The one epoll set of the control thread, and what each descriptor in it stands for.
//!
//! Level-triggered: what is not read stays readable, so nobody has to read to the end. A
//! descriptor leaves the set when it is closed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

/// What a descriptor stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// The data path has something to tell.
    Datapath,
    /// A signal came.
    Signal,
    /// A client wants to connect to the control socket.
    Control,
    /// A client of the control socket.
    Client(u32),
    /// A front end wants to connect to a port.
    Listener(u32),
    /// A front end's session.
    Session(u32),
    /// A driver's commands on its control queue.
    Commands(u32),
}

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, number): (u64, u32) = match self {
            Self::Datapath => (0, 0),
            Self::Signal => (1, 0),
            Self::Control => (2, 0),
            Self::Client(number) => (3, number),
            Self::Listener(number) => (4, number),
            Self::Session(number) => (5, number),
            Self::Commands(number) => (6, number),
        };
        kind << 32 | u64::from(number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is the number")]
    const fn from_bits(bits: u64) -> Option<Self> {
        let number = bits as u32;
        Some(match bits >> 32 {
            0 => Self::Datapath,
            1 => Self::Signal,
            2 => Self::Control,
            3 => Self::Client(number),
            4 => Self::Listener(number),
            5 => Self::Session(number),
            6 => Self::Commands(number),
            _ => return None,
        })
    }
}

/// The set.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

/// Whether room to write is waited for as well.
const fn interest(wants_write: bool) -> EventFlags {
    if wants_write { EventFlags::IN.union(EventFlags::OUT) } else { EventFlags::IN }
}

impl Poller {
    /// An empty set.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Adds a descriptor: `token` is told when it is readable or its other end is gone.
    pub(crate) fn add(&self, source: impl AsFd, token: Token) -> io::Result<()> {
        let data = EventData::new_u64(token.to_bits());
        Ok(epoll::add(&self.epoll, source, data, interest(false))?)
    }

    /// Changes whether room to write is waited for. `reads` says whether input is.
    pub(crate) fn set_interest(
        &self,
        source: impl AsFd,
        token: Token,
        reads: bool,
        writes: bool,
    ) -> io::Result<()> {
        let mut flags = interest(writes);
        if !reads {
            flags.remove(EventFlags::IN);
        }
        Ok(epoll::modify(&self.epoll, source, EventData::new_u64(token.to_bits()), flags)?)
    }

    /// Takes a descriptor out.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // One that is not in the set is as good as taken out.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits until something is ready, at most `timeout`, and puts it into `ready`.
    pub(crate) fn wait(&self, timeout: Duration, ready: &mut Vec<Token>) -> io::Result<()> {
        ready.clear();
        let timeout = Timespec::try_from(timeout).unwrap_or_default();
        let mut events = Vec::with_capacity(64);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) => {
                ready.extend(events.iter().filter_map(|event| Token::from_bits(event.data.u64())));
                Ok(())
            }
            Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_its_way_through_the_kernel() {
        for token in [Token::Datapath, Token::Control, Token::Client(7), Token::Session(u32::MAX)] {
            assert_eq!(Token::from_bits(token.to_bits()), Some(token));
        }
    }

    #[test]
    fn readable_descriptor_is_told_by_its_token() {
        let (reader, mut writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let poller = Poller::new().unwrap();
        poller.add(&reader, Token::Client(3)).unwrap();

        io::Write::write_all(&mut writer, b"x").unwrap();
        let mut ready = Vec::new();
        poller.wait(Duration::from_secs(1), &mut ready).unwrap();

        assert_eq!(ready, [Token::Client(3)]);
    }
}
