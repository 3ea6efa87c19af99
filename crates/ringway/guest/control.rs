//! A guest's control queue, if its front end passes it on (VIRTIO 1.2, 5.1.6.5).
//!
//! **Which ring it is**: the one behind the last queue pair (5.1.2), which is ring 2, or with MQ ring
//! 2N. The N is max_virtqueue_pairs of the configuration space (5.1.4): what GET_QUEUE_NUM answers,
//! and the space shows that is on offer (`config_space.rs`). A front end with a space of its own that
//! shows fewer pairs, and passes the control queue on, wants a port with as few.
//!
//! **Who serves it**: the control thread, when the driver kicks. Nothing on the poll threads asks for
//! it. What a command orders is in force on the data path before its answer is published.
//!
//! **Without it**: front ends that keep the queue to themselves (QEMU, DPDK, Cloud Hypervisor), though
//! some acknowledge its feature, say by SET_VRING_ENABLE which pairs pass frames. Orders count only
//! from the time when the queue first runs: then one pair does (5.1.6.5.5) until the driver wants
//! more.
//!
//! **While it is disabled** it is served without effect (vhost-user, "Ring states"): every command is
//! answered with an error.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use datapath::{PeerCall, PeerEventfd, Reception, StartedVring};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use virtio::control::{Acknowledgement, ControlState};
use virtio::{ControlQueue, Features, QueueFault, SetupError, VringLog};

use super::{Attached, Guest};

/// Most commands served before others get their turn.
const COMMANDS_AT_ONCE: usize = 16;

/// How often a queue is looked at whose driver never kicks.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// What a control queue's driver has ordered, and the queue.
#[derive(Debug, Default)]
pub(super) struct Control {
    /// `None` before the queue first runs.
    pub(super) state: Option<ControlState>,
    queue: Option<RunningControl>,
    /// What of that is in force on the data path.
    reception: Reception,
}

/// A control queue that runs.
#[derive(Debug)]
struct RunningControl {
    index: u16,
    ring: ControlQueue,
    call: Option<PeerCall>,
    /// With the kick in it, so that no more than this needs to be closed: an epoll set lets go of a
    /// descriptor only when the front end, which has it as well, closes its own.
    kicks: Option<Kicks>,
    /// There may be commands that no kick tells.
    is_due: bool,
}

/// A set of one kick.
#[derive(Debug)]
struct Kicks {
    set: OwnedFd,
    _kick: PeerEventfd,
    /// The control thread waits for it.
    is_watched: bool,
}

impl Kicks {
    /// A driver's kicks; `None`: they cannot be waited for.
    fn new(kick: PeerEventfd) -> Option<Self> {
        let set = epoll::create(CreateFlags::CLOEXEC).ok()?;
        // Told once a kick and never read: who reads can be kept waiting by the front end.
        let flags = EventFlags::IN | EventFlags::ET;
        epoll::add(&set, &kick, EventData::new_u64(0), flags).ok()?;
        Some(Self { set, _kick: kick, is_watched: false })
    }

    /// Takes note of the kicks up to now.
    fn take(&self) {
        let mut events = Vec::with_capacity(1);
        // Not to be told again is all that is wanted.
        let _ = epoll::wait(&self.set, spare_capacity(&mut events), Some(&Timespec::default()));
    }
}

impl Guest {
    /// Says whether a ring is the control queue.
    pub(super) fn is_control(&self, index: u16) -> bool {
        let pairs = if self.features.contains(Features::NET_MQ) { self.queue_pairs } else { 1 };
        self.features.contains(Features::NET_CTRL_VQ) && index == 2 * pairs
    }

    /// Says whether a ring passes frames, or commands, when it runs: the front end has enabled it, and
    /// the driver wants its pair. What was sent by a pair that is wanted no more still leaves.
    pub(super) fn passes_frames(&self, index: u16) -> bool {
        let is_enabled = self.vrings.get(usize::from(index)).is_some_and(|vring| vring.is_enabled);
        let is_wanted = match &self.control.state {
            Some(state) if index.is_multiple_of(2) && !self.is_control(index) => {
                index / 2 < state.queue_pairs()
            }
            Some(_) | None => true,
        };
        is_enabled && is_wanted
    }

    /// What is to be waited for from now on so that the control queue is served.
    pub(crate) fn watch_control(&mut self) -> Option<BorrowedFd<'_>> {
        let kicks = self.control.queue.as_mut()?.kicks.as_mut()?;
        (!std::mem::replace(&mut kicks.is_watched, true)).then(|| kicks.set.as_fd())
    }

    /// How long until the control queue is to be looked at though nobody kicks.
    pub(crate) fn control_due(&self) -> Option<Duration> {
        match &self.control.queue {
            Some(RunningControl { is_due: true, .. }) => Some(Duration::ZERO),
            Some(RunningControl { kicks: None, .. }) => Some(LOOK_EVERY),
            Some(_) | None => None,
        }
    }

    /// Where the control queue stands, if it runs.
    pub(super) fn control_base(&self, index: u16) -> Option<u32> {
        let queue = self.control.queue.as_ref().filter(|queue| queue.index == index)?;
        Some(queue.ring.base())
    }
}

impl Attached<'_> {
    /// Starts the control queue. A driver that begins has ordered nothing yet; of one that goes on,
    /// what it has ordered is in force again, as far as it is known.
    pub(super) fn start_control(&mut self, start: StartedVring) -> Result<(), SetupError> {
        let StartedVring { vring: index, setup, kick, call, .. } = start;
        let features = setup.features;
        let ring = ControlQueue::new(setup)?;
        let pairs = self.guest.queue_pairs;
        let is_new = super::starting::is_new(ring.base());
        let control = &mut self.guest.control;
        if is_new {
            control.state = Some(ControlState::new(features, pairs));
        }
        control.state.get_or_insert_with(|| ControlState::unknown(features, pairs));
        // A predecessor may have died between publishing and notifying: say it once more.
        if let Some(call) = &call {
            call.signal();
        }
        let kicks = kick.and_then(Kicks::new);
        control.queue = Some(RunningControl { index, ring, call, kicks, is_due: true });
        self.enforce();
        self.log(index);
        Ok(())
    }

    /// Stops the control queue if it runs on this ring, and remembers where.
    pub(super) fn stop_control(&mut self, index: u16) -> bool {
        let Some(base) = self.guest.control_base(index) else { return false };
        self.guest.control.queue = None;
        if let Some(vring) = self.guest.vrings.get_mut(usize::from(index)) {
            (vring.is_running, vring.base) = (false, base);
        }
        true
    }

    /// Forgets what the driver has ordered. The queue does not run.
    pub(super) fn forget_orders(&mut self) {
        self.guest.control.state = None;
        self.enforce();
    }

    /// Has what the control queue writes logged as the front end wants it.
    pub(super) fn log_control(&mut self, log: Option<VringLog>) {
        if let Some(queue) = &mut self.guest.control.queue {
            queue.ring.set_log(log.map(Box::new));
        }
    }

    /// Carries out the commands that there are. Returns the fault if the guest broke the rules: the
    /// queue has stopped then.
    pub(crate) fn serve_control(&mut self) -> Option<QueueFault> {
        let mut queue = self.guest.control.queue.take()?;
        if let Some(kicks) = &queue.kicks {
            kicks.take();
        }
        let is_enabled = self.guest.passes_frames(queue.index);
        let state = &mut self.guest.control.state;
        let outcome = queue.ring.serve(COMMANDS_AT_ONCE, |command| match state {
            Some(state) if is_enabled => state.carry_out(command),
            Some(_) | None => Acknowledgement::Error,
        });
        self.enforce();
        if queue.ring.release()
            && let Some(call) = &queue.call
        {
            call.signal();
        }
        match outcome {
            Ok(_) => {
                queue.is_due = queue.ring.enable_notifications();
                self.guest.control.queue = Some(queue);
                None
            }
            Err(fault) => {
                if let Some(vring) = self.guest.vrings.get_mut(usize::from(queue.index)) {
                    vring.base = queue.ring.base();
                }
                self.guest.break_ring(queue.index);
                Some(fault)
            }
        }
    }

    /// Brings the data path to do as the driver has ordered.
    pub(super) fn enforce(&mut self) {
        let control = &mut self.guest.control;
        let reception = control.state.as_ref().map_or_else(Reception::default, |state| Reception {
            filter: state.filter(),
            offloads: state.offloads(),
        });
        if reception != control.reception {
            self.datapath.set_reception(self.port, &reception);
            control.reception = reception;
        }
        for pair in 0..self.guest.queue_pairs {
            let passes = self.guest.passes_frames(2 * pair);
            let Some(vring) = self.guest.vrings.get_mut(usize::from(2 * pair)) else { continue };
            if vring.is_running && vring.passes != passes {
                vring.passes = passes;
                self.datapath.enable_vring(self.port, 2 * pair, passes);
            }
        }
    }
}
