//! An interface taken as uplink: everything that is done to it once, and undone on drop.
//!
//! Opening checks first and changes later, so a refusal leaves the interface as it was found:
//! it exists, is no loopback, is not in use by the host, has no larger MTU than the switch takes,
//! has not more channels than there can be sockets. Then the XDP program is attached (which refuses a
//! second one), every receive channel that there is now gets a socket, and the sockets go into the
//! program's map. A channel without socket would lose its frames silently.
//!
//! An interface that is down is set up, as its operator expects of a switch, and is left up.

mod hand_over;

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use frame::{ETHERNET_HEADER_BYTES, MAX_FRAME_BYTES};
use serde::{Deserialize, Serialize};

use crate::ioctl::Device;
use crate::occupancy::check_unused;
use crate::offloads::Offloads;
use crate::pool::{Binding, Bound};
use crate::program::{Attachment, Program};
use crate::queue::{Abilities, LargeFrames};
use crate::statistics::LinkStatistics;
use crate::umem::{CHUNK_BYTES, HEADROOM_BYTES, Umem};
use crate::{SocketError, UmemPool, XdpQueue, netdev, sys};

/// Largest MTU whose frames, with Ethernet header and one tag, fit a chunk.
const CHUNK_MTU_BYTES: u32 = CHUNK_BYTES - HEADROOM_BYTES - 18;

/// Largest MTU of all: that of the longest frame.
#[expect(clippy::cast_possible_truncation, reason = "9,202")]
const MTU_LIMIT_BYTES: u32 = (MAX_FRAME_BYTES - ETHERNET_HEADER_BYTES) as u32;

/// How long an interface that has a program or sockets already is tried again. A process that is
/// killed loses them only when its memory has been unmapped, and a queue is freed after that, by a
/// worker of the kernel (`xp_release_deferred`, net/xdp/xsk_buff_pool.c), also when its port was
/// just removed; who takes it again at once is not to be refused for that. Seen with two queues:
/// 25 to 50 ms after the kill; with ten busy threads on two cores up to 850 ms, and twice more
/// than 2 s. The control thread stands still meanwhile, frames do not.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(4);

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(5);

/// Whether the NIC may write to and read from the UMEM itself.
///
/// It may not if the interface has queues that receive and do not send. Those are `virtio_net`'s, which
/// adds them for an XDP program if its device has more than the host uses: in zero copy they never
/// send (`virtnet_poll_tx`), and as they go with the program, which goes before the sockets have let
/// go of them, the driver keeps pointers to freed memory (`virtnet_xsk_pool_disable`,
/// drivers/net/virtio_net.c). Seen on Linux 7.3: the next program made the kernel stumble over one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ZeroCopy {
    /// If the driver can; otherwise the kernel copies.
    #[default]
    Auto,
    /// Opening fails if the driver cannot.
    Always,
    /// The kernel copies.
    Never,
}

/// How frames get into and out of the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mode {
    /// The kernel copies each frame.
    Copy,
    /// The NIC reads and writes the UMEM.
    ZeroCopy,
}

impl Mode {
    /// The name in reports: `copy` or `zero-copy`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::ZeroCopy => "zero-copy",
        }
    }
}

/// Who completes the checksums of frames that are sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Checksums {
    /// The NIC if its driver says that it can, else the switch.
    #[default]
    Auto,
    /// The switch.
    Switch,
    /// The NIC, whatever it says, if the kernel knows how to ask it.
    Nic,
}

/// What an operator chooses about an uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Whether to use zero copy.
    pub zero_copy: ZeroCopy,
    /// Takes an interface that is in use by the host, or whose offloads cannot be switched off.
    pub force: bool,
    /// Most receive channels to serve; each costs 16 MiB of pinned memory, and the first
    /// interface's as much again, for others to share.
    pub max_queues: u32,
    /// Who completes the checksums of frames that are sent.
    pub checksums: Checksums,
}

impl Default for Settings {
    fn default() -> Self {
        // 64 queues are 1.25 GiB; NICs have as many channels as the host has cores by default.
        let (zero_copy, checksums) = (ZeroCopy::Auto, Checksums::Auto);
        Self { zero_copy, force: false, max_queues: 64, checksums }
    }
}

/// An uplink. The program stays attached and the interface promiscuous until it is dropped; drop
/// the queues first, or their frames go nowhere.
#[derive(Debug)]
pub struct Interface {
    device: Device,
    // Dropped in this order: see `offloads.rs`.
    program: Program,
    offloads: Offloads,
    promiscuous: OwnedFd,
    mode: Mode,
    /// Of all its queues, but that the later ones may not send.
    abilities: Abilities,
    queue_count: u32,
    /// So many queues send, the first ones.
    senders: u32,
    at_opening: LinkStatistics,
    umem: Arc<Umem>,
}

impl Interface {
    /// Takes the interface of this name, in the calling thread's network namespace, and returns it
    /// with one queue for each of its receive channels.
    ///
    /// # Errors
    ///
    /// [`SocketError`]; the interface is then as it was, except that it may be up.
    pub fn open(
        name: &str,
        settings: &Settings,
        pool: &mut UmemPool,
    ) -> Result<(Self, Vec<XdpQueue>), SocketError> {
        let device = find(name)?;
        if !settings.force {
            check_unused(&device)?;
        }
        let mtu_bytes = check_mtu(&device, MTU_LIMIT_BYTES)?;
        let limit = settings.max_queues;
        check_channels(&device, limit)?;
        sys::lift_locked_memory_limit();
        let failed = |call| SocketError::system(call, name);
        device.set_up().map_err(failed("set up"))?;

        // Dropped after the program if anything fails.
        let offloads = Offloads::of(find(name)?)?;
        let program = wait_for_predecessor(|| Program::attach(name, device.index(), limit))?;
        // Only now: virtio_net adds a channel for each processor when it gets a program, and the
        // device receives on those, too (`virtnet_xdp_set`, drivers/net/virtio_net.c).
        let channels = check_channels(&device, limit)?;
        let senders = count_queues(name, "tx-").unwrap_or(channels);
        let zero_copy = check_zero_copy(name, settings.zero_copy, channels, senders)?;
        let mut binding = Binding::new(&device, channels, zero_copy, pool);
        let (bound, terms) = wait_for_predecessor(|| binding.attempt())?;
        if !terms.is_multi_buffer {
            check_mtu(&device, CHUNK_MTU_BYTES)?;
        }
        let promiscuous = device.make_promiscuous().map_err(failed("make promiscuous"))?;
        offloads.switch_off(settings.force)?;
        let completes_checksums = match settings.checksums {
            Checksums::Switch => false,
            Checksums::Nic => true,
            Checksums::Auto => netdev::completes_checksums(device.index()),
        };
        let umem = Arc::clone(bound.first().expect("there is one for each channel").part.umem());
        let abilities = Abilities {
            mtu_bytes,
            can_send: true,
            is_multi_buffer: terms.is_multi_buffer,
            completes_checksums: completes_checksums && umem.front_bytes() > 0,
        };
        let interface = Self {
            device,
            program,
            offloads,
            promiscuous,
            mode: terms.mode,
            abilities,
            queue_count: channels,
            senders,
            at_opening: LinkStatistics::read(name),
            umem,
        };
        let queues = interface.connect(bound)?;
        Ok((interface, queues))
    }

    /// Puts the sockets into the program's map: from now on frames arrive.
    fn connect(&self, bound: Vec<Bound>) -> Result<Vec<XdpQueue>, SocketError> {
        (0..)
            .zip(bound)
            .map(|(queue, bound)| {
                let subject = format!("{} queue {queue}", self.device.name());
                let failed = SocketError::system("insert socket into XSKMAP", subject);
                self.program.insert(queue, bound.socket.fd.as_fd()).map_err(failed)?;
                Ok(XdpQueue::new(bound, queue, self.abilities_of(queue), self.large_frames()))
            })
            .collect()
    }

    fn abilities_of(&self, queue: u32) -> Abilities {
        Abilities { can_send: queue < self.senders, ..self.abilities }
    }

    /// Where large frames leave by its only queue. `None` if it does not cut them, or another frame
    /// could overtake them: see `queue/large.rs`.
    fn large_frames(&self) -> Option<LargeFrames> {
        let is_only_way = self.mode == Mode::Copy && self.queue_count == 1 && self.senders == 1;
        if !is_only_way || !self.device.segments_tcp() {
            return None;
        }
        // It is none the worse for that: frames are cut before they leave.
        self.device.large_frame_socket().ok().map(LargeFrames::new)
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// How frames get into and out of the UMEM.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The interface's MTU when it was opened, in bytes.
    #[must_use]
    pub const fn mtu_bytes(&self) -> u32 {
        self.abilities.mtu_bytes
    }

    /// Says whether the driver runs the program itself (native XDP); otherwise the kernel's slower
    /// generic path does.
    #[must_use]
    pub fn is_native(&self) -> bool {
        self.program.attachment() == Attachment::Native
    }

    /// Receive channels, each with a socket.
    #[must_use]
    pub const fn queue_count(&self) -> u32 {
        self.queue_count
    }

    /// The interface's own counters since it was opened. Those a driver resets begin at zero.
    #[must_use]
    pub fn statistics(&self) -> LinkStatistics {
        LinkStatistics::read(self.device.name()).since(self.at_opening)
    }
}

fn find(name: &str) -> Result<Device, SocketError> {
    let failed = |call| SocketError::system(call, name);
    let found = Device::find(name).map_err(failed("look up interface"))?;
    let device = found.ok_or_else(|| SocketError::Missing { interface: name.to_owned() })?;
    let flags = device.flags().map_err(failed("read flags"))?;
    if flags & libc::IFF_LOOPBACK != 0 {
        return Err(SocketError::Loopback { interface: name.to_owned() });
    }
    Ok(device)
}

fn check_mtu(device: &Device, limit_bytes: u32) -> Result<u32, SocketError> {
    let failed = SocketError::system("read mtu", device.name());
    let mtu_bytes = device.mtu_bytes().map_err(failed)?;
    if mtu_bytes > limit_bytes {
        return Err(SocketError::MtuTooLarge {
            interface: device.name().to_owned(),
            mtu_bytes,
            limit_bytes,
        });
    }
    Ok(mtu_bytes)
}

/// Receive channels: as the driver says, and at least as many as there are queues in sysfs.
fn check_channels(device: &Device, limit: u32) -> Result<u32, SocketError> {
    let interface = device.name();
    let failed = SocketError::system("read channels", interface);
    let told = device.receive_channels().map_err(failed)?.unwrap_or(0);
    let channels = told.max(count_queues(interface, "rx-").unwrap_or(0)).max(1);
    if channels > limit {
        return Err(SocketError::TooManyChannels {
            interface: interface.to_owned(),
            channels,
            limit,
        });
    }
    Ok(channels)
}

/// What becomes of the wish for zero copy: see [`ZeroCopy`].
fn check_zero_copy(
    interface: &str,
    wish: ZeroCopy,
    channels: u32,
    senders: u32,
) -> Result<ZeroCopy, SocketError> {
    match wish {
        _ if channels <= senders => Ok(wish),
        ZeroCopy::Auto | ZeroCopy::Never => Ok(ZeroCopy::Never),
        ZeroCopy::Always => {
            Err(SocketError::ReceiveOnly { interface: interface.to_owned(), channels, senders })
        }
    }
}

/// Queues of the interface in sysfs whose names begin like this. `None` if it has none there: /sys
/// is another namespace's then.
fn count_queues(interface: &str, prefix: &str) -> Option<u32> {
    let entries = fs::read_dir(Path::new("/sys/class/net").join(interface).join("queues")).ok()?;
    let is_meant = |entry: &fs::DirEntry| {
        entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix))
    };
    let count = entries.flatten().filter(is_meant).count();
    u32::try_from(count).ok().filter(|&count| count > 0)
}

/// Tries until nothing of a predecessor is in the way, for at most [`PREDECESSOR_PATIENCE`].
fn wait_for_predecessor<T>(
    mut attempt: impl FnMut() -> Result<T, SocketError>,
) -> Result<T, SocketError> {
    let deadline = Instant::now() + PREDECESSOR_PATIENCE;
    loop {
        match attempt() {
            Err(SocketError::ProgramPresent { .. } | SocketError::QueueTaken { .. })
                if Instant::now() < deadline =>
            {
                thread::sleep(ATTEMPT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}
