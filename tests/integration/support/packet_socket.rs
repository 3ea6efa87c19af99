//! A raw socket on an interface: frames go out as they are and come in as the kernel saw them.
//! The kernel takes a tag out of what it receives, and says so beside it; tests that are about tags
//! read tcpdump.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::net::{RecvFlags, SendFlags};
use virtio::offload::NetHeader;

/// Room for frames that wait to be received: as many as one large frame is cut into, and more.
const RECEIVE_BYTES: libc::c_int = 8 << 20;

/// Longest frame that is received.
const FRAME_BYTES: usize = 16 << 10;

/// Longest frame that is received where it may be large, with its net header.
const LARGE_FRAME_BYTES: usize = 68 << 10;

/// `PACKET_VNET_HDR` (linux/if_packet.h): a net header of ten bytes in front of each frame.
const PACKET_VNET_HDR: libc::c_int = 15;
const NET_HEADER_BYTES: usize = 10;

/// Where a tag stands in a frame.
const TAG_OFFSET: usize = 12;

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

    /// Sends a frame if the interface takes it: one of a tap does not without a switch.
    pub(crate) fn try_send(&self, frame: &[u8]) {
        let _ = rustix::net::send(&self.socket, frame, SendFlags::empty());
    }

    /// The next frame that another has sent, if one is there.
    pub(crate) fn try_receive(&self) -> Option<Vec<u8>> {
        self.try_receive_up_to(FRAME_BYTES)
    }

    fn try_receive_up_to(&self, bytes: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; bytes];
        let (length, _) =
            rustix::net::recv(&self.socket, &mut buffer[..], RecvFlags::DONTWAIT).ok()?;
        buffer.truncate(length);
        Some(buffer)
    }

    /// Gets ready for frames that come many at once, and with tags.
    pub(crate) fn prepare_for_tags(&self) {
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES);
        self.set_option(libc::SOL_PACKET, libc::PACKET_AUXDATA, 1);
    }

    /// Lets frames come and go as the host's own stack has them, with what is left to be done.
    pub(crate) fn prepare_for_offloads(&self) {
        self.set_option(libc::SOL_PACKET, PACKET_VNET_HDR, 1);
        self.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BYTES);
        self.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, RECEIVE_BYTES);
    }

    /// Sends a frame that something is to be done to.
    pub(crate) fn send_asking(&self, net_header: NetHeader, frame: &[u8]) {
        self.send(&[&net_header.to_bytes(0)[..NET_HEADER_BYTES], frame].concat());
    }

    /// The next frame that another has sent and what is left to do to it, if one is there.
    pub(crate) fn try_receive_told(&self) -> Option<(NetHeader, Vec<u8>)> {
        let mut head = self.try_receive_up_to(LARGE_FRAME_BYTES)?;
        let frame = head.split_off(NET_HEADER_BYTES);
        head.resize(12, 0);
        Some((NetHeader::from_bytes(head.first_chunk()?), frame))
    }

    fn set_option(&self, level: libc::c_int, option: libc::c_int, number: libc::c_int) {
        let length = u32::try_from(size_of_val(&number)).unwrap();
        let socket = self.socket.as_raw_fd();
        // SAFETY: `number` is an integer of that length and lives through the call.
        let set =
            unsafe { libc::setsockopt(socket, level, option, (&raw const number).cast(), length) };
        assert_eq!(set, 0, "socket option {option}: {}", io::Error::last_os_error());
    }

    /// The next frame that another has sent, with its tag, if one is there.
    pub(crate) fn try_receive_with_tag(&self) -> Option<Vec<u8>> {
        let (mut frame, tag) = self.try_receive_and_tag(FRAME_BYTES)?;
        frame.splice(TAG_OFFSET..TAG_OFFSET, tag);
        Some(frame)
    }

    /// The next frame that another has sent, with its tag and what is left to do to it, if one is
    /// there.
    pub(crate) fn try_receive_told_with_tag(&self) -> Option<(NetHeader, Vec<u8>)> {
        let (mut head, tag) = self.try_receive_and_tag(LARGE_FRAME_BYTES)?;
        let mut frame = head.split_off(NET_HEADER_BYTES);
        head.resize(12, 0);
        let mut net_header = NetHeader::from_bytes(head.first_chunk()?);
        // The kernel counts from the start of a frame without tag.
        if net_header.flags & NetHeader::NEEDS_CSUM != 0 {
            net_header.csum_start += u16::try_from(tag.len()).unwrap();
        }
        frame.splice(TAG_OFFSET..TAG_OFFSET, tag);
        Some((net_header, frame))
    }

    /// The next frame as it is in a buffer of so many bytes, and the tag that was in it: four
    /// bytes, or none.
    fn try_receive_and_tag(&self, bytes: usize) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut frame = vec![0; bytes];
        // What is said beside it: a control message of a tpacket_auxdata, aligned as one.
        let mut beside = [0u64; 16];
        let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
        // SAFETY: all zeros is a message header without anything.
        let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
        (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
        (message.msg_control, message.msg_controllen) =
            (beside.as_mut_ptr().cast(), size_of_val(&beside));
        let socket = self.socket.as_raw_fd();
        // SAFETY: `message` names one part and the room beside it, which live through the call.
        let length = unsafe { libc::recvmsg(socket, &raw mut message, libc::MSG_DONTWAIT) };
        frame.truncate(usize::try_from(length).ok()?);
        // SAFETY: the kernel has filled the message in, and its room lives still.
        let said = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
        assert!(!said.is_null(), "the kernel says nothing of tags");
        // SAFETY: the only control message that was asked for is of this type.
        let data = unsafe { libc::CMSG_DATA(said) };
        // SAFETY: as above; it may not be aligned.
        let said = unsafe { data.cast::<libc::tpacket_auxdata>().read_unaligned() };
        let has_tag = said.tp_status & libc::TP_STATUS_VLAN_VALID != 0;
        let tag = [said.tp_vlan_tpid.to_be_bytes(), said.tp_vlan_tci.to_be_bytes()].concat();
        Some((frame, if has_tag { tag } else { Vec::new() }))
    }

    /// The next frame with this source.
    pub(crate) fn receive_from(&self, source: [u8; 6]) -> Vec<u8> {
        super::wait_for("a frame on the wire", || {
            self.try_receive().filter(|frame| frame[6..12] == source)
        })
    }
}
