//! What goes wrong between two processes over a socket.
//!
//! Two kinds, never mixed. [`SessionError`] is the front end's doing: that session closes, and
//! nothing else does. [`SocketError`] is the host's or the configuration's: a path that cannot be
//! listened on or connected to, an account that does not exist. The latter names the path, the
//! cause and the way out, because an operator reads it on one line.

use std::io;
use std::path::PathBuf;

use vhost::vhost_user::message::FrontendReq;

use crate::backend::Refused;

/// Why a session is over. The caller closes it: drops the [`Session`](crate::Session).
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The front end hung up between two messages. Nothing is wrong.
    #[error("front end closed the connection")]
    Closed,

    /// The front end hung up in the middle of a message.
    #[error("front end closed the connection after {received_bytes} bytes of a message")]
    ClosedMidMessage {
        /// Bytes of header and body that had come.
        received_bytes: usize,
    },

    /// The socket itself failed.
    #[error("{call} on the front end's socket failed")]
    Socket {
        /// The system call.
        call: &'static str,
        /// What the kernel said.
        source: io::Error,
    },

    /// A request code that the protocol does not have.
    #[error("front end sent request {code}, which vhost-user does not have")]
    UnknownRequest {
        /// The code in the header.
        code: u32,
    },

    /// A request that needs a feature that was never offered.
    #[error("front end sent {request:?}, which was not offered")]
    UnsupportedRequest {
        /// The request.
        request: FrontendReq,
    },

    /// Header flags that a front end may not send: another version, a reply, reserved bits.
    #[error("front end sent {request:?} with header flags {flags:#x}")]
    InvalidFlags {
        /// The request.
        request: FrontendReq,
        /// The flags in the header.
        flags: u32,
    },

    /// A body that is too long or too short for its request.
    #[error("front end sent {request:?} with a body of {size_bytes} bytes")]
    InvalidBodySize {
        /// The request.
        request: FrontendReq,
        /// The size in the header.
        size_bytes: u32,
    },

    /// Too many or too few descriptors for the request. All that came were closed.
    #[error("front end sent {request:?} with {count} file descriptors")]
    InvalidDescriptorCount {
        /// The request.
        request: FrontendReq,
        /// How many came.
        count: usize,
    },

    /// More descriptors than any message carries, or than this process may still open. All were
    /// closed.
    #[error(
        "file descriptors of a message were cut off: more than 32, or too many open files here"
    )]
    TooManyDescriptors,

    /// The request was refused, and the front end did not ask to be told.
    #[error("refused {request:?}")]
    Refused {
        /// The request.
        request: FrontendReq,
        /// Why.
        source: Refused,
    },

    /// The front end keeps asking and does not read the answers.
    #[error("front end left more than {limit_bytes} bytes of replies unread")]
    RepliesUnread {
        /// The most that is kept for it.
        limit_bytes: usize,
    },
}

/// Why a socket path cannot be listened on or connected to.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path does not fit a socket address.
    #[error(
        "socket path {path} has {length_bytes} bytes: the kernel takes 1 to 107, use another path"
    )]
    PathLength {
        /// The path.
        path: PathBuf,
        /// Its length.
        length_bytes: usize,
    },

    /// The path holds a zero byte or has no file name.
    #[error("socket path {path:?} is no file name: give the path of a socket file")]
    PathInvalid {
        /// The path.
        path: PathBuf,
    },

    /// There is a directory of that name.
    #[error("socket path {path} is a directory: name a file in it")]
    IsDirectory {
        /// The path.
        path: PathBuf,
    },

    /// There is a file of that name which is no socket.
    #[error("socket path {path} is a file that is no socket: remove it or use another path")]
    NotASocket {
        /// The path.
        path: PathBuf,
    },

    /// The directory for the socket is missing.
    #[error("directory {directory} of socket path {path} does not exist: create it")]
    ParentMissing {
        /// The path.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },

    /// Another process, or another port, listens there.
    #[error("socket path {path} is in use, something answers there: stop it or use another path")]
    InUse {
        /// The path.
        path: PathBuf,
    },

    /// No such user, by name or number.
    #[error("socket owner {owner} does not exist: name a user of this machine or give a number")]
    UnknownOwner {
        /// The name as configured.
        owner: String,
    },

    /// No such group, by name or number.
    #[error("socket group {group} does not exist: name a group of this machine or give a number")]
    UnknownGroup {
        /// The name as configured.
        group: String,
    },

    /// A mode with bits that are no permissions.
    #[error("socket mode {mode:o} is not between 0 and 777: give read and write bits in octal")]
    InvalidMode {
        /// The mode as configured.
        mode: u32,
    },

    /// The user data base could not be read.
    #[error("cannot look up account {name}: give a number instead")]
    AccountLookUp {
        /// The name as configured.
        name: String,
        /// What the system said.
        source: io::Error,
    },

    /// A system call failed for a reason of its own.
    #[error("cannot {call} {path}")]
    Call {
        /// What was tried, to be followed by the path.
        call: &'static str,
        /// The path.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}
