//! What a poll thread does with a command. Those that stop something are answered later: see
//! `stops.rs`.

mod changes;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use frame::PortId;
use ring::Consumer;
use virtio::Features;

use crate::command::{Command, Half, PortDescription, Reply, StartVring, Vring};
use crate::counters::{Counters, add};
use crate::queue::{Kind, Queue, Receiveq, RingState, Transmitq};
use crate::settings::Reception;
use crate::steering::MAX_QUEUES;
use crate::stops::Stop;
use crate::thread::{PollThread, Port};

/// Chunks of an interface's queue that may be lent, four times over: see `loans.rs`.
const INTERFACE_BUFFERS: usize = 1_024;

/// The same for a tap's: all of its 256 may be lent, and if none is left it takes no more in.
const TAP_BUFFERS: usize = 1_024;

impl PollThread {
    /// Carries out all commands that have arrived.
    pub(crate) fn take_commands(&mut self) {
        if self.commands.is_empty() {
            return;
        }
        while let Some(command) = next(&mut self.commands) {
            if let Some(reply) = self.carry_out(command) {
                self.reply(reply);
            }
        }
        add_queues(self);
    }

    pub(crate) fn reply(&self, reply: Reply) {
        // Nobody listens only if the data path is being dropped; then nobody needs the answer.
        let _ = self.replies.send(reply);
    }

    /// Carries out one command. `None` if its answer has to wait.
    fn carry_out(&mut self, command: Command) -> Option<Reply> {
        match command {
            Command::SetPort(description) => self.set_port(*description),
            Command::RemovePort(id) => self.remove_port(id),
            Command::StartVring(start) => self.start_vring(*start),
            Command::StopVring(port, pair, half) => return self.stop_vring(port, pair, half),
            Command::EnableVring(port, pair, half, is_enabled) => {
                self.enable_vring(port, pair, half, is_enabled);
            }
            Command::SetReception(port, reception) => self.set_reception(port, reception),
            Command::LogVring(port, pair, half, log) => self.log_vring(port, pair, half, log),
            Command::Announce(port, address) => self.announce(port, address),
            Command::AddQueue(port, pair, kind, counters) => {
                self.add_queue(port, pair, kind, counters);
            }
            Command::StopIntake(port, pair) => return self.stop_intake(port, pair),
            Command::StartIntake(port, pair) => self.start_intake(port, pair),
            Command::RemoveQueue(port, pair) => return self.remove_queue(port, pair),
            Command::Sync => {
                let mark = |link: &mut Option<_>| link.as_mut().map(crate::handover::Link::marker);
                self.stopping.push(Stop::Sync(self.links.iter_mut().map(mark).collect()));
                return None;
            }
            Command::Exit => self.is_running = false,
        }
        Some(Reply::Done)
    }

    fn set_port(&mut self, description: PortDescription) {
        let PortDescription { id, policy, learn_limit, traits, steering, counters } = description;
        self.bridge.set_port(id.slot, &policy, learn_limit);
        let Some(place) = self.ports.get_mut(usize::from(id.slot)) else { return };
        match place {
            Some(port) if port.id == id => {
                port.traits = traits;
                for place in port.queues.into_iter().flatten() {
                    if let Some(queue) = self.queues.get_mut(place) {
                        queue.traits = traits;
                    }
                }
            }
            _ => {
                let queues = [None; MAX_QUEUES];
                let reception = Reception::default();
                let port = Port { id, steering, counters, queues, traits, reception };
                *place = Some(Box::new(port));
            }
        }
    }

    fn remove_port(&mut self, id: PortId) {
        if self.port(id).is_some() {
            self.bridge.remove_port(id.slot);
            self.ports[usize::from(id.slot)] = None;
        }
    }

    /// The place of a port's queue in this thread's table.
    fn place(&self, port: PortId, pair: u8) -> Option<u16> {
        self.port(port)?.queues.get(usize::from(pair)).copied().flatten()
    }

    /// Puts a queue in the table and tells the port where it is.
    fn insert(&mut self, port: PortId, pair: u8, mut queue: Queue) -> Option<u16> {
        if let Some(port) = self.port(port) {
            queue.traits = port.traits;
            queue.set_reception(&port.reception);
        }
        let index = self.queues.insert(queue)?;
        let port = self.ports.get_mut(usize::from(port.slot))?.as_deref_mut()?;
        port.queues[usize::from(pair)] = Some(index);
        Some(index)
    }

    fn set_eligible(&mut self, index: u16) {
        let Some(queue) = self.queues.get_mut(index) else { return };
        let (id, pair, is_eligible) = (queue.port, queue.pair, queue.is_eligible());
        if let Some(port) = self.port(id) {
            port.steering.set_eligible(pair, is_eligible);
        }
    }

    fn start_vring(&mut self, start: StartVring) {
        let StartVring { port, pair, vring, size, kick, call, is_enabled, counters } = start;
        let index = self.place(port, pair).or_else(|| {
            let kind = Kind::Guest { transmitq: None, receiveq: None };
            self.insert(port, pair, Queue::new(port, pair, kind, counters))
        });
        let Some(index) = index else { return };
        let offloads = self.port(port).map_or(Features::NONE, |port| port.reception.offloads);
        let borrowers = self.links.iter().flatten().count();
        let mark = self.queues.mark(index);
        // A descriptor that cannot be watched leaves the queue polled for ever.
        let kick = kick.filter(|kick| self.bed.add(kick, mark).is_ok());
        let Some(queue) = self.queues.get_mut(index) else { return };
        let Kind::Guest { transmitq, receiveq } = &mut queue.kind else { return };
        let state = RingState::Running;
        // A predecessor may have died between publishing and notifying: say it once more.
        if let Some(call) = &call {
            call.signal();
        }
        match vring {
            Vring::Transmitq(ring) => {
                *transmitq = Some(Box::new(Transmitq { ring, kick, call, is_enabled, state }));
                queue.loans.reset(size, borrowers);
                self.start_polling(index);
            }
            Vring::Receiveq(mut ring) => {
                ring.limit_offloads(offloads);
                // Refilled buffers are found when they are needed, never announced.
                ring.disable_notifications();
                if let Some(kick) = &kick {
                    self.bed.remove(kick);
                }
                *receiveq = Some(Box::new(Receiveq { ring, call, is_enabled, state }));
                self.set_eligible(index);
            }
        }
    }

    fn stop_vring(&mut self, port: PortId, pair: u8, half: Half) -> Option<Reply> {
        let Some(index) = self.place(port, pair) else { return Some(Reply::Done) };
        let Some(queue) = self.queues.get_mut(index) else { return Some(Reply::Done) };
        let Kind::Guest { transmitq, receiveq } = &mut queue.kind else {
            return Some(Reply::Done);
        };
        match half {
            Half::Receiveq => {
                let stopped = receiveq.take();
                self.set_eligible(index);
                Some(stopped.map_or(Reply::Done, |ring| Reply::StoppedReceiveq(port, pair, ring)))
            }
            Half::Transmitq => {
                let Some(transmitq) = transmitq else { return Some(Reply::Done) };
                transmitq.state = RingState::Stopping;
                self.stopping.push(Stop::Transmitq(index));
                None
            }
        }
    }

    /// Adds a queue that is no guest's.
    fn add_queue(&mut self, port: PortId, pair: u8, kind: Kind, counters: Arc<Counters>) {
        let borrowers = self.links.iter().flatten().count();
        let buffers = if matches!(kind, Kind::Tap(..)) { TAP_BUFFERS } else { INTERFACE_BUFFERS };
        let mut queue = Queue::new(port, pair, kind, counters);
        queue.loans.reset(buffers, borrowers);
        queue.only_sends = true;
        let Some(index) = self.insert(port, pair, queue) else { return };
        let mark = self.queues.mark(index);
        if let Some(queue) = self.queues.get_mut(index)
            && let Some(descriptor) = queue.kind.descriptor()
            && let Err(error) = self.bed.add(descriptor, mark)
        {
            log::error!("epoll_ctl on a queue's descriptor failed, it may sleep late: {error}");
        }
        self.set_eligible(index);
    }

    fn start_intake(&mut self, port: PortId, pair: u8) {
        let Some(index) = self.place(port, pair) else { return };
        if let Some(queue) = self.queues.get_mut(index) {
            queue.only_sends = false;
        }
        self.start_polling(index);
    }

    fn stop_intake(&mut self, port: PortId, pair: u8) -> Option<Reply> {
        let Some(index) = self.place(port, pair) else { return Some(Reply::Done) };
        let Some(queue) = self.queues.get_mut(index) else { return Some(Reply::Done) };
        queue.only_sends = true;
        self.stopping.push(Stop::Intake(index));
        None
    }

    fn remove_queue(&mut self, port: PortId, pair: u8) -> Option<Reply> {
        let Some(index) = self.place(port, pair) else { return Some(Reply::Done) };
        let Some(queue) = self.queues.get_mut(index) else { return Some(Reply::Done) };
        if !matches!(queue.kind, Kind::Guest { .. }) {
            queue.is_leaving = true;
            self.set_eligible(index);
            self.stopping.push(Stop::Queue(index));
            return None;
        }
        self.take_out(index);
        Some(Reply::Done)
    }

    /// Takes a queue out of the table and of all lists.
    pub(crate) fn take_out(&mut self, index: u16) -> Option<Box<Queue>> {
        let queue = self.queues.remove(index)?;
        self.polled.retain(|&polled| polled != index);
        if let Some(Some(port)) = self.ports.get_mut(usize::from(queue.port.slot))
            && port.id == queue.port
        {
            port.steering.set_eligible(queue.pair, false);
            port.queues[usize::from(queue.pair)] = None;
        }
        Some(queue)
    }
}

/// Takes the next command and gives its slot back at once: whoever has an answer may send another,
/// and does so before this thread has found its ring empty, again and again if answering is slow.
fn next(commands: &mut Consumer<Command>) -> Option<Command> {
    let command = commands.pop()?;
    commands.release();
    Some(command)
}

/// Keeps the number of queues that statistics show, and whether the I/O thread has any.
pub(crate) fn add_queues(thread: &PollThread) {
    let counter = &thread.counters.queues;
    let now = thread.queues.len() as u64;
    add(counter, now.wrapping_sub(counter.load(Ordering::Relaxed)));
    if thread.index == thread.io_thread {
        // Nothing else hangs on it.
        thread.io_has_queues.store(now > 0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slot_of_a_command_is_free_before_its_answer() {
        let (mut sender, mut commands) = ring::ring(1);

        for _ in 0..3 {
            assert!(sender.push(Command::Sync).is_ok());
            sender.publish();
            assert!(matches!(next(&mut commands), Some(Command::Sync)));
        }
    }
}
