//! Commands over both kinds of ring, and what they come to.

use std::sync::Arc;

use frame::MacAddr;

use super::{Acknowledgement, ControlState, MAX_COMMAND_BYTES};
use crate::testing::{Buffer, Driver, TestMemory, Used, over_both_rings};
use crate::{ControlQueue, Features, QueueFault, QueueSize};

const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const CAROL: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);
const GROUP: MacAddr = MacAddr([0x01, 0, 0x5e, 0, 0, 1]);
const OTHER_GROUP: MacAddr = MacAddr([0x01, 0, 0x5e, 0, 0, 2]);

const PAIRS_MAX: u16 = 4;
const OK: u8 = 0;
const ERROR: u8 = 1;
/// Neither answer: nothing was written there.
const UNTOUCHED: u8 = 0xaa;

const ALL: Features = Features(
    Features::VERSION_1.0
        | Features::CONTROL.0
        | Features::NET_MQ.0
        | Features::NET_GUEST_ANNOUNCE.0
        | Features::NET_CTRL_GUEST_OFFLOADS.0
        | Features::NET_GUEST_CSUM.0
        | Features::NET_GUEST_TSO4.0,
);

/// A driver with a control queue, and the device behind it.
struct Lab {
    memory: Arc<TestMemory>,
    driver: Driver,
    queue: ControlQueue,
    state: ControlState,
    data: u64,
    answer: u64,
}

impl Lab {
    fn new(features: Features) -> Self {
        let memory = TestMemory::new(0x40_000);
        let size = QueueSize::new(8, Features::NONE).unwrap();
        let driver = Driver::new(&memory, size, features);
        let queue = ControlQueue::new(driver.setup()).unwrap();
        let (data, answer) = (driver.end() + 0x100, driver.end());
        memory.write(answer, &[UNTOUCHED]);
        let state = ControlState::new(features | ALL, PAIRS_MAX);
        Self { memory, driver, queue, state, data, answer }
    }

    /// Serves what is there.
    fn serve(&mut self) -> Result<usize, QueueFault> {
        let served = self.queue.serve(8, |command| self.state.carry_out(command));
        let _ = self.queue.release();
        served
    }

    /// Gives a command cut into buffers of these lengths, and returns what is answered.
    fn ask(&mut self, command: &[u8], lengths: &[u32]) -> u8 {
        self.memory.write(self.data, command);
        self.memory.write(self.answer, &[UNTOUCHED]);
        let buffers = self.buffers(lengths);
        self.driver.describe_chain(0, &buffers);
        self.driver.make_available(0);
        assert_eq!(self.serve(), Ok(1));
        assert_eq!(self.driver.take_used(), Some(Used { head: 0, written_bytes: 1 }));
        self.memory.read(self.answer, 1)[0]
    }

    fn buffers(&self, lengths: &[u32]) -> Vec<Buffer> {
        let mut at = self.data;
        let mut buffers = Vec::new();
        for &length in lengths {
            buffers.push(Buffer::readable(at, length));
            at += u64::from(length);
        }
        buffers.push(Buffer::writable(self.answer, 1));
        buffers
    }
}

fn command_in_one_buffer_or_in_many_is_carried_out(features: Features) {
    let mut lab = Lab::new(features);

    assert_eq!(lab.ask(&[4, 0, 3, 0], &[4]), OK);
    assert_eq!(lab.state.queue_pairs(), 3);
    assert_eq!(lab.ask(&[4, 0, 2, 0], &[1, 1, 1, 1]), OK);
    assert_eq!(lab.state.queue_pairs(), 2);
}

fn command_in_an_indirect_table_is_carried_out(features: Features) {
    let mut lab = Lab::new(features | Features::RING_INDIRECT_DESC);
    lab.memory.write(lab.data, &[4, 0, 4, 0]);
    let (table, buffers) = (lab.data + 0x1000, lab.buffers(&[2, 2]));
    lab.driver.describe_indirect(5, table, &buffers);
    lab.driver.make_available(5);

    assert_eq!(lab.serve(), Ok(1));

    assert_eq!(lab.driver.take_used(), Some(Used { head: 5, written_bytes: 1 }));
    assert_eq!((lab.memory.read(lab.answer, 1)[0], lab.state.queue_pairs()), (OK, 4));
}

fn many_commands_wrap_around_the_ring(features: Features) {
    let mut lab = Lab::new(features | Features::RING_EVENT_IDX);

    for round in 0..100 {
        let pairs = round % 4 + 1;
        assert_eq!(lab.ask(&[4, 0, pairs, 0], &[2, 2]), OK);
        assert_eq!(lab.state.queue_pairs(), pairs.into());
        assert!(!lab.queue.enable_notifications());
    }
}

fn command_without_room_for_an_answer_breaks_the_queue(features: Features) {
    let mut lab = Lab::new(features);
    lab.driver.describe(0, Buffer::readable(lab.data, 4));
    lab.driver.make_available(0);

    assert_eq!(lab.serve(), Err(QueueFault::NoAcknowledgement));
}

fn readable_buffer_behind_the_answer_breaks_the_queue(features: Features) {
    let mut lab = Lab::new(features);
    let chain = [Buffer::writable(lab.answer, 1), Buffer::readable(lab.data, 4)];
    lab.driver.describe_chain(0, &chain);
    lab.driver.make_available(0);

    assert_eq!(lab.serve(), Err(QueueFault::ReadableAfterWritable { index: 1 }));
}

fn answer_goes_into_the_first_byte_that_is_not_in_an_empty_buffer(features: Features) {
    let mut lab = Lab::new(features);
    lab.memory.write(lab.data, &[4, 0, 3, 0]);
    let chain = [
        Buffer::readable(lab.data, 4),
        Buffer::writable(0, 0),
        Buffer::writable(lab.answer, 8),
        Buffer::writable(lab.answer + 8, 8),
    ];
    lab.driver.describe_chain(0, &chain);
    lab.memory.write(lab.answer, &[UNTOUCHED; 16]);
    lab.driver.make_available(0);

    assert_eq!(lab.serve(), Ok(1));

    let mut written = [UNTOUCHED; 16];
    written[0] = OK;
    assert_eq!(lab.memory.read(lab.answer, 16), written);
}

fn command_longer_than_any_is_refused_and_its_answer_found(features: Features) {
    let mut lab = Lab::new(features);
    let (data, answer) = (lab.data, lab.answer);
    lab.memory.write(answer, &[UNTOUCHED]);
    // The same bytes again and again, more than a walk looks up.
    let chain = [
        Buffer::readable(data, 0x20_000),
        Buffer::readable(TestMemory::GUEST_BASE, 0x40_000),
        Buffer::readable(TestMemory::GUEST_BASE, 0x40_000),
        Buffer::readable(TestMemory::GUEST_BASE, 0x40_000),
        Buffer::readable(TestMemory::GUEST_BASE, 0x40_000),
        Buffer::readable(TestMemory::GUEST_BASE, 0x40_000),
        Buffer::writable(answer, 1),
    ];
    lab.driver.describe_chain(0, &chain);
    lab.driver.make_available(0);

    assert_eq!(lab.serve(), Ok(1));

    assert_eq!(lab.memory.read(answer, 1), [ERROR]);
}

fn commands_of_no_bytes_or_one_are_refused(features: Features) {
    let mut lab = Lab::new(features);

    assert_eq!(lab.ask(&[], &[]), ERROR);
    assert_eq!(lab.ask(&[4], &[1]), ERROR);
}

over_both_rings!(
    command_in_one_buffer_or_in_many_is_carried_out,
    command_in_an_indirect_table_is_carried_out,
    many_commands_wrap_around_the_ring,
    command_without_room_for_an_answer_breaks_the_queue,
    readable_buffer_behind_the_answer_breaks_the_queue,
    answer_goes_into_the_first_byte_that_is_not_in_an_empty_buffer,
    command_longer_than_any_is_refused_and_its_answer_found,
    commands_of_no_bytes_or_one_are_refused,
);

/// A state of a driver that has negotiated everything.
fn state() -> ControlState {
    ControlState::new(ALL, PAIRS_MAX)
}

/// What these commands are answered, one after the other.
fn answers(state: &mut ControlState, commands: &[&[u8]]) -> Vec<Acknowledgement> {
    commands.iter().map(|command| state.carry_out(command)).collect()
}

/// A state that these commands, all right, have made.
fn after(commands: &[&[u8]]) -> ControlState {
    let mut state = state();
    let answers = answers(&mut state, commands);
    assert!(answers.iter().all(|&answer| answer == Acknowledgement::Ok), "{answers:?}");
    state
}

fn table(stations: &[MacAddr], groups: &[MacAddr]) -> Vec<u8> {
    let mut bytes = vec![1, 0];
    for addresses in [stations, groups] {
        bytes.extend(u32::try_from(addresses.len()).unwrap().to_le_bytes());
        bytes.extend(addresses.iter().flat_map(|address| address.0));
    }
    bytes
}

fn set_address(address: MacAddr) -> Vec<u8> {
    [&[1, 1], &address.0[..]].concat()
}

/// Which of these addresses the guest wants.
fn wanted(state: &ControlState, addresses: &[MacAddr]) -> Vec<MacAddr> {
    let filter = state.filter().expect("there is a filter");
    addresses.iter().copied().filter(|&address| filter.wants(address, None)).collect()
}

#[test]
fn driver_that_begins_has_one_pair_all_offloads_and_no_filter() {
    let state = state();

    assert_eq!(state.queue_pairs(), 1);
    assert_eq!(state.offloads(), Features::NET_GUEST_CSUM | Features::NET_GUEST_TSO4);
    assert_eq!(state.filter(), None);
}

#[test]
fn driver_of_which_nobody_knows_what_it_ordered_gets_plain_frames() {
    let state = ControlState::unknown(ALL, PAIRS_MAX);

    assert_eq!(state.offloads(), Features::NONE);
    assert_eq!(state.filter(), None);
}

#[test]
fn commands_that_are_not_right_are_refused_and_change_nothing() {
    let too_many = table(&[ALICE], &[])[..11].to_vec();
    let too_long = [&table(&[ALICE], &[GROUP])[..], &[0]].concat();
    let endless = [&[1, 0][..], &[0xff; 4], &ALICE.0, &[0; 4]].concat();
    let group_as_own = set_address(GROUP);
    let mut offloads_not_negotiated = vec![5, 0];
    offloads_not_negotiated.extend(Features::NET_GUEST_TSO6.0.to_le_bytes());
    let wrong: &[&[u8]] = &[
        &[],
        &[0],
        &[0, 6, 1],
        &[0, 0],
        &[0, 0, 2],
        &[0, 0, 1, 0],
        &[1, 2],
        &[1, 0],
        &[1, 0, 0, 0, 0, 0],
        &too_many,
        &too_long,
        &endless,
        &group_as_own,
        &[1, 1, 0, 0, 0, 0, 0],
        &[2, 2, 1, 0],
        &[2, 0, 1],
        &[2, 0, 0xff, 0x0f],
        &[2, 0, 0, 0x10],
        &[3, 1],
        &[3, 0, 0],
        &[4, 0, 0, 0],
        &[4, 0, 5, 0],
        &[4, 0, 0, 0x80],
        &[4, 0, 1],
        &[4, 0, 1, 0, 0],
        &[4, 1, 1, 0],
        &[4, 2, 0, 0],
        &[5, 0, 0, 0, 0, 0],
        &[5, 0, 1, 0, 0, 0, 0, 0, 0, 0],
        &offloads_not_negotiated,
        &[5, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        &[6, 0],
        &[255, 255, 255],
    ];
    let mut state = state();

    let answers = answers(&mut state, wrong);

    assert_eq!(answers, vec![Acknowledgement::Error; wrong.len()]);
    assert_eq!(state, self::state());
}

#[test]
fn commands_whose_feature_was_not_negotiated_are_refused() {
    let (table, address) = (table(&[], &[]), set_address(ALICE));
    let commands: &[&[u8]] = &[
        &[0, 0, 1],
        &[0, 2, 1],
        &table,
        &address,
        &[2, 0, 1, 0],
        &[3, 0],
        &[4, 0, 1, 0],
        &[5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ];

    let plain = answers(&mut ControlState::new(Features::NET_CTRL_VQ, PAIRS_MAX), commands);
    let full = answers(&mut state(), commands);

    assert_eq!(plain, vec![Acknowledgement::Error; commands.len()]);
    assert_eq!(full, vec![Acknowledgement::Ok; commands.len()]);
}

#[test]
fn offloads_are_switched_off_and_on() {
    let off = [5, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let checksums = [5, 0, 2, 0, 0, 0, 0, 0, 0, 0];

    assert_eq!(after(&[&off]).offloads(), Features::NONE);
    assert_eq!(after(&[&off, &checksums]).offloads(), Features::NET_GUEST_CSUM);
}

#[test]
fn driver_without_promiscuous_mode_gets_its_addresses_and_broadcast() {
    let (table, own) = (table(&[CAROL], &[GROUP]), set_address(ALICE));

    let state = after(&[&own, &table, &[0, 0, 0]]);

    let all = [ALICE, BOB, CAROL, GROUP, OTHER_GROUP, MacAddr::BROADCAST];
    assert_eq!(wanted(&state, &all), [ALICE, CAROL, GROUP, MacAddr::BROADCAST]);
}

#[test]
fn driver_that_did_not_say_its_address_gets_what_is_for_any_station() {
    let state = after(&[&[0, 0, 0]]);

    assert_eq!(wanted(&state, &[ALICE, BOB, GROUP]), [ALICE, BOB]);
}

#[test]
fn receive_modes_open_and_shut_for_each_kind_of_address() {
    let own = set_address(ALICE);
    let all = [ALICE, BOB, GROUP, MacAddr::BROADCAST];
    let with =
        |commands: &[&[u8]]| wanted(&after(&[&[&own, &[0u8, 0, 0][..]], commands].concat()), &all);

    assert_eq!(with(&[&[0, 1, 1]]), [ALICE, GROUP, MacAddr::BROADCAST]);
    assert_eq!(with(&[&[0, 2, 1]]), [ALICE, BOB, MacAddr::BROADCAST]);
    assert_eq!(with(&[&[0, 1, 1], &[0, 3, 1]]), [ALICE, MacAddr::BROADCAST]);
    assert_eq!(with(&[&[0, 2, 1], &[0, 4, 1]]), [MacAddr::BROADCAST]);
    assert_eq!(with(&[&[0, 5, 1]]), [ALICE]);
    assert_eq!(with(&[&[0, 5, 1], &[0, 5, 0]]), [ALICE, MacAddr::BROADCAST]);
}

#[test]
fn promiscuous_mode_is_no_filter_whatever_else_was_ordered() {
    let own = set_address(ALICE);

    let state = after(&[&own, &[0, 5, 1], &[2, 0, 5, 0], &[0, 0, 0], &[0, 0, 1]]);

    assert_eq!(state.filter(), None);
}

#[test]
fn vlans_are_wanted_once_added_and_until_removed() {
    let state = after(&[&[0, 0, 0], &[2, 0, 5, 0], &[2, 0, 6, 0], &[2, 1, 6, 0]]);

    let filter = state.filter().unwrap();
    let wants = |vid| filter.wants(MacAddr::BROADCAST, vid);
    assert_eq!([None, Some(0), Some(5), Some(6)].map(wants), [true, true, true, false]);
}

#[test]
fn vlans_are_filtered_for_a_driver_that_knows_no_receive_modes() {
    let mut state = ControlState::new(Features::NET_CTRL_VLAN, PAIRS_MAX);

    assert_eq!(state.carry_out(&[2, 0, 5, 0]), Acknowledgement::Ok);

    let filter = state.filter().unwrap();
    assert!(filter.wants(BOB, Some(5)));
    assert!(!filter.wants(BOB, Some(6)));
}

#[test]
fn table_may_be_as_long_as_the_longest_command() {
    let most = (MAX_COMMAND_BYTES - 10) / 6;
    let stations: Vec<MacAddr> =
        (0..most as u64).map(|bits| MacAddr::from_bits(2 << 40 | bits)).collect();
    let command = table(&stations, &[]);

    let state = after(&[&set_address(ALICE), &command, &[0, 0, 0]]);

    assert_eq!(wanted(&state, &stations).len(), most);
}

#[test]
fn state_survives_its_way_as_commands() {
    let (table, own) = (table(&[CAROL, BOB], &[GROUP]), set_address(ALICE));
    let offloads = [5, 0, 2, 0, 0, 0, 0, 0, 0, 0];
    let state =
        after(&[&own, &table, &[0, 0, 0], &[0, 5, 1], &[2, 0, 7, 0], &[4, 0, 3, 0], &offloads]);

    let (filters_vlans, commands) = state.to_commands();
    let copy = ControlState::from_commands(ALL, PAIRS_MAX, (filters_vlans, &commands));

    assert_eq!(copy, state);
}

#[test]
fn unknown_state_survives_its_way_as_commands() {
    let state = ControlState::unknown(ALL, PAIRS_MAX);

    let (filters_vlans, commands) = state.to_commands();

    assert_eq!(ControlState::from_commands(ALL, PAIRS_MAX, (filters_vlans, &commands)), state);
}
