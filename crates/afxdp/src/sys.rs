//! The system calls of AF_XDP that no safe crate covers: sockets and their options, mappings and
//! bpf(2). One function a call, each safe to use: what it hands to the kernel is a value that it
//! borrows for the length of the call, and what comes back is a plain structure.
//!
//! [`Plain`] marks the structures that may cross: `repr(C)`, no padding that matters, valid for
//! every bit pattern. Its implementations below are the only places where that is claimed.
//!
//! See linux/if_xdp.h, linux/bpf.h, socket(7), packet(7), mmap(2).

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};

/// A structure that the kernel may read and fill in whatever way it likes.
///
/// # Safety
///
/// Every bit pattern is a valid value, and the type has a layout that the kernel shares.
pub(crate) unsafe trait Plain: Copy {}

// SAFETY: a C integer; every bit pattern is one.
unsafe impl Plain for c_int {}
// SAFETY: a C integer; every bit pattern is one.
unsafe impl Plain for u32 {}
// SAFETY: `repr(C)` and integers only, as declared by libc.
unsafe impl Plain for libc::xdp_umem_reg {}
// SAFETY: `repr(C)` and integers only, as declared by libc.
unsafe impl Plain for libc::xdp_mmap_offsets {}
// SAFETY: `repr(C)` and integers only, as declared by libc.
unsafe impl Plain for libc::xdp_statistics {}
// SAFETY: `repr(C)` and integers only, as declared by libc.
unsafe impl Plain for libc::sockaddr_xdp {}
// SAFETY: `repr(C)` and integers only, as declared by libc.
unsafe impl Plain for libc::sockaddr_ll {}
// SAFETY: `repr(C)` and integers only, below.
unsafe impl Plain for PacketMembership {}

/// `struct packet_mreq` of linux/if_packet.h.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct PacketMembership {
    pub(crate) interface_index: c_int,
    pub(crate) kind: u16,
    pub(crate) address_length: u16,
    pub(crate) address: [u8; 8],
}

const _: () = assert!(mem::size_of::<PacketMembership>() == 16);

/// Turns the C convention into a `Result`.
pub(crate) fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// socket(2), closed on exec.
pub(crate) fn socket(domain: c_int, kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes integers only.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) })?;
    // SAFETY: the kernel has just made this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(clippy::cast_possible_truncation, reason = "structures of a few bytes")]
const fn size_of<T>() -> u32 {
    mem::size_of::<T>() as u32
}

/// setsockopt(2).
pub(crate) fn set_option<T: Plain>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let value = ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `value` is a live reference to `size_of::<T>()` bytes, which the kernel only reads.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value, size_of::<T>()) })?;
    Ok(())
}

/// getsockopt(2). What the kernel does not fill in is zero.
pub(crate) fn get_option<T: Plain>(fd: BorrowedFd<'_>, level: c_int, name: c_int) -> io::Result<T> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut length = size_of::<T>();
    let place = value.as_mut_ptr().cast::<c_void>();
    // SAFETY: `place` has room for `length` bytes, which is all that the kernel writes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, place, &raw mut length) })?;
    // SAFETY: it was zeroed, and `Plain` types are valid for every bit pattern.
    Ok(unsafe { value.assume_init() })
}

/// bind(2) to an address of the socket's family.
pub(crate) fn bind<T: Plain>(fd: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    let place = ptr::from_ref(address).cast::<libc::sockaddr>();
    // SAFETY: `place` points to a live structure of the size that is given, which the kernel only reads.
    check(unsafe { libc::bind(fd.as_raw_fd(), place, size_of::<T>()) })?;
    Ok(())
}

/// Tells the kernel to send what lies in the tx ring: sendto(2) without data.
pub(crate) fn wake_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MSG_DONTWAIT;
    // SAFETY: no data and no address: the null pointers have length 0.
    let sent = unsafe { libc::sendto(fd.as_raw_fd(), ptr::null(), 0, flags, ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Tells the driver to look at the fill ring: recvfrom(2) without data.
pub(crate) fn wake_rx(fd: BorrowedFd<'_>) {
    let flags = libc::MSG_DONTWAIT;
    // What it answers is of no use: a driver that is busy looks at the ring anyway.
    // SAFETY: no data and no address: the null pointers have length 0.
    unsafe {
        libc::recvfrom(fd.as_raw_fd(), ptr::null_mut(), 0, flags, ptr::null_mut(), ptr::null_mut())
    };
}

/// The size of a huge page that is mapped by one entry of the second level, or a multiple of it.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// A part of our address space, given back on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length_bytes: usize,
}

// SAFETY: a mapping is an address range of the process; it belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: the methods give out an address and a length and touch no memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory that another process may have mapped, too; where huge pages could be mapped.
    pub(crate) fn memory(fd: BorrowedFd<'_>, length_bytes: usize) -> io::Result<Self> {
        Self::aligned(length_bytes, libc::MAP_SHARED, fd)
    }

    /// The same, present from the start.
    pub(crate) fn present_memory(fd: BorrowedFd<'_>, length_bytes: usize) -> io::Result<Self> {
        Self::aligned(length_bytes, libc::MAP_SHARED | libc::MAP_POPULATE, fd)
    }

    /// Maps a file at a multiple of [`HUGE_PAGE_BYTES`], in place of a part of a larger range that was
    /// reserved for that.
    fn aligned(length_bytes: usize, flags: c_int, fd: BorrowedFd<'_>) -> io::Result<Self> {
        let reserved_bytes = length_bytes.saturating_add(HUGE_PAGE_BYTES);
        let nothing = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let reserved = Self::map(reserved_bytes, nothing, -1, 0)?;
        let before_bytes = reserved.start().addr().wrapping_neg() % HUGE_PAGE_BYTES;
        let at = reserved.start().wrapping_add(before_bytes);
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_FIXED;
        // SAFETY: the range lies inside `reserved`, as `before_bytes` is less than was added to its
        // length; it was just made and nobody has an address in it.
        let start =
            unsafe { libc::mmap(at.cast(), length_bytes, protection, flags, fd.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let after_bytes = HUGE_PAGE_BYTES - before_bytes;
        let (before, after) = (reserved.start(), at.wrapping_add(length_bytes));
        mem::forget(reserved);
        for (start, length_bytes) in [(before, before_bytes), (after, after_bytes)] {
            if length_bytes > 0 {
                // SAFETY: what is left of `reserved` on either side, which is forgotten.
                unsafe { libc::munmap(start.cast(), length_bytes) };
            }
        }
        let start = NonNull::new(at).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, length_bytes })
    }

    /// Has the kernel put huge pages in the place of small ones that are present (Linux 6.1).
    pub(crate) fn collapse(&self) -> io::Result<()> {
        let (start, length) = (self.start.as_ptr().cast(), self.length_bytes);
        // SAFETY: this range is a mapping of ours; its contents and addresses stay as they are.
        check(unsafe { libc::madvise(start, length, libc::MADV_COLLAPSE) }).map(drop)
    }

    /// A ring of an AF_XDP socket, present from the start.
    pub(crate) fn ring(fd: BorrowedFd<'_>, offset: i64, length_bytes: usize) -> io::Result<Self> {
        Self::map(length_bytes, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(length_bytes: usize, flags: c_int, fd: c_int, offset: i64) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let anywhere = ptr::null_mut();
        // SAFETY: no address is asked for, so no memory that is in use can be replaced.
        let start = unsafe { libc::mmap(anywhere, length_bytes, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { start, length_bytes })
    }

    /// First byte; page-aligned.
    pub(crate) const fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    /// Length in bytes.
    pub(crate) const fn length_bytes(&self) -> usize {
        self.length_bytes
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `map` made exactly this range; whoever uses its addresses holds the `Mapping`.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length_bytes) };
    }
}

/// bpf(2) with one of the attribute structures of `program`.
pub(crate) fn bpf<T: Plain>(command: c_int, attributes: &mut T) -> io::Result<c_int> {
    let place = ptr::from_mut(attributes);
    // SAFETY: `place` is a live `bpf_attr` of the size that is given. Addresses in it are those of
    // values that the callers in `program` keep borrowed across the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, place, size_of::<T>()) };
    let result = c_int::try_from(result).map_err(io::Error::other)?;
    check(result)
}

/// bpf(2) with a command that makes an object.
pub(crate) fn bpf_object<T: Plain>(command: c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: these commands answer with a new descriptor, close-on-exec, that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lifts the limit on locked memory, which kernels before 5.11 charge UMEMs and maps to. Newer
/// ones do not need it, and what cannot be lifted shows in the call that fails for it.
pub(crate) fn lift_locked_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is a live structure that the kernel only reads.
    unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}
