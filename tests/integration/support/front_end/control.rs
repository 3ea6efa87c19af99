//! A driver that gives commands on its control queue.

use rustix::fd::AsFd;
use virtio::Features;
use virtio::testing::Buffer;

use super::{BUFFER_STEP, FrontEnd, GET_FEATURES, SET_VRING_KICK};
use crate::support::messages::SET_VRING_ERR;
use crate::support::wait_for;

/// What stands in place of an answer before it comes.
const UNANSWERED: u8 = 0xaa;

/// Descriptors of a command: two of it, one for the answer.
const DESCRIPTORS: u16 = 3;

impl FrontEnd {
    /// The control queue's ring.
    pub(crate) fn control_ring(&self) -> usize {
        2 * usize::from(self.manner.queue_pairs)
    }

    /// What the switch offers.
    pub(crate) fn offered(&mut self) -> Features {
        self.conversation.send(GET_FEATURES, &[], &[]);
        Features(self.conversation.reply_u64())
    }

    /// Gives a command, and waits for the answer: 0 for done, 1 for an error.
    pub(crate) fn order(&mut self, command: &[u8]) -> u8 {
        let answer = self.begin_order(command);
        self.await_answer(answer)
    }

    /// Waits for the answer there.
    pub(crate) fn await_answer(&mut self, answer: u64) -> u8 {
        let index = self.control_ring();
        let driver = &mut self.rings[index].driver;
        let used = wait_for("an answer", || driver.take_used());
        assert_eq!(used.written_bytes, 1);
        self.memory.read(answer, 1)[0]
    }

    /// Gives a command. Returns where its answer will be.
    pub(crate) fn begin_order(&mut self, command: &[u8]) -> u64 {
        let index = self.control_ring();
        let ring = &mut self.rings[index];
        let head = ring.take_head();
        // The last descriptors of the ring would be others'.
        let head = if head > 100 { 0 } else { head };
        ring.next_head = head + DESCRIPTORS;
        let (data, answer) = (ring.buffer(head), ring.buffer(head) + BUFFER_STEP - 1_024);
        self.memory.write(data, command);
        self.memory.write(answer, &[UNANSWERED]);
        let cut = command.len().min(2);
        let [first, second] =
            [cut, command.len() - cut].map(|length| u32::try_from(length).unwrap());
        let parts = [
            Buffer::readable(data, first),
            Buffer::readable(data + u64::from(first), second),
            Buffer::writable(answer, 1),
        ];
        if self.manner.indirect {
            ring.driver.describe_indirect(head, answer + 64, &parts);
        } else {
            ring.driver.describe_chain(head, &parts);
        }
        ring.notify(head);
        answer
    }

    /// Gives a command that has no room for an answer.
    pub(crate) fn order_without_room(&mut self) {
        let index = self.control_ring();
        let ring = &mut self.rings[index];
        let head = ring.take_head();
        let data = ring.buffer(head);
        ring.post(head, Buffer::readable(data, 2));
    }

    /// Has the switch look at the control queue by itself: the driver never kicks.
    pub(crate) fn give_no_kicks(&mut self) {
        const NO_DESCRIPTOR: u64 = 1 << 8;
        let ring = self.control_ring() as u64;
        self.conversation.send_u64(SET_VRING_KICK, &[ring | NO_DESCRIPTOR], &[]);
        self.synchronise();
        let index = self.control_ring();
        self.rings[index].kick = self.rings[0].call.try_clone().unwrap();
    }

    /// Wants to hear when the control queue is broken. Returns the descriptor that says so.
    pub(crate) fn hear_of_faults(&mut self) -> std::os::fd::OwnedFd {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let err = rustix::event::eventfd(0, flags).unwrap();
        self.send_descriptor(SET_VRING_ERR, self.control_ring() as u64, err.as_fd());
        err
    }

    /// Starts a ring that was stopped, with a driver that begins anew.
    pub(crate) fn renew_control_ring(&mut self) {
        let index = self.control_ring();
        self.renew_ring(index);
        self.start(index);
        self.synchronise();
    }
}
