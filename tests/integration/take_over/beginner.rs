//! A new switch that dies when it has just begun to work at the uplinks: the old one, which cannot
//! know what became of their chunks, opens them anew and goes on.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use datapath::afxdp::{Interface, InterfaceDescriptors, UmemPool};
use datapath::frame::Outgoing;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::failures::{ask, line, say};
use super::uplinks::Lab;
use crate::support::{ALICE, BOB, BROADCAST, CAROL, frame, wait_for};
use crate::uplink::two_wires;

/// Reads a message and its descriptors.
fn read(stream: &mut UnixStream) -> (Value, Vec<Option<OwnedFd>>) {
    let head: Value = serde_json::from_str(&line(stream)).unwrap();
    let number = |name: &str| usize::try_from(head[name].as_u64().unwrap()).unwrap();
    let mut descriptors = Vec::new();
    while descriptors.len() < number("descriptors") {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(128))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let parts = &mut [IoSliceMut::new(&mut byte)];
        recvmsg(&*stream, parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(some) = message {
                descriptors.extend(some.map(Some));
            }
        }
    }
    let mut body = vec![0; number("bytes")];
    stream.read_exact(&mut body).unwrap();
    (serde_json::from_slice(&body).unwrap(), descriptors)
}

fn parse<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

/// Takes over, sends a frame by each uplink and dies. To be run in the switch's namespace.
fn begin_and_die(control: &Path) {
    let mut stream = ask(control);
    let (offer, mut descriptors) = read(&mut stream);
    let offer = &offer["Description"];
    let mut take = |place: &Value| {
        descriptors[usize::try_from(place.as_u64().unwrap()).unwrap()].take().unwrap()
    };
    let mut pool = UmemPool::new();
    for umem in offer["umems"].as_array().unwrap() {
        pool.adopt(parse(&umem["state"]), take(&umem["descriptor"])).unwrap();
    }
    let mut adopted = Vec::new();
    for uplink in offer["uplinks"].as_array().unwrap() {
        let [map, link, promiscuous] =
            ["map", "link", "promiscuous"].map(|name| take(&uplink[name]));
        let files = InterfaceDescriptors { map, link, promiscuous };
        let sockets = uplink["sockets"].as_array().unwrap().iter().map(&mut take).collect();
        let interface = Interface::adopt(parse(&uplink["state"]), files, sockets, &mut pool);
        adopted.push((interface.unwrap(), uplink["port"].clone()));
    }
    say(&mut stream, &json!("Ready"));
    let (stopped, _) = read(&mut stream);
    let names: Vec<&Value> = adopted.iter().map(|(_, port)| port).collect();
    say(&mut stream, &json!({ "TakenWith": names }));
    assert_eq!(read(&mut stream).0, "Yours");
    for (((_interface, queues), _), state) in
        adopted.into_iter().zip(stopped["uplinks"].as_array().unwrap())
    {
        for (queue, state) in queues.into_iter().zip(state["queues"].as_array().unwrap()) {
            let mut queue = queue.go_on(parse(state)).unwrap();
            queue.own();
            queue.send(&Outgoing::new(&frame(BROADCAST, ALICE, &[0xdd; 46]), &[])).unwrap();
            queue.flush();
            // As dead as it gets.
            queue.let_go();
        }
    }
}

#[test]
fn uplinks_at_which_another_switch_had_begun_are_opened_anew() {
    let mut lab = Lab::new(two_wires(), "", 900);
    let control = lab.switch.path("control.sock");

    lab.wire.within(move || begin_and_die(&control));
    wait_for("the uplinks", || (lab.switch.log_lines("uplink2 in copy mode") == 2).then_some(()));

    assert_eq!(lab.switch.log_lines("is opened anew, for the other switch had begun"), 2);
    assert!(lab.switch.is_alive());
    // Each of the streams had come to rest before, so they go on where they were.
    for station in [ALICE, BOB, CAROL] {
        lab.stations.send(station, &frame(BROADCAST, station, &[0; 46]));
    }
    lab.flow_for(std::time::Duration::from_millis(200));
    lab.await_all();
    assert_eq!(lab.umems(), 1);
    lab.take_over();
    lab.await_all();
}
