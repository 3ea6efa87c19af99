//! Who wakes whom: notifications by flag and by event index.

use super::*;

fn notifications_are_asked_for_and_work_that_came_meanwhile_is_seen(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.queue.disable_notifications();
    assert!(!guest.driver.make_available(0));

    let has_work = guest.queue.enable_notifications();

    assert!(has_work);
    assert!(guest.queue.has_available());
    assert!(guest.driver.make_available(0));
}

fn event_index_asks_for_one_notification(ring: Features) {
    let features = MODERN | ring | Features::RING_EVENT_IDX;
    let mut guest = guest_of(TestMemory::new(0x10_0000), 8, features);

    assert!(guest.driver.make_available(0));
    assert!(!guest.driver.make_available(0));
    guest.queue.disable_notifications();
    assert!(!guest.driver.make_available(0));
    assert!(guest.queue.enable_notifications());
}

fn driver_that_wants_no_interrupt_gets_none_but_the_first(ring: Features) {
    let mut guest = guest(ring, 4);
    guest.driver.want_notifications(false);
    for head in [0, 1] {
        guest.send(head, &frame_of(60));
    }
    guest.receive().unwrap();

    guest.queue.complete(0);
    let first = guest.queue.release();
    guest.queue.complete(1);
    let second = guest.queue.release();

    assert_eq!((first, second), (true, false));
}

fn driver_with_event_index_is_told_when_its_entry_was_used(ring: Features) {
    let features = MODERN | ring | Features::RING_EVENT_IDX;
    let mut guest = guest_of(TestMemory::new(0x10_0000), 4, features);
    guest.driver.set_used_event(2);
    for head in [0, 1, 2, 3] {
        guest.send(head, &frame_of(60));
    }
    guest.receive().unwrap();

    let told: Vec<_> = (0..4)
        .map(|token| {
            guest.queue.complete(token);
            guest.queue.release()
        })
        .collect();

    assert_eq!(told, [true, false, true, false]);
}

over_both_rings! {
    notifications_are_asked_for_and_work_that_came_meanwhile_is_seen,
    event_index_asks_for_one_notification,
    driver_that_wants_no_interrupt_gets_none_but_the_first,
    driver_with_event_index_is_told_when_its_entry_was_used,
}
