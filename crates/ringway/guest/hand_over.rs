//! A guest on its way from one switch to another: all that its front end has said, and where its
//! rings have stopped.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use datapath::frame::PortId;
use datapath::{NotAnEventfd, StartedVring, StoppedVring};
use vhost_user::{MemoryRegion, Refused};
use virtio::control::ControlState;
use virtio::{Features, QueueSize};

use super::memory::{map, memory_map};
use super::{Attached, Guest, Look, Vring};
use crate::hand_over::{
    Arrived, GuestState, Lent, OrderState, RegionState, RingState, RingStopped,
};
use crate::refusal::Refusal;

impl Guest {
    /// All that the front end has said.
    pub(crate) fn describe<'a>(&'a self, lent: &mut Lent<'a>) -> GuestState {
        let regions = self.regions.iter().map(|(region, mapping)| RegionState {
            guest_address: region.guest_address,
            size_bytes: region.size_bytes,
            user_address: region.user_address,
            mmap_offset: region.mmap_offset,
            descriptor: lent.add(mapping.file.as_fd()),
        });
        let regions = regions.collect();
        let mut rings: Vec<_> = self.vrings.iter().map(|vring| vring.describe(lent)).collect();
        let last_ring = rings.pop();
        let orders = self.control.state.as_ref().map(|state| {
            let (filters_vlans, commands) = state.to_commands();
            OrderState { filters_vlans, commands }
        });
        GuestState {
            features: self.features.0,
            offers_again: self.offers_again,
            status: self.status,
            mtu: self.mtu,
            regions,
            rings,
            last_ring,
            orders,
        }
    }

    /// The rings of queue pairs, of every second from `first`: 0 receiveqs, 1 transmitqs. The control
    /// queue needs no such order: who hands over does not serve it meanwhile.
    fn halves(&self, first: u16) -> impl Iterator<Item = u16> {
        (first..2 * self.queue_pairs).step_by(2).filter(|&index| !self.is_control(index))
    }

    /// Those of them that run. One that is broken stands still already, and stays broken.
    pub(crate) fn working(&self, first: u16) -> impl Iterator<Item = u16> {
        let halves = self.halves(first);
        halves.filter(|&index| self.vrings.get(usize::from(index)).is_some_and(Vring::works))
    }

    /// Takes note of a ring that was stopped.
    pub(crate) fn note_stop(&mut self, stopped: StoppedVring) {
        if let Some(vring) = self.vrings.get_mut(usize::from(stopped.vring)) {
            (vring.is_running, vring.base) = (false, stopped.base);
        }
    }

    /// The rings that have all they need and do not run, likewise. What cannot be started is told.
    pub(crate) fn startable(
        &self,
        port: PortId,
        first: u16,
    ) -> impl Iterator<Item = Result<StartedVring, Refused>> {
        let halves = self.halves(first);
        halves.filter_map(move |index| self.ready(port, index).transpose())
    }

    /// Where the rings have stopped.
    pub(crate) fn rings_stopped(&self) -> Vec<RingStopped> {
        let stopped = |(index, vring): (u16, &Vring)| RingStopped {
            base: self.control_base(index).unwrap_or(vring.base),
            is_broken: vring.is_running && vring.is_broken,
        };
        self.rings().zip(&self.vrings).map(stopped).collect()
    }

    /// Takes over what a front end has said to another switch. No ring starts.
    ///
    /// # Errors
    ///
    /// A [`Refusal`] if it does not fit the port or this version, or its memory cannot be mapped.
    pub(crate) fn adopt(
        &mut self,
        state: GuestState,
        arrived: &mut Arrived,
    ) -> Result<(), Refusal> {
        let GuestState { features, offers_again, status, mtu, regions, rings, .. } = state;
        let wanted = 2 * usize::from(self.queue_pairs);
        if rings.len() != wanted {
            let found = rings.len();
            return Err(Refusal::new(format!("it comes with {found} rings and has {wanted}")));
        }
        let unknown = features & !(self.served() | Features::NET_MQ).0;
        if unknown != 0 {
            let text = format!("its driver uses features that are not known here: {unknown:#x}");
            return Err(Refusal::new(text));
        }
        if Features(features).contains(Features::LOG_ALL) {
            // The dirty log does not come along, and what is not logged would be lost.
            return Err(Refusal::new("its guest is being migrated").hint("wait until that is over"));
        }
        let refused = |refused: Refused| Refusal::caused_by(&refused);
        for state in regions {
            let file = arrived.take(state.descriptor)?;
            let RegionState { guest_address, size_bytes, user_address, mmap_offset, .. } = state;
            let region = MemoryRegion { guest_address, size_bytes, user_address, mmap_offset };
            self.regions.push(map(region, file).map_err(refused)?);
        }
        self.map = memory_map(&self.regions).map_err(refused)?;
        for (vring, state) in self.vrings.iter_mut().zip(rings.into_iter().chain(state.last_ring)) {
            *vring = Vring::adopt(state, Features(features), arrived)?;
        }
        (self.features, self.status, self.mtu) = (Features(features), status, mtu);
        self.control.state = state.orders.map(|OrderState { filters_vlans, commands }| {
            let orders = (filters_vlans, &commands[..]);
            ControlState::from_commands(self.features, self.queue_pairs, orders)
        });
        self.offers_again = offers_again;
        if features != 0 {
            self.look = Look::Content;
        }
        Ok(())
    }

    /// Takes note of where the rings have stopped.
    pub(crate) fn place(&mut self, rings: Vec<RingStopped>) {
        for (vring, stopped) in self.vrings.iter_mut().zip(rings) {
            vring.base = stopped.base;
            // A ring that is broken counts as running, and so is not started.
            (vring.is_running, vring.is_broken) = (stopped.is_broken, stopped.is_broken);
        }
    }
}

impl Attached<'_> {
    /// Brings the data path to do as the driver has ordered: before rings start.
    pub(crate) fn resume_orders(&mut self) {
        self.enforce();
    }

    /// Starts the control queue, if there is one that does not run.
    ///
    /// # Errors
    ///
    /// As for any ring that cannot start.
    pub(crate) fn resume_control(&mut self) -> Result<(), Refused> {
        let control = self.guest.rings().find(|&index| self.guest.is_control(index));
        control.map_or(Ok(()), |index| self.reconcile(index))
    }
}

impl Vring {
    fn describe<'a>(&'a self, lent: &mut Lent<'a>) -> RingState {
        let mut add = |descriptor: Option<BorrowedFd<'a>>| descriptor.map(|fd| lent.add(fd));
        let addresses =
            self.addresses.map(|at| [at.descriptor_table, at.available_ring, at.used_ring]);
        RingState {
            size: self.size.map(|size| size.get().into()),
            addresses,
            is_kicked: self.kick.is_some(),
            kick: add(self.kick.as_ref().and_then(|kick| kick.as_ref().map(AsFd::as_fd))),
            call: add(self.call.as_ref().map(AsFd::as_fd)),
            err: add(self.err.as_ref().map(AsFd::as_fd)),
            is_enabled: self.is_enabled,
        }
    }

    fn adopt(state: RingState, features: Features, arrived: &mut Arrived) -> Result<Self, Refusal> {
        let size = state.size.map(|size| QueueSize::new(size, features)).transpose();
        let addresses = state.addresses.map(|[descriptor_table, available_ring, used_ring]| {
            virtio::VringAddresses { descriptor_table, available_ring, used_ring }
        });
        let kick = notifier(state.kick, arrived)?;
        Ok(Self {
            size: size.map_err(|error| Refusal::caused_by(&error))?,
            addresses,
            kick: state.is_kicked.then_some(kick),
            call: notifier(state.call, arrived)?,
            err: notifier(state.err, arrived)?,
            is_enabled: state.is_enabled,
            ..Self::default()
        })
    }
}

/// What a front end wants to notify or be notified by, if it has said so.
fn notifier<T: TryFrom<OwnedFd, Error = NotAnEventfd>>(
    place: Option<usize>,
    arrived: &mut Arrived,
) -> Result<Option<T>, Refusal> {
    let Some(place) = place else { return Ok(None) };
    T::try_from(arrived.take(place)?).map(Some).map_err(|error| Refusal::caused_by(&error))
}
