//! Descriptors that a front end sends for kicks and calls, checked before a poll thread uses them.
//!
//! A poll thread writes to a call descriptor while traffic flows. On anything but an eventfd
//! that may block, or signal, or worse: a pipe nobody reads, a terminal. So only eventfds are used, and
//! they are made non-blocking: a front end that fills its own counter must not stop a thread.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What `/proc/self/fd` says of an eventfd.
const EVENTFD: &str = "anon_inode:[eventfd]";

/// The descriptor, non-blocking, if it is an eventfd.
pub(crate) fn checked(descriptor: OwnedFd) -> Option<OwnedFd> {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", descriptor.as_raw_fd())).ok()?;
    if link.as_os_str() != EVENTFD {
        log::warn!("a front end sent {} where an eventfd belongs: not used", link.display());
        return None;
    }
    let flags = fcntl_getfl(&descriptor).ok()?;
    if !flags.contains(OFlags::NONBLOCK) {
        fcntl_setfl(&descriptor, flags | OFlags::NONBLOCK).ok()?;
    }
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn blocking_eventfd_is_made_non_blocking() {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC).unwrap();

        let descriptor = checked(descriptor).unwrap();

        assert!(fcntl_getfl(&descriptor).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn pipe_in_place_of_an_eventfd_is_not_used() {
        let (_reader, writer) = std::io::pipe().unwrap();

        assert!(checked(writer.into()).is_none());
    }
}
