//! From a request to the back end's method: the values are checked here.
//!
//! Everything is taken in any order and any state, as the specification and QEMU have it. A
//! request is served whether or not its protocol feature was acknowledged: all that is served
//! here was offered, and serving it early harms nobody. What was not offered
//! (in-flight buffers, IOTLB) ends the session.
//!
//! Ring indices are 32 bits wide on the wire and are compared as such before they become a `u16`:
//! cutting them first is CVE-2020-10723.

use std::os::fd::OwnedFd;

use vhost::vhost_user::message::{
    FrontendReq, VhostUserLog, VhostUserMemoryRegion, VhostUserMsgValidator, VhostUserVringAddr,
    VhostUserVringAddrFlags, VhostUserVringState,
};

use crate::backend::{
    Backend, LogExtent, MEMORY_SLOTS_MAX, MemoryRegion, Refused, RingEnabling, VringAddresses,
};
use crate::config_space;
use crate::error::SessionError;
use crate::negotiated::Negotiated;
use crate::wire::Message;

/// VHOST_USER_F_PROTOCOL_FEATURES: the device feature bit that is the protocol's own.
const PROTOCOL_FEATURES_BIT: u64 = 1 << 30;
/// Most regions in a SET_MEM_TABLE (VHOST_MEMORY_BASELINE_NREGIONS).
const MEMORY_TABLE_MAX: usize = 8;
/// SET_VRING_KICK, _CALL and _ERR: the low bits of the body are the ring's index.
const VRING_INDEX_MASK: u64 = 0xff;
/// The same: no descriptor comes along.
const VRING_NO_DESCRIPTOR: u64 = 1 << 8;

/// What a request comes to.
pub(crate) enum Answer {
    /// Done; there is nothing to say beyond an acknowledgement.
    Done,
    /// The request asked for this number.
    Number(u64),
    /// The request asked for this state of a ring.
    Vring(VhostUserVringState),
    /// The request asked for a record with bytes behind it.
    Bytes(Vec<u8>),
}

/// Why a request came to nothing.
pub(crate) enum Failure {
    /// Refused: the front end may be told so.
    Refused(Refused),
    /// Refused, but the request's reply has no room for a "no".
    NoAnswer(Refused),
    /// The protocol was broken.
    Over(SessionError),
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<SessionError> for Failure {
    fn from(error: SessionError) -> Self {
        Self::Over(error)
    }
}

/// Carries one request out.
pub(crate) fn carry_out(
    mut message: Message,
    negotiated: &mut Negotiated,
    backend: &mut dyn Backend,
) -> Result<Answer, Failure> {
    let message = &mut message;
    match message.request {
        FrontendReq::GET_FEATURES => {
            ask(message, backend.device_features() | PROTOCOL_FEATURES_BIT)
        }
        FrontendReq::GET_PROTOCOL_FEATURES => ask(message, negotiated.offered().bits()),
        FrontendReq::GET_QUEUE_NUM => ask(message, backend.queue_pairs_max().into()),
        FrontendReq::GET_MAX_MEM_SLOTS => ask(message, MEMORY_SLOTS_MAX as u64),
        FrontendReq::GET_STATUS => ask(message, backend.status().into()),
        FrontendReq::GET_VRING_BASE => get_vring_base(message, backend),
        FrontendReq::GET_CONFIG => config_space::read(message, backend).map(Answer::Bytes),

        FrontendReq::SET_FEATURES => set_features(message, backend),
        FrontendReq::SET_PROTOCOL_FEATURES => done(negotiated.acknowledge(message.number()?)?),
        FrontendReq::SET_OWNER => {
            negotiated.is_owned = true;
            done(message.empty()?)
        }
        FrontendReq::SET_BACKEND_REQ_FD => {
            negotiated.channel = Some(message.one_descriptor()?);
            Ok(Answer::Done)
        }
        FrontendReq::RESET_OWNER => {
            message.empty()?;
            backend.reset_owner();
            Ok(Answer::Done)
        }
        FrontendReq::RESET_DEVICE => {
            message.empty()?;
            done(backend.reset_device()?)
        }

        FrontendReq::SET_MEM_TABLE => set_memory_table(message, backend),
        FrontendReq::ADD_MEM_REG => add_memory_region(message, backend),
        FrontendReq::REM_MEM_REG => remove_memory_region(message, backend),

        FrontendReq::SET_LOG_BASE => set_log_base(message, backend),
        FrontendReq::SET_LOG_FD => {
            // A descriptor to be told by when something was logged. QEMU never sends it, for it
            // looks by itself. It is closed.
            message.one_descriptor()?;
            Ok(Answer::Done)
        }

        FrontendReq::SET_VRING_NUM => {
            let (index, size) = vring_number(message, backend)?;
            done(backend.set_vring_size(index, size)?)
        }
        FrontendReq::SET_VRING_BASE => {
            let (index, base) = vring_number(message, backend)?;
            done(backend.set_vring_base(index, base)?)
        }
        FrontendReq::SET_VRING_ENABLE => set_vring_enable(message, backend),
        FrontendReq::SET_VRING_ADDR => set_vring_addresses(message, backend),
        FrontendReq::SET_VRING_KICK => {
            let (index, kick) = vring_descriptor(message, backend)?;
            done(backend.set_vring_kick(index, kick)?)
        }
        FrontendReq::SET_VRING_CALL => {
            let (index, call) = vring_descriptor(message, backend)?;
            done(backend.set_vring_call(index, call)?)
        }
        FrontendReq::SET_VRING_ERR => {
            let (index, err) = vring_descriptor(message, backend)?;
            done(backend.set_vring_err(index, err)?)
        }

        FrontendReq::SET_CONFIG => Err(config_space::write(message)),
        FrontendReq::SET_STATUS => {
            let status = narrow("device status", message.number()?)?;
            done(backend.set_status(status)?)
        }
        FrontendReq::NET_SET_MTU => {
            let mtu = narrow("MTU", message.number()?)?;
            done(backend.set_mtu(mtu)?)
        }
        FrontendReq::SEND_RARP => {
            // The address lies in the first six of eight bytes, whatever the byte order.
            let [a, b, c, d, e, f, ..] = message.number()?.to_ne_bytes();
            backend.send_rarp([a, b, c, d, e, f]);
            Ok(Answer::Done)
        }
        request => Err(SessionError::UnsupportedRequest { request }.into()),
    }
}

/// Names the result of a request that only has to be done.
fn done((): ()) -> Result<Answer, Failure> {
    Ok(Answer::Done)
}

/// Answers a request without body.
fn ask(message: &Message, answer: u64) -> Result<Answer, Failure> {
    message.empty()?;
    Ok(Answer::Number(answer))
}

fn set_features(message: &Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let acknowledged = message.number()?;
    let unknown = acknowledged & !(backend.served_features() | PROTOCOL_FEATURES_BIT);
    if unknown != 0 {
        return refuse(format!("features {unknown:#x} were not offered"));
    }
    let enabling = if acknowledged & PROTOCOL_FEATURES_BIT == 0 {
        RingEnabling::FromTheStart
    } else {
        RingEnabling::ByRequest
    };
    done(backend.set_features(acknowledged & !PROTOCOL_FEATURES_BIT, enabling)?)
}

fn set_memory_table(message: &mut Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let table = message.memory_table()?;
    let files = message.descriptors(table.len())?;
    if !(1..=MEMORY_TABLE_MAX).contains(&table.len()) {
        let count = table.len();
        return refuse(format!("memory table has {count} regions, not 1 to 8"));
    }
    let regions = table.iter().map(checked_region).collect::<Result<Vec<_>, _>>()?;
    backend.set_memory_table(regions.into_iter().zip(files).collect())?;
    Ok(Answer::Done)
}

fn add_memory_region(message: &mut Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let region = message.memory_region()?;
    let file = message.one_descriptor()?;
    let region = checked_region(&region)?;
    backend.add_memory_region(region, file)?;
    Ok(Answer::Done)
}

/// A front end may send the region's file along, which has no use: it is closed.
fn remove_memory_region(
    message: &mut Message,
    backend: &mut dyn Backend,
) -> Result<Answer, Failure> {
    let region = message.memory_region()?;
    if message.descriptors.len() > 1 {
        return Err(message.invalid_descriptors().into());
    }
    backend.remove_memory_region(checked_region(&region)?)?;
    Ok(Answer::Done)
}

/// Checks that a region has a size and wraps nowhere.
///
/// The `vhost` crate has the same check for SET_MEM_TABLE and leaves it out for the others, so
/// it is called here for all three.
fn checked_region(region: &VhostUserMemoryRegion) -> Result<MemoryRegion, Refused> {
    let checked = MemoryRegion {
        guest_address: region.guest_phys_addr,
        size_bytes: region.memory_size,
        user_address: region.user_addr,
        mmap_offset: region.mmap_offset,
    };
    if !VhostUserMsgValidator::is_valid(region) {
        return Err(Refused::new(format!(
            "memory region is empty or wraps: {:#x} bytes at guest address {:#x}, user address {:#x}, file offset {:#x}",
            checked.size_bytes, checked.guest_address, checked.user_address, checked.mmap_offset,
        )));
    }
    Ok(checked)
}

/// Answered by a number that QEMU does not look at, so that a "no" is the session's end. A front end
/// without LOG_SHMFD sends an address in its own memory, which is of no use here.
fn set_log_base(message: &mut Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    if message.descriptors.is_empty() {
        let reason = "dirty log comes without a file: migration needs a front end with LOG_SHMFD";
        return Err(Failure::NoAnswer(Refused::new(reason)));
    }
    let VhostUserLog { mmap_size, mmap_offset } = message.log_extent()?;
    let file = message.one_descriptor()?;
    let extent = LogExtent { size_bytes: mmap_size, mmap_offset };
    backend.set_log_base(extent, file).map_err(Failure::NoAnswer)?;
    Ok(Answer::Number(0))
}

fn get_vring_base(message: &Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let state = message.vring_state()?;
    let base = checked_index(state.index, backend)
        .and_then(|index| backend.get_vring_base(index))
        .map_err(Failure::NoAnswer)?;
    Ok(Answer::Vring(VhostUserVringState::new(state.index, base)))
}

fn set_vring_enable(message: &Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let (index, state) = vring_number(message, backend)?;
    match state {
        0 => done(backend.set_vring_enable(index, false)?),
        1 => done(backend.set_vring_enable(index, true)?),
        other => refuse(format!("ring {index} can be enabled by 0 or 1, not by {other}")),
    }
}

fn set_vring_addresses(message: &Message, backend: &mut dyn Backend) -> Result<Answer, Failure> {
    let record = message.vring_addresses()?;
    let index = checked_index(record.index, backend)?;
    if !VhostUserMsgValidator::is_valid(&record) {
        return refuse(misplaced(&record));
    }
    let logged = record.flags & VhostUserVringAddrFlags::VHOST_VRING_F_LOG.bits() != 0;
    let addresses = VringAddresses {
        descriptor_table: record.descriptor,
        used_ring: record.used,
        available_ring: record.available,
        log: logged.then_some(record.log),
    };
    done(backend.set_vring_addresses(index, addresses)?)
}

/// Says what is wrong with addresses that are not aligned (VIRTIO 1.2, 2.7) or have unknown flags.
fn misplaced(record: &VhostUserVringAddr) -> String {
    let (index, flags) = (record.index, record.flags);
    let (descriptor, used, available) = (record.descriptor, record.used, record.available);
    format!(
        "ring {index} has misaligned addresses or unknown flags: descriptors {descriptor:#x}, used {used:#x}, available {available:#x}, flags {flags:#x}"
    )
}

/// Reads a ring's index and the number that goes with it.
fn vring_number(message: &Message, backend: &dyn Backend) -> Result<(u16, u32), Failure> {
    let state = message.vring_state()?;
    Ok((checked_index(state.index, backend)?, state.num))
}

/// Reads a ring's index, and takes the descriptor that goes with it unless the body says that
/// there is none.
fn vring_descriptor(
    message: &mut Message,
    backend: &dyn Backend,
) -> Result<(u16, Option<OwnedFd>), Failure> {
    let body = message.number_beside_descriptors()?;
    let descriptor = if body & VRING_NO_DESCRIPTOR == 0 {
        Some(message.one_descriptor()?)
    } else {
        message.no_descriptors()?;
        None
    };
    if body & !(VRING_INDEX_MASK | VRING_NO_DESCRIPTOR) != 0 {
        return Err(Refused::new(format!("ring number has reserved bits: {body:#x}")).into());
    }
    let index: u32 = narrow("ring", body & VRING_INDEX_MASK)?;
    Ok((checked_index(index, backend)?, descriptor))
}

/// Checks a ring's index, in full width, against the rings there are.
fn checked_index(index: u32, backend: &dyn Backend) -> Result<u16, Refused> {
    let rings = backend.rings_max();
    u16::try_from(index)
        .ok()
        .filter(|&index| index < rings)
        .ok_or_else(|| Refused::new(format!("ring {index} does not exist, there are {rings}")))
}

/// Makes a 64-bit number from the wire as small as what it stands for.
fn narrow<T: TryFrom<u64>>(what: &str, number: u64) -> Result<T, Refused> {
    T::try_from(number).map_err(|_| Refused::new(format!("{what} {number} is out of range")))
}

fn refuse<T>(reason: String) -> Result<T, Failure> {
    Err(Refused::new(reason).into())
}
