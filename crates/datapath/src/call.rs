//! Where a front end wants to hear of its rings: calls, and word of a broken ring.
//!
//! Nearly always an eventfd. User Mode Linux sends a pipe, from which it reads eight bytes a call,
//! since Linux raises SIGIO for pipes and not for eventfds.
//!
//! The front end holds the same pipe and could make a write to it wait, by filling it and clearing
//! O_NONBLOCK. That flag belongs to an open file description; a pipe can be opened anew through
//! /proc (an eventfd cannot), and what is written to here is a description of our own. A pipe that
//! is full is left so: its reader is notified already. One without a reader takes no more, and
//! raises SIGPIPE, which every Rust program ignores from its start.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::eventfd::{NotAnEventfd, PeerEventfd, name};

/// How `/proc/self/fd` names a pipe without a place in a file system.
const PIPE: &str = "pipe:[";

/// An eventfd or pipe that a front end sent, and reads from.
#[derive(Debug)]
pub struct PeerCall(Medium);

#[derive(Debug)]
enum Medium {
    Eventfd(PeerEventfd),
    /// The end to write to, opened by us, non-blocking.
    Pipe(OwnedFd),
}

impl TryFrom<OwnedFd> for PeerCall {
    type Error = NotAnEventfd;

    fn try_from(descriptor: OwnedFd) -> Result<Self, NotAnEventfd> {
        let (path, name) = name(&descriptor)?;
        let medium = if name.to_string_lossy().starts_with(PIPE) {
            Medium::Pipe(open_anew(&path)?)
        } else {
            Medium::Eventfd(PeerEventfd::try_from(descriptor)?)
        };
        Ok(Self(medium))
    }
}

/// Opens the end of a pipe that is written to, with flags of its own.
fn open_anew(path: &Path) -> io::Result<OwnedFd> {
    #[expect(clippy::cast_possible_wrap, reason = "a flag of open(2), which takes an int")]
    let flags = OFlags::NONBLOCK.bits() as i32;
    Ok(OpenOptions::new().write(true).custom_flags(flags).open(path)?.into())
}

impl PeerCall {
    /// Wakes whoever reads, and never waits.
    #[inline]
    pub fn signal(&self) {
        match &self.0 {
            Medium::Eventfd(eventfd) => eventfd.signal(),
            Medium::Pipe(end) => {
                // Full, or nobody reads: either way there is nobody to wake.
                let _ = rustix::io::write(end, &1u64.to_ne_bytes());
            }
        }
    }

    /// Makes another descriptor of the same.
    ///
    /// # Errors
    ///
    /// The kernel's, if there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Medium::Eventfd(eventfd) => Medium::Eventfd(eventfd.try_clone()?),
            Medium::Pipe(end) => Medium::Pipe(end.try_clone()?),
        }))
    }
}

impl AsFd for PeerCall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Medium::Eventfd(eventfd) => eventfd.as_fd(),
            Medium::Pipe(end) => end.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{fcntl_getfl, fcntl_setfl};

    use super::*;

    #[test]
    fn reader_of_a_pipe_gets_eight_bytes_a_call() {
        let (mut reader, writer) = io::pipe().unwrap();
        let call = PeerCall::try_from(OwnedFd::from(writer)).unwrap();

        call.signal();
        call.try_clone().unwrap().signal();

        let mut bytes = [0; 16];
        reader.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [1u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat()[..]);
    }

    #[test]
    fn full_pipe_that_its_owner_lets_block_makes_nobody_wait() {
        let (_reader, writer) = io::pipe().unwrap();
        let owners = OwnedFd::from(writer);
        let call = PeerCall::try_from(owners.try_clone().unwrap()).unwrap();
        let flags = fcntl_getfl(&owners).unwrap();
        fcntl_setfl(&owners, flags - OFlags::NONBLOCK).unwrap();
        let (sender, outcome) = channel();

        std::thread::spawn(move || {
            (0..100_000).for_each(|_| call.signal());
            sender.send(()).unwrap();
        });

        assert_eq!(outcome.recv_timeout(Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn pipe_without_a_reader_harms_nobody() {
        let (reader, writer) = io::pipe().unwrap();
        let call = PeerCall::try_from(OwnedFd::from(writer)).unwrap();
        drop(reader);

        call.signal();
    }

    #[test]
    fn eventfd_is_taken_as_ever() {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let reader = descriptor.try_clone().unwrap();

        PeerCall::try_from(descriptor).unwrap().signal();

        let mut count = [0; 8];
        rustix::io::read(&reader, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }

    #[test]
    fn terminal_or_file_is_not_taken() {
        let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());

        assert!(matches!(PeerCall::try_from(null), Err(NotAnEventfd::Other(_))));
    }
}
