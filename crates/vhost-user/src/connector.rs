//! Client mode: QEMU listens, we connect, again and again for ever.
//!
//! A [`Connector`] is a schedule and an address; it owns no clock and waits for nothing. The first
//! attempt is due at once. After a failure the next is due 100 ms later, then 200, 400, 800 ms
//! and from there on every second, so a front end that comes back is found within two seconds
//! however long it was away. A success starts the schedule afresh, but the attempt after it is still
//! 100 ms away: a front end that accepts and hangs up at once costs ten attempts a second,
//! not a busy thread.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::error::SocketError;
use crate::path::{check_is_socket, socket_address};

/// Least time between two attempts.
const DELAY_MIN: Duration = Duration::from_millis(100);
/// Most time between two attempts: half of the two seconds in which guests are to carry on.
const DELAY_MAX: Duration = Duration::from_secs(1);

/// Connects to a socket that a front end listens on, and knows when to try again.
#[derive(Debug)]
pub struct Connector {
    path: PathBuf,
    address: SocketAddrUnix,
    /// `None`: at once.
    next_attempt: Option<Instant>,
    /// How long to wait after the next failure.
    delay: Duration,
    last_error: Option<SocketError>,
}

impl Connector {
    /// Makes a connector whose first attempt is due at once.
    ///
    /// # Errors
    ///
    /// As for [`check`](Self::check).
    pub fn new(path: &Path) -> Result<Self, SocketError> {
        Ok(Self {
            path: path.to_owned(),
            address: Self::address(path)?,
            next_attempt: None,
            delay: DELAY_MIN,
            last_error: None,
        })
    }

    /// Finds out whether a connector can be made, without connecting.
    ///
    /// # Errors
    ///
    /// [`SocketError`] if the path can never be a socket's: too long, no file name, or something
    /// else is there. That nothing is there yet is none.
    pub fn check(path: &Path) -> Result<(), SocketError> {
        Self::address(path).map(drop)
    }

    fn address(path: &Path) -> Result<SocketAddrUnix, SocketError> {
        let address = socket_address(path)?;
        // What cannot be looked at is left to the attempts, and to who reads their errors.
        if let Ok(metadata) = fs::metadata(path) {
            check_is_socket(path, metadata.file_type())?;
        }
        Ok(address)
    }

    /// Tries to connect if an attempt is due at `now`; never waits.
    ///
    /// `None` means not yet: not due, or failed with [`last_error`](Self::last_error).
    pub fn try_connect(&mut self, now: Instant) -> Option<UnixStream> {
        if self.next_attempt.is_some_and(|due| now < due) {
            return None;
        }
        match connect_now(&self.address) {
            Ok(stream) => {
                self.delay = DELAY_MIN;
                self.next_attempt = Some(now + DELAY_MIN);
                self.last_error = None;
                Some(stream)
            }
            Err(errno) => {
                self.next_attempt = Some(now + self.delay);
                self.delay = (self.delay * 2).min(DELAY_MAX);
                self.last_error = Some(SocketError::Call {
                    call: "connect to",
                    path: self.path.clone(),
                    source: errno.into(),
                });
                None
            }
        }
    }

    /// Returns when the next attempt is due; `None` is at once.
    pub fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    /// Returns why the last attempt failed, unless it succeeded.
    pub fn last_error(&self) -> Option<&SocketError> {
        self.last_error.as_ref()
    }

    /// Returns the path that it connects to.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Connects without waiting. A listener whose backlog is full answers EAGAIN.
pub(crate) fn connect_now(address: &SocketAddrUnix) -> Result<UnixStream, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, address)?;
    Ok(UnixStream::from(socket))
}
