//! What README.md and `config/` show people is what the binary takes.

use std::fmt::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};

use crate::support::PATIENCE;
use crate::support::switch::{Switch, ringway};
use crate::support::wire::{OUTSIDE, Wire};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The lines of README's code blocks in this language.
fn shown(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let begin = format!("```{language}\n");
    let blocks = text.split(&begin).skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines.map(str::to_owned).collect()
}

fn check(file: &Path) -> (Option<i32>, String) {
    let output = ringway(&["check", file.to_str().unwrap()]);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn configurations_that_are_shown_pass_the_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("readme.toml");
    // Not every machine has libvirt's account.
    let text = shown("toml").join("\n").replace("libvirt-qemu", "root");
    assert!(text.contains("[[port]]"), "README.md shows no configuration");

    std::fs::write(&file, text).unwrap();

    assert_eq!(check(&file), (Some(0), String::new()));
    let (status, errors) = check(&root().join("config/ringway.toml"));
    assert_eq!(status, Some(0), "{errors}");
}

#[test]
fn commands_that_are_shown_are_commands() {
    let mut wrong = String::new();
    let lines = shown("sh");
    let commands = lines.iter().filter(|line| line.starts_with("ringway ") && !line.contains('&'));
    let mut seen = 0;

    for line in commands {
        let words: Vec<&str> = line.split('#').next().unwrap().split_whitespace().skip(1).collect();
        let output = ringway(&[&["--control", "/nonexistent/control.sock"], &words[..]].concat());
        // 2 is wrong usage; 1, no daemon there.
        if output.status.code() != Some(1) {
            writeln!(wrong, "{line}: {output:?}").unwrap();
        }
        seen += 1;
    }

    assert_eq!(wrong, "");
    assert!(seen >= 3, "README.md shows {seen} commands");
}

#[test]
fn scripts_that_are_shown_are_there() {
    let lines = shown("sh");
    let scripts = lines.iter().filter(|line| line.starts_with("scripts/"));
    let names: Vec<&str> = scripts.filter_map(|line| line.split(' ').next()).collect();

    assert!(names.contains(&"scripts/demo") && names.contains(&"scripts/test"), "{names:?}");
    for name in names {
        assert!(root().join(name).is_file(), "{name}");
    }
}

#[test]
fn nat_that_is_shown_lets_guests_out_behind_the_hosts_address() {
    // A host with a way out, and a station in the place of a guest.
    let (host, world, guest) = (Wire::new(), Wire::empty(), Wire::empty());
    let world_address: SocketAddr = "192.0.2.2:7000".parse().unwrap();
    host.ip(&["link", "set", OUTSIDE, "netns", &world.namespace]);
    world.ip(&["address", "add", "192.0.2.2/24", "dev", OUTSIDE]);
    world.set_up(OUTSIDE);
    host.ip(&["address", "add", "192.0.2.1/24", "dev", "uplink"]);
    let vm1 = "[[port]]\nname='vm1'\ntype='tap'\ninterface='vm1'\nvlan={access=100}\n";
    let switch = Switch::in_namespace(Some(&host.namespace), vm1);
    host.ip(&["link", "set", "vm1", "netns", &guest.namespace]);
    guest.ip(&["address", "add", "10.0.0.2/24", "dev", "vm1"]);
    guest.set_up("vm1");
    guest.ip(&["route", "add", "default", "via", "10.0.0.1"]);
    let lines = shown("sh");
    let start = lines.iter().position(|line| line.contains(" tap --interface ")).unwrap();

    let add: Vec<&str> = lines[start].split('#').next().unwrap().split_whitespace().collect();
    switch.run(&add[1..]);
    for line in &lines[start + 1..start + 6] {
        let output = host.command("sh").args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    let listener = world.within(move || TcpListener::bind(world_address).unwrap());
    let connect = move || TcpStream::connect_timeout(&world_address, PATIENCE).unwrap();
    let _stream = guest.within(connect);
    assert_eq!(listener.accept().unwrap().1.ip().to_string(), "192.0.2.1");
}

#[test]
fn service_may_save_its_configuration_and_is_started_again_for_ever() {
    let unit = std::fs::read_to_string(root().join("config/ringway.service")).unwrap();
    let has = |wanted: &str| unit.lines().any(|line| line == wanted);
    let (before_service, _) = unit.split_once("[Service]").unwrap();

    // /etc is read-only with it, but for what is named.
    assert!(has("ProtectSystem=full") && has("ReadWritePaths=-/etc/ringway"));
    // In another section systemd ignores it.
    assert!(before_service.contains("\nStartLimitIntervalSec=0\n"));
}
