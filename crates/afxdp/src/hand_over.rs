//! Uplinks on their way from one process to another, which goes on with the same sockets, UMEMs and
//! XDP programs. Nothing is bound or attached anew, so nothing is lost: what arrives meanwhile waits
//! in the rx rings.
//!
//! ```text
//!   the old process                                     the new one
//!   UmemPool::describe, Interface::describe ──────────▶ UmemPool::adopt, Interface::adopt
//!   its queues stop   XdpQueue::describe    ──────────▶ AdoptedQueue::go_on
//!   let_go                                              own
//! ```
//!
//! Both have everything for a while. Whoever does not [own](crate::Interface::own) an interface leaves its
//! rings alone and does not put it back when dropped: the new one before it owns, and the old one
//! after it has [let go](crate::Interface::let_go).
//!
//! Each chunk has one owner all the time. What a ring holds is read from the ring; the old process
//! tells the rest. The new one [counts](XdpQueue::count_chunks) before it goes on, and refuses chunks
//! that are in two places or a stranger's.
//!
//! Descriptors go beside these structures; their fields are this crate's affair. Whoever changes the
//! meaning of one raises the version of the hand-over (`ringway/hand_over/state.rs`).

use std::os::fd::OwnedFd;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::chunks::{Part, address_of, number_of};
use crate::interface::Mode;
use crate::pool::Bound;
use crate::program::Attachment;
use crate::queue::{Abilities, LargeFrames};
use crate::rings::Descriptor;
use crate::socket::{Socket, Terms};
use crate::statistics::LinkStatistics;
use crate::umem::Umem;
use crate::{SocketError, XdpQueue};

/// A UMEM, and which of its chunks no queue has.
#[derive(Debug, Serialize, Deserialize)]
pub struct UmemState {
    pub(crate) terms: Terms,
    pub(crate) has_metadata: bool,
    pub(crate) free: Vec<u32>,
}

/// An interface: what was found out about it and done to it when it was opened.
#[derive(Debug, Serialize, Deserialize)]
pub struct InterfaceState {
    pub(crate) name: String,
    pub(crate) index: u32,
    /// Slots of the rings: fill, completion, rx, tx.
    pub(crate) slots: [u32; 4],
    pub(crate) attachment: Attachment,
    pub(crate) offloads_were_on: u32,
    pub(crate) mode: Mode,
    pub(crate) abilities: Abilities,
    pub(crate) senders: u32,
    pub(crate) at_opening: LinkStatistics,
    /// Its UMEM: which of those that were described.
    pub(crate) umem: usize,
}

/// The descriptors that keep an interface taken, but for its queues' sockets.
#[derive(Debug)]
pub struct InterfaceDescriptors<F> {
    /// The map of sockets.
    pub map: F,
    /// The attachment of the program.
    pub link: F,
    /// The socket that makes the interface promiscuous.
    pub promiscuous: F,
}

/// A queue that has stopped: all that is not in its rings. Chunks by their numbers.
#[derive(Debug, Serialize, Deserialize)]
pub struct QueueState {
    chunks: Vec<u32>,
    rests: bool,
    back: Vec<u32>,
    free: Vec<u32>,
    /// Buffers of a frame whose last one has not come: address, length, options.
    gathered: Vec<(u64, u32, u32)>,
    is_too_long: bool,
    is_stalled: bool,
}

/// Where the chunks of a queue are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ChunkCount {
    /// In the fill ring or on their way there.
    pub to_receive: usize,
    /// With frames that have arrived and were not looked at.
    pub received: usize,
    /// Free, for frames to send.
    pub free: usize,
    /// With frames that wait in the tx ring.
    pub to_send: usize,
    /// In the completion ring.
    pub sent: usize,
    /// With the kernel or the NIC: frames that arrive or leave. Of a queue that works also those with
    /// frames that were received and not completed.
    pub elsewhere: usize,
}

impl ChunkCount {
    /// All of them.
    #[must_use]
    pub const fn total(&self) -> usize {
        let Self { to_receive, received, free, to_send, sent, elsewhere } = *self;
        to_receive + received + free + to_send + sent + elsewhere
    }
}

impl XdpQueue {
    /// All that another process needs to go on with this queue, of which nothing is outstanding,
    /// beside its interface and its rings. `None` if something is.
    pub fn describe(&mut self) -> Option<QueueState> {
        if self.outstanding() > 0 {
            return None;
        }
        self.release();
        self.flush();
        let numbers = |chunks: &[u64]| chunks.iter().copied().map(number_of).collect();
        let (gathered, is_too_long) = self.jumbo.gathered();
        let gathered = gathered.iter().map(|it| (it.address, it.length_bytes, it.options));
        Some(QueueState {
            chunks: self.part.chunks().numbers(),
            rests: self.part.rests(),
            back: numbers(&self.back),
            free: numbers(&self.free),
            gathered: gathered.collect(),
            is_too_long,
            is_stalled: self.is_stalled,
        })
    }

    /// Leaves the rings to the other process from now on.
    pub const fn let_go(&mut self) {
        self.is_foreign = true;
    }

    /// The rings are this process' from now on.
    pub const fn own(&mut self) {
        self.is_foreign = false;
    }

    /// Says whether another process has worked at the rings since this one stopped. Then this one
    /// cannot go on with the queue.
    #[must_use]
    pub fn was_moved(&self) -> bool {
        self.socket.was_moved()
    }

    /// Counts the chunks of the queue. For the control plane: it takes a while.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotAdopted`] if a chunk is in two places, or another queue's.
    pub fn count_chunks(&self) -> Result<ChunkCount, SocketError> {
        let mut left = self.part.chunks().clone();
        let mut count = |addresses: &mut dyn Iterator<Item = u64>| -> Result<usize, SocketError> {
            let mut counted = 0;
            for address in addresses {
                if !left.take_out(number_of(address)) {
                    return Err(self.refused(format!(
                        "chunk {} is in two places or another queue's",
                        number_of(address)
                    )));
                }
                counted += 1;
            }
            Ok(counted)
        };
        let addresses = |items: Vec<Descriptor>| items.into_iter().map(|item| item.address);
        // Each ring before the one that the kernel fills it from: a chunk on its way between the two
        // is seen in neither.
        let (gathered, _) = self.jumbo.gathered();
        let received = count(&mut addresses(self.socket.rx.items()))?
            + count(&mut gathered.iter().map(|buffer| buffer.address))?;
        let to_receive = count(&mut self.socket.fill.items().into_iter())?
            + count(&mut self.back.iter().copied())?;
        let sent = count(&mut self.socket.completion.items().into_iter())?;
        let to_send = count(&mut addresses(self.socket.tx.items()))?;
        let free = count(&mut self.free.iter().copied())?;
        let elsewhere = left.count();
        Ok(ChunkCount { to_receive, received, free, to_send, sent, elsewhere })
    }

    fn refused(&self, reason: impl Into<String>) -> SocketError {
        not_adopted(&format!("queue {}", self.number()), reason)
    }
}

/// A queue of another process, which works it still.
#[derive(Debug)]
pub struct AdoptedQueue {
    pub(crate) socket: Socket,
    pub(crate) umem: Arc<Umem>,
    pub(crate) queue: u32,
    pub(crate) abilities: Abilities,
    pub(crate) large: Option<LargeFrames>,
}

impl AdoptedQueue {
    /// The queue, which the other process has stopped. It is not [owned](XdpQueue::own) yet.
    ///
    /// # Errors
    ///
    /// [`SocketError::NotAdopted`] if its chunks are not as they must be.
    pub fn go_on(self, state: QueueState) -> Result<XdpQueue, SocketError> {
        let Self { mut socket, umem, queue, abilities, large } = self;
        socket.catch_up();
        let refused = |reason| not_adopted(&format!("queue {queue}"), reason);
        let part = Part::claim(&umem, &state.chunks, state.rests)
            .ok_or_else(|| refused("a chunk of it is another queue's, or does not exist"))?;
        let mut queue = XdpQueue::new(Bound { socket, part }, queue, abilities, large);
        queue.let_go();
        let addresses = |numbers: &[u32]| numbers.iter().copied().map(address_of).collect();
        queue.back.extend::<Vec<u64>>(addresses(&state.back));
        queue.free = addresses(&state.free);
        let gathered = state.gathered.into_iter();
        let gathered = gathered.map(|(address, length_bytes, options)| Descriptor {
            address,
            length_bytes,
            options,
        });
        queue.jumbo.go_on(gathered, state.is_too_long);
        queue.is_stalled = state.is_stalled;
        queue.count_chunks()?;
        Ok(queue)
    }
}

/// A socket's file that came from another process, with its rings.
pub(crate) fn adopt_socket(fd: OwnedFd, subject: &str) -> Result<Socket, SocketError> {
    Socket::adopt(fd).map_err(SocketError::system("map the rings of a bound xdp socket", subject))
}

pub(crate) fn not_adopted(subject: &str, reason: impl Into<String>) -> SocketError {
    SocketError::NotAdopted { subject: subject.to_owned(), reason: reason.into() }
}
