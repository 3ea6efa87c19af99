//! What can go wrong when a tap is opened. Each text is one sentence for an operator: what was
//! refused, about which interface, and the way out where there is one. Nothing on the way of a
//! frame returns one of these.

use std::io;

/// Most queues of one tap (`MAX_TAP_QUEUES`, drivers/net/tun.c).
pub(crate) const MAX_QUEUES: usize = 256;

/// Why a tap could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A system call failed for a reason that has no variant of its own.
    #[error("cannot {call} for {subject}")]
    System {
        /// What was tried: `set mtu`.
        call: &'static str,
        /// What it was about: an interface.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The kernel would refuse the name, or make another one of it.
    #[error(
        "{name:?} cannot be the name of an interface \
         (1 to 15 bytes, no white space, none of / : %, and neither . nor ..)"
    )]
    NameInvalid {
        /// The name.
        name: String,
    },
    /// The kernel's tun driver is not there, or not in this container.
    #[error(
        "cannot open tap {interface}: there is no /dev/net/tun \
         (modprobe tun; a container needs the device passed in)"
    )]
    DriverMissing {
        /// The interface that was wanted.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Making an interface takes a privilege; attaching to somebody else's does, too.
    #[error(
        "not permitted to open tap {interface} (CAP_NET_ADMIN is needed, or a tap of one's own: \
         ip tuntap add dev {interface} mode tap multi_queue vnet_hdr user NAME)"
    )]
    NotPermitted {
        /// The interface that was wanted.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The name is taken by something that is not a tap.
    #[error(
        "{interface} is an interface already and not a tap \
         (ip -details link show dev {interface} tells what it is; choose another name)"
    )]
    OtherKind {
        /// The interface.
        interface: String,
    },
    /// Frames would go to whoever has the other queues, or there is no queue left to have.
    #[error(
        "tap {interface} is in use by another process \
         (ip -details tuntap show dev {interface} names it; end it or choose another name)"
    )]
    Busy {
        /// The interface.
        interface: String,
    },
    /// The kernel has a limit.
    #[error("tap {interface} cannot have {queues} queues: at most {MAX_QUEUES}")]
    TooManyQueues {
        /// The interface that was wanted.
        interface: String,
        /// Queues that were asked for.
        queues: usize,
    },
}

impl TapError {
    /// Wraps what a system call answered.
    pub(crate) fn system(
        call: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| Self::System { call, subject, source }
    }

    /// What it means that /dev/net/tun could not be opened.
    pub(crate) fn of_device(interface: &str, source: io::Error) -> Self {
        let interface = interface.to_owned();
        match source.raw_os_error() {
            // ENODEV and ENXIO: there is a file, but no driver behind it.
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENODEV | libc::ENXIO) => {
                Self::DriverMissing { interface, source }
            }
            Some(libc::EACCES | libc::EPERM) => Self::NotPermitted { interface, source },
            _ => Self::System { call: "open /dev/net/tun", subject: interface, source },
        }
    }

    /// What it means that `TUNSETIFF` was refused with a valid name. EINVAL is not among it if the
    /// interface might have one queue only: then that is to be tried.
    pub(crate) fn of_attachment(interface: &str, source: io::Error) -> Self {
        let interface = interface.to_owned();
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { interface, source },
            Some(libc::EINVAL) => Self::OtherKind { interface },
            // E2BIG: all queues that a tap can have are taken.
            Some(libc::EBUSY | libc::E2BIG) => Self::Busy { interface },
            _ => Self::System { call: "attach to tap", subject: interface, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: i32) -> String {
        TapError::of_attachment("tap7", io::Error::from_raw_os_error(code)).to_string()
    }

    fn unopened(code: i32) -> String {
        TapError::of_device("tap7", io::Error::from_raw_os_error(code)).to_string()
    }

    #[test]
    fn each_refusal_to_attach_names_the_interface_and_the_way_out() {
        assert_eq!(
            refused(libc::EPERM),
            "not permitted to open tap tap7 (CAP_NET_ADMIN is needed, or a tap of one's own: \
             ip tuntap add dev tap7 mode tap multi_queue vnet_hdr user NAME)"
        );
        assert_eq!(
            refused(libc::EINVAL),
            "tap7 is an interface already and not a tap \
             (ip -details link show dev tap7 tells what it is; choose another name)"
        );
        assert_eq!(
            refused(libc::EBUSY),
            "tap tap7 is in use by another process \
             (ip -details tuntap show dev tap7 names it; end it or choose another name)"
        );
        assert_eq!(refused(libc::ENOMEM), "cannot attach to tap for tap7");
    }

    #[test]
    fn missing_driver_and_closed_device_are_told_apart() {
        let missing = "cannot open tap tap7: there is no /dev/net/tun \
                       (modprobe tun; a container needs the device passed in)";

        assert_eq!(unopened(libc::ENOENT), missing);
        assert_eq!(unopened(libc::ENODEV), missing);
        assert!(unopened(libc::EACCES).starts_with("not permitted to open tap tap7"));
        assert_eq!(unopened(libc::EMFILE), "cannot open /dev/net/tun for tap7");
    }
}
