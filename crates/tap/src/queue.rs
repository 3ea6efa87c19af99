//! One queue of a tap: its open file and its buffers.
//!
//! ```text
//!               read(2)                    complete
//!   free buffer ───────▶ buffer in a burst ────────▶ free buffer
//!   │    ▲ bad frame │
//!   │    └───────────┘
//! ```
//!
//! A frame costs a system call each way. It is written from where it lies: one copy, by the
//! kernel, also if it was joined of several. What has to be changed on the way (a checksum
//! completed, a large frame cut) is put together in a private buffer first.
//!
//! Nothing waits. While no buffer is free nothing is read, and the kernel's queue of the interface
//! (`txqueuelen` frames, 1,000 by default) fills; what it then drops the interface counts.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use frame::{
    BURST_BYTES, BURST_FRAMES, Burst, Completing, DropReason, Gathered, Intake, Joined, Outgoing,
    Reader, Segment, SegmentRange,
};
use virtio::offload::{NetHeader, Sender, interpret};

use crate::buffers::{Buffers, MOST_BYTES, NET_HEADER_BYTES};

/// Buffers for frames that come in: four bursts, so that three may be lent while one is taken.
const RECEIVE_BUFFERS: usize = 4 * BURST_FRAMES;

/// The buffer behind those, for frames that are put together before they are sent.
const SCRATCH: usize = RECEIVE_BUFFERS;

/// One queue of a tap, owned by one poll thread. Methods never wait.
///
/// Dropping it while frames are [`outstanding`](Self::outstanding) keeps its buffers mapped for
/// ever, because they may still be read.
#[derive(Debug)]
pub struct TapQueue {
    tap: File,
    number: usize,
    sender: Sender,
    buffers: Buffers,
    /// Numbers of the buffers that are free. The one used last is used next: it is in the cache.
    free: Vec<usize>,
    /// By buffer: a frame in it is out.
    is_out: Box<[bool]>,
    /// The last read found nothing.
    is_drained: bool,
    /// The kernel said that there is no interface any more.
    is_gone: bool,
}

impl TapQueue {
    /// A queue of an interface whose net headers have 12 bytes.
    pub(crate) fn new(tap: File, number: usize, sender: Sender) -> io::Result<Self> {
        Ok(Self {
            tap,
            number,
            sender,
            buffers: Buffers::new(RECEIVE_BUFFERS + 1)?,
            free: (0..RECEIVE_BUFFERS).rev().collect(),
            is_out: vec![false; RECEIVE_BUFFERS].into(),
            is_drained: false,
            is_gone: false,
        })
    }

    /// Its number, from 0, in the order in which the queues were opened.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Takes up to `limit` frames, appends them to `burst` and returns how many. Takes fewer if
    /// they are large, and none while no buffer is free; nothing is lost by that. A frame's token
    /// is its buffer's number. Bad frames are counted in the burst's drops and do not count here.
    pub fn receive(&mut self, burst: &mut Burst, limit: usize) -> usize {
        let before = burst.frames.len();
        let mut bytes = BURST_BYTES;
        for _ in 0..limit {
            let Some(&number) = self.free.last() else { break };
            if bytes == 0 {
                break;
            }
            let read_bytes = match self.buffers.read(number, self.tap.as_fd()) {
                Ok(read_bytes) => read_bytes,
                Err(error) => {
                    self.is_drained = true;
                    self.note(&error);
                    break;
                }
            };
            self.is_drained = false;
            bytes = bytes.saturating_sub(read_bytes);
            match self.take(number, read_bytes, burst) {
                Ok(()) => {
                    self.free.pop();
                    self.is_out[number] = true;
                }
                Err(reason) => {
                    burst.dropped.count(reason);
                    let frame_bytes = read_bytes.saturating_sub(NET_HEADER_BYTES);
                    burst.dropped_bytes = burst.dropped_bytes.wrapping_add(frame_bytes as u64);
                }
            }
        }
        burst.frames.len() - before
    }

    /// Appends the frame that was read into a buffer, or says why it is dropped.
    fn take(&self, number: usize, read_bytes: usize, burst: &mut Burst) -> Result<(), DropReason> {
        const OVERSIZED: DropReason = DropReason::Oversized;
        let received_bytes =
            read_bytes.checked_sub(NET_HEADER_BYTES).ok_or(DropReason::NetHeaderIncomplete)?;
        if received_bytes > MOST_BYTES {
            return Err(OVERSIZED);
        }
        burst.push_with(|header, offload, segments| {
            let whole = self.buffers.segment(number, 0, received_bytes).ok_or(OVERSIZED)?;
            header.read(|first| copy(whole, first))?;
            let taken_bytes = header.taken_bytes();
            let length_bytes = received_bytes - (taken_bytes - header.length_bytes());
            let net_header = self.net_header(number).ok_or(DropReason::NetHeaderIncomplete)?;
            *offload = interpret(&net_header, self.sender, header, length_bytes)?;
            if offload.is_too_long(length_bytes) {
                return Err(OVERSIZED);
            }
            let start = u32::try_from(segments.len()).map_err(|_| OVERSIZED)?;
            let rest_bytes = received_bytes - taken_bytes;
            if rest_bytes > 0 {
                let rest = self.buffers.segment(number, taken_bytes, rest_bytes);
                segments.push(rest.ok_or(OVERSIZED)?);
            }
            Ok(Intake {
                segments: SegmentRange { start, count: u32::from(rest_bytes > 0) },
                length_bytes: u32::try_from(length_bytes).map_err(|_| OVERSIZED)?,
                token: number as u64,
            })
        })
    }

    fn net_header(&self, number: usize) -> Option<NetHeader> {
        let mut bytes = [0; NET_HEADER_BYTES];
        copy(self.buffers.net_header(number)?, &mut bytes);
        Some(NetHeader::from_bytes(&bytes))
    }

    /// The frame of this token is delivered or dropped everywhere: its buffer is free. Calls may
    /// come in any order. A token that is not out is ignored.
    #[inline]
    pub fn complete(&mut self, token: u64) {
        let Ok(number) = usize::try_from(token) else { return };
        if let Some(is_out) = self.is_out.get_mut(number)
            && std::mem::take(is_out)
        {
            self.free.push(number);
        }
    }

    /// Sends a frame as it lies, with this net header, to the host. The kernel has copied it when
    /// this returns.
    ///
    /// # Errors
    ///
    /// - [`DropReason::TxRingFull`]: the kernel has no memory for it now.
    /// - [`DropReason::OffloadUnfit`]: the kernel finds that net header and frame do not go
    ///   together.
    /// - [`DropReason::EgressOversized`]: it is longer than any frame may be.
    /// - [`DropReason::PortDown`]: the interface is down or gone, or the guest has taken the
    ///   memory away that the frame lay in.
    pub fn send(&mut self, net_header: NetHeader, frame: &Outgoing<'_>) -> Result<(), DropReason> {
        if frame.length_bytes > MOST_BYTES {
            return Err(DropReason::EgressOversized);
        }
        let front = front(net_header);
        let mut gathered = Gathered::new(&front);
        if gathered.push(frame.reader()) {
            return self.write(&gathered);
        }
        let copied = self.buffers.fill(SCRATCH, |room| frame.reader().copy_to(room));
        self.write_scratch(net_header, copied)
    }

    /// Sends a frame whose checksum is completed on the way, so that nothing is left to do.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_completing(&mut self, frame: Completing<'_>) -> Result<(), DropReason> {
        // Nothing was written if it did not fit.
        let written = self.buffers.fill(SCRATCH, |room| frame.write_to(room)).flatten();
        self.write_scratch(NetHeader::default(), written)
    }

    /// Sends several frames that were joined into one, with this net header.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn send_joined<'a>(
        &mut self,
        net_header: NetHeader,
        mut frame: Joined<'a, impl Iterator<Item = Reader<'a>> + Clone>,
    ) -> Result<(), DropReason> {
        let front = front(net_header);
        let mut gathered = Gathered::new(&front);
        if frame.clone().gather(&mut gathered) {
            return self.write(&gathered);
        }
        let copied = self.buffers.fill(SCRATCH, |room| frame.copy_to(room));
        self.write_scratch(net_header, copied)
    }

    fn write_scratch(
        &mut self,
        net_header: NetHeader,
        length_bytes: Option<usize>,
    ) -> Result<(), DropReason> {
        const OVERSIZED: DropReason = DropReason::EgressOversized;
        let length_bytes = length_bytes.ok_or(OVERSIZED)?;
        let whole = self.buffers.segment(SCRATCH, 0, length_bytes).ok_or(OVERSIZED)?;
        self.send(net_header, &Outgoing::new(&[], &[whole]))
    }

    fn write(&mut self, frame: &Gathered<'_>) -> Result<(), DropReason> {
        frame.write_to(self.tap.as_fd()).map_err(|error| {
            self.note(&error);
            refusal(&error)
        })
    }

    fn note(&mut self, error: &io::Error) {
        self.is_gone |= error.raw_os_error() == Some(libc::EBADFD);
    }

    /// Frames received and not completed.
    #[must_use]
    pub const fn outstanding(&self) -> usize {
        RECEIVE_BUFFERS - self.free.len()
    }

    /// Says whether a frame may have come that could be taken. Without asking the kernel: false
    /// means that there was none when [`receive`](Self::receive) last looked, or that no buffer is
    /// free. A thread sleeps on [`as_fd`](Self::as_fd) then, or until frames come back.
    #[must_use]
    #[inline]
    pub const fn has_work(&self) -> bool {
        !self.is_drained && !self.free.is_empty()
    }

    /// Says whether the interface was found removed: nothing comes and goes any more, and polling
    /// the file says so at once, each time. The queue is to be dropped.
    #[must_use]
    pub const fn is_gone(&self) -> bool {
        self.is_gone
    }

    /// The open file; readable while a frame waits.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }
}

impl Drop for TapQueue {
    fn drop(&mut self) {
        if self.outstanding() > 0 {
            self.buffers.keep();
        }
    }
}

/// What goes in front of a frame. `num_buffers` is for a receiveq: the kernel ignores it.
const fn front(net_header: NetHeader) -> [u8; NET_HEADER_BYTES] {
    net_header.to_bytes(0)
}

/// Copies the front of an extent, and says how much that was.
fn copy(from: Segment, to: &mut [u8]) -> usize {
    Outgoing::new(&[], &[from]).reader().read(to)
}

/// What an answer of writev(2) means for a frame.
fn refusal(error: &io::Error) -> DropReason {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::TxRingFull,
        Some(libc::EINVAL) => DropReason::OffloadUnfit,
        Some(libc::EMSGSIZE) => DropReason::EgressOversized,
        // EIO: the interface is down. EBADFD: it is gone. EFAULT: the frame's memory is.
        _ => DropReason::PortDown,
    }
}

#[cfg(test)]
mod tests;
