//! The XDP program that sends frames to sockets, loaded through bpf(2) without a C toolchain.
//!
//! ```text
//!   r2 = *(u32 *)(r1 + 16)          the receive queue: xdp_md.rx_queue_index
//!   r1 = the map of sockets
//!   r3 = XDP_PASS                   what happens on a queue without socket
//!   call bpf_redirect_map
//!   exit
//! ```
//!
//! It is attached by a BPF link: the attachment lasts as long as the link's descriptor is open, so
//! it is gone when the process is, also on `kill -9`. linux/bpf.h; instructions: RFC 9669.
//!
//! The program declares that it can handle frames in several buffers (`BPF_F_XDP_HAS_FRAGS`, Linux
//! 5.18): drivers then take it with an MTU for jumbo frames, too. It passes them on as they are.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Serialize};

use crate::SocketError;
use crate::hand_over::InterfaceDescriptors;
use crate::sys::{self, Plain};

const BPF_MAP_CREATE: i32 = 0;
const BPF_MAP_UPDATE_ELEM: i32 = 2;
const BPF_PROG_LOAD: i32 = 5;
const BPF_LINK_CREATE: i32 = 28;
const BPF_MAP_TYPE_XSKMAP: u32 = 17;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
const XDP_HAS_FRAGS: u32 = 1 << 5;
const XDP_PASS: i32 = 2;
const BPF_REDIRECT_MAP: i32 = 51;
/// Room for the verifier's log: it has a few lines about six instructions.
const LOG_BYTES: u32 = 4_096;

/// `bpf_attr` of `BPF_MAP_CREATE`, as far as it is used.
#[derive(Clone, Copy)]
#[repr(C)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// `bpf_attr` of `BPF_MAP_UPDATE_ELEM`.
#[derive(Clone, Copy)]
#[repr(C)]
struct MapUpdate {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `bpf_attr` of `BPF_PROG_LOAD`, as far as it is used.
#[derive(Clone, Copy)]
#[repr(C)]
struct ProgramLoad {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface_index: u32,
    expected_attach_type: u32,
}

/// `bpf_attr` of `BPF_LINK_CREATE`, as far as it is used.
#[derive(Clone, Copy)]
#[repr(C)]
struct LinkCreate {
    program_fd: u32,
    target_interface: u32,
    attach_type: u32,
    flags: u32,
}

const _: () = assert!(size_of::<MapCreate>() == 16);
const _: () = assert!(size_of::<MapUpdate>() == 32);
const _: () = assert!(size_of::<ProgramLoad>() == 72);
const _: () = assert!(size_of::<LinkCreate>() == 16);

// SAFETY: `repr(C)`, integers only, no padding (the sizes above are the sums of the fields).
unsafe impl Plain for MapCreate {}
// SAFETY: as above.
unsafe impl Plain for MapUpdate {}
// SAFETY: as above.
unsafe impl Plain for ProgramLoad {}
// SAFETY: as above.
unsafe impl Plain for LinkCreate {}

/// How the program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Attachment {
    /// In the driver, before the kernel allocates anything for the frame.
    Native,
    /// In the kernel's generic receive path: the driver has no XDP.
    Generic,
}

/// The attached program and its map of sockets. Detached on drop.
#[derive(Debug)]
pub(crate) struct Program {
    map: OwnedFd,
    link: OwnedFd,
    attachment: Attachment,
}

impl Program {
    /// Loads the program and attaches it. Frames pass to the kernel until sockets are inserted.
    pub(crate) fn attach(interface: &str, index: u32, queues: u32) -> Result<Self, SocketError> {
        let map = create_map(queues).map_err(SocketError::system("create XSKMAP", interface))?;
        let program = load(&map, interface)?;
        let (link, attachment) = match link(&program, index, XDP_FLAGS_DRV_MODE) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                (link(&program, index, XDP_FLAGS_SKB_MODE), Attachment::Generic)
            }
            result => (result, Attachment::Native),
        };
        let link = link.map_err(|error| match error.raw_os_error() {
            Some(libc::EBUSY | libc::EEXIST) => {
                SocketError::ProgramPresent { interface: interface.to_owned() }
            }
            Some(libc::ERANGE) => {
                SocketError::DriverMtu { interface: interface.to_owned(), source: error }
            }
            _ => SocketError::system("attach XDP program", interface)(error),
        })?;
        Ok(Self { map, link, attachment })
    }

    /// Sends the frames of this receive queue to this socket from now on.
    pub(crate) fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = fd_number(socket.as_raw_fd());
        let mut attributes = MapUpdate {
            map_fd: fd_number(self.map.as_raw_fd()),
            reserved: 0,
            key: address_of(&queue),
            value: address_of(&value),
            flags: 0,
        };
        sys::bpf(BPF_MAP_UPDATE_ELEM, &mut attributes)?;
        Ok(())
    }

    /// The program that another process has attached.
    pub(crate) const fn adopt(map: OwnedFd, link: OwnedFd, attachment: Attachment) -> Self {
        Self { map, link, attachment }
    }

    /// What keeps it attached, beside the socket that makes the interface promiscuous.
    pub(crate) fn descriptors<'a>(
        &'a self,
        promiscuous: &'a OwnedFd,
    ) -> InterfaceDescriptors<BorrowedFd<'a>> {
        let (map, link) = (self.map.as_fd(), self.link.as_fd());
        InterfaceDescriptors { map, link, promiscuous: promiscuous.as_fd() }
    }

    /// How the driver took it.
    pub(crate) const fn attachment(&self) -> Attachment {
        self.attachment
    }
}

fn create_map(queues: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: BPF_MAP_TYPE_XSKMAP,
        key_size: 4,
        value_size: 4,
        max_entries: queues,
    };
    sys::bpf_object(BPF_MAP_CREATE, &mut attributes)
}

fn load(map: &OwnedFd, interface: &str) -> Result<OwnedFd, SocketError> {
    let instructions = instructions(map.as_raw_fd());
    let mut log = [0u8; LOG_BYTES as usize];
    let licence = c"Dual MIT/GPL";
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"ringway");
    let mut attributes = ProgramLoad {
        program_type: BPF_PROG_TYPE_XDP,
        instruction_count: 6,
        instructions: address_of(&instructions),
        licence: licence.as_ptr().expose_provenance() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: XDP_HAS_FRAGS,
        name,
        interface_index: 0,
        expected_attach_type: BPF_XDP,
    };
    if let Ok(program) = sys::bpf_object(BPF_PROG_LOAD, &mut attributes) {
        return Ok(program);
    }
    // Kernels before 5.18 do not know the flag.
    attributes.flags = 0;
    let refusal = match sys::bpf_object(BPF_PROG_LOAD, &mut attributes) {
        Ok(program) => return Ok(program),
        Err(refusal) => refusal,
    };
    // Once more, with a log: a log that is too small would make a good program fail.
    attributes.log_level = 1;
    attributes.log_size = LOG_BYTES;
    attributes.log_buffer = log.as_mut_ptr().expose_provenance() as u64;
    sys::bpf_object(BPF_PROG_LOAD, &mut attributes).map_err(|_| {
        let text = String::from_utf8_lossy(&log);
        let log = text.trim_end_matches('\0').trim().replace('\n', "; ");
        SocketError::ProgramRefused { interface: interface.to_owned(), log, source: refusal }
    })
}

fn link(program: &OwnedFd, interface_index: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = LinkCreate {
        program_fd: fd_number(program.as_raw_fd()),
        target_interface: interface_index,
        attach_type: BPF_XDP,
        flags,
    };
    sys::bpf_object(BPF_LINK_CREATE, &mut attributes)
}

/// The program of the module's drawing; loading a 64-bit constant takes two slots.
fn instructions(map: i32) -> [u64; 6] {
    [
        instruction(0x61, 2, 1, 16, 0),  // r2 = *(u32 *)(r1 + 16)
        instruction(0x18, 1, 1, 0, map), // r1 = map; source 1 is BPF_PSEUDO_MAP_FD
        0,
        instruction(0xb7, 3, 0, 0, XDP_PASS),
        instruction(0x85, 0, 0, 0, BPF_REDIRECT_MAP),
        instruction(0x95, 0, 0, 0, 0),
    ]
}

/// One instruction in the kernel's layout: opcode, registers, offset, constant (`struct bpf_insn`).
fn instruction(opcode: u8, to: u8, from: u8, offset: i16, constant: i32) -> u64 {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let [o0, o1] = offset.to_ne_bytes();
    let [c0, c1, c2, c3] = constant.to_ne_bytes();
    u64::from_ne_bytes([opcode, registers, o0, o1, c0, c1, c2, c3])
}

fn address_of<T>(value: &T) -> u64 {
    std::ptr::from_ref(value).expose_provenance() as u64
}

/// Descriptors are not negative, so the number keeps its value.
const fn fd_number(fd: i32) -> u32 {
    fd.cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_has_the_layout_of_bpf_insn() {
        let bytes = instruction(0x61, 2, 1, 16, 0).to_le_bytes();

        assert_eq!(bytes, [0x61, 0x12, 16, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn program_names_its_map_in_the_second_slot() {
        assert_eq!(instructions(7)[1].to_le_bytes(), [0x18, 0x11, 0, 0, 7, 0, 0, 0]);
    }
}
