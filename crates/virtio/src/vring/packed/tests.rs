//! What only a packed ring has. All that it shares with a split one is tested over both
//! (`transmit/tests.rs`, `receive/tests.rs`).

use std::collections::VecDeque;
use std::sync::Arc;

use frame::{Burst, Outgoing};
use proptest::prelude::*;

use super::*;
use crate::testing::{Buffer, Driver, TestMemory};
use crate::{ReceiveQueue, TransmitQueue};

const FEATURES: Features =
    Features(Features::VERSION_1.0 | Features::RING_PACKED.0 | Features::RING_INDIRECT_DESC.0);

fn size(number: u16) -> QueueSize {
    QueueSize::new(number.into(), FEATURES).unwrap()
}

/// A guest with a ring of so many slots, and where its buffers may lie.
fn guest(slots: u16, features: Features) -> (Arc<TestMemory>, Driver, u64) {
    let memory = TestMemory::new(0x10_0000);
    let driver = Driver::new(&memory, size(slots), features);
    let buffer = driver.end();
    (memory, driver, buffer)
}

fn place(slot: u16, wrap: bool) -> Place {
    Place { number: 0, slot, wrap }
}

#[test]
fn base_has_both_ends_or_the_drivers_alone() {
    let (_memory, driver, _) = guest(5, FEATURES);
    // SAFETY: `_memory` lives as long.
    let ring = unsafe { Packed::new(&driver.setup()) }.unwrap();

    assert_eq!(ring.start(0x8003), Ok(place(3, true)));
    assert_eq!(ring.start(0x0002_8004), Ok(place(2, false)));
    assert_eq!(ring.start(0x8000_0004), Ok(place(0, true)));
    let refused = SetupError::BaseOutsideRing { base: 5, size: size(5) };
    assert_eq!(ring.start(5), Err(refused));
    assert_eq!(place(3, true).base(), 0x8003_8003);
}

#[test]
fn base_zero_is_a_new_ring_unless_its_descriptors_say_otherwise() {
    let (memory, mut driver, _) = guest(4, FEATURES);
    // SAFETY: `memory` lives as long.
    let ring = unsafe { Packed::new(&driver.setup()) }.unwrap();

    assert_eq!(ring.start(0), Ok(place(0, true)));
    // After the first lap.
    driver.start_at(4);
    assert_eq!(ring.start(0), Ok(place(0, false)));
    drop(memory);
}

#[test]
fn parts_outside_memory_or_misaligned_are_refused() {
    let (_memory, driver, _) = guest(4, FEATURES);
    let part_of = |change: fn(&mut VringSetup)| {
        let mut setup = driver.setup();
        change(&mut setup);
        TransmitQueue::new(setup).map(drop)
    };

    let misaligned = [
        (part_of(|setup| setup.addresses.descriptor_table += 8), RingPart::DescriptorRing),
        (part_of(|setup| setup.addresses.available_ring += 2), RingPart::DriverArea),
        (part_of(|setup| setup.addresses.used_ring += 1), RingPart::DeviceArea),
    ];
    for (outcome, expected) in misaligned {
        let is_it = matches!(outcome, Err(SetupError::Misaligned { part, .. }) if part == expected);
        assert!(is_it, "{outcome:?}, not {expected}");
    }
    let outside = part_of(|setup| setup.addresses.used_ring = 16);
    let part = RingPart::DeviceArea;
    assert_eq!(outside, Err(SetupError::RingOutsideMemory { part, user_address: 16 }));
}

#[test]
fn nothing_of_a_burst_is_visible_before_it_is_released() {
    let (_memory, mut driver, buffer) = guest(4, FEATURES);
    let mut queue = ReceiveQueue::new(driver.setup()).unwrap();
    for head in 0..3 {
        driver.describe(head, Buffer::writable(buffer, 100));
        driver.make_available(head);
    }

    for _ in 0..3 {
        queue.deliver(&Outgoing::new(&[1; 60], &[])).unwrap();
    }
    assert_eq!(driver.used_index(), 0);
    let _ = queue.release();

    assert_eq!(driver.used_index(), 3);
}

#[test]
fn more_chains_than_the_ring_has_slots_are_a_fault() {
    let (_memory, mut driver, buffer) = guest(3, FEATURES);
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    driver.describe(0, Buffer::readable(buffer, 72));
    driver.make_all_available(&[0; 3]);
    let mut burst = Burst::new();
    assert_eq!(queue.receive(&mut burst, 64), Ok(3));

    driver.make_available(0);

    let fault = QueueFault::TooManyAvailable { ahead: 4, size: size(3) };
    assert_eq!(queue.receive(&mut burst, 64), Err(fault));
    assert_eq!(queue.outstanding(), 3);
}

#[test]
fn chain_without_end_is_a_fault() {
    for (slots, limit) in [(3, 3), (2_000, 1_024)] {
        let (_memory, mut driver, _) = guest(slots, FEATURES);
        let mut queue = TransmitQueue::new(driver.setup()).unwrap();
        driver.describe(7, Buffer::readable(0, 0).then(7));
        driver.make_available(7);

        let fault = queue.receive(&mut Burst::new(), 64);

        assert_eq!(fault, Err(QueueFault::ChainTooLong { head: 0, limit }));
    }
}

#[test]
fn indirect_table_longer_than_a_chain_may_be_is_a_fault() {
    let (_memory, mut driver, buffer) = guest(4, FEATURES);
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    driver.describe_indirect(0, buffer, &[Buffer::readable(buffer, 1); 5]);
    driver.make_available(0);

    let fault = queue.receive(&mut Burst::new(), 64);

    assert_eq!(fault, Err(QueueFault::ChainTooLong { head: 0, limit: 4 }));
}

#[test]
fn driver_is_told_exactly_when_the_slot_that_it_names_was_used() {
    const SLOTS: u16 = 5;
    let (memory, driver, _) = guest(SLOTS, FEATURES | Features::RING_EVENT_IDX);
    // SAFETY: `memory` lives as long.
    let ring = unsafe { Packed::new(&driver.setup()) }.unwrap();
    let [_, driver_area, _] = driver.parts();
    let lap = |index: u16| place(index % SLOTS, (index / SLOTS).is_multiple_of(2));
    for old in 0..2 * SLOTS {
        for count in 1..=SLOTS {
            for event in 0..2 * SLOTS {
                let bits = lap(event).to_bits().to_le_bytes();
                memory.write(driver_area, &[bits[0], bits[1], 2, 0]);
                let was_used = (old..old + count).any(|index| index % (2 * SLOTS) == event);

                let told = ring.is_awaited(lap(old), lap(old + count));

                assert_eq!(told, was_used, "from {old}, {count} slots, event {event}");
            }
        }
    }
}

#[test]
fn event_at_a_descriptor_counts_only_if_it_was_agreed_to() {
    let (memory, driver, _) = guest(4, FEATURES);
    // SAFETY: `memory` lives as long.
    let ring = unsafe { Packed::new(&driver.setup()) }.unwrap();
    let [_, driver_area, _] = driver.parts();
    for (flags, told) in [(0, true), (1, false), (2, true), (3, true)] {
        memory.write(driver_area, &[3, 0x80, flags, 0]);

        assert_eq!(ring.is_awaited(place(0, true), place(1, true)), told, "flags {flags}");
    }
}

/// What a driver does next.
#[derive(Debug, Clone)]
enum Step {
    /// Sends a frame in so many descriptors, through a table or not.
    Send(u16, bool),
    /// The device takes a burst and completes it, with the last frame first.
    Work,
    /// The driver takes back what was used.
    Reap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1u16..5, any::<bool>()).prop_map(|(cuts, table)| Step::Send(cuts, table)),
        1 => Just(Step::Work),
        1 => Just(Step::Reap),
    ]
}

proptest! {
    /// Ids and bytes come through laps of any length, whatever slots their chains take.
    #[test]
    fn chains_of_any_length_come_and_go_in_order(
        slots in 4u16..40,
        steps in proptest::collection::vec(step(), 1..200),
        features in prop_oneof![Just(FEATURES), Just(FEATURES | Features::RING_EVENT_IDX)],
    ) {
        let (memory, mut driver, buffer) = guest(slots, features);
        let mut queue = TransmitQueue::new(driver.setup()).unwrap();
        let mut burst = Burst::new();
        let (mut sent, mut expected) = (VecDeque::new(), VecDeque::new());
        let (mut free, mut id) = (slots, 0u16);
        for step in steps.into_iter().chain([Step::Work, Step::Work, Step::Reap]) {
            match step {
                Step::Send(cuts, table) => {
                    let taken = if table { 1 } else { cuts };
                    if taken > free {
                        continue;
                    }
                    id = id.wrapping_add(16) % 1_024;
                    let at = buffer + 0x1000 + u64::from(id) * 0x80;
                    memory.write(at, &[&[0; 12][..], &[id.to_le_bytes()[0]; 60]].concat());
                    let length = 72 / cuts;
                    let pieces: Vec<_> = (0..cuts)
                        .map(|cut| (at + u64::from(cut * length), if cut + 1 == cuts { 72 - cut * length } else { length }))
                        .map(|(at, length)| Buffer::readable(at, length.into()))
                        .collect();
                    if table {
                        driver.describe_indirect(id, at + 0x400, &pieces);
                    } else {
                        driver.describe_chain(id, &pieces);
                    }
                    driver.make_available(id);
                    free -= taken;
                    sent.push_back((id, taken));
                }
                Step::Work => {
                    burst.clear();
                    let count = queue.receive(&mut burst, 64).unwrap();
                    prop_assert_eq!(count, sent.len().min(64));
                    for frame in &burst.frames {
                        let (id, taken) = sent.pop_front().unwrap();
                        prop_assert_eq!(frame.header.untagged()[0], id.to_le_bytes()[0]);
                        expected.push_back((id, taken));
                    }
                    for frame in burst.frames.iter().rev() {
                        queue.complete(frame.token);
                    }
                    let _ = queue.release();
                }
                Step::Reap => {
                    while let Some(used) = driver.take_used() {
                        let (id, taken) = expected.pop_front().unwrap();
                        prop_assert_eq!(used.head, u32::from(id));
                        free += taken;
                    }
                    prop_assert!(expected.is_empty());
                }
            }
        }
        prop_assert_eq!((sent.len(), free), (0, slots));
        prop_assert_eq!(queue.base(), driver.base());
    }
}
