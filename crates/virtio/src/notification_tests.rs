//! Driver and device on two threads, each asleep whenever the other has not told it otherwise:
//! a notification that is lost shows as a wait that runs out.
//!
//! The ring has one entry, so that no later frame can make up for a lost notification.

use std::hint;
use std::sync::atomic::{Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use frame::Burst;

use crate::testing::{Buffer, Driver, TestMemory, over_both_rings};
use crate::{Features, QueueSize, TransmitQueue};

const FRAMES: u32 = 50_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the other side get ahead, by a different time each round.
fn linger(rounds: u32) {
    for _ in 0..rounds {
        hint::spin_loop();
    }
}

/// The device: works until it has seen every frame, sleeping when there is none.
fn work_queue(mut queue: TransmitQueue, kick: &Receiver<()>, call: &Sender<()>) {
    let mut burst = Burst::new();
    let mut seen = 0;
    while seen < FRAMES {
        queue.disable_notifications();
        loop {
            burst.clear();
            let count = queue.receive(&mut burst, 8).expect("the driver keeps the rules");
            for frame in &burst.frames {
                queue.complete(frame.token);
            }
            seen += u32::try_from(count).unwrap();
            if queue.release() {
                let _ = call.send(());
            }
            if count == 0 {
                break;
            }
        }
        linger(seen % 509);
        if seen < FRAMES && !queue.enable_notifications() {
            kick.recv_timeout(PATIENCE).expect("the driver notifies of every frame");
        }
    }
}

/// The driver: sends every frame, sleeping until it is used.
fn drive(mut driver: Driver, kick: &Sender<()>, call: &Receiver<()>) {
    let mut used = 0u16;
    for frame in 0..FRAMES {
        linger(frame % 1021);
        if driver.make_available(0) {
            let _ = kick.send(());
        }
        while driver.take_used().is_none() {
            driver.set_used_event(used);
            driver.want_notifications(true);
            fence(Ordering::SeqCst);
            if driver.used_index() == used {
                call.recv_timeout(PATIENCE).expect("the device notifies of used buffers");
            }
            driver.want_notifications(false);
        }
        used = used.wrapping_add(1);
    }
}

fn run(features: Features) {
    let memory = TestMemory::new(0x1_0000);
    let size = QueueSize::new(1, Features::NONE).unwrap();
    let mut driver = Driver::new(&memory, size, features);
    let buffer = driver.end();
    driver.describe(0, Buffer::readable(buffer, 72));
    let queue = TransmitQueue::new(driver.setup()).unwrap();
    let (kick, kicked) = channel();
    let (call, called) = channel();

    let device = thread::spawn(move || work_queue(queue, &kicked, &call));
    drive(driver, &kick, &called);

    device.join().expect("the device saw every frame");
}

fn no_notification_is_lost_with_event_index(ring: Features) {
    run(ring | Features::VERSION_1 | Features::RING_EVENT_IDX);
}

fn no_notification_is_lost_with_flags(ring: Features) {
    run(ring | Features::VERSION_1);
}

over_both_rings! {
    no_notification_is_lost_with_event_index,
    no_notification_is_lost_with_flags,
}
