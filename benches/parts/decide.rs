//! The forwarding decision, with the tag for the egress port: what is done for each frame between
//! receiving it and copying it.
//!
//! Frames go from one port to another. How many stations are known decides how much of the
//! filtering database a core has to keep in its caches: 65,536 fill its 1 MiB to the half.
//!
//! | bench                 | source                | destination            |
//! |-----------------------|-----------------------|------------------------|
//! | `known`               | the same, so learning | all the stations that  |
//! |                       | is skipped            | are behind the port    |
//! | `known_many_sources`  | another each time, so | as above               |
//! |                       | each is looked up     |                        |
//! | `unknown`             | the same              | none that was learned  |
//! | `trunk`               | as `known_many_sources`, tagged in one of 100 VLANs    |
//!
//! By the burst, as poll threads do it.

use std::hint::black_box;
use std::sync::Arc;

use bridge::{
    Bridge, DEFAULT_ADDRESSES, DEFAULT_AGEING, Decisions, Egress, Fdb, Seconds, VlanPolicy,
};
use criterion::{BenchmarkId, Criterion};
use frame::{BURST_FRAMES, Header, VlanId};

use crate::frames::{address, header, random_round, vlan};
use crate::{ROUND, part, time_rounds};

/// How many addresses are known.
const STATIONS: [u32; 3] = [2, 1_000, 65_536];

/// Even stations are behind this port, and all frames come from it.
const INGRESS: u16 = 1;
/// Odd stations are behind this one.
const EGRESS: u16 = 2;

/// A moment; the decision is given the time and does not ask.
const NOW: Seconds = Seconds(1_000);

/// VLANs of the trunks: 100 and the following.
const TRUNK_VLANS: u32 = 100;

/// Any number: the filtering database's entries lie in the same places in each run.
const SEED: u64 = 1;

/// A bridge of two ports, the headers of all frames, and those of the current round.
struct World {
    bridge: Bridge,
    headers: Vec<Header>,
    state: u64,
    round: Vec<Header>,
    decisions: Decisions,
}

impl World {
    /// A bridge that has learned `stations`, each in the VLAN that `vid` says, and frames that
    /// `header` makes of their places: half as many as there are stations.
    fn new(
        policy: &VlanPolicy,
        stations: u32,
        vid: impl Fn(u32) -> VlanId,
        header: impl FnMut(u32) -> Header,
    ) -> Self {
        let fdb = Arc::new(Fdb::with_seed(DEFAULT_ADDRESSES, DEFAULT_AGEING, SEED));
        for station in 0..stations {
            let slot = if station % 2 == 0 { INGRESS } else { EGRESS };
            let _ = fdb.learn(vid(station), address(station), slot, u32::MAX, NOW);
        }
        assert_eq!(fdb.statistics().entries, stations, "every station has an entry");
        let mut bridge = Bridge::new(fdb);
        for slot in [INGRESS, EGRESS] {
            bridge.set_port(slot, policy, u32::MAX);
        }
        let headers = (0..stations / 2).map(header).collect();
        Self {
            bridge,
            headers,
            state: 0,
            round: Vec::with_capacity(ROUND),
            decisions: Decisions::default(),
        }
    }

    /// Says whether every frame is forwarded like this.
    fn forwards_all(&mut self, egress: Egress) -> bool {
        let Self { bridge, headers, .. } = self;
        let mut forwards = headers.iter().map(|header| bridge.decide(INGRESS, header, NOW));
        forwards.all(|forward| forward.is_ok_and(|forward| forward.egress == egress))
    }

    fn prepare(&mut self) {
        random_round(&mut self.round, &self.headers, &mut self.state);
    }

    fn decide(&mut self) {
        let Self { bridge, round, decisions, .. } = self;
        for burst in round.chunks(BURST_FRAMES) {
            bridge.decide_all(INGRESS, black_box(burst).iter().enumerate(), NOW, decisions);
            for forward in decisions.runs().flat_map(|run| run.decision) {
                black_box(bridge.egress_tag(EGRESS, &forward));
            }
        }
    }
}

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = part(criterion, "decide");
    for stations in STATIONS {
        let worlds = [
            ("known", known(stations), Egress::Port(EGRESS)),
            ("known_many_sources", known_many_sources(stations), Egress::Port(EGRESS)),
            ("unknown", unknown(stations), Egress::Flood),
            ("trunk", trunk(stations), Egress::Port(EGRESS)),
        ];
        for (name, mut world, egress) in worlds {
            assert!(world.forwards_all(egress), "{name} does what it says");
            group.bench_function(BenchmarkId::new(name, stations), |bencher| {
                time_rounds(bencher, &mut world, ROUND, World::prepare, World::decide);
            });
        }
    }
    group.finish();
}

fn known(stations: u32) -> World {
    access(stations, |pair| header(0, 2 * pair + 1, None))
}

fn known_many_sources(stations: u32) -> World {
    access(stations, |pair| header(2 * pair, 2 * pair + 1, None))
}

fn unknown(stations: u32) -> World {
    access(stations, |pair| header(0, stations + pair, None))
}

/// Two access ports of one VLAN.
fn access(stations: u32, header: impl FnMut(u32) -> Header) -> World {
    World::new(&VlanPolicy::default(), stations, |_| VlanId::DEFAULT, header)
}

/// Two trunks without native VLAN: a frame comes with a tag and leaves with it.
fn trunk(stations: u32) -> World {
    let vid = |pair: u32| vlan(100 + u16::try_from(pair % TRUNK_VLANS).expect("below 100"));
    let members = (0..TRUNK_VLANS).map(vid).collect();
    let policy = VlanPolicy::Trunk { members, native: None };
    let header = |pair| header(2 * pair, 2 * pair + 1, Some(vid(pair).into()));
    World::new(&policy, stations, |station| vid(station / 2), header)
}
