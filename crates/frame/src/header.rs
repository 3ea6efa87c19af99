//! A frame's private header: its first bytes, copied once, with the VLAN tag taken out.
//!
//! ```text
//!   received   │ destination, source │ tag │ type, payload …              (tag: if there is one)
//!                        │              │         │
//!   private    │ destination, source │ type, payload, 64 bytes in all │   tag: Option<VlanTag>
//!                        │                        │
//!   sent       │ destination, source │ tag │ type, payload │ segments …  (tag: if the port wants it)
//! ```
//!
//! Everything that is checked or changed is this copy, and this copy is what leaves. It is made
//! where it stays: a tag is taken out by moving the addresses over it, so the header then begins
//! four bytes later.
//!
//! Ethernet: IEEE 802.3-2018, 3; tags: 802.1Q-2018, 9.

use crate::{DropReason, ETHERNET_HEADER_BYTES, MacAddr, VlanTag};

/// Most bytes of a frame, its tag included, that are copied into a [`Header`]: one cache line.
/// Enough for the ports of TCP or UDP behind IPv6 (14 + 40 + 4) or IPv4 with options (14 + 44 + 4),
/// less four where there was a tag.
pub const HEADER_BYTES: usize = 64;

/// Length of a VLAN tag: TPID and control information.
pub const TAG_BYTES: usize = 4;

const ADDRESSES_BYTES: usize = 12;

/// The private copy of a frame's first bytes. See the module's drawing.
// Aligned so that copies in steps of 16 bytes, in and out, touch the same 16 bytes: a load that
// spans two stores just made has to wait for both.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(16))]
pub struct Header {
    bytes: [u8; HEADER_BYTES],
    /// Where the header begins: behind the room of a tag that was taken out.
    start: u8,
    /// Where it ends.
    end: u8,
    tag: Option<VlanTag>,
}

/// See [`Header::way`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way(u64, u64);

impl Way {
    /// That of no frame: of the number with the tag, a tag takes 17 of the lower 32 bits.
    pub const NONE: Self = Self(0, u64::MAX);
}

impl Header {
    /// No frame's header: 14 zero bytes.
    pub const EMPTY: Self = Self { bytes: [0; HEADER_BYTES], start: 0, end: 14, tag: None };

    /// Parses a frame's first bytes: give it as many as there are, up to [`HEADER_BYTES`]; more
    /// are ignored.
    ///
    /// A tag of another type than 0x8100, and any tag behind the first, is payload.
    ///
    /// # Errors
    ///
    /// [`DropReason::Runt`] for less than 14 bytes, or 18 with a tag.
    #[inline]
    pub fn parse(first: &[u8]) -> Result<Self, DropReason> {
        let mut header = Self::EMPTY;
        header.read(|place| {
            let count = first.len().min(place.len());
            place[..count].copy_from_slice(&first[..count]);
            count
        })?;
        Ok(header)
    }

    /// Replaces this header by another frame's, whose first bytes `copy` puts into the place it
    /// gets; it returns how many it had. What lies behind them is never sent nor looked at.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse). The header is good for nothing then.
    #[inline]
    pub fn read(
        &mut self,
        copy: impl FnOnce(&mut [u8; HEADER_BYTES]) -> usize,
    ) -> Result<(), DropReason> {
        let count = copy(&mut self.bytes).min(HEADER_BYTES);
        let [_, _, _, _, _, _, _, _, _, _, _, _, t0, t1, t2, t3, ..] = self.bytes;
        let is_tagged = count >= ETHERNET_HEADER_BYTES && [t0, t1] == VlanTag::TPID.to_be_bytes();
        let skip = if is_tagged { TAG_BYTES } else { 0 };
        if count < ETHERNET_HEADER_BYTES + skip {
            return Err(DropReason::Runt);
        }
        self.tag = None;
        if is_tagged {
            self.bytes.copy_within(..ADDRESSES_BYTES, TAG_BYTES);
            self.tag = Some(VlanTag::from_bits(u16::from_be_bytes([t2, t3])));
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most HEADER_BYTES")]
        let (start, end) = (skip as u8, count as u8);
        (self.start, self.end) = (start, end);
        Ok(())
    }

    /// How many of the frame's bytes as received this copy stands for, its tag included: the
    /// payload that still lies where it was received begins there.
    #[must_use]
    pub const fn taken_bytes(&self) -> usize {
        self.end as usize
    }

    /// Bytes of the copy, without a tag: 14 to [`HEADER_BYTES`].
    #[must_use]
    pub const fn length_bytes(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// The destination address.
    #[must_use]
    #[inline]
    pub const fn destination(&self) -> MacAddr {
        // By one load of eight bytes, which lie behind each other in any case.
        MacAddr::from_bits(u64::from_be_bytes(*self.eight_bytes::<0>()) >> 16)
    }

    /// The source address.
    #[must_use]
    #[inline]
    pub const fn source(&self) -> MacAddr {
        MacAddr::from_bits(u64::from_be_bytes(*self.eight_bytes::<4>()))
    }

    /// Eight bytes of the addresses, from this one on.
    #[inline]
    const fn eight_bytes<const AT: usize>(&self) -> &[u8; 8] {
        let found = self.addresses().split_at(AT).1.first_chunk();
        found.expect("twelve bytes hold four and eight")
    }

    /// Addresses and tag. Frames of one ingress port for which they are the same go the same way.
    #[must_use]
    #[inline]
    pub fn way(&self) -> Way {
        let [front @ .., b8, b9, b10, b11] = *self.addresses();
        let tag = self.tag.map_or(0, |tag| 1 << 16 | u64::from(tag.to_bits()));
        let behind = u32::from_ne_bytes([b8, b9, b10, b11]);
        Way(u64::from_ne_bytes(front), u64::from(behind) << 32 | tag)
    }

    /// Destination and source.
    #[inline]
    const fn addresses(&self) -> &[u8; ADDRESSES_BYTES] {
        // Two places for the compiler to know the lengths: no check, no panic.
        let (untagged, behind_tag) = (self.bytes.first_chunk(), self.bytes.split_at(TAG_BYTES).1);
        let found = if self.start == 0 { untagged } else { behind_tag.first_chunk() };
        found.expect("64 bytes hold four and twelve")
    }

    /// The tag that the frame was received with.
    #[must_use]
    pub const fn tag(&self) -> Option<VlanTag> {
        self.tag
    }

    /// The type or length field behind addresses and tag.
    #[must_use]
    pub const fn ether_type(&self) -> u16 {
        let at = self.start as usize + ADDRESSES_BYTES;
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    /// The header without tag: addresses, type, and what was copied of the payload.
    #[must_use]
    #[inline]
    pub fn untagged(&self) -> &[u8] {
        &self.bytes[usize::from(self.start)..usize::from(self.end)]
    }

    /// The header as it leaves with a tag, put together in `scratch`: the caller's, so that one
    /// frame can leave tagged and untagged in one burst.
    #[inline]
    pub fn with_tag<'a>(
        &self,
        tag: VlanTag,
        scratch: &'a mut [u8; HEADER_BYTES + TAG_BYTES],
    ) -> &'a [u8] {
        let (_, rest) = self.untagged().split_at(ADDRESSES_BYTES);
        scratch[..ADDRESSES_BYTES].copy_from_slice(self.addresses());
        scratch[12..14].copy_from_slice(&VlanTag::TPID.to_be_bytes());
        scratch[14..16].copy_from_slice(&tag.to_bits().to_be_bytes());
        let (_, room) = scratch.split_at_mut(ADDRESSES_BYTES + TAG_BYTES);
        room[..rest.len()].copy_from_slice(rest);
        &scratch[..ADDRESSES_BYTES + TAG_BYTES + rest.len()]
    }

    /// The header as a port wants it: with this tag, put together in `scratch`, or without.
    #[must_use]
    #[inline]
    pub fn as_tagged<'a>(
        &'a self,
        tag: Option<VlanTag>,
        scratch: &'a mut [u8; HEADER_BYTES + TAG_BYTES],
    ) -> &'a [u8] {
        match tag {
            None => self.untagged(),
            Some(tag) => self.with_tag(tag, scratch),
        }
    }

    /// A number that is the same for every frame of one flow, in both directions: a hash of the
    /// addresses and ports of IPv4 and IPv6, else of the MAC addresses. For spreading flows over
    /// queues, not for telling them apart.
    #[must_use]
    pub fn flow_hash(&self) -> u32 {
        const IPV4: u16 = 0x0800;
        const IPV6: u16 = 0x86dd;
        let bytes = self.untagged();
        let (addresses, protocol, ports) = match (self.ether_type(), bytes.len()) {
            (IPV4, 34..) => {
                let header_bytes = usize::from(bytes[14] & 0x0f) * 4;
                // Only the first fragment has ports: the others would go another way.
                let is_fragment = u16::from_be_bytes([bytes[20], bytes[21]]) & 0x3fff != 0;
                let ports = if is_fragment { None } else { bytes.get(14 + header_bytes..) };
                (word(bytes, 26) ^ word(bytes, 30), bytes[23], ports)
            }
            (IPV6, 54..) => {
                let addresses = (22..54).step_by(4).fold(0, |mixed, at| mixed ^ word(bytes, at));
                (addresses, bytes[20], bytes.get(54..))
            }
            _ => return mix(word(bytes, 2) ^ word(bytes, 8)),
        };
        let ports = match (protocol, ports) {
            (6 | 17, Some([a, b, c, d, ..])) => {
                u32::from(u16::from_be_bytes([*a, *b]) ^ u16::from_be_bytes([*c, *d]))
            }
            _ => 0,
        };
        mix(addresses ^ ports ^ u32::from(protocol) << 16)
    }
}

/// Four bytes of a header that is known to be long enough.
fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Spreads a change of any bit over all (the finaliser of MurmurHash3, which is in the public domain).
const fn mix(mut bits: u32) -> u32 {
    bits ^= bits >> 16;
    bits = bits.wrapping_mul(0x85eb_ca6b);
    bits ^= bits >> 13;
    bits = bits.wrapping_mul(0xc2b2_ae35);
    bits ^ bits >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scratch() -> [u8; HEADER_BYTES + TAG_BYTES] {
        [0xee; HEADER_BYTES + TAG_BYTES]
    }

    #[test]
    fn frame_of_under_14_bytes_is_a_runt() {
        assert_eq!(Header::parse(&[0; 13]).unwrap_err(), DropReason::Runt);
        assert!(Header::parse(&[0; 14]).is_ok());
    }

    #[test]
    fn tagged_frame_of_under_18_bytes_is_a_runt() {
        let mut frame = [0; 18];
        frame[12] = 0x81;

        assert_eq!(Header::parse(&frame[..17]).unwrap_err(), DropReason::Runt);
        assert!(Header::parse(&frame).is_ok());
    }

    #[test]
    fn service_tag_is_payload() {
        let mut frame = [0; 64];
        frame[12..14].copy_from_slice(&[0x88, 0xa8]);

        let header = Header::parse(&frame).unwrap();

        assert_eq!(header.tag(), None);
        assert_eq!(header.ether_type(), 0x88a8);
    }

    #[test]
    fn no_frame_goes_the_way_of_none() {
        let zeros = Header::parse(&[0; 14]).unwrap();
        // All that the second number holds of a frame, behind a first one of zero.
        let mut ones = [0xff; 18];
        ones[..8].fill(0);
        ones[12..14].copy_from_slice(&[0x81, 0x00]);

        assert_ne!(zeros.way(), Way::NONE);
        assert_ne!(Header::parse(&ones).unwrap().way(), Way::NONE);
    }

    #[test]
    fn flow_hash_is_the_same_both_ways() {
        let mut there = [0u8; 64];
        there[12..14].copy_from_slice(&[0x08, 0x00]);
        there[14] = 0x45;
        there[23] = 6;
        there[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
        there[34..38].copy_from_slice(&[0x12, 0x34, 0x00, 0x50]);
        let mut back = there;
        back[26..34].copy_from_slice(&[10, 0, 0, 2, 10, 0, 0, 1]);
        back[34..38].copy_from_slice(&[0x00, 0x50, 0x12, 0x34]);
        let mut other = there;
        other[35] ^= 1;

        let hash = Header::parse(&there).unwrap().flow_hash();

        assert_eq!(Header::parse(&back).unwrap().flow_hash(), hash);
        assert_ne!(Header::parse(&other).unwrap().flow_hash(), hash);
    }

    proptest! {
        #[test]
        fn tag_taken_out_and_put_back_gives_the_same_bytes(
            frame in proptest::collection::vec(any::<u8>(), 14..80), is_tagged: bool
        ) {
            let mut frame = frame;
            if is_tagged {
                frame[12..14].copy_from_slice(&[0x81, 0x00]);
                frame.resize(frame.len().max(18), 0);
            }
            let mut scratch = scratch();

            let header = Header::parse(&frame).unwrap();

            let sent = header.as_tagged(header.tag(), &mut scratch);
            prop_assert_eq!(sent, &frame[..header.taken_bytes()]);
        }

        #[test]
        fn no_header_makes_the_flow_hash_panic(frame in proptest::collection::vec(any::<u8>(), 14..80), kind in 0..3) {
            let mut frame = frame;
            let types = [[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00]];
            frame[12..14].copy_from_slice(&types[usize::try_from(kind).unwrap()]);
            if let Ok(header) = Header::parse(&frame) {
                let _ = header.flow_hash();
            }
        }
    }
}
