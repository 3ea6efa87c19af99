//! Questions to and orders for a network device: netdevice(7) and linux/ethtool.h, by ioctl(2) on
//! a socket of its own. They go to the network namespace in which the [`Device`] was found.
//!
//! A driver that does not know a command answers EOPNOTSUPP; that is `None` here where the
//! absence of an answer is an answer.

#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::ptr;

use crate::sys;

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GTSO: u32 = 0x1e;
const ETHTOOL_GFLAGS: u32 = 0x25;
const ETHTOOL_SFLAGS: u32 = 0x26;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
const PACKET_MR_PROMISC: u16 = 1;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_QDISC_BYPASS: libc::c_int = 20;

/// Bytes of large frames that may be on their way out of an interface: some thirty of them.
const LARGE_FRAME_BYTES: libc::c_int = 4 << 20;

/// `ETH_FLAG_RXVLAN`: the NIC takes tags out before anybody sees the frame.
pub(crate) const FLAG_RX_VLAN: u32 = 1 << 8;
/// `ETH_FLAG_LRO`: the NIC merges frames.
pub(crate) const FLAG_LRO: u32 = 1 << 15;

/// `struct ifreq`: a name, and 24 bytes whose meaning depends on the command.
#[repr(C)]
struct Request<T> {
    name: [u8; 16],
    value: T,
}

/// `struct ethtool_value`.
#[derive(Clone, Copy)]
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// `struct ethtool_channels`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct EthtoolChannels {
    command: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx_count: u32,
    tx_count: u32,
    other_count: u32,
    combined_count: u32,
}

/// The three shapes of the union that are used, each as long as the kernel's.
#[derive(Clone, Copy)]
#[repr(C)]
struct Short(i16, [u8; 22]);
#[derive(Clone, Copy)]
#[repr(C)]
struct Int(i32, [u8; 20]);
#[repr(C)]
struct Pointer(*mut libc::c_void, [u8; 16]);

const _: () = assert!(size_of::<Request<Short>>() == 40);
const _: () = assert!(size_of::<Request<Int>>() == 40);
const _: () = assert!(size_of::<Request<Pointer>>() == 40);
const _: () = assert!(size_of::<EthtoolChannels>() == 36);

/// A network device, by name and number.
#[derive(Debug)]
pub(crate) struct Device {
    socket: OwnedFd,
    name: String,
    index: u32,
}

impl Device {
    /// Finds the device; `None` if there is none of this name.
    pub(crate) fn find(name: &str) -> io::Result<Option<Self>> {
        // A name has at most 15 bytes (IFNAMSIZ), and one with a zero byte cannot exist.
        let Ok(text) = CString::new(name) else { return Ok(None) };
        if name.is_empty() || name.len() > 15 {
            return Ok(None);
        }
        // SAFETY: `text` is a live string that ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(text.as_ptr()) };
        if index == 0 {
            return Ok(None);
        }
        let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM)?;
        Ok(Some(Self { socket, name: name.to_owned(), index }))
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Its number in its namespace.
    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// `IFF_UP` and its fellows.
    pub(crate) fn flags(&self) -> io::Result<i32> {
        let request = self.ask(libc::SIOCGIFFLAGS, Short(0, [0; 22]))?;
        Ok(i32::from(request.0))
    }

    /// Sets `IFF_UP`.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        let mut flags = self.ask(libc::SIOCGIFFLAGS, Short(0, [0; 22]))?;
        flags.0 |= i16::try_from(libc::IFF_UP).unwrap_or(1);
        self.ask(libc::SIOCSIFFLAGS, flags)?;
        Ok(())
    }

    /// The MTU in bytes.
    pub(crate) fn mtu_bytes(&self) -> io::Result<u32> {
        let request = self.ask(libc::SIOCGIFMTU, Int(0, [0; 20]))?;
        Ok(u32::try_from(request.0).unwrap_or(0))
    }

    /// Says whether the device has an IPv4 address.
    pub(crate) fn has_ipv4_address(&self) -> io::Result<bool> {
        match self.ask(libc::SIOCGIFADDR, Int(0, [0; 20])) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EADDRNOTAVAIL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Channels that receive, alone or combined.
    pub(crate) fn receive_channels(&self) -> io::Result<Option<u32>> {
        let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..Default::default() };
        let is_known = self.ethtool(&mut channels)?;
        Ok(is_known.then(|| channels.rx_count.saturating_add(channels.combined_count)))
    }

    /// The `FLAG_` bits that are on.
    pub(crate) fn offload_flags(&self) -> io::Result<Option<u32>> {
        let mut value = EthtoolValue { command: ETHTOOL_GFLAGS, data: 0 };
        let is_known = self.ethtool(&mut value)?;
        Ok(is_known.then_some(value.data))
    }

    /// Sets the `FLAG_` bits. What the driver did of it shows in [`offload_flags`](Self::offload_flags).
    pub(crate) fn set_offload_flags(&self, flags: u32) -> io::Result<()> {
        self.ethtool(&mut EthtoolValue { command: ETHTOOL_SFLAGS, data: flags })?;
        Ok(())
    }

    /// A packet socket that keeps the device promiscuous as long as it is open, and receives
    /// nothing itself (protocol 0).
    pub(crate) fn make_promiscuous(&self) -> io::Result<OwnedFd> {
        let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW)?;
        let membership = sys::PacketMembership {
            interface_index: i32::try_from(self.index).map_err(io::Error::other)?,
            kind: PACKET_MR_PROMISC,
            address_length: 0,
            address: [0; 8],
        };
        sys::set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_ADD_MEMBERSHIP, &membership)?;
        Ok(socket)
    }

    /// Says whether the device takes large TCP frames of any kind.
    pub(crate) fn segments_tcp(&self) -> bool {
        let mut value = EthtoolValue { command: ETHTOOL_GTSO, data: 0 };
        self.ethtool(&mut value).is_ok_and(|is_known| is_known && value.data != 0)
    }

    /// A packet socket that sends frames with net headers by the device past its queueing discipline,
    /// does not wait, and receives nothing (protocol 0).
    pub(crate) fn large_frame_socket(&self) -> io::Result<OwnedFd> {
        let socket = sys::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_NONBLOCK)?;
        let fd = socket.as_fd();
        sys::set_option(fd, libc::SOL_PACKET, PACKET_VNET_HDR, &1_i32)?;
        sys::set_option(fd, libc::SOL_PACKET, PACKET_QDISC_BYPASS, &1_i32)?;
        // Without it, fewer are on their way at a time.
        let _ = sys::set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &LARGE_FRAME_BYTES);
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).map_err(io::Error::other)?,
            sll_protocol: 0,
            sll_ifindex: i32::try_from(self.index).map_err(io::Error::other)?,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        sys::bind(fd, &address)?;
        Ok(socket)
    }

    /// Sends an ethtool command. `false` if the driver does not know it.
    fn ethtool<T: Copy>(&self, command: &mut T) -> io::Result<bool> {
        let pointer = Pointer(ptr::from_mut(command).cast(), [0; 16]);
        match self.ask(SIOCETHTOOL, pointer) {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ask<T>(&self, command: libc::c_ulong, value: T) -> io::Result<T> {
        let mut request = Request { name: [0; 16], value };
        // `find` let no name through that is longer than 15 bytes.
        request.name[..self.name.len()].copy_from_slice(self.name.as_bytes());
        let place = &raw mut request;
        // SAFETY: `place` is a live `ifreq` of 40 bytes (asserted above), all of it initialised. A
        // pointer in it comes from `ethtool`, which borrows a structure of the size that the
        // command in its first field has.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), command, place) };
        sys::check(result)?;
        Ok(request.value)
    }
}
