//! One AF_XDP socket: made, given its rings and bound to one receive queue (af_xdp.rst).
//!
//! The first socket of an interface registers the UMEM and decides the mode, zero copy or copy.
//! The others share the UMEM and inherit mode and flags (`XDP_SHARED_UMEM`), each with a fill and
//! a completion ring of its own. A refused zero-copy bind leaves a socket in an unknown state, so
//! the fall-back to copy mode starts with a new one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use crate::rings::{Consumer, Descriptor, Producer, mapping_bytes};
use crate::sys::{self, Mapping};
use crate::umem::{Partition, RECEIVE_CHUNKS, SEND_CHUNKS};
use crate::{Mode, SocketError, ZeroCopy};

/// Slots of the rx ring; the fill ring has twice as many (performance.md, A11.9: a driver refills
/// from it while the rx ring is still full).
const RX_SLOTS: u32 = RECEIVE_CHUNKS / 2;
const FILL_SLOTS: u32 = RECEIVE_CHUNKS;
const TX_SLOTS: u32 = SEND_CHUNKS;
const COMPLETION_SLOTS: u32 = SEND_CHUNKS;

/// Bytes of frames that copy mode may have on the way: the whole tx ring, a page and a half each.
const SEND_BUFFER_BYTES: i32 = 12 * 1_024 * 1_024;

/// A bound socket and its rings.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) fd: OwnedFd,
    pub(crate) fill: Producer<u64>,
    pub(crate) rx: Consumer<Descriptor>,
    pub(crate) tx: Producer<Descriptor>,
    pub(crate) completion: Consumer<u64>,
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

    fn refused(&self, source: io::Error) -> SocketError {
        if source.raw_os_error() == Some(libc::EBUSY) {
            return SocketError::QueueTaken {
                interface: self.interface.to_owned(),
                queue: self.queue,
            };
        }
        SocketError::system("bind xdp socket", self.subject())(source)
    }
}

impl Socket {
    /// The interface's first socket, in the best mode that `wish` and the driver allow.
    pub(crate) fn open_first(
        place: Place<'_>,
        part: &Partition,
        wish: ZeroCopy,
    ) -> Result<(Self, Mode), SocketError> {
        if wish != ZeroCopy::Never {
            let refusal = match Self::open(place, part, libc::XDP_ZEROCOPY, None)? {
                Ok(socket) => return Ok((socket, Mode::ZeroCopy)),
                Err(refusal) => refusal,
            };
            if refusal.raw_os_error() == Some(libc::EBUSY) {
                return Err(place.refused(refusal));
            }
            if wish == ZeroCopy::Always {
                return Err(SocketError::NoZeroCopy {
                    interface: place.interface.to_owned(),
                    queue: place.queue,
                    source: refusal,
                });
            }
        }
        let socket = Self::open(place, part, libc::XDP_COPY, None)?;
        socket.map(|socket| (socket, Mode::Copy)).map_err(|error| place.refused(error))
    }

    /// A further socket of the interface, in the first one's mode.
    pub(crate) fn open_sharing(
        place: Place<'_>,
        part: &Partition,
        first: BorrowedFd<'_>,
    ) -> Result<Self, SocketError> {
        Self::open(place, part, 0, Some(first))?.map_err(|error| place.refused(error))
    }

    /// Makes a socket and tries to bind it. The inner error is that of bind(2).
    fn open(
        place: Place<'_>,
        part: &Partition,
        mode_flag: u16,
        shared: Option<BorrowedFd<'_>>,
    ) -> Result<io::Result<Self>, SocketError> {
        let failed = |call| SocketError::system(call, place.subject());
        let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW).map_err(failed("make xdp socket"))?;
        if shared.is_none() {
            set(&fd, libc::XDP_UMEM_REG, &part.umem.registration())
                .map_err(failed("register umem"))?;
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
        let flags = match shared {
            Some(_) => libc::XDP_SHARED_UMEM,
            None => libc::XDP_USE_NEED_WAKEUP | mode_flag,
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: u16::try_from(libc::AF_XDP).expect("AF_XDP is 44"),
            sxdp_flags: flags,
            sxdp_ifindex: place.index,
            sxdp_queue_id: place.queue,
            sxdp_shared_umem_fd: shared.map_or(0, |fd| fd.as_raw_fd().cast_unsigned()),
        };
        Ok(sys::bind_xdp(socket.fd.as_fd(), &address).map(|()| socket))
    }

    fn with_rings(fd: OwnedFd) -> io::Result<Self> {
        set(&fd, libc::XDP_UMEM_FILL_RING, &FILL_SLOTS)?;
        set(&fd, libc::XDP_UMEM_COMPLETION_RING, &COMPLETION_SLOTS)?;
        set(&fd, libc::XDP_RX_RING, &RX_SLOTS)?;
        set(&fd, libc::XDP_TX_RING, &TX_SLOTS)?;
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
            fd,
        })
    }
}

fn set<T: sys::Plain>(fd: &OwnedFd, name: i32, value: &T) -> io::Result<()> {
    sys::set_option(fd.as_fd(), libc::SOL_XDP, name, value)
}
