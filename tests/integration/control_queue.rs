//! The control queue of a guest whose front end passes it on (VIRTIO 1.2, 5.1.6.5): commands and
//! their answers, and what they change for frames; drivers and front ends that do otherwise
//! (`control_queue/hostile.rs`), and those that come and go (`control_queue/returning.rs`).

mod hostile;
mod returning;

use virtio::Features;

use crate::support::front_end::{FrontEnd, MODERN, Manner};
use crate::support::switch::Switch;
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, tagged, wait_for};

const OK: u8 = 0;
const ERROR: u8 = 1;

/// All that the control queue takes commands for, but for several pairs.
const ALL: Features = Features(
    Features::VERSION_1.0
        | Features::RING_EVENT_IDX.0
        | Features::CONTROL.0
        | Features::NET_GUEST_ANNOUNCE.0
        | Features::OFFLOADS.0
        | Features::NET_CTRL_GUEST_OFFLOADS.0,
);

const CONTROLLING: Manner = Manner { features: ALL, controls: true, ..MODERN };

/// The same with four pairs, of which not all is on offer.
const OF_FOUR_PAIRS: Manner = Manner {
    features: Features(ALL.0 | Features::NET_MQ.0),
    queue_pairs: 4,
    insists: true,
    ..CONTROLLING
};

const GROUP: [u8; 6] = [0x01, 0, 0x5e, 0, 0, 1];

const CONFIG: &str = r#"
[[port]]
name = "alice"
type = "vhost-user"
socket = "DIR/alice.sock"
vlan = { trunk = ["1-100"], native = 1 }
[[port]]
name = "bob"
type = "vhost-user"
socket = "DIR/bob.sock"
vlan = { trunk = ["1-100"], native = 1 }
queues = PAIRS
"#;

/// Alice sends, and Bob gives commands.
struct Lab {
    switch: Switch,
    alice: FrontEnd,
    bob: FrontEnd,
    /// Bob's.
    pairs: u16,
}

impl Lab {
    fn new(manner: Manner) -> Self {
        let config = CONFIG.replace("PAIRS", &manner.queue_pairs.to_string());
        let switch = Switch::with_config(&config);
        let sender = Manner { features: MODERN.features | Features::OFFLOADS, ..MODERN };
        let alice = FrontEnd::plug_in_as(&switch.path("alice.sock"), sender);
        let bob = FrontEnd::plug_in_as(&switch.path("bob.sock"), manner);
        Self { switch, alice, bob, pairs: manner.queue_pairs }
    }

    /// Says whether Bob gets a frame that Alice sends. A frame that he always gets follows it: with
    /// several pairs by another one perhaps, where he may see it first. When that comes once more, all
    /// pairs have what there was before.
    fn comes(&mut self, sent: &[u8]) -> bool {
        let last = frame(BROADCAST, ALICE, &[0xee; 46]);
        self.alice.send(sent);
        let mut is_there = false;
        for _ in 0..self.pairs.min(2) {
            self.alice.send(&last);
            let mut came = self.bob.receive();
            if came == sent {
                assert!(!is_there, "sent once, came twice");
                is_there = true;
                came = self.bob.receive();
            }
            assert!(came == last, "not what was sent");
        }
        let behind = self.bob.try_receive().map(|(_, came)| came);
        assert!(behind.is_none() || !is_there && behind.as_deref() == Some(sent), "{behind:x?}");
        is_there || behind.is_some()
    }

    /// Which of these addresses Bob gets frames to.
    fn wanted(&mut self, addresses: &[[u8; 6]]) -> Vec<[u8; 6]> {
        let wanted = addresses.iter().filter(|&&to| self.comes(&frame(to, ALICE, &[1; 46])));
        wanted.copied().collect()
    }

    /// Gives commands that are carried out.
    fn order(&mut self, commands: &[&[u8]]) {
        for command in commands {
            assert_eq!(self.bob.order(command), OK, "{command:?}");
        }
    }

    /// Which of Bob's pairs get frames, of flows of all kinds.
    fn pairs_in_use(&mut self) -> Vec<usize> {
        let mut used = [false; 4];
        for flow in 0..64u8 {
            self.alice.send(&udp(flow));
            let (pair, _) = wait_for("a frame", || self.bob.try_receive());
            used[pair] = true;
        }
        (0..4).filter(|&pair| used[pair]).collect()
    }
}

/// A frame to Bob of one of several flows.
fn udp(flow: u8) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    packet.extend([0x10, flow, 0x20, 0, 0, 26, 0, 0]);
    packet.resize(46, 0);
    let mut frame = frame(BOB, ALICE, &packet);
    frame[12..14].copy_from_slice(&[0x08, 0x00]);
    frame
}

fn set_address(address: [u8; 6]) -> Vec<u8> {
    [&[1, 1], &address[..]].concat()
}

fn set_table(stations: &[[u8; 6]], groups: &[[u8; 6]]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    for addresses in [stations, groups] {
        bytes.extend(u32::try_from(addresses.len()).unwrap().to_le_bytes());
        bytes.extend(addresses.concat());
    }
    bytes
}

fn set_offloads(offloads: Features) -> Vec<u8> {
    [&[5, 0], &offloads.0.to_le_bytes()[..]].concat()
}

/// Commands of every kind that a driver with [`OF_FOUR_PAIRS`] may give.
fn one_of_each() -> Vec<Vec<u8>> {
    let mut commands: Vec<Vec<u8>> = (0..6).map(|mode| vec![0, mode, 0]).collect();
    commands.push(set_table(&[BOB], &[GROUP]));
    commands.push(set_address(BOB));
    commands.extend([vec![2, 0, 7, 0], vec![2, 1, 7, 0], vec![3, 0], vec![4, 0, 2, 0]]);
    commands.push(set_offloads(Features::NET_GUEST_CSUM));
    commands
}

#[test]
fn every_command_is_answered_over_every_kind_of_ring() {
    for choice in 0..16u8 {
        let pick = |bit: u8, feature| if choice & 1 << bit == 0 { Features::NONE } else { feature };
        let features = Features::VERSION_1
            | Features::CONTROL
            | Features::NET_MQ
            | Features::NET_GUEST_ANNOUNCE
            | Features::OFFLOADS
            | Features::NET_CTRL_GUEST_OFFLOADS
            | pick(0, Features::RING_PACKED)
            | pick(1, Features::RING_EVENT_IDX)
            | pick(2, Features::RING_INDIRECT_DESC)
            | pick(3, Features::IN_ORDER);
        let indirect = choice & 1 << 2 != 0;
        let mut lab = Lab::new(Manner { features, indirect, ..OF_FOUR_PAIRS });

        // More than a ring full.
        for command in (0..8).flat_map(|_| one_of_each()) {
            assert_eq!(lab.bob.order(&command), OK, "{command:?}, {features:?}");
            assert_eq!(lab.bob.order(&[&command[..], &[0]].concat()), ERROR, "{command:?}");
        }
    }
}

#[test]
fn commands_that_come_at_once_are_all_answered() {
    let mut lab = Lab::new(CONTROLLING);

    let answers: Vec<u64> = (0..30).map(|mode| lab.bob.begin_order(&[0, mode, 1])).collect();
    let answers: Vec<u8> = answers.into_iter().map(|at| lab.bob.await_answer(at)).collect();

    assert_eq!(answers[..6], [OK; 6]);
    assert_eq!(answers[6..], [ERROR; 24]);
}

#[test]
fn driver_that_begins_gets_frames_on_one_pair_until_it_orders_more() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);

    assert_eq!(lab.pairs_in_use(), [0]);
    lab.order(&[&[4, 0, 4, 0]]);
    assert_eq!(lab.pairs_in_use(), [0, 1, 2, 3]);
    lab.order(&[&[4, 0, 2, 0]]);
    assert_eq!(lab.pairs_in_use(), [0, 1]);
    assert_eq!(lab.bob.order(&[4, 0, 5, 0]), ERROR);
    assert_eq!(lab.pairs_in_use(), [0, 1]);
}

#[test]
fn frames_that_a_pair_has_sent_leave_though_it_is_wanted_no_more() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);
    lab.order(&[&[4, 0, 1, 0]]);

    lab.bob.send_on(3, &frame(ALICE, BOB, &[3; 46]));

    assert_eq!(lab.alice.receive(), frame(ALICE, BOB, &[3; 46]));
}

#[test]
fn pair_that_the_front_end_disables_gets_nothing_whatever_the_driver_orders() {
    let mut lab = Lab::new(OF_FOUR_PAIRS);
    lab.bob.enable(2, false);
    lab.bob.synchronise();

    lab.order(&[&[4, 0, 2, 0]]);
    assert_eq!(lab.pairs_in_use(), [0]);

    lab.bob.enable(2, true);
    lab.bob.enable(4, true);
    lab.bob.synchronise();
    assert_eq!(lab.pairs_in_use(), [0, 1]);
}

#[test]
fn driver_gets_frames_to_its_addresses_once_it_is_not_promiscuous() {
    let mut lab = Lab::new(CONTROLLING);
    let all = [BOB, CAROL, GROUP];
    assert_eq!(lab.wanted(&all), all);

    lab.order(&[&set_address(BOB), &[0, 0, 0]]);
    assert_eq!(lab.wanted(&all), [BOB]);
    lab.order(&[&set_table(&[CAROL], &[GROUP])]);
    assert_eq!(lab.wanted(&all), all);
    lab.order(&[&set_table(&[], &[]), &[0, 1, 1]]);
    assert_eq!(lab.wanted(&all), [BOB, GROUP]);
    lab.order(&[&[0, 1, 0], &[0, 2, 1]]);
    assert_eq!(lab.wanted(&all), [BOB, CAROL]);
    lab.order(&[&[0, 4, 1]]);
    assert_eq!(lab.wanted(&all), [[0; 6]; 0]);
    lab.order(&[&[0, 0, 1]]);
    assert_eq!(lab.wanted(&all), all);
}

#[test]
fn frames_that_a_guest_does_not_want_are_counted() {
    let mut lab = Lab::new(CONTROLLING);
    lab.order(&[&[0, 0, 0]]);

    for _ in 0..10 {
        assert!(!lab.comes(&frame(GROUP, ALICE, &[1; 46])));
    }

    let counted = |name| lab.switch.counter("bob", name);
    assert_eq!(lab.switch.drops("bob", "receive_filter"), 10);
    assert_eq!((counted("frames_out"), counted("drops_out")), (10, 10));
    assert_eq!(counted("copies_ordered"), 20);
}

#[test]
fn driver_that_wants_no_broadcasts_gets_none() {
    let mut lab = Lab::new(CONTROLLING);
    lab.order(&[&[0, 0, 0], &[0, 5, 1]]);

    lab.alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    lab.alice.send(&frame(BOB, ALICE, &[2; 46]));

    assert_eq!(lab.bob.receive(), frame(BOB, ALICE, &[2; 46]));
}

#[test]
fn driver_gets_the_vlans_that_it_has_added() {
    let mut lab = Lab::new(CONTROLLING);
    let in_vlan = |lab: &mut Lab, vid| lab.comes(&tagged(BROADCAST, ALICE, vid, &[1; 46]));
    assert!(in_vlan(&mut lab, 7));

    lab.order(&[&[0, 0, 0], &[2, 0, 7, 0], &[2, 0, 8, 0], &[2, 1, 8, 0]]);

    assert_eq!([7, 8, 9].map(|vid| in_vlan(&mut lab, vid)), [true, false, false]);
    lab.order(&[&[0, 0, 1]]);
    assert!(in_vlan(&mut lab, 9));
}
