//! Both ends of a session for tests: a back end that writes down what it is asked, and a front
//! end that sends any bytes and descriptors it likes.

use std::fs::{self, File};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vhost_user::{
    Backend, FrontendReq, LogExtent, MemoryRegion, Refused, RingEnabling, Session, SessionError,
    VringAddresses,
};

/// Feature bits that the recorder offers: VERSION_1, MRG_RXBUF, NET_MTU.
pub(crate) const FEATURES: u64 = 1 << 32 | 1 << 15 | 1 << 3;
/// What it does not offer, and serves all the same: GUEST_CSUM.
pub(crate) const SERVED: u64 = 1 << 1;
pub(crate) const PROTOCOL_FEATURES_BIT: u64 = 1 << 30;
pub(crate) const REPLY_ACK: u64 = 1 << 3;
pub(crate) const NEED_REPLY: u32 = 8;
pub(crate) const QUEUE_PAIRS: u16 = 2;
/// The recorder's configuration space.
pub(crate) const CONFIG_SPACE: [u8; 12] = *b"twelve bytes";
/// Long against anything a test does, short against a test that hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// A back end's method with what it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    Features(u64, RingEnabling),
    Table(Vec<MemoryRegion>),
    Add(MemoryRegion),
    Remove(MemoryRegion),
    Log(LogExtent),
    Size(u16, u32),
    Addresses(u16, VringAddresses),
    Base(u16, u32),
    Stop(u16),
    /// A ring, and whether a descriptor came along.
    Kick(u16, bool),
    Call(u16, bool),
    Err(u16, bool),
    Enable(u16, bool),
    Status(u8),
    Mtu(u16),
    Rarp([u8; 6]),
    ResetOwner,
    ResetDevice,
}

/// Writes calls down and lets descriptors go.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    pub(crate) calls: Vec<Asked>,
    /// Refuses whatever can be refused.
    pub(crate) refuses: bool,
    status: u8,
}

impl Recorder {
    fn note(&mut self, call: Asked) -> Result<(), Refused> {
        self.calls.push(call);
        if self.refuses {
            return Err(Refused::new("the recorder was told to refuse"));
        }
        Ok(())
    }

    fn note_ring(
        &mut self,
        call: fn(u16, bool) -> Asked,
        index: u16,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        if let Some(descriptor) = &descriptor {
            assert!(fcntl_getfd(descriptor).expect("open").contains(FdFlags::CLOEXEC));
        }
        self.note(call(index, descriptor.is_some()))
    }
}

impl Backend for Recorder {
    fn device_features(&mut self) -> u64 {
        FEATURES
    }

    fn served_features(&self) -> u64 {
        FEATURES | SERVED
    }

    fn queue_pairs_max(&self) -> u16 {
        QUEUE_PAIRS
    }

    fn rings_max(&self) -> u16 {
        2 * QUEUE_PAIRS
    }

    fn set_features(&mut self, features: u64, enabling: RingEnabling) -> Result<(), Refused> {
        assert_eq!(features & !(FEATURES | SERVED), 0);
        self.note(Asked::Features(features, enabling))
    }

    fn set_memory_table(&mut self, regions: Vec<(MemoryRegion, OwnedFd)>) -> Result<(), Refused> {
        self.note(Asked::Table(regions.into_iter().map(|(region, _)| region).collect()))
    }

    fn add_memory_region(&mut self, region: MemoryRegion, _: OwnedFd) -> Result<(), Refused> {
        assert!(region.guest_address.checked_add(region.size_bytes).is_some());
        self.note(Asked::Add(region))
    }

    fn remove_memory_region(&mut self, region: MemoryRegion) -> Result<(), Refused> {
        self.note(Asked::Remove(region))
    }

    fn set_log_base(&mut self, extent: LogExtent, file: OwnedFd) -> Result<(), Refused> {
        assert!(fcntl_getfd(file).expect("open").contains(FdFlags::CLOEXEC));
        self.note(Asked::Log(extent))
    }

    fn set_vring_size(&mut self, index: u16, size: u32) -> Result<(), Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        self.note(Asked::Size(index, size))
    }

    fn set_vring_addresses(
        &mut self,
        index: u16,
        addresses: VringAddresses,
    ) -> Result<(), Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        self.note(Asked::Addresses(index, addresses))
    }

    fn set_vring_base(&mut self, index: u16, base: u32) -> Result<(), Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        self.note(Asked::Base(index, base))
    }

    fn get_vring_base(&mut self, index: u16) -> Result<u32, Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        self.note(Asked::Stop(index))?;
        Ok(0x8000_8000 + u32::from(index))
    }

    fn set_vring_kick(&mut self, index: u16, kick: Option<OwnedFd>) -> Result<(), Refused> {
        self.note_ring(Asked::Kick, index, kick)
    }

    fn set_vring_call(&mut self, index: u16, call: Option<OwnedFd>) -> Result<(), Refused> {
        self.note_ring(Asked::Call, index, call)
    }

    fn set_vring_err(&mut self, index: u16, err: Option<OwnedFd>) -> Result<(), Refused> {
        self.note_ring(Asked::Err, index, err)
    }

    fn set_vring_enable(&mut self, index: u16, enabled: bool) -> Result<(), Refused> {
        assert!(index < 2 * QUEUE_PAIRS);
        self.note(Asked::Enable(index, enabled))
    }

    fn set_status(&mut self, status: u8) -> Result<(), Refused> {
        self.status = status;
        self.note(Asked::Status(status))
    }

    fn status(&self) -> u8 {
        self.status
    }

    fn config_space(&self) -> Vec<u8> {
        CONFIG_SPACE.to_vec()
    }

    fn set_mtu(&mut self, mtu: u16) -> Result<(), Refused> {
        self.note(Asked::Mtu(mtu))
    }

    fn send_rarp(&mut self, address: [u8; 6]) {
        self.calls.push(Asked::Rarp(address));
    }

    fn reset_owner(&mut self) {
        self.calls.push(Asked::ResetOwner);
    }

    fn reset_device(&mut self) -> Result<(), Refused> {
        self.note(Asked::ResetDevice)
    }
}

/// A session, its back end, and the front end's end of the socket.
pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) backend: Recorder,
    pub(crate) front: UnixStream,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let (front, back) = UnixStream::pair().expect("socket pair");
        front.set_read_timeout(Some(PATIENCE)).expect("timeout");
        front.set_write_timeout(Some(PATIENCE)).expect("timeout");
        Self { session: Session::new(back).expect("session"), backend: Recorder::default(), front }
    }

    /// A bench whose front end has negotiated REPLY_ACK.
    pub(crate) fn acknowledging() -> Self {
        let mut bench = Self::new();
        bench.send(FrontendReq::SET_PROTOCOL_FEATURES, 0, &number(REPLY_ACK), &[]);
        bench.turn().expect("accepted");
        bench
    }

    /// Sends one message from the front end.
    pub(crate) fn send(
        &self,
        request: FrontendReq,
        flags: u32,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) {
        let header = header(request.into(), 1 | flags, body.len());
        self.send_bytes(&[&header[..], body].concat(), descriptors);
    }

    /// Sends any bytes, with any descriptors on the first.
    pub(crate) fn send_bytes(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let parts = [IoSlice::new(bytes)];
        let sent = sendmsg(&self.front, &parts, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// Lets the session do what it can.
    pub(crate) fn turn(&mut self) -> Result<(), SessionError> {
        self.session.on_ready(&mut self.backend)
    }

    /// Sends one message, lets the session work, and returns how that went.
    pub(crate) fn try_send(
        &mut self,
        request: FrontendReq,
        flags: u32,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), SessionError> {
        self.send(request, flags, body, descriptors);
        self.turn()
    }

    /// Sends one message, and returns the body of the reply that must follow.
    pub(crate) fn ask(&mut self, request: FrontendReq, flags: u32, body: &[u8]) -> Vec<u8> {
        self.try_send(request, flags, body, &[]).expect("answered");
        self.reply(request)
    }

    /// Reads a reply to `request` and returns its body.
    pub(crate) fn reply(&mut self, request: FrontendReq) -> Vec<u8> {
        let mut head = [0; 12];
        self.front.read_exact(&mut head).expect("a reply");
        let size = usize::from(head[8]);
        assert_eq!(head, header(request.into(), 1 | 4, size));
        let mut body = vec![0; size];
        self.front.read_exact(&mut body).expect("a reply's body");
        body
    }

    /// Says whether the front end has nothing to read.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.front.set_nonblocking(true).expect("non-blocking");
        let silent = self.front.read(&mut [0]).is_err();
        self.front.set_nonblocking(false).expect("blocking");
        silent
    }
}

pub(crate) fn header(code: u32, flags: u32, size: usize) -> [u8; 12] {
    let size = u32::try_from(size).expect("small");
    let words: Vec<u8> = [code, flags, size].iter().flat_map(|word| word.to_ne_bytes()).collect();
    words.try_into().expect("three words")
}

pub(crate) fn number(number: u64) -> [u8; 8] {
    number.to_ne_bytes()
}

pub(crate) fn state(index: u32, number: u32) -> Vec<u8> {
    [index.to_ne_bytes(), number.to_ne_bytes()].concat()
}

/// The body of SET_VRING_ADDR.
pub(crate) fn addresses(index: u32, flags: u32, addresses: [u64; 4]) -> Vec<u8> {
    [state(index, flags), numbers(&addresses)].concat()
}

/// Guest address, size, user address, offset, as they follow each other on the wire.
pub(crate) fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// The body of ADD_MEM_REG and REM_MEM_REG.
pub(crate) fn slot(region: [u64; 4]) -> Vec<u8> {
    [numbers(&[0]), numbers(&region)].concat()
}

pub(crate) fn region(
    [guest_address, size_bytes, user_address, mmap_offset]: [u64; 4],
) -> MemoryRegion {
    MemoryRegion { guest_address, size_bytes, user_address, mmap_offset }
}

/// A file with a name of its own, by which its descriptors can be counted.
pub(crate) struct Tracer {
    name: String,
    file: File,
}

impl Tracer {
    pub(crate) fn new(name: &str) -> Self {
        // Tests run side by side in one process: every file is one of a kind.
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{name} {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let file = memfd_create(name.as_str(), MemfdFlags::CLOEXEC).expect("memfd");
        Self { name: format!("/memfd:{name} (deleted)"), file: File::from(file) }
    }

    pub(crate) fn times(&self, count: usize) -> Vec<BorrowedFd<'_>> {
        vec![self.file.as_fd(); count]
    }

    /// Descriptors of this file in this process beyond the tracer's own.
    pub(crate) fn leaked(&self) -> usize {
        let open = fs::read_dir("/proc/self/fd").expect("procfs");
        let named = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        named.filter(|target| target.as_os_str() == self.name.as_str()).count() - 1
    }
}
