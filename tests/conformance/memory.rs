//! Where guests' memory is and how it comes and goes (vhost-user: Memory region description, Front-end
//! message types; VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS).

use std::os::fd::{AsFd, OwnedFd};

use virtio::offload::NetHeader;
use virtio::testing::{TestMemory, memory_file};

use crate::back_end::{BackEnd, await_path, with_protocol};
use crate::driver::GUEST_BYTES;
use crate::guest::{Guest, PLAIN, assert_forwards, to_bob};
use crate::protocol::{CONFIGURE_MEM_SLOTS, GET_MAX_MEM_SLOTS, REPLY_ACK, ask, body};
use crate::support::messages::{ADD_MEM_REG, REM_MEM_REG, SET_MEM_TABLE};

/// Length of a region beside the guest's main one, and where the first is.
const REGION_BYTES: u64 = 64 << 10;
const REGIONS_AT: u64 = TestMemory::GUEST_BASE + (1 << 30);

/// Most slots that are tried: a back end may have no limit.
const SLOTS: u64 = 509;

/// A region beside the guest's main one, of a file with something in front.
struct Region {
    file: OwnedFd,
    guest: u64,
    offset: u64,
}

impl Region {
    fn new(number: u64, offset: u64) -> Self {
        let file = memory_file(offset + REGION_BYTES);
        Self { file, guest: REGIONS_AT + number * (1 << 20), offset }
    }

    /// As a message describes it.
    fn description(&self) -> [u64; 4] {
        [self.guest, REGION_BYTES, self.guest + TestMemory::USER_OFFSET, self.offset]
    }

    /// Writes a packet to its start.
    fn write(&self, packet: &[u8]) {
        rustix::io::pwrite(&self.file, packet, self.offset).unwrap();
    }

    /// The body of ADD_MEM_REG and REM_MEM_REG.
    fn body(&self) -> Vec<u8> {
        body(&[&[0][..], &self.description()].concat())
    }
}

/// Sends a frame that lies in a region, and expects it at the other end.
fn assert_forwards_from(region: &Region, alice: &mut Guest, bob: &mut Guest, number: u8) {
    let packet = alice.packet(NetHeader::default(), &to_bob(number));
    region.write(&packet);
    alice.send_from(region.guest, u32::try_from(packet.len()).unwrap());
    assert_eq!(bob.receive().frame, to_bob(number));
}

/// Replaces Alice's memory by a table: her main region, and these.
fn set_table(alice: &mut Guest, regions: &[&Region]) {
    let base = TestMemory::GUEST_BASE;
    let main = [base, GUEST_BYTES, base + TestMemory::USER_OFFSET, 0];
    let mut table = vec![u64::try_from(1 + regions.len()).unwrap()];
    table.extend(main);
    table.extend(regions.iter().flat_map(|region| region.description()));
    let files: Vec<_> = [alice.memory.file()]
        .into_iter()
        .chain(regions.iter().map(|region| region.file.as_fd()))
        .collect();
    alice.talk.send_u64(SET_MEM_TABLE, &table, &files);
}

/// A table has several regions, each with a file and an offset in it.
#[test]
fn vhost_user_set_mem_table_regions_begin_anywhere_in_their_files() {
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let region = Region::new(0, 3 * REGION_BYTES);

    set_table(&mut alice, &[&region]);
    alice.synchronise();
    await_path(&mut alice, &mut bob);

    assert_forwards_from(&region, &mut alice, &mut bob, 1);
}

/// A buffer is contiguous for the guest: it may cross from one region into the next.
#[test]
fn virtio_2_7_5_buffer_may_lie_across_two_regions() {
    const IN_FIRST: usize = 30;
    let back_end = BackEnd::start();
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let first = Region::new(0, 0);
    let second = Region { guest: first.guest + REGION_BYTES, ..Region::new(1, REGION_BYTES) };
    set_table(&mut alice, &[&first, &second]);
    alice.synchronise();
    await_path(&mut alice, &mut bob);

    let packet = alice.packet(NetHeader::default(), &to_bob(1));
    let end = REGION_BYTES - u64::try_from(IN_FIRST).unwrap();
    rustix::io::pwrite(&first.file, &packet[..IN_FIRST], end).unwrap();
    second.write(&packet[IN_FIRST..]);
    alice.send_from(first.guest + end, u32::try_from(packet.len()).unwrap());

    assert_eq!(bob.receive().frame, to_bob(1));
}

/// ADD_MEM_REG adds a region to those that there are, under running rings.
#[test]
fn vhost_user_add_mem_reg_region_is_usable_at_once() {
    let Some(back_end) = with_protocol(CONFIGURE_MEM_SLOTS | REPLY_ACK) else { return };
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let region = Region::new(0, REGION_BYTES);

    assert_eq!(add(&mut alice, &region), Some(0));

    assert_forwards_from(&region, &mut alice, &mut bob, 1);
}

/// REM_MEM_REG takes one away and leaves the others as they were.
#[test]
fn vhost_user_rem_mem_reg_leaves_the_other_regions() {
    let Some(back_end) = with_protocol(CONFIGURE_MEM_SLOTS | REPLY_ACK) else { return };
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    let regions = [0, 1].map(|number| Region::new(number, 0));
    regions.iter().for_each(|region| assert_eq!(add(&mut alice, region), Some(0)));

    assert_eq!(ask(&mut alice.talk, REM_MEM_REG, &regions[0].body(), &[]), Some(0));

    assert_forwards(&mut alice, &mut bob, 1);
    assert_forwards_from(&regions[1], &mut alice, &mut bob, 2);
}

/// A region that was taken away may come again, also with another file.
#[test]
fn vhost_user_rem_mem_reg_makes_room_for_another_region() {
    let Some(back_end) = with_protocol(CONFIGURE_MEM_SLOTS | REPLY_ACK) else { return };
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };

    for number in 0..5 {
        let region = Region::new(0, 0);
        assert_eq!(add(&mut alice, &region), Some(0));
        assert_forwards_from(&region, &mut alice, &mut bob, number);
        assert_eq!(ask(&mut alice.talk, REM_MEM_REG, &region.body(), &[]), Some(0));
    }
}

/// As many regions can be added as GET_MAX_MEM_SLOTS says, the last of them as good as the first.
#[test]
fn vhost_user_get_max_mem_slots_so_many_regions_can_be_added() {
    let Some(back_end) = with_protocol(CONFIGURE_MEM_SLOTS | REPLY_ACK) else { return };
    let Some((mut alice, mut bob)) = back_end.pair(PLAIN) else { return };
    alice.talk.send(GET_MAX_MEM_SLOTS, &[], &[]);
    let slots = alice.talk.reply_u64().min(SLOTS);

    // One has the main memory.
    let regions: Vec<_> = (0..slots - 1).map(|number| Region::new(number, 0)).collect();
    regions.iter().for_each(|region| assert_eq!(add(&mut alice, region), Some(0)));

    let last = regions.last().expect("there are eight at least");
    assert_forwards_from(last, &mut alice, &mut bob, 1);
}

fn add(alice: &mut Guest, region: &Region) -> Option<u64> {
    let file = region.file.as_fd();
    ask(&mut alice.talk, ADD_MEM_REG, &region.body(), &[file])
}
