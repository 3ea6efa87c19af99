//! The eventfds of a front end: for kicks, and nearly always for calls (`call.rs`).
//!
//! A poll thread signals one while traffic flows. On anything but an eventfd that may block, or
//! kill, or worse: a pipe nobody reads, a terminal. So [`PeerEventfd`] is made only of eventfds.
//! It is made non-blocking, too, but the front end holds the same open file description and
//! can undo that: what keeps a signal from waiting is the way it is sent (`notifier.rs`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::notifier;

/// What `/proc/self/fd` says of an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

/// An eventfd that a front end sent, and holds as well.
#[derive(Debug)]
pub struct PeerEventfd(OwnedFd);

/// Why a descriptor cannot be used as an eventfd.
#[derive(Debug, thiserror::Error)]
pub enum NotAnEventfd {
    /// It is something else. A front end chooses the name, hence the quotes.
    #[error("it is no eventfd but {0:?}")]
    Other(PathBuf),
    /// The host does not say what it is, or does not let it be made non-blocking.
    #[error("cannot look at it")]
    Host(#[from] io::Error),
}

impl TryFrom<OwnedFd> for PeerEventfd {
    type Error = NotAnEventfd;

    fn try_from(descriptor: OwnedFd) -> Result<Self, NotAnEventfd> {
        let link = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))?;
        if link.as_os_str() != EVENTFD {
            return Err(NotAnEventfd::Other(link));
        }
        // For kernels without asynchronous I/O, where signals are written.
        let flags = fcntl_getfl(&descriptor).map_err(io::Error::from)?;
        if !flags.contains(OFlags::NONBLOCK) {
            fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).map_err(io::Error::from)?;
        }
        Ok(Self(descriptor))
    }
}

impl PeerEventfd {
    /// Adds one to its counter, and never waits: a counter that is full stays so.
    #[inline]
    pub fn signal(&self) {
        notifier::signal(self.0.as_fd());
    }

    /// Makes another descriptor of the same eventfd.
    ///
    /// # Errors
    ///
    /// The kernel's, if there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }
}

impl AsFd for PeerEventfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn blocking_eventfd_is_made_non_blocking() {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC).unwrap();

        let eventfd = PeerEventfd::try_from(descriptor).unwrap();

        assert!(fcntl_getfl(&eventfd).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn pipe_in_place_of_an_eventfd_is_not_used() {
        let (_reader, writer) = std::io::pipe().unwrap();

        let outcome = PeerEventfd::try_from(OwnedFd::from(writer));

        assert!(matches!(outcome, Err(NotAnEventfd::Other(_))));
    }

    #[test]
    fn name_that_a_front_end_chose_stays_on_its_line() {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let descriptor = rustix::fs::memfd_create("x\n[WARN] forged", flags).unwrap();

        let error = PeerEventfd::try_from(descriptor).unwrap_err();

        assert!(!error.to_string().contains('\n'), "{error}");
    }
}
