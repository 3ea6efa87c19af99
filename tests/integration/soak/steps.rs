//! What happens to guests and the switch at random, and how it ends.

use serde_json::{Value, json};

use super::audit::{Frames, adds_up, check_log};
use super::manners::MANNERS;
use super::moves::Ending;
use super::world::World;
use crate::support::front_end::RING_ENTRIES;
use crate::support::wait_for;

/// Most steps that something stays wrong.
const LASTING_STEPS: usize = 25;

impl World {
    /// Something happens.
    pub(super) fn step(&mut self) {
        self.story.step += 1;
        self.mend(self.story.step);
        let index = self.story.steps.below(self.guests.len());
        let roll = self.story.steps.below(240);
        match roll {
            0 => self.tell_and("the switch is killed", Self::kill),
            1 => self.tell_and("another switch takes over", Self::take_over),
            2..8 => self.remove_port(index),
            8..16 => self.change_vlan(index),
            16..22 => self.change_offloads(index),
            22..26 => self.remove_host(self.story.step + 5),
            _ if self.guests[index].is_served() => self.change_session(index, roll),
            _ => {}
        }
    }

    /// Something happens to a guest that is served.
    fn change_session(&mut self, index: usize, roll: usize) {
        let until =
            self.story.step + 1 + u64::try_from(self.story.steps.below(LASTING_STEPS)).unwrap();
        let name = self.guests[index].name.clone();
        let is_odd = roll % 2 == 1;
        match roll {
            26..40 => {
                self.story.tell(&format!("{name} {}", ["leaves", "vanishes"][roll % 2]));
                self.away(index, until, is_odd);
            }
            40..60 => {
                let manner = is_odd.then(|| self.story.steps.below(MANNERS.len()));
                self.story.tell(&format!("{name} is reset, and has manner {manner:?}"));
                let guest = &mut self.guests[index];
                guest.front_end.begin_reset();
                guest.harvest(&mut self.ledger, self.time);
                if let Some(manner) = manner {
                    guest.take_manner(MANNERS[manner]);
                }
                guest.front_end.start_anew();
                guest.pairs.iter_mut().for_each(|pair| pair.off_until = None);
                guest.wake_up();
            }
            60..95 => {
                let ring = self.story.steps.below(2 * self.guests[index].pairs_now());
                self.story.tell(&format!("{name} stops and starts ring {ring}"));
                self.guests[index].front_end.restart(ring);
            }
            95..125 => {
                let pair = self.story.steps.below(self.guests[index].pairs_now());
                self.story.tell(&format!("{name} switches pair {pair} off"));
                self.switch_pair(index, pair, false);
                self.guests[index].pairs[pair].off_until = Some(until);
            }
            125..140 => {
                self.story.tell(&format!("{name} loses its memory"));
                let guest = &mut self.guests[index];
                // All at once: rings run on as long as they are there, buffers or not.
                guest.change_table(&[]);
                guest.front_end.remove_region();
                guest.front_end.synchronise();
                guest.no_memory_until = Some(until);
            }
            140..160 => {
                self.story.tell(&format!("{name} gets or loses memory beside that of its rings"));
                self.guests[index].change_memory();
            }
            160..168 => {
                let rings = 2 * self.guests[index].pairs_now();
                let entries = usize::from(RING_ENTRIES);
                let buffer = u16::try_from(self.story.steps.below(entries)).unwrap();
                let cut = [(self.story.steps.below(rings), buffer)];
                let cuts = if is_odd { &cut[..] } else { &[] };
                self.story.tell(&format!("{name} has its memory cut at {cuts:?}"));
                self.guests[index].change_table(cuts);
            }
            168..180 => {
                self.story.tell(&format!("{name} reads nothing"));
                self.guests[index].deaf_until = Some(until);
            }
            200..224 => {
                let ending = [Ending::Cancelled, Ending::Failed, Ending::Moved, Ending::Moved];
                let ending = ending[self.story.steps.below(ending.len())];
                self.story.tell(&format!("{name} migrates: {ending:?}"));
                self.migrate(index, ending);
            }
            _ => {
                self.story.tell(&format!("{name} comes back with its rings as they are"));
                let guest = &mut self.guests[index];
                guest.hang_up(is_odd);
                guest.front_end.reconnect(&guest.socket);
                guest.begin_session();
            }
        }
    }

    fn tell_and(&mut self, what: &str, act: impl FnOnce(&mut Self)) {
        self.story.tell(what);
        act(self);
        self.story.tell("that is done");
    }

    /// Ends what has lasted up to this step.
    fn mend(&mut self, step: u64) {
        let is_due = |until: Option<u64>| until.is_some_and(|until| until <= step);
        if is_due(self.host.until) {
            self.add_host();
        }
        for index in 0..self.guests.len() {
            if is_due(self.guests[index].away_until) {
                self.come_back(index);
            }
            let guest = &mut self.guests[index];
            if is_due(guest.no_memory_until) {
                self.story.tell(&format!("{} has its memory again", guest.name));
                guest.front_end.add_region();
                guest.front_end.synchronise();
                guest.no_memory_until = None;
            }
            if is_due(guest.deaf_until) {
                self.story.tell(&format!("{} reads again", guest.name));
                guest.deaf_until = None;
            }
            for pair in 0..self.guests[index].pairs_now() {
                if is_due(self.guests[index].pairs[pair].off_until) {
                    let name = &self.guests[index].name;
                    self.story.tell(&format!("{name} switches pair {pair} on"));
                    self.guests[index].pairs[pair].off_until = None;
                    self.switch_pair(index, pair, true);
                }
            }
        }
    }

    fn switch_pair(&mut self, index: usize, pair: usize, is_on: bool) {
        let front_end = &mut self.guests[index].front_end;
        for ring in [2 * pair, 2 * pair + 1] {
            front_end.enable(u16::try_from(ring).unwrap(), is_on);
        }
        front_end.synchronise();
    }

    fn away(&mut self, index: usize, until: u64, is_sudden: bool) {
        let guest = &mut self.guests[index];
        guest.hang_up(is_sudden);
        guest.begin_session();
        guest.away_until = Some(until);
    }

    fn come_back(&mut self, index: usize) {
        self.story.tell(&format!("{} comes back", self.guests[index].name));
        if !self.guests[index].has_port {
            self.add_port(index);
        }
        let manner = self.story.steps.below(3 * MANNERS.len());
        let guest = &mut self.guests[index];
        guest.harvest(&mut self.ledger, self.time);
        if let Some(&manner) = MANNERS.get(manner) {
            guest.take_manner(manner);
        }
        guest.front_end.boot(&guest.socket);
        guest.begin_session();
    }

    fn remove_port(&mut self, index: usize) {
        let guest = &self.guests[index];
        if !guest.has_port {
            return;
        }
        let name = guest.name.clone();
        self.story.tell(&format!("the port of {name} is removed"));
        self.ask("port.remove", &json!({ "name": name }));
        self.audit.forget(&name);
        let until =
            self.story.step + 1 + u64::try_from(self.story.steps.below(LASTING_STEPS)).unwrap();
        self.away(index, until, true);
        self.guests[index].has_port = false;
    }

    fn change_vlan(&mut self, index: usize) {
        if self.guests[index].has_port {
            let vlan = [1, 1, 2][self.story.steps.below(3)];
            let name = self.guests[index].name.clone();
            self.story.tell(&format!("{name} is in VLAN {vlan}"));
            // What was sent under the former setting may come under the new one, and it takes
            // both epochs to tell that it may.
            self.ask("port.set", &json!({ "name": name, "access": vlan }));
            self.guests[index].vlan = vlan;
            self.time.epoch += 1;
        }
    }

    fn change_offloads(&mut self, index: usize) {
        if self.guests[index].has_port {
            let is_on = self.story.steps.below(2) == 1;
            let name = self.guests[index].name.clone();
            self.story.tell(&format!("{name} may have offloads: {is_on}"));
            self.ask("port.set", &json!({ "name": name, "offloads": is_on }));
        }
    }

    /// Everything is mended, everything that was sent comes, and the accounts are compared.
    pub(super) fn settle(&mut self) {
        self.story.tell("audit");
        self.mend(u64::MAX);
        wait_for("quiet", || {
            let came = self.receive();
            let is_done = self.guests.iter_mut().all(|guest| guest.is_done());
            (!came && is_done && self.all_adds_up()).then_some(())
        });
        // What was on its way into a ring when the counters were looked at.
        while self.receive() {}
        for index in 0..self.guests.len() {
            let of_guest = self.statistics_of(&self.guests[index].name);
            let guest = &mut self.guests[index];
            let seen = Frames { frames_in: guest.given_back(), frames_out: guest.received };
            self.audit.compare(&of_guest, seen);
        }
        check_log(&self.switch);
    }

    /// The counters of a port.
    pub(super) fn statistics_of(&self, port: &str) -> Value {
        let statistics = self.ask("stats.get", &json!({}));
        let ports = statistics["ports"].as_array().unwrap();
        ports.iter().find(|told| told["name"] == port).unwrap().clone()
    }

    fn all_adds_up(&self) -> bool {
        let statistics = self.ask("stats.get", &json!({}));
        statistics["ports"].as_array().unwrap().iter().all(adds_up)
    }

    /// All guests leave, and the switch must be as it was before they came.
    pub(super) fn empty(&mut self) {
        self.settle();
        self.story.tell("all leave");
        let next = self.story.step + 1;
        for index in 0..self.guests.len() {
            self.away(index, next, index % 2 == 1);
        }
        self.audit.compare_footprint(&self.switch);
    }
}
