//! A private copy of a frame's headers, longer than [`Header`]: for frames that are changed at
//! egress. See [`offload`](super) for why it exists beside the other.
//!
//! ```text
//!   private header    │ addresses, type, … 64 bytes │
//!   where it lies                                   │ rest of the headers │ payload …
//!   Head              │ addresses │ tag │ type, … as many as wanted │
//! ```
//!
//! The tag is the one that the frame leaves with, so all places in a `Head` are places in the
//! frame as it leaves.

use frame::{HEADER_BYTES, Header, Outgoing, Reader, Segment, TAG_BYTES, VlanTag};

/// Most bytes of a frame that are gathered: Ethernet and a tag (18), then IPv4 and TCP with all
/// their options (120), or IPv6 (40), TCP (60) and 74 bytes of extension headers. Three lines.
pub const HEAD_BYTES: usize = 192;

/// A frame that is about to leave by one port.
#[derive(Debug, Clone, Copy)]
pub struct Leaving<'a> {
    /// The private copy of its first bytes.
    pub header: &'a Header,
    /// The tag that the port wants.
    pub tag: Option<VlanTag>,
    /// Where the rest lies.
    pub segments: &'a [Segment],
}

impl<'a> Leaving<'a> {
    /// Length of its tag in bytes: what all places shift by, compared to an untagged frame.
    #[must_use]
    #[inline]
    pub const fn tag_bytes(&self) -> usize {
        if self.tag.is_some() { TAG_BYTES } else { 0 }
    }

    /// Its length as it leaves, in bytes.
    #[must_use]
    pub fn length_bytes(&self) -> usize {
        self.tag_bytes() + Outgoing::new(self.header.untagged(), self.segments).length_bytes
    }

    /// Starts reading behind the first `head_bytes` bytes of the frame as it leaves, which are
    /// the tag's at least. None if the frame is shorter.
    #[must_use]
    #[inline]
    pub fn payload(&self, head_bytes: usize) -> Option<Reader<'a>> {
        let mut reader = Outgoing::new(self.header.untagged(), self.segments).reader();
        let skipped = head_bytes.checked_sub(self.tag_bytes())?;
        (reader.skip(skipped) == skipped).then_some(reader)
    }
}

/// The private copy, of no frame at first. Made once a thread and used again: clearing it costs more than filling it.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    bytes: [u8; HEAD_BYTES],
    length_bytes: usize,
    tag_bytes: usize,
}

impl Head {
    /// No frame's.
    pub const EMPTY: Self = Self { bytes: [0; HEAD_BYTES], length_bytes: 0, tag_bytes: 0 };

    /// A copy of headers that were gathered before.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut head = Self::EMPTY;
        head.bytes[..bytes.len()].copy_from_slice(bytes);
        Self { length_bytes: bytes.len(), ..head }
    }

    /// Replaces it by the first bytes of `frame`: `wanted_bytes`, or all that [`Header`] has if
    /// these are more, or the whole frame if that is shorter, and [`HEAD_BYTES`] at most.
    pub fn gather(&mut self, frame: &Leaving<'_>, wanted_bytes: usize) {
        let header = frame.header.untagged();
        self.tag_bytes = frame.tag_bytes();
        self.length_bytes = header.len() + self.tag_bytes;
        match frame.tag {
            None => self.bytes[..header.len()].copy_from_slice(header),
            Some(tag) => {
                let mut scratch = [0; HEADER_BYTES + TAG_BYTES];
                let tagged = frame.header.with_tag(tag, &mut scratch);
                self.bytes[..tagged.len()].copy_from_slice(tagged);
            }
        }
        let wanted_bytes = wanted_bytes.min(HEAD_BYTES);
        if wanted_bytes > self.length_bytes {
            let place = &mut self.bytes[self.length_bytes..wanted_bytes];
            self.length_bytes += Outgoing::new(&[], frame.segments).reader().read(place);
        }
    }

    /// The frame's first bytes as it leaves.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length_bytes]
    }

    /// The same, to be changed.
    #[inline]
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length_bytes]
    }

    /// Where the EtherType stands, behind the tag if there is one.
    #[inline]
    pub(crate) const fn ether_type_at(&self) -> usize {
        12 + self.tag_bytes
    }

    /// Keeps the first `length_bytes` bytes.
    pub(crate) const fn truncate(&mut self, length_bytes: usize) {
        if length_bytes < self.length_bytes {
            self.length_bytes = length_bytes;
        }
    }
}

impl Default for Head {
    fn default() -> Self {
        Self::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::extents;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn head_and_payload_are_the_frame(
            bytes in proptest::collection::vec(any::<u8>(), 20..300),
            is_tagged: bool,
            wanted in 0usize..250,
        ) {
            let tag = is_tagged.then_some(VlanTag::from_bits(0x2005));
            let bytes = [&bytes[..12], &[8, 0], &bytes[14..]].concat();
            let header = Header::parse(&bytes).unwrap();
            let rest = &bytes[header.taken_bytes()..];
            let segments = extents(rest, &[7]);
            let frame = Leaving { header: &header, tag, segments: &segments };
            let mut head = Head::EMPTY;

            head.gather(&frame, wanted);

            let mut payload = vec![0; bytes.len()];
            let count = frame.payload(head.bytes().len()).unwrap().read(&mut payload);
            let tag_bytes: &[u8] = if is_tagged { &[0x81, 0, 0x20, 5] } else { &[] };
            let whole = [&bytes[..12], tag_bytes, &bytes[12..]].concat();
            prop_assert_eq!(frame.length_bytes(), whole.len());
            prop_assert!(head.bytes().len() >= wanted.min(whole.len()).min(HEAD_BYTES));
            prop_assert_eq!([head.bytes(), &payload[..count]].concat(), whole);
        }
    }
}
