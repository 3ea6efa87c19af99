//! What the system tests are made of: the real binary, front ends, guests, and wires.

pub(crate) mod flow;
pub(crate) mod front_end;
pub(crate) mod guest;
pub(crate) mod huge_pages;
pub(crate) mod messages;
pub(crate) mod numbered;
pub(crate) mod packet_socket;
pub(crate) mod page_copy;
pub(crate) mod stream;
pub(crate) mod switch;
pub(crate) mod tshark;
pub(crate) mod wire;

use std::time::{Duration, Instant};

/// How long anything that must happen may take. Far above what it takes on a loaded machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Tries until there is an answer.
pub(crate) fn wait_for<T>(what: &str, attempt: impl FnMut() -> Option<T>) -> T {
    wait_at_most(PATIENCE, what, attempt)
}

/// Tries until there is an answer, for so long.
pub(crate) fn wait_at_most<T>(
    longest: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(start.elapsed() < longest, "{what} did not come within {longest:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Numbers that look random and are the same every time (xorshift).
pub(crate) fn numbers(seed: u64) -> impl Iterator<Item = u64> {
    std::iter::successors(Some(seed), |&last| {
        let mut next = last ^ last << 13;
        next ^= next >> 7;
        Some(next ^ next << 17)
    })
}

/// An Ethernet frame of a type for local experiments (0x88b5, IEEE 802-2014, 9.2).
pub(crate) fn frame(to: [u8; 6], from: [u8; 6], payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[0x88, 0xb5], payload].concat()
}

/// The same with a VLAN tag.
pub(crate) fn tagged(to: [u8; 6], from: [u8; 6], tci: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &[0x81, 0x00], &tci.to_be_bytes(), &[0x88, 0xb5], payload].concat()
}

pub(crate) const ALICE: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0a];
pub(crate) const BOB: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0b];
pub(crate) const CAROL: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0c];
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];
