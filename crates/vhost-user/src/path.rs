//! Paths as socket addresses.
//!
//! `struct sockaddr_un` has room for 108 bytes, the last of which ends the path (unix(7)), so a
//! path has 1 to 107. Both sides check that before any system call, because the kernel's own
//! words for it ("Invalid argument") help nobody. What lies there already is looked at by both as
//! well: a directory or a plain file never turns into a socket by itself.

use std::fs::FileType;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use rustix::net::SocketAddrUnix;

use crate::error::SocketError;

/// Longest path of a socket in bytes.
pub(crate) const PATH_BYTES_MAX: usize = 107;

/// Makes a socket address of a path.
pub(crate) fn socket_address(path: &Path) -> Result<SocketAddrUnix, SocketError> {
    let length_bytes = path.as_os_str().as_bytes().len();
    if !(1..=PATH_BYTES_MAX).contains(&length_bytes) {
        return Err(SocketError::PathLength { path: path.to_owned(), length_bytes });
    }
    SocketAddrUnix::new(path).map_err(|_| SocketError::PathInvalid { path: path.to_owned() })
}

/// Checks that what was found at a path is a socket.
pub(crate) fn check_is_socket(path: &Path, found: FileType) -> Result<(), SocketError> {
    let path = path.to_owned();
    if found.is_dir() {
        return Err(SocketError::IsDirectory { path });
    }
    if !found.is_socket() {
        return Err(SocketError::NotASocket { path });
    }
    Ok(())
}
