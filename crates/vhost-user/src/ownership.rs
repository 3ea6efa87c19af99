//! Whose a socket file is: names become numbers, and numbers are put on the file.
//!
//! A guest under libvirt runs as a user of its own, and connecting to a socket takes write
//! permission on its file. Names are resolved through the system's look-up (NSS), so users
//! from a directory service count; plain numbers need not exist as accounts, as with chown(1).
//! Everything is resolved and checked before anything is made.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Group, User};

use crate::error::SocketError;

/// Whose the socket file is and who may connect, so that a guest's QEMU need not be root.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ownership {
    /// A user's name or number; `None`: the user of this process.
    pub owner: Option<String>,
    /// A group's name or number; `None`: the group of this process.
    pub group: Option<String>,
    /// Permissions, 0 to 0o777, of which connecting takes write. `None`: as the umask has it.
    pub mode: Option<u32>,
}

/// The same in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResolvedOwnership {
    owner: Option<u32>,
    group: Option<u32>,
    mode: Option<u32>,
}

impl Ownership {
    /// Turns names into numbers.
    ///
    /// # Errors
    ///
    /// [`SocketError`] for an account that does not exist and for a mode that is none.
    pub(crate) fn resolve(&self) -> Result<ResolvedOwnership, SocketError> {
        if let Some(mode) = self.mode.filter(|mode| *mode > 0o777) {
            return Err(SocketError::InvalidMode { mode });
        }
        Ok(ResolvedOwnership {
            owner: self.owner.as_deref().map(user_number).transpose()?,
            group: self.group.as_deref().map(group_number).transpose()?,
            mode: self.mode,
        })
    }
}

impl ResolvedOwnership {
    /// Puts owner, group and mode on a file, not following a link. The mode comes last: until
    /// then nobody gains by the change of owner.
    ///
    /// # Errors
    ///
    /// [`SocketError::Call`] if the kernel refuses, for instance because giving files away takes
    /// CAP_CHOWN.
    pub(crate) fn put_on(self, file: &Path) -> Result<(), SocketError> {
        let failed = |call| {
            move |source: io::Error| SocketError::Call { call, path: file.to_owned(), source }
        };
        if self.owner.is_some() || self.group.is_some() {
            lchown(file, self.owner, self.group).map_err(failed("change owner or group of"))?;
        }
        if let Some(mode) = self.mode {
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(file, permissions).map_err(failed("change mode of"))?;
        }
        Ok(())
    }
}

fn user_number(name: &str) -> Result<u32, SocketError> {
    match number(name) {
        Some(id) => Ok(id),
        None => look_up(name, User::from_name(name))?
            .map(|user| user.uid.as_raw())
            .ok_or_else(|| SocketError::UnknownOwner { owner: name.to_owned() }),
    }
}

fn group_number(name: &str) -> Result<u32, SocketError> {
    match number(name) {
        Some(id) => Ok(id),
        None => look_up(name, Group::from_name(name))?
            .map(|group| group.gid.as_raw())
            .ok_or_else(|| SocketError::UnknownGroup { group: name.to_owned() }),
    }
}

/// A number as such. The largest stands for "leave as it is" in chown(2), so it is none.
fn number(name: &str) -> Option<u32> {
    name.parse().ok().filter(|id| *id != u32::MAX)
}

/// "Not found" comes as an error from some systems' look-ups (getpwnam(3), NOTES).
fn look_up<T>(name: &str, found: nix::Result<Option<T>>) -> Result<Option<T>, SocketError> {
    match found {
        Err(Errno::ENOENT | Errno::ESRCH | Errno::EBADF | Errno::EPERM) => Ok(None),
        found => found.map_err(|errno| SocketError::AccountLookUp {
            name: name.to_owned(),
            source: errno.into(),
        }),
    }
}
