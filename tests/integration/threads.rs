//! Poll threads as the kernel and the control socket show them: where they run and whether they
//! sleep.

use std::fs;
use std::time::Duration;

use serde_json::Value;

use crate::support::front_end::FrontEnd;
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BROADCAST, frame, wait_for};

/// Name of each thread of the switch and another line of its status, by name: proc(5).
fn threads_with(switch: &Switch, key: &str) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", switch.process())).unwrap();
    let statuses = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("status")));
    let mut threads: Vec<_> = statuses
        .map(|status| {
            let status = status.unwrap();
            let value = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                line.trim().to_owned()
            };
            (value("Name:"), value(key))
        })
        .collect();
    threads.sort();
    threads
}

/// Name and allowed cores of each thread of the switch, by name.
fn threads(switch: &Switch) -> Vec<(String, String)> {
    threads_with(switch, "Cpus_allowed_list:")
}

/// How often a thread of the switch has gone to sleep, as the kernel counts.
fn sleeps(switch: &Switch, name: &str) -> u64 {
    let threads = threads_with(switch, "voluntary_ctxt_switches:");
    threads.iter().find(|thread| thread.0 == name).unwrap().1.parse().unwrap()
}

/// A counter of the first poll thread.
fn counter(switch: &Switch, name: &str) -> u64 {
    let threads: Value = serde_json::from_str(&switch.run(&["threads", "--json"])).unwrap();
    threads["threads"][0][name].as_u64().unwrap()
}

/// The switch's `RLIMIT_NOFILE`, soft and hard.
fn descriptor_limits(switch: &Switch) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", switch.process())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut values = line.split_whitespace().map(str::to_owned);
    (values.next().unwrap(), values.next().unwrap())
}

fn assert_forwards(switch: &Switch) {
    let mut alice = FrontEnd::plug_in(&switch.path("alice.sock"));
    let mut bob = FrontEnd::plug_in(&switch.path("bob.sock"));
    alice.send(&frame(BROADCAST, ALICE, &[1; 46]));
    assert_eq!(bob.receive(), frame(BROADCAST, ALICE, &[1; 46]));
}

#[test]
fn poll_threads_run_on_the_cores_that_are_configured_and_the_others_anywhere() {
    let switch = Switch::with_config("[threads]\ncores = [0, 1]\n");

    let threads = threads(&switch);

    let (polling, others): (Vec<_>, Vec<_>) =
        threads.into_iter().partition(|(name, _)| name.starts_with("poll-"));
    let pinned = [("poll-0", "0"), ("poll-1", "1")];
    assert_eq!(polling, pinned.map(|(name, core)| (name.to_owned(), core.to_owned())));
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert!(
        others.iter().all(|(_, cores)| own.contains(&format!("Cpus_allowed_list:\t{cores}\n")))
    );
}

#[test]
fn poll_thread_runs_on_the_last_core_by_default() {
    let switch = Switch::start();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let list = own.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
    let last = list.trim().rsplit(['-', ',']).next().unwrap();

    let threads = threads(&switch);

    assert!(threads.contains(&(format!("poll-{last}"), last.to_owned())), "{threads:?}");
}

#[test]
fn idle_thread_sleeps() {
    let switch = Switch::with_config(&guests(&["alice", "bob"]));
    assert_forwards(&switch);

    wait_for("sleep", || {
        let before = (counter(&switch, "sleeps"), counter(&switch, "turns"));
        std::thread::sleep(Duration::from_millis(50));
        let after = (counter(&switch, "sleeps"), counter(&switch, "turns"));
        (before.0 > 0 && after == before).then_some(())
    });
}

#[test]
fn idle_poll_thread_sleeps_in_naps_and_the_io_thread_in_one_piece() {
    let switch = Switch::with_config(&format!("[threads]\ncores = [1]\n{}", guests(&["alice"])));
    let both = || ["poll-1", "io"].map(|name| sleeps(&switch, name));
    let before = both();

    wait_for("naps", || (both()[0] >= before[0] + 50).then_some(()));

    assert!(both()[1] < before[1] + 10, "{before:?} {:?}", both());
}

#[test]
fn thread_that_is_to_poll_always_never_sleeps() {
    let ports = guests(&["alice", "bob"]);
    let switch = Switch::with_config(&format!("[threads]\npoll = \"always\"\n{ports}"));
    assert_forwards(&switch);

    let before = counter(&switch, "turns");
    wait_for("turns", || (counter(&switch, "turns") > before + 100_000).then_some(()));

    assert_eq!(counter(&switch, "sleeps"), 0);
}

#[test]
fn switch_may_have_as_many_descriptors_as_its_hard_limit_says() {
    let switch = Switch::under(&["prlimit", "--nofile=512:2048"], "");

    assert_eq!(descriptor_limits(&switch), ("2048".to_owned(), "2048".to_owned()));
}
