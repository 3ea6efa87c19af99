//! Stations and their frames, for all parts: made once, outside of the clock.
//!
//! A station is a number; its address is a local one with that number in it. Even stations are
//! behind one port and odd ones behind another where a part needs two. A frame carries UDP in
//! IPv4, so that its flow can be hashed, and its payload counts up, so that no two lines of it are
//! the same. Other kinds of frames make no difference to any part: nothing behind the addresses and
//! the tag is looked at but by the flow hash.
//!
//! ```text
//!   │ to 6 │ from 6 │ 81 00, tag │ 08 00 │ IPv4 20 │ UDP 8 │ 0 1 2 …      (tag: if there is one)
//! ```

use frame::{Header, MacAddr, VlanId, VlanTag};

/// A locally administered address, which no maker of cards has given away (IEEE 802-2014, 8.4).
const LOCAL_ADDRESSES: u64 = 0x0200_0000_0000;

/// The address of a station.
pub(crate) fn address(station: u32) -> MacAddr {
    MacAddr::from_bits(LOCAL_ADDRESSES | u64::from(station))
}

/// A VLAN that is known to be valid.
pub(crate) fn vlan(number: u16) -> VlanId {
    VlanId::try_from(number).expect("benches name valid VLANs")
}

/// A frame between two stations, `length_bytes` long without its tag (42 and more).
pub(crate) fn frame(from: u32, to: u32, tag: Option<VlanTag>, length_bytes: usize) -> Vec<u8> {
    let mut bytes = [address(to).0, address(from).0].concat();
    if let Some(tag) = tag {
        bytes.extend(VlanTag::TPID.to_be_bytes());
        bytes.extend(tag.to_bits().to_be_bytes());
    }
    let whole_bytes = length_bytes + bytes.len() - 12;
    bytes.extend([0x08, 0x00]);
    // Version and header length, two lengths and checksums that nobody looks at, UDP (17).
    bytes.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.extend(from.to_be_bytes());
    bytes.extend(to.to_be_bytes());
    bytes.extend([0x12, 0x34, 0x00, 0x50, 0, 0, 0, 0]);
    bytes.extend((0u8..=u8::MAX).cycle().take(whole_bytes - bytes.len()));
    bytes
}

/// The private header of a frame of 64 bytes between two stations.
pub(crate) fn header(from: u32, to: u32, tag: Option<VlanTag>) -> Header {
    Header::parse(&frame(from, to, tag, 64)).expect("frame is well formed")
}

/// Fills `round` with the next items of `all`, around and around: a burst as it lies in the
/// first-level cache when the work on it begins, however many items there are in all.
pub(crate) fn next_round<Item: Copy>(round: &mut Vec<Item>, all: &[Item], next: &mut usize) {
    round.clear();
    for _ in 0..crate::ROUND {
        round.push(all[*next]);
        *next = (*next + 1) % all.len();
    }
}

/// The same in no order that a processor could learn. `state` is any number.
pub(crate) fn random_round<Item: Copy>(round: &mut Vec<Item>, all: &[Item], state: &mut u64) {
    round.clear();
    for _ in 0..crate::ROUND {
        // A linear congruential generator (Knuth's MMIX), whose top bits are the random ones.
        *state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        round.push(all[(*state >> 33) as usize % all.len()]);
    }
}
