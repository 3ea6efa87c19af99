//! Net headers and headers that are nearly right, and such that change while they are looked at:
//! whatever becomes of them, nobody is told nonsense and the switch goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use virtio::Features;
use virtio::offload::NetHeader;

use super::super::abilities::{ASKS, Sent, TAKES_ALL_MERGED, merging};
use super::{Lab, extended, large};
use crate::support::flow::{Flow, PROTOCOLS, TCP4};
use crate::support::front_end::{BUFFER_STEP, MODERN, Manner, RING_ENTRIES, Received};
use crate::support::numbers;

/// Sees to it that nobody is told what makes no sense.
fn assert_sensible(came: &Received, manner: Manner) {
    let NetHeader { flags, gso_type, gso_size, csum_start, csum_offset, .. } = came.net_header;
    let end = usize::from(csum_start) + usize::from(csum_offset) + 2;
    if !manner.features.contains(Features::NET_GUEST_CSUM) {
        assert_eq!(came.net_header, NetHeader::default());
    } else if flags == NetHeader::NEEDS_CSUM {
        assert!(csum_start >= 14 && end <= came.frame.len(), "{:?}", came.net_header);
        assert_eq!(gso_size == 0, gso_type == NetHeader::GSO_NONE, "{:?}", came.net_header);
    } else {
        assert_eq!(came.net_header, NetHeader::default());
    }
}

#[test]
fn rubbish_in_net_headers_and_headers_harms_nobody() {
    const FRAMES: usize = 4_000;
    let seed = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_nanos();
    eprintln!("seed {seed}");
    let mut random = numbers(u64::from(seed) * 7_919 + 1).map(|number| number >> 16);
    let mut lab = Lab::new(merging(ASKS));
    let started = Instant::now();

    for count in 0..FRAMES {
        let mut pick = |end: u64| usize::try_from(random.next().unwrap() % end).unwrap();
        let (right, mut frame) = large(PROTOCOLS[count % 4]).packet();
        let mut net_header = right.to_bytes(0);
        for _ in 0..=pick(2) {
            net_header[pick(10)] = u8::try_from(pick(256)).unwrap();
        }
        for _ in 0..pick(3) {
            frame[12 + pick(80)] = u8::try_from(pick(256)).unwrap();
        }
        frame.truncate(14 + pick(4_000));
        lab.mallory.send_asking(NetHeader::from_bytes(&net_header), &frame);
        while let Some(came) = lab.bob.try_receive_told() {
            assert_sensible(&came, MODERN);
        }
        while let Some(came) = lab.carol.try_receive_told() {
            assert_sensible(&came, TAKES_ALL_MERGED);
        }
    }
    lab.mallory.await_sent();

    while lab.bob.try_receive().is_some() || lab.carol.try_receive().is_some() {}
    assert!(started.elapsed() < Duration::from_secs(10));
    assert!(lab.switch.counter("bob", "frames_out") > 0);
    lab.finish();
}

#[test]
fn guest_that_rewrites_its_headers_meanwhile_harms_nobody() {
    let mut lab = Lab::new(merging(ASKS));
    let is_over = Arc::new(AtomicBool::new(false));
    let (memory, end) = (Arc::clone(&lab.mallory.memory), Arc::clone(&is_over));
    let buffers = lab.mallory.buffer(1);
    let flipper = std::thread::spawn(move || {
        let mut random = numbers(4_711);
        while !end.load(Ordering::Relaxed) {
            let [buffer, at, byte] = [(); 3].map(|()| random.next().unwrap() >> 20);
            // Mostly behind the 64 bytes that are copied when a frame comes in, where headers are
            // read again when it is cut.
            let at = if at % 8 == 0 { at / 8 % 150 } else { 12 + 64 + at / 8 % 48 };
            let address = buffers + buffer % u64::from(RING_ENTRIES) * BUFFER_STEP + at;
            memory.write(address, &[u8::try_from(byte % 256).unwrap()]);
        }
    });
    let start = Instant::now();

    let mut packets: Vec<_> = PROTOCOLS.iter().map(|flow| large(*flow).packet()).collect();
    let (right, frame) = large(Flow { is_v6: true, ..TCP4 }).packet();
    let right = NetHeader { csum_start: right.csum_start + 40, ..right };
    packets.push((right, extended(&frame, 5)));
    for (net_header, frame) in packets.iter().cycle() {
        lab.mallory.send_asking(*net_header, frame);
        while let Some(came) = lab.bob.try_receive_told() {
            assert_sensible(&came, MODERN);
        }
        while let Some(came) = lab.carol.try_receive_told() {
            assert_sensible(&came, TAKES_ALL_MERGED);
        }
        if start.elapsed() > Duration::from_secs(1) {
            break;
        }
    }
    is_over.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
    lab.mallory.await_sent();

    while lab.bob.try_receive().is_some() || lab.carol.try_receive().is_some() {}
    assert!(lab.switch.counter("bob", "frames_out") > 0);
    assert!(lab.switch.drops("bob", "offload_unfit") > 0);
    lab.finish();
}

#[test]
fn floods_of_many_pieces_count_as_the_copies_that_they_may_become() {
    let mut lab = Lab::new(merging(ASKS));
    let sent = Sent { payload: vec![7; 1_300], size: Some(1), ..large(TCP4) };
    let (net_header, frame) = sent.packet();

    // In one turn: the first flood always passes.
    lab.switch.pause();
    (0..2).for_each(|_| lab.mallory.send_asking(net_header, &frame));
    lab.switch.resume();
    lab.mallory.await_sent();

    assert_eq!(lab.switch.drops("mallory", "flood_budget"), 1);
    assert_eq!(lab.switch.counter("mallory", "decided"), 1);
    while lab.bob.try_receive().is_some() || lab.carol.try_receive().is_some() {}
    lab.finish();
}
