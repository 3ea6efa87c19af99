//! A stream of numbered frames from Alice to Bob on a thread of its own, many on their way at any
//! time. Each must arrive once, whole, and after the one before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use super::front_end::{FrontEnd, RING_ENTRIES};
use super::{ALICE, BOB, PATIENCE, frame};

/// Frames on their way. A thread lends another at most a quarter of a ring's buffers, and as many as
/// are on their way may have arrived and not been handed back: with more, some would be lost by
/// design.
const WINDOW: u64 = RING_ENTRIES as u64 / 8;

/// Every so many frames, one goes to everybody: it takes the way of floods to the ports that come
/// and go.
const FLOOD_INTERVAL: u64 = 16;

/// A running stream.
#[derive(Debug)]
pub(crate) struct Stream {
    received: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl Stream {
    /// Starts one between two guests whose ports are in the same VLAN.
    pub(crate) fn start(alice: FrontEnd, bob: FrontEnd) -> Self {
        let received = Arc::new(AtomicU64::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        let (count, end) = (Arc::clone(&received), Arc::clone(&is_over));
        let thread = std::thread::spawn(move || flow(alice, bob, &count, &end));
        Self { received, is_over, thread }
    }

    /// Frames that have arrived so far.
    pub(crate) fn received(&self) -> u64 {
        assert!(!self.thread.is_finished(), "the stream has failed; its panic is above");
        self.received.load(Ordering::Relaxed)
    }

    /// Ends the stream once all frames have arrived. Returns how many were sent.
    pub(crate) fn finish(self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the stream has failed; its panic is above")
    }
}

fn flow(mut alice: FrontEnd, mut bob: FrontEnd, received: &AtomicU64, is_over: &AtomicBool) -> u64 {
    let (mut sent, mut came, mut most) = (0, 0, 0);
    let mut last = Instant::now();
    // Bob is known from now on, so only what is for everybody floods.
    bob.send(&frame(ALICE, BOB, &[0; 46]));
    bob.await_sent();
    while !is_over.load(Ordering::Relaxed) || came < sent {
        while sent - came < WINDOW && !is_over.load(Ordering::Relaxed) {
            alice.send(&numbered(sent));
            sent += 1;
        }
        most = most.max(sent - came);
        while let Some((_, frame)) = bob.try_receive() {
            // What others send to everybody is not of the stream.
            if frame[6..12] == ALICE {
                assert!(
                    frame == numbered(came),
                    "frame {came} awaited, {:02x?} came",
                    &frame[..22]
                );
                came += 1;
                last = Instant::now();
            }
        }
        // Nor is what comes to Alice; her buffers are to be there for it.
        while alice.try_receive().is_some() {}
        received.store(came, Ordering::Relaxed);
        assert!(last.elapsed() < PATIENCE, "frame {came} of {sent} does not come");
    }
    assert_eq!(most, WINDOW, "too few frames were on their way");
    sent
}

fn numbered(number: u64) -> Vec<u8> {
    let to = if number.is_multiple_of(FLOOD_INTERVAL) { super::BROADCAST } else { BOB };
    frame(to, ALICE, &[&number.to_be_bytes()[..], &[7; 200]].concat())
}
