//! Migration under load: a guest's writes are logged and its pages copied while frames come, then it
//! is stopped, and goes on at another port, or where it is.
//!
//! ```text
//!   log on ── copy what is marked, again and again ──┬── log off, it stays
//!                                                    └── guest stops ── rings stop ── compare
//!                                                          ├── it goes on where it is
//!                                                          └── it goes on at the spare port
//! ```
//!
//! Memory and rings are the same before and after: what is copied is compared with them, as the target
//! would have it.

use serde_json::json;
use virtio::testing::TestLog;

use super::audit::Frames;
use super::traffic::address;
use super::world::World;
use crate::support::page_copy::PageCopy;
use crate::support::wait_for;

/// Rounds of traffic while a guest runs and its memory is copied.
const ROUNDS_COPIED: usize = 4;

/// Rounds of traffic of all others while it stands still and its rings run.
const ROUNDS_STOPPED: usize = 2;

/// How a migration ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is cancelled while the guest runs.
    Cancelled,
    /// It fails when the guest has stopped.
    Failed,
    /// The guest is at another port.
    Moved,
}

impl World {
    /// A guest migrates.
    pub(super) fn migrate(&mut self, index: usize, ending: Ending) {
        let front_end = &mut self.guests[index].front_end;
        let log = front_end.new_log();
        front_end.share_log(&log);
        front_end.set_logging(true);
        let mut copy = PageCopy::default();
        for range in front_end.written_by_switch_at_most() {
            copy.copy(&front_end.memory, &range);
        }
        self.pump_and_copy(ROUNDS_COPIED, index, &mut copy, &log);
        if ending == Ending::Cancelled {
            self.cancel(index, &log);
            return;
        }
        self.stop(index, &mut copy, &log);
        match ending {
            Ending::Moved => self.go_on_elsewhere(index),
            _ => self.guests[index].front_end.resume(),
        }
        self.guests[index].is_stopped = false;
        self.guests[index].wake_up();
    }

    fn pump_and_copy(&mut self, rounds: usize, index: usize, copy: &mut PageCopy, log: &TestLog) {
        for _ in 0..rounds {
            self.pump();
            copy.take(&self.guests[index].front_end.memory, log);
        }
    }

    /// Nothing is logged any more, and nothing else is another.
    fn cancel(&mut self, index: usize, log: &TestLog) {
        self.guests[index].front_end.set_logging(false);
        drop(log.take());
        self.pump();
        let marked = log.take();
        assert!(marked.is_empty(), "logged after the migration was cancelled: {marked:x?}");
    }

    /// The guest stops, then its rings do, and the copy is what its memory is.
    fn stop(&mut self, index: usize, copy: &mut PageCopy, log: &TestLog) {
        let guest = &mut self.guests[index];
        guest.is_stopped = true;
        // Its own writes are logged by others.
        for range in guest.front_end.packed_descriptors() {
            copy.copy(&guest.front_end.memory, &range);
        }
        self.pump_and_copy(ROUNDS_STOPPED, index, copy, log);
        let front_end = &mut self.guests[index].front_end;
        front_end.stop_all_where_they_are();
        copy.take(&front_end.memory, log);
        for range in front_end.written_by_switch_at_most() {
            copy.compare(&front_end.memory, &range);
        }
        assert!(copy.marked > 0, "nothing was logged under load");
    }

    /// It continues at the spare port, which its former one becomes, and is announced.
    fn go_on_elsewhere(&mut self, index: usize) {
        self.moves += 1;
        let (name, socket) = self.spare.clone();
        let guest = &mut self.guests[index];
        guest.take_all(&mut self.ledger, self.time);
        let seen = Frames { frames_in: guest.given_back(), frames_out: guest.received };
        let (former, vlan) = (guest.name.clone(), guest.vlan);
        self.ask("port.set", &json!({ "name": name, "access": vlan }));
        self.audit.compare(&self.statistics_of(&former), seen);
        self.audit.begin(&self.statistics_of(&name), seen);
        let guest = &mut self.guests[index];
        guest.front_end.move_to(&socket);
        guest.begin_session();
        let socket = std::mem::replace(&mut guest.socket, socket);
        self.spare = (std::mem::replace(&mut guest.name, name), socket);
        for pair in 0..u8::try_from(guest.pairs_now()).unwrap() {
            let address = address(guest.index, pair);
            self.ledger.expect_announcement(address, vlan, self.time.epoch);
            guest.front_end.send_rarp(address);
        }
        self.await_learned(index);
    }

    /// Its first address leads to the port where it is now.
    fn await_learned(&self, index: usize) {
        let guest = &self.guests[index];
        let [a, b, c, d, e, f] = address(guest.index, 0);
        let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
        let expected = json!([mac, guest.vlan, guest.name]);
        wait_for("the guest to be learned where it is", || {
            let listed = self.ask("fdb.list", &json!({}));
            let entries = listed["entries"].as_array().unwrap();
            let told = |entry: &serde_json::Value| {
                json!([entry["mac"], entry["vlan"], entry["port"]]) == expected
            };
            entries.iter().any(told).then_some(())
        });
    }
}
