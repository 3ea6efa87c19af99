//! The far end of a wire: what arrives there is counted by the interface, and some of it looked at.
//!
//! The interface's counters (`/proc/net/dev`) take in every frame at no cost; a packet socket
//! (packet(7)) gets those that a filter in the kernel lets through, one in 256 or all of them. Both
//! stay in the namespace in which they were made.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// Local experimental EtherType 1 (802-2014, 9.2.4): the streams' frames.
const EXPERIMENTAL: u16 = 0x88b5;

/// Room for the frames that pass the filter in one sample of a second: 1 in 256 of four million,
/// at a page each. They are read when the clock has stopped.
const BUFFER_BYTES: usize = 64 << 20;

/// What an interface has received.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Received {
    pub(crate) frames: u64,
    pub(crate) bytes: u64,
}

impl Received {
    /// What came after another count.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self { frames: self.frames - before.frames, bytes: self.bytes - before.bytes }
    }
}

/// An interface at which frames arrive.
#[derive(Debug)]
pub(crate) struct Sink {
    interface: String,
    counters: File,
    socket: OwnedFd,
}

impl Sink {
    /// One of the calling thread's namespace, whose socket gets frames with the number's bits
    /// under `mask` zero: 255 for one in 256, 0 for all.
    pub(crate) fn open(interface: &str, mask: u8) -> Result<Self, String> {
        let counters = File::open("/proc/thread-self/net/dev")
            .map_err(|error| format!("cannot read the counters of {interface}: {error}"))?;
        let socket = open_socket(interface, mask)
            .map_err(|error| format!("packet socket on {interface}: {error}"))?;
        Ok(Self { interface: interface.to_owned(), counters, socket })
    }

    /// What has been received since the interface was made.
    pub(crate) fn received(&self) -> Result<Received, String> {
        let mut text = String::new();
        let mut file = &self.counters;
        file.seek(SeekFrom::Start(0))
            .and_then(|_| file.read_to_string(&mut text))
            .map_err(|error| format!("cannot read the counters of {}: {error}", self.interface))?;
        let numbers = text.lines().find_map(|line| {
            let (name, numbers) = line.trim().split_once(':')?;
            (name == self.interface).then_some(numbers)
        });
        let mut numbers = numbers.into_iter().flat_map(str::split_whitespace).flat_map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(bytes), Some(frames)) => Ok(Received { frames, bytes }),
            _ => Err(format!("there are no counters of {}", self.interface)),
        }
    }

    /// Sends a frame the other way.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<(), String> {
        rustix::net::send(&self.socket, frame, SendFlags::empty())
            .map(drop)
            .map_err(|error| format!("cannot send from {}: {error}", self.interface))
    }

    /// Shows `look` the frames that have passed the filter. Returns how many they were.
    pub(crate) fn take(&self, mut look: impl FnMut(&[u8])) -> u64 {
        let mut buffer = [0; 1 << 16];
        let mut count = 0;
        while let Ok((length, _)) =
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT)
        {
            look(&buffer[..length]);
            count += 1;
        }
        count
    }
}

/// A raw socket that gets nothing but what the filter lets through, from the first moment on.
fn open_socket(interface: &str, mask: u8) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket_with(
        AddressFamily::PACKET,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        None,
    )?;
    set_socket_recv_buffer_size_force(&socket, BUFFER_BYTES)?;
    attach(&socket, mask)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    let address = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
        sll_protocol: EXPERIMENTAL.to_be(),
        sll_ifindex: i32::try_from(index).map_err(io::Error::other)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = u32::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
    // SAFETY: `address` is a sockaddr_ll of that length and lives through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if bound < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// Attaches the filter: the lowest byte of the number, at 14, has no bit of `mask`.
fn attach(socket: &OwnedFd, mask: u8) -> io::Result<()> {
    let make = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        make(0x30, 0, 0, 14),              // ldb [14]
        make(0x45, 1, 0, u32::from(mask)), // jset mask, drop
        make(0x06, 0, 0, u32::MAX),        // ret whole frame
        make(0x06, 0, 0, 0),               // drop: ret 0
    ];
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    let length = u32::try_from(size_of::<libc::sock_fprog>()).map_err(io::Error::other)?;
    // SAFETY: `program` is a sock_fprog of that length with four instructions, and both live
    // through the call, which copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
