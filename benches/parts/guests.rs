//! Guests without a machine: queues of [`ROUND`] descriptors, and the driver's side of them.
//!
//! The driver is `virtio::testing`'s, which checks each address anew for each access. That is
//! slow, so the benches let it work between rounds, outside of the clock. It writes the available
//! ring again and never the frames: those are written once and stay in this core's caches as far as
//! they fit.
//!
//! ```text
//!   driver.refill ──▶ available ring ──▶ queue: eight bursts of 32, timed ──▶ used ring
//!        └──────────────────────◀── all given back ◀────────────────────────────┘
//! ```

use frame::{BURST_FRAMES, Burst};
use virtio::testing::{Buffer, Driver, TestMemory};
use virtio::{Features, QueueSize, ReceiveQueue, TransmitQueue};

use crate::{BURST, ROUND};

/// What Linux acknowledges of what we offer.
const FEATURES: Features = Features(
    Features::VERSION_1.0
        | Features::RING_EVENT_IDX.0
        | Features::RING_INDIRECT_DESC.0
        | Features::NET_MRG_RXBUF.0,
);

/// Length of the net header with these features (VIRTIO 1.2, 5.1.6).
const NET_HEADER_BYTES: u32 = 12;

/// How a driver describes a frame that it sends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    /// Net header and frame in one buffer: Linux, if the socket buffer has room in front.
    One,
    /// Net header, then frame, in two descriptors: half the ring is frames.
    Two,
    /// The same two in an indirect table.
    Indirect,
}

/// A guest that sends the same frame again and again, each from a buffer of its own.
pub(crate) struct Sender {
    pub(crate) queue: TransmitQueue,
    pub(crate) burst: Burst,
    driver: Driver,
    heads: Vec<u16>,
}

impl Sender {
    /// A guest with as many frames as its ring holds, none of them made available.
    pub(crate) fn new(frame: &[u8], layout: Layout) -> Self {
        let entries = u16::try_from(ROUND).expect("a queue's length");
        let frame_bytes = u32::try_from(frame.len()).expect("a frame's length");
        let buffer_bytes = (NET_HEADER_BYTES + frame_bytes).next_multiple_of(64);
        let (memory, mut driver) = ring_and_buffers(buffer_bytes + 64);
        let step = if matches!(layout, Layout::Two) { 2 } else { 1 };
        let heads: Vec<u16> = (0..entries).step_by(step).collect();
        for (&head, place) in heads.iter().zip(0u64..) {
            let table = driver.end() + place * u64::from(buffer_bytes + 64);
            let start = table + 64;
            memory.write(start + u64::from(NET_HEADER_BYTES), frame);
            let split = [
                Buffer::readable(start, NET_HEADER_BYTES),
                Buffer::readable(start + u64::from(NET_HEADER_BYTES), frame_bytes),
            ];
            match layout {
                Layout::One => {
                    driver.describe(head, Buffer::readable(start, NET_HEADER_BYTES + frame_bytes));
                }
                Layout::Two => driver.describe_chain(head, &split),
                Layout::Indirect => driver.describe_indirect(head, table, &split),
            }
        }
        let mut queue = TransmitQueue::new(driver.setup()).expect("ring is valid");
        queue.disable_notifications();
        Self { queue, burst: Burst::new(), driver, heads }
    }

    /// How many frames the ring holds.
    pub(crate) fn frames(&self) -> usize {
        self.heads.len()
    }

    /// Completes and gives back whatever was taken, and makes all frames available.
    pub(crate) fn refill(&mut self) {
        self.complete_all();
        self.queue.release();
        let _ = self.driver.make_all_available(&self.heads);
    }

    /// Completes all that is out, whatever burst it was in.
    pub(crate) fn complete_all(&mut self) {
        let outstanding = u16::try_from(self.queue.outstanding()).expect("at most a ring full");
        let next = u16::try_from(self.queue.base()).expect("a split ring's base");
        for back in 1..=outstanding {
            self.queue.complete(u64::from(next.wrapping_sub(back)));
        }
    }

    /// Takes the next burst. Returns how many frames there were.
    #[inline]
    pub(crate) fn receive(&mut self) -> usize {
        self.burst.clear();
        self.queue.receive(&mut self.burst, BURST).expect("the driver keeps to the rules")
    }
}

/// A guest that is sent frames.
pub(crate) struct Receiver {
    pub(crate) queue: ReceiveQueue,
    driver: Driver,
    heads: Vec<u16>,
}

impl Receiver {
    /// A guest with a ring of buffers of this length, net header included.
    pub(crate) fn new(buffer_bytes: u32) -> Self {
        let heads: Vec<u16> = (0..u16::try_from(ROUND).expect("a queue's length")).collect();
        let stride = buffer_bytes.next_multiple_of(64);
        let (_, mut driver) = ring_and_buffers(stride);
        for &head in &heads {
            let start = driver.end() + u64::from(head) * u64::from(stride);
            driver.describe(head, Buffer::writable(start, buffer_bytes));
        }
        let mut queue = ReceiveQueue::new(driver.setup()).expect("ring is valid");
        queue.disable_notifications();
        Self { queue, driver, heads }
    }

    /// Makes as many buffers available as are not.
    pub(crate) fn refill(&mut self) {
        self.queue.release();
        let missing = self.heads.len() - usize::from(self.driver.in_flight());
        // Buffers come back in the order in which they went, so these are the ones used.
        let _ = self.driver.make_all_available(&self.heads[..missing]);
        self.heads.rotate_left(missing);
    }
}

/// Frames that a guest has sent and that were taken and not completed: what egress copies from.
/// Their number is [`BURST`].
pub(crate) fn sent_burst(frame: &[u8]) -> Sender {
    let mut sender = Sender::new(frame, Layout::One);
    sender.refill();
    assert_eq!(sender.receive(), BURST.min(BURST_FRAMES), "a whole burst was taken");
    sender
}

/// A ring, and memory for a buffer of this many bytes for each of its descriptors.
fn ring_and_buffers(buffer_bytes: u32) -> (std::sync::Arc<TestMemory>, Driver) {
    let size = QueueSize::new(256, Features::NONE).expect("a power of two");
    debug_assert_eq!(usize::from(size.get()), ROUND);
    let ring_bytes = 64 * 1_024;
    let memory = TestMemory::new(ring_bytes + ROUND as u64 * u64::from(buffer_bytes));
    let driver = Driver::new(&memory, size, FEATURES);
    (memory, driver)
}
