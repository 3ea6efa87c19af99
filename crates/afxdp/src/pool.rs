//! Which UMEM an interface's sockets get: one for each mode, shared by all interfaces and over
//! time, as far as its chunks last. (One more for each if some drivers take no frames in several
//! buffers.)
//!
//! ```text
//!   group: copy                            group: zero copy
//!   UMEM of 4 parts                        UMEM of 16 parts
//!    ├── eth0 queue 0                       ├── eth2 queues 0 to 7
//!    ├── eth1 queue 0                       └── 8 free
//!    └── 2 free
//! ```
//!
//! A UMEM has the mode of its first socket, for shared binds inherit it. It is pinned at once and
//! cannot grow, so a new one gets room for as many queues again. When a UMEM has too few free
//! chunks for an interface, that gets a new one, and between the two frames are copied.
//!
//! A bind that shares a UMEM names a socket that is bound: any will do. The pool knows those by
//! weak handles, so that it keeps no socket of a removed port alive; with the last socket of a
//! group the group goes, and its memory with the last queue.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Weak};

use crate::chunks::Part;
use crate::ioctl::Device;
use crate::socket::{Place, Socket, Source, Terms};
use crate::umem::Umem;
use crate::{Mode, SocketError, UmemState, ZeroCopy};

/// Room for further queues in a new UMEM: as many again as it is made for, at least 48 MiB and at
/// most 256 MiB, because it is pinned whether it is used or not.
const ROOM_QUEUES: std::ops::RangeInclusive<u32> = 3..=16;

/// A UMEM and the sockets that share it.
#[derive(Debug)]
struct Group {
    terms: Terms,
    umem: Arc<Umem>,
    sockets: Vec<Weak<OwnedFd>>,
}

impl Group {
    fn socket(&self) -> Option<Arc<OwnedFd>> {
        self.sockets.iter().find_map(Weak::upgrade)
    }
}

/// Where interfaces get their memory from.
#[derive(Debug, Default)]
pub struct UmemPool {
    groups: Vec<Group>,
}

/// A bound socket and its chunks, which go back after it is closed: fields drop in this order.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) socket: Socket,
    pub(crate) part: Part,
}

impl UmemPool {
    /// A pool that has handed out nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { groups: Vec::new() }
    }

    /// Chunks that no queue has, for each UMEM that has sockets.
    #[must_use]
    pub fn free_chunks(&mut self) -> Vec<usize> {
        self.forget_the_gone();
        self.groups.iter().map(|group| group.umem.free.count()).collect()
    }

    /// Forgets closed sockets, and groups without any.
    fn forget_the_gone(&mut self) {
        for group in &mut self.groups {
            group.sockets.retain(|socket| socket.strong_count() > 0);
        }
        self.groups.retain(|group| !group.sockets.is_empty());
    }

    /// Chunks for so many queues in a group of these terms, and a socket to share its UMEM with.
    fn join(&mut self, terms: Terms, queues: u32) -> Option<(Vec<Part>, Arc<OwnedFd>)> {
        self.forget_the_gone();
        let mut groups = self.groups.iter().filter(|group| group.terms == terms);
        groups.find_map(|group| Some((Part::take_several(&group.umem, queues)?, group.socket()?)))
    }

    /// A bound socket of this UMEM.
    fn socket_of(&self, umem: &Arc<Umem>) -> Option<Arc<OwnedFd>> {
        self.groups.iter().find(|group| Arc::ptr_eq(&group.umem, umem))?.socket()
    }

    /// Notes sockets that were bound.
    fn note(&mut self, terms: Terms, bound: &[Bound]) {
        for Bound { socket, part } in bound {
            let is_theirs = |group: &&mut Group| Arc::ptr_eq(&group.umem, part.umem());
            let socket = Arc::downgrade(&socket.fd);
            match self.groups.iter_mut().find(is_theirs) {
                Some(group) => group.sockets.push(socket),
                None => {
                    let umem = Arc::clone(part.umem());
                    self.groups.push(Group { terms, umem, sockets: vec![socket] });
                }
            }
        }
    }
}

/// UMEMs on their way from one process to another.
impl UmemPool {
    fn alive(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| group.socket().is_some())
    }

    /// All UMEMs that have sockets, with the files that they lie in.
    pub fn describe(&self) -> impl Iterator<Item = (UmemState, BorrowedFd<'_>)> {
        self.alive().map(|Group { terms, umem, .. }| {
            let (has_metadata, free) = (umem.front_bytes() > 0, umem.free.numbers());
            (UmemState { terms: *terms, has_metadata, free }, umem.file())
        })
    }

    /// Which of those that are described this is.
    pub(crate) fn place(&self, umem: &Arc<Umem>) -> Option<usize> {
        self.alive().position(|group| Arc::ptr_eq(&group.umem, umem))
    }

    /// Adopts a UMEM of another process, in the order in which they were described. Adopt all of
    /// them, then the interfaces, before any is opened.
    ///
    /// # Errors
    ///
    /// [`SocketError`] if it cannot be mapped.
    pub fn adopt(&mut self, state: UmemState, file: OwnedFd) -> Result<(), SocketError> {
        let UmemState { terms, has_metadata, free } = state;
        let umem = Umem::adopt(file, has_metadata, &free)
            .map_err(SocketError::system("map umem", "the other switch"))?;
        self.groups.push(Group { terms, umem: Arc::new(umem), sockets: Vec::new() });
        Ok(())
    }

    /// The UMEM at this place, which is noted to have these sockets.
    pub(crate) fn join_adopted(
        &mut self,
        place: usize,
        sockets: &[Socket],
    ) -> Option<(Terms, Arc<Umem>)> {
        let group = self.groups.get_mut(place)?;
        group.sockets.extend(sockets.iter().map(|socket| Arc::downgrade(&socket.fd)));
        Some((group.terms, Arc::clone(&group.umem)))
    }
}

/// The binding of one interface's sockets, one for each of its queues. It may be tried several times.
#[derive(Debug)]
pub(crate) struct Binding<'a> {
    device: &'a Device,
    queues: u32,
    wish: ZeroCopy,
    pool: &'a mut UmemPool,
    /// Chunks of an attempt that came to nothing because a queue was still taken, to be used in
    /// the next: queue by queue, the kernel binds none before it has let go of them there.
    tried: Option<(Terms, Vec<Part>)>,
    /// Likewise those of a UMEM that was made for this interface.
    fresh: Option<Vec<Part>>,
}

impl<'a> Binding<'a> {
    /// Prepares to bind this many sockets.
    pub(crate) const fn new(
        device: &'a Device,
        queues: u32,
        wish: ZeroCopy,
        pool: &'a mut UmemPool,
    ) -> Self {
        Self { device, queues, wish, pool, tried: None, fresh: None }
    }

    /// Binds all sockets, on the best terms that the wish, the driver and the kernel allow.
    pub(crate) fn attempt(&mut self) -> Result<(Vec<Bound>, Terms), SocketError> {
        if self.wish != ZeroCopy::Never {
            match self.attempt_in(Mode::ZeroCopy)? {
                Ok(bound) => return Ok(bound),
                Err(source) if self.wish == ZeroCopy::Always => {
                    let interface = self.device.name().to_owned();
                    return Err(SocketError::NoZeroCopy { interface, queue: 0, source });
                }
                Err(_) => {}
            }
        }
        self.attempt_in(Mode::Copy)?.map_err(|error| self.place(0).refused(error))
    }

    /// The same in one mode: for frames in several buffers if that can be. The inner error is the
    /// refusal of the first socket.
    fn attempt_in(&mut self, mode: Mode) -> Result<io::Result<(Vec<Bound>, Terms)>, SocketError> {
        let terms = Terms { mode, is_multi_buffer: true };
        if let Ok(bound) = self.attempt_on(terms)? {
            return Ok(Ok((bound, terms)));
        }
        let terms = Terms { mode, is_multi_buffer: false };
        Ok(self.attempt_on(terms)?.map(|bound| (bound, terms)))
    }

    /// The same on these terms: with a UMEM that is there if that can be, else with a new one.
    fn attempt_on(&mut self, terms: Terms) -> Result<io::Result<Vec<Bound>>, SocketError> {
        if let Some((mut parts, socket)) = self.parts_to_share(terms) {
            match self.bind(&mut parts, terms, Source::Share(socket.as_fd())) {
                Ok(Ok(sockets)) => return Ok(Ok(self.note(terms, sockets, parts))),
                // The device cannot have this UMEM; it may get one of its own.
                Ok(Err(_)) => {}
                Err(error) => {
                    self.tried = Some((terms, parts));
                    return Err(error);
                }
            }
        }
        let mut parts = self.fresh_parts()?;
        match self.bind(&mut parts, terms, Source::Register(terms)) {
            Ok(Ok(sockets)) => Ok(Ok(self.note(terms, sockets, parts))),
            refused => {
                self.fresh = Some(parts);
                refused.map(|outcome| outcome.map(|_| Vec::new()))
            }
        }
    }

    /// Binds a socket for each part. The inner error is the refusal of the first; none is left
    /// bound if one fails.
    fn bind(
        &self,
        parts: &mut [Part],
        terms: Terms,
        source: Source<'_>,
    ) -> Result<io::Result<Vec<Socket>>, SocketError> {
        let mut sockets: Vec<Socket> = Vec::with_capacity(parts.len());
        for (queue, part) in (0..).zip(parts) {
            let place = self.place(queue);
            let source = sockets.first().map_or(source, |first| Source::Share(first.fd.as_fd()));
            match Socket::open(place, part, source)? {
                Ok(socket) => sockets.push(socket),
                Err(error) if sockets.is_empty() && !is_busy(&error) => return Ok(Err(error)),
                Err(error) => return Err(place.refused(error)),
            }
            if terms.mode == Mode::ZeroCopy {
                part.let_rest();
            }
        }
        Ok(Ok(sockets))
    }

    /// Notes sockets that were bound, for others to share the UMEM with.
    fn note(&mut self, terms: Terms, sockets: Vec<Socket>, parts: Vec<Part>) -> Vec<Bound> {
        let numbered = sockets.into_iter().zip(parts);
        let bound = numbered.map(|(socket, part)| Bound { socket, part }).collect::<Vec<_>>();
        self.pool.note(terms, &bound);
        bound
    }

    /// Chunks of a UMEM that is there, and a socket to share it with: those of an attempt before,
    /// if there was one.
    fn parts_to_share(&mut self, terms: Terms) -> Option<(Vec<Part>, Arc<OwnedFd>)> {
        if let Some((tried, parts)) = self.tried.take()
            && tried == terms
            && let Some(socket) = self.pool.socket_of(parts.first()?.umem())
        {
            return Some((parts, socket));
        }
        self.pool.join(terms, self.queues)
    }

    /// Chunks of a new UMEM, or of one that was made for an attempt before.
    fn fresh_parts(&mut self) -> Result<Vec<Part>, SocketError> {
        if let Some(parts) = self.fresh.take() {
            return Ok(parts);
        }
        let failed = SocketError::system("map umem", self.device.name());
        let umem = new_umem(self.queues).map_err(failed)?;
        Ok(Part::take_several(&umem, self.queues).expect("it was made for as many and more"))
    }

    fn place(&self, queue: u32) -> Place<'_> {
        Place { interface: self.device.name(), index: self.device.index(), queue }
    }
}

fn is_busy(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBUSY)
}

/// A UMEM for so many queues and for others to come.
fn new_umem(queues: u32) -> io::Result<Arc<Umem>> {
    let room = queues.clamp(*ROOM_QUEUES.start(), *ROOM_QUEUES.end());
    Umem::new(queues.saturating_add(room)).map(Arc::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COPY: Terms = Terms { mode: Mode::Copy, is_multi_buffer: true };

    /// Notes queues with these descriptors in place of sockets, of a new UMEM.
    fn note(pool: &mut UmemPool, terms: Terms, queues: u32) -> (Vec<Part>, Vec<Arc<OwnedFd>>) {
        let umem = new_umem(queues).unwrap();
        let parts = Part::take_several(&umem, queues).unwrap();
        let file = || Arc::new(OwnedFd::from(std::fs::File::open("/dev/null").unwrap()));
        let fds: Vec<_> = (0..queues).map(|_| file()).collect();
        let sockets = fds.iter().map(Arc::downgrade).collect();
        pool.groups.push(Group { terms, umem, sockets });
        (parts, fds)
    }

    #[test]
    fn interface_joins_the_group_of_its_terms_while_there_is_room() {
        let mut pool = UmemPool::new();
        let (parts, _sockets) = note(&mut pool, COPY, 1);

        assert!(pool.join(Terms { mode: Mode::ZeroCopy, ..COPY }, 1).is_none());
        let (joined, _) = pool.join(COPY, 3).unwrap();

        assert!(joined.iter().all(|part| Arc::ptr_eq(part.umem(), parts[0].umem())));
        assert!(pool.join(COPY, 1).is_none());
    }

    #[test]
    fn new_memory_has_room_for_as_many_queues_again_within_limits() {
        let parts = |queues| new_umem(queues).unwrap().free.count() / 4_096;

        assert_eq!([parts(1), parts(8), parts(64)], [4, 16, 80]);
    }

    #[test]
    fn group_goes_with_its_last_socket_and_not_before() {
        let mut pool = UmemPool::new();
        let (_parts, mut sockets) = note(&mut pool, COPY, 2);

        sockets.remove(0);
        assert!(pool.join(COPY, 1).is_some());
        sockets.clear();
        assert!(pool.join(COPY, 1).is_none());

        assert!(pool.free_chunks().is_empty());
    }
}
