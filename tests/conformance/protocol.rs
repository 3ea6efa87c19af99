//! What the cases need of the protocol beside what the integration tests do.

use std::io::Read;
use std::net::Shutdown;
use std::ops::{Deref, DerefMut};
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::support::messages::Conversation;

pub(crate) const GET_QUEUE_NUM: u32 = 17;
pub(crate) const GET_MAX_MEM_SLOTS: u32 = 36;
pub(crate) const SET_STATUS: u32 = 39;
pub(crate) const GET_STATUS: u32 = 40;

/// VHOST_USER_F_PROTOCOL_FEATURES, a device feature.
pub(crate) const PROTOCOL_FEATURES: u64 = 1 << 30;

/// Protocol features.
pub(crate) const MQ: u64 = 1 << 0;
pub(crate) const RARP: u64 = 1 << 2;
pub(crate) const REPLY_ACK: u64 = 1 << 3;
pub(crate) const MTU: u64 = 1 << 4;
pub(crate) const CONFIGURE_MEM_SLOTS: u64 = 1 << 15;
pub(crate) const STATUS: u64 = 1 << 16;

/// Set in what SET_VRING_KICK and its like say if no descriptor comes along.
pub(crate) const NO_DESCRIPTOR: u64 = 1 << 8;

const VERSION: u32 = 1;
const NEED_REPLY: u32 = 8;

/// A reply with its header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) request: u32,
    pub(crate) flags: u32,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn number(&self) -> u64 {
        u64::from_le_bytes(self.body.as_slice().try_into().expect("eight bytes"))
    }
}

/// A conversation that is over at both ends when it is dropped: a back end has one front end at a
/// time.
#[derive(Debug)]
pub(crate) struct Talk(Conversation);

impl Talk {
    pub(crate) fn connect(socket: &Path) -> Self {
        Self(Conversation::connect(socket))
    }
}

impl Deref for Talk {
    type Target = Conversation;

    fn deref(&self) -> &Conversation {
        &self.0
    }
}

impl DerefMut for Talk {
    fn deref_mut(&mut self) -> &mut Conversation {
        &mut self.0
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        let _ = self.0.stream.shutdown(Shutdown::Write);
        self.0.await_end();
    }
}

/// Sends a message that asks for an acknowledgement.
pub(crate) fn send_asking(
    talk: &Conversation,
    request: u32,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) {
    let size = u32::try_from(body.len()).unwrap();
    let header = [request, VERSION | NEED_REPLY, size].map(u32::to_le_bytes).concat();
    talk.send_raw(&[header.as_slice(), body].concat(), descriptors);
}

/// The next reply, or none if the back end has hung up.
pub(crate) fn reply(talk: &mut Conversation) -> Option<Reply> {
    let mut header = [0; 12];
    talk.stream.read_exact(&mut header).ok()?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let mut body = vec![0; usize::try_from(word(8)).unwrap()];
    talk.stream.read_exact(&mut body).ok()?;
    Some(Reply { request: word(0), flags: word(4), body })
}

/// The answer to a message that asks for an acknowledgement: zero if it was carried out, none if the
/// back end has hung up.
pub(crate) fn ask(
    talk: &mut Conversation,
    request: u32,
    body: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> Option<u64> {
    send_asking(talk, request, body, descriptors);
    reply(talk).map(|reply| reply.number())
}

/// Numbers as they stand in a body.
pub(crate) fn body(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
