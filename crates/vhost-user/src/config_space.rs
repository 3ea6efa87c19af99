//! The device's configuration space (GET_CONFIG, SET_CONFIG), for front ends that leave it to the
//! back end, as User Mode Linux does.
//!
//! ```text
//!    0        4      8       12           12 + size
//!   ┌────────┬──────┬───────┬────────────┐
//!   │ offset │ size │ flags │ bytes      │    a question has bytes, too, of no meaning
//!   └────────┴──────┴───────┴────────────┘
//! ```
//!
//! What cannot be read is answered by a record of size 0. Nothing can be written: all fields of a
//! network device are read-only (VIRTIO 1.2, 5.1.4).

use vhost::vhost_user::message::{VhostUserConfig, VhostUserMsgValidator};
use vm_memory::ByteValued;

use crate::backend::{Backend, Refused};
use crate::dispatch::Failure;
use crate::wire::Message;

/// Answers GET_CONFIG: a record, and the bytes that were asked for.
pub(crate) fn read(message: &Message, backend: &dyn Backend) -> Result<Vec<u8>, Failure> {
    let wanted = record(message)?;
    let space = backend.config_space();
    let Some(bytes) = part(&space, &wanted) else {
        let nothing = VhostUserConfig { size: 0, ..wanted };
        return Ok(nothing.as_slice().to_vec());
    };
    Ok([wanted.as_slice(), bytes].concat())
}

/// Refuses SET_CONFIG.
pub(crate) fn write(message: &Message) -> Failure {
    match record(message) {
        Ok(VhostUserConfig { offset, size, .. }) => {
            let what = format!("{size} bytes of the configuration space from byte {offset}");
            Refused::new(format!("{what} cannot be written: it is read-only")).into()
        }
        Err(failure) => failure,
    }
}

/// Reads the record, behind which there are as many bytes as it says.
fn record(message: &Message) -> Result<VhostUserConfig, Failure> {
    message.no_descriptors()?;
    let (record, bytes) = message.record_and_bytes::<VhostUserConfig>()?;
    if u32::try_from(bytes.len()) != Ok(record.size) {
        return Err(message.invalid_size().into());
    }
    Ok(record)
}

/// The part of the space that is asked for, if it is one.
fn part<'a>(space: &'a [u8], wanted: &VhostUserConfig) -> Option<&'a [u8]> {
    if !wanted.is_valid() {
        return None;
    }
    let start = usize::try_from(wanted.offset).ok()?;
    space.get(start..)?.get(..usize::try_from(wanted.size).ok()?)
}
