//! What a back end must be able to do, and the values it does it with.
//!
//! The protocol is split in two. [`Session`](crate::Session) knows bytes, descriptors, sizes,
//! flags, replies and what was negotiated; a [`Backend`] knows memory, rings and guests. Each
//! request that reaches the far half is one method here, called on the thread that drives the
//! session, after everything that can be checked without knowing the device was checked:
//!
//! - a ring index is below [`Backend::rings_max`];
//! - a memory region has a size, and neither its guest nor its user addresses nor its file
//!   offsets wrap;
//! - feature bits are among [`Backend::served_features`].
//!
//! Order is the front end's and must be expected to be any order: QEMU enables rings before it
//! acknowledges features, asks for the base of rings that never ran, and takes memory away under
//! rings that do run. Names follow the vhost-user specification in QEMU's
//! `docs/interop/vhost-user.rst`.

use std::os::fd::OwnedFd;

/// Most memory regions a front end may have at a time: the answer to GET_MAX_MEM_SLOTS.
///
/// 509 is the limit that the kernel's KVM and vhost use, and that the design plans for.
pub const MEMORY_SLOTS_MAX: usize = 509;

/// A piece of guest memory, as the front end describes it.
///
/// A region given to a [`Backend`] has a size above zero, and `guest_address + size_bytes`,
/// `user_address + size_bytes` and `mmap_offset + size_bytes` do not wrap. Nothing else is sure:
/// regions may overlap, and the file may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MemoryRegion {
    /// Where the guest sees it: a guest physical address.
    pub guest_address: u64,
    /// Its size in bytes, never 0.
    pub size_bytes: u64,
    /// Where the front end sees it: the address space of SET_VRING_ADDR.
    pub user_address: u64,
    /// Where it starts in the file that came with it, in bytes; need not be page-aligned.
    pub mmap_offset: u64,
}

/// Where the dirty log lies in the file that came with it (SET_LOG_BASE). Unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogExtent {
    /// Its size in bytes: one for each eight pages of 4 KiB.
    pub size_bytes: u64,
    /// Where it starts in the file, in bytes.
    pub mmap_offset: u64,
}

/// Where the front end says that a ring lies (SET_VRING_ADDR). All are user addresses, unchecked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VringAddresses {
    /// The descriptor table; on packed rings the descriptor ring.
    pub descriptor_table: u64,
    /// The used ring; on packed rings the device event suppression area.
    pub used_ring: u64,
    /// The available ring; on packed rings the driver event suppression area.
    pub available_ring: u64,
    /// The guest physical address under which writes to the used ring are logged, if the front
    /// end set VHOST_VRING_F_LOG.
    pub log: Option<u64>,
}

/// How rings become enabled, which depends on what the front end acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RingEnabling {
    /// VHOST_USER_F_PROTOCOL_FEATURES was acknowledged: a ring is enabled while the last
    /// SET_VRING_ENABLE for it said so, whether that came before or after SET_FEATURES.
    ByRequest,
    /// It was not: there is no SET_VRING_ENABLE, and every ring is enabled from the start.
    FromTheStart,
}

/// A back end's "no": one sentence for the operator that says what was wrong.
///
/// Lower case, no full stop, data in the message, as for errors.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refused {
    reason: String,
}

impl Refused {
    /// Makes a refusal with its reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// The device behind a session: what requests act upon.
///
/// A refusal reaches the front end as a negative acknowledgement if it asked for one
/// (VHOST_USER_PROTOCOL_F_REPLY_ACK), and the session goes on; otherwise the front end would
/// believe in something that is not so, and the session ends with
/// [`SessionError::Refused`](crate::SessionError::Refused).
///
/// Methods run while the front end waits for its reply, so they must be quick, and what they
/// return must be true when they return: memory that was removed is no longer touched, a ring
/// whose base was asked for has stopped.
pub trait Backend {
    /// Returns the virtio feature bits on offer (GET_FEATURES), without
    /// VHOST_USER_F_PROTOCOL_FEATURES (bit 30), which the session adds.
    ///
    /// Comes whenever the front end asks, and only then: a back end may note that it was asked.
    fn device_features(&mut self) -> u64;

    /// Returns the virtio feature bits that may be acknowledged: those on offer, and any more that
    /// the back end can serve.
    ///
    /// A front end that lost its back end goes on with what the guest's driver has acknowledged
    /// long ago, and some do so whatever the new back end offers.
    fn served_features(&self) -> u64;

    /// Returns the most queue pairs on offer, at least 1. Must not change within a session.
    fn queue_pairs_max(&self) -> u16;

    /// Returns how many rings may be described: those of the queue pairs, and any behind them. Must
    /// not change within a session.
    fn rings_max(&self) -> u16;

    /// Takes the feature bits that the front end acknowledged: a subset of
    /// [`served_features`](Self::served_features), bit 30 taken out.
    ///
    /// Comes at every start of the guest's driver, with rings stopped or, for the dirty log,
    /// running.
    ///
    /// # Errors
    ///
    /// [`Refused`] if these bits cannot be had together.
    fn set_features(&mut self, features: u64, enabling: RingEnabling) -> Result<(), Refused>;

    /// Replaces all guest memory (SET_MEM_TABLE): 1 to 8 regions, each with its file.
    ///
    /// # Errors
    ///
    /// [`Refused`] if a region cannot be mapped or overlaps another.
    fn set_memory_table(&mut self, regions: Vec<(MemoryRegion, OwnedFd)>) -> Result<(), Refused>;

    /// Adds a region (ADD_MEM_REG). There are at most [`MEMORY_SLOTS_MAX`] at a time.
    ///
    /// QEMU 7.2 sends all of them once for each queue pair: a region that is there already is
    /// no mistake.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it cannot be mapped, overlaps another, or is one too many.
    fn add_memory_region(&mut self, region: MemoryRegion, file: OwnedFd) -> Result<(), Refused>;

    /// Takes a region away (REM_MEM_REG): the one with this guest address, size and user
    /// address. The offset is not always filled in and must not be compared.
    ///
    /// Running rings may lie in it: QEMU removes regions and adds them again under live rings
    /// while firmware moves its memory. With several queue pairs it removes each once for each, so
    /// a region that is not there any more is no mistake.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the back end cannot do without it.
    fn remove_memory_region(&mut self, region: MemoryRegion) -> Result<(), Refused>;

    /// Sets the dirty log (SET_LOG_BASE), in place of the one before if there is one. Used while
    /// VHOST_F_LOG_ALL is among the features, which may be acknowledged before or after. Nothing is
    /// written to the log before once this returns: the front end looks at that a last time.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it cannot be mapped, which ends the session: QEMU does not look at the answer.
    fn set_log_base(&mut self, extent: LogExtent, file: OwnedFd) -> Result<(), Refused>;

    /// Sets the number of entries of a ring (SET_VRING_NUM); any number.
    ///
    /// # Errors
    ///
    /// [`Refused`] if a ring cannot have this size.
    fn set_vring_size(&mut self, index: u16, size: u32) -> Result<(), Refused>;

    /// Sets where a ring lies (SET_VRING_ADDR). May come while the ring runs.
    ///
    /// # Errors
    ///
    /// [`Refused`] if a ring cannot be there. Memory may still come later.
    fn set_vring_addresses(&mut self, index: u16, addresses: VringAddresses)
    -> Result<(), Refused>;

    /// Sets where a ring carries on (SET_VRING_BASE): the next available index on split rings,
    /// both positions with their wrap counters on packed ones.
    ///
    /// # Errors
    ///
    /// [`Refused`] if a ring cannot start there.
    fn set_vring_base(&mut self, index: u16, base: u32) -> Result<(), Refused>;

    /// Stops a ring and returns where it carries on (GET_VRING_BASE). Before the next start the
    /// front end sends size, base, addresses and descriptors anew, but not memory. Asked of rings
    /// that never ran too: then the base last set, or 0.
    ///
    /// # Errors
    ///
    /// [`Refused`] if there is no answer, which ends the session: this request cannot be
    /// answered with a "no".
    fn get_vring_base(&mut self, index: u16) -> Result<u32, Refused>;

    /// Sets the descriptor by which the driver says that there is work, and starts the ring
    /// (SET_VRING_KICK). `None`: there is none, the ring must be polled.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the ring cannot start.
    fn set_vring_kick(&mut self, index: u16, kick: Option<OwnedFd>) -> Result<(), Refused>;

    /// Sets the descriptor by which the driver is notified (SET_VRING_CALL). `None`: it polls.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the descriptor is of no use.
    fn set_vring_call(&mut self, index: u16, call: Option<OwnedFd>) -> Result<(), Refused>;

    /// Sets the descriptor by which the front end hears of ring errors (SET_VRING_ERR).
    ///
    /// # Errors
    ///
    /// [`Refused`] if the descriptor is of no use.
    fn set_vring_err(&mut self, index: u16, err: Option<OwnedFd>) -> Result<(), Refused>;

    /// Enables or disables a ring (SET_VRING_ENABLE): a disabled ring passes no frames.
    ///
    /// Comes at any time, also long before the ring starts, and is remembered across stops.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the ring cannot be had.
    fn set_vring_enable(&mut self, index: u16, enabled: bool) -> Result<(), Refused>;

    /// Takes the device status that the driver wrote (SET_STATUS; VIRTIO 1.2, 2.1). 0 is a
    /// reset of the device by its driver.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the device cannot take this state.
    fn set_status(&mut self, status: u8) -> Result<(), Refused>;

    /// Returns the device status (GET_STATUS).
    fn status(&self) -> u8;

    /// Returns the device's configuration space (GET_CONFIG; VIRTIO 1.2, 2.5), as long as the
    /// device has one. Asked for only by front ends that have none of their own.
    fn config_space(&self) -> Vec<u8>;

    /// Takes the MTU in bytes that the front end tells the guest (NET_SET_MTU).
    ///
    /// # Errors
    ///
    /// [`Refused`] if frames of this size cannot be carried.
    fn set_mtu(&mut self, mtu: u16) -> Result<(), Refused>;

    /// Is told that the guest with this address has arrived here (SEND_RARP): the network is to
    /// learn its place. Comes before the rings start, too.
    fn send_rarp(&mut self, address: [u8; 6]);

    /// Stops all rings (RESET_OWNER, which is deprecated). Memory stays.
    fn reset_owner(&mut self);

    /// Brings the device back to its initial state: rings stopped and disabled, status 0
    /// (RESET_DEVICE). Memory stays.
    ///
    /// # Errors
    ///
    /// [`Refused`] if that is impossible.
    fn reset_device(&mut self) -> Result<(), Refused>;
}
