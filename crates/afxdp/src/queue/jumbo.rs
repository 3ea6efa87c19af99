//! Frames in several buffers, both ways: jumbo frames, which are longer than a chunk.
//!
//! ```text
//!   rx ring   │ A, goes on │ B, goes on │ C │     a frame in three chunks
//!   token     │ number of its further chunks: B, C │ address of A │
//! ```
//!
//! They are copied whenever they leave: chunks are exchanged one for one (see `queue.rs`).

use std::array;

use frame::{
    Burst, Completing, DropReason, Intake, MAX_FRAME_BYTES, Room, SegmentRange, TAG_BYTES,
};

use super::XdpQueue;
use crate::rings::Descriptor;
use crate::umem::{RECEIVE_CHUNKS, chunk_of};

/// Most buffers that a frame comes in: the longest fits three.
const MAX_BUFFERS: usize = 4;

/// Bits of a token that are an address in the UMEM: 16 TiB.
const ADDRESS_BITS: u32 = 44;

/// No chunk.
const NONE: u64 = u64::MAX;

/// Frames that came in several buffers.
#[derive(Debug)]
pub(crate) struct Jumbo {
    /// Buffers of a frame whose last one has not been seen.
    gathered: Vec<Descriptor>,
    /// That frame has more than [`MAX_BUFFERS`].
    is_too_long: bool,
    /// Chunks of frames that are out, but for the first of each.
    further: Vec<[u64; MAX_BUFFERS - 1]>,
    /// Places in `further` that are free.
    unused: Vec<u32>,
}

const fn goes_on(descriptor: &Descriptor) -> bool {
    descriptor.options & libc::XDP_PKT_CONTD != 0
}

impl Jumbo {
    /// None yet. Room for as many as a queue's chunks make, so that it never grows.
    pub(super) fn new() -> Self {
        let most = RECEIVE_CHUNKS as usize / 2;
        Self {
            gathered: Vec::with_capacity(MAX_BUFFERS + 1),
            further: Vec::with_capacity(most),
            unused: Vec::with_capacity(most),
            is_too_long: false,
        }
    }

    /// Buffers of a frame whose last one has not been seen, and whether it has too many.
    pub(crate) fn gathered(&self) -> (&[Descriptor], bool) {
        (&self.gathered, self.is_too_long)
    }

    /// Goes on with such a frame that another process has begun.
    pub(crate) fn go_on(&mut self, gathered: impl Iterator<Item = Descriptor>, is_too_long: bool) {
        self.gathered.extend(gathered.take(MAX_BUFFERS));
        self.is_too_long = is_too_long;
    }

    /// Says whether a buffer is one of several.
    #[inline]
    pub(super) fn concerns(&self, descriptor: &Descriptor) -> bool {
        goes_on(descriptor) || !self.gathered.is_empty()
    }

    /// Says whether a frame of this token has further chunks.
    #[inline]
    pub(super) const fn is_jumbo(&self, token: u64) -> bool {
        token >> ADDRESS_BITS != 0
    }

    /// The address of the frame's first chunk.
    #[inline]
    pub(super) const fn chunk_of_token(&self, token: u64) -> u64 {
        token & ((1 << ADDRESS_BITS) - 1)
    }

    /// Gives the further chunks of a frame back.
    pub(super) fn give_back(&mut self, token: u64, back: &mut Vec<u64>) {
        let Ok(place) = u32::try_from((token >> ADDRESS_BITS) - 1) else { return };
        if let Some(chunks) = self.further.get_mut(place as usize) {
            let chunks = std::mem::replace(chunks, [NONE; MAX_BUFFERS - 1]);
            back.extend(chunks.into_iter().filter(|&chunk| chunk != NONE));
            self.unused.push(place);
        }
    }

    /// A token for the frame of the gathered buffers.
    fn token(&mut self) -> u64 {
        let chunk = |at: usize| self.gathered.get(at).map(|buffer| chunk_of(buffer.address));
        let further = array::from_fn(|at| chunk(at + 1).unwrap_or(NONE));
        let first = chunk(0).unwrap_or(NONE);
        let place = self.unused.pop().unwrap_or_else(|| {
            self.further.push([NONE; MAX_BUFFERS - 1]);
            u32::try_from(self.further.len() - 1).unwrap_or(u32::MAX)
        });
        self.further[place as usize] = further;
        (u64::from(place) + 1) << ADDRESS_BITS | first
    }
}

impl XdpQueue {
    /// Takes one buffer of several; with the last one the frame.
    pub(super) fn take_buffer(&mut self, buffer: Descriptor, burst: &mut Burst) {
        self.jumbo.gathered.push(buffer);
        if self.jumbo.gathered.len() > MAX_BUFFERS {
            self.jumbo.is_too_long = true;
            self.jumbo.gathered.pop();
            self.back.push(chunk_of(buffer.address));
            burst.dropped_bytes += u64::from(buffer.length_bytes);
        }
        if goes_on(&buffer) {
            return;
        }
        let is_too_long = std::mem::take(&mut self.jumbo.is_too_long);
        let taken =
            if is_too_long { Err(DropReason::Oversized) } else { self.take_gathered(burst) };
        match taken {
            Ok(()) => self.outstanding += 1,
            Err(reason) => {
                burst.dropped.count(reason);
                for buffer in &self.jumbo.gathered {
                    self.back.push(chunk_of(buffer.address));
                    burst.dropped_bytes += u64::from(buffer.length_bytes);
                }
            }
        }
        self.jumbo.gathered.clear();
    }

    /// Appends the frame of the gathered buffers, or says why not.
    fn take_gathered(&mut self, burst: &mut Burst) -> Result<(), DropReason> {
        const TOO_LONG: DropReason = DropReason::Oversized;
        let Self { part, jumbo, .. } = self;
        let umem = part.umem();
        let first = *jumbo.gathered.first().ok_or(TOO_LONG)?;
        let lengths = jumbo.gathered.iter().map(|buffer| buffer.length_bytes as usize);
        let frame_bytes: usize = lengths.sum();
        burst.push_with(|header, _, segments| {
            let read = |place: &mut [u8; frame::HEADER_BYTES]| {
                umem.read(first.address, first.length_bytes, place).unwrap_or_default()
            };
            header.read(read)?;
            let tag_bytes = if header.tag().is_some() { TAG_BYTES } else { 0 };
            let length_bytes = frame_bytes - tag_bytes;
            if length_bytes > MAX_FRAME_BYTES {
                return Err(TOO_LONG);
            }
            let start = segments.len();
            let mut skip = u32::try_from(header.taken_bytes()).map_err(|_| TOO_LONG)?;
            for buffer in &jumbo.gathered {
                // Of no length, if the first buffer has nothing but the header: a frame that lies
                // in one segment might be taken for one that lies in one chunk.
                let rest = buffer.length_bytes.checked_sub(skip).ok_or(TOO_LONG)?;
                let segment = umem.segment(buffer.address + u64::from(skip), rest);
                segments.push(segment.ok_or(TOO_LONG)?);
                skip = 0;
            }
            let count = segments.len() - start;
            let [start, count, length_bytes] =
                [start, count, length_bytes].map(|number| u32::try_from(number).unwrap_or(0));
            let segments = SegmentRange { start, count };
            Ok(Intake { segments, length_bytes, token: jumbo.token() })
        })
    }

    /// Sends a frame of `length_bytes` bytes in as many chunks as it takes, which `copy` fills one
    /// after the other.
    pub(super) fn send_in_several(
        &mut self,
        length_bytes: u32,
        mut copy: impl FnMut(&mut Room),
    ) -> Result<(), DropReason> {
        let room_bytes = self.chunk_room_bytes();
        let count = length_bytes.div_ceil(room_bytes);
        if self.free.len() < count as usize {
            self.reap();
        }
        if self.free.len() < count as usize {
            return Err(DropReason::TxRingFull);
        }
        let mut left_bytes = length_bytes;
        while left_bytes > 0
            && let Some(chunk) = self.free.pop()
        {
            let address = chunk + u64::from(self.part.umem().front_bytes());
            let piece_bytes = left_bytes.min(room_bytes);
            left_bytes -= piece_bytes;
            let written = self.part.umem().write(address, &mut copy);
            let options = if left_bytes > 0 { libc::XDP_PKT_CONTD } else { 0 };
            let descriptor = Descriptor { address, length_bytes: piece_bytes, options };
            let is_pushed = written.is_some() && self.socket.tx.push(descriptor);
            debug_assert!(
                is_pushed,
                "the tx ring has as many slots as the queue has chunks to send"
            );
        }
        Ok(())
    }

    /// The same for a frame whose checksum is completed by the copy.
    pub(super) fn send_completing_in_several(
        &mut self,
        length_bytes: u32,
        mut frame: Completing<'_>,
    ) -> Result<(), DropReason> {
        let mut front = None;
        let head_bytes = u32::try_from(frame.head_bytes()).unwrap_or(u32::MAX);
        self.send_in_several(length_bytes, |room| {
            if front.is_none() {
                front = Some(room.split_front(head_bytes));
            }
            frame.copy_payload(room);
        })?;
        // Not published yet: the kernel looks at the chunks after the next flush.
        if let Some(mut front) = front {
            front.write(frame.finish());
        }
        Ok(())
    }
}
