//! Linux as an oracle: what its software segmentation and its GRO make of the same frames.
//!
//! ```text
//!   test ──write──▶ tap "into" ──▶ bridge ──▶ tap "out" ──read──▶ test
//!                 (net header: large)          (takes nothing: the kernel cuts and completes)
//!                 (NAPI: the kernel joins)     (takes TSO: large frames come out)
//! ```
//!
//! In a network namespace of its thread's own, which goes with it.

#![allow(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::hostile::net_headers;
use super::{ACK, CWR, FIN, Flow, PSH, Received, cut, flows, payload};
use crate::offload::{
    CANDIDATE_BYTES, Candidate, Delivery, Head, NetHeader, Receiver, Train, complete,
};

const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;
const IFF_TAP: u16 = 0x0002;
const IFF_NAPI: u16 = 0x0010;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
/// `TUN_F_CSUM`, `TUN_F_TSO4`, `TUN_F_TSO6`, `TUN_F_TSO_ECN`.
const TAKES_TCP: libc::c_ulong = 1 | 2 | 4 | 8;

/// How long frames may take that must come.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long nothing must come for everything to have come.
const SILENCE: Duration = Duration::from_millis(4);
/// How long GRO holds frames back, in nanoseconds; longer than the test takes to write them.
const HOLD_NS: &str = "30000000";

/// The two taps and what is between them.
struct Kernel {
    into: File,
    out: File,
}

impl Kernel {
    /// In the thread's own namespace.
    fn new(joins: bool) -> Self {
        // SAFETY: takes integers only; the thread gets namespaces of its own.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS) };
        assert_eq!(result, 0, "unshare: {}", std::io::Error::last_os_error());
        run("mount --make-rprivate / && mount -t sysfs sysfs /sys");
        fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
        let into = tap("into", if joins { IFF_NAPI } else { 0 }, 0);
        let out = tap("out", 0, if joins { TAKES_TCP } else { 0 });
        run("ip link add br0 type bridge mcast_snooping 0 && ip link set br0 up
             for tap in into out; do ip link set $tap mtu 9000 master br0 up || exit 1; done");
        if joins {
            fs::write("/sys/class/net/into/gro_flush_timeout", HOLD_NS).unwrap();
            fs::write("/sys/class/net/into/napi_defer_hard_irqs", "1000").unwrap();
        }
        Self { into, out }
    }

    fn send(&mut self, net_header: &NetHeader, frame: &[u8]) {
        assert!(self.takes(net_header, frame));
    }

    /// Sends a frame that the kernel may refuse.
    fn takes(&mut self, net_header: &NetHeader, frame: &[u8]) -> bool {
        match self.into.write(&[&net_header.to_bytes(0), frame].concat()) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::InvalidInput => false,
            Err(error) => panic!("{error}"),
        }
    }

    /// The frames that come out, with their net headers, until `wanted` came or none does.
    fn receive(&mut self, wanted: usize) -> Vec<(NetHeader, Vec<u8>)> {
        let (mut frames, mut buffer) = (Vec::new(), vec![0; 70_000]);
        let mut last = Instant::now();
        while last.elapsed() < if frames.len() < wanted { PATIENCE } else { SILENCE } {
            match self.out.read(&mut buffer) {
                Ok(count) => {
                    let (net_header, frame) = buffer[..count].split_at(12);
                    // The bridge may have something to say, too.
                    if frame[6..12] == [8, 9, 10, 11, 12, 13] {
                        let net_header = NetHeader::from_bytes(net_header.try_into().unwrap());
                        frames.push((net_header, frame.to_vec()));
                        last = Instant::now();
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    thread::sleep(Duration::from_micros(50));
                }
                Err(error) => panic!("{error}"),
            }
        }
        frames
    }
}

/// A tap with net headers of 12 bytes, whose reader takes these offloads.
fn tap(name: &str, flags: u16, offloads: libc::c_ulong) -> File {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let file = options.open("/dev/net/tun").unwrap();
    let mut request = [0u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | flags;
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let header_bytes: libc::c_int = 12;
    // SAFETY: a live `ifreq`, whose 40 bytes the kernel reads and writes.
    let named = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    let place = ptr::from_ref(&header_bytes);
    // SAFETY: a live integer, which the kernel reads.
    let sized = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETVNETHDRSZ, place) };
    // SAFETY: takes a number.
    let offered = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETOFFLOAD, offloads) };
    assert_eq!((named, sized, offered), (0, 0, 0), "{}", std::io::Error::last_os_error());
    file
}

fn run(script: &str) {
    assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success(), "{script}");
}

/// Runs a test's cases in a namespace.
fn with_kernel<S>(
    joins: bool,
    strategy: S,
    case: fn(&mut Kernel, S::Value) -> Result<(), TestCaseError>,
) where
    S: Strategy + Send,
{
    thread::scope(|scope| {
        scope
            .spawn(move || {
                let kernel = std::cell::RefCell::new(Kernel::new(joins));
                let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
                let outcome = TestRunner::new(config)
                    .run(&strategy, |value| case(&mut kernel.borrow_mut(), value));
                outcome.unwrap_or_else(|failure| panic!("{failure}"));
            })
            .join()
            .unwrap();
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn segments_are_those_of_the_kernel() {
    let strategy = (flows(), 1usize..20_000, 500u16..3_000);
    with_kernel(false, strategy, |kernel, (flow, length, size)| {
        let bytes = flow.partial(&payload(length));
        let frame = Received::new(&bytes);
        let net_header = flow.net_header(Some(size));
        let offload = frame.interpret(&net_header).unwrap();
        prop_assume!(offload.segmentation.is_some());
        let ours = cut(&frame, &offload, flow.tag).unwrap();
        // The kernel drops what needs no cut if only TCP options make it longer than that.
        prop_assume!(ours.len() > 1);

        kernel.send(&net_header, &bytes);

        let theirs = kernel.receive(ours.len());
        let theirs: Vec<_> = theirs.into_iter().map(|(_, frame)| frame).collect();
        prop_assert_eq!(ours.len(), theirs.len());
        prop_assert!(ours == theirs);
        Ok(())
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn completed_checksums_are_those_of_the_kernel() {
    with_kernel(false, (flows(), 0usize..3_000), |kernel, (flow, length)| {
        let bytes = flow.partial(&payload(length));
        let frame = Received::new(&bytes);
        let net_header = flow.net_header(None);
        let offload = frame.interpret(&net_header).unwrap();
        let mut head = Head::EMPTY;
        let ours = super::written(complete(&offload, &frame.leaving(flow.tag), &mut head).unwrap());

        kernel.send(&net_header, &bytes);

        let theirs = kernel.receive(1);
        prop_assert_eq!(theirs.len(), 1);
        prop_assert!(ours == theirs[0].1);
        Ok(())
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn nearly_right_frames_that_the_kernel_takes_leave_as_its_own() {
    let sized = |flow: Flow| (net_headers(flow.clone()), Just(flow));
    let strategy = (flows().prop_flat_map(sized), 1usize..5_000);
    with_kernel(false, strategy, |kernel, ((mut net_header, flow), length)| {
        // The kernel believes a driver here, since it takes us for the host; and refuses a length
        // of headers that is longer than the frame, which we never look at.
        net_header.flags &= NetHeader::NEEDS_CSUM;
        net_header.hdr_len = 0;
        let bytes = flow.partial(&payload(length));
        let frame = Received::new(&bytes);
        let Ok(offload) = frame.interpret(&net_header) else { return Ok(()) };
        let (leaving, mut head) = (frame.leaving(flow.tag), Head::EMPTY);
        let ours = match Receiver::PLAIN.delivery(&offload, flow.tag.is_some()) {
            Delivery::Whole(_) => vec![bytes.clone()],
            Delivery::Completed => match complete(&offload, &leaving, &mut head) {
                Ok(completing) => vec![super::written(completing)],
                Err(_) => return Ok(()),
            },
            // We are stricter about where the checksum begins, the kernel about what needs no cut.
            Delivery::Cut => match cut(&frame, &offload, flow.tag) {
                Ok(frames) if frames.len() > 1 => frames,
                Ok(_) | Err(_) => return Ok(()),
            },
        };
        // More than a tap's queue holds.
        prop_assume!(ours.len() < 300);

        prop_assume!(kernel.takes(&net_header, &bytes));

        let theirs = kernel.receive(ours.len());
        let theirs: Vec<_> = theirs.into_iter().map(|(_, frame)| frame).collect();
        prop_assert_eq!(ours.len(), theirs.len());
        prop_assert!(ours == theirs);
        Ok(())
    });
}

/// One segment and how it differs from the one that would have come next.
type Step = (usize, u8, u32, u16);

/// Segments that mostly follow each other.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let length = prop_oneof![6 => Just(1_000usize), 1 => 900usize..1_100, 1 => Just(0)];
    let flags = prop_oneof![
        12 => Just(ACK), 2 => Just(ACK | PSH), 1 => Just(ACK | FIN), 1 => Just(ACK | CWR)
    ];
    let gap = prop_oneof![12 => Just(0u32), 1 => Just(7)];
    // Not 0: what the kernel joins of those it cuts again for a tap, since a net header cannot say
    // that the identification stands still.
    let count = prop_oneof![12 => Just(1u16), 1 => Just(2)];
    vec((length, flags, gap, count), 1..8)
}

/// The frames of these steps.
fn stream(flow: &Flow, steps: &[Step]) -> Vec<Vec<u8>> {
    let mut flow = flow.clone();
    let mut frames = Vec::new();
    for &(length, flags, gap, count) in steps {
        flow.flags = flags;
        flow.sequence = flow.sequence.wrapping_add(gap);
        frames.push(flow.wire(&payload(length)));
        flow.sequence = flow.sequence.wrapping_add(u32::try_from(length).unwrap());
        flow.identification = flow.identification.wrapping_add(count);
    }
    frames
}

/// What we join these frames to, as a poll thread would.
fn join(frames: &[Vec<u8>]) -> Vec<(NetHeader, Vec<u8>)> {
    let mut sent = Vec::new();
    let mut open: Option<(Train, Vec<u8>)> = None;
    let finish = |open: Option<(Train, Vec<u8>)>, sent: &mut Vec<_>| {
        if let Some((mut train, payload)) = open {
            let (head, offload) = train.finish();
            let is_tagged = head[12..14] == [0x81, 0x00];
            sent.push((NetHeader::of(&offload, is_tagged), [head, &payload].concat()));
        }
    };
    for bytes in frames {
        let frame = Received::new(bytes);
        let mut head = Head::EMPTY;
        head.gather(&frame.leaving(frame.header.tag()), CANDIDATE_BYTES);
        let Some(candidate) = Candidate::examine(&head, bytes.len()) else {
            finish(open.take(), &mut sent);
            sent.push((NetHeader::default(), bytes.clone()));
            continue;
        };
        let payload = &bytes[candidate.head_bytes()..];
        if let Some((train, carried)) = &mut open
            && train.join(&candidate)
        {
            carried.extend(payload);
            continue;
        }
        finish(open.replace((Train::start(&candidate), payload.to_vec())), &mut sent);
    }
    finish(open, &mut sent);
    sent
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn trains_are_those_of_the_kernel() {
    with_kernel(true, (flows(), steps()), |kernel, (flow, steps)| {
        let extras = if flow.is_v6 { flow.extras % 2 } else { 0 };
        // The kernel joins tagged frames only where its 802.1Q module is loaded.
        let flow = Flow { is_udp: false, extras, tag: None, ..flow };
        let frames = stream(&flow, &steps);
        let ours = join(&frames);

        frames.iter().for_each(|frame| kernel.send(&NetHeader::default(), frame));

        let theirs = kernel.receive(ours.len());
        let lengths = |frames: &[(NetHeader, Vec<u8>)]| -> Vec<_> {
            frames.iter().map(|(_, frame)| frame.len()).collect()
        };
        prop_assert_eq!(lengths(&ours), lengths(&theirs));
        for ((our_header, our_frame), (their_header, their_frame)) in ours.iter().zip(&theirs) {
            let (ours, theirs) = (our_header, their_header);
            prop_assert!(our_frame == their_frame);
            prop_assert_eq!(ours.gso_type, theirs.gso_type);
            if ours.gso_type != NetHeader::GSO_NONE {
                // Theirs is as long as what happens to be in the first buffer.
                prop_assert_eq!(*ours, NetHeader { hdr_len: ours.hdr_len, ..*theirs });
            }
        }
        Ok(())
    });
}
