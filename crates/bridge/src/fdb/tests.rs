//! The filtering database against a `HashMap`, against several threads, and against a flood.

use std::collections::HashMap;
use std::hint::spin_loop;
use std::thread;

use super::*;
use proptest::prelude::*;

const SEED: u64 = 7;
const NO_LIMIT: u32 = u32::MAX;
const ALICE: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const BOB: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const A: u16 = 3;
const B: u16 = 1_023;
const NOW: Seconds = Seconds(1_000);

fn fdb() -> Fdb {
    Fdb::with_seed(DEFAULT_ADDRESSES, DEFAULT_AGEING, SEED)
}

fn vid(number: u16) -> VlanId {
    VlanId::try_from(number).unwrap()
}

/// The station of this number; not a group address.
fn station(number: u32) -> MacAddr {
    MacAddr::from_bits(0x5254_0000_0000 | u64::from(number))
}

/// Stations, of any VLAN, that all have the same two buckets.
fn neighbours(fdb: &Fdb) -> impl Iterator<Item = (VlanId, MacAddr)> + '_ {
    const FIRST_BUCKET: usize = 99;
    // The lower bits of the remainder are free: others lead to the second bucket.
    let keys = (0..).filter_map(|lower: u64| fdb.mix.key(FIRST_BUCKET, lower << 18));
    keys.filter(|(_, address)| !address.is_group())
}

#[test]
fn address_is_found_in_the_vlan_it_was_learned_in_alone() {
    let fdb = fdb();

    assert_eq!(fdb.learn(vid(1), ALICE, B, NO_LIMIT, NOW), Learned::New);

    assert_eq!(fdb.look_up(vid(1), ALICE), Some(B));
    assert_eq!(fdb.look_up(vid(2), ALICE), None);
    assert_eq!(fdb.look_up(vid(1), BOB), None);
}

#[test]
fn address_of_another_table_keeps_its_age_though_this_clock_has_just_begun() {
    let fdb = fdb();
    let (now, age) = (Seconds(1), Seconds(200));

    assert_eq!(fdb.learn_aged(vid(1), ALICE, A, NO_LIMIT, age, now), Learned::New);

    let entry = fdb.entries(now)[0];
    assert!(entry.age.unwrap().0.abs_diff(age.0) <= 4, "{entry:?}");
    assert_eq!(fdb.age(Seconds(99)), 0);
    assert_eq!(fdb.age(Seconds(111)), 1);
}

#[test]
fn station_that_is_heard_elsewhere_moves_and_is_counted_there() {
    let fdb = fdb();
    fdb.learn(vid(1), ALICE, A, NO_LIMIT, NOW);

    let learned = fdb.learn(vid(1), ALICE, B, NO_LIMIT, NOW);

    assert_eq!(learned, Learned::Moved { from: A });
    assert_eq!(fdb.look_up(vid(1), ALICE), Some(B));
    assert_eq!(fdb.slot_statistics(A).learned, 0);
    assert_eq!(fdb.slot_statistics(B).learned, 1);
    assert_eq!((fdb.statistics().moves, fdb.statistics().entries), (1, 1));
}

#[test]
fn group_address_is_never_learned() {
    let fdb = fdb();

    let learned = fdb.learn(vid(1), MacAddr::BROADCAST, A, NO_LIMIT, NOW);

    assert_eq!(learned, Learned::RefusedGroup);
    assert_eq!(fdb.statistics().entries, 0);
}

#[test]
fn silent_station_is_forgotten_and_one_that_speaks_is_not() {
    let fdb = fdb();
    fdb.learn(vid(1), ALICE, A, NO_LIMIT, NOW);
    fdb.learn(vid(1), BOB, A, NO_LIMIT, NOW);

    fdb.learn(vid(1), BOB, A, NO_LIMIT, Seconds(1_200));
    let removed = fdb.age(Seconds(1_308));

    assert_eq!(removed, 1);
    assert_eq!(fdb.look_up(vid(1), ALICE), None);
    assert_eq!(fdb.look_up(vid(1), BOB), Some(A));
    assert_eq!(fdb.slot_statistics(A).learned, 1);
}

#[test]
fn shorter_ageing_time_applies_to_entries_that_are_there() {
    let fdb = fdb();
    fdb.learn(vid(1), ALICE, A, NO_LIMIT, NOW);
    fdb.learn(vid(1), BOB, A, NO_LIMIT, Seconds(1_100));

    fdb.set_ageing(Seconds(60), Seconds(1_101));
    let removed = fdb.age(Seconds(1_101));

    assert_eq!(fdb.ageing(), Seconds(60));
    assert_eq!(removed, 1);
    assert_eq!(fdb.look_up(vid(1), BOB), Some(A));
}

#[test]
fn static_entry_neither_moves_nor_ages_nor_counts_against_the_limit() {
    let fdb = fdb();
    fdb.learn(vid(1), ALICE, B, NO_LIMIT, NOW);

    fdb.add_static(vid(1), ALICE, A).unwrap();
    fdb.add_static(vid(1), ALICE, A).unwrap();

    assert_eq!(fdb.learn(vid(1), ALICE, B, NO_LIMIT, NOW), Learned::Static);
    assert_eq!(fdb.age(Seconds(100_000)), 0);
    assert_eq!(fdb.look_up(vid(1), ALICE), Some(A));
    assert_eq!(fdb.slot_statistics(B).learned + fdb.slot_statistics(A).learned, 0);
    assert_eq!((fdb.statistics().entries, fdb.statistics().static_entries), (1, 1));
}

#[test]
fn static_entry_that_cannot_be_is_refused_with_its_reason() {
    let fdb = fdb();
    fdb.add_static(vid(1), ALICE, A).unwrap();
    fdb.learn(vid(1), BOB, A, NO_LIMIT, NOW);

    let group = fdb.add_static(vid(1), MacAddr::BROADCAST, A).unwrap_err();
    let taken = fdb.add_static(vid(1), ALICE, B).unwrap_err();
    let learned = fdb.remove_static(vid(1), BOB).unwrap_err();

    assert_eq!(group, StaticEntryError::GroupAddress(MacAddr::BROADCAST));
    assert_eq!(taken, StaticEntryError::Exists { vid: vid(1), address: ALICE, slot: A });
    assert_eq!(learned, StaticEntryError::NotFound { vid: vid(1), address: BOB });
    assert_eq!(fdb.add_static(vid(1), ALICE, 1_024), Err(StaticEntryError::NoSuchSlot(1_024)));
}

#[test]
fn removed_static_entry_leaves_room_to_learn() {
    let fdb = fdb();
    fdb.add_static(vid(1), ALICE, A).unwrap();

    fdb.remove_static(vid(1), ALICE).unwrap();

    assert_eq!(fdb.learn(vid(1), ALICE, B, NO_LIMIT, NOW), Learned::New);
}

/// Stations that differ in sixteen bits alone: the address's last, others, its first but that of
/// groups, or the VLAN's and some of the first.
fn patterns() -> [fn(u32) -> (VlanId, MacAddr); 5] {
    [
        |number| (vid(1), station(number)),
        |number| (vid(1), MacAddr::from_bits(u64::from(number) << 12)),
        |number| (vid(1), MacAddr::from_bits(u64::from(number) << 24)),
        |number| {
            let bits = u64::from(number >> 9) << 41 | u64::from(number & 511) << 31;
            (vid(1), MacAddr::from_bits(bits))
        },
        |number| {
            let vlan = u16::try_from(number & 2_047).unwrap() + 1;
            (vid(vlan), MacAddr::from_bits(u64::from(number >> 11) << 41))
        },
    ]
}

#[test]
fn whole_capacity_is_learned_whatever_pattern_addresses_have() {
    for pattern in patterns() {
        for seed in 0..8 {
            let fdb = Fdb::with_seed(DEFAULT_ADDRESSES, DEFAULT_AGEING, seed);
            for number in 0..DEFAULT_ADDRESSES {
                let (vid, address) = pattern(number);
                let learned = fdb.learn(vid, address, A, NO_LIMIT, NOW);
                assert_eq!(learned, Learned::New, "{vid:?}, {address:?}, seed {seed}");
            }
        }
    }
}

#[test]
fn most_addresses_of_a_full_table_are_found_without_a_search() {
    for capacity in [DEFAULT_ADDRESSES, MAX_ADDRESSES] {
        let fdb = Fdb::with_seed(capacity, DEFAULT_AGEING, SEED);
        for number in 0..capacity {
            let _ = fdb.learn(vid(1), station(number), A, NO_LIMIT, NOW);
        }
        let is_near = |number: &u32| {
            let reader = fdb.reader();
            reader.slot(reader.locate(Key::new(vid(1), station(*number)))).is_some()
        };
        let near = (0..capacity).filter(is_near).count();
        assert!(near as f64 > 0.93 * f64::from(capacity), "{near} of {capacity}");
    }
}

#[test]
fn address_is_found_beside_empty_words_that_look_like_its_own() {
    let fdb = fdb();
    // What tells it from others is zero throughout, as an empty word is.
    let mut keys = (0..fdb.buckets.len()).filter_map(|bucket| fdb.mix.key(bucket, 0));
    let (vid, address) = keys.find(|(_, address)| !address.is_group()).unwrap();

    assert_eq!(fdb.look_up(vid, address), None);
    assert_eq!(fdb.learn(vid, address, A, NO_LIMIT, NOW), Learned::New);
    assert_eq!(fdb.look_up(vid, address), Some(A));
    assert_eq!(fdb.learn(vid, address, A, NO_LIMIT, NOW), Learned::Known);
}

#[test]
fn address_whose_buckets_are_full_is_not_learned_and_is_counted() {
    let fdb = fdb();
    let mut neighbours = neighbours(&fdb);
    for (vid, address) in neighbours.by_ref().take(2 * BUCKET_WORDS) {
        assert_eq!(fdb.learn(vid, address, A, NO_LIMIT, NOW), Learned::New);
    }
    let (vid, late) = neighbours.next().unwrap();

    let learned = fdb.learn(vid, late, B, NO_LIMIT, NOW);
    let fixed = fdb.add_static(vid, late, B);

    assert_eq!(learned, Learned::RefusedFull);
    assert_eq!(fdb.statistics().refused_full, 1);
    assert_eq!(fdb.slot_statistics(B).learned, 0);
    assert_eq!(fixed, Ok(()));
    assert_eq!(fdb.look_up(vid, late), Some(B));
    assert_eq!(fdb.slot_statistics(A).learned, 15);
}

#[test]
fn table_takes_all_the_addresses_it_is_made_for_and_no_more() {
    let fdb = fdb();

    for number in 0..DEFAULT_ADDRESSES {
        assert_eq!(fdb.learn(vid(1), station(number), A, NO_LIMIT, NOW), Learned::New);
    }

    assert_eq!(
        fdb.learn(vid(1), station(DEFAULT_ADDRESSES), A, NO_LIMIT, NOW),
        Learned::RefusedFull
    );
    assert_eq!(fdb.statistics().entries, DEFAULT_ADDRESSES);
}

#[test]
fn flood_from_a_limited_port_leaves_the_addresses_of_others() {
    const LIMIT: u32 = 1_024;
    let fdb = fdb();
    for number in 0..1_000 {
        fdb.learn(vid(1), station(number), A, LIMIT, NOW);
    }

    for number in 1_000..101_000 {
        fdb.learn(vid(1), station(number), B, LIMIT, NOW);
    }
    // The flood may also claim others' addresses: those move, up to the same limit.
    let claimed = fdb.learn(vid(1), station(0), B, LIMIT, NOW);

    assert_eq!(claimed, Learned::RefusedLimit);
    assert!((0..1_000).all(|number| fdb.look_up(vid(1), station(number)) == Some(A)));
    assert_eq!(fdb.slot_statistics(B).learned, LIMIT);
    assert_eq!(fdb.statistics().refused_limit, 100_000 - u64::from(LIMIT) + 1);
}

#[test]
fn flush_removes_what_fits_and_static_entries_only_when_told() {
    let fdb = fdb();
    fdb.add_static(vid(1), ALICE, A).unwrap();
    for (number, slot) in [(1, A), (2, A), (2, B)] {
        fdb.learn(vid(number), station(u32::from(slot)), slot, NO_LIMIT, NOW);
    }

    assert_eq!(fdb.flush(Flush { slot: Some(A), vid: Some(vid(2)), ..Flush::default() }), 1);
    assert_eq!(fdb.flush(Flush { slot: Some(A), ..Flush::default() }), 1);
    assert_eq!(fdb.flush(Flush { slot: Some(A), with_static: true, ..Flush::default() }), 1);
    assert_eq!(fdb.flush(Flush::default()), 1);
    assert_eq!(fdb.statistics(), FdbStatistics::default());
}

#[test]
fn entries_lists_address_vlan_port_and_age() {
    let fdb = fdb();
    fdb.learn(vid(7), ALICE, A, NO_LIMIT, NOW);
    fdb.add_static(vid(4_094), BOB, B).unwrap();

    let mut entries = fdb.entries(Seconds(1_050));
    entries.sort_by_key(|entry| entry.vid);

    let learned = Entry { vid: vid(7), address: ALICE, slot: A, age: Some(Seconds(50)) };
    let fixed = Entry { vid: vid(4_094), address: BOB, slot: B, age: None };
    assert_eq!(entries, [learned, fixed]);
}

#[test]
fn threads_that_learn_the_same_addresses_leave_one_entry_each() {
    const ROUNDS: u32 = 100;
    const STATIONS: u32 = 200;
    let fdb = Fdb::new(DEFAULT_ADDRESSES, DEFAULT_AGEING);
    let learn_all = |slot: u16, started: &AtomicU32| {
        started.fetch_add(1, SeqCst);
        // So that they begin together, if the machine lets them.
        (0..100_000).take_while(|_| started.load(SeqCst) < 4).for_each(|_| spin_loop());
        for number in 0..STATIONS {
            fdb.learn(vid(1), station(number), slot, NO_LIMIT, NOW);
        }
    };

    for _ in 0..ROUNDS {
        let started = AtomicU32::new(0);
        thread::scope(|scope| {
            for slot in 0..4 {
                let started = &started;
                scope.spawn(move || learn_all(slot, started));
            }
        });

        assert_one_entry_each(&fdb, STATIONS);
        fdb.flush(Flush::default());
    }
}

/// Also that the counts are those of the entries.
fn assert_one_entry_each(fdb: &Fdb, stations: u32) {
    let entries = fdb.entries(NOW);
    let distinct: std::collections::HashSet<_> =
        entries.iter().map(|entry| entry.address).collect();
    assert_eq!((entries.len(), distinct.len()), (stations as usize, stations as usize));
    assert_eq!(fdb.statistics().entries, stations);
    assert_eq!((0..4).map(|slot| fdb.slot_statistics(slot).learned).sum::<u32>(), stations);
}

#[test]
fn counts_are_true_after_threads_learned_flushed_and_aged_at_once() {
    let fdb = Fdb::new(500, Seconds(10));
    let churn = |slot: u16| {
        for number in 0..20_000u32 {
            let (address, now) = (station(number * 7 % 700), Seconds(number / 100));
            fdb.learn(vid(1), address, slot, 200, now);
            match number % 500 {
                0 => drop(fdb.flush(Flush { slot: Some(slot), ..Flush::default() })),
                1 => drop(fdb.age(now)),
                _ => {}
            }
        }
    };

    thread::scope(|scope| {
        for slot in 0..3 {
            scope.spawn(move || churn(slot));
        }
    });

    let entries = fdb.entries(Seconds(0));
    assert_eq!(fdb.statistics().entries as usize, entries.len());
    for slot in 0..3 {
        let learned = entries.iter().filter(|entry| entry.slot == slot).count();
        assert_eq!(fdb.slot_statistics(slot).learned as usize, learned);
        assert!(learned <= 200);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Learn { number: u32, vid: u16, slot: u16 },
    LookUp { number: u32, vid: u16 },
    AddStatic { number: u32, vid: u16, slot: u16 },
    RemoveStatic { number: u32, vid: u16 },
    Wait { seconds: u32 },
    Flush(Option<u16>, Option<u16>, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (number, vid, slot) = (0u32..12, 1u16..4, 0u16..3);
    let key = (number, vid.clone());
    let step = prop_oneof![
        8 => (key.clone(), slot.clone())
            .prop_map(|((number, vid), slot)| Step::Learn { number, vid, slot }),
        4 => key.clone().prop_map(|(number, vid)| Step::LookUp { number, vid }),
        1 => (key.clone(), slot.clone())
            .prop_map(|((number, vid), slot)| Step::AddStatic { number, vid, slot }),
        1 => key.prop_map(|(number, vid)| Step::RemoveStatic { number, vid }),
        2 => (0u32..15).prop_map(|seconds| Step::Wait { seconds }),
        1 => (proptest::option::of(slot), proptest::option::of(vid), any::<bool>())
            .prop_map(|(slot, vid, with_static)| Step::Flush(slot, vid, with_static)),
    ];
    proptest::collection::vec(step, 1..150)
}

/// The port limit and the ageing time of the model; units of one second make ageing exact.
const MODEL_LIMIT: usize = 8;
const MODEL_AGEING: u32 = 20;

/// The filtering database as a map from VLAN and address to slot and, unless static, last time.
#[derive(Debug, Default)]
struct Model(HashMap<(u16, MacAddr), (u16, Option<u32>)>);

impl Model {
    fn learned_behind(&self, slot: u16) -> usize {
        self.0.values().filter(|entry| entry.0 == slot && entry.1.is_some()).count()
    }

    fn learn(&mut self, key: (u16, MacAddr), slot: u16, now: u32) -> Learned {
        let (learned, has_room) = match self.0.get(&key) {
            Some((_, None)) => return Learned::Static,
            Some(&(old, _)) if old == slot => (Learned::Known, true),
            Some(&(from, _)) => (Learned::Moved { from }, self.learned_behind(slot) < MODEL_LIMIT),
            None => (Learned::New, self.learned_behind(slot) < MODEL_LIMIT),
        };
        if !has_room {
            return Learned::RefusedLimit;
        }
        self.0.insert(key, (slot, Some(now)));
        learned
    }
}

proptest! {
    #[test]
    fn table_does_what_a_map_does(seed: u64, steps in steps()) {
        let fdb = Fdb::with_seed(1_000, Seconds(MODEL_AGEING), seed);
        let mut model = Model::default();
        let mut now = 50;
        for step in steps {
            match step {
                Step::Learn { number, vid: vlan, slot } => {
                    let key = (vlan, station(number));
                    let limit = u32::try_from(MODEL_LIMIT).unwrap();
                    let learned = fdb.learn(vid(vlan), key.1, slot, limit, Seconds(now));
                    prop_assert_eq!(learned, model.learn(key, slot, now));
                }
                Step::LookUp { number, vid: vlan } => {
                    let key = (vlan, station(number));
                    let slot = model.0.get(&key).map(|entry| entry.0);
                    prop_assert_eq!(fdb.look_up(vid(vlan), key.1), slot);
                }
                Step::AddStatic { number, vid: vlan, slot } => {
                    let key = (vlan, station(number));
                    let added = fdb.add_static(vid(vlan), key.1, slot);
                    match model.0.get(&key) {
                        Some(&(old, None)) => prop_assert_eq!(added.is_ok(), old == slot),
                        Some((_, Some(_))) | None => {
                            prop_assert_eq!(added, Ok(()));
                            model.0.insert(key, (slot, None));
                        }
                    }
                }
                Step::RemoveStatic { number, vid: vlan } => {
                    let key = (vlan, station(number));
                    let is_static = model.0.get(&key).is_some_and(|entry| entry.1.is_none());
                    prop_assert_eq!(fdb.remove_static(vid(vlan), key.1).is_ok(), is_static);
                    if is_static {
                        model.0.remove(&key);
                    }
                }
                Step::Wait { seconds } => {
                    now += seconds;
                    let before = model.0.len();
                    model.0.retain(|_, entry| entry.1.is_none_or(|at| now - at <= MODEL_AGEING));
                    prop_assert_eq!(fdb.age(Seconds(now)), before - model.0.len());
                }
                Step::Flush(slot, vlan, with_static) => {
                    let before = model.0.len();
                    model.0.retain(|key, entry| {
                        slot.is_some_and(|slot| slot != entry.0)
                            || vlan.is_some_and(|vlan| vlan != key.0)
                            || (entry.1.is_none() && !with_static)
                    });
                    let flush = Flush { slot, vid: vlan.map(vid), with_static };
                    prop_assert_eq!(fdb.flush(flush), before - model.0.len());
                }
            }
            let static_entries = model.0.values().filter(|entry| entry.1.is_none()).count();
            prop_assert_eq!(fdb.statistics().entries as usize, model.0.len());
            prop_assert_eq!(fdb.statistics().static_entries as usize, static_entries);
        }
        let listed: HashMap<_, _> = fdb
            .entries(Seconds(now))
            .into_iter()
            .map(|entry| ((entry.vid.get(), entry.address), (entry.slot, entry.age.map(|age| now - age.0))))
            .collect();
        prop_assert_eq!(listed, model.0);
    }
}
