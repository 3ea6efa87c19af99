//! Commands that are none, rings that are broken, and front ends that do not do as others.

use virtio::Features;

use super::{ALL, CONTROLLING, ERROR, GROUP, Lab, OF_FOUR_PAIRS, OK, one_of_each, set_table};
use crate::support::front_end::{MODERN, Manner};
use crate::support::{ALICE, frame, numbers, wait_for};

#[test]
fn commands_that_are_none_are_answered_with_an_error() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);
    let too_long = [&[1u8, 0][..], &[0; 65_600]].concat();
    let endless = [&[1u8, 0][..], &[0xff; 20]].concat();
    let wrong: [&[u8]; 12] = [
        &[],
        &[0],
        &[0, 0],
        &[0, 6, 1],
        &[0, 0, 9],
        &[6, 0],
        &[255; 100],
        &[4, 0, 0, 0],
        &[4, 1, 0, 0],
        &[5, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &endless,
        &too_long,
    ];

    for command in wrong {
        assert_eq!(lab.bob.order(command), ERROR);
    }

    assert_eq!(lab.pairs_in_use(), [0]);
    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
}

#[test]
fn random_commands_are_all_answered() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);
    let mut random = numbers(5);
    let mut byte = || random.next().unwrap().to_le_bytes()[3];

    for _ in 0..2_000 {
        let length = byte() % 20;
        let mut command: Vec<u8> = (0..length).map(|_| byte()).collect();
        if let [class, number, ..] = &mut command[..] {
            (*class, *number) = (*class % 7, *number % 7);
        }
        assert!([OK, ERROR].contains(&lab.bob.order(&command)), "{command:?}");
    }

    assert_eq!(lab.bob.order(&[0, 0, 1]), OK);
    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
}

#[test]
fn commands_whose_feature_was_not_negotiated_are_answered_with_an_error() {
    let features = Features::VERSION_1 | Features::NET_CTRL_VQ;
    let mut lab = Lab::new(Manner { features, ..CONTROLLING });

    for command in one_of_each() {
        assert_eq!(lab.bob.order(&command), ERROR, "{command:?}");
    }
}

#[test]
fn command_without_room_for_an_answer_breaks_the_control_queue_alone() {
    let mut lab = Lab::new(CONTROLLING);
    let err = lab.bob.hear_of_faults();

    lab.bob.order_without_room();

    wait_for("word of the broken ring", || rustix::io::read(&err, &mut [0; 8]).ok());
    let shown = lab.switch.shown("bob");
    assert_eq!(shown["last_fault"]["ring"], "control queue", "{shown}");
    assert_eq!(shown["faults"], 1);
    assert_eq!(lab.switch.log_lines("control queue stopped, its guest broke the rules"), 1);
    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
    let ring = lab.bob.control_ring();
    lab.bob.stop(ring);
    lab.bob.renew_control_ring();
    assert_eq!(lab.bob.order(&[0, 0, 0]), OK);
    assert!(!lab.comes(&frame(GROUP, ALICE, &[1; 46])));
}

#[test]
fn driver_that_never_kicks_is_answered() {
    let mut lab = Lab::new(CONTROLLING);

    lab.bob.give_no_kicks();

    assert_eq!(lab.bob.order(&[0, 0, 0]), OK);
    assert_eq!(lab.bob.order(&set_table(&[], &[GROUP])), OK);
    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
}

#[test]
fn control_queue_that_is_disabled_is_served_without_effect() {
    let mut lab = Lab::new(CONTROLLING);
    let ring = u16::try_from(lab.bob.control_ring()).unwrap();
    lab.bob.enable(ring, false);
    lab.bob.synchronise();

    assert_eq!(lab.bob.order(&[0, 0, 0]), ERROR);
    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
    lab.bob.enable(ring, true);
    lab.bob.synchronise();
    assert_eq!(lab.bob.order(&[0, 0, 0]), OK);
}

#[test]
fn front_end_that_keeps_the_control_queue_says_itself_which_pairs_get_frames() {
    let mut lab = Lab::new(Manner { controls: false, ..OF_FOUR_PAIRS });

    assert_eq!(lab.pairs_in_use(), [0, 1, 2, 3]);
    lab.bob.enable(4, false);
    lab.bob.synchronise();
    assert_eq!(lab.pairs_in_use(), [0, 1, 3]);
}

#[test]
fn ring_behind_the_pairs_is_left_alone_if_no_control_queue_was_negotiated() {
    let mut lab = Lab::new(Manner { features: MODERN.features, controls: true, ..MODERN });

    lab.bob.order_without_room();

    assert!(lab.comes(&frame(GROUP, ALICE, &[1; 46])));
    assert_eq!(lab.switch.shown("bob")["faults"], 0);
    assert_eq!(lab.switch.shown("bob")["rings_running"], 2);
}

#[test]
fn control_queue_of_a_driver_with_one_pair_is_its_third_ring_however_many_pairs_there_are() {
    let config = super::CONFIG.replace("PAIRS", "4");
    let switch = crate::support::switch::Switch::with_config(&config);
    let path = switch.path("bob.sock");
    let mut bob = crate::support::front_end::FrontEnd::plug_in_as(
        &path,
        Manner { insists: true, ..CONTROLLING },
    );

    assert_eq!(bob.order(&[0, 0, 0]), OK);
    assert_eq!(bob.order(&[4, 0, 1, 0]), ERROR);
    assert!(ALL.contains(switch.features("bob")));
}

/// DPDK's virtio-user says "done" to its application of what it passes on to nobody.
#[test]
fn port_of_several_pairs_does_not_offer_filters_that_a_front_end_may_pretend_to_have() {
    let filters = Features::NET_CTRL_VLAN | Features::NET_CTRL_MAC_ADDR;

    assert!(Lab::new(CONTROLLING).bob.offered().contains(filters));
    let several = Lab::new(OF_FOUR_PAIRS).bob.offered();
    assert_eq!(several.0 & filters.0, 0);
    assert!(several.contains(Features::NET_CTRL_VQ | Features::NET_CTRL_RX | Features::NET_MQ));
}
