//! What becomes of a driver's orders when its rings stop, its guest begins anew, or its switch does;
//! and what is logged of the control queue for a guest that is migrated.

use virtio::Features;
use virtio::offload::NetHeader;
use virtio::testing::TestLog;

use super::{CONTROLLING, GROUP, Lab, OF_FOUR_PAIRS, OK, set_address, set_offloads};
use crate::support::flow::TCP4;
use crate::support::front_end::Manner;
use crate::support::{ALICE, BOB, CAROL, frame, wait_for};

/// Payload of a frame that is to be cut in three.
const PAYLOAD: [u8; 3_000] = [0x5a; 3_000];
const PIECE_BYTES: u16 = 1_000;

/// A driver that takes large frames without merging buffers.
const ROOMY: Manner = Manner { buffer_bytes: 66 << 10, ..CONTROLLING };

impl Lab {
    /// How Bob gets a large frame: the net headers of its pieces.
    fn large_frame(&mut self) -> Vec<NetHeader> {
        let flow = TCP4;
        let packet = flow.partial(&PAYLOAD);
        self.alice.send_asking(flow.net_header(Some(PIECE_BYTES)), &packet);
        let mut headers = Vec::new();
        let mut bytes = 0;
        while bytes < PAYLOAD.len() {
            let received = wait_for("a piece", || self.bob.try_receive_told());
            bytes += received.frame.len() - (packet.len() - PAYLOAD.len());
            headers.push(received.net_header);
        }
        headers
    }

    fn comes_whole(&mut self) -> bool {
        let headers = self.large_frame();
        assert!(headers.len() == 1 || headers == [NetHeader::default(); 3], "{headers:?}");
        headers.len() == 1
    }
}

#[test]
fn offloads_are_switched_while_frames_come() {
    let mut lab = Lab::new(ROOMY);
    assert!(lab.comes_whole());

    lab.order(&[&set_offloads(Features::NONE)]);
    assert!(!lab.comes_whole());
    lab.order(&[&set_offloads(Features::NET_GUEST_TSO4)]);
    assert!(!lab.comes_whole(), "large frames depend on checksums");
    lab.order(&[&set_offloads(Features::NET_GUEST_TSO4 | Features::NET_GUEST_CSUM)]);
    assert!(lab.comes_whole());
}

#[test]
fn orders_outlive_a_stop_of_the_rings() {
    let mut lab = Lab::new(ROOMY);
    lab.order(&[&set_address(BOB), &[0, 0, 0], &set_offloads(Features::NONE)]);

    for ring in 0..3 {
        lab.bob.restart(ring);
    }

    assert_eq!(lab.wanted(&[BOB, CAROL, GROUP]), [BOB]);
    assert!(!lab.comes_whole());
    lab.order(&[&[0, 0, 1]]);
    assert_eq!(lab.wanted(&[BOB, CAROL, GROUP]), [BOB, CAROL, GROUP]);
}

#[test]
fn orders_outlive_memory_that_comes_and_goes() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);
    lab.order(&[&[4, 0, 3, 0]]);

    lab.bob.remove_region();
    lab.bob.add_region();
    lab.bob.synchronise();

    assert_eq!(lab.pairs_in_use(), [0, 1, 2]);
    lab.order(&[&[4, 0, 2, 0]]);
    assert_eq!(lab.pairs_in_use(), [0, 1]);
}

#[test]
fn driver_that_begins_anew_has_ordered_nothing() {
    let mut lab = Lab::new(ROOMY);
    lab.order(&[&set_address(BOB), &[0, 0, 0], &set_offloads(Features::NONE)]);

    lab.bob.begin_reset();
    lab.bob.start_anew();

    assert_eq!(lab.wanted(&[BOB, CAROL, GROUP]), [BOB, CAROL, GROUP]);
    assert!(lab.comes_whole());
}

#[test]
fn front_end_that_comes_next_finds_nothing_of_the_orders_of_the_last() {
    let mut lab = Lab::new(ROOMY);
    lab.order(&[&[0, 0, 0], &set_offloads(Features::NONE)]);
    lab.bob.vanish();
    let path = lab.switch.path("bob.sock");

    lab.bob =
        crate::support::front_end::FrontEnd::plug_in_as(&path, Manner { controls: false, ..ROOMY });

    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
    assert!(lab.comes_whole());
}

/// Nobody knows then what it has ordered: it gets what it takes in any case.
#[test]
fn driver_whose_switch_died_gets_plain_frames_until_it_orders_otherwise() {
    let mut lab = Lab::new(ROOMY);
    lab.order(&[&set_address(BOB), &[0, 0, 0]]);
    lab.switch.kill_and_start();
    let [alice, bob] = ["alice.sock", "bob.sock"].map(|name| lab.switch.path(name));
    lab.alice.reconnect(&alice);
    lab.bob.reconnect(&bob);
    lab.switch.await_up("bob");

    assert!(!lab.comes_whole());
    assert_eq!(lab.wanted(&[BOB, CAROL, GROUP]), [BOB, CAROL, GROUP]);
    lab.order(&[&set_offloads(Features::NET_GUEST_TSO4 | Features::NET_GUEST_CSUM)]);
    assert!(lab.comes_whole());
}

#[test]
fn orders_and_commands_go_on_in_a_switch_that_takes_over() {
    let features = Features(OF_FOUR_PAIRS.features.0 | Features::RING_PACKED.0);
    let mut lab = Lab::new(Manner { features, ..OF_FOUR_PAIRS });
    lab.order(&[&set_address(BOB), &[0, 0, 0], &[4, 0, 2, 0], &[2, 0, 7, 0]]);

    for _ in 0..2 {
        let successor = lab.switch.start_successor(&[]);
        lab.switch.succeed(successor);

        assert_eq!(lab.wanted(&[BOB, CAROL, GROUP]), [BOB]);
        assert_eq!(lab.pairs_in_use(), [0, 1]);
        lab.order(&[&[4, 0, 3, 0]]);
        assert_eq!(lab.pairs_in_use(), [0, 1, 2]);
        lab.order(&[&[4, 0, 2, 0]]);
    }
    assert_eq!(lab.switch.log_lines("front end connected"), 2, "{}", lab.switch.log());
}

#[test]
fn command_given_while_a_switch_takes_over_is_answered_once() {
    let mut lab = Lab::new(CONTROLLING);
    lab.order(&[&[0, 0, 0]]);
    let mut successor = Some(lab.switch.start_successor(&[]));

    let mut given = 0;
    while lab.switch.is_alive() || given < 100 {
        assert_eq!(lab.bob.order(&[0, 1, given % 2]), OK);
        given = given % 200 + 1;
    }
    lab.switch.succeed(successor.take().unwrap());

    assert_eq!(lab.bob.order(&[0, 1, 0]), OK);
    assert!(!lab.comes(&frame(GROUP, ALICE, &[1; 46])));
}

#[test]
fn answers_are_marked_in_the_dirty_log() {
    for packed in [Features::NONE, Features::RING_PACKED] {
        let features = CONTROLLING.features | packed;
        let mut lab = Lab::new(Manner { features, ..CONTROLLING });
        let log = lab.bob.new_log();
        lab.bob.share_log(&log);
        lab.bob.set_logging(true);
        let _ = log.take();

        let answer = lab.bob.begin_order(&[0, 0, 0]);
        assert_eq!(lab.bob.await_answer(answer), OK);
        lab.bob.synchronise();

        let marked: Vec<u64> = log.take();
        let ring = lab.bob.control_ring();
        let used = lab.bob.driver(ring).parts()[if packed == Features::NONE { 2 } else { 0 }];
        for address in [answer, used] {
            let page = address - address % TestLog::PAGE_BYTES;
            assert!(marked.contains(&page), "{address:#x}, {marked:#x?}, {features}");
        }
        lab.bob.set_logging(false);
        let _ = log.take();
        lab.order(&[&[0, 0, 1]]);
        assert_eq!(log.take(), [0; 0]);
    }
}
