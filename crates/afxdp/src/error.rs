//! What can go wrong when an interface is opened. Each text is one sentence for an operator: what
//! was refused, about which interface, and the way out where there is one. Nothing on the way of a
//! frame returns one of these.

use std::io;

/// Why an interface could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A system call failed for a reason that has no variant of its own.
    #[error("{call} for {subject} failed")]
    System {
        /// The call, as an operator finds it in a manual: `bind xdp socket`.
        call: &'static str,
        /// What it was about: an interface, and a queue if one was meant.
        subject: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// There is no interface of this name.
    #[error("there is no interface {interface} (ip link shows those there are)")]
    Missing {
        /// The name that was looked for.
        interface: String,
    },
    /// The loopback interface has no wire behind it.
    #[error("{interface} is a loopback interface, which cannot be an uplink")]
    Loopback {
        /// The interface.
        interface: String,
    },
    /// The host uses the interface; taking it away could cut off whoever gave the order.
    #[error("{interface} {usage}; taking it cuts that off (force takes it all the same)")]
    InUse {
        /// The interface.
        interface: String,
        /// How it is used: `has the address 192.0.2.1`.
        usage: String,
    },
    /// Another program reads this interface's frames.
    #[error(
        "{interface} already has an XDP program \
         (bpftool net show names it, ip link set dev {interface} xdp off removes it)"
    )]
    ProgramPresent {
        /// The interface.
        interface: String,
    },
    /// Another process has an AF_XDP socket on this queue.
    #[error("queue {queue} of {interface} already has an AF_XDP socket of another process")]
    QueueTaken {
        /// The interface.
        interface: String,
        /// Number of the queue.
        queue: u32,
    },
    /// A channel without a socket would lose its frames without a trace.
    #[error(
        "{interface} has {channels} receive channels and at most {limit} can be served \
         (ethtool -L {interface} combined {limit})"
    )]
    TooManyChannels {
        /// The interface.
        interface: String,
        /// Its receive channels.
        channels: u32,
        /// Most that [`Settings`](crate::Settings) allow.
        limit: u32,
    },
    /// A frame would not fit the memory that one frame gets.
    #[error(
        "{interface} has an MTU of {mtu_bytes} bytes, with this driver and kernel it may have \
         {limit_bytes} at most (ip link set dev {interface} mtu {limit_bytes})"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu_bytes: u32,
        /// Largest that works.
        limit_bytes: u32,
    },
    /// The driver keeps each frame in one page of its own layout, and the MTU is too large for it.
    #[error(
        "the driver of {interface} cannot run an XDP program at this MTU \
         (a veth looks at its peer's; 1500 works)"
    )]
    DriverMtu {
        /// The interface.
        interface: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Zero copy was asked for and the driver has none.
    #[error("{interface} cannot do zero copy on queue {queue} (zero-copy auto or never works)")]
    NoZeroCopy {
        /// The interface.
        interface: String,
        /// Number of the queue.
        queue: u32,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Zero copy was asked for and some queues receive without sending: see
    /// [`ZeroCopy`](crate::ZeroCopy).
    #[error(
        "{interface} receives by {channels} queues with an XDP program and sends by {senders}, which \
         zero copy cannot do (ethtool -L {interface} combined MAXIMUM, or zero-copy auto or never)"
    )]
    ReceiveOnly {
        /// The interface.
        interface: String,
        /// Its receive channels.
        channels: u32,
        /// Its queues that send.
        senders: u32,
    },
    /// The driver would change frames before the program sees them and cannot be told not to.
    #[error("{interface} does not let {offload} be switched off (force takes it all the same)")]
    OffloadFixed {
        /// The interface.
        interface: String,
        /// What changes frames: `receive VLAN stripping`.
        offload: &'static str,
    },
    /// The kernel did not load the program; its log says why.
    #[error("the kernel refused the XDP program for {interface}: {log}")]
    ProgramRefused {
        /// The interface.
        interface: String,
        /// The verifier's log.
        log: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// What another process has handed over is not what this one can go on with.
    #[error("{subject} cannot be taken over as it is: {reason}")]
    NotAdopted {
        /// An interface or one of its queues.
        subject: String,
        /// Why not.
        reason: String,
    },
}

impl SocketError {
    /// Wraps what a system call answered.
    pub(crate) fn system(
        call: &'static str,
        subject: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let subject = subject.into();
        move |source| Self::System { call, subject, source }
    }
}
