//! Uplinks on real interfaces: veth pairs in network namespaces of their own, seen from the other
//! end through AF_PACKET, so that no frame is judged by this crate's own code.
//!
//! Each test runs in a thread that has left for a new network namespace without a name. It ends
//! with the thread and takes its interfaces along, also after a panic or `kill -9`. /sys is
//! mounted anew there, because sysfs shows the namespace it was mounted in.
//!
//! They need root (CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_BPF), and say so when it is missing.

#[path = "veth/exchange.rs"]
mod exchange;
#[path = "veth/hand_over.rs"]
mod hand_over;
#[path = "veth/jumbo.rs"]
mod jumbo;
#[path = "veth/partial.rs"]
mod partial;
#[path = "veth/world.rs"]
mod world;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use afxdp::{Interface, Mode, Settings, SocketError, UmemPool, XdpQueue, ZeroCopy};
use frame::{Burst, Outgoing};
use world::{Wire, content, experimental, has_program, in_namespace, ip, segment};

/// Names the interface that the child process of a test is to hold.
const CHILD: &str = "AFXDP_TEST_HOLDS";

fn open(name: &str) -> Result<(Interface, Vec<XdpQueue>), SocketError> {
    Interface::open(name, &Settings::default(), &mut UmemPool::new())
}

fn make_pair() {
    ip("link add up0 type veth peer name wire0");
    ip("link set wire0 up");
}

/// Waits until the interface has no program. A child that another test is about to start has
/// copies of all descriptors until it executes, so the last one may be closed a moment later.
fn await_no_program(interface: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while has_program(interface) {
        assert!(Instant::now() < deadline, "{interface} still has a program");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Receives until `count` experimental frames have come, gives their chunks back, and returns
/// what they held.
fn receive(queues: &mut [XdpQueue], count: usize) -> Vec<Vec<u8>> {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut burst = Burst::new();
    let mut received = Vec::new();
    while received.len() < count && Instant::now() < deadline {
        for queue in &mut *queues {
            burst.clear();
            queue.receive(&mut burst, 64);
            for frame in &burst.frames {
                if frame.header.ether_type() == world::EXPERIMENTAL {
                    received.push(content(&burst, frame));
                }
                queue.complete(frame.token);
            }
            queue.release();
        }
    }
    received
}

/// Empties the rx ring of what the kernel of the other end had to say.
fn receive_for_nothing(queue: &mut XdpQueue) {
    let mut burst = Burst::new();
    queue.receive(&mut burst, 64);
    burst.frames.iter().for_each(|frame| queue.complete(frame.token));
    queue.release();
}

fn send(queue: &mut XdpQueue, bytes: &[u8]) {
    let (head, rest) = bytes.split_at(bytes.len().min(64));
    let segments = [segment(rest)];
    queue.send(&Outgoing::new(head, &segments)).unwrap();
    queue.flush();
}

#[test]
fn frames_arrive_byte_for_byte_and_their_chunks_go_round() {
    in_namespace(|| {
        make_pair();
        let (interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");

        assert_eq!((interface.mode(), interface.queue_count()), (Mode::Copy, 1));
        assert!(interface.is_native());
        // More than there are chunks, so that each of them has been used again.
        for round in 0..100u32 {
            let sent: Vec<_> = (0..50).map(|at| experimental(round * 50 + at, 1_514)).collect();
            sent.iter().for_each(|frame| wire.send(frame));
            assert_eq!(receive(&mut queues, 50), sent);
        }
        assert_eq!(queues[0].outstanding(), 0);
    });
}

#[test]
fn frames_leave_byte_for_byte_and_short_ones_are_padded() {
    in_namespace(|| {
        make_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        let short = experimental(1, 42);

        send(&mut queues[0], &short);
        let arrived = wire.receive().unwrap();

        assert_eq!(arrived.len(), 60);
        assert_eq!(arrived[..42], short);
        assert!(arrived[42..].iter().all(|&byte| byte == 0));
        // More than there are chunks, so that each of them has been used again.
        for number in 0..5_000 {
            let frame = experimental(number, 1_514);
            send(&mut queues[0], &frame);
            assert_eq!(wire.receive().unwrap(), frame);
        }
    });
}

#[test]
fn burst_of_more_frames_than_one_kernel_call_sends_leaves_whole() {
    in_namespace(|| {
        make_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");

        for number in 0..100 {
            let frame = experimental(number, 64);
            queues[0].send(&Outgoing::new(&frame, &[])).unwrap();
        }
        queues[0].flush();

        let arrived: Vec<_> = (0..100).map(|_| wire.receive().unwrap()).collect();
        let sent: Vec<_> = (0..100).map(|number| experimental(number, 64)).collect();
        assert_eq!(arrived, sent);
    });
}

#[test]
fn frame_for_an_interface_that_is_down_keeps_nobody_awake_and_leaves_later() {
    in_namespace(|| {
        make_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        ip("link set up0 down");
        let frame = experimental(1, 200);

        send(&mut queues[0], &frame);
        receive_for_nothing(&mut queues[0]);
        assert!(!queues[0].has_work());

        ip("link set up0 up");
        queues[0].flush();
        assert_eq!(wire.receive().unwrap(), frame);
    });
}

#[test]
fn frame_longer_than_the_mtu_allows_is_refused() {
    in_namespace(|| {
        make_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let frame = experimental(1, 1_515);

        let refusal = queues[0].send(&Outgoing::new(&frame, &[])).unwrap_err();

        assert_eq!(refusal, frame::DropReason::EgressOversized);
    });
}

#[test]
fn every_queue_of_the_interface_receives_and_sends() {
    in_namespace(|| {
        let two = "numrxqueues 2 numtxqueues 2";
        ip(&format!("link add up0 {two} type veth peer name wire0 {two}"));
        ip("link set wire0 up");
        let (interface, mut queues) = open("up0").unwrap();
        // A socket on tx queue n reaches rx queue n of the peer: the way to choose a queue here,
        // where neither tc classifiers nor flow steering exist.
        let (_peer, mut senders) = open("wire0").unwrap();
        assert_eq!((interface.queue_count(), queues.len()), (2, 2));

        let [zero, one] = [experimental(0, 200), experimental(1, 200)];
        send(&mut senders[0], &zero);
        send(&mut senders[1], &one);

        assert_eq!(receive(&mut queues[..1], 1), [zero]);
        assert_eq!(receive(&mut queues[1..], 1), [one]);
    });
}

#[test]
fn queue_that_the_interface_does_not_send_from_says_so() {
    in_namespace(|| {
        let queues = "numrxqueues 2 numtxqueues 1";
        ip(&format!("link add up0 {queues} type veth peer name wire0 {queues}"));
        ip("link set wire0 up");

        let (_interface, queues) = open("up0").unwrap();

        let can_send: Vec<bool> = queues.iter().map(XdpQueue::can_send).collect();
        assert_eq!(can_send, [true, false]);
    });
}

#[test]
fn interface_with_a_queue_that_does_not_send_is_refused_zero_copy() {
    in_namespace(|| {
        let queues = "numrxqueues 2 numtxqueues 1";
        ip(&format!("link add up0 {queues} type veth peer name wire0 {queues}"));
        let settings = Settings { zero_copy: ZeroCopy::Always, ..Settings::default() };

        let refusal = Interface::open("up0", &settings, &mut UmemPool::new()).unwrap_err();

        let is_expected =
            matches!(refusal, SocketError::ReceiveOnly { channels: 2, senders: 1, .. });
        assert!(is_expected, "{refusal}");
        await_no_program("up0");
    });
}

#[test]
fn program_is_gone_after_queues_and_interface_are_dropped() {
    in_namespace(|| {
        make_pair();
        let (interface, queues) = open("up0").unwrap();
        assert!(has_program("up0"));

        drop(queues);
        drop(interface);

        await_no_program("up0");
        let again = open("up0");
        assert!(again.is_ok(), "{again:?}");
    });
}

#[test]
fn program_is_gone_after_the_process_was_killed() {
    in_namespace(|| {
        make_pair();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child_holds_an_interface", "--exact", "--nocapture"])
            .env(CHILD, "up0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("interface held")));
        assert!(has_program("up0"));

        child.kill().unwrap();
        child.wait().unwrap();

        await_no_program("up0");
    });
}

/// The child of the test above; nothing by itself.
#[test]
fn child_holds_an_interface() {
    if let Ok(name) = std::env::var(CHILD) {
        let _held = open(&name).unwrap();
        println!("interface held");
        std::thread::sleep(Duration::from_secs(20));
    }
}

#[test]
fn interface_that_has_a_program_is_refused_with_the_way_out() {
    in_namespace(|| {
        make_pair();
        let _held = open("up0").unwrap();

        let refusal = open("up0").unwrap_err().to_string();

        assert!(refusal.contains("up0 already has an XDP program"), "{refusal}");
        assert!(refusal.contains("ip link set dev up0 xdp off"), "{refusal}");
    });
}

#[test]
fn interface_that_its_last_owner_is_about_to_leave_is_waited_for() {
    in_namespace(|| {
        make_pair();
        let held = open("up0").unwrap();
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(held);
        });

        let taken = open("up0");

        assert!(taken.is_ok(), "{taken:?}");
        leaving.join().unwrap();
    });
}

#[test]
fn queue_that_its_last_owner_is_about_to_leave_is_waited_for() {
    in_namespace(|| {
        make_pair();
        let (interface, queues) = open("up0").unwrap();
        drop(interface);
        let leaving = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            drop(queues);
        });

        let taken = open("up0");

        assert!(taken.is_ok(), "{taken:?}");
        leaving.join().unwrap();
    });
}

#[test]
fn interface_that_is_missing_or_loopback_is_refused() {
    in_namespace(|| {
        assert!(matches!(open("nowhere").unwrap_err(), SocketError::Missing { .. }));
        assert!(matches!(
            open("a-name-that-is-too-long").unwrap_err(),
            SocketError::Missing { .. }
        ));
        assert!(matches!(open("lo").unwrap_err(), SocketError::Loopback { .. }));
    });
}

#[test]
fn interface_with_an_address_is_refused_unless_forced() {
    in_namespace(|| {
        make_pair();
        ip("addr add 192.0.2.1/24 dev up0");

        let refusal = open("up0").unwrap_err();
        assert!(matches!(refusal, SocketError::InUse { .. }), "{refusal}");
        assert!(!has_program("up0"));

        let forced = Settings { force: true, ..Settings::default() };
        let opened = Interface::open("up0", &forced, &mut UmemPool::new());
        assert!(opened.is_ok(), "{opened:?}");
    });
}

#[test]
fn zero_copy_that_the_driver_lacks_is_refused_when_it_must_be() {
    in_namespace(|| {
        make_pair();
        let always = Settings { zero_copy: ZeroCopy::Always, ..Settings::default() };

        let refusal = Interface::open("up0", &always, &mut UmemPool::new()).unwrap_err();

        assert!(matches!(refusal, SocketError::NoZeroCopy { queue: 0, .. }), "{refusal}");
        assert!(std::error::Error::source(&refusal).is_some());
        assert!(!has_program("up0"));
    });
}

#[test]
fn interface_with_more_channels_than_sockets_is_refused() {
    in_namespace(|| {
        let two = "numrxqueues 2 numtxqueues 2";
        ip(&format!("link add up0 {two} type veth peer name wire0 {two}"));
        let one = Settings { max_queues: 1, ..Settings::default() };

        let refusal = Interface::open("up0", &one, &mut UmemPool::new()).unwrap_err().to_string();

        assert!(refusal.contains("ethtool -L up0 combined 1"), "{refusal}");
    });
}

#[test]
fn tag_on_the_wire_is_taken_out_and_leads_to_the_header() {
    in_namespace(|| {
        make_pair();
        let (_interface, mut queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        let plain = experimental(1, 200);
        let tagged = [&plain[..12], &[0x81, 0x00, 0xa0, 0x64], &plain[12..]].concat();

        wire.send(&tagged);

        let deadline = Instant::now() + Duration::from_secs(2);
        let mut burst = Burst::new();
        while burst.frames.is_empty() && Instant::now() < deadline {
            queues[0].receive(&mut burst, 1);
            if burst.frames.iter().any(|frame| frame.header.ether_type() != world::EXPERIMENTAL) {
                burst.clear();
            }
        }
        let frame = &burst.frames[0];
        assert_eq!(frame.header.tag().map(frame::VlanTag::to_bits), Some(0xa064));
        assert_eq!(frame.length_bytes, 200);
        assert_eq!(content(&burst, frame), plain);
    });
}

#[test]
fn vlan_stripping_is_off_while_the_interface_is_held() {
    in_namespace(|| {
        make_pair();
        assert!(world::strips_tags("up0"));

        let held = open("up0").unwrap();
        assert!(!world::strips_tags("up0"));

        drop(held);
        assert!(world::strips_tags("up0"));
    });
}

#[test]
fn frames_that_nobody_takes_are_counted() {
    in_namespace(|| {
        make_pair();
        let (_interface, queues) = open("up0").unwrap();
        let wire = Wire::open("wire0");
        assert_eq!(queues[0].statistics().rx_ring_full, 0);

        (0..4_000).for_each(|number| wire.send(&experimental(number, 60)));

        let deadline = Instant::now() + Duration::from_secs(5);
        while queues[0].statistics().rx_ring_full == 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(queues[0].statistics().rx_ring_full > 0, "{:?}", queues[0].statistics());
    });
}
