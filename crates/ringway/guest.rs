//! A guest's port: what its front end has said, and which of its rings therefore run.
//!
//! A ring runs when everything it needs is there: size, addresses, a kick (or the word that there
//! is none), and its memory. Front ends send these in any order and again, and take memory
//! away under live rings; so every message changes the [`Vring`] and then lets [`Attached::reconcile`]
//! compare what should run with what does.
//!
//! ```text
//!            kick, size, addresses, memory: all there
//!   stopped ───────────────────────────────────────────▶ running
//!           ◀───────────────────────────────────────────
//!            GET_VRING_BASE, memory gone, front end gone
//! ```
//!
//! A ring whose memory goes is paused, and goes on where it was when its memory is back. What a
//! ring was told about being enabled outlives stop and start (vhost-user, "Ring states").

mod backend;
mod config_space;
mod control;
mod dirty_log;
mod hand_over;
mod memory;
mod offer;
mod starting;

use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::frame::PortId;
use datapath::{Datapath, NotAnEventfd, PeerCall, PeerEventfd, PortTraits, StartedVring};
use vhost_user::{MemoryRegion, Refused};
use virtio::{DirtyLog, Features, MemoryMap, QueueSize};

use crate::refusal::one_line;
use control::Control;
use memory::{Mapping, memory_map};

/// A front end that leaves so soon after it has seen the offer does so because of it. QEMU takes
/// milliseconds; one that is ended by its operator has had the time to start.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What a front end knows of the offer.
#[derive(Debug, Clone, Copy)]
enum Look {
    /// Nothing, or that there is everything.
    NotYet,
    /// That there are no offloads, since then.
    Wanting(Instant),
    /// It has acknowledged features, so it was content.
    Content,
}

/// One ring as its front end described it.
#[derive(Debug, Default)]
struct Vring {
    size: Option<QueueSize>,
    addresses: Option<virtio::VringAddresses>,
    /// Where writes to its used ring are logged.
    used_log: Option<u64>,
    /// Where it starts, or where it stopped.
    base: u32,
    /// `Some(None)`: the driver never kicks.
    kick: Option<Option<PeerEventfd>>,
    call: Option<PeerCall>,
    /// Where the front end hears that the ring is broken.
    err: Option<PeerCall>,
    is_enabled: bool,
    /// The data path was told that it passes frames, when it was started or later.
    passes: bool,
    is_running: bool,
    /// It was started, and its guest broke its rules: it does nothing until it is started anew.
    is_broken: bool,
}

impl Vring {
    const fn works(&self) -> bool {
        self.is_running && !self.is_broken
    }
}

/// What the front end of one guest has said.
#[derive(Debug)]
pub(crate) struct Guest {
    queue_pairs: u16,
    /// How the port is set.
    traits: PortTraits,
    /// Those of the queue pairs, and one more that may be the control queue.
    vrings: Vec<Vring>,
    control: Control,
    regions: Vec<(MemoryRegion, Mapping)>,
    map: Arc<MemoryMap>,
    features: Features,
    /// Offloads are on offer though the port is set otherwise, to the front end that comes back.
    offers_again: bool,
    look: Look,
    /// What was written of the guest's memory, for a front end that migrates it.
    log: Option<Arc<DirtyLog>>,
    /// It was said that this log is too short.
    is_short_log_told: bool,
    status: u8,
    mtu: Option<u16>,
    /// Transmitqs that another switch worked before this one wait, see [`hold`](Self::hold).
    is_held: bool,
    complaint: Option<String>,
}

impl Guest {
    /// A guest that nothing is known of, with up to `queue_pairs` queue pairs.
    pub(crate) fn new(queue_pairs: u16, traits: PortTraits) -> Self {
        let vrings = (0..=2 * queue_pairs).map(|_| Vring::default()).collect();
        let map = Arc::new(MemoryMap::new(Vec::new()).expect("no regions do not overlap"));
        Self {
            queue_pairs,
            traits,
            vrings,
            control: Control::default(),
            regions: Vec::new(),
            map,
            features: Features::NONE,
            offers_again: false,
            look: Look::NotYet,
            log: None,
            is_short_log_told: false,
            status: 0,
            mtu: None,
            is_held: false,
            complaint: None,
        }
    }

    /// Changes how the port is set. What the driver negotiated stays until it negotiates again.
    pub(crate) const fn set_traits(&mut self, traits: PortTraits) {
        self.traits = traits;
    }

    /// Keeps transmitqs from starting that another switch has worked before, until they are
    /// [released](Attached::release): the guests that their frames are for may still be on their
    /// way.
    pub(crate) const fn hold(&mut self) {
        self.is_held = true;
    }

    /// The numbers of all rings.
    const fn rings(&self) -> RangeInclusive<u16> {
        0..=2 * self.queue_pairs
    }

    /// The features that the driver acknowledged.
    pub(crate) const fn features(&self) -> Features {
        self.features
    }

    /// The MTU that the front end told the guest.
    pub(crate) const fn mtu(&self) -> Option<u16> {
        self.mtu
    }

    /// Rings that run now.
    pub(crate) fn running_rings(&self) -> usize {
        self.vrings.iter().filter(|vring| vring.works()).count()
    }

    /// Rings that run and pass frames: the front end has enabled them, and the driver wants them.
    pub(crate) fn enabled_rings(&self) -> usize {
        let passes = |(index, vring): &(u16, &Vring)| vring.works() && self.passes_frames(*index);
        (0..).zip(&self.vrings).filter(passes).count()
    }

    /// Memory that the guest shares, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.regions.iter().map(|(region, _)| region.size_bytes).sum()
    }

    /// Says whether a driver works the port: its receiveq of pair 0 runs and is enabled.
    pub(crate) fn is_up(&self) -> bool {
        self.vrings.first().is_some_and(|vring| vring.works() && vring.is_enabled)
    }

    /// Notes that a ring is broken, and tells the front end (vhost-user, SET_VRING_ERR) if it
    /// wants to hear.
    pub(crate) fn break_ring(&mut self, index: u16) {
        let Some(vring) = self.vrings.get_mut(usize::from(index)) else { return };
        vring.is_broken = vring.is_running;
        if let Some(err) = &vring.err {
            err.signal();
        }
    }

    /// Returns what the front end did wrong last and was not told of, once: for the log.
    pub(crate) fn take_complaint(&mut self) -> Option<String> {
        self.complaint.take()
    }

    /// The guest with the data path that runs its rings, to carry out messages.
    pub(crate) const fn attached<'a>(
        &'a mut self,
        datapath: &'a mut Datapath,
        port: PortId,
    ) -> Attached<'a> {
        Attached { guest: self, datapath, port }
    }
}

/// A guest, and the data path that runs its rings.
#[derive(Debug)]
pub(crate) struct Attached<'a> {
    guest: &'a mut Guest,
    datapath: &'a mut Datapath,
    port: PortId,
}

impl Attached<'_> {
    /// Stops all rings and forgets everything that the front end said: it is gone.
    pub(crate) fn detach(&mut self) {
        self.stop_all();
        let offers_again = matches!(self.guest.look, Look::Wanting(at) if at.elapsed() < AT_ONCE);
        self.forget_orders();
        let Guest { queue_pairs, traits, is_held, .. } = *self.guest;
        *self.guest = Guest { offers_again, is_held, ..Guest::new(queue_pairs, traits) };
        self.log_all();
    }

    /// Lets the transmitqs start that were kept from it.
    ///
    /// # Errors
    ///
    /// As for any ring that cannot start: its front end has said something impossible.
    pub(crate) fn release(&mut self) -> Result<(), Refused> {
        self.guest.is_held = false;
        self.reconcile_all()
    }

    fn vring(&mut self, index: u16) -> Result<&mut Vring, Refused> {
        let vring = self.guest.vrings.get_mut(usize::from(index));
        vring.ok_or_else(|| Refused::new(format!("there is no ring {index}")))
    }

    /// Stops a ring if it runs, and remembers where.
    fn stop(&mut self, index: u16) {
        if self.stop_control(index) {
            return;
        }
        let Some(vring) = self.guest.vrings.get_mut(usize::from(index)) else { return };
        if std::mem::take(&mut vring.is_running)
            && let Some(base) = self.datapath.stop_vring(self.port, index)
        {
            vring.base = base;
        }
    }

    fn stop_all(&mut self) {
        self.guest.rings().for_each(|index| self.stop(index));
    }

    /// Starts a ring that has all it needs. One whose memory is not there yet stays stopped.
    fn reconcile(&mut self, index: u16) -> Result<(), Refused> {
        let Some(start) = self.guest.ready(self.port, index)? else { return Ok(()) };
        if self.guest.is_control(index) {
            let outcome = self.start_control(start);
            return self.guest.note_start(index, outcome);
        }
        let StartedVring { port, vring, setup, kick, call, is_enabled } = start;
        let outcome = self.datapath.start_vring(port, vring, setup, kick, call, is_enabled);
        self.guest.note_start(index, outcome)
    }

    fn reconcile_all(&mut self) -> Result<(), Refused> {
        self.guest.rings().try_for_each(|index| self.reconcile(index))
    }

    /// Changes a ring's description: a running ring stops for it and goes on with the change.
    fn change(&mut self, index: u16, change: impl FnOnce(&mut Vring)) -> Result<(), Refused> {
        self.vring(index)?;
        self.stop(index);
        change(self.vring(index)?);
        self.reconcile(index)
    }

    /// What a front end sent to notify by. Anything else is closed, as if it had sent none.
    fn notifier<T: TryFrom<OwnedFd, Error = NotAnEventfd>>(
        &mut self,
        index: u16,
        what: &str,
        descriptor: Option<OwnedFd>,
    ) -> Option<T> {
        match T::try_from(descriptor?) {
            Ok(notifier) => Some(notifier),
            Err(error) => {
                let cause = one_line(&error);
                let complaint = format!("{what} descriptor of ring {index} not used: {cause}");
                self.guest.complaint = Some(complaint);
                None
            }
        }
    }

    /// Replaces the guest's memory. Rings pause meanwhile; those that are not in the new memory
    /// stay paused.
    fn set_regions(&mut self, regions: Vec<(MemoryRegion, Mapping)>) -> Result<(), Refused> {
        let map = memory_map(&regions)?;
        self.stop_all();
        self.guest.map = map;
        self.guest.regions = regions;
        self.check_log();
        self.reconcile_all()
    }

    /// The guest's regions but for this one. The offset is not always filled in.
    fn regions_without(&self, region: MemoryRegion) -> Vec<(MemoryRegion, Mapping)> {
        let key =
            |region: &MemoryRegion| (region.guest_address, region.size_bytes, region.user_address);
        let others = self.guest.regions.iter().filter(|(known, _)| key(known) != key(&region));
        others.cloned().collect()
    }

    /// Forgets the driver: all rings stop and are disabled, the memory stays.
    fn reset(&mut self) {
        self.stop_all();
        self.forget_orders();
        self.guest.vrings.iter_mut().for_each(|vring| *vring = Vring::default());
        self.guest.status = 0;
        self.log_all();
    }
}
