//! A second front end: DPDK's virtio-user, which has rings of its own making, of every kind. One
//! `dpdk-testpmd` has two of them and forwards what comes in at one to the other; the switch carries
//! it back. DPDK works without huge pages and NICs here.
//!
//! ```text
//!   testpmd   virtio_user0 ═══╗        ╔═══ virtio_user1
//!                         port a ──── port b
//! ```

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use virtio::Features;

use crate::support::switch::Switch;
use crate::support::{wait_at_most, wait_for};

/// Frames that must have gone each way before anything is looked at.
const FRAMES: u64 = 20_000;

/// How virtio-user is told to work its rings.
#[derive(Debug, Clone, Copy)]
struct Manner {
    is_packed: bool,
    is_in_order: bool,
    merges: bool,
    /// Its code for vector instructions.
    is_vectorized: bool,
    queue_size: u16,
    queues: u16,
    /// It listens, and the switch connects.
    listens: bool,
}

const PLAIN: Manner = Manner {
    is_packed: false,
    is_in_order: false,
    merges: true,
    is_vectorized: false,
    queue_size: 256,
    queues: 1,
    listens: false,
};

impl Manner {
    fn features(self) -> Features {
        let pick = |wanted, feature| if wanted { feature } else { Features::NONE };
        Features::VERSION_1
            | pick(self.is_packed, Features::RING_PACKED)
            | pick(self.is_in_order, Features::IN_ORDER)
            | pick(self.merges, Features::NET_MRG_RXBUF)
            | pick(self.queues > 1, Features::NET_MQ)
    }

    fn device(self, number: usize, switch: &Switch, port: &str) -> String {
        let path = switch.path(&format!("{port}.sock"));
        let flags = [
            ("packed_vq", self.is_packed),
            ("in_order", self.is_in_order),
            ("mrg_rxbuf", self.merges),
            ("vectorized", self.is_vectorized),
            ("server", self.listens),
        ];
        let flags: String =
            flags.iter().map(|(name, on)| format!(",{name}={}", u8::from(*on))).collect();
        let Self { queue_size, queues, .. } = self;
        let (path, mac) = (path.display(), format!("52:54:00:00:00:0{number}"));
        format!(
            "net_virtio_user{number},path={path},mac={mac},queue_size={queue_size},\
             queues={queues}{flags}"
        )
    }
}

/// A switch with two ports for this manner.
fn switch_for(manner: Manner) -> Switch {
    let port = |name: &str| {
        let Manner { queues, listens, .. } = manner;
        format!(
            "[[port]]\nname = \"{name}\"\ntype = \"vhost-user\"\nsocket = \"DIR/{name}.sock\"\n\
             queues = {queues}\nconnect = {listens}\n"
        )
    };
    Switch::with_config(&[port("a"), port("b")].concat())
}

/// A running testpmd. It is ended when dropped.
struct Testpmd {
    child: Child,
    output: PathBuf,
}

impl Testpmd {
    fn start(switch: &Switch, manner: Manner) -> Self {
        let output = switch.path("testpmd.log");
        let log = File::create(&output).unwrap();
        let queues = manner.queues.to_string();
        let child = Command::new("dpdk-testpmd")
            .args(["-l", "0,1", "--main-lcore=0", "--no-pci", "--no-huge", "-m", "256"])
            // No files of its own in /run.
            .args(["--no-telemetry", "--no-shconf"])
            .args(["--vdev", &manner.device(0, switch, "a")])
            .args(["--vdev", &manner.device(1, switch, "b")])
            .args(["--", "--interactive", "--total-num-mbufs=8192"])
            .args([&format!("--rxq={queues}"), &format!("--txq={queues}")])
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("scripts/test installs dpdk-testpmd");
        Self { child, output }
    }

    /// Sends it a line.
    fn tell(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().unwrap();
        writeln!(input, "{line}").unwrap();
    }

    /// Lets it forward. A front end is not told when its rings run, and frames for a port that is
    /// not there yet are dropped; so they are awaited.
    fn forward(&mut self, switch: &Switch, queues: u16, how: &str) {
        wait_at_most(Duration::from_secs(30), "all rings", || {
            assert_eq!(self.child.try_wait().unwrap(), None, "{}", self.said());
            let run = |port| {
                let shown = switch.shown(port);
                shown["rings_running"] == 2 * queues && shown["rings_enabled"] == 2 * queues
            };
            (run("a") && run("b")).then_some(())
        });
        self.tell(how);
    }

    /// Ends it, and returns what it said.
    fn finish(mut self) -> String {
        self.tell("stop");
        self.tell("quit");
        wait_for("testpmd's end", || self.child.try_wait().unwrap());
        self.said()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.output).unwrap()
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until both ports have taken frames in.
fn await_frames(switch: &Switch, testpmd: &mut Testpmd) {
    wait_at_most(Duration::from_secs(30), "so many frames", || {
        assert_eq!(testpmd.child.try_wait().unwrap(), None, "{}", testpmd.said());
        let counts = ["a", "b"].map(|port| switch.counter(port, "frames_in"));
        (counts.iter().min() >= Some(&FRAMES)).then_some(())
    });
}

/// The number behind a name, in the line of all ports together.
fn total_of(output: &str, name: &str) -> u64 {
    let (_, totals) = output.split_once("Accumulated forward statistics").expect("totals");
    let (_, number) = totals.split_once(name).expect(name);
    number.split_whitespace().next().unwrap().parse().unwrap()
}

/// Frames circulate: none gets lost, and the ring is as it was asked for.
fn circulate(manner: Manner) {
    let switch = switch_for(manner);
    let mut testpmd = Testpmd::start(&switch, manner);
    testpmd.forward(&switch, manner.queues, "start tx_first");
    await_frames(&switch, &mut testpmd);
    let (shown, features) = (switch.shown("a"), switch.features("a"));
    let output = testpmd.finish();

    assert!(features.contains(manner.features()), "{manner:?}: {shown}");
    assert_eq!(features.contains(Features::RING_PACKED), manner.is_packed, "{manner:?}: {shown}");
    // It serves the control queue itself, and may say that it has receive modes.
    let taken = Features(features.0 & Features::CONTROL.0);
    assert!(Features::NET_CTRL_RX.contains(taken), "{manner:?}: {shown}");
    assert_eq!(shown["rings_running"], 2 * manner.queues, "{manner:?}: {shown}");
    for port in ["a", "b"] {
        let counted = switch.statistics(port);
        assert_eq!(
            (&counted["faults"], &counted["drops_out"]),
            (&0.into(), &0.into()),
            "{counted}"
        );
    }
    let (received, sent) = (total_of(&output, "RX-packets:"), total_of(&output, "TX-packets:"));
    // What testpmd threw in lies in the rings when it stops; 32 frames a queue of either port.
    assert_eq!(sent - received, 64 * u64::from(manner.queues), "{manner:?}: {output}");
    assert_eq!(total_of(&output, "TX-dropped:"), 0, "{manner:?}: {output}");
}

#[test]
fn frames_circulate_over_split_rings() {
    circulate(PLAIN);
    circulate(Manner { merges: false, ..PLAIN });
    circulate(Manner { is_in_order: true, ..PLAIN });
    circulate(Manner { is_in_order: true, merges: false, is_vectorized: true, ..PLAIN });
}

#[test]
fn frames_circulate_over_packed_rings() {
    let packed = Manner { is_packed: true, ..PLAIN };
    circulate(packed);
    circulate(Manner { queue_size: 200, merges: false, ..packed });
    circulate(Manner { is_in_order: true, ..packed });
    circulate(Manner { is_in_order: true, merges: false, is_vectorized: true, ..packed });
}

#[test]
fn frames_circulate_over_several_queues_and_sockets_that_listen() {
    circulate(Manner { queues: 4, ..PLAIN });
    circulate(Manner { queues: 3, is_packed: true, is_in_order: true, ..PLAIN });
    circulate(Manner { listens: true, ..PLAIN });
}

/// virtio-user begins its rings anew when a back end connects again, packed ones as well. Whether one
/// has, it finds out when it is asked for its link.
#[test]
fn front_end_carries_on_after_the_switch_was_killed() {
    for is_packed in [false, true] {
        let manner = Manner { is_packed, listens: true, ..PLAIN };
        let mut switch = switch_for(manner);
        let mut testpmd = Testpmd::start(&switch, manner);
        testpmd.tell("set fwd flowgen");
        testpmd.forward(&switch, 1, "start");
        await_frames(&switch, &mut testpmd);

        switch.kill_and_start();
        wait_for("the ports", || {
            testpmd.tell("show port info all");
            std::thread::sleep(Duration::from_millis(200));
            (switch.is_up("a") && switch.is_up("b")).then_some(())
        });

        await_frames(&switch, &mut testpmd);
        assert_eq!(["a", "b"].map(|port| switch.counter(port, "faults")), [0, 0]);
        assert!(testpmd.finish().contains("Accumulated"));
    }
}
