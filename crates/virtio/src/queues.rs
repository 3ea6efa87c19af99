//! The queues of a network device as those who work them have them: with whichever ring the driver agreed
//! to. Which it is, is asked once a call; all behind that is made for each kind of ring by itself.

use frame::{Burst, Completing, Joined, Outgoing, Reader};

use crate::control::{Acknowledgement, Control};
use crate::offload::{NetHeader, Receiver};
use crate::receive::{Receive, Refusal};
use crate::transmit::Transmit;
use crate::vring::{Packed, Split};
use crate::{Features, QueueFault, SetupError, VringLog, VringSetup};

/// The transmitq of a guest: our ingress. One owner at a time.
///
/// Dropping it while frames are [`outstanding`](Self::outstanding) keeps the guest's memory
/// mapped for ever, because their extents may still be read.
#[derive(Debug)]
pub struct TransmitQueue(Kind<Transmit<Split>, Transmit<Packed>>);

/// The receiveq of a guest: our egress. One owner at a time.
#[derive(Debug)]
pub struct ReceiveQueue(Kind<Receive<Split>, Receive<Packed>>);

/// The control queue of a guest (5.1.6.5). One owner at a time, who is in no hurry.
#[derive(Debug)]
pub struct ControlQueue(Kind<Control<Split>, Control<Packed>>);

/// A queue with either ring.
#[derive(Debug)]
enum Kind<S, P> {
    Split(S),
    Packed(P),
}

/// Does the same to a queue of either kind.
macro_rules! either {
    ($queue:expr, $name:ident => $work:expr) => {
        match $queue {
            Kind::Split($name) => $work,
            Kind::Packed($name) => $work,
        }
    };
}

impl TransmitQueue {
    /// Starts working the ring, with notifications from the driver asked for.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring is not in guest memory, or not as such a ring must be.
    #[expect(clippy::needless_pass_by_value, reason = "who makes a queue is done with its setup")]
    pub fn new(setup: VringSetup) -> Result<Self, SetupError> {
        Ok(Self(if setup.features.contains(Features::RING_PACKED) {
            Kind::Packed(Transmit::new(&setup)?)
        } else {
            Kind::Split(Transmit::new(&setup)?)
        }))
    }

    /// Takes up to `limit` frames ([`BURST_FRAMES`](frame::BURST_FRAMES) at most) and appends them to
    /// `burst`, with the numbers of their chains as tokens. Returns how many were appended. Zero with
    /// more available is possible: frames that are bad are counted in `burst.dropped` and completed
    /// at once.
    ///
    /// # Errors
    ///
    /// [`QueueFault`] if the guest broke the ring: the caller stops the queue. Frames taken
    /// before in the same call are in the burst all the same, and are to be completed.
    pub fn receive(&mut self, burst: &mut Burst, limit: usize) -> Result<usize, QueueFault> {
        either!(&mut self.0, queue => queue.receive(burst, limit))
    }

    /// The frame of this token is delivered or dropped everywhere: its buffer may go back.
    ///
    /// Calls may come in any order. A token that is not out is ignored.
    #[inline]
    pub fn complete(&mut self, token: u64) {
        either!(&mut self.0, queue => queue.complete(token));
    }

    /// The same for all that the last [`receive`](Self::receive) has taken.
    #[inline]
    pub fn complete_burst(&mut self) {
        either!(&mut self.0, queue => queue.complete_burst());
    }

    /// Gives the completed prefix back to the driver, visible at once. True if the driver asked
    /// to be notified of that.
    pub fn release(&mut self) -> bool {
        either!(&mut self.0, queue => queue.release())
    }

    /// Chains taken and not yet given back.
    #[must_use]
    #[inline]
    pub fn outstanding(&self) -> usize {
        either!(&self.0, queue => queue.outstanding())
    }

    /// Says whether the driver has made something available. One load.
    #[must_use]
    #[inline]
    pub fn has_available(&self) -> bool {
        either!(&self.0, queue => queue.has_available())
    }

    /// About how many frames a burst would take now, as far as the ring says.
    #[must_use]
    #[inline]
    pub fn ready_frames(&self) -> usize {
        either!(&self.0, queue => queue.ready_frames())
    }

    /// Asks the driver for notifications. True if something was made available meanwhile: then
    /// there may be no notification for it, and the caller looks again.
    pub fn enable_notifications(&mut self) -> bool {
        either!(&mut self.0, queue => queue.enable_notifications())
    }

    /// Tells the driver that notifications are not needed. It may still send some.
    pub fn disable_notifications(&mut self) {
        either!(&mut self.0, queue => queue.disable_notifications());
    }

    /// Notes what is written to guest memory from now on in another log, or in none.
    pub fn set_log(&mut self, log: Option<Box<VringLog>>) {
        either!(&mut self.0, queue => queue.set_log(log));
    }

    /// Where to go on: what GET_VRING_BASE answers, once nothing is
    /// [`outstanding`](Self::outstanding).
    #[must_use]
    pub fn base(&self) -> u32 {
        either!(&self.0, queue => queue.base())
    }
}

impl ReceiveQueue {
    /// Starts working the ring, with notifications from the driver asked for.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring is not in guest memory, or not as such a ring must be.
    #[expect(clippy::needless_pass_by_value, reason = "who makes a queue is done with its setup")]
    pub fn new(setup: VringSetup) -> Result<Self, SetupError> {
        Ok(Self(if setup.features.contains(Features::RING_PACKED) {
            Kind::Packed(Receive::new(&setup)?)
        } else {
            Kind::Split(Receive::new(&setup)?)
        }))
    }

    /// Walks the chains that so many frames of so many bytes together are likely to take, and asks
    /// the processor for the memory they point to, so that the copies need not wait for it. To be
    /// called before a burst is delivered; nothing depends on it but speed.
    pub fn prepare(&mut self, frames: usize, bytes: usize) {
        either!(&mut self.0, queue => queue.prepare(frames, bytes));
    }

    /// What the driver takes beside ready frames.
    #[must_use]
    #[inline]
    pub const fn receiver(&self) -> Receiver {
        either!(&self.0, queue => queue.receiver())
    }

    /// Narrows what the driver takes beside ready frames to these of
    /// [`Features::GUEST_OFFLOADS`], if it has negotiated them.
    pub fn limit_offloads(&mut self, offloads: Features) {
        either!(&mut self.0, queue => queue.limit_offloads(offloads));
    }

    /// Writes a ready frame, and a net header that says so, into the guest's next buffers. The
    /// guest sees them at the next [`release`](Self::release).
    ///
    /// # Errors
    ///
    /// [`Refusal`]; nothing was consumed then.
    pub fn deliver(&mut self, frame: &Outgoing<'_>) -> Result<(), Refusal> {
        self.deliver_with(NetHeader::default(), frame)
    }

    /// The same with a net header that says more.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_with(
        &mut self,
        net_header: NetHeader,
        frame: &Outgoing<'_>,
    ) -> Result<(), Refusal> {
        either!(&mut self.0, queue => queue.deliver(net_header, frame))
    }

    /// As [`deliver`](Self::deliver) for frames one after the other, as long as each has few segments
    /// and fits the next buffer. Returns how many there were; the one behind them is for `deliver`.
    #[inline(always)]
    pub fn deliver_many<'a>(&mut self, frames: impl Iterator<Item = Outgoing<'a>>) -> usize {
        either!(&mut self.0, queue => queue.deliver_simple(NetHeader::default(), frames))
    }

    /// The same for several frames that were joined into one of `length_bytes` bytes.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_joined<'a>(
        &mut self,
        net_header: NetHeader,
        length_bytes: usize,
        frame: Joined<'a, impl Iterator<Item = Reader<'a>>>,
    ) -> Result<(), Refusal> {
        either!(&mut self.0, queue => queue.deliver_joined(net_header, length_bytes, frame))
    }

    /// The same for a frame whose checksum is completed on the way; it needs no net header.
    ///
    /// # Errors
    ///
    /// As [`deliver`](Self::deliver).
    pub fn deliver_completing(&mut self, frame: Completing<'_>) -> Result<(), Refusal> {
        either!(&mut self.0, queue => queue.deliver_completing(frame))
    }

    /// Gives everything delivered to the driver, visible at once. True if the driver asked to be
    /// notified of that.
    pub fn release(&mut self) -> bool {
        either!(&mut self.0, queue => queue.release())
    }

    /// Says whether the driver has made a buffer available. One load at most.
    #[must_use]
    #[inline]
    pub fn has_buffers(&self) -> bool {
        either!(&self.0, queue => queue.has_buffers())
    }

    /// Asks the driver for a notification of new buffers. True if there are some already.
    pub fn enable_notifications(&mut self) -> bool {
        either!(&mut self.0, queue => queue.enable_notifications())
    }

    /// Tells the driver that notifications of new buffers are not needed.
    pub fn disable_notifications(&mut self) {
        either!(&mut self.0, queue => queue.disable_notifications());
    }

    /// Notes what is written to guest memory from now on in another log, or in none.
    pub fn set_log(&mut self, log: Option<Box<VringLog>>) {
        either!(&mut self.0, queue => queue.set_log(log));
    }

    /// Where to go on: what GET_VRING_BASE answers, after [`release`](Self::release).
    #[must_use]
    pub fn base(&self) -> u32 {
        either!(&self.0, queue => queue.base())
    }
}

impl ControlQueue {
    /// Starts working the ring, with notifications from the driver asked for.
    ///
    /// # Errors
    ///
    /// [`SetupError`] if the ring is not in guest memory, or not as such a ring must be.
    #[expect(clippy::needless_pass_by_value, reason = "who makes a queue is done with its setup")]
    pub fn new(setup: VringSetup) -> Result<Self, SetupError> {
        Ok(Self(if setup.features.contains(Features::RING_PACKED) {
            Kind::Packed(Control::new(&setup)?)
        } else {
            Kind::Split(Control::new(&setup)?)
        }))
    }

    /// Takes up to `limit` commands, and notes what `carry_out` answers to each. The driver sees it
    /// at the next [`release`](Self::release). Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`QueueFault`] if the guest broke the ring: the caller stops the queue. Commands before that
    /// were carried out, and their answers are to be released.
    pub fn serve(
        &mut self,
        limit: usize,
        carry_out: impl FnMut(&[u8]) -> Acknowledgement,
    ) -> Result<usize, QueueFault> {
        either!(&mut self.0, queue => queue.serve(limit, carry_out))
    }

    /// Gives all answers to the driver, visible at once. True if the driver asked to be notified of
    /// that.
    pub fn release(&mut self) -> bool {
        either!(&mut self.0, queue => queue.release())
    }

    /// Asks the driver for a notification of the next command. True if there is one already.
    pub fn enable_notifications(&mut self) -> bool {
        either!(&mut self.0, queue => queue.enable_notifications())
    }

    /// Notes what is written to guest memory from now on in another log, or in none.
    pub fn set_log(&mut self, log: Option<Box<VringLog>>) {
        either!(&mut self.0, queue => queue.set_log(log));
    }

    /// Where to go on: what GET_VRING_BASE answers, after [`release`](Self::release).
    #[must_use]
    pub fn base(&self) -> u32 {
        either!(&self.0, queue => queue.base())
    }
}
