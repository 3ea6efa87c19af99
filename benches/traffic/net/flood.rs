//! Frames that the kernel makes: an XDP program run on one frame again and again, each time with
//! the next number, which sends it out of an interface (linux/bpf.h, `BPF_PROG_TEST_RUN` with
//! `BPF_F_TEST_XDP_LIVE_FRAMES`; Documentation/bpf/bpf_prog_run.rst).
//!
//! ```text
//!   r6 = data                            the frame
//!   if data + 60 > data_end: drop        so the verifier knows that the number is inside
//!   r1 = address of the counter
//!   *(u64 *)(r6 + 14) = (*r1)++          the number: see stream.rs
//!   return bpf_redirect(interface, 0)
//! ```
//!
//! The program is attached to a spare interface besides, where nothing comes: else the kernel would
//! take it into its dispatcher for each run and out again, with a grace period of 24 ms (seen).
//!
//! No socket buffer is made, so a core sends several million frames a second into a veth pair:
//! more than a switch on another core sends out. A packet socket sends fewer than that.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

const BPF_MAP_CREATE: libc::c_long = 0;
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_MAP_TYPE_ARRAY: u32 = 2;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
const BPF_REDIRECT: i32 = 23;
const XDP_DROP: i32 = 1;
/// A load of 64 bits whose value is the place of a map's first value.
const BPF_PSEUDO_MAP_VALUE: u8 = 2;

/// Frames that are sent together: what a driver takes from its ring at once (`NAPI_POLL_WEIGHT`).
const BATCH: u32 = 64;

/// Where the number is.
const NUMBER: i16 = 14;

/// The least length, without frame check sequence.
const SHORTEST: i32 = 60;

/// `bpf_attr` of `BPF_MAP_CREATE`, as far as it is used.
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
}

/// `bpf_attr` of `BPF_LINK_CREATE`, as far as it is used.
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_interface: u32,
    attach_type: u32,
    flags: u32,
}

/// `bpf_attr` of `BPF_PROG_TEST_RUN`.
#[repr(C)]
struct TestRun {
    program_fd: u32,
    returned: u32,
    data_in_bytes: u32,
    data_out_bytes: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_bytes: u32,
    context_out_bytes: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

const _: () = assert!(size_of::<MapCreate>() == 16);
const _: () = assert!(size_of::<ProgramLoad>() == 24);
const _: () = assert!(size_of::<LinkCreate>() == 16);
const _: () = assert!(size_of::<TestRun>() == 80);
const _: () = assert!(std::mem::offset_of!(TestRun, flags) == 64);

/// One instruction (RFC 9669, 3).
#[repr(C)]
struct Instruction {
    code: u8,
    /// Destination below, source above.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const _: () = assert!(size_of::<Instruction>() == 8);

/// A generator of numbered frames out of one interface.
#[derive(Debug)]
pub(crate) struct Flood {
    program: OwnedFd,
    _link: OwnedFd,
    frame: Vec<u8>,
    /// Frames sent since it was made, which is the next one's number.
    pub(crate) sent: u64,
}

impl Flood {
    /// Frames of a call that takes some milliseconds, beside which its beginning costs nothing.
    pub(crate) const CALL: u32 = 16_384;

    /// Makes one that sends `frame`, with numbers from 0, out of an interface of the calling
    /// thread's namespace. `spare` is the end of another veth pair.
    pub(crate) fn new(interface: &str, spare: &str, frame: Vec<u8>) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("bpf(2): {error}");
        let program = load(index(interface).map_err(cannot)?).map_err(cannot)?;
        let link = attach(&program, index(spare).map_err(cannot)?).map_err(cannot)?;
        Ok(Self { program, _link: link, frame, sent: 0 })
    }

    /// Sends so many. The calling thread is in the interface's namespace.
    pub(crate) fn send(&mut self, count: u32) -> Result<(), String> {
        let data_in_bytes = u32::try_from(self.frame.len()).map_err(|error| error.to_string())?;
        let mut run = TestRun {
            program_fd: self.program.as_raw_fd().cast_unsigned(),
            returned: 0,
            data_in_bytes,
            data_out_bytes: 0,
            data_in: self.frame.as_ptr().expose_provenance() as u64,
            data_out: 0,
            repeat: count,
            duration: 0,
            context_in_bytes: 0,
            context_out_bytes: 0,
            context_in: 0,
            context_out: 0,
            flags: BPF_F_TEST_XDP_LIVE_FRAMES,
            cpu: 0,
            batch_size: BATCH.min(count),
            padding: 0,
        };
        // SAFETY: the kernel reads `data_in_bytes` bytes at `data_in`, which is `self.frame`, and
        // writes to no address, since there is room for no data and no context.
        unsafe { bpf(BPF_PROG_TEST_RUN, &mut run) }
            .map_err(|error| format!("the kernel sends no frames: {error}"))?;
        self.sent += u64::from(count);
        Ok(())
    }
}

/// The number of an interface of the calling thread's namespace.
fn index(interface: &str) -> io::Result<u32> {
    let (family, kind) = (AddressFamily::UNIX, SocketType::DGRAM);
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, interface)?)
}

/// Attaches the program where nothing comes.
fn attach(program: &OwnedFd, interface: u32) -> io::Result<OwnedFd> {
    let mut link = LinkCreate {
        program_fd: program.as_raw_fd().cast_unsigned(),
        target_interface: interface,
        attach_type: BPF_XDP,
        flags: XDP_FLAGS_DRV_MODE,
    };
    // SAFETY: the structure has no addresses in it.
    unsafe { bpf_object(BPF_LINK_CREATE, &mut link) }
}

/// Loads the program, with a counter of its own.
fn load(interface: u32) -> io::Result<OwnedFd> {
    let interface = i32::try_from(interface).map_err(io::Error::other)?;
    let mut map =
        MapCreate { map_type: BPF_MAP_TYPE_ARRAY, key_size: 4, value_size: 8, max_entries: 1 };
    // SAFETY: the structure has no addresses in it.
    let counter = unsafe { bpf_object(BPF_MAP_CREATE, &mut map) }?;
    let instructions = instructions(counter.as_raw_fd(), interface);
    let mut load = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        licence: c"Dual MIT/GPL".as_ptr().expose_provenance() as u64,
    };
    // The program keeps the map.
    // SAFETY: `instructions` lives through the call and has as many as the structure says; the
    // licence is static and ends with a zero byte. The kernel only reads both.
    unsafe { bpf_object(BPF_PROG_LOAD, &mut load) }
}

/// The program: see the head of this file.
#[rustfmt::skip]
fn instructions(counter: i32, interface: i32) -> [Instruction; 17] {
    let make = |code, destination: u8, source: u8, offset, immediate| Instruction {
        code, registers: source << 4 | destination, offset, immediate,
    };
    [
        make(0x61, 6, 1, 0, 0),                             // r6 = data
        make(0x61, 2, 1, 4, 0),                             // r2 = data_end
        make(0xbf, 3, 6, 0, 0),                             // r3 = r6
        make(0x07, 3, 0, 0, SHORTEST),                      // r3 += 60
        make(0x2d, 3, 2, 10, 0),                            // if r3 > r2 goto drop
        make(0x18, 1, BPF_PSEUDO_MAP_VALUE, 0, counter),    // r1 = counter
        make(0, 0, 0, 0, 0),                                //   (its upper half)
        make(0x79, 4, 1, 0, 0),                             // r4 = *r1
        make(0x7b, 6, 4, NUMBER, 0),                        // *(r6 + 14) = r4
        make(0x07, 4, 0, 0, 1),                             // r4 += 1
        make(0x7b, 1, 4, 0, 0),                             // *r1 = r4
        make(0xb7, 1, 0, 0, interface),                     // r1 = interface
        make(0xb7, 2, 0, 0, 0),                             // r2 = 0
        make(0x85, 0, 0, 0, BPF_REDIRECT),                  // r0 = bpf_redirect(r1, r2)
        make(0x95, 0, 0, 0, 0),                             // return r0
        make(0xb7, 0, 0, 0, XDP_DROP),                      // drop: r0 = XDP_DROP
        make(0x95, 0, 0, 0, 0),                             // return r0
    ]
}

/// bpf(2).
///
/// # Safety
///
/// `attributes` is the command's structure, and each address in it is that of as many live bytes as
/// it says.
unsafe fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    let place = std::ptr::from_mut(attributes);
    // SAFETY: `place` is a live structure of the size that is given; for what is in it the caller
    // answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, place, size_of::<T>()) };
    // A signal ends a run early. There is none that this process survives.
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// The same with a command that makes an object.
///
/// # Safety
///
/// As for [`bpf`].
unsafe fn bpf_object<T>(command: libc::c_long, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise is the same.
    let number = unsafe { bpf(command, attributes) }?;
    let number = i32::try_from(number).map_err(|_| Errno::OVERFLOW)?;
    // SAFETY: these commands answer with a new descriptor that nobody else knows.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
