//! Listening and connecting by path, on a real file system.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vhost_user::{Connector, Listener, Ownership, SocketError};

use crate::support::PATIENCE;

fn directory() -> TempDir {
    tempfile::tempdir().expect("temporary directory")
}

fn bind(path: &Path) -> Result<Listener, SocketError> {
    Listener::bind(path, &Ownership::default())
}

/// Names in a directory, to see what is left behind.
fn names(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("directory");
    entries.map(|entry| PathBuf::from(entry.expect("entry").file_name())).collect()
}

/// A path of exactly `length` bytes.
fn long_path(directory: &Path, length: usize) -> PathBuf {
    let fill = length - directory.as_os_str().len() - 1;
    directory.join("x".repeat(fill))
}

#[test]
fn connector_and_listener_meet() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let listener = bind(&path).expect("bound");
    let mut connector = Connector::new(&path).expect("a path");
    assert!(listener.accept().expect("nobody yet").is_none());

    let mut front = connector.try_connect(Instant::now()).expect("connected");
    let mut back = listener.accept().expect("accepts").expect("somebody");
    back.set_read_timeout(Some(PATIENCE)).expect("timeout");
    front.write_all(b"ring").expect("sent");
    let mut bytes = [0; 4];
    back.read_exact(&mut bytes).expect("received");

    assert_eq!(&bytes, b"ring");
    assert!(listener.accept().expect("nobody else").is_none());
    assert_eq!(names(directory.path()), [PathBuf::from("vm1.sock")]);
}

#[test]
fn mode_and_numeric_owner_are_on_the_file() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let own = fs::metadata(directory.path()).expect("metadata");
    let ownership = Ownership {
        owner: Some(own.uid().to_string()),
        group: Some(own.gid().to_string()),
        mode: Some(0o620),
    };

    let _listener = Listener::bind(&path, &ownership).expect("bound");

    let made = fs::metadata(&path).expect("metadata");
    assert_eq!(made.mode() & 0o7777, 0o620);
    assert_eq!((made.uid(), made.gid()), (own.uid(), own.gid()));
}

#[test]
fn names_of_accounts_are_looked_up() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let root =
        Ownership { owner: Some("root".to_owned()), group: Some("root".to_owned()), mode: None };

    let bound = Listener::bind(&path, &root);

    // Only root may give files to root; anybody else is told so, and nothing is left.
    match bound {
        Ok(_listener) => assert_eq!(fs::metadata(&path).expect("metadata").uid(), 0),
        Err(error) => {
            assert!(error.to_string().contains("change owner or group"), "{error}");
            assert_eq!(names(directory.path()), [] as [PathBuf; 0]);
        }
    }
}

#[test]
fn unknown_accounts_and_odd_modes_are_refused_before_anything_is_made() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let owner = Ownership { owner: Some("nobody-of-that-name".to_owned()), ..Ownership::default() };
    let group =
        Ownership { group: Some("no-group-of-that-name".to_owned()), ..Ownership::default() };
    let mode = Ownership { mode: Some(0o1777), ..Ownership::default() };

    let owner = Listener::bind(&path, &owner).expect_err("refused");
    let group = Listener::bind(&path, &group).expect_err("refused");
    let mode = Listener::bind(&path, &mode).expect_err("refused");

    assert!(matches!(owner, SocketError::UnknownOwner { .. }));
    assert!(matches!(group, SocketError::UnknownGroup { .. }));
    assert!(matches!(mode, SocketError::InvalidMode { mode: 0o1777 }));
    assert_eq!(names(directory.path()), [] as [PathBuf; 0]);
}

#[test]
fn what_is_in_the_way_is_named_and_left_alone() {
    let directory = directory();
    let file = directory.path().join("file");
    let link = directory.path().join("link");
    File::create(&file).expect("file");
    symlink(directory.path().join("nowhere"), &link).expect("link");

    let on_directory = bind(directory.path()).expect_err("refused");
    let on_file = bind(&file).expect_err("refused");
    let on_link = bind(&link).expect_err("refused");
    let missing = bind(&directory.path().join("missing/vm1.sock")).expect_err("refused");
    let under_file = bind(&file.join("vm1.sock")).expect_err("refused");

    assert!(matches!(on_directory, SocketError::IsDirectory { .. }));
    assert!(matches!(on_file, SocketError::NotASocket { .. }));
    assert!(matches!(on_link, SocketError::NotASocket { .. }));
    assert!(matches!(missing, SocketError::ParentMissing { .. }));
    assert!(matches!(under_file, SocketError::Call { .. }));
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn connector_refuses_what_is_no_socket_and_takes_what_is_missing() {
    let directory = directory();
    let file = directory.path().join("file");
    let link = directory.path().join("link");
    File::create(&file).expect("file");
    symlink(directory.path().join("nowhere"), &link).expect("link");

    let on_directory = Connector::new(directory.path()).expect_err("refused");
    let on_file = Connector::new(&file).expect_err("refused");

    assert!(matches!(on_directory, SocketError::IsDirectory { .. }));
    assert!(matches!(on_file, SocketError::NotASocket { .. }));
    // A front end may yet make both.
    assert!(Connector::new(&link).is_ok());
    assert!(Connector::new(&directory.path().join("missing/vm1.sock")).is_ok());
}

#[test]
fn check_finds_what_bind_would_without_a_trace() {
    let directory = directory();
    let file = directory.path().join("file");
    let live = directory.path().join("live.sock");
    File::create(&file).expect("file");
    let listener = bind(&live).expect("bound");
    let check = |path: &Path| Listener::check(path, &Ownership::default());
    let owner = Ownership { owner: Some("nobody-of-that-name".to_owned()), ..Ownership::default() };

    let unknown = Listener::check(&live, &owner).expect_err("refused");

    assert!(matches!(unknown, SocketError::UnknownOwner { .. }));
    assert!(matches!(check(directory.path()), Err(SocketError::IsDirectory { .. })));
    assert!(matches!(check(&file), Err(SocketError::NotASocket { .. })));
    assert!(matches!(
        check(&long_path(directory.path(), 108)),
        Err(SocketError::PathLength { .. })
    ));
    assert!(check(&live).is_ok() && check(&directory.path().join("missing/vm1.sock")).is_ok());
    // Nobody has knocked.
    assert!(listener.accept().expect("accepts").is_none());
    assert_eq!(names(directory.path()).len(), 2);
}

#[test]
fn path_of_107_bytes_is_the_longest() {
    let directory = directory();
    let fits = long_path(directory.path(), 107);
    let too_long = long_path(directory.path(), 108);

    let listener = bind(&fits).expect("bound");
    let refused = bind(&too_long).expect_err("refused");
    let connector = Connector::new(&too_long).expect_err("refused");
    let mut reaching = Connector::new(&fits).expect("a path");

    assert!(reaching.try_connect(Instant::now()).is_some());
    assert!(listener.accept().expect("accepts").is_some());
    assert!(matches!(refused, SocketError::PathLength { length_bytes: 108, .. }));
    assert!(matches!(connector, SocketError::PathLength { .. }));
    assert_eq!(names(directory.path()).len(), 1);
}

#[test]
fn paths_that_name_no_file_are_refused() {
    let empty = bind(Path::new("")).expect_err("refused");
    let zero = bind(Path::new("/tmp/a\0b")).expect_err("refused");
    let root = bind(Path::new("/")).expect_err("refused");

    assert!(matches!(empty, SocketError::PathLength { .. }));
    assert!(matches!(zero, SocketError::PathInvalid { .. }));
    assert!(matches!(root, SocketError::IsDirectory { .. }));
}

#[test]
fn live_socket_is_refused_and_goes_on() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let datagram = directory.path().join("datagram.sock");
    let first = bind(&path).expect("bound");
    let _datagram = UnixDatagram::bind(&datagram).expect("bound");

    let second = bind(&path).expect_err("refused");
    let other_kind = bind(&datagram).expect_err("refused");

    assert!(matches!(second, SocketError::InUse { .. }));
    assert!(matches!(other_kind, SocketError::InUse { .. }));
    // The question itself arrives as a front end that hangs up at once.
    assert!(first.accept().expect("accepts").is_some());
}

#[test]
fn stale_socket_is_replaced() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists());

    let listener = bind(&path).expect("bound");
    let mut connector = Connector::new(&path).expect("a path");

    assert!(connector.try_connect(Instant::now()).is_some());
    assert!(listener.accept().expect("accepts").is_some());
}

#[test]
fn drop_removes_the_file_only_if_it_is_its_own() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let moved = directory.path().join("moved.sock");

    let listener = bind(&path).expect("bound");
    drop(listener);
    let removed = !path.exists();
    let listener = bind(&path).expect("bound");
    fs::rename(&path, &moved).expect("moved");
    let _other = UnixListener::bind(&path).expect("bound");
    drop(listener);

    assert!(removed);
    assert!(path.exists());
}

#[test]
fn replacing_a_stale_socket_never_leaves_a_gap() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    let watched = path.clone();
    let deadline = Instant::now() + PATIENCE;

    // Looks for the file until somebody answers there.
    let watcher = thread::spawn(move || {
        let mut connector = Connector::new(&watched).expect("a path");
        let mut now = Instant::now();
        let mut gaps = 0;
        while connector.try_connect(now).is_none() && Instant::now() < deadline {
            gaps += u32::from(!watched.exists());
            now += Duration::from_secs(2);
        }
        gaps
    });
    let _listener = bind(&path).expect("bound");

    assert_eq!(watcher.join().expect("no panic"), 0);
}

#[test]
fn connector_tries_at_once_then_ever_more_rarely_up_to_a_second() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let mut connector = Connector::new(&path).expect("a path");
    let start = Instant::now();
    let mut now = start;
    let mut attempts = Vec::new();

    for _ in 0..7 {
        attempts.push((now - start).as_millis());
        assert!(connector.try_connect(now).is_none());
        let due = connector.next_attempt().expect("later");
        assert!(connector.try_connect(due - Duration::from_millis(1)).is_none());
        assert_eq!(connector.next_attempt(), Some(due));
        now = due;
    }

    assert_eq!(attempts, [0, 100, 300, 700, 1_500, 2_500, 3_500]);
    let error = connector.last_error().expect("a reason").to_string();
    assert!(error.contains("vm1.sock"), "{error}");
}

#[test]
fn success_starts_the_schedule_afresh() {
    let directory = directory();
    let path = directory.path().join("vm1.sock");
    let mut connector = Connector::new(&path).expect("a path");
    let mut now = Instant::now();
    for _ in 0..6 {
        assert!(connector.try_connect(now).is_none());
        now = connector.next_attempt().expect("later");
    }
    let listener = bind(&path).expect("bound");

    let connected = connector.try_connect(now).is_some();
    drop(listener);
    let too_soon = connector.try_connect(now).is_none();
    let due = connector.next_attempt().expect("later");

    assert!(connected && too_soon);
    assert_eq!(due - now, Duration::from_millis(100));
    assert!(connector.last_error().is_none());
}
