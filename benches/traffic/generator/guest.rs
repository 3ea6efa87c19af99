//! A guest without a hypervisor: front end, memory and rings.
//!
//! It listens, as QEMU with `server=on` does, so that every system under test can be the client.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VringConfigData};

use super::memory::Memory;
use super::ring::{ReceiveRing, Ring, TransmitRing};

/// How long a system may take to connect.
const PATIENCE: Duration = Duration::from_secs(20);

/// VERSION_1 and MRG_RXBUF: what every peer has, and the feature set of all figures. No
/// EVENT_IDX: rings are polled, and notifications are switched by flag.
const FEATURES: u64 = 1 << 32 | 1 << 15;

/// CSUM, GUEST_CSUM, GUEST_TSO4 and HOST_TSO4: for large frames.
const LARGE_FRAMES: u64 = 1 << 0 | 1 << 1 | 1 << 7 | 1 << 11;

/// VIRTIO_NET_F_MQ, for more than one pair.
const MULTIQUEUE: u64 = 1 << 22;

/// How a guest works its rings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    /// Entries of every ring: a power of two. QEMU's default is 256, its most 1,024.
    pub(crate) entries: u16,
    /// Bytes of every buffer, net header included. Longer frames are spread over several.
    pub(crate) receive_buffer_bytes: usize,
    pub(crate) transmit_buffer_bytes: usize,
    pub(crate) queue_pairs: u16,
    /// Frames are large ones that a wire could not have.
    pub(crate) is_large: bool,
}

impl Manner {
    /// What a Linux guest would have for frames of this length: buffers of half a page, of a
    /// page for jumbo frames.
    pub(crate) const fn for_frames_of(length: usize) -> Self {
        let receive_buffer_bytes = if length <= 2_048 - 12 { 2_048 } else { 4_096 };
        let transmit_buffer_bytes =
            if length <= 2_048 - 12 { 2_048 } else { (length + 12).next_multiple_of(4_096) };
        let is_large = length > frame::MAX_FRAME_BYTES;
        // Large frames take so many buffers that few of them fit a ring of the usual size.
        let entries = if is_large { 1_024 } else { 256 };
        let queue_pairs = 1;
        Self { entries, receive_buffer_bytes, transmit_buffer_bytes, queue_pairs, is_large }
    }

    /// The most frames of this length that can be on their way without one being dropped for want
    /// of buffers.
    pub(crate) const fn window(&self, length: usize) -> u64 {
        self.entries as u64 / (length + 12).div_ceil(self.receive_buffer_bytes) as u64
    }
}

/// A guest, connected to a system or about to be.
pub(crate) struct Guest {
    memory: Arc<Memory>,
    pub(crate) pairs: Vec<(ReceiveRing, TransmitRing)>,
    is_large: bool,
    listener: Option<UnixListener>,
    /// Its session ends when it is dropped.
    frontend: Option<Frontend>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Guest").field("pairs", &self.pairs.len()).finish_non_exhaustive()
    }
}

impl Guest {
    /// Makes a guest that listens at `socket`.
    pub(crate) fn listen(socket: &Path, manner: Manner) -> std::io::Result<Self> {
        let mut guest = Self::alone(manner)?;
        let listener = UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        guest.listener = Some(listener);
        Ok(guest)
    }

    /// Makes a guest that nobody is to connect to.
    pub(crate) fn alone(manner: Manner) -> std::io::Result<Self> {
        let Manner { entries, receive_buffer_bytes, transmit_buffer_bytes, queue_pairs, is_large } =
            manner;
        let receive_bytes = Ring::bytes(entries, receive_buffer_bytes).next_multiple_of(4_096);
        let pair_bytes = receive_bytes + Ring::bytes(entries, transmit_buffer_bytes);
        let pair_bytes = pair_bytes.next_multiple_of(4_096);
        // DPDK maps in huge-page steps when it finds such files; two MiB suit everybody.
        let length = (pair_bytes * usize::from(queue_pairs)).next_multiple_of(2 << 20);
        let memory = Memory::new(length)?;
        let pair = |number: u16| -> std::io::Result<_> {
            let start = pair_bytes * usize::from(number);
            let receive = ReceiveRing::new(&memory, start, entries, receive_buffer_bytes)?;
            let start = start + receive_bytes;
            let transmit = TransmitRing::new(&memory, start, entries, transmit_buffer_bytes)?;
            Ok((receive, transmit))
        };
        let pairs = (0..queue_pairs).map(pair).collect::<Result<_, _>>()?;
        Ok(Self { memory, pairs, is_large, listener: None, frontend: None })
    }

    /// Waits for the system to connect, and starts the rings.
    pub(crate) fn plug_in(&mut self) -> Result<(), String> {
        let stream = self.accept()?;
        let rings = 2 * self.pairs.len();
        let mut frontend = Frontend::from_stream(stream, rings as u64);
        self.negotiate(&mut frontend).map_err(|error| format!("vhost-user: {error}"))?;
        self.frontend = Some(frontend);
        Ok(())
    }

    fn accept(&self) -> Result<UnixStream, String> {
        let listener = self.listener.as_ref().ok_or("the guest does not listen")?;
        let start = Instant::now();
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let waits = stream.set_nonblocking(false);
                    // A system that answers no more is not to hold the bench.
                    let is_bounded = waits.and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
                    return is_bounded.map(|()| stream).map_err(|error| error.to_string());
                }
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => {
                    return Err(error.to_string());
                }
                Err(_) if start.elapsed() > PATIENCE => {
                    return Err(format!("the system did not connect within {PATIENCE:?}"));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    /// The conversation, in QEMU's order but for what it enables too early.
    fn negotiate(&self, frontend: &mut Frontend) -> Result<(), vhost::Error> {
        frontend.set_owner()?;
        let offered = frontend.get_features()?;
        let protocol = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
        let pairs = self.pairs.len();
        let wanted = FEATURES
            | protocol
            | if pairs > 1 { MULTIQUEUE } else { 0 }
            | if self.is_large { LARGE_FRAMES } else { 0 };
        if offered & wanted != wanted {
            return Err(vhost::Error::InvalidOperation);
        }
        let offered = frontend.get_protocol_features()?;
        let wanted_protocol = VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK;
        frontend.set_protocol_features(offered & wanted_protocol)?;
        frontend.set_features(wanted)?;
        frontend.set_mem_table(&[self.memory.region()])?;
        let rings =
            self.pairs.iter().flat_map(|(receive, transmit)| [&receive.ring, &transmit.ring]);
        for (index, ring) in rings.clone().enumerate() {
            frontend.set_vring_num(index, ring.entries)?;
            frontend.set_vring_base(index, 0)?;
            frontend.set_vring_addr(index, &self.addresses(ring))?;
            frontend.set_vring_call(index, &ring.call)?;
            frontend.set_vring_kick(index, &ring.kick)?;
        }
        for (index, _) in rings.enumerate() {
            frontend.set_vring_enable(index, true)?;
        }
        Ok(())
    }

    fn addresses(&self, ring: &Ring) -> VringConfigData {
        VringConfigData {
            queue_max_size: ring.entries,
            queue_size: ring.entries,
            flags: 0,
            desc_table_addr: self.memory.user_address(ring.table),
            used_ring_addr: self.memory.user_address(ring.used),
            avail_ring_addr: self.memory.user_address(ring.available),
            log_addr: None,
        }
    }
}
