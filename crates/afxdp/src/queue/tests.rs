//! A queue whose rings are ordinary memory and whose socket is one end of a pair: the call that wakes
//! the driver takes a datagram from it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use frame::{Gathered, Outgoing};

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
        let queue = XdpQueue::new(Bound { socket: rings, part }, 0, ABILITIES, None);
        let [fill, ..] = memory;
        Self { queue, fill: File::from(fill), socket, _peer: peer }
    }

    /// The driver asks to be woken.
    fn ask(&self) {
        self.fill.write_all_at(&libc::XDP_RING_NEED_WAKEUP.to_ne_bytes(), OFFSETS.flags).unwrap();
    }

    /// Lets large frames leave by one end of a pair, and returns the other.
    fn cut_by_interface(&mut self) -> UnixDatagram {
        let (here, there) = UnixDatagram::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        self.queue.large = Some(LargeFrames::new(here.into()));
        there
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
fn large_frame_leaves_with_its_net_header_unless_its_pieces_are_too_long() {
    let mut rig = Rig::new();
    let wire = rig.cut_by_interface();
    let head = [0; 54];
    let mut frame = Gathered::new(&[1; LARGE_NET_HEADER_BYTES]);
    assert!(frame.push(Outgoing::new(&head, &[]).reader()));

    let too_long = rig.queue.send_large(&head, 1_515, &frame);
    rig.queue.send_large(&head, 1_514, &frame).unwrap();

    assert_eq!(too_long, Err(DropReason::EgressOversized));
    let mut came = [9; 100];
    assert_eq!(wire.recv(&mut came).unwrap(), LARGE_NET_HEADER_BYTES + head.len());
    assert_eq!(came[..11], [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0]);
}

#[test]
fn large_frame_waits_for_no_other_that_is_stuck() {
    let mut rig = Rig::new();
    let _wire = rig.cut_by_interface();
    let frame = Gathered::new(&[0; LARGE_NET_HEADER_BYTES]);
    rig.queue.send(&Outgoing::new(&[0; 60], &[])).unwrap();

    // The kernel takes nothing out of this tx ring.
    assert_eq!(rig.queue.send_large(&[], 1_514, &frame), Err(DropReason::OffloadUnfit));
}

#[test]
fn interface_that_refuses_large_frames_of_a_kind_is_spared_ever_more_of_them() {
    let mut rig = Rig::new();
    drop(rig.cut_by_interface());
    let refusals = |rig: &Rig| {
        let refusals = rig.queue.large.as_ref().unwrap().refusals;
        refusals.map(|refusals| [refusals.spared, refusals.to_spare])
    };
    let frame = Gathered::new(&[0; LARGE_NET_HEADER_BYTES]);
    let v6 = [&[0; 12][..], &[0x86, 0xdd], &[0; 40]].concat();

    for left in [[1, 1], [1, 0], [2, 2], [2, 1], [2, 0], [4, 4]] {
        assert!(rig.queue.send_large(&v6, 1_514, &frame).is_err());
        assert_eq!(refusals(&rig), [[0, 0], left]);
    }
}

#[test]
fn frame_that_is_at_fault_itself_spares_no_others() {
    let mut rig = Rig::new();
    let wire = rig.cut_by_interface();
    let frame = Gathered::new(&[0; LARGE_NET_HEADER_BYTES]);
    let mut send = || rig.queue.send_large(&[], 1_514, &frame).is_ok();
    // Until the pair is full: EAGAIN.
    let taken = (0..10_000).take_while(|_| send()).count();
    for _ in 0..taken {
        wire.recv(&mut [0; 100]).unwrap();
    }

    assert!(send());
}

#[test]
fn driver_that_does_not_ask_is_not_woken() {
    let mut rig = Rig::new();
    rig.queue.back.push(0);
    rig.queue.release();

    assert!(rig.queue.may_rest());

    assert!(!rig.was_woken());
}
