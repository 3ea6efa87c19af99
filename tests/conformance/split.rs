//! Split virtqueues (VIRTIO 1.2, 2.7).

use virtio::Features;
use virtio::offload::NetHeader;
use virtio::testing::Buffer;

use crate::back_end::BackEnd;
use crate::guest::{Guest, PLAIN, Plan, send_after_pauses};
use crate::support::{ALICE, BOB, frame, wait_for};

const INDIRECT: Plan = PLAIN.with(Features::RING_INDIRECT_DESC);
const EVENT_IDX: Plan = PLAIN.with(Features::RING_EVENT_IDX);
const IN_ORDER: Plan = PLAIN.with(Features::IN_ORDER);

/// What the device writes: flags, index, elements.
const DEVICE_AREA: usize = 2;

fn to_bob(number: u8) -> Vec<u8> {
    frame(BOB, ALICE, &[number; 486])
}

fn packet(guest: &Guest, number: u8) -> Vec<u8> {
    guest.packet(NetHeader::default(), &to_bob(number))
}

/// Sends more frames than the ring is long, in this manner.
fn laps(plan: Plan, send: impl Fn(&mut Guest, &[u8])) {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(plan) else { return };

    for number in 0..150 {
        let packet = packet(&alice, number);
        send(&mut alice, &packet);
        assert_eq!(bob.receive().frame, to_bob(number));
        alice.await_sent();
    }
}

/// A buffer is a chain of descriptors, linked by NEXT.
#[test]
fn virtio_2_7_5_chain_of_descriptors_is_one_buffer() {
    laps(PLAIN, |alice, packet| alice.send_cut(packet, &[12, 100, 1]));
}

/// A device makes no assumptions about how a message is cut into descriptors: the header may be, too.
#[test]
fn virtio_2_7_4_1_header_may_be_cut_anywhere() {
    laps(PLAIN, |alice, packet| alice.send_cut(packet, &[1, 4, 6, 5, 3]));
}

/// With INDIRECT_DESC a descriptor may refer to a table of them.
#[test]
fn virtio_2_7_5_3_indirect_table_is_one_buffer() {
    laps(INDIRECT, |alice, packet| alice.send_indirect(packet, &[12, 100]));
}

/// A device ignores WRITE in the descriptor that refers to a table.
#[test]
fn virtio_2_7_5_3_2_write_flag_of_the_descriptor_of_a_table_is_ignored() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(INDIRECT) else { return };
    let packet = packet(&alice, 1);
    let ring = alice.transmitq();
    let head = ring.take_heads(1);
    let pieces = ring.lay(ring.place(head), &packet, &[12]);
    let table = ring.table(head);

    ring.driver.describe_indirect(head, table, &pieces);
    let flags = Buffer::indirect(table, 2).flags | Buffer::writable(0, 0).flags;
    ring.driver.describe(head, Buffer { flags, ..Buffer::indirect(table, 2) });
    ring.post(head);

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// A device handles ordinary descriptors that a last one with a table follows.
#[test]
fn virtio_2_7_5_3_2_ordinary_descriptors_may_stand_before_a_table() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(INDIRECT) else { return };
    let packet = packet(&alice, 1);
    let ring = alice.transmitq();
    let head = ring.take_heads(2);
    let pieces = ring.lay(ring.place(head), &packet, &[12, 100]);
    let table = ring.table(head);

    ring.driver.describe_indirect(head + 1, table, &pieces[1..]);
    ring.driver.describe(head, pieces[0].then(head + 1));
    ring.post(head);

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// A used element has the head's number, and as its length what was written: nothing for a frame that
/// was sent.
#[test]
fn virtio_2_7_8_used_element_of_a_sent_frame_is_its_head_with_nothing_written() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let packet = packet(&alice, 1);
    alice.await_sent();
    alice.send_cut(&packet, &[12]);
    bob.receive();
    alice.await_sent();

    let used = wait_for("the used element", || alice.transmitq().driver.take_used());

    assert_eq!(used.written_bytes, 0);
    assert_eq!(alice.transmitq().take_heads(1), u16::try_from(used.head).unwrap() + 2);
}

/// For one that was received, the length is that of header and frame.
#[test]
fn virtio_2_7_8_2_used_length_of_a_received_frame_is_what_was_written() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    alice.send(&to_bob(1));
    let received = bob.receive();

    assert_eq!(received.written, [12 + 500]);
    assert_eq!(received.frame, to_bob(1));
}

/// A receive buffer may be a chain, too: it is filled from its first descriptor on.
#[test]
fn virtio_2_7_8_2_chain_of_receive_buffers_is_written_from_its_start() {
    let back_end = BackEnd::start();
    let few = Plan { posted: 0, ..PLAIN };
    let (mut alice, mut bob) = (back_end.alice(PLAIN), back_end.bob(few));
    let ring = bob.receiveq();
    let head = ring.take_heads(3);
    let place = ring.place(head);
    let parts = [(0, 12), (1_024, 100), (2_048, 2_048)];
    ring.driver
        .describe_chain(head, &parts.map(|(at, length)| Buffer::writable(place + at, length)));

    ring.post(head);
    let used = wait_for("the frame", || {
        alice.send(&to_bob(1));
        bob.receiveq().driver.take_used()
    });

    assert_eq!(used.written_bytes, 12 + 500);
    let pieces = [bob.memory.read(place + 1_024, 100), bob.memory.read(place + 2_048, 400)];
    assert_eq!(pieces.concat(), to_bob(1));
}

/// Indices wrap at 65,536, whatever the ring's size.
#[test]
fn virtio_2_7_6_indices_wrap_from_65535_to_0() {
    laps(Plan { index: 65_500, ..PLAIN }, |alice, packet| alice.send_cut(packet, &[]));
}

/// A ring is as long as the driver says, up to 32,768 entries.
#[test]
fn virtio_2_7_ring_of_32768_entries_is_served() {
    laps(Plan { entries: 32_768, ..PLAIN }, |alice, packet| alice.send_cut(packet, &[12]));
}

/// A short one is served as well.
#[test]
fn virtio_2_7_ring_of_4_entries_is_served() {
    laps(Plan { entries: 4, posted: 4, ..PLAIN }, |alice, packet| alice.send_cut(packet, &[12]));
}

/// A device never says that it used what was not available.
#[test]
fn virtio_2_7_13_3_used_index_is_never_ahead_of_available() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    for number in 0..200 {
        alice.send(&to_bob(number));
        assert!(alice.in_flight() <= PLAIN.entries, "{} in flight", alice.in_flight());
        bob.receive();
        let waiting = bob.receiveq().driver.in_flight();
        assert!(waiting <= PLAIN.posted, "{waiting} receive buffers of {}", PLAIN.posted);
    }
}

/// Without EVENT_IDX, a device should not interrupt a driver that has set NO_INTERRUPT, and does again
/// when it is cleared.
#[test]
fn virtio_2_7_7_2_driver_that_wants_no_interrupts_gets_none() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    bob.receiveq().driver.want_notifications(false);
    std::thread::sleep(std::time::Duration::from_millis(20));
    bob.receiveq().was_called();
    alice.send(&to_bob(1));
    bob.receive();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(!bob.receiveq().was_called());
    bob.receiveq().driver.want_notifications(true);
    alice.send(&to_bob(2));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// With EVENT_IDX, a device interrupts when the entry was used that used_event names, and not before.
#[test]
fn virtio_2_7_7_2_interrupt_comes_when_used_event_is_passed() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(EVENT_IDX) else { return };
    let used = bob.receiveq().driver.used_index();

    bob.receiveq().driver.set_used_event(used.wrapping_add(2));
    std::thread::sleep(std::time::Duration::from_millis(20));
    bob.receiveq().was_called();
    for number in 0..2 {
        alice.send(&to_bob(number));
        bob.receive();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!bob.receiveq().was_called(), "after frame {number}");
    }
    alice.send(&to_bob(2));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// With EVENT_IDX, the device ignores the driver's flags: NO_INTERRUPT has no meaning.
#[test]
fn virtio_2_7_7_2_flags_of_the_available_ring_are_ignored_with_event_idx() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(EVENT_IDX) else { return };
    let used = bob.receiveq().driver.used_index();

    bob.receiveq().driver.want_notifications(false);
    bob.receiveq().driver.set_used_event(used);
    bob.receiveq().was_called();
    alice.send(&to_bob(1));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// A device's flags are 0 or 1, NO_NOTIFY.
#[test]
fn virtio_2_7_10_2_flags_of_the_used_ring_are_0_or_1() {
    let back_end = BackEnd::start();
    let Some((mut alice, _bob)) = back_end.pair(PLAIN) else { return };

    assert!(alice.receiveq().word(DEVICE_AREA, 0) <= 1);
    assert!(alice.transmitq().word(DEVICE_AREA, 0) <= 1);
}

/// With EVENT_IDX they are 0.
#[test]
fn virtio_2_7_10_2_flags_of_the_used_ring_are_0_with_event_idx() {
    let back_end = BackEnd::start();
    let Some((mut alice, _bob)) = back_end.pair(EVENT_IDX) else { return };

    assert_eq!(alice.receiveq().word(DEVICE_AREA, 0), 0);
    assert_eq!(alice.transmitq().word(DEVICE_AREA, 0), 0);
}

/// With IN_ORDER buffers come back in the order in which they were made available; the last of a batch
/// may stand for all of it.
#[test]
fn virtio_2_7_9_buffers_come_back_in_order() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(IN_ORDER) else { return };
    let ring = alice.transmitq();
    let before = ring.driver.used_index();
    let first = ring.take_heads(0);

    for number in 0..20 {
        alice.send(&to_bob(number));
    }
    for number in 0..20 {
        assert_eq!(bob.receive().frame, to_bob(number));
    }
    alice.await_sent();

    let ring = alice.transmitq();
    let element = u64::from((before + 19) % PLAIN.entries);
    assert_eq!(ring.driver.used_index(), before + 20);
    assert_eq!(ring.word(DEVICE_AREA, 4 + 8 * element), first + 19, "the last head");
}

/// A receive buffer may lie in an indirect table.
#[test]
fn virtio_2_7_5_3_receive_buffer_in_an_indirect_table_is_written() {
    let back_end = BackEnd::start();
    if !back_end.offers(INDIRECT.features) {
        return;
    }
    let few = Plan { posted: 0, ..INDIRECT };
    let (mut alice, mut bob) = (back_end.alice(INDIRECT), back_end.bob(few));

    assert_eq!(bob.receive_in_table(|| alice.send(&to_bob(1))), to_bob(1));
}

/// A device asks to be notified before it stops looking: a driver that kicks only when asked, after
/// pauses of any length, is served.
#[test]
fn virtio_2_7_10_2_driver_that_kicks_only_when_asked_is_served() {
    send_after_pauses(PLAIN);
}

/// The same with EVENT_IDX, where the device says which entry it waits for.
#[test]
fn virtio_2_7_10_2_driver_that_kicks_at_avail_event_alone_is_served() {
    send_after_pauses(EVENT_IDX);
}
