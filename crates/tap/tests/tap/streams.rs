//! Two hosts that are real kernels, in a namespace each, their taps joined by what a switch would
//! do: TCP and UDP of their stacks, with all that they leave to be done.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use frame::{Burst, Outgoing, SegmentationKind};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tap::{Tap, TapQueue};
use virtio::offload::{Delivery, Receiver};

use super::PATIENCE;
use super::world::{ip, spawn_in_namespace};

/// What went through the joint.
#[derive(Debug, Default)]
struct Seen {
    frames: usize,
    large_tcp: usize,
    large_udp: usize,
}

/// A tap with this address in the calling thread's namespace, whose host answers for it.
fn tap_with(address: &str) -> (Tap, TapQueue) {
    let (tap, mut queues) = Tap::open("tap7", 1).unwrap();
    ip(&format!("addr add {address}/24 dev tap7"));
    (tap, queues.remove(0))
}

/// Carries frames between two taps until told to stop.
fn join(mut ends: [(Tap, TapQueue); 2], is_over: &AtomicBool) -> Seen {
    let (mut burst, mut seen) = (Burst::new(), Seen::default());
    while !is_over.load(Ordering::Relaxed) {
        let [one, other] = &mut ends;
        carry(&mut one.1, &mut other.1, other.0.receiver(), &mut burst, &mut seen);
        carry(&mut other.1, &mut one.1, one.0.receiver(), &mut burst, &mut seen);
        if !one.1.has_work() && !other.1.has_work() {
            thread::sleep(Duration::from_micros(20));
        }
    }
    assert_eq!(burst.dropped.total(), 0, "{:?}", burst.dropped);
    seen
}

fn carry(
    from: &mut TapQueue,
    to: &mut TapQueue,
    receiver: Receiver,
    burst: &mut Burst,
    seen: &mut Seen,
) {
    burst.clear();
    from.receive(burst, 64);
    for frame in &burst.frames {
        let Delivery::Whole(net_header) = receiver.delivery(&frame.offload, false) else {
            panic!("the kernel takes all that it sends: {:?}", frame.offload)
        };
        let kind = frame.offload.segmentation.map(|cut| cut.kind);
        seen.frames += 1;
        seen.large_tcp += usize::from(kind.is_some_and(SegmentationKind::is_tcp));
        seen.large_udp += usize::from(kind.is_some_and(|kind| !kind.is_tcp()));
        let outgoing = Outgoing::new(frame.header.untagged(), burst.segments_of(frame));
        to.send(net_header, &outgoing).unwrap();
        from.complete(frame.token);
    }
}

/// Runs two hosts, 10.7.0.1 and 10.7.0.2, the second of which says when it is ready.
fn between_hosts<R: Send + 'static>(
    first: impl FnOnce() + Send + 'static,
    second: impl FnOnce(mpsc::Sender<()>) -> R + Send + 'static,
) -> (R, Seen) {
    let (give_end, ends) = mpsc::channel();
    let give_other_end = give_end.clone();
    let (ready, is_ready) = mpsc::channel();
    let second = spawn_in_namespace(move || {
        give_other_end.send(tap_with("10.7.0.2")).unwrap();
        second(ready)
    });
    let first = spawn_in_namespace(move || {
        give_end.send(tap_with("10.7.0.1")).unwrap();
        is_ready.recv_timeout(PATIENCE).unwrap();
        first();
    });
    let ends = [ends.recv_timeout(PATIENCE).unwrap(), ends.recv_timeout(PATIENCE).unwrap()];
    let is_over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&is_over);
    let joint = thread::spawn(move || join(ends, &told));
    let outcomes = (first.join(), second.join());
    is_over.store(true, Ordering::Relaxed);
    let seen = joint.join().unwrap();
    outcomes.0.unwrap();
    (outcomes.1.unwrap(), seen)
}

/// Bytes that say where they belong.
fn stream(length_bytes: usize) -> Vec<u8> {
    (0u32..).flat_map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()).take(length_bytes).collect()
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn hosts_speak_tcp_in_large_frames() {
    const LENGTH: usize = 20_000_000;

    let send = || {
        let address = SocketAddr::from(([10, 7, 0, 2], 80));
        let mut stream_out = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream_out.set_write_timeout(Some(PATIENCE)).unwrap();
        stream_out.write_all(&stream(LENGTH)).unwrap();
    };
    let (received, seen) = between_hosts(send, |ready| {
        let listener = TcpListener::bind(("10.7.0.2", 80)).unwrap();
        // For accept, too.
        set_socket_timeout(&listener, Timeout::Recv, Some(PATIENCE)).unwrap();
        ready.send(()).unwrap();
        let (mut stream_in, _) = listener.accept().unwrap();
        stream_in.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut received = Vec::new();
        stream_in.read_to_end(&mut received).unwrap();
        received
    });

    assert!(received == stream(LENGTH));
    // Cut on the way they would be more than 13,000, and half as many acknowledgements.
    assert!(seen.large_tcp > 100 && seen.frames < 5_000, "{seen:?}");
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn hosts_speak_udp_in_trains() {
    let send = || {
        let socket = UdpSocket::bind(("10.7.0.1", 0)).unwrap();
        socket.connect(("10.7.0.2", 53)).unwrap();
        let size: libc::c_int = 1_000;
        let (place, length) = (std::ptr::from_ref(&size).cast(), 4);
        let fd = socket.as_raw_fd();
        // SAFETY: a live integer of the length given.
        let result =
            unsafe { libc::setsockopt(fd, libc::SOL_UDP, libc::UDP_SEGMENT, place, length) };
        assert_eq!(result, 0);
        assert_eq!(socket.send(&stream(40_500)).unwrap(), 40_500);
    };
    let (received, seen) = between_hosts(send, |ready| {
        let socket = UdpSocket::bind(("10.7.0.2", 53)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        ready.send(()).unwrap();
        let mut datagram = [0; 2_000];
        let mut received = Vec::new();
        while received.len() < 40_500 {
            let count = socket.recv(&mut datagram).unwrap();
            assert!(count <= 1_000);
            received.extend_from_slice(&datagram[..count]);
        }
        received
    });

    assert!(received == stream(40_500));
    assert_eq!(seen.large_udp, 1);
}
