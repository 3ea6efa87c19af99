//! Where a front end wants to hear of its rings: calls, and word of a broken ring.
//!
//! Nearly always an eventfd. User Mode Linux sends one end of a pair of sockets and reads eight bytes
//! a call from the other, since Linux raises SIGIO for sockets and not for eventfds.
//!
//! What goes to a socket is sent with MSG_DONTWAIT, so that no front end can make a call wait by
//! filling it. If it is full it stays so: its reader is notified already. Only Unix stream sockets
//! are taken, which reach nobody but the other end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::sockopt::{socket_domain, socket_type};
use rustix::net::{AddressFamily, SendFlags, SocketType, send};

use crate::eventfd::{NotAnEventfd, PeerEventfd};

/// An eventfd or socket that a front end sent, and hears from.
#[derive(Debug)]
pub struct PeerCall(Medium);

#[derive(Debug)]
enum Medium {
    Eventfd(PeerEventfd),
    Socket(OwnedFd),
}

impl TryFrom<OwnedFd> for PeerCall {
    type Error = NotAnEventfd;

    fn try_from(descriptor: OwnedFd) -> Result<Self, NotAnEventfd> {
        let medium = if is_unix_stream(&descriptor) {
            Medium::Socket(descriptor)
        } else {
            Medium::Eventfd(PeerEventfd::try_from(descriptor)?)
        };
        Ok(Self(medium))
    }
}

fn is_unix_stream(descriptor: &OwnedFd) -> bool {
    socket_domain(descriptor) == Ok(AddressFamily::UNIX)
        && socket_type(descriptor) == Ok(SocketType::STREAM)
}

impl PeerCall {
    /// Wakes whoever reads, and never waits.
    #[inline]
    pub fn signal(&self) {
        match &self.0 {
            Medium::Eventfd(eventfd) => eventfd.signal(),
            Medium::Socket(socket) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                // Full, or nobody at the other end: either way there is nobody to wake.
                let _ = send(socket, &1u64.to_ne_bytes(), flags);
            }
        }
    }

    /// Makes another descriptor of the same.
    ///
    /// # Errors
    ///
    /// The kernel's, if there are too many descriptors.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(match &self.0 {
            Medium::Eventfd(eventfd) => Medium::Eventfd(eventfd.try_clone()?),
            Medium::Socket(socket) => Medium::Socket(socket.try_clone()?),
        }))
    }
}

impl AsFd for PeerCall {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Medium::Eventfd(eventfd) => eventfd.as_fd(),
            Medium::Socket(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::UdpSocket;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn other_end_of_a_socket_gets_eight_bytes_a_call() {
        let (mut theirs, ours) = UnixStream::pair().unwrap();
        let call = PeerCall::try_from(OwnedFd::from(ours)).unwrap();

        call.signal();
        call.try_clone().unwrap().signal();

        let mut bytes = [0; 16];
        theirs.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, [1u64.to_ne_bytes(), 1u64.to_ne_bytes()].concat()[..]);
    }

    #[test]
    fn full_socket_that_blocks_makes_nobody_wait() {
        let (_theirs, ours) = UnixStream::pair().unwrap();
        let call = PeerCall::try_from(OwnedFd::from(ours)).unwrap();
        let (sender, outcome) = channel();

        std::thread::spawn(move || {
            (0..100_000).for_each(|_| call.signal());
            sender.send(()).unwrap();
        });

        assert_eq!(outcome.recv_timeout(Duration::from_secs(10)), Ok(()));
    }

    #[test]
    fn socket_without_another_end_harms_nobody() {
        let (theirs, ours) = UnixStream::pair().unwrap();
        let call = PeerCall::try_from(OwnedFd::from(ours)).unwrap();
        drop(theirs);

        call.signal();
    }

    #[test]
    fn eventfd_is_taken_as_ever() {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC).unwrap();
        let reader = descriptor.try_clone().unwrap();

        PeerCall::try_from(descriptor).unwrap().signal();

        let mut count = [0; 8];
        rustix::io::read(&reader, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }

    #[test]
    fn what_reaches_further_or_may_block_is_not_taken() {
        let null = std::fs::File::open("/dev/null").unwrap();
        let (_reader, pipe) = io::pipe().unwrap();
        let network = UdpSocket::bind("127.0.0.1:0").unwrap();

        for descriptor in [OwnedFd::from(null), pipe.into(), network.into()] {
            assert!(matches!(PeerCall::try_from(descriptor), Err(NotAnEventfd::Other(_))));
        }
    }
}
