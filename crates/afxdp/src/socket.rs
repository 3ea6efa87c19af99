//! One AF_XDP socket: made, given its rings and bound to one receive queue (af_xdp.rst).
//!
//! The first socket of a UMEM registers it and decides its mode, zero copy or copy. All others, of
//! whatever interface, share the UMEM and inherit mode and flags (`XDP_SHARED_UMEM`) from any one
//! that is bound, each with a fill and a completion ring of its own. A refused bind leaves a socket
//! in an unknown state, so another attempt starts with a new one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chunks::Part;
use crate::rings::{Consumer, Descriptor, Producer, mapping_bytes};
use crate::sys::{self, Mapping};
use crate::umem::{RECEIVE_CHUNKS, SEND_CHUNKS};
use crate::{Mode, SocketError};

/// Slots of the rx ring; the fill ring has twice as many (performance.md, A11.9: a driver refills
/// from it while the rx ring is still full).
const RX_SLOTS: u32 = RECEIVE_CHUNKS / 2;
const FILL_SLOTS: u32 = RECEIVE_CHUNKS;
const TX_SLOTS: u32 = SEND_CHUNKS;
const COMPLETION_SLOTS: u32 = SEND_CHUNKS;

/// Bytes of frames that copy mode may have on the way: the whole tx ring, a page and a half each.
const SEND_BUFFER_BYTES: i32 = 12 * 1_024 * 1_024;

/// Slots of a socket's rings: fill, completion, rx, tx.
pub(crate) const SLOTS: [u32; 4] = [FILL_SLOTS, COMPLETION_SLOTS, RX_SLOTS, TX_SLOTS];

/// A bound socket and its rings.
#[derive(Debug)]
pub(crate) struct Socket {
    /// The pool has a weak handle of it, to let others share the UMEM while it is there.
    pub(crate) fd: Arc<OwnedFd>,
    pub(crate) fill: Producer<u64>,
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    pub(crate) completion: Consumer<u64>,
}

/// What a socket asks of the kernel, and all that share its UMEM with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) mode: Mode,
    /// Frames may lie in several buffers (`XDP_USE_SG`, Linux 6.6): jumbo frames.
    pub(crate) is_multi_buffer: bool,
}

impl Terms {
    fn bind_flags(self) -> u16 {
        let mode = match self.mode {
            Mode::Copy => libc::XDP_COPY,
            Mode::ZeroCopy => libc::XDP_ZEROCOPY,
        };
        let buffers = if self.is_multi_buffer { libc::XDP_USE_SG } else { 0 };
        libc::XDP_USE_NEED_WAKEUP | mode | buffers
    }
}

/// Where a socket is bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) interface: &'a str,
    pub(crate) index: u32,
    pub(crate) queue: u32,
}

impl Place<'_> {
    fn subject(&self) -> String {
        format!("{} queue {}", self.interface, self.queue)
    }

    /// What bind(2) answered, for an operator.
    pub(crate) fn refused(&self, source: io::Error) -> SocketError {
        if source.raw_os_error() == Some(libc::EBUSY) {
            return SocketError::QueueTaken {
                interface: self.interface.to_owned(),
                queue: self.queue,
            };
        }
        SocketError::system("bind xdp socket", self.subject())(source)
    }
}

/// How a socket gets its UMEM.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Source<'a> {
    /// It registers it, on these terms.
    Register(Terms),
    /// It shares that of a bound socket.
    Share(BorrowedFd<'a>),
}

impl Socket {
    /// Makes a socket with the chunks of `part` and tries to bind it. The inner error is that of
    /// bind(2).
    pub(crate) fn open(
        place: Place<'_>,
        part: &Part,
        source: Source<'_>,
    ) -> Result<io::Result<Self>, SocketError> {
        let failed = |call| SocketError::system(call, place.subject());
        let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW).map_err(failed("make xdp socket"))?;
        if matches!(source, Source::Register(_)) {
            part.umem().register(fd.as_fd()).map_err(failed("register umem"))?;
        }
        let mut socket = Self::with_rings(fd).map_err(failed("make xdp rings"))?;
        // Without CAP_NET_ADMIN or on old kernels the default stays, which is slower and works.
        let _ = sys::set_option(
            socket.fd.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUFFORCE,
            &SEND_BUFFER_BYTES,
        );
        for chunk in part.receive_chunks() {
            socket.fill.push(chunk);
        }
        socket.fill.submit();
        // Flags other than XDP_SHARED_UMEM are inherited and must not be given again.
        let (flags, shared) = match source {
            Source::Share(fd) => (libc::XDP_SHARED_UMEM, fd.as_raw_fd().cast_unsigned()),
            Source::Register(terms) => (terms.bind_flags(), 0),
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).expect("AF_XDP is 44"),
            sxdp_flags: flags,
            sxdp_ifindex: place.index,
            sxdp_queue_id: place.queue,
            sxdp_shared_umem_fd: shared,
        };
        Ok(sys::bind(socket.fd.as_fd(), &address).map(|()| socket))
    }

    fn with_rings(fd: OwnedFd) -> io::Result<Self> {
        set(&fd, libc::XDP_UMEM_FILL_RING, &FILL_SLOTS)?;
        set(&fd, libc::XDP_UMEM_COMPLETION_RING, &COMPLETION_SLOTS)?;
        set(&fd, libc::XDP_RX_RING, &RX_SLOTS)?;
        set(&fd, libc::XDP_TX_RING, &TX_SLOTS)?;
        Self::map_rings(fd)
    }

    /// A socket that another process has made and bound, with rings of these sizes. Kernels before
    /// 6.4 do not map the rings of a bound socket (EBUSY).
    pub(crate) fn adopt(fd: OwnedFd) -> io::Result<Self> {
        Self::map_rings(fd)
    }

    fn map_rings(fd: OwnedFd) -> io::Result<Self> {
        let offsets: libc::xdp_mmap_offsets =
            sys::get_option(fd.as_fd(), libc::SOL_XDP, libc::XDP_MMAP_OFFSETS)?;
        let map = |offset, length_bytes| Mapping::ring(fd.as_fd(), offset, length_bytes);
        let fill = map(0x1_0000_0000, mapping_bytes::<u64>(&offsets.fr, FILL_SLOTS))?;
        let completion = map(0x1_8000_0000, mapping_bytes::<u64>(&offsets.cr, COMPLETION_SLOTS))?;
        let rx = map(0, mapping_bytes::<Descriptor>(&offsets.rx, RX_SLOTS))?;
        let tx = map(0x8000_0000, mapping_bytes::<Descriptor>(&offsets.tx, TX_SLOTS))?;
        Ok(Self {
            fill: Producer::new(fill, &offsets.fr, FILL_SLOTS),
            completion: Consumer::new(completion, &offsets.cr, COMPLETION_SLOTS),
            rx: Consumer::new(rx, &offsets.rx, RX_SLOTS),
            tx: Producer::new(tx, &offsets.tx, TX_SLOTS),
            fd: Arc::new(fd),
        })
    }
}

/// Its rings on their way from one process to another.
impl Socket {
    /// Goes on where the other process has stopped.
    pub(crate) fn catch_up(&mut self) {
        self.fill.catch_up();
        self.rx.catch_up();
        self.tx.catch_up();
        self.completion.catch_up();
    }

    /// Says whether another process has worked at it.
    pub(crate) fn was_moved(&self) -> bool {
        self.fill.was_moved()
            || self.rx.was_moved()
            || self.tx.was_moved()
            || self.completion.was_moved()
    }
}

fn set<T: sys::Plain>(fd: &OwnedFd, name: i32, value: &T) -> io::Result<()> {
    sys::set_option(fd.as_fd(), libc::SOL_XDP, name, value)
}
