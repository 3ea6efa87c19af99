//! The `vhost` crate's front end, which nobody here wrote, in conversation with a session.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vhost::vhost_user::message::{VhostUserHeaderFlag, VhostUserProtocolFeatures};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VhostUserMemoryRegionInfo, VringConfigData};
use vhost_user::{RingEnabling, Session, SessionError};
use vmm_sys_util::eventfd::EventFd;

use crate::support::{Asked, FEATURES, PATIENCE, PROTOCOL_FEATURES_BIT, Recorder, region};

const MEMORY: [u64; 4] = [0x1000, 0x10_0000, 0x7000_0000_0000, 0];

/// Drives a session until it ends or patience does.
fn serve(stream: UnixStream) -> JoinHandle<(Recorder, SessionError)> {
    thread::spawn(move || {
        let mut session = Session::new(stream).expect("session");
        let mut backend = Recorder::default();
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "front end never hung up");
            let tick = Timespec::try_from(Duration::from_millis(100)).expect("short");
            let mut ready = [PollFd::new(&session, PollFlags::IN)];
            poll(&mut ready, Some(&tick)).expect("poll");
            if let Err(error) = session.on_ready(&mut backend) {
                return (backend, error);
            }
        }
    })
}

/// A front end that has negotiated all it can, and asks for acknowledgements.
fn connected() -> (Frontend, JoinHandle<(Recorder, SessionError)>) {
    let (front, back) = UnixStream::pair().expect("socket pair");
    let thread = serve(back);
    let mut front = Frontend::from_stream(front, 4);
    let features = front.get_features().expect("features");
    let offered = front.get_protocol_features().expect("protocol features");
    front.set_protocol_features(offered).expect("acknowledged");
    front.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    front.set_owner().expect("owned");
    front.set_features(features).expect("acknowledged");
    (front, thread)
}

fn memory(handle: &impl AsRawFd) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: MEMORY[0],
        memory_size: MEMORY[1],
        userspace_addr: MEMORY[2],
        mmap_offset: MEMORY[3],
        mmap_handle: handle.as_raw_fd(),
    }
}

#[test]
fn stock_front_end_sets_up_and_stops_a_ring() {
    let (mut front, thread) = connected();
    let file = memfd_create("guest memory", MemfdFlags::CLOEXEC).expect("memfd");
    ftruncate(&file, MEMORY[1]).expect("size");
    let event = EventFd::new(0).expect("eventfd");
    let addresses = VringConfigData {
        queue_max_size: 256,
        queue_size: 256,
        flags: 0,
        desc_table_addr: MEMORY[2],
        used_ring_addr: MEMORY[2] + 0x2000,
        avail_ring_addr: MEMORY[2] + 0x1000,
        log_addr: None,
    };

    front.set_mem_table(&[memory(&file)]).expect("memory");
    front.set_vring_num(1, 256).expect("size");
    front.set_vring_addr(1, &addresses).expect("addresses");
    front.set_vring_base(1, 3).expect("base");
    front.set_vring_call(1, &event).expect("call");
    front.set_vring_kick(1, &event).expect("kick");
    front.set_vring_enable(1, true).expect("enable");
    let base = front.get_vring_base(1).expect("base");
    drop(front);
    let (backend, end) = thread.join().expect("no panic");

    assert_eq!(base, 0x8000_8001);
    assert!(matches!(end, SessionError::Closed));
    let expected = [
        Asked::Features(FEATURES, RingEnabling::ByRequest),
        Asked::Table(vec![region(MEMORY)]),
        Asked::Size(1, 256),
    ];
    assert_eq!(backend.calls[..3], expected);
    let expected = [
        Asked::Base(1, 3),
        Asked::Call(1, true),
        Asked::Kick(1, true),
        Asked::Enable(1, true),
        Asked::Stop(1),
    ];
    assert_eq!(backend.calls[4..], expected);
}

#[test]
fn stock_front_end_uses_memory_slots_and_counts_queues() {
    let (mut front, thread) = connected();
    let file = memfd_create("guest memory", MemfdFlags::CLOEXEC).expect("memfd");

    let queue_pairs = front.get_queue_num().expect("queues");
    let slots = front.get_max_mem_slots().expect("slots");
    front.add_mem_region(&memory(&file)).expect("added");
    front.remove_mem_region(&memory(&file)).expect("removed");
    front.reset_device().expect("reset");
    drop(front);
    let (backend, _) = thread.join().expect("no panic");

    assert_eq!((queue_pairs, slots), (2, 509));
    let expected = [Asked::Add(region(MEMORY)), Asked::Remove(region(MEMORY)), Asked::ResetDevice];
    assert_eq!(backend.calls[1..], expected);
}

#[test]
fn stock_front_end_is_told_of_a_refusal() {
    let (front, thread) = connected();

    let refused = front.set_features(FEATURES | PROTOCOL_FEATURES_BIT | 1);
    let taken = front.set_features(FEATURES | PROTOCOL_FEATURES_BIT);
    drop(front);

    assert!(refused.is_err());
    assert!(taken.is_ok());
    assert!(thread.join().is_ok());
}

#[test]
fn offered_protocol_features_hold_none_that_is_not_served() {
    let (mut front, thread) = connected();

    let offered = front.get_protocol_features().expect("protocol features");
    drop(front);

    assert!(!offered.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD));
    assert!(thread.join().is_ok());
}
