//! A message as it lies on the wire, and how its body is read.
//!
//! ```text
//!    0         4        8        12                 12 + size
//!   ┌─────────┬────────┬────────┬───────────────────┐
//!   │ request │ flags  │ size   │ body              │   descriptors ride on the first byte
//!   └─────────┴────────┴────────┴───────────────────┘
//!               bits 0-1 version (1), bit 2 reply, bit 3 need_reply
//! ```
//!
//! All numbers are in the machine's byte order. A body has exactly the size that its request
//! asks for: a longer one is as wrong as a shorter one. Nothing read here is trusted further than
//! its size; see [`crate::dispatch`] for values.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    FrontendReq, MAX_MSG_SIZE, VhostUserLog, VhostUserMemoryRegion, VhostUserVringAddr,
    VhostUserVringState,
};
use vm_memory::ByteValued;

use crate::error::SessionError;

/// Size of request, flags and size.
pub(crate) const HEADER_BYTES: usize = 12;
/// Most descriptors taken with one message: what the `vhost` crate takes, four times what any
/// request needs.
pub(crate) const DESCRIPTORS_MAX: usize = 32;

/// The only protocol version there is, in bits 0 and 1.
const VERSION: u32 = 1;
const VERSION_MASK: u32 = 3;
const REPLY: u32 = 1 << 2;
const NEED_REPLY: u32 = 1 << 3;

/// What the first 12 bytes say, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) request: FrontendReq,
    pub(crate) need_reply: bool,
    /// Size of the body, at most 4 KiB.
    pub(crate) body_bytes: usize,
}

impl Header {
    /// Reads and checks a header.
    ///
    /// # Errors
    ///
    /// [`SessionError`] for a request code that does not exist, another version, a reply,
    /// reserved flags, or a body over 4 KiB.
    pub(crate) fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, SessionError> {
        let [code, flags, size_bytes] = words(bytes);
        let request =
            FrontendReq::try_from(code).map_err(|_| SessionError::UnknownRequest { code })?;
        // Exactly the version and perhaps need_reply: a reply or a reserved bit has no business
        // in what a front end sends.
        if flags & !NEED_REPLY != VERSION {
            return Err(SessionError::InvalidFlags { request, flags });
        }
        let body_bytes = usize::try_from(size_bytes)
            .ok()
            .filter(|bytes| *bytes <= MAX_MSG_SIZE)
            .ok_or(SessionError::InvalidBodySize { request, size_bytes })?;
        Ok(Self { request, need_reply: flags & NEED_REPLY != 0, body_bytes })
    }
}

/// The three numbers of a header.
fn words(bytes: [u8; HEADER_BYTES]) -> [u32; 3] {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(u32::from_ne_bytes)
}

/// Writes a reply: the request's header with the reply flag, and a body of at most 4 KiB.
pub(crate) fn write_reply(request: FrontendReq, body: &[u8], out: &mut Vec<u8>) {
    let size_bytes = u32::try_from(body.len()).expect("no longer than a request");
    for word in [u32::from(request), VERSION & VERSION_MASK | REPLY, size_bytes] {
        out.extend_from_slice(&word.to_ne_bytes());
    }
    out.extend_from_slice(body);
}

/// A whole message. Descriptors that nobody takes are closed with it.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) request: FrontendReq,
    pub(crate) need_reply: bool,
    pub(crate) body: Vec<u8>,
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Message {
    /// Checks that there is no body, and no descriptor.
    pub(crate) fn empty(&self) -> Result<(), SessionError> {
        self.no_descriptors()?;
        self.fixed::<0>().map(|_| ())
    }

    /// Reads a body of one 64-bit number, without descriptors.
    pub(crate) fn number(&self) -> Result<u64, SessionError> {
        self.no_descriptors()?;
        self.number_beside_descriptors()
    }

    /// Reads a body of one 64-bit number; descriptors are checked elsewhere.
    pub(crate) fn number_beside_descriptors(&self) -> Result<u64, SessionError> {
        self.fixed::<8>().map(u64::from_ne_bytes)
    }

    /// Reads a body of a ring's index and a number, without descriptors.
    pub(crate) fn vring_state(&self) -> Result<VhostUserVringState, SessionError> {
        self.no_descriptors()?;
        self.record(&self.body)
    }

    /// Reads a body of a ring's index, flags and addresses, without descriptors.
    pub(crate) fn vring_addresses(&self) -> Result<VhostUserVringAddr, SessionError> {
        self.no_descriptors()?;
        self.record(&self.body)
    }

    /// Reads a body of a log's size and where it starts in its file.
    pub(crate) fn log_extent(&self) -> Result<VhostUserLog, SessionError> {
        self.record(&self.body)
    }

    /// Reads a body of one memory region, behind 8 bytes of padding.
    pub(crate) fn memory_region(&self) -> Result<VhostUserMemoryRegion, SessionError> {
        self.record(self.body.get(8..).unwrap_or_default())
    }

    /// Reads a body of a count, 4 bytes of padding, and that many memory regions. User Mode Linux
    /// sends two, and counts those that mean something.
    pub(crate) fn memory_table(&self) -> Result<Vec<VhostUserMemoryRegion>, SessionError> {
        let Some((prefix, regions)) = self.body.split_first_chunk::<8>() else {
            return Err(self.invalid_size());
        };
        let [a, b, c, d, ..] = *prefix;
        let count = u32::from_ne_bytes([a, b, c, d]);
        let regions = regions.chunks(size_of::<VhostUserMemoryRegion>());
        let regions: Vec<_> = regions.map(|bytes| self.record(bytes)).collect::<Result<_, _>>()?;
        let counted = usize::try_from(count).ok().and_then(|count| regions.get(..count));
        Ok(counted.ok_or_else(|| self.invalid_size())?.to_vec())
    }

    /// Reads a packed record, and what comes behind it.
    pub(crate) fn record_and_bytes<T: ByteValued>(&self) -> Result<(T, &[u8]), SessionError> {
        let (record, bytes) =
            self.body.split_at_checked(size_of::<T>()).ok_or_else(|| self.invalid_size())?;
        Ok((self.record(record)?, bytes))
    }

    /// Checks that no descriptor came.
    pub(crate) fn no_descriptors(&self) -> Result<(), SessionError> {
        if self.descriptors.is_empty() {
            return Ok(());
        }
        Err(self.invalid_descriptors())
    }

    /// Takes the one descriptor that must have come.
    pub(crate) fn one_descriptor(&mut self) -> Result<OwnedFd, SessionError> {
        if self.descriptors.len() != 1 {
            return Err(self.invalid_descriptors());
        }
        self.descriptors.pop().ok_or_else(|| self.invalid_descriptors())
    }

    /// Takes exactly `count` descriptors, in the order in which they were attached.
    pub(crate) fn descriptors(&mut self, count: usize) -> Result<Vec<OwnedFd>, SessionError> {
        if self.descriptors.len() != count {
            return Err(self.invalid_descriptors());
        }
        Ok(std::mem::take(&mut self.descriptors))
    }

    /// Says that the descriptors do not fit the request.
    pub(crate) fn invalid_descriptors(&self) -> SessionError {
        SessionError::InvalidDescriptorCount {
            request: self.request,
            count: self.descriptors.len(),
        }
    }

    /// The body, if it has exactly `N` bytes.
    fn fixed<const N: usize>(&self) -> Result<[u8; N], SessionError> {
        self.body.as_slice().try_into().map_err(|_| self.invalid_size())
    }

    /// Reads a packed record that fills `bytes` exactly.
    fn record<T: ByteValued>(&self, bytes: &[u8]) -> Result<T, SessionError> {
        T::from_slice(bytes).copied().ok_or_else(|| self.invalid_size())
    }

    /// Says that the body does not fit the request.
    pub(crate) fn invalid_size(&self) -> SessionError {
        SessionError::InvalidBodySize {
            request: self.request,
            // A body is at most 4 KiB, so this is exact.
            size_bytes: u32::try_from(self.body.len()).unwrap_or(u32::MAX),
        }
    }
}
