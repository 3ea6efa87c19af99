//! Frames that say who sent them, when, and the how manieth they are; and what came of each flow.
//!
//! ```text
//!   to 6 | from 6 | 0x88b5 | guest 1 | pair 1 | VLAN 2 | epoch 4 | kills 4 | number 8 | ms 4 |
//!   length 2 | a pattern that follows from number and length
//! ```

use std::collections::{HashMap, HashSet};

use crate::support::front_end::RING_ENTRIES;
use crate::support::numbered::BURST_FRAMES;
use crate::support::{BROADCAST, frame};

/// Bytes of the payload in front of the pattern.
const LABEL_BYTES: usize = 26;

/// Bytes of an Ethernet header.
const HEADER_BYTES: usize = 14;

/// A frame may wait in its sender's ring for a guest's memory, or in a receiver's that does not
/// read. No such wait lasts longer.
const OLDEST_MS: u32 = 20_000;

/// The place of the wire among the senders and receivers.
pub(super) const WIRE: u8 = 0xff;

/// The place of the host, which has a tap.
pub(super) const HOST: u8 = 0xfe;

/// The EtherType of announcements (RFC 903), and their length.
const RARP: [u8; 2] = [0x80, 0x35];
const RARP_BYTES: usize = 60;

/// The address of a guest's pair.
pub(super) const fn address(guest: u8, pair: u8) -> [u8; 6] {
    [0x52, 0x54, 0, 0x50, guest, pair]
}

/// What a frame says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) guest: u8,
    pub(super) pair: u8,
    /// The sender's VLAN when it was sent.
    pub(super) vlan: u16,
    /// How often a port's VLAN had been changed.
    pub(super) epoch: u32,
    /// How often the switch had been killed.
    pub(super) kills: u32,
    /// Counted for each sender's pair.
    pub(super) number: u64,
    pub(super) ms: u32,
}

impl Label {
    /// The frame, with so many bytes of pattern.
    pub(super) fn frame(&self, to: [u8; 6], pattern_bytes: u16) -> Vec<u8> {
        let mut payload = vec![self.guest, self.pair];
        payload.extend(self.vlan.to_be_bytes());
        payload.extend(self.epoch.to_be_bytes());
        payload.extend(self.kills.to_be_bytes());
        payload.extend(self.number.to_be_bytes());
        payload.extend(self.ms.to_be_bytes());
        payload.extend(pattern_bytes.to_be_bytes());
        payload.extend(self.pattern(pattern_bytes));
        frame(to, address(self.guest, self.pair), &payload)
    }

    fn pattern(&self, bytes: u16) -> impl Iterator<Item = u8> + use<> {
        let start = self.number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes()[5];
        (0..bytes).map(move |at| start.wrapping_add(at.to_le_bytes()[0].wrapping_mul(7)))
    }

    /// Reads a frame, every byte of it. Only padding may follow.
    pub(super) fn read(frame: &[u8]) -> Self {
        assert!(frame.len() >= HEADER_BYTES + LABEL_BYTES, "a runt: {frame:02x?}");
        let (header, payload) = frame.split_at(HEADER_BYTES);
        let label = Self {
            guest: payload[0],
            pair: payload[1],
            vlan: u16::from_be_bytes([payload[2], payload[3]]),
            epoch: u32::from_be_bytes(payload[4..8].try_into().unwrap()),
            kills: u32::from_be_bytes(payload[8..12].try_into().unwrap()),
            number: u64::from_be_bytes(payload[12..20].try_into().unwrap()),
            ms: u32::from_be_bytes(payload[20..24].try_into().unwrap()),
        };
        assert_eq!(header[6..12], address(label.guest, label.pair), "damaged: {frame:02x?}");
        assert_eq!(header[12..], [0x88, 0xb5], "damaged: {frame:02x?}");
        let length = u16::from_be_bytes([payload[24], payload[25]]);
        let rest = &payload[LABEL_BYTES..];
        assert!(rest.len() >= usize::from(length), "cut short: {label:?}, {} bytes", frame.len());
        let (pattern, padding) = rest.split_at(length.into());
        let is_intact = pattern.iter().copied().eq(label.pattern(length));
        assert!(is_intact, "damaged: {label:?}: {pattern:02x?}");
        let is_padding = padding.is_empty() || frame.len() <= 60;
        assert!(is_padding && padding.iter().all(|&byte| byte == 0), "too long: {label:?}");
        label
    }
}

/// Who receives a frame, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    pub(super) guest: u8,
    pub(super) pair: u8,
    pub(super) vlan: u16,
    pub(super) epoch: u32,
    pub(super) kills: u32,
    pub(super) ms: u32,
}

/// Frames of one sender's pair to one address, as they come out of one receiver's pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    to: [u8; 6],
    from: [u8; 6],
    receiver: [u8; 2],
}

/// Frames of one sender's pair that came again after so many kills, by number.
#[derive(Debug, Default)]
struct Repeated {
    kills: u32,
    numbers: HashSet<u64>,
}

/// What has come, by flow.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// The last number of each flow.
    flows: HashMap<Flow, u64>,
    /// By sender and pair.
    again: HashMap<[u8; 2], Repeated>,
    /// VLAN and epoch of those who were announced last, by address.
    announced: HashMap<[u8; 6], (u16, u32)>,
    pub(super) announcements: u64,
    pub(super) received: u64,
    pub(super) flooded: u64,
    pub(super) repeated: u64,
    /// Most frames of a transmitq that came again after a kill.
    pub(super) most_repeated: usize,
}

impl Ledger {
    /// Notes a frame that came. Panics if it should not have come, or not so.
    pub(super) fn note(&mut self, frame: &[u8], receipt: Receipt) {
        if frame[12..14] == RARP {
            self.note_announcement(frame, receipt);
            return;
        }
        let label = Label::read(frame);
        let to: [u8; 6] = frame[..6].try_into().unwrap();
        self.received += 1;
        assert_ne!(label.guest, receipt.guest, "it came back to its sender: {label:?}");
        let is_own = (0..32).any(|pair| to == address(receipt.guest, pair));
        if to != BROADCAST && !is_own {
            // Nobody knew where the address lies.
            self.flooded += 1;
        }
        if label.epoch == receipt.epoch {
            assert_eq!(label.vlan, receipt.vlan, "left its VLAN: {label:?}, {receipt:?}");
        }
        let age = receipt.ms.saturating_sub(label.ms);
        assert!(age < OLDEST_MS, "{age} ms old: {label:?}, {receipt:?}");
        self.note_order(to, label, receipt);
    }

    /// Somebody is to be announced by the switch.
    pub(super) fn expect_announcement(&mut self, address: [u8; 6], vlan: u16, epoch: u32) {
        self.announced.insert(address, (vlan, epoch));
    }

    /// An announcement comes to everybody else in the VLAN of a guest that has moved.
    fn note_announcement(&mut self, frame: &[u8], receipt: Receipt) {
        self.announcements += 1;
        let from: [u8; 6] = frame[6..12].try_into().unwrap();
        let &(vlan, epoch) = self.announced.get(&from).expect("it is announced because it moved");
        assert_ne!(from[4], receipt.guest, "a guest is told of itself: {receipt:?}");
        assert_eq!((&frame[..6], frame.len()), (&BROADCAST[..], RARP_BYTES), "{frame:02x?}");
        assert!(epoch != receipt.epoch || vlan == receipt.vlan, "left VLAN {vlan}: {receipt:?}");
    }

    /// Frames of a flow come in order, each once; those that a switch had in hand when it was
    /// killed may come again.
    fn note_order(&mut self, to: [u8; 6], label: Label, receipt: Receipt) {
        let from = address(label.guest, label.pair);
        let flow = Flow { to, from, receiver: [receipt.guest, receipt.pair] };
        let last = self.flows.get(&flow).copied().unwrap_or(0);
        if label.number <= last {
            let back = last - label.number;
            let may_repeat = label.kills < receipt.kills && back < RING_ENTRIES.into();
            assert!(may_repeat, "behind {last}: {label:?}, {receipt:?}");
            self.note_repetition(label, receipt);
        }
        self.flows.insert(flow, label.number);
    }

    /// At most a burst comes again of each transmitq.
    fn note_repetition(&mut self, label: Label, receipt: Receipt) {
        let again = self.again.entry([label.guest, label.pair]).or_default();
        if again.kills != receipt.kills {
            *again = Repeated { kills: receipt.kills, numbers: HashSet::new() };
        }
        again.numbers.insert(label.number);
        self.repeated += 1;
        self.most_repeated = self.most_repeated.max(again.numbers.len());
        let is_burst = again.numbers.len() <= usize::try_from(BURST_FRAMES).unwrap();
        assert!(is_burst, "more than a burst came again: {label:?}, {:?}", again.numbers);
    }
}
