//! The control thread's epoll set: everything it waits for, by what it is.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

/// What has become ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    /// A signal has come.
    Signal,
    /// A poll thread has something to tell.
    Datapath,
    /// Somebody connects to the control socket.
    ControlListener,
    /// A client of the control socket.
    Client(u32),
    /// A front end connects to this port.
    PortListener(u32),
    /// The front end of this port.
    Session(u32),
}

impl Token {
    fn to_bits(self) -> u64 {
        let (kind, key) = match self {
            Self::Signal => (0u64, 0),
            Self::Datapath => (1, 0),
            Self::ControlListener => (2, 0),
            Self::Client(key) => (3, key),
            Self::PortListener(key) => (4, key),
            Self::Session(key) => (5, key),
        };
        kind << 32 | u64::from(key)
    }

    fn from_bits(bits: u64) -> Option<Self> {
        let key = u32::try_from(bits & 0xffff_ffff).ok()?;
        match bits >> 32 {
            0 => Some(Self::Signal),
            1 => Some(Self::Datapath),
            2 => Some(Self::ControlListener),
            3 => Some(Self::Client(key)),
            4 => Some(Self::PortListener(key)),
            5 => Some(Self::Session(key)),
            _ => None,
        }
    }
}

/// The epoll set. Level-triggered: what was not dealt with is reported again.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a descriptor for something to read.
    pub(crate) fn watch(&self, descriptor: impl AsFd, token: Token) -> io::Result<()> {
        let data = epoll::EventData::new_u64(token.to_bits());
        Ok(epoll::add(&self.epoll, descriptor, data, epoll::EventFlags::IN)?)
    }

    /// Says whether room for writing is awaited, too.
    pub(crate) fn await_room(&self, descriptor: impl AsFd, token: Token, wanted: bool) {
        let data = epoll::EventData::new_u64(token.to_bits());
        let flags = if wanted {
            epoll::EventFlags::IN | epoll::EventFlags::OUT
        } else {
            epoll::EventFlags::IN
        };
        if let Err(error) = epoll::modify(&self.epoll, descriptor, data, flags) {
            log::error!("epoll_ctl for {token:?} failed: {error}");
        }
    }

    /// Watches a descriptor no more. Needed before it is closed where a duplicate lives on.
    pub(crate) fn forget(&self, descriptor: impl AsFd) {
        let _ = epoll::delete(&self.epoll, descriptor);
    }

    /// Waits until something is ready or `longest` has passed.
    pub(crate) fn wait(&self, longest: Duration) -> io::Result<Vec<Token>> {
        let timeout = Timespec::try_from(longest).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let mut buffer = [const { MaybeUninit::uninit() }; 64];
        match epoll::wait(&self.epoll, &mut buffer, Some(&timeout)) {
            Ok((events, _)) => {
                Ok(events.iter().filter_map(|event| Token::from_bits(event.data.u64())).collect())
            }
            Err(Errno::INTR) => Ok(Vec::new()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_kernel() {
        let tokens = [
            Token::Signal,
            Token::Datapath,
            Token::ControlListener,
            Token::Client(7),
            Token::PortListener(u32::MAX),
            Token::Session(0),
        ];

        assert_eq!(tokens.map(|token| Token::from_bits(token.to_bits())), tokens.map(Some));
    }
}
