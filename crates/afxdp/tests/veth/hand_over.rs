//! Uplinks that another owner goes on with, as another process would: from descriptors and words.
//! Frames that lie in the rings come along, and each chunk is where it must be.

use std::os::fd::{BorrowedFd, OwnedFd};

use afxdp::{
    ChunkCount, Interface, InterfaceDescriptors, QueueState, SocketError, UmemPool, XdpQueue,
};
use frame::{Burst, MAX_FRAME_BYTES};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::exchange::{join, make_pairs, pass};
use super::world::{Wire, ethtool, experimental, has_program, in_namespace, ip, strips_tags};
use super::{await_no_program, receive, send};

/// Chunks of one queue.
const PART: usize = 4_096;

/// An uplink with one queue.
type Uplink = (XdpQueue, Interface);

fn copy(descriptor: BorrowedFd<'_>) -> OwnedFd {
    descriptor.try_clone_to_owned().unwrap()
}

/// What another process would read.
fn by_mail<T: Serialize + DeserializeOwned>(state: &T) -> T {
    serde_json::from_str(&serde_json::to_string(state).unwrap()).unwrap()
}

/// Adopts uplinks and their UMEMs. They are not owned yet. Before they go on, `change` may change
/// what is told of their queues.
fn adopt(
    pool: &UmemPool,
    uplinks: &mut [Uplink],
    mut change: impl FnMut(&mut Value),
) -> Result<(UmemPool, Vec<Uplink>), SocketError> {
    let mut new_pool = UmemPool::new();
    for (state, file) in pool.describe() {
        new_pool.adopt(by_mail(&state), copy(file))?;
    }
    let mut adopted = Vec::new();
    for (queue, interface) in &*uplinks {
        let (state, InterfaceDescriptors { map, link, promiscuous }) =
            interface.describe(pool).unwrap();
        let descriptors = InterfaceDescriptors {
            map: copy(map),
            link: copy(link),
            promiscuous: copy(promiscuous),
        };
        let sockets = vec![copy(queue.as_fd())];
        adopted.push(Interface::adopt(by_mail(&state), descriptors, sockets, &mut new_pool)?);
    }
    let mut gone_on = Vec::new();
    for ((queue, _), (interface, mut queues)) in uplinks.iter_mut().zip(adopted) {
        let mut state = serde_json::to_value(queue.describe().unwrap()).unwrap();
        change(&mut state);
        let state: QueueState = serde_json::from_value(state).unwrap();
        gone_on.push((queues.remove(0).go_on(state)?, interface));
    }
    Ok((new_pool, gone_on))
}

/// Hands uplinks over to another owner.
fn hand_over(pool: UmemPool, mut uplinks: Vec<Uplink>) -> (UmemPool, Vec<Uplink>) {
    let (new_pool, mut adopted) = adopt(&pool, &mut uplinks, |_| ()).unwrap();
    for (queue, interface) in &mut uplinks {
        queue.let_go();
        interface.let_go();
    }
    drop(uplinks);
    for (queue, interface) in &mut adopted {
        queue.own();
        interface.own();
    }
    (new_pool, adopted)
}

/// Where the chunks of a queue are that has nothing to do.
fn count(uplink: &Uplink) -> ChunkCount {
    let count = uplink.0.count_chunks().unwrap();
    assert_eq!(count.total(), PART);
    count
}

#[test]
fn frames_and_chunks_of_two_uplinks_come_along_again_and_again() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        let mut uplinks = vec![join("up0", &mut pool), join("up1", &mut pool)];
        let wires = [Wire::open("wire0"), Wire::open("wire1")];

        for round in 0..5 {
            // Each comes to have chunks that were the other's.
            let sent: Vec<_> = (0..1_500).map(|at| experimental(round * 1_500 + at, 900)).collect();
            for some in sent.chunks(50) {
                let [(from, _), (to, _)] = &mut uplinks[..] else { panic!("two uplinks") };
                some.iter().for_each(|frame| wires[0].send(frame));
                assert_eq!(pass(from, to, 50, None), 50);
                some.iter().for_each(|frame| assert!(wires[1].receive().unwrap() == *frame));
            }
            // They wait while nobody works.
            let waiting: Vec<_> = (0..300).map(|at| experimental(at, 1_514)).collect();
            waiting.iter().for_each(|frame| wires[1].send(frame));

            (pool, uplinks) = hand_over(pool, uplinks);

            // And what the kernel of the other end had to say.
            assert!(count(&uplinks[1]).received >= 300);
            assert!(receive(std::slice::from_mut(&mut uplinks[1].0), 300) == waiting);
        }
        for uplink in &mut uplinks {
            uplink.0.flush();
            let count = count(uplink);
            assert_eq!((count.free, count.elsewhere), (2_048, 0), "{count:?}");
            assert_eq!(count.to_receive + count.received, 2_048, "{count:?}");
        }
        assert_eq!(pool.free_chunks(), [2 * PART]);
        uplinks.remove(0);
        assert_eq!(pool.free_chunks(), [3 * PART]);
        uplinks.push(join("up0", &mut pool));
        assert_eq!(pool.free_chunks(), [2 * PART]);
    });
}

#[test]
fn interface_is_put_back_by_its_last_owner_alone() {
    in_namespace(|| {
        ip("link add up0 type veth peer name wire1");
        ethtool("-K up0 rxvlan on");
        let mut pool = UmemPool::new();
        let uplinks = vec![join("up0", &mut pool)];
        assert!(has_program("up0") && !strips_tags("up0"));

        let (_pool, uplinks) = hand_over(pool, uplinks);

        assert!(has_program("up0") && !strips_tags("up0"));
        drop(uplinks);
        await_no_program("up0");
        assert!(strips_tags("up0"));
    });
}

#[test]
fn old_owner_goes_on_when_the_new_one_does_not() {
    in_namespace(|| {
        make_pairs(1);
        let mut pool = UmemPool::new();
        let mut uplinks = vec![join("up0", &mut pool)];
        let wire = Wire::open("wire0");
        let waiting: Vec<_> = (0..100).map(|at| experimental(at, 1_514)).collect();
        send(&mut uplinks[0].0, &experimental(1, 100));
        waiting.iter().for_each(|frame| wire.send(frame));

        drop(adopt(&pool, &mut uplinks, |_| ()).unwrap());

        assert!(!uplinks[0].0.was_moved());
        assert!(count(&uplinks[0]).received >= 100);
        assert!(receive(std::slice::from_mut(&mut uplinks[0].0), 100) == waiting);
        assert!(has_program("up0"));
        // A new one that worked for a moment is noticed.
        let (_pool, mut adopted) = adopt(&pool, &mut uplinks, |_| ()).unwrap();
        adopted[0].0.own();
        send(&mut adopted[0].0, &experimental(2, 100));
        assert!(uplinks[0].0.was_moved());
    });
}

#[test]
fn jumbo_frame_that_had_come_in_part_is_whole_for_the_new_owner() {
    in_namespace(|| {
        make_pairs(1);
        for interface in ["up0", "wire0"] {
            ip(&format!("link set {interface} mtu {}", MAX_FRAME_BYTES - 14));
        }
        let mut pool = UmemPool::new();
        let mut uplinks = vec![join("up0", &mut pool)];
        let wire = Wire::open("wire0");
        let frame = experimental(7, 9_000);
        wire.send(&frame);
        let mut burst = Burst::new();
        // What the kernel of the other end had to say comes first.
        while uplinks[0].0.receive(&mut burst, 1) > 0 {
            burst.frames.iter().for_each(|frame| uplinks[0].0.complete(frame.token));
            burst.clear();
        }

        (pool, uplinks) = hand_over(pool, uplinks);

        assert!(count(&uplinks[0]).received >= 3);
        assert!(receive(std::slice::from_mut(&mut uplinks[0].0), 1) == [frame]);
        assert_eq!(pool.free_chunks(), [3 * PART]);
    });
}

#[test]
fn chunk_that_would_have_two_owners_is_refused() {
    in_namespace(|| {
        make_pairs(2);
        let mut pool = UmemPool::new();
        let mut uplinks = vec![join("up0", &mut pool), join("up1", &mut pool)];
        let changes: [fn(&mut Value); 4] = [
            // Twice free.
            |state| state["free"][0] = state["free"][1].clone(),
            // Free, and in the fill ring.
            |state| state["free"][0] = state["chunks"][0].clone(),
            // Both queues have it.
            |state| state["chunks"][5] = json!(5),
            // It does not exist.
            |state| state["chunks"][0] = json!(u32::MAX),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let error = adopt(&pool, &mut uplinks, change).err();

            assert!(matches!(error, Some(SocketError::NotAdopted { .. })), "{number}: {error:?}");
        }
        for uplink in &uplinks {
            assert_eq!(count(uplink).free, 2_048);
        }
    });
}
