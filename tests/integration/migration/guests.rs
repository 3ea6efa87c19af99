//! QEMU guests that move from one switch to another while a host outside talks to them.
//!
//! ```text
//!                        ┌──────────┐            ┌──────────┐
//!   outside ──── uplink ─┤ switch A ├─ left ═ right ┤ switch B │      in one network namespace
//!                        └── vm ────┘            └─── vm ───┘
//!                            QEMU ── migration ──▶ QEMU
//! ```

use std::io::Read;
use std::process::{Child, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use virtio::Features;

use crate::support::guest::{Guest, Plan};
use crate::support::switch::{Switch, interface};
use crate::support::wire::{UPLINK, Wire};
use crate::support::{wait_at_most, wait_for};

const VM: &str = "[[port]]\nname = 'vm'\ntype = 'vhost-user'\nsocket = 'DIR/vm.sock'\nqueues = 2\n";

/// The guest's address, and that of the host outside.
const MAC: &str = "52:54:00:99:00:01";
const OUTSIDE: &str = "10.99.0.9/24";

/// How much longer the guest may be missed outside than QEMU stops it.
const ALLOWED_MS: f64 = 300.0;

/// How often a guest moves at most until it is missed no longer than that: a machine that is busy with
/// other things stops anybody for longer at times, and a switch that does not announce guests always.
const MOST_MOVES: usize = 4;

/// Two switches that are joined, the first of which has the outside world.
struct Site {
    wire: Wire,
    a: Switch,
    b: Switch,
    /// Queue pairs of the guest.
    queues: u16,
    migrations: u32,
}

impl Site {
    fn new() -> Self {
        Self::with_queues(1)
    }

    fn with_queues(queues: u16) -> Self {
        let wire = Wire::new();
        wire.ip(&["address", "add", OUTSIDE, "dev", "outside"]);
        wire.switch_off("outside", "tx");
        wire.ip(&["link", "add", "left", "type", "veth", "peer", "name", "right"]);
        ["left", "right"].iter().for_each(|end| wire.set_up(end));
        let a = [VM, &interface(UPLINK, UPLINK), &interface("left", "left")].concat();
        let b = [VM, &interface("right", "right")].concat();
        let [a, b] = [a, b].map(|config| Switch::in_namespace(Some(&wire.namespace), &config));
        Self { wire, a, b, queues, migrations: 0 }
    }

    /// Starts the guest at the first switch.
    fn boot(&self, options: &[&str]) -> Guest {
        let directory = self.a.path("");
        let more = [options, &MEMORY].concat();
        let mut guest = Guest::boot(plan(self.queues, &more), &self.a.path("vm.sock"), &directory);
        guest.await_booted();
        guest
    }

    /// A QEMU at a switch that a guest can migrate to, and where it waits for it.
    fn target(&mut self, to: &Which, options: &[&str]) -> (Guest, String) {
        self.migrations += 1;
        let switch = to.of(self);
        let (socket, directory) = (switch.path("vm.sock"), switch.path(""));
        let way = directory.join(format!("migration{}", self.migrations));
        let uri = format!("unix:{}", way.display());
        let more = [options, &MEMORY, &["--incoming", &uri]].concat();
        let target = Guest::boot(plan(self.queues, &more), &socket, &directory);
        wait_at_most(Duration::from_secs(20), "the target", || way.exists().then_some(()));
        (target, uri)
    }

    /// Moves the guest to a switch while the host outside pings it. Returns it there, and how many
    /// milliseconds longer it was not heard of outside than QEMU stopped it.
    fn migrate(&mut self, guest: Guest, to: &Which, options: &[&str]) -> (Guest, f64) {
        let (target, uri) = self.target(to, options);
        let switch = to.of(self);

        let pings = Pings::start(&self.wire);
        std::thread::sleep(Duration::from_secs(1));
        let _ = guest.qmp_with("migrate", &json!({ "uri": uri }));
        let outcome = wait_at_most(Duration::from_secs(60), "the end of migration", || {
            let state = guest.qmp("query-migrate");
            assert_ne!(state["status"], "failed", "{state}\n{}", switch.log());
            (state["status"] == "completed").then_some(state)
        });
        std::thread::sleep(Duration::from_secs(2));
        let unheard = pings.longest_gap_ms();
        let stopped = outcome["downtime"].as_f64().unwrap();
        eprintln!(
            "migration {}: guest stopped {stopped} ms, unheard {unheard} ms",
            self.migrations
        );
        (target, unheard - stopped)
    }

    /// Waits until a switch has learned the guest behind a port.
    fn await_learned(&self, switch: &Switch, port: &str) {
        let what = format!("the guest's address behind {port}");
        wait_at_most(Duration::from_secs(5), &what, || {
            let listed = switch.run(&["fdb", "list", "--json"]);
            let listed: Value = serde_json::from_str(&listed).unwrap();
            let entries = listed["entries"].as_array().cloned().unwrap_or_default();
            entries.iter().any(|entry| entry["mac"] == MAC && entry["port"] == port).then_some(())
        });
    }
}

/// Which of the two switches.
enum Which {
    A,
    B,
}

impl Which {
    fn of<'a>(&self, site: &'a Site) -> &'a Switch {
        match self {
            Self::A => &site.a,
            Self::B => &site.b,
        }
    }
}

/// QEMU before 9.0 without KVM loses writes of a guest that moves: what it has of dirty pages in whole
/// words it clears without having its processors note the next write. So the memory ends within such
/// a word of 64 pages, and QEMU goes page by page, which is right. With 256M, pages differed after 4
/// of 8 moves on a busy machine; with this, after none of 44.
const MEMORY: [&str; 2] = ["--memory", "262152K"];

const fn plan<'a>(queues: u16, more: &'a [&'a str]) -> Plan<'a> {
    Plan { name: "vm", number: 1, server: false, queues, namespace: None, more }
}

/// Pings of the guest from outside, a hundred a second.
struct Pings(Child);

impl Pings {
    fn start(wire: &Wire) -> Self {
        let mut ping = wire.command("ping");
        ping.args(["-D", "-i", "0.01", "-w", "100", &Guest::address(1)]);
        Self(ping.stdout(Stdio::piped()).spawn().unwrap())
    }

    /// Ends them and returns the longest time between two answers, or since the last one.
    fn longest_gap_ms(self) -> f64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let output = self.0.wait_with_output().unwrap();
        let output = String::from_utf8(output.stdout).unwrap();
        let answered = output.lines().filter(|line| line.contains("bytes from"));
        let mut times: Vec<f64> = answered
            .filter_map(|line| line.strip_prefix('[')?.split(']').next()?.parse().ok())
            .collect();
        assert!(times.len() > 100, "{output}");
        times.push(now);
        times.windows(2).map(|pair| (pair[1] - pair[0]) * 1_000.0).fold(0.0, f64::max)
    }
}

#[test]
fn guest_moves_to_another_switch_and_back_under_a_flow_both_ways() {
    let mut site = Site::new();
    let mut guest = site.boot(&[]);
    await_server(&mut guest);
    let ways = [(Which::B, ["left", "vm"]), (Which::A, ["vm", "right"])];
    let mut least_ms = f64::INFINITY;
    for (moves, (to, [at_a, at_b])) in ways.iter().cycle().take(MOST_MOVES).enumerate() {
        if moves >= ways.len() && least_ms < ALLOWED_MS {
            break;
        }
        let flow = begin_flow(&site, &["--time", "15"]);
        let (moved, missed_ms) = site.migrate(guest, to, &[]);
        (guest, least_ms) = (moved, least_ms.min(missed_ms));
        let flow = flow.report();
        site.await_learned(&site.a, at_a);
        site.await_learned(&site.b, at_b);

        assert_flowed(&site, &flow);
        assert_eq!([&site.a, &site.b].map(|switch| switch.counter("vm", "faults")), [0, 0]);
    }
    assert!(least_ms < ALLOWED_MS, "{least_ms} ms longer than QEMU stopped it");
}

/// Starts TCP streams both ways between the outside and the guest. A server of iperf3 listens anew
/// after each client, and resets one that comes meanwhile; that one ends at once, and the next is
/// sent.
fn begin_flow(site: &Site, options: &[&str]) -> Flow {
    wait_for("the guest's iperf3", || {
        let mut iperf = site.wire.command("iperf3");
        iperf.args(["--client", &Guest::address(1), "--bidir"]).args(options);
        iperf.args(["--interval", "0.1", "--json"]).stdout(Stdio::piped());
        let mut flow = iperf.spawn().unwrap();
        std::thread::sleep(Duration::from_secs(1));
        flow.try_wait().unwrap().is_none().then_some(Flow(flow))
    })
}

/// iperf3, which would never end without the network that it talks by.
struct Flow(Child);

impl Flow {
    /// Waits for its end and returns its report.
    fn report(mut self) -> Value {
        // Read first: the report is longer than a pipe holds.
        let mut report = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut report).unwrap();
        serde_json::from_str(&report).unwrap()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until the guest can be talked to.
fn await_server(guest: &mut Guest) {
    guest.run(20, "sh -c 'until netstat -ltn | grep -q :5201; do sleep 0.1; done'");
}

/// Much came both ways, and never nothing for long.
fn assert_flowed(site: &Site, flow: &Value) {
    assert!(flow["error"].is_null(), "{flow}");
    for way in ["sum_received", "sum_received_bidir_reverse"] {
        assert!(flow["end"][way]["bytes"].as_u64().unwrap() > 1_000_000, "{}", flow["end"]);
    }
    let silence_ms = longest_silence_ms(flow);
    eprintln!("flow: longest silence {silence_ms} ms");
    assert!(
        silence_ms < 5_000,
        "the flow stood still for {silence_ms} ms:\n{}\n{}",
        site.a.run(&["stats"]),
        site.b.run(&["stats"])
    );
}

/// How long nothing came either way, in steps of a tenth of a second.
fn longest_silence_ms(flow: &Value) -> usize {
    let is_silent = |interval: &Value| {
        ["sum", "sum_bidir_reverse"].iter().all(|way| interval[way]["bytes"].as_u64() == Some(0))
    };
    let intervals = flow["intervals"].as_array().unwrap();
    let silences = intervals.split(|interval| !is_silent(interval));
    100 * silences.map(<[Value]>::len).max().unwrap_or(0)
}

/// It has no way to announce itself, and sends nothing before it is sent something.
#[test]
fn silent_guest_with_packed_rings_is_announced_where_it_comes_to() {
    let mut site = Site::new();
    let options = ["--device", "guest_announce=off,packed=on"];
    let mut guest = site.boot(&options);

    let ways = [(Which::B, ["left", "vm"]), (Which::A, ["vm", "right"])];
    let mut least_ms = f64::INFINITY;
    for (to, [at_a, at_b]) in ways.iter().cycle().take(MOST_MOVES) {
        if least_ms < ALLOWED_MS {
            break;
        }
        let (moved, missed_ms) = site.migrate(guest, to, &options);
        (guest, least_ms) = (moved, least_ms.min(missed_ms));
        site.await_learned(&site.a, at_a);
        site.await_learned(&site.b, at_b);
    }

    assert!(least_ms < ALLOWED_MS, "{least_ms} ms longer than QEMU stopped it");
    guest.run(5, "ping -c 3 -i 0.2 -W 1 10.99.0.9");
    assert_eq!([&site.a, &site.b].map(|switch| switch.counter("vm", "faults")), [0, 0]);
}

/// Has a migration go on for long, or not.
fn set_bandwidth(guest: &Guest, bytes_a_second: u64) {
    guest.qmp_with("migrate-set-parameters", &json!({ "max-bandwidth": bytes_a_second }));
}

fn await_logging(switch: &Switch, is_logging: bool) {
    let what = format!("logging to be {is_logging}");
    wait_for(&what, || {
        (switch.features("vm").contains(Features::LOG_ALL) == is_logging).then_some(())
    });
}

/// Frames that have come from and gone to the guest by each queue pair.
fn frames_by_pair(switch: &Switch) -> Vec<u64> {
    let statistics = switch.statistics("vm");
    let queues = statistics["queues"].as_array().unwrap();
    let both = |queue: &Value| {
        queue["frames_in"].as_u64().unwrap() + queue["frames_out"].as_u64().unwrap()
    };
    queues.iter().map(both).collect()
}

/// Its migration is cancelled once, when its memory is logged, and then it migrates, all under streams
/// that both of its queue pairs carry.
#[test]
fn guest_with_two_queue_pairs_stays_when_its_migration_is_cancelled_and_moves_when_it_is_not() {
    let mut site = Site::with_queues(2);
    let mut guest = site.boot(&[]);
    await_server(&mut guest);
    assert!(site.a.features("vm").contains(Features::NET_MQ));
    guest.use_two_pairs();
    let flow = begin_flow(&site, &["--time", "20", "--parallel", "8"]);

    let (target, uri) = site.target(&Which::B, &[]);
    set_bandwidth(&guest, 1 << 20);
    guest.qmp_with("migrate", &json!({ "uri": uri }));
    await_logging(&site.a, true);
    std::thread::sleep(Duration::from_secs(1));
    guest.qmp("migrate_cancel");
    wait_for("the end of migration", || {
        (guest.qmp("query-migrate")["status"] == "cancelled").then_some(())
    });
    await_logging(&site.a, false);
    drop(target);
    let before = frames_by_pair(&site.a);
    std::thread::sleep(Duration::from_secs(2));
    let after = frames_by_pair(&site.a);
    set_bandwidth(&guest, 1 << 30);
    let (_moved, _) = site.migrate(guest, &Which::B, &[]);
    site.await_learned(&site.a, "left");
    site.await_learned(&site.b, "vm");
    let flow = flow.report();

    let grew = before.iter().zip(&after).all(|(before, after)| after > before);
    assert!(grew, "after the migration was cancelled: {before:?}, then {after:?}");
    assert_flowed(&site, &flow);
    let moved = frames_by_pair(&site.b);
    assert!(moved.len() == 2 && moved.iter().all(|&frames| frames > 100), "{moved:?}");
    assert_eq!([&site.a, &site.b].map(|switch| switch.counter("vm", "faults")), [0, 0]);
    for switch in [&site.a, &site.b] {
        assert_eq!(switch.log_lines("dirty log ends"), 0, "{}", switch.log());
    }
}
