//! TCP between the host's own stack and others': what arrives is what was sent, and few system calls
//! carried it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::{PORT, TAP, assert_all_accounted, host};
use crate::support::PATIENCE;
use crate::support::switch::{Switch, interface};
use crate::support::wire::{OUTSIDE, UPLINK, Wire};

/// Enough for windows to open.
const STREAM_BYTES: usize = 8_000_000;

const HOST: &str = "10.7.0.1";
const STATION: &str = "10.7.0.2";

/// Another namespace, in which an interface of the host's then is the station.
fn station(host: &Wire, interface: &str) -> Wire {
    let station = Wire::empty();
    station.keep_quiet();
    host.ip(&["link", "set", interface, "netns", &station.namespace]);
    station.ip(&["address", "add", &format!("{STATION}/24"), "dev", interface]);
    station.ip(&["link", "set", interface, "up"]);
    station
}

/// A connection between two namespaces, from `from` to `address` in `to`.
fn connect(from: &Wire, to: &Wire, address: &'static str) -> [TcpStream; 2] {
    let address: SocketAddr = format!("{address}:7000").parse().unwrap();
    let listener = to.within(move || TcpListener::bind(address).unwrap());
    let out = from.within(move || TcpStream::connect_timeout(&address, PATIENCE).unwrap());
    [out, listener.accept().unwrap().0]
}

/// Bytes that say where they belong.
fn bytes() -> Vec<u8> {
    (0u32..).flat_map(|at| at.wrapping_mul(0x9e37_79b1).to_be_bytes()).take(STREAM_BYTES).collect()
}

/// Sends all bytes through a connection.
fn send([mut out, mut into]: [TcpStream; 2]) {
    out.set_write_timeout(Some(PATIENCE)).unwrap();
    into.set_read_timeout(Some(PATIENCE)).unwrap();
    let sending = std::thread::spawn(move || out.write_all(&bytes()).unwrap());
    let mut came = Vec::new();
    into.read_to_end(&mut came).unwrap();
    sending.join().unwrap();
    assert!(came == bytes(), "{} of {STREAM_BYTES} bytes came, or others", came.len());
}

/// Packets that an interface's host has received by it and sent.
fn packets(wire: &Wire, interface: &str) -> [u64; 2] {
    ["rx", "tx"].map(|direction| {
        let file = format!("/sys/class/net/{interface}/statistics/{direction}_packets");
        let output = wire.command("cat").arg(file).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    })
}

/// Sends both ways; returns the mean length of what the host received by its tap, and sent.
fn exchange(host: &Wire, station: &Wire) -> [u64; 2] {
    let before = packets(host, TAP);
    send(connect(station, host, HOST));
    let between = packets(host, TAP);
    send(connect(host, station, STATION));
    let after = packets(host, TAP);
    [between[0] - before[0], after[1] - between[1]].map(|count| STREAM_BYTES as u64 / count)
}

#[test]
fn host_speaks_tcp_with_a_station_behind_the_uplink() {
    for cores in ["[0]", "[0, 1]"] {
        let host = host();
        let station = station(&host, OUTSIDE);
        // The other end of a wire is no veth's: checksums are complete on it.
        station.switch_off(OUTSIDE, "tx");
        let up = interface("up", UPLINK);
        let config = format!("[threads]\ncores = {cores}\n{PORT}{up}");
        let switch = Switch::in_namespace(Some(&host.namespace), &config);
        host.ip(&["address", "add", &format!("{HOST}/24"), "dev", TAP]);

        let [received, sent] = exchange(&host, &station);

        // Frames of a wire, joined as they come; and frames that are as large as TCP makes them.
        assert!(received > 2_000 && sent > 8_000, "{received} and {sent} bytes a frame");
        assert_all_accounted(&switch, &["host", "up"]);
    }
}

#[test]
fn hosts_of_two_taps_speak_tcp_in_large_frames() {
    let host = host();
    let other = "[[port]]\nname = 'other'\ntype = 'tap'\ninterface = 'tap1'\nqueues = 2\n";
    let switch = Switch::in_namespace(Some(&host.namespace), &format!("{PORT}{other}"));
    host.ip(&["address", "add", &format!("{HOST}/24"), "dev", TAP]);
    let station = station(&host, "tap1");

    let [received, sent] = exchange(&host, &station);

    assert!(received > 8_000 && sent > 8_000, "{received} and {sent} bytes a frame");
    assert_all_accounted(&switch, &["host", "other"]);
}
