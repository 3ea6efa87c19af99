//! What the tests need of the world: a namespace, the ip command, the host's side of a tap.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::ptr;
use std::thread::{self, JoinHandle};

use frame::{Burst, Frame, Outgoing, Segment};
use virtio::offload::NetHeader;

/// Local experimental EtherType 1 (802-2014, 9.2.4): what is not ours has another.
pub(crate) const EXPERIMENTAL: u16 = 0x88b5;
/// `ETH_P_ALL` in network order, as packet(7) wants it.
const ALL_PROTOCOLS: u16 = 0x0003u16.to_be();
/// `PACKET_VNET_HDR`: a net header of ten bytes in front of each frame.
const PACKET_VNET_HDR: i32 = 15;
const NET_HEADER_BYTES: usize = 10;

/// Starts a thread that has network and mount namespaces of its own.
pub(crate) fn spawn_in_namespace<R: Send + 'static>(
    run: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    thread::spawn(|| {
        leave_for_new_namespace();
        run()
    })
}

/// Runs a test in such a thread.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if let Err(panic) = spawn_in_namespace(test).join() {
        std::panic::resume_unwind(panic);
    }
}

fn leave_for_new_namespace() {
    // SAFETY: takes integers only; the thread gets namespaces of its own.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "no new namespace: these tests need root");
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE);
    mount("sysfs", "/sys", Some("sysfs"), 0);
    // Or the host would have something to say on every new interface.
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
}

pub(crate) fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong) {
    let [source, target] = [source, target].map(|text| CString::new(text).unwrap());
    let kind = kind.map(|text| CString::new(text).unwrap());
    let kind = kind.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: the strings live, end with a zero byte, and there is no data.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, ptr::null()) };
    assert_eq!(result, 0, "mount: {}", std::io::Error::last_os_error());
}

/// Makes this thread nobody: it loses its capabilities.
pub(crate) fn become_nobody() {
    // The system call and not the function of libc, which changes all threads.
    // SAFETY: takes integers only.
    let result = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
    assert_eq!(result, 0, "setresuid: {}", std::io::Error::last_os_error());
}

/// Runs ip(8).
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// What ip(8) shows of an interface; nothing if there is none.
pub(crate) fn shown(interface: &str) -> String {
    let output =
        Command::new("ip").args(["-d", "link", "show", "dev", interface]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A frame of this length whose bytes depend on its number.
pub(crate) fn experimental(number: u32, length_bytes: usize) -> Vec<u8> {
    let mut frame = vec![0x02, 0, 0, 0, 0, 0xaa, 0x02, 0, 0, 0, 0, 0xbb];
    frame.extend(EXPERIMENTAL.to_be_bytes());
    frame.extend(number.to_be_bytes());
    let pattern = (0..).map(|at: u32| (at ^ number).wrapping_mul(0x9e37_79b1).to_le_bytes()[3]);
    frame.extend(pattern.take(length_bytes.saturating_sub(frame.len())));
    frame
}

/// A large TCP segment over IPv4 (54 bytes of headers), its checksum partial, and what is to be
/// done to it. Addressed to nobody, so that no stack takes it.
pub(crate) fn large(length_bytes: usize) -> (NetHeader, Vec<u8>) {
    let mut frame = experimental(9, length_bytes);
    let total = u16::try_from(length_bytes - 14).unwrap();
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame[14..34]
        .copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 7, 0, 1, 10, 7, 0, 2]);
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    let checksum = !sum(&frame[14..34]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame[34..54].copy_from_slice(&[
        0x12, 0x34, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0,
    ]);
    let mut pseudo = frame[26..34].to_vec();
    pseudo.extend([[0, 6], (total - 20).to_be_bytes()].concat());
    let partial = sum(&pseudo);
    frame[50..52].copy_from_slice(&partial.to_be_bytes());
    let net_header = NetHeader {
        flags: NetHeader::NEEDS_CSUM,
        gso_type: NetHeader::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1_448,
        csum_start: 34,
        csum_offset: 16,
    };
    (net_header, frame)
}

/// The ones' complement sum of big-endian words.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
    let sum: u32 = words.sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    u16::try_from(folded.min(0xffff)).unwrap()
}

/// The extent of bytes that the caller keeps until it is used.
pub(crate) fn segment(bytes: &[u8]) -> Segment {
    // SAFETY: the tests keep `bytes` until the frame has been sent.
    unsafe { Segment::new(bytes.as_ptr(), u32::try_from(bytes.len()).unwrap()) }
}

/// The bytes of a received frame without tag.
pub(crate) fn content(burst: &Burst, frame: &Frame) -> Vec<u8> {
    let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(frame));
    let mut bytes = vec![0; outgoing.length_bytes];
    assert_eq!(outgoing.reader().read(&mut bytes), outgoing.length_bytes);
    bytes
}

/// The host's side of a tap, through a packet socket: it sends and sees frames as the host's
/// stack does, with what is left to be done to them.
pub(crate) struct Host {
    socket: OwnedFd,
}

impl Host {
    pub(crate) fn open(interface: &str) -> Self {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
        // SAFETY: takes integers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, i32::from(ALL_PROTOCOLS)) };
        assert!(fd >= 0, "no packet socket: these tests need root");
        // SAFETY: the descriptor is new and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let name = CString::new(interface).unwrap();
        // SAFETY: a live string that ends with a zero byte.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        let address = libc::sockaddr_ll {
            sll_family: u16::try_from(libc::AF_PACKET).unwrap(),
            sll_protocol: ALL_PROTOCOLS,
            sll_ifindex: i32::try_from(index).unwrap(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = u32::try_from(size_of_val(&address)).unwrap();
        // SAFETY: a live address of the length given.
        let bound = unsafe { libc::bind(fd, ptr::from_ref(&address).cast(), length) };
        assert_eq!(bound, 0);
        let host = Self { socket };
        host.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[2i64, 0]);
        // The test's own frames, sent by this end, are not wanted back.
        host.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32);
        host.set(libc::SOL_PACKET, PACKET_VNET_HDR, &1i32);
        host.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(8i32 << 20));
        host.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &(8i32 << 20));
        host
    }

    fn set<T>(&self, level: i32, name: i32, value: &T) {
        let length = u32::try_from(size_of::<T>()).unwrap();
        let place = ptr::from_ref(value).cast();
        let fd = self.socket.as_raw_fd();
        // SAFETY: a live value of the length given.
        let result = unsafe { libc::setsockopt(fd, level, name, place, length) };
        assert_eq!(result, 0, "setsockopt {level} {name}: {}", std::io::Error::last_os_error());
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        self.send_with(NetHeader::default(), frame);
    }

    pub(crate) fn send_with(&self, net_header: NetHeader, frame: &[u8]) {
        let bytes = [&net_header.to_bytes(0)[..NET_HEADER_BYTES], frame].concat();
        let fd = self.socket.as_raw_fd();
        // SAFETY: a live slice of the length given.
        let sent = unsafe { libc::send(fd, bytes.as_ptr().cast(), bytes.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(bytes.len()), "{}", std::io::Error::last_os_error());
    }

    /// The next frame with its net header, within two seconds.
    pub(crate) fn receive(&self) -> Option<(NetHeader, Vec<u8>)> {
        let mut bytes = vec![0u8; 70_000];
        let fd = self.socket.as_raw_fd();
        // SAFETY: a live buffer of the length given.
        let count = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        bytes.truncate(usize::try_from(count).ok()?);
        let frame = bytes.split_off(NET_HEADER_BYTES);
        bytes.extend([0, 0]);
        Some((NetHeader::from_bytes(bytes.first_chunk()?), frame))
    }
}
