//! Packed virtqueues (VIRTIO 1.2, 2.8).

use std::thread::sleep;
use std::time::Duration;

use virtio::Features;
use virtio::offload::NetHeader;
use virtio::testing::Buffer;

use crate::back_end::BackEnd;
use crate::guest::{Guest, PLAIN, Plan, send_after_pauses};
use crate::support::{ALICE, BOB, frame, wait_for};

const PACKED: Plan = PLAIN.with(Features::RING_PACKED);
const INDIRECT: Plan = PACKED.with(Features::RING_INDIRECT_DESC);
const EVENT_IDX: Plan = PACKED.with(Features::RING_EVENT_IDX);
const IN_ORDER: Plan = PACKED.with(Features::IN_ORDER);

/// What the device writes: place of the event, flags.
const DEVICE_AREA: usize = 2;
const EVENT_FLAGS: u64 = 2;

/// A flag of descriptors: NEXT.
const NEXT: u16 = 1;

/// Time in which a call would come.
const MOMENT: Duration = Duration::from_millis(20);

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

/// Both sides turn their wrap counters whenever they pass the ring's end.
#[test]
fn virtio_2_8_1_wrap_counters_turn_with_every_lap() {
    laps(Plan { entries: 16, posted: 16, ..PACKED }, |alice, packet| alice.send_cut(packet, &[]));
}

/// A buffer may be several descriptors with NEXT in all but the last; they may pass the ring's end,
/// and only one used descriptor is written, wherever the next is looked for behind all of them.
#[test]
fn virtio_2_8_6_chain_of_descriptors_is_one_buffer_with_one_used_descriptor() {
    laps(PACKED, |alice, packet| alice.send_cut(packet, &[12, 100]));
}

/// The header may be cut, too (2.7.4.1).
#[test]
fn virtio_2_8_5_header_may_be_cut_anywhere() {
    laps(PACKED, |alice, packet| alice.send_cut(packet, &[1, 4, 6, 5, 3]));
}

/// A descriptor may refer to a table of them.
#[test]
fn virtio_2_8_7_indirect_table_is_one_buffer() {
    laps(INDIRECT, |alice, packet| alice.send_indirect(packet, &[12, 100]));
}

/// In a table only WRITE is a flag, the rest is ignored: NEXT may stand in the last descriptor and be
/// missing in others; ids mean nothing.
#[test]
fn virtio_2_8_7_indirect_table_of_a_packed_ring_ignores_next_and_ids() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(INDIRECT) else { return };
    let packet = packet(&alice, 1);
    let ring = alice.transmitq();
    let head = ring.take_heads(1);
    let pieces = ring.lay(ring.place(head), &packet, &[12, 100]);
    let table = ring.table(head);

    for (index, (piece, flags)) in (0..).zip(pieces.iter().zip([0, NEXT, NEXT])) {
        ring.driver.describe_in(table, index, Buffer { flags, next: 0xabcd, ..*piece });
    }
    ring.driver.describe(head, Buffer::indirect(table, 3));
    ring.post(head);

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// A device ignores WRITE in the descriptor that refers to a table.
#[test]
fn virtio_2_8_7_write_flag_of_the_descriptor_of_a_table_is_ignored() {
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

/// A packed ring is as long as the driver says, a power of two or not.
#[test]
fn virtio_2_8_10_1_ring_of_100_entries_is_served() {
    laps(Plan { entries: 100, ..PACKED }, |alice, packet| alice.send_cut(packet, &[12, 100]));
}

/// Up to 32,768 entries.
#[test]
fn virtio_2_8_ring_of_32768_entries_is_served() {
    laps(Plan { entries: 32_768, ..PACKED }, |alice, packet| alice.send_cut(packet, &[12]));
}

/// A used descriptor has the buffer's id, and WRITE is set only if something was written.
#[test]
fn virtio_2_8_3_used_descriptor_of_a_sent_frame_says_that_nothing_was_written() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PACKED) else { return };
    let packet = packet(&alice, 1);
    alice.await_sent();
    alice.send_cut(&packet, &[12]);
    bob.receive();
    alice.await_sent();

    let used = wait_for("the used descriptor", || alice.transmitq().driver.take_used());

    assert_eq!(used.written_bytes, 0);
    assert_eq!(alice.transmitq().take_heads(1), u16::try_from(used.head).unwrap() + 2);
}

/// Element Length says how much was written, with WRITE set: header and frame.
#[test]
fn virtio_2_8_4_used_length_of_a_received_frame_is_what_was_written() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PACKED) else { return };

    alice.send(&to_bob(1));
    let received = bob.receive();

    assert_eq!(received.written, [12 + 500]);
    assert_eq!(received.frame, to_bob(1));
}

/// A device may write one used descriptor for several buffers only with IN_ORDER, and then with the id
/// of the last.
#[test]
fn virtio_2_8_8_buffers_come_back_in_order() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(IN_ORDER) else { return };
    while alice.transmitq().driver.take_used().is_some() {}

    for number in 0..100 {
        let before = alice.transmitq().take_heads(0) % PACKED.entries;
        alice.send(&to_bob(number));
        assert_eq!(bob.receive().frame, to_bob(number));
        let used = wait_for("the used descriptor", || alice.transmitq().driver.take_used());
        assert_eq!(used.head, u32::from(before));
    }
}

/// Driver event flags DISABLE: no calls. ENABLE: a call after every use.
#[test]
fn virtio_2_8_10_driver_that_disables_events_gets_none() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PACKED) else { return };

    bob.receiveq().driver.want_notifications(false);
    sleep(MOMENT);
    bob.receiveq().was_called();
    alice.send(&to_bob(1));
    bob.receive();
    sleep(MOMENT);
    assert!(!bob.receiveq().was_called());
    bob.receiveq().driver.want_notifications(true);
    alice.send(&to_bob(2));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// With EVENT_IDX, flags DESC: the call comes when the descriptor of the event was used, and not
/// before.
#[test]
fn virtio_2_8_10_event_comes_when_its_descriptor_is_used() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(EVENT_IDX) else { return };
    let used = bob.receiveq().driver.used_index();

    bob.receiveq().driver.set_used_event(used.wrapping_add(2));
    sleep(MOMENT);
    bob.receiveq().was_called();
    for number in 0..2 {
        alice.send(&to_bob(number));
        bob.receive();
        sleep(MOMENT);
        assert!(!bob.receiveq().was_called(), "after frame {number}");
    }
    alice.send(&to_bob(2));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// The same when the descriptor lies in the next lap: its wrap counter tells it from the one before.
#[test]
fn virtio_2_8_10_event_of_the_next_lap_waits_for_it() {
    const ENTRIES: u16 = 8;
    let back_end = BackEnd::start();
    let short = Plan { entries: ENTRIES, posted: ENTRIES, ..EVENT_IDX };
    let Some((mut alice, mut bob)) = back_end.pair(short) else { return };
    let used = bob.receiveq().driver.used_index();

    bob.receiveq().driver.set_used_event(used.wrapping_add(ENTRIES));
    sleep(MOMENT);
    bob.receiveq().was_called();
    for number in 0..8 {
        alice.send(&to_bob(number));
        bob.receive();
    }
    sleep(MOMENT);
    assert!(!bob.receiveq().was_called());
    alice.send(&to_bob(8));

    wait_for("the call", || bob.receiveq().was_called().then_some(()));
}

/// Without EVENT_IDX, device event flags are ENABLE or DISABLE.
#[test]
fn virtio_2_8_10_device_event_flags_are_0_or_1_without_event_idx() {
    let back_end = BackEnd::start();
    let Some((mut alice, _bob)) = back_end.pair(PACKED) else { return };

    assert!(alice.receiveq().word(DEVICE_AREA, EVENT_FLAGS) <= 1);
    assert!(alice.transmitq().word(DEVICE_AREA, EVENT_FLAGS) <= 1);
}

/// Its flags may be DESC with EVENT_IDX, but never 3, which is reserved.
#[test]
fn virtio_2_8_10_device_event_flags_are_never_3() {
    let back_end = BackEnd::start();
    let Some((mut alice, _bob)) = back_end.pair(EVENT_IDX) else { return };

    assert!(alice.receiveq().word(DEVICE_AREA, EVENT_FLAGS) <= 2);
    assert!(alice.transmitq().word(DEVICE_AREA, EVENT_FLAGS) <= 2);
}

/// A receive buffer may lie in an indirect table.
#[test]
fn virtio_2_8_7_receive_buffer_in_an_indirect_table_is_written() {
    let back_end = BackEnd::start();
    if !back_end.offers(INDIRECT.features) {
        return;
    }
    let few = Plan { posted: 0, ..INDIRECT };
    let (mut alice, mut bob) = (back_end.alice(INDIRECT), back_end.bob(few));

    assert_eq!(bob.receive_in_table(|| alice.send(&to_bob(1))), to_bob(1));
}

/// A driver that kicks only when the device's flags say so, after pauses of any length, is served.
#[test]
fn virtio_2_8_10_driver_that_kicks_only_when_asked_is_served() {
    send_after_pauses(PACKED);
}

/// The same when the device waits for a descriptor.
#[test]
fn virtio_2_8_10_driver_that_kicks_at_the_device_event_alone_is_served() {
    send_after_pauses(EVENT_IDX);
}
