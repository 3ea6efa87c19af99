//! Orders to the tun driver (linux/if_tun.h) and to a network device (netdevice(7),
//! linux/ethtool.h), by ioctl(2). Those to a device go to the network namespace in which the
//! [`Device`] was made.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `IFNAMSIZ`, with the zero byte at its end.
const NAME_BYTES: usize = 16;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// `struct ifreq`: a name, and 24 bytes whose meaning depends on the command.
#[repr(C)]
struct Request<T> {
    name: [u8; NAME_BYTES],
    value: T,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct EthtoolDriver {
    command: u32,
    driver: [u8; 32],
    versions: [u8; 64],
    bus: [u8; 32],
    rest: [u8; 64],
}

/// `struct ethtool_channels`.
#[derive(Default)]
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
#[repr(C)]
struct Short(u16, [u8; 22]);
#[repr(C)]
struct Int(i32, [u8; 20]);
#[repr(C)]
struct Pointer(*mut c_void, [u8; 16]);

const _: () = assert!(size_of::<Request<Short>>() == 40);
const _: () = assert!(size_of::<Request<Int>>() == 40);
const _: () = assert!(size_of::<Request<Pointer>>() == 40);
const _: () = assert!(size_of::<EthtoolDriver>() == 196);
const _: () = assert!(size_of::<EthtoolChannels>() == 36);

fn request<T>(name: &str, value: T) -> io::Result<Request<T>> {
    let mut request = Request { name: [0; NAME_BYTES], value };
    let place = request.name[..NAME_BYTES - 1].get_mut(..name.len());
    place.ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name.as_bytes());
    Ok(request)
}

/// Turns the C convention into a `Result`.
fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `TUNSETIFF`: makes this open file a queue of the interface, which is made if it is missing.
pub(crate) fn attach(tun: &File, name: &str, flags: u16) -> io::Result<()> {
    let mut request = request(name, Short(flags, [0; 22]))?;
    let place = &raw mut request;
    // SAFETY: `place` is a live `ifreq` of 40 bytes (asserted above), all of it initialised.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETIFF, place) })
}

/// `TUNGETIFF`: says whether the interface stays when its last queue goes.
pub(crate) fn is_persistent(tun: &File) -> io::Result<bool> {
    let mut request = request("", Short(0, [0; 22]))?;
    let place = &raw mut request;
    // SAFETY: `place` is a live `ifreq` of 40 bytes (asserted above), all of it initialised.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNGETIFF, place) })?;
    Ok(i32::from(request.value.0) & libc::IFF_PERSIST != 0)
}

/// `TUNSETVNETHDRSZ`: how long the net header in front of each frame is.
pub(crate) fn set_net_header_bytes(tun: &File, count: c_int) -> io::Result<()> {
    // SAFETY: a live integer, which the kernel only reads.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETHDRSZ, ptr::from_ref(&count)) })
}

/// `TUNSETVNETLE`: net headers are little-endian, whatever the host is.
pub(crate) fn set_net_header_little_endian(tun: &File) -> io::Result<()> {
    let yes: c_int = 1;
    // SAFETY: a live integer, which the kernel only reads.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETVNETLE, ptr::from_ref(&yes)) })
}

/// `TUNSETOFFLOAD`: what the kernel may leave to us. EINVAL if it does not know all of the bits.
pub(crate) fn set_offloads(tun: &File, bits: u32) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::ioctl(tun.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(bits)) })
}

/// A network device, by name. It need not exist.
#[derive(Debug)]
pub(crate) struct Device {
    socket: OwnedFd,
    name: String,
}

impl Device {
    /// Of this name, in the calling thread's network namespace.
    pub(crate) fn new(name: &str) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, flags, None)?;
        Ok(Self { socket, name: name.to_owned() })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Sets `IFF_UP`.
    pub(crate) fn set_up(&self) -> io::Result<()> {
        let mut flags = self.ask(libc::SIOCGIFFLAGS, Short(0, [0; 22]))?;
        flags.0 |= u16::try_from(libc::IFF_UP).unwrap_or(1);
        self.ask(libc::SIOCSIFFLAGS, flags)?;
        Ok(())
    }

    /// The MTU in bytes.
    pub(crate) fn mtu_bytes(&self) -> io::Result<u32> {
        let value = self.ask(libc::SIOCGIFMTU, Int(0, [0; 20]))?;
        Ok(u32::try_from(value.0).unwrap_or(0))
    }

    /// Sets the MTU.
    pub(crate) fn set_mtu(&self, mtu_bytes: u32) -> io::Result<()> {
        // More than the kernel takes, if it does not fit.
        let value = i32::try_from(mtu_bytes).unwrap_or(i32::MAX);
        self.ask(libc::SIOCSIFMTU, Int(value, [0; 20]))?;
        Ok(())
    }

    /// Queues that processes have, if it is a tap and the kernel tells.
    pub(crate) fn attached_queues(&self) -> Option<usize> {
        let mut driver = EthtoolDriver {
            command: ETHTOOL_GDRVINFO,
            driver: [0; 32],
            versions: [0; 64],
            bus: [0; 32],
            rest: [0; 64],
        };
        self.ethtool(&mut driver).ok()?;
        if !driver.driver.starts_with(b"tun\0") || !driver.bus.starts_with(b"tap\0") {
            return None;
        }
        let mut channels = EthtoolChannels { command: ETHTOOL_GCHANNELS, ..Default::default() };
        self.ethtool(&mut channels).ok()?;
        usize::try_from(channels.combined_count).ok()
    }

    fn ethtool<T>(&self, command: &mut T) -> io::Result<()> {
        self.ask(libc::SIOCETHTOOL, Pointer(ptr::from_mut(command).cast(), [0; 16])).map(drop)
    }

    fn ask<T>(&self, command: libc::c_ulong, value: T) -> io::Result<T> {
        let mut request = request(&self.name, value)?;
        let place = &raw mut request;
        // SAFETY: `place` is a live `ifreq` of 40 bytes (asserted above), all of it initialised. A
        // pointer in it comes from `ethtool`, which borrows a structure of the size that the command
        // in its first field has.
        check(unsafe { libc::ioctl(self.socket.as_raw_fd(), command, place) })?;
        Ok(request.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_that_would_lose_its_end_is_refused() {
        assert!(request("fifteen-bytes-x", ()).is_ok());
        assert!(request("sixteen-bytes-xx", ()).is_err());
    }
}
