//! The control queue of a network device, which a front end passes on (VIRTIO 1.2, 5.1.6.5): the ring
//! behind the last pair (5.1.2).

use std::time::{Duration, Instant};

use virtio::Features;
use virtio::testing::Buffer;

use crate::back_end::BackEnd;
use crate::guest::{CONTROL_QUEUE, Guest, PLAIN, Plan, assert_forwards};
use crate::support::{ALICE, frame};

const CONTROLLING: Plan = PLAIN.with(Features::NET_CTRL_VQ).with(Features::NET_CTRL_RX);

/// VIRTIO_NET_OK and VIRTIO_NET_ERR.
const OK: u8 = 0;
const ERROR: u8 = 1;

const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];

/// Longer than any back end takes for a command.
const PATIENCE: Duration = Duration::from_secs(2);

impl Guest {
    /// Starts the control queue.
    fn start_control_queue(&mut self) {
        let base = self.rings[usize::from(CONTROL_QUEUE)].driver.base();
        self.start(CONTROL_QUEUE, base);
        self.enable(CONTROL_QUEUE, true);
        self.synchronise();
    }

    /// Gives a command. Returns the answer, if one comes.
    fn order(&mut self, command: &[u8]) -> Option<u8> {
        let ring = &mut self.rings[usize::from(CONTROL_QUEUE)];
        let head = ring.take_heads(3);
        let mut chain = ring.lay(ring.place(head), command, &[2]);
        let answer = ring.table(head);
        self.memory.write(answer, &[0xaa]);
        chain.push(Buffer::writable(answer, 1));
        ring.driver.describe_chain(head, &chain);
        ring.post(head);
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if ring.driver.take_used().is_some() {
                return Some(self.memory.read(answer, 1)[0]);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        None
    }
}

/// Two guests, the second with a control queue.
fn pair(features: Features) -> Option<(BackEnd, Guest, Guest)> {
    let back_end = BackEnd::start();
    let (alice, mut bob) = back_end.pair_of(PLAIN, CONTROLLING.with(features))?;
    bob.start_control_queue();
    Some((back_end, alice, bob))
}

/// "ack is set by the device": a driver waits for it, and does nothing else meanwhile.
#[test]
fn virtio_5_1_6_5_command_is_acknowledged() {
    let Some((_back_end, mut alice, mut bob)) = pair(Features::NONE) else { return };

    assert_eq!(bob.order(&[0, 0, 0]), Some(OK));
    assert_eq!(bob.order(&[0, 0, 1]), Some(OK));
    assert_forwards(&mut alice, &mut bob, 1);
}

/// The same over a packed ring.
#[test]
fn virtio_5_1_6_5_command_is_acknowledged_over_a_packed_ring() {
    let Some((_back_end, mut alice, mut bob)) = pair(Features::RING_PACKED) else { return };

    assert_eq!(bob.order(&[0, 0, 1]), Some(OK));
    assert_forwards(&mut alice, &mut bob, 1);
}

/// Classes and commands that there are not, or that were not negotiated.
#[test]
fn virtio_5_1_6_5_command_that_is_not_supported_is_an_error() {
    let Some((_back_end, mut alice, mut bob)) = pair(Features::NONE) else { return };

    assert_eq!(bob.order(&[0x7f, 0, 0]), Some(ERROR));
    assert_eq!(bob.order(&[0, 0x7f, 0]), Some(ERROR));
    assert_eq!(bob.order(&[4, 0, 1, 0]), Some(ERROR));
    assert_forwards(&mut alice, &mut bob, 1);
}

/// A driver that has given up being promiscuous gets no groups but those of its table.
#[test]
fn virtio_5_1_6_5_2_frames_to_groups_that_are_not_in_the_table_are_dropped() {
    let Some((_back_end, mut alice, mut bob)) = pair(Features::NONE) else { return };
    let to_group = frame(GROUP, ALICE, &[9; 46]);

    assert_eq!(bob.order(&[0, 0, 0]), Some(OK));
    alice.send(&to_group);
    assert!(bob.stays_silent());
    let table = [&[1, 0, 0, 0, 0, 0, 1, 0, 0, 0][..], &GROUP].concat();
    assert_eq!(bob.order(&table), Some(OK));
    alice.send(&to_group);
    assert_eq!(bob.receive().frame, to_group);
}
