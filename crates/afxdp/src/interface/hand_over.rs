//! An interface on its way from one process to another: see `hand_over.rs` of the crate.

use std::os::fd::{BorrowedFd, OwnedFd};

use super::{Interface, find};
use crate::hand_over::{adopt_socket, not_adopted};
use crate::offloads::Offloads;
use crate::program::Program;
use crate::socket::SLOTS;
use crate::{AdoptedQueue, InterfaceDescriptors, InterfaceState, SocketError, UmemPool};

impl Interface {
    /// What another process needs to go on with it, beside the sockets of its queues. `None` if
    /// its UMEM is not among those that the pool [describes](UmemPool::describe).
    #[must_use]
    pub fn describe(
        &self,
        pool: &UmemPool,
    ) -> Option<(InterfaceState, InterfaceDescriptors<BorrowedFd<'_>>)> {
        let state = InterfaceState {
            name: self.name().to_owned(),
            index: self.device.index(),
            slots: SLOTS,
            attachment: self.program.attachment(),
            offloads_were_on: self.offloads.were_on(),
            mode: self.mode,
            abilities: self.abilities,
            senders: self.senders,
            at_opening: self.at_opening,
            umem: pool.place(&self.umem)?,
        };
        Some((state, self.program.descriptors(&self.promiscuous)))
    }

    /// Goes on with an interface of another process, with the sockets of its queues in their order,
    /// and returns it with them. It is not [owned](Self::own) yet.
    ///
    /// # Errors
    ///
    /// [`SocketError`] if this is no place to go on with it: another network namespace, another version
    /// with other rings, a kernel before 6.4.
    pub fn adopt(
        state: InterfaceState,
        descriptors: InterfaceDescriptors<OwnedFd>,
        sockets: Vec<OwnedFd>,
        pool: &mut UmemPool,
    ) -> Result<(Self, Vec<AdoptedQueue>), SocketError> {
        let device = find(&state.name)?;
        let refused = |reason: &str| not_adopted(&state.name, reason);
        if device.index() != state.index {
            return Err(refused("here, another interface has its name"));
        }
        if state.slots != SLOTS || sockets.is_empty() {
            return Err(refused("its rings have other lengths than this version's"));
        }
        let sockets = sockets.into_iter().map(|fd| adopt_socket(fd, &state.name));
        let sockets = sockets.collect::<Result<Vec<_>, _>>()?;
        let joined = pool.join_adopted(state.umem, &sockets);
        let (_, umem) = joined.ok_or_else(|| refused("its umem did not come along"))?;
        let InterfaceDescriptors { map, link, promiscuous } = descriptors;
        let interface = Self {
            offloads: Offloads::adopt(find(&state.name)?, state.offloads_were_on),
            device,
            program: Program::adopt(map, link, state.attachment),
            promiscuous,
            mode: state.mode,
            abilities: state.abilities,
            queue_count: u32::try_from(sockets.len()).unwrap_or(u32::MAX),
            senders: state.senders,
            at_opening: state.at_opening,
            umem,
        };
        let queues = (0..).zip(sockets).map(|(queue, socket)| AdoptedQueue {
            socket,
            umem: interface.umem.clone(),
            queue,
            abilities: interface.abilities_of(queue),
            large: interface.large_frames(),
        });
        let queues = queues.collect();
        Ok((interface, queues))
    }

    /// Leaves it to the other process to put the interface back.
    pub const fn let_go(&mut self) {
        self.offloads.leave(true);
    }

    /// The interface is this process' from now on.
    pub const fn own(&mut self) {
        self.offloads.leave(false);
    }
}
