//! vhost-user messages as bytes, written down from the protocol's text and independent of the
//! switch's own code: header (request, flags, size), body, descriptors.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::{PATIENCE, wait_for};

pub(crate) const GET_FEATURES: u32 = 1;
pub(crate) const SET_FEATURES: u32 = 2;
pub(crate) const SET_OWNER: u32 = 3;
pub(crate) const SET_MEM_TABLE: u32 = 5;
pub(crate) const SET_LOG_BASE: u32 = 6;
pub(crate) const SET_LOG_FD: u32 = 7;
pub(crate) const SET_VRING_NUM: u32 = 8;
pub(crate) const SET_VRING_ADDR: u32 = 9;
pub(crate) const SET_VRING_BASE: u32 = 10;
pub(crate) const GET_VRING_BASE: u32 = 11;
pub(crate) const SET_VRING_KICK: u32 = 12;
pub(crate) const SET_VRING_CALL: u32 = 13;
pub(crate) const SET_VRING_ERR: u32 = 14;
pub(crate) const GET_PROTOCOL_FEATURES: u32 = 15;
pub(crate) const SET_PROTOCOL_FEATURES: u32 = 16;
pub(crate) const SET_VRING_ENABLE: u32 = 18;
pub(crate) const SEND_RARP: u32 = 19;
pub(crate) const NET_SET_MTU: u32 = 20;
pub(crate) const ADD_MEM_REG: u32 = 37;
pub(crate) const REM_MEM_REG: u32 = 38;

/// The version, which every message carries.
const VERSION: u32 = 1;

/// The flag of a message that wants an answer whatever it asks for.
const NEED_REPLY: u32 = 8;

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Conversation {
    pub(crate) stream: UnixStream,
}

impl Conversation {
    /// Connects to a port of the switch.
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = wait_for("the port's socket", || UnixStream::connect(path).ok());
        Self::new(stream)
    }

    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Sends a message with descriptors.
    pub(crate) fn send(&self, request: u32, body: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let size = u32::try_from(body.len()).unwrap();
        let header = [request, VERSION, size].map(u32::to_le_bytes).concat();
        self.send_raw(&[header.as_slice(), body].concat(), descriptors);
    }

    /// Sends bytes, right or wrong. The other end may have hung up.
    pub(crate) fn send_raw(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); 4_096];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        let _ = sendmsg(&self.stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL);
    }

    /// Sends a message whose body is 64-bit numbers.
    pub(crate) fn send_u64(&self, request: u32, numbers: &[u64], descriptors: &[BorrowedFd<'_>]) {
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        self.send(request, &body, descriptors);
    }

    /// Sends a message whose body is a number, and returns the answer: zero if it is carried out.
    pub(crate) fn ask_u64(&mut self, request: u32, number: u64) -> u64 {
        self.ask(request, &[number], &[])
    }

    /// The same with several numbers, and descriptors.
    pub(crate) fn ask(
        &mut self,
        request: u32,
        numbers: &[u64],
        descriptors: &[BorrowedFd<'_>],
    ) -> u64 {
        let body: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let size = u32::try_from(body.len()).unwrap();
        let header = [request, VERSION | NEED_REPLY, size].map(u32::to_le_bytes).concat();
        self.send_raw(&[header, body].concat(), descriptors);
        self.reply_u64()
    }

    /// Sends a message about a ring.
    pub(crate) fn send_vring(&self, request: u32, index: u32, number: u32) {
        self.send(request, &[index, number].map(u32::to_le_bytes).concat(), &[]);
    }

    /// The body of the next reply.
    pub(crate) fn reply(&mut self) -> Vec<u8> {
        let mut header = [0; 12];
        self.stream.read_exact(&mut header).unwrap();
        let size = u32::from_le_bytes(header[8..].try_into().unwrap());
        let mut body = vec![0; usize::try_from(size).unwrap()];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// The next reply, a 64-bit number.
    pub(crate) fn reply_u64(&mut self) -> u64 {
        u64::from_le_bytes(self.reply().try_into().unwrap())
    }

    /// Ends the conversation, and waits until the other end knows.
    pub(crate) fn hang_up(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        self.await_end();
    }

    /// Waits until the other end has hung up.
    pub(crate) fn await_end(&mut self) {
        let mut rest = Vec::new();
        // An error is an end, too: the other end may reset.
        let _ = self.stream.read_to_end(&mut rest);
    }
}
