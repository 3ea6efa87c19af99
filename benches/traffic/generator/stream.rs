//! One direction of traffic: numbered frames from one ring to another.
//!
//! ```text
//!   0            6            12     14        22       30     32
//!   │ destination│ source     │88 b5 │ number  │ stamp  │ slot │ bytes that follow from the slot …
//! ```
//!
//! A large frame, which no wire could have, is TCP over IPv4: its other headers stand between the
//! type and the number.
//!
//! A number that is skipped is a lost frame, one that is too small a repeated or late one. The
//! bytes behind the slot are a stretch of one long random text that begins at the slot's number,
//! written once for each slot and length; a frame that was cut, mixed or shifted differs.

use std::sync::Arc;

use super::counted::Counted;
use super::ring::{NET_HEADER_BYTES, Place, ReceiveRing, TransmitRing};
use super::ticks;

/// Where the number stands, behind all headers; and where the rest stands, from there.
const STAMP: usize = 8;
const SLOT: usize = 16;
const TEXT: usize = 18;

/// Length of Ethernet, IPv4 and TCP header, and of the segments that a large frame could be cut to.
const ETHERNET_BYTES: usize = 14;
const TCP_HEADERS_BYTES: usize = 54;
const SEGMENT_BYTES: u16 = 1_460;

/// The longest frame: 64 KiB of TCP payload and headers.
const LONGEST: usize = 66_000;

/// Which frames are looked at byte for byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checks {
    /// One in 256: while the clock runs.
    Some,
    /// Every one: in the untimed pass.
    All,
    /// None is looked at: the null back end copies nothing.
    None,
}

/// The stations that a stream's frames are from and to: addresses 52:54:00:SS:NN:NN, one after
/// the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stations {
    /// The fourth byte of the sources and destinations.
    pub(crate) from: u8,
    pub(crate) to: u8,
    /// How many of each, at most 65,536; frames go round them.
    pub(crate) sources: u32,
    pub(crate) destinations: u32,
}

/// One direction of traffic. A clone looks at copies of the same frames at another guest.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    length: usize,
    stations: Stations,
    checks: Checks,
    /// The length for which each slot's text was written.
    written: Vec<usize>,
    text: Arc<[u8]>,
    next_sent: u64,
    next_expected: u64,
    last_arrival: u64,
    pub(crate) counted: Counted,
}

impl Stream {
    /// A stream of frames of so many bytes (60 and more).
    pub(crate) fn new(length: usize, stations: Stations, checks: Checks) -> Self {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        let text = std::iter::repeat_with(|| {
            // xorshift64: any text will do that does not repeat itself.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        let text = text.flatten().take(LONGEST + (1 << 16)).collect();
        Self {
            length,
            stations,
            checks,
            written: Vec::new(),
            text,
            next_sent: 0,
            next_expected: 0,
            last_arrival: ticks(),
            counted: Counted::default(),
        }
    }

    /// Frames that are on their way, or lost without anybody knowing yet.
    pub(crate) const fn in_flight(&self) -> u64 {
        self.next_sent.saturating_sub(self.next_expected)
    }

    /// Expects what another stream has sent, too: its frames are flooded.
    #[inline]
    pub(crate) fn follow(&mut self, sender: &Self) {
        if self.in_flight() == 0 {
            self.last_arrival = ticks();
        }
        self.next_sent = sender.next_sent;
    }

    /// Gives up on frames that have been on their way for so many ticks while none arrived.
    pub(crate) fn give_up_after(&mut self, patience: u64) {
        if self.in_flight() > 0 && ticks().wrapping_sub(self.last_arrival) > patience {
            self.counted.lost += self.in_flight();
            self.next_expected = self.next_sent;
            self.last_arrival = ticks();
        }
    }

    /// Forgets what is on its way and what was counted.
    pub(crate) fn forget(&mut self) {
        self.next_expected = self.next_sent;
        self.counted = Counted::default();
    }

    /// Posts one frame, stamped with a time. The caller publishes.
    #[inline]
    pub(crate) fn send(&mut self, ring: &mut TransmitRing, stamp: u64) {
        let number = self.next_sent;
        if self.in_flight() == 0 {
            self.last_arrival = ticks();
        }
        let net_header = self.net_header();
        ring.post(&net_header, self.length, |place, slot| self.write(place, slot, number, stamp));
        self.next_sent += 1;
        self.counted.sent += 1;
    }

    /// Looks at other frames from now on.
    pub(crate) const fn use_checks(&mut self, checks: Checks) {
        self.checks = checks;
    }

    /// The length of its frames.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The same the other way.
    pub(crate) fn reversed(&self) -> Self {
        let Stations { from, to, sources, destinations } = self.stations;
        let stations =
            Stations { from: to, to: from, sources: destinations, destinations: sources };
        Self::new(self.length, stations, self.checks)
    }

    /// A whole frame, for a generator that writes nothing but the number.
    pub(crate) fn template(&self) -> Vec<u8> {
        let head = self.head(0);
        [&head[..], &self.text[..self.length - head.len()]].concat()
    }

    /// Where a frame's number stands.
    const fn number_at(&self) -> usize {
        if self.is_large() { TCP_HEADERS_BYTES } else { ETHERNET_BYTES }
    }

    const fn is_large(&self) -> bool {
        self.length > frame::MAX_FRAME_BYTES
    }

    /// What its frames ask a device for.
    fn net_header(&self) -> [u8; NET_HEADER_BYTES] {
        let mut net_header = [0; NET_HEADER_BYTES];
        if self.is_large() {
            // NEEDS_CSUM, GSO_TCPV4; the checksum begins behind the IPv4 header.
            net_header[..2].copy_from_slice(&[1, 1]);
            net_header[2..4].copy_from_slice(&54u16.to_le_bytes());
            net_header[4..6].copy_from_slice(&SEGMENT_BYTES.to_le_bytes());
            net_header[6..10].copy_from_slice(&[34, 0, 16, 0]);
        }
        net_header
    }

    /// Notes that such a generator has sent so many.
    pub(crate) fn note_sent(&mut self, count: u64) {
        if self.in_flight() == 0 {
            self.last_arrival = ticks();
        }
        self.next_sent += count;
        self.counted.sent += count;
    }

    /// The number of a frame that was seen on a wire, if every byte is as it was sent.
    pub(crate) fn number_of(&self, frame: &[u8]) -> Option<u64> {
        let (head, rest) = frame.split_at_checked(self.number_at())?;
        let slot = rest.get(SLOT..TEXT)?.try_into().ok().map(u16::from_le_bytes)?;
        let at = usize::from(slot);
        let text = &rest[TEXT..];
        let is_same = frame.len() == self.length
            && head == &self.head(slot)[..head.len()]
            && text == &self.text[at..at + text.len()];
        let number = rest[..STAMP].try_into().ok().map(u64::from_le_bytes)?;
        is_same.then_some(number)
    }

    /// What stands before a slot's text, with number and stamp zero.
    fn head(&self, slot: u16) -> Vec<u8> {
        let addresses = [address(self.stations.to, 0), address(self.stations.from, 0)].concat();
        let mut head = if self.is_large() {
            [addresses, tcp_headers(self.length)].concat()
        } else {
            [addresses, vec![0x88, 0xb5]].concat()
        };
        head.resize(self.number_at() + SLOT, 0);
        head.extend(slot.to_le_bytes());
        head
    }

    fn write(&mut self, place: &mut Place, slot: u16, number: u64, stamp: u64) {
        let at = usize::from(slot);
        if self.written.len() <= at {
            self.written.resize(at + 1, 0);
        }
        if self.written[at] != self.length {
            self.written[at] = self.length;
            let head = self.head(slot);
            place.write(0, &head);
            place.write(head.len(), &self.text[at..at + self.length - head.len()]);
        }
        if self.stations.destinations > 1 {
            place.write(4, &station(number, self.stations.destinations));
        }
        if self.stations.sources > 1 {
            place.write(10, &station(number, self.stations.sources));
        }
        let number_at = self.number_at();
        place.write(number_at, &number.to_le_bytes());
        place.write(number_at + STAMP, &stamp.to_le_bytes());
    }

    /// Takes what has arrived and checks it. `on_time` gets each good frame's stamp. Returns how
    /// many frames came, good and bad.
    pub(crate) fn receive(
        &mut self,
        ring: &mut ReceiveRing,
        mut on_time: impl FnMut(u64),
    ) -> usize {
        let count = ring.receive(|pieces, length| {
            if let Some(stamp) = self.look(pieces, length) {
                on_time(stamp);
            }
        });
        if count > 0 {
            self.last_arrival = ticks();
        }
        count
    }

    /// Checks one frame. Returns its stamp if it is good.
    #[inline]
    fn look(&mut self, pieces: &[Place], length: usize) -> Option<u64> {
        let first = &pieces[0];
        if length != self.length {
            // Somebody else's frame, such as an announcement, or one of ours that was cut: the
            // number that is missing tells.
            return None;
        }
        let number_at = self.number_at();
        let number = u64::from_le_bytes(first.read(number_at));
        if self.checks == Checks::None {
            self.next_expected += 1;
            self.counted.delivered += 1;
            return Some(u64::from_le_bytes(first.read(number_at + STAMP)));
        }
        if number < self.next_expected || number >= self.next_sent {
            self.counted.damaged += 1;
            return None;
        }
        self.counted.lost += number - self.next_expected;
        self.next_expected = number + 1;
        let is_looked_at = self.checks == Checks::All || number.is_multiple_of(256);
        if is_looked_at && !self.is_intact(pieces) {
            self.counted.damaged += 1;
            return None;
        }
        self.counted.delivered += 1;
        Some(u64::from_le_bytes(first.read(number_at + STAMP)))
    }

    /// Compares every byte that does not change from frame to frame.
    fn is_intact(&self, pieces: &[Place]) -> bool {
        let first = &pieces[0];
        let head = address(self.stations.to, 0)[..4] == first.read::<4>(0)
            && address(self.stations.from, 0)[..4] == first.read::<4>(6)
            && first.read(12) == if self.is_large() { [0x08, 0x00] } else { [0x88, 0xb5] };
        let number_at = self.number_at();
        let mut text = usize::from(u16::from_le_bytes(first.read(number_at + SLOT)));
        let mut skip = number_at + TEXT;
        head && pieces.iter().all(|piece| {
            let count = piece.length().saturating_sub(skip);
            let is_same = piece.holds(skip.min(piece.length()), &self.text[text..text + count]);
            text += count;
            skip = 0;
            is_same
        })
    }
}

/// IPv4 and TCP header of a frame of so many bytes, with the type before them. No checksum: the
/// frame goes to a guest, whose device need not have one.
fn tcp_headers(length: usize) -> Vec<u8> {
    let total = u16::try_from(length - ETHERNET_BYTES).unwrap_or(u16::MAX).to_be_bytes();
    let mut headers = vec![0x08, 0x00, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, 6, 0, 0];
    headers.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    headers.extend([0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff]);
    headers.extend([0; 4]);
    headers
}

/// The last two bytes of the address that frame `number` has.
#[inline]
const fn station(number: u64, stations: u32) -> [u8; 2] {
    #[expect(clippy::cast_possible_truncation, reason = "below 65,536, the most stations")]
    let index = (number % stations as u64) as u16;
    index.to_be_bytes()
}

/// A station's address.
pub(crate) fn address(side: u8, index: u16) -> [u8; 6] {
    let [high, low] = index.to_be_bytes();
    [0x52, 0x54, 0, side, high, low]
}
