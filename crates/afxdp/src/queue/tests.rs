//! A queue whose rings are ordinary memory and whose socket is one end of a pair: the call that wakes
//! the driver takes a datagram from it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use super::*;
use crate::rings::tests::{OFFSETS, SIZE, map, shared_memory};
use crate::rings::{Consumer, Producer};
use crate::umem::Umem;

const ABILITIES: Abilities = Abilities {
    mtu_bytes: 1_500,
    can_send: true,
    is_multi_buffer: false,
    completes_checksums: false,
};

/// A queue with nothing to do, and what the kernel has of it.
struct Rig {
    queue: XdpQueue,
    fill: File,
    /// The queue's socket once more, in which a datagram lies.
    socket: UnixDatagram,
    _peer: UnixDatagram,
}

impl Rig {
    fn new() -> Self {
        let (socket, peer) = UnixDatagram::pair().unwrap();
        peer.send(&[1]).unwrap();
        socket.set_nonblocking(true).unwrap();
        let memory = [(); 4].map(|()| shared_memory());
        let [fill, rx, tx, completion] = memory.each_ref().map(|memory| map(memory.as_fd()));
        let fd = Arc::new(OwnedFd::from(socket.try_clone().unwrap()));
        let rings = Socket {
            fd,
            fill: Producer::new(fill, &OFFSETS, SIZE),
            rx: Consumer::new(rx, &OFFSETS, SIZE),
            tx: Producer::new(tx, &OFFSETS, SIZE),
            completion: Consumer::new(completion, &OFFSETS, SIZE),
        };
        let umem = Arc::new(Umem::new(1).unwrap());
        let part = Part::take_several(&umem, 1).unwrap().remove(0);
        let queue = XdpQueue::new(Bound { socket: rings, part }, 0, ABILITIES);
        let [fill, ..] = memory;
        Self { queue, fill: File::from(fill), socket, _peer: peer }
    }

    /// The driver asks to be woken.
    fn ask(&self) {
        self.fill.write_all_at(&libc::XDP_RING_NEED_WAKEUP.to_ne_bytes(), OFFSETS.flags).unwrap();
    }

    fn was_woken(&self) -> bool {
        self.socket.recv(&mut [0]).is_err()
    }
}

#[test]
fn driver_that_asks_for_chunks_after_their_release_is_woken_before_the_queue_rests() {
    let mut rig = Rig::new();
    rig.queue.back.push(0);
    rig.queue.release();
    rig.ask();

    assert!(rig.queue.may_rest());

    assert!(rig.was_woken());
}

#[test]
fn driver_that_asks_for_chunks_is_not_woken_without_any() {
    let rig = Rig::new();
    rig.ask();

    assert!(rig.queue.may_rest());

    assert!(!rig.was_woken());
}

#[test]
fn driver_that_does_not_ask_is_not_woken() {
    let mut rig = Rig::new();
    rig.queue.back.push(0);
    rig.queue.release();

    assert!(rig.queue.may_rest());

    assert!(!rig.was_woken());
}
