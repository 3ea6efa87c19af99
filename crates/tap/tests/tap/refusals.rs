//! What an operator is told when a tap cannot be opened: one line that names the interface and the
//! way out, for each reason.

use std::fs;
use std::thread;
use std::time::Duration;

use tap::{Tap, TapError};

use super::open;
use super::world::{become_nobody, in_namespace, ip, mount, shown};

fn refusal(name: &str, queues: usize) -> TapError {
    Tap::open(name, queues).unwrap_err()
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn who_may_not_make_a_tap_is_told_what_it_takes() {
    in_namespace(|| {
        become_nobody();

        assert_eq!(
            refusal("tap7", 1).to_string(),
            "not permitted to open tap tap7 (CAP_NET_ADMIN is needed, or a tap of one's own: \
             ip tuntap add dev tap7 mode tap multi_queue vnet_hdr user NAME)"
        );
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn tap_of_ones_own_is_opened_without_privilege() {
    in_namespace(|| {
        ip("tuntap add dev tap7 mode tap multi_queue vnet_hdr user nobody");
        become_nobody();

        let opened = Tap::open("tap7", 2);

        assert!(opened.is_ok(), "{opened:?}");
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn missing_driver_is_named() {
    in_namespace(|| {
        mount("none", "/dev/net", Some("tmpfs"), 0);

        let missing = refusal("tap7", 1);
        fs::write("/dev/net/tun", "").unwrap();
        let other = refusal("tap7", 1);

        assert_eq!(
            missing.to_string(),
            "cannot open tap tap7: there is no /dev/net/tun \
             (modprobe tun; a container needs the device passed in)"
        );
        assert_eq!(other.to_string(), "cannot attach to tap for tap7");
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn interface_of_another_kind_is_refused_and_left_alone() {
    in_namespace(|| {
        ip("link add veth7 type veth peer name veth8");
        ip("tuntap add dev tun7 mode tun");

        let expected = "veth7 is an interface already and not a tap \
                        (ip -details link show dev veth7 tells what it is; choose another name)";
        assert_eq!(refusal("veth7", 1).to_string(), expected);
        assert_eq!(refusal("lo", 2).to_string(), expected.replace("veth7", "lo"));
        assert_eq!(refusal("tun7", 1).to_string(), expected.replace("veth7", "tun7"));
        assert!(shown("veth7").contains("veth7@veth8"));
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn tap_that_another_has_is_refused() {
    in_namespace(|| {
        let expected = "tap tap7 is in use by another process \
                        (ip -details tuntap show dev tap7 names it; end it or choose another name)";
        let held = open("tap7");
        assert_eq!(refusal("tap7", 1).to_string(), expected);
        assert_eq!(refusal("tap7", 2).to_string(), expected);
        drop(held);

        ip("tuntap add dev tap8 mode tap");
        let _held = open("tap8");
        assert_eq!(refusal("tap8", 1).to_string(), expected.replace("tap7", "tap8"));
    });
}

#[test]
#[ignore = "needs CAP_NET_ADMIN"]
fn tap_that_its_last_owner_is_about_to_leave_is_waited_for() {
    in_namespace(|| {
        let held = open("tap7");
        let leaving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            drop(held);
        });

        let (tap, _queues) = Tap::open("tap7", 2).unwrap();

        leaving.join().unwrap();
        assert!(shown("tap7").contains("LOWER_UP"), "{}", shown("tap7"));
        assert!(!tap.is_persistent());
    });
}
