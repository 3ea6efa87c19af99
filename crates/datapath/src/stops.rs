//! Commands that stop something, and when they are answered.
//!
//! Stopping takes three steps: intake ends, everything lent comes back, the used ring is
//! published. Only then is the answer given, so that memory may be unmapped and a ring's index
//! told to the front end.

use ring::Marker;

use crate::command::Reply;
use crate::commands::add_queues;
use crate::queue::Kind;
use crate::thread::PollThread;

/// A command whose answer has to wait.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A transmitq whose lent frames have to come back.
    Transmitq(u16),
    /// A queue that is no guest's likewise.
    Queue(u16),
    /// The same for one that stays.
    Intake(u16),
    /// Everything before these places in the hand-over rings, by thread.
    Sync(Vec<Option<Marker>>),
}

impl PollThread {
    /// Answers the stops whose conditions have come true.
    pub(crate) fn finish_stops(&mut self) {
        let mut waiting = std::mem::take(&mut self.stopping);
        waiting.retain(|stop| match self.finish_stop(stop) {
            Some(reply) => {
                self.reply(reply);
                false
            }
            None => true,
        });
        waiting.append(&mut self.stopping);
        self.stopping = waiting;
        add_queues(self);
    }

    fn finish_stop(&mut self, stop: &Stop) -> Option<Reply> {
        match stop {
            Stop::Sync(markers) => {
                let passed = |(link, marker): (&Option<crate::handover::Link>, &Option<Marker>)| {
                    link.as_ref().zip(*marker).is_none_or(|(link, marker)| link.has_passed(marker))
                };
                self.links.iter().zip(markers).all(passed).then_some(Reply::Done)
            }
            Stop::Transmitq(index) => {
                let Some(queue) = self.queues.get_mut(*index) else { return Some(Reply::Done) };
                if !queue.is_settled() {
                    return None;
                }
                let (port, pair) = (queue.port, queue.pair);
                let Kind::Guest { transmitq, .. } = &mut queue.kind else {
                    return Some(Reply::Done);
                };
                let stopped = transmitq.take();
                if let Some(kick) = stopped.as_ref().and_then(|stopped| stopped.kick.as_ref()) {
                    self.bed.remove(kick);
                }
                Some(stopped.map_or(Reply::Done, |ring| Reply::StoppedTransmitq(port, pair, ring)))
            }
            Stop::Intake(index) => {
                let queue = self.queues.get_mut(*index);
                queue.is_none_or(|queue| queue.is_settled()).then_some(Reply::Done)
            }
            Stop::Queue(index) => {
                if !self.queues.get_mut(*index).is_none_or(|queue| queue.is_settled()) {
                    return None;
                }
                let Some(queue) = self.take_out(*index) else { return Some(Reply::Done) };
                if let Some(descriptor) = queue.kind.descriptor() {
                    self.bed.remove(descriptor);
                }
                Some(Reply::RemovedQueue(queue.port, queue.pair, queue.kind))
            }
        }
    }
}
