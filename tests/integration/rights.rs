//! Who may connect: owner, group and mode of the ports' sockets, and the control socket. Tried by
//! processes that have given their rights up.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output, Stdio};

use crate::support::switch::Switch;
use crate::support::wait_for;

const PORTS: &str = r#"
[[port]]
name = "default"
type = "vhost-user"
socket = "DIR/default.sock"
[[port]]
name = "owner"
type = "vhost-user"
socket = "DIR/owner.sock"
owner = "nobody"
mode = "0600"
[[port]]
name = "group"
type = "vhost-user"
socket = "DIR/group.sock"
group = "nogroup"
mode = "0660"
[[port]]
name = "closed"
type = "vhost-user"
socket = "DIR/closed.sock"
owner = "nobody"
mode = "0400"
"#;

/// User and group without rights.
const NOBODY: [&str; 2] = ["--reuid=nobody", "--regid=nogroup"];

/// A user without rights in a group with some: the daemon's, which is root's here.
const MEMBER: [&str; 2] = ["--reuid=nobody", "--regid=root"];

/// A switch in whose directory others may look up sockets.
fn switch() -> Switch {
    let switch = Switch::with_config(PORTS);
    fs::set_permissions(switch.path(""), Permissions::from_mode(0o711)).unwrap();
    switch
}

/// Connects to a socket of the switch as somebody else, and returns what comes within a second.
fn connect_as(who: [&str; 2], switch: &Switch, socket: &str) -> Output {
    // By a relative name: those who gave their rights up may not go through the directories above.
    Command::new("setpriv")
        .args(who)
        .args(["--clear-groups", "socat", "-u", "-T1", &format!("UNIX-CONNECT:{socket}"), "STDOUT"])
        .current_dir(switch.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn may_connect(who: [&str; 2], switch: &Switch, socket: &str) -> bool {
    let output = connect_as(who, switch, socket);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || errors.contains("Permission denied"), "{errors}");
    output.status.success()
}

#[test]
fn port_takes_front_ends_of_its_owner_and_group_and_no_others() {
    let switch = switch();

    let may = ["default.sock", "owner.sock", "group.sock", "closed.sock"]
        .map(|socket| may_connect(NOBODY, &switch, socket));

    assert_eq!(may, [false, true, true, false]);
    for (port, sessions) in [("default", 0), ("owner", 1), ("group", 1), ("closed", 0)] {
        let shown = switch.shown(port);
        assert_eq!(shown["sessions"], sessions, "{shown}");
    }
}

#[test]
fn control_socket_is_for_its_owner_and_group() {
    let switch = switch();
    let mode = fs::metadata(switch.path("control.sock")).unwrap().mode();

    assert_eq!(mode & 0o777, 0o660);
    assert!(!may_connect(NOBODY, &switch, "control.sock"));
    let greeting = connect_as(MEMBER, &switch, "control.sock").stdout;
    assert!(String::from_utf8(greeting).unwrap().contains("\"protocol\":1"));
}

#[test]
fn client_without_rights_is_turned_away_even_if_the_file_lets_it_in() {
    let switch = switch();
    fs::set_permissions(switch.path("control.sock"), Permissions::from_mode(0o666)).unwrap();

    let greeting = connect_as(NOBODY, &switch, "control.sock");

    assert_eq!((greeting.status.code(), &greeting.stdout[..]), (Some(0), &b""[..]));
    assert_eq!(switch.log_lines("turned away user 65534"), 1, "{}", switch.log());
}

#[test]
fn switch_is_handed_over_to_nobody_but_root_and_its_own_user() {
    let switch = switch();
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"switch.hand_over","params":{"version":1}}"#;
    let script = format!("echo '{request}' | socat -t1 STDIO UNIX-CONNECT:control.sock");

    let output = Command::new("setpriv")
        .args(MEMBER)
        .args(["--clear-groups", "sh", "-c", &script])
        .current_dir(switch.path(""))
        .stdin(Stdio::null())
        .output()
        .unwrap();

    let answer = String::from_utf8_lossy(&output.stdout);
    assert!(answer.contains("only root and the user that the switch runs as"), "{output:?}");
    // Logged after it was answered.
    wait_for("the refusal in the log", || (switch.log_lines("not handed over") == 1).then_some(()));
    switch.run(&["port", "list"]);
}
