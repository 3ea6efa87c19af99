//! A tap as the control plane has it, and how it is opened.
//!
//! `TUNSETIFF` makes an open file of /dev/net/tun a queue of the interface that it names, once for
//! each queue. The first makes the interface, if there is none of this name; then it is not
//! persistent, is brought up, and goes with its queues. One that is there must be a tap that nobody
//! has a queue of: frames would go to that queue, too, so it is looked at first. The kernel's
//! answers say little; the reasons are told apart here:
//!
//! | answer                                       | means                                     |
//! |----------------------------------------------|-------------------------------------------|
//! | EINVAL for one of several queues             | made without `multi_queue`, or not a tap  |
//! | EINVAL for a single one, too                 | not a tap                                 |
//! | EBUSY                                        | its single queue is another process'      |
//! | no refusal, but more queues than were opened | another process opened it at the same time |

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use virtio::offload::{Receiver, Sender};

use crate::buffers::NET_HEADER_BYTES;
use crate::error::MAX_QUEUES;
use crate::ioctl::{self, Device};
use crate::offloads::Offloads;
use crate::{TapError, TapQueue};

const DRIVER: &str = "/dev/net/tun";

/// How long a tap in use is tried again: a process that was just ended still has it for a moment,
/// and so has a child that was forked meanwhile, until it executes.
const PREDECESSOR_PATIENCE: Duration = Duration::from_secs(1);

/// Pause between two attempts.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(5);

/// A tap. Dropping it changes nothing: the interface is its queues'.
#[derive(Debug)]
pub struct Tap {
    device: Device,
    is_persistent: bool,
    offloads: Offloads,
    queue_count: usize,
}

impl Tap {
    /// Opens the tap of this name in the calling thread's network namespace, with so many queues
    /// (at least one), and makes it if it is missing. A tap that somebody made without
    /// `multi_queue` gets one queue, whatever was asked for, and a line in the log.
    ///
    /// # Errors
    ///
    /// [`TapError`]; an interface that was made for this is gone again then.
    pub fn open(name: &str, queues: usize) -> Result<(Self, Vec<TapQueue>), TapError> {
        check_name(name)?;
        let queues = queues.max(1);
        if queues > MAX_QUEUES {
            return Err(TapError::TooManyQueues { interface: name.to_owned(), queues });
        }
        let device = Device::new(name).map_err(TapError::system("open socket", name))?;
        let files = wait_for_predecessor(|| attach(&device, queues))?;
        let (tap, queues) = Self::with_files(device, files)?;
        if !tap.is_persistent {
            tap.device.set_up().map_err(TapError::system("set up", name))?;
        }
        Ok((tap, queues))
    }

    /// Goes on with a tap whose queues another process has opened, in their order.
    ///
    /// # Errors
    ///
    /// [`TapError::System`] if these are no queues of it, or the interface is gone.
    pub fn adopt(name: &str, queues: Vec<OwnedFd>) -> Result<(Self, Vec<TapQueue>), TapError> {
        check_name(name)?;
        let device = Device::new(name).map_err(TapError::system("open socket", name))?;
        Self::with_files(device, queues.into_iter().map(File::from).collect())
    }

    fn with_files(device: Device, files: Vec<File>) -> Result<(Self, Vec<TapQueue>), TapError> {
        let failed = |call| TapError::system(call, device.name());
        let offloads = agree(&files, device.name())?;
        let is_persistent =
            files.first().map_or(Ok(true), ioctl::is_persistent).map_err(failed("read flags"))?;
        let queues = (0..)
            .zip(files)
            .map(|(number, file)| TapQueue::new(file, number, offloads.sender()))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed("map buffers"))?;
        let queue_count = queues.len();
        Ok((Self { device, is_persistent, offloads, queue_count }, queues))
    }

    /// The interface's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.device.name()
    }

    /// Says whether somebody made the interface to stay (`ip tuntap add`). Else
    /// [`open`](Self::open) made it, and it goes with its queues.
    #[must_use]
    pub const fn is_persistent(&self) -> bool {
        self.is_persistent
    }

    /// Queues that were opened.
    #[must_use]
    pub const fn queue_count(&self) -> usize {
        self.queue_count
    }

    /// What the host takes beside ready frames: for [`TapQueue::send`].
    #[must_use]
    pub fn receiver(&self) -> Receiver {
        self.offloads.receiver()
    }

    /// What the host may leave to be done to the frames that come in.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.offloads.sender()
    }

    /// The interface's MTU in bytes. Anybody may change it at any time.
    ///
    /// # Errors
    ///
    /// [`TapError::System`], if the interface is gone.
    pub fn mtu_bytes(&self) -> Result<u32, TapError> {
        self.device.mtu_bytes().map_err(TapError::system("read mtu", self.name()))
    }

    /// Sets the interface's MTU, in bytes: 68 to 65,521. The switch drops what the host sends
    /// longer than [`frame::MAX_FRAME_BYTES`] and not to be cut.
    ///
    /// # Errors
    ///
    /// [`TapError::System`], if the kernel refuses it.
    pub fn set_mtu(&self, mtu_bytes: u32) -> Result<(), TapError> {
        self.device.set_mtu(mtu_bytes).map_err(TapError::system("set mtu", self.name()))
    }
}

/// What the kernel checks (`dev_valid_name`), and '%', of which it would make a number.
fn check_name(name: &str) -> Result<(), TapError> {
    let is_odd = |letter: char| {
        letter.is_whitespace() || letter.is_control() || matches!(letter, '/' | ':' | '%')
    };
    if name.is_empty() || name.len() > 15 || matches!(name, "." | "..") || name.contains(is_odd) {
        return Err(TapError::NameInvalid { name: name.to_owned() });
    }
    Ok(())
}

/// Tries until no predecessor is in the way, for at most [`PREDECESSOR_PATIENCE`].
fn wait_for_predecessor<T>(
    mut attempt: impl FnMut() -> Result<T, TapError>,
) -> Result<T, TapError> {
    let deadline = Instant::now() + PREDECESSOR_PATIENCE;
    loop {
        match attempt() {
            Err(TapError::Busy { .. }) if Instant::now() < deadline => {
                thread::sleep(ATTEMPT_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

/// Opens the queues of an interface.
fn attach(device: &Device, queues: usize) -> Result<Vec<File>, TapError> {
    let name = device.name();
    let busy = || TapError::Busy { interface: name.to_owned() };
    // Linux 6.18 tells; one that does not is asked below and shares a tap of several queues.
    if device.attached_queues().is_some_and(|count| count > 0) {
        return Err(busy());
    }
    let first = match attach_one(name, libc::IFF_MULTI_QUEUE) {
        Err(TapError::OtherKind { .. }) => {
            let only = attach_one(name, 0)?;
            if queues > 1 {
                log::warn!(
                    "tap {name} has one queue only, not {queues} \
                     (it was made without multi_queue: \
                     ip tuntap add dev {name} mode tap multi_queue vnet_hdr)"
                );
            }
            return Ok(vec![only]);
        }
        outcome => outcome?,
    };
    let mut files = vec![first];
    for _ in 1..queues {
        files.push(attach_one(name, libc::IFF_MULTI_QUEUE)?);
    }
    if device.attached_queues().is_some_and(|count| count > files.len()) {
        return Err(busy());
    }
    Ok(files)
}

fn attach_one(name: &str, extra_flags: i32) -> Result<File, TapError> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open(DRIVER).map_err(|error| TapError::of_device(name, error))?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | extra_flags;
    // 16 bits in the kernel's structure, too.
    let flags = u16::try_from(flags).unwrap_or_default();
    ioctl::attach(&file, name, flags).map_err(|error| TapError::of_attachment(name, error))?;
    Ok(file)
}

/// Settles the net header and who does what. All of it is the interface's, but for the byte order
/// on old kernels, which is each file's.
fn agree(files: &[File], name: &str) -> Result<Offloads, TapError> {
    let failed = |call| TapError::system(call, name);
    #[expect(clippy::cast_possible_truncation, reason = "twelve")]
    #[expect(clippy::cast_possible_wrap, reason = "twelve")]
    const NET_HEADER: i32 = NET_HEADER_BYTES as i32;
    for file in files {
        ioctl::set_net_header_bytes(file, NET_HEADER)
            .map_err(failed("set length of net header"))?;
        ioctl::set_net_header_little_endian(file).map_err(failed("set order of net header"))?;
    }
    let [first, ..] = files else { return Ok(Offloads::NONE) };
    for wish in Offloads::WISHES {
        match ioctl::set_offloads(first, wish.bits()) {
            Ok(()) => return Ok(wish),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
            Err(error) => return Err(failed("set offloads")(error)),
        }
    }
    Ok(Offloads::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_refused(name: &str) -> bool {
        matches!(Tap::open(name, 1), Err(TapError::NameInvalid { .. }))
    }

    #[test]
    fn name_that_the_kernel_would_refuse_or_change_is_refused_first() {
        assert!(is_refused(""));
        assert!(is_refused("sixteen-bytes-xx"));
        assert!(is_refused("a/b"));
        assert!(is_refused("a:b"));
        assert!(is_refused("tap%d"));
        assert!(is_refused("a b"));
        assert!(is_refused(".."));
        assert!(is_refused("a\0b"));
    }

    #[test]
    fn refusal_of_a_name_shows_what_is_odd_about_it() {
        let refusal = Tap::open("a\n[WARN] b", 1).unwrap_err().to_string();

        assert_eq!(
            refusal,
            "\"a\\n[WARN] b\" cannot be the name of an interface \
             (1 to 15 bytes, no white space, none of / : %, and neither . nor ..)"
        );
    }

    #[test]
    fn more_queues_than_the_kernel_has_are_refused() {
        let refusal = Tap::open("tap7", 257).unwrap_err().to_string();

        assert_eq!(refusal, "tap tap7 cannot have 257 queues: at most 256");
    }
}
