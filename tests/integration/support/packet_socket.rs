//! A raw socket on an interface: frames go out as they are and come in as the kernel saw them.
//! The kernel takes a tag out of what it receives; tests that are about tags read tcpdump.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};

/// A packet socket (packet(7)).
#[derive(Debug)]
pub(crate) struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens one on an interface of the calling thread's network namespace.
    pub(crate) fn open(interface: &str) -> Self {
        let all = i32::from(0x0003u16.to_be());
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: a system call with three integers.
        let socket = unsafe { libc::socket(libc::AF_PACKET, kind, all) };
        assert!(socket >= 0, "packet socket: {}", io::Error::last_os_error());
        // SAFETY: the descriptor was just made and nobody else has it.
        let socket = unsafe { OwnedFd::from_raw_fd(socket) };
        let index = rustix::net::netdevice::name_to_index(&socket, interface).unwrap();
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_protocol: 0x0003u16.to_be(),
            sll_ifindex: i32::try_from(index).unwrap(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = u32::try_from(size_of::<libc::sockaddr_ll>()).unwrap();
        // SAFETY: `address` is a sockaddr_ll of that length and lives through the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
        assert_eq!(bound, 0, "bind to {interface}: {}", io::Error::last_os_error());
        Self { socket }
    }

    /// Sends a frame.
    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = rustix::net::send(&self.socket, frame, SendFlags::empty()).unwrap();
        assert_eq!(sent, frame.len());
    }

    /// The next frame that another has sent, if one is there.
    pub(crate) fn try_receive(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 16 << 10];
        let (length, _) =
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// The next frame with this source.
    pub(crate) fn receive_from(&self, source: [u8; 6]) -> Vec<u8> {
        super::wait_for("a frame on the wire", || {
            self.try_receive().filter(|frame| frame[6..12] == source)
        })
    }
}
