//! What the tests need of the world: a namespace, the ip command, the other end of the wire.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;
use std::ptr;
use std::thread;

use frame::{Burst, Frame, Outgoing, Room, Segment};

/// Local experimental EtherType 1 (802-2014, 9.2.4): what is not ours has another.
pub(crate) const EXPERIMENTAL: u16 = 0x88b5;
/// `ETH_P_ALL` in network order, as packet(7) wants it.
const ALL_PROTOCOLS: u16 = 0x0003u16.to_be();

/// Runs a test in a thread that has a network namespace of its own.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let result = thread::spawn(move || {
        leave_for_new_namespace();
        test();
    })
    .join();
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn leave_for_new_namespace() {
    // SAFETY: takes integers only; the thread gets namespaces of its own.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "no new namespace: these tests need root");
    mount("none", "/", None, libc::MS_REC | libc::MS_PRIVATE);
    mount("sysfs", "/sys", Some("sysfs"), 0);
}

fn mount(source: &str, target: &str, kind: Option<&str>, flags: libc::c_ulong) {
    let [source, target] = [source, target].map(|text| CString::new(text).unwrap());
    let kind = kind.map(|text| CString::new(text).unwrap());
    let kind = kind.as_ref().map_or(ptr::null(), |text| text.as_ptr());
    // SAFETY: the strings live, end with a zero byte, and there is no data.
    let result = unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind, flags, ptr::null()) };
    assert_eq!(result, 0, "mount: {}", std::io::Error::last_os_error());
}

/// Runs ip(8).
pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Runs ethtool(8).
pub(crate) fn ethtool(arguments: &str) {
    let status = Command::new("ethtool").args(arguments.split(' ')).output().unwrap().status;
    assert!(status.success(), "ethtool {arguments}");
}

/// Says whether ip(8) shows an XDP program on the interface.
pub(crate) fn has_program(interface: &str) -> bool {
    let output = Command::new("ip").args(["link", "show", "dev", interface]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("prog/xdp")
}

/// Says whether ethtool(8) shows receive VLAN stripping as on.
pub(crate) fn strips_tags(interface: &str) -> bool {
    let output = Command::new("ethtool").args(["-k", interface]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().contains("rx-vlan-offload: on")
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

/// The extent of bytes that the caller keeps until it is used.
pub(crate) fn segment(bytes: &[u8]) -> Segment {
    // SAFETY: the tests keep `bytes` until the frame has been sent.
    unsafe { Segment::new(bytes.as_ptr(), u32::try_from(bytes.len()).unwrap()) }
}

/// The bytes of a received frame without tag.
pub(crate) fn content(burst: &Burst, frame: &Frame) -> Vec<u8> {
    let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(frame));
    let mut bytes = vec![0; outgoing.length_bytes];
    // SAFETY: `bytes` has that many bytes and is not looked at before the room is gone.
    let mut room = unsafe { Room::new(bytes.as_mut_ptr(), u32::try_from(bytes.len()).unwrap()) };
    assert_eq!(outgoing.reader().copy_to(&mut room), outgoing.length_bytes);
    bytes
}

/// The other end of a veth pair, through a packet socket.
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
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
        let wire = Self { socket };
        wire.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &[2i64, 0]);
        // The test's own frames, sent by this end, are not wanted back.
        wire.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1i32);
        wire.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(8i32 << 20));
        wire
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
        let fd = self.socket.as_raw_fd();
        // SAFETY: a live slice of the length given.
        let sent = unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(usize::try_from(sent), Ok(frame.len()), "{}", std::io::Error::last_os_error());
    }

    /// The next experimental frame, within two seconds.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        for _ in 0..100 {
            let mut bytes = vec![0u8; 10_000];
            let fd = self.socket.as_raw_fd();
            // SAFETY: a live buffer of the length given.
            let count = unsafe { libc::recv(fd, bytes.as_mut_ptr().cast(), bytes.len(), 0) };
            bytes.truncate(usize::try_from(count).ok()?);
            if bytes[12..14] == EXPERIMENTAL.to_be_bytes() {
                return Some(bytes);
            }
        }
        None
    }
}
