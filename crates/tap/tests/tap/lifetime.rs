//! Taps that come and go: with us, before us, and under us; and how many queues they have.

use std::time::{Duration, Instant};

use frame::{Burst, DropReason};
use tap::{Tap, TapQueue};
use virtio::offload::NetHeader;

use super::world::{Host, content, experimental, in_namespace, ip, large, shown};
use super::{PATIENCE, open, receive, receive_nothing, send};

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn every_queue_receives_and_sends() {
    in_namespace(|| {
        let (tap, mut queues) = Tap::open("tap7", 2).unwrap();
        let host = Host::open("tap7");
        let numbers: Vec<_> = queues.iter().map(TapQueue::number).collect();
        assert_eq!((tap.queue_count(), numbers), (2, vec![0, 1]));

        // The host chooses the queue of a flow by its hash: of many, both get some.
        for flow in 0..64 {
            let (net_header, mut bytes) = large(2_000);
            bytes[35] = flow;
            host.send_with(net_header, &bytes);
        }
        let counts = queues.iter_mut().map(|queue| queue.receive(&mut Burst::new(), 64));
        let counts: Vec<_> = counts.collect();
        assert_eq!(counts.iter().sum::<usize>(), 64);
        assert!(counts.iter().all(|&count| count > 0), "{counts:?}");

        for (number, queue) in (0..).zip(&mut queues) {
            send(queue, NetHeader::default(), &experimental(number, 100)).unwrap();
            assert_eq!(host.receive().unwrap().1, experimental(number, 100));
        }
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn interface_that_was_made_is_up_and_goes_with_its_queues() {
    in_namespace(|| {
        let (tap, queue) = open("tap7");
        assert!(shown("tap7").contains("LOWER_UP"));
        tap.set_mtu(9_000).unwrap();
        assert_eq!(tap.mtu_bytes().unwrap(), 9_000);
        assert!(shown("tap7").contains("mtu 9000"));

        drop(queue);

        // A child that another test is about to start has a copy until it executes.
        let deadline = Instant::now() + PATIENCE;
        while !shown("tap7").is_empty() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(shown("tap7"), "");
        assert!(tap.mtu_bytes().is_err());
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn persistent_tap_is_taken_again_and_left_as_its_owner_made_it() {
    in_namespace(|| {
        ip("tuntap add dev tap7 mode tap multi_queue vnet_hdr");
        ip("link set tap7 mtu 4000");

        for queues in [2, 1, 3] {
            let (tap, mut opened) = Tap::open("tap7", queues).unwrap();
            assert!(tap.is_persistent());
            assert_eq!((opened.len(), tap.mtu_bytes().unwrap()), (queues, 4_000));
            assert!(!shown("tap7").contains("state UP"));

            ip("link set tap7 up");
            let frame = experimental(1, 100);
            Host::open("tap7").send(&frame);
            let received: Vec<_> =
                opened.iter_mut().map(|queue| queue.receive(&mut Burst::new(), 64)).collect();
            assert_eq!(received.iter().sum::<usize>(), 1);
            drop(opened);
            ip("link set tap7 down");
        }
        assert!(shown("tap7").contains("persist on"));
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn tap_made_without_multi_queue_gets_one_queue() {
    in_namespace(|| {
        ip("tuntap add dev tap7 mode tap");

        let (tap, mut queues) = Tap::open("tap7", 4).unwrap();

        // Not before: the kernel starts sending some time after a carrier has come.
        ip("link set tap7 up");
        assert_eq!((tap.queue_count(), queues.len()), (1, 1));
        let (net_header, bytes) = large(30_000);
        Host::open("tap7").send_with(net_header, &bytes);
        assert!(receive(&mut queues[0], 1) == [bytes]);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn interface_that_is_down_drops_frames_and_takes_them_again_when_it_is_up() {
    in_namespace(|| {
        let (_tap, mut queue) = open("tap7");
        let host = Host::open("tap7");
        let frame = experimental(1, 100);

        ip("link set tap7 down");
        let refused = send(&mut queue, NetHeader::default(), &frame);
        let was_gone = queue.is_gone();
        ip("link set tap7 up");
        drop(host);
        let host = Host::open("tap7");
        send(&mut queue, NetHeader::default(), &frame).unwrap();

        assert_eq!((refused, was_gone), (Err(DropReason::PortDown), false));
        assert_eq!(host.receive().unwrap().1, frame);
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn interface_removed_under_us_is_found_gone_and_its_frames_stay_readable() {
    in_namespace(|| {
        let (tap, mut queue) = open("tap7");
        let bytes = experimental(1, 1_000);
        Host::open("tap7").send(&bytes);
        let mut burst = Burst::new();
        queue.receive(&mut burst, 1);

        ip("link del tap7");

        assert_eq!(send(&mut queue, NetHeader::default(), &bytes), Err(DropReason::PortDown));
        assert!(queue.is_gone());
        assert!(receive_nothing(&mut queue));
        assert!(!queue.has_work());
        assert!(tap.mtu_bytes().is_err());
        assert_eq!(content(&burst, &burst.frames[0]), bytes);
        queue.complete(burst.frames[0].token);
        assert_eq!(queue.outstanding(), 0);
    });
}
