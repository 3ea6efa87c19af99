//! Server mode: we listen, QEMU connects.
//!
//! The socket file appears complete or not at all. It is bound and listened on under a temporary
//! name in the same directory, gets its owner, group and mode there, and is then renamed into
//! place, which replaces a stale file of an earlier run in the same step: a front end never
//! meets a missing file, a wrong mode or a socket that nobody listens on. (Linux connects to the
//! inode, so the rename changes nothing for it; tools such as `ss` show the temporary name.)
//!
//! What is in the way is looked at first. A socket on which something answers is in use and
//! stays; one on which nothing answers is stale and is replaced; a directory or any other file
//! is an error. On drop the file is removed if it is still the one made here.
//!
//! A listener can go on in another process, which gets its socket: see [`Listener::adopt`].

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::io::Errno;

use crate::connector::connect_now;
use crate::error::SocketError;
use crate::ownership::Ownership;
use crate::path::{PATH_BYTES_MAX, check_is_socket, socket_address};

/// A socket that front ends connect to.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file made here.
    identity: (u64, u64),
    /// The file is to go with this.
    owns_file: bool,
}

impl Listener {
    /// Finds out what of [`bind`](Self::bind) can be known beforehand: whether the path can be a
    /// socket's, and the accounts exist. Nothing is made and nobody is connected to, so whether the
    /// socket is in use or its directory will be there is not.
    ///
    /// # Errors
    ///
    /// [`SocketError`] as from [`bind`](Self::bind).
    pub fn check(path: &Path, ownership: &Ownership) -> Result<(), SocketError> {
        ownership.resolve()?;
        socket_address(path)?;
        match fs::symlink_metadata(path) {
            Ok(metadata) => check_is_socket(path, metadata.file_type()),
            Err(_) => Ok(()),
        }
    }

    /// Makes the socket file and listens on it; never waits.
    ///
    /// # Errors
    ///
    /// [`SocketError`], which names the path, the cause and the way out. Nothing is left behind.
    pub fn bind(path: &Path, ownership: &Ownership) -> Result<Self, SocketError> {
        let ownership = ownership.resolve()?;
        let failed = |call| {
            move |source: io::Error| SocketError::Call { call, path: path.to_owned(), source }
        };
        check_way_is_free(path)?;
        let (listener, file) = bind_beside(path)?;
        listener.set_nonblocking(true).map_err(failed("listen on"))?;
        ownership.put_on(&file.path)?;
        let identity = identity(&file.path).map_err(failed("look at"))?;
        fs::rename(&file.path, path).map_err(failed("put a socket in place at"))?;
        Ok(Self { listener, path: path.to_owned(), identity, owns_file: true })
    }

    /// Goes on with a socket that another process listened on at `path`, with the file of this
    /// [`identity`](Self::identity). The file stays when this is dropped, until it is
    /// [made this one's](Self::own_file).
    pub fn adopt(socket: OwnedFd, path: &Path, identity: (u64, u64)) -> Self {
        let listener = UnixListener::from(socket);
        Self { listener, path: path.to_owned(), identity, owns_file: false }
    }

    /// Says whether the file is to be removed when this is dropped: of two processes that have the
    /// socket, only one may.
    pub fn own_file(&mut self, owned: bool) {
        self.owns_file = owned;
    }

    /// Returns device and inode of the socket's file.
    pub fn identity(&self) -> (u64, u64) {
        self.identity
    }

    /// Returns a front end that has connected, if one has; never waits.
    ///
    /// How many to take at a time is the caller's to decide.
    ///
    /// # Errors
    ///
    /// The kernel's, above all that the process has too many files open. The front end then
    /// still waits, so the listener stays readable: look again later, not at once.
    pub fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.listener.accept() {
            Ok((stream, _)) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted => {
                    Ok(None)
                }
                _ => Err(error),
            },
        }
    }

    /// Returns the socket, for an epoll set: readable when a front end waits.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Returns the path that it listens on.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.owns_file && identity(&self.path).is_ok_and(|found| found == self.identity) {
            // If it cannot be removed it is stale, and the next run replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Finds out whether a socket may be put at `path`: nothing is there, or a stale socket.
fn check_way_is_free(path: &Path) -> Result<(), SocketError> {
    let address = socket_address(path)?;
    let found = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == ErrorKind::NotFound => return check_parent(path),
        Err(source) => {
            return Err(SocketError::Call { call: "look at", path: path.to_owned(), source });
        }
    };
    check_is_socket(path, found)?;
    let path = path.to_owned();
    match connect_now(&address) {
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(()),
        // Accepted, a full backlog, or a listener of another socket type: somebody is there.
        Ok(_) | Err(Errno::AGAIN | Errno::PROTOTYPE) => Err(SocketError::InUse { path }),
        Err(errno) => Err(SocketError::Call {
            call: "find out whether anything answers at",
            path,
            source: errno.into(),
        }),
    }
}

/// Checks that the directory for a new file exists.
fn check_parent(path: &Path) -> Result<(), SocketError> {
    let directory = parent(path);
    if directory.is_dir() {
        return Ok(());
    }
    Err(SocketError::ParentMissing { path: path.to_owned(), directory: directory.to_owned() })
}

/// A file that is removed unless it was renamed away.
struct TemporaryFile {
    path: PathBuf,
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        // After the rename there is nothing of this name, which is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}

/// Listens on a temporary name in the directory of `path`.
fn bind_beside(path: &Path) -> Result<(UnixListener, TemporaryFile), SocketError> {
    /// Keeps listeners of one process apart.
    static NEXT: AtomicU32 = AtomicU32::new(0);

    let failed = |source| SocketError::Call { call: "listen on", path: path.to_owned(), source };
    let name =
        path.file_name().ok_or_else(|| SocketError::PathInvalid { path: path.to_owned() })?;
    let directory = parent(path);
    // Relaxed: only the number matters.
    let serial = NEXT.fetch_add(1, Ordering::Relaxed);
    let temporary = temporary_name(name, std::process::id(), serial);
    let file = TemporaryFile { path: directory.join(&temporary) };
    // A process of the same number may have died between bind and rename.
    let _ = fs::remove_file(&file.path);
    let listener = if file.path.as_os_str().len() <= PATH_BYTES_MAX {
        UnixListener::bind(&file.path)
    } else {
        // The final path fits and this one does not: reach the directory through its descriptor.
        File::open(directory).and_then(|directory| {
            let short = format!("/proc/self/fd/{}", directory.as_raw_fd());
            UnixListener::bind(Path::new(&short).join(&temporary))
        })
    };
    Ok((listener.map_err(failed)?, file))
}

/// A hidden name that tells whose it is: `.vm1.sock.4711.0`, the middle cut to 40 bytes.
fn temporary_name(name: &OsStr, process: u32, serial: u32) -> PathBuf {
    let name = name.as_bytes();
    let kept = OsStr::from_bytes(&name[..name.len().min(40)]);
    let mut temporary = PathBuf::from(".").into_os_string();
    temporary.push(kept);
    temporary.push(format!(".{process}.{serial}"));
    temporary.into()
}

/// The directory that `path` is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Device and inode of the file itself, not of what it may link to.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
