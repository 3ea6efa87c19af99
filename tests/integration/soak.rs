//! The soak: guests of every manner under load, and everything that can happen to them and to the
//! switch, at random, for a minute or as long as one likes.
//!
//! `RINGWAY_SOAK_SEED` and `RINGWAY_SOAK_SECONDS` set the run. The same seed leads to the same
//! steps; how far the frames are meanwhile is the machine's affair. Checked all along:
//!
//! - work that waits is served (`watch.rs`), and a driver that sleeps is called;
//! - a frame that comes was sent, is intact, in its VLAN, not old, and in its place (`traffic.rs`);
//! - the counters are what the guests have seen, and add up (`audit.rs`);
//! - without guests the switch holds what it held before they came;
//! - the log has no panic, and no guest is said to have broken the rules.

mod audit;
mod guest;
mod host;
mod manners;
mod moves;
mod steps;
mod story;
mod traffic;
mod watch;
mod world;

use story::Story;
use world::World;

/// Most rounds of traffic between two steps.
const ROUNDS_BETWEEN_STEPS: usize = 12;

/// Steps between two audits.
const STEPS_BETWEEN_AUDITS: u64 = 100;

/// Audits between two in which all guests leave.
const AUDITS_BETWEEN_LEAVINGS: u64 = 2;

#[test]
#[ignore = "a minute of load: a step of its own in scripts/test"]
fn guests_that_come_and_go_at_random_under_load_are_served_and_leave_nothing_behind() {
    let mut world = World::new(Story::new());

    while !world.story.is_over() {
        for _ in 0..=world.story.steps.below(ROUNDS_BETWEEN_STEPS) {
            world.pump();
        }
        world.step();
        let (audit, rest) =
            (world.story.step / STEPS_BETWEEN_AUDITS, world.story.step % STEPS_BETWEEN_AUDITS);
        match rest {
            0 if audit % AUDITS_BETWEEN_LEAVINGS == 0 => world.empty(),
            0 => world.settle(),
            _ => {}
        }
    }
    // Twice, so that a switch that has just begun is compared with itself.
    for _ in 0..2 {
        world.settle();
        (0..100).for_each(|_| world.pump());
        world.empty();
    }

    world.report();
}
