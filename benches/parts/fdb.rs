//! The filtering database by itself: one table, one thread, the default of 65,536 addresses.
//!
//! | bench             | what is written                                                  |
//! |-------------------|------------------------------------------------------------------|
//! | `look_up_hit`     | nothing; mostly one line read                                    |
//! | `look_up_miss`    | nothing; both lines read                                         |
//! | `learn_unchanged` | nothing: known behind this port, heard in this unit of time      |
//! | `learn_refreshed` | the entry's age: once a station and unit                         |
//! | `learn_new`       | an entry and the counts, in a table that is up to half full      |

use std::hint::black_box;

use bridge::{DEFAULT_ADDRESSES, DEFAULT_AGEING, Fdb, Flush, Learned, Seconds};
use criterion::{BenchmarkId, Criterion};
use frame::{MacAddr, VlanId};

use crate::frames::{address, next_round};
use crate::{ROUND, part, time_rounds};

/// How many addresses are known.
const STATIONS: [u32; 3] = [2, 1_000, 65_536];

const VID: VlanId = VlanId::DEFAULT;
const SLOT: u16 = 1;

/// More than the unit in which ages are counted, at the default ageing time: 4 s.
const UNIT_SECONDS: u32 = 4;

/// Any number: entries lie in the same places in each run.
const SEED: u64 = 1;

/// A table, the addresses to ask it for, and those of the current round.
struct World {
    fdb: Fdb,
    addresses: Vec<MacAddr>,
    next: usize,
    round: Vec<MacAddr>,
    now: Seconds,
}

impl World {
    /// A table that has learned `stations`, to be asked for those that `asked` names.
    fn new(stations: u32, asked: impl Iterator<Item = u32>) -> Self {
        let fdb = Fdb::with_seed(DEFAULT_ADDRESSES, DEFAULT_AGEING, SEED);
        let now = Seconds(0);
        let addresses = asked.map(address).collect();
        let world = Self { fdb, addresses, next: 0, round: Vec::with_capacity(ROUND), now };
        for station in 0..stations {
            assert_eq!(world.learn(address(station)), Learned::New);
        }
        world
    }

    fn learn(&self, address: MacAddr) -> Learned {
        self.fdb.learn(VID, address, SLOT, u32::MAX, self.now)
    }

    fn prepare(&mut self) {
        next_round(&mut self.round, &self.addresses, &mut self.next);
    }

    /// As `prepare`, in the next unit of time.
    fn prepare_later(&mut self) {
        self.now = Seconds(self.now.0.wrapping_add(UNIT_SECONDS));
        self.prepare();
    }

    /// As `prepare`, and forgets all before the first address comes again.
    fn prepare_new(&mut self) {
        if self.next == 0 {
            self.fdb.flush(Flush::default());
        }
        self.prepare();
    }

    fn look_up_all(&mut self) {
        for address in &self.round {
            black_box(self.fdb.look_up(VID, *black_box(address)));
        }
    }

    fn learn_all(&mut self) {
        for address in &self.round {
            black_box(self.learn(*black_box(address)));
        }
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "fdb");
    for stations in STATIONS {
        let mut hits = World::new(stations, 0..stations);
        group.bench_function(BenchmarkId::new("look_up_hit", stations), |bencher| {
            time_rounds(bencher, &mut hits, ROUND, World::prepare, World::look_up_all);
        });
        let mut misses = World::new(stations, stations..2 * stations);
        group.bench_function(BenchmarkId::new("look_up_miss", stations), |bencher| {
            time_rounds(bencher, &mut misses, ROUND, World::prepare, World::look_up_all);
        });
    }
    for stations in STATIONS {
        let mut known = World::new(stations, 0..stations);
        group.bench_function(BenchmarkId::new("learn_unchanged", stations), |bencher| {
            time_rounds(bencher, &mut known, ROUND, World::prepare, World::learn_all);
        });
    }
    let mut aged = World::new(65_536, 0..65_536);
    group.bench_function("learn_refreshed/65536", |bencher| {
        time_rounds(bencher, &mut aged, ROUND, World::prepare_later, World::learn_all);
    });
    let mut new = World::new(0, 0..32_768);
    group.bench_function("learn_new", |bencher| {
        time_rounds(bencher, &mut new, ROUND, World::prepare_new, World::learn_all);
    });
    group.finish();
}
