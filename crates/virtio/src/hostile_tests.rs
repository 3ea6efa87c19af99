//! Rings full of rubbish: whatever a guest writes, every call returns, in bounded time, and
//! nothing panics or leaves the guest's memory (which ends where the mapping does, so that a step
//! outside is likely to crash the test).

#![allow(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use frame::{Burst, DropReason, Outgoing, Room};
use proptest::prelude::*;

use crate::control::{Acknowledgement, MAX_COMMAND_BYTES};
use crate::testing::{Buffer, Driver, TestMemory};
use crate::{
    ControlQueue, Features, QueueFault, QueueSize, ReceiveQueue, Refusal, SetupError,
    TransmitQueue, VringSetup, install_sigbus_guard,
};

const MEMORY_BYTES: u64 = 0x8000;
const BASE: u64 = TestMemory::GUEST_BASE;

fn size(number: u32) -> QueueSize {
    QueueSize::new(number, Features::NONE).unwrap()
}

/// Features in every combination that changes a queue's behaviour.
fn features() -> impl Strategy<Value = Features> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(v1, merge, ind, event, packed)| {
            let pick = |wanted, bit: Features| if wanted { bit } else { Features::NONE };
            pick(v1, Features::VERSION_1)
                | pick(merge, Features::NET_MRG_RXBUF)
                | pick(ind, Features::RING_INDIRECT_DESC)
                | pick(event, Features::RING_EVENT_IDX)
                | pick(packed, Features::RING_PACKED)
        },
    )
}

/// A descriptor that is right often enough to get past the first checks.
fn descriptor() -> impl Strategy<Value = Buffer> {
    let address = prop_oneof![
        8 => BASE..BASE + MEMORY_BYTES,
        1 => BASE - 20..BASE + 20,
        1 => BASE + MEMORY_BYTES - 20..BASE + MEMORY_BYTES + 20,
        1 => any::<u64>(),
    ];
    let length =
        prop_oneof![4 => 0u32..2000, 2 => (0u32..20).prop_map(|n| n * 16), 1 => any::<u32>()];
    let flags = prop_oneof![8 => 0u16..4, 2 => Just(4u16), 1 => any::<u16>()];
    let next = prop_oneof![8 => 0u16..16, 1 => any::<u16>()];
    (address, length, flags, next).prop_map(|(address, length_bytes, flags, next)| Buffer {
        address,
        length_bytes,
        flags,
        next,
    })
}

/// Works all kinds of queue on the same ring, as far as the ring allows.
fn work(setup: &VringSetup, calls: usize) {
    let mut transmit = match TransmitQueue::new(setup.clone()) {
        // Rubbish that looks like descriptors of an earlier life.
        Err(SetupError::StaleBase) => return,
        queue => queue.unwrap(),
    };
    let mut receive = ReceiveQueue::new(setup.clone()).unwrap();
    let mut control = ControlQueue::new(setup.clone()).unwrap();
    let mut burst = Burst::new();
    for _ in 0..calls {
        let _ = control.serve(16, |command| {
            assert!(command.len() <= MAX_COMMAND_BYTES);
            Acknowledgement::Error
        });
        let _ = control.release();
        let _ = control.enable_notifications();
        burst.clear();
        let outcome = transmit.receive(&mut burst, 64);
        for frame in &burst.frames {
            let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(frame));
            assert_eq!(outgoing.length_bytes, frame.length_bytes as usize);
            let mut bytes = vec![0; outgoing.length_bytes];
            let length = u32::try_from(bytes.len()).unwrap();
            // SAFETY: `bytes` outlives the room.
            let mut room = unsafe { Room::new(bytes.as_mut_ptr(), length) };
            assert_eq!(outgoing.reader().copy_to(&mut room), bytes.len());
            let _ = receive.deliver(&outgoing);
            transmit.complete(frame.token);
        }
        let _ = receive.deliver(&Outgoing::new(&[0x55; 60], &[]));
        let _ = receive.deliver(&Outgoing::new(&[0x55; 3000], &[]));
        let _ = transmit.release();
        let _ = receive.release();
        assert_eq!(transmit.outstanding(), 0);
        let _ = (transmit.enable_notifications(), receive.enable_notifications());
        if outcome.is_err() {
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn random_bytes_all_over_the_ring_do_no_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0x400),
        features in features(),
        used in any::<u16>(),
        ahead in 0u16..=16,
    ) {
        let memory = TestMemory::new(MEMORY_BYTES);
        let mut driver = Driver::new(&memory, size(16), features);
        memory.write(BASE, &bytes);
        let mut setup = driver.setup();
        if features.contains(Features::RING_PACKED) {
            setup.base = u32::from(used & 0x800f);
        } else {
            driver.start_at(used);
            driver.set_available_index(used.wrapping_add(ahead));
        }

        work(&setup, 4);
    }

    #[test]
    fn half_right_descriptors_do_no_harm(
        descriptors in proptest::collection::vec(descriptor(), 48),
        heads in proptest::collection::vec(prop_oneof![9 => 0u16..16, 1 => any::<u16>()], 0..16),
        features in features(),
    ) {
        // The memory ends where two regions touch: descriptors cross that, too.
        let half = MEMORY_BYTES / 2;
        let memory = TestMemory::with_regions(&[(BASE, half), (BASE + half, half)]);
        let mut driver = Driver::new(&memory, size(16), features);
        for (place, &descriptor) in (0u16..).zip(&descriptors) {
            // The first 16 in the table, the others where an indirect table may be.
            let table = if place < 16 { BASE } else { driver.end() };
            driver.describe_in(table, place % 16, descriptor);
            if place >= 16 {
                driver.describe_in(BASE + half - 24, place % 16, descriptor);
            }
        }
        driver.make_all_available(&heads);

        work(&driver.setup(), 4);
    }
}

#[test]
fn guest_that_changes_descriptors_and_headers_meanwhile_harms_itself_only() {
    // Of a frame that is private as a whole, and of one with payload behind.
    for frame_bytes in [60, 128] {
        change_meanwhile(frame_bytes);
    }
}

fn change_meanwhile(frame_bytes: u32) {
    let buffer_bytes = 12 + frame_bytes;
    let memory = TestMemory::new(MEMORY_BYTES);
    let mut driver = Driver::new(&memory, size(4), Features::VERSION_1);
    let buffer = driver.end();
    driver.describe(0, Buffer::readable(buffer, buffer_bytes));
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    let mut burst = Burst::new();
    let is_done = Arc::new(AtomicBool::new(false));
    let flipper = thread::spawn({
        let (memory, is_done) = (Arc::clone(&memory), Arc::clone(&is_done));
        move || {
            while !is_done.load(Ordering::Relaxed) {
                memory.write(BASE + 8, &u32::MAX.to_le_bytes());
                memory.write(buffer, &[0xff; 32]);
                memory.write(BASE + 8, &buffer_bytes.to_le_bytes());
                memory.write(buffer, &[0; 32]);
            }
        }
    });

    let mut faults = 0;
    for _ in 0..20_000 {
        driver.make_available(0);
        burst.clear();
        match queue.receive(&mut burst, 64) {
            Ok(_) => {
                for frame in &burst.frames {
                    assert!([frame_bytes, frame_bytes - 4].contains(&frame.length_bytes));
                    queue.complete(frame.token);
                }
            }
            Err(fault) => {
                assert!(matches!(fault, QueueFault::OutsideMemory { .. }));
                faults += 1;
                let _ = queue.release();
                driver.start_at(u16::try_from(queue.base()).unwrap());
                queue = TransmitQueue::new(driver.setup()).unwrap();
            }
        }
        let _ = queue.release();
        burst.dropped.drain(|reason, _| assert_eq!(reason, DropReason::OffloadNotNegotiated));
    }
    is_done.store(true, Ordering::Relaxed);
    flipper.join().unwrap();

    // How often depends on timing; that it ended is the point.
    assert!(faults <= 20_000);
}

#[test]
fn guest_memory_that_is_truncated_stops_its_queues_and_nothing_else() {
    install_sigbus_guard().unwrap();
    let memory = TestMemory::new(MEMORY_BYTES);
    let other = TestMemory::new(MEMORY_BYTES);
    let mut driver = Driver::new(&memory, size(4), Features::VERSION_1);
    driver.describe(0, Buffer::readable(BASE + 0x4000, 72));
    driver.make_available(0);
    let mut transmit = TransmitQueue::new(driver.setup()).unwrap();
    let mut receive = ReceiveQueue::new(driver.setup()).unwrap();
    let unhurt = Driver::new(&other, size(4), Features::VERSION_1);
    let mut bystander = TransmitQueue::new(unhurt.setup()).unwrap();
    let mut burst = Burst::new();
    assert_eq!(transmit.receive(&mut burst, 64), Ok(1));

    rustix::fs::ftruncate(memory.file(), 0).unwrap();
    let touched = memory.read(BASE + 0x4000, 4);

    assert_eq!(touched, [0; 4]);
    assert!(memory.map().is_poisoned());
    assert_eq!(transmit.receive(&mut burst, 64), Err(QueueFault::MemoryLost));
    let refused = receive.deliver(&Outgoing::new(&[0; 60], &[]));
    assert_eq!(refused, Err(Refusal::Fault(QueueFault::MemoryLost)));
    assert_eq!(bystander.receive(&mut burst, 64), Ok(0));
    assert!(!other.map().is_poisoned());
    transmit.complete(0);
    let _ = transmit.release();
}

#[test]
fn queue_that_touches_truncated_memory_itself_survives() {
    install_sigbus_guard().unwrap();
    let memory = TestMemory::new(MEMORY_BYTES);
    let driver = Driver::new(&memory, size(4), Features::VERSION_1);
    let mut queue = TransmitQueue::new(driver.setup()).unwrap();
    let mut burst = Burst::new();
    rustix::fs::ftruncate(memory.file(), 0).unwrap();

    let first = queue.receive(&mut burst, 64);
    let second = queue.receive(&mut burst, 64);

    assert_eq!(first, Ok(0));
    assert_eq!(second, Err(QueueFault::MemoryLost));
}

#[test]
fn regions_come_and_go_without_end() {
    for _ in 0..2_000 {
        let memory = TestMemory::new(0x1000);
        assert!(!memory.map().is_poisoned());
    }
}
