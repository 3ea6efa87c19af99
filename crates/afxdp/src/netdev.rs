//! What a driver can do for AF_XDP beside moving frames: asked of the kernel's netdev family over
//! generic netlink (Documentation/netlink/specs/netdev.yaml; Linux 6.8).
//!
//! ```text
//!   nlmsghdr: length, type, flags, sequence, port │ genlmsghdr: command, version │ attributes
//!   attribute: length, type │ value, filled up to four bytes
//! ```

use std::io;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

/// `GENL_ID_CTRL`: the family that knows the others (linux/genetlink.h).
const CONTROL: u16 = 16;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;

const DEVICE_GET: u8 = 1;
const DEVICE_INDEX: u16 = 1;
const DEVICE_XSK_FEATURES: u16 = 6;

/// `NETDEV_XSK_FLAGS_TX_CHECKSUM`.
const TX_CHECKSUM: u64 = 1 << 1;

/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;

/// Bytes of both headers.
const HEADERS_BYTES: usize = 16 + 4;

/// Says whether the driver of this interface completes checksums of frames to send. A kernel that
/// cannot be asked has none that does.
pub(crate) fn completes_checksums(index: u32) -> bool {
    xsk_features(index).is_ok_and(|features| features & TX_CHECKSUM != 0)
}

fn xsk_features(index: u32) -> io::Result<u64> {
    let family = ask(CONTROL, GET_FAMILY, FAMILY_NAME, b"netdev\0")?;
    let family = attribute(&family, FAMILY_ID).and_then(|id| id.try_into().ok());
    let family = family.map(u16::from_ne_bytes).ok_or(io::ErrorKind::NotFound)?;
    let device = ask(family, DEVICE_GET, DEVICE_INDEX, &index.to_ne_bytes())?;
    let features = attribute(&device, DEVICE_XSK_FEATURES).and_then(|bits| bits.try_into().ok());
    Ok(features.map_or(0, u64::from_ne_bytes))
}

/// Sends a request with one attribute, and returns the attributes of the answer.
fn ask(family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let flags = SocketFlags::CLOEXEC;
    let protocol = Some(netlink::GENERIC);
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
    send(&socket, &request(family, command, kind, value), SendFlags::empty())?;
    let mut answer = vec![0; 8_192];
    // Answered before send(2) returns.
    let (length, _) = recv(&socket, &mut answer, RecvFlags::DONTWAIT)?;
    answer.truncate(length);
    // An error is a message of the control type NLMSG_ERROR.
    if answer.len() < HEADERS_BYTES || answer[4..6] != family.to_ne_bytes() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(answer.split_off(HEADERS_BYTES))
}

fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX);
    let mut attribute = [length(4 + value.len()).to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    let mut message = u32::from(length(HEADERS_BYTES + attribute.len())).to_ne_bytes().to_vec();
    message.extend([family.to_ne_bytes(), REQUEST.to_ne_bytes()].concat());
    // Sequence and port: one request a socket.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attribute);
    message
}

/// The value of the first attribute of this type.
fn attribute(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    loop {
        let [l0, l1, k0, k1, ..] = *attributes else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let whole = attributes.get(..length).filter(|_| length >= 4)?;
        // The upper two bits are flags.
        if u16::from_ne_bytes([k0, k1]) & 0x3fff == kind {
            return Some(&whole[4..]);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_is_found_behind_one_that_is_filled_up() {
        let attributes = [5, 0, 2, 0, 7, 0, 0, 0, 6, 0, 1, 0x80, 8, 9, 0, 0];

        assert_eq!(attribute(&attributes, 1), Some(&[8, 9][..]));
        assert_eq!(attribute(&attributes, 3), None);
    }

    #[test]
    fn attribute_that_lies_about_its_length_ends_the_search() {
        for length in [0u8, 3, 200] {
            assert_eq!(attribute(&[length, 0, 2, 0, 7, 0, 0, 0], 1), None, "{length}");
        }
    }

    #[test]
    fn loopback_completes_no_checksums() {
        // The kernel is really asked: of an interface that does not exist it says so.
        assert!(!completes_checksums(1));
        assert!(xsk_features(u32::MAX).is_err());
    }
}
