//! `ringway check` refuses what `ringway run` would, without doing anything.

use std::path::Path;

use crate::support::switch::ringway;

const PORT: &str = "[[port]]\nname = 'vm1'\ntype = 'vhost-user'\nsocket = 'DIR/vm1.sock'\n";

/// Checks a configuration; `DIR` in it is `directory`. Returns status and standard error.
fn check(directory: &Path, text: &str) -> (Option<i32>, String) {
    let file = directory.join("ringway.toml");
    std::fs::write(&file, text.replace("DIR", directory.to_str().unwrap())).unwrap();
    let output = ringway(&["check", file.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn what_run_refuses_is_refused_with_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let long = "x".repeat(120);
    let socket = |path: &str| PORT.replace("DIR/vm1.sock", path);
    let control = "[control]\nsocket = 'DIR/c.sock'\n";
    let entry = "[[fdb]]\nmac = '52:54:00:00:00:0a'\nvlan = 100\nport = 'vm1'\n";
    std::fs::write(directory.path().join("file"), "").unwrap();
    let wrong = [
        (socket(&format!("/{long}")), ":4: port[1].socket: ", "107"),
        (socket("DIR"), ":4: port[1].socket: ", "directory"),
        (socket("DIR/file"), ":4: port[1].socket: ", "no socket"),
        (format!("{}connect = true\n", socket("DIR")), ":4: port[1].socket: ", "directory"),
        (format!("{control}{}", socket("DIR/./c.sock")), ":6: port[1].socket: ", "control"),
        (format!("[control]\nsocket = '/{long}'\n"), ":2: control.socket: ", "107"),
        ("[control]\nsocket = 'DIR'\n".to_owned(), ":2: control.socket: ", "directory"),
        (format!("{PORT}owner = 'no-such-user'\n"), ":5: port[1].owner: ", "no-such-user"),
        (format!("{PORT}group = 'no-such-group'\n"), ":5: port[1].group: ", "no-such-group"),
        (format!("{PORT}{entry}"), ":7: fdb[1].vlan: ", "VLAN 100"),
    ];

    for (text, place, cause) in wrong {
        let (status, errors) = check(directory.path(), &text);
        assert_eq!(status, Some(1), "{text}");
        assert!(errors.contains(&format!("ringway.toml{place}")), "{text}{errors}");
        assert!(errors.contains(cause) && errors.lines().count() == 1, "{text}{errors}");
    }
}

#[test]
fn check_makes_nothing_and_takes_paths_that_are_not_there_yet() {
    let directory = tempfile::tempdir().unwrap();
    let text = PORT.replace("vm1.sock", "later/vm1.sock");

    let (status, errors) = check(directory.path(), &text);

    assert_eq!((status, errors.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[test]
fn metrics_are_warned_of_and_pass() {
    let directory = tempfile::tempdir().unwrap();

    let (status, errors) = check(directory.path(), "[metrics]\nlisten = '127.0.0.1:9477'\n");

    assert_eq!(status, Some(0), "{errors}");
    assert!(errors.contains("metrics on 127.0.0.1:9477: this version has none"), "{errors}");
}
