//! What a wrong configuration is answered with.

use super::*;

const CORES: &[usize] = &[0, 1];

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("r.toml"), CORES).map_err(|error| error.to_string())
}

fn mistake(text: &str) -> String {
    parse(text).unwrap_err()
}

const TWO_PORTS: &str = "
[[port]]
name = 'vm1'
type = 'vhost-user'
socket = '/run/vm1.sock'

[[port]]
name = 'vm2'
type = 'vhost-user'
socket = '/run/vm2.sock'
";

#[test]
fn empty_file_is_a_configuration() {
    assert_eq!(parse(""), Ok(Config::default()));
}

#[test]
fn unknown_key_is_named_with_its_line() {
    let text = mistake("[control]\nsocket = '/c'\nsocketmode = 1\n");

    assert!(text.starts_with("r.toml:3: control.socketmode: unknown field"), "{text}");
}

#[test]
fn unknown_key_of_a_port_is_named_with_its_place() {
    let text = mistake(&format!("{TWO_PORTS}colour = 'red'\n"));

    assert!(text.starts_with("r.toml:11: port[2].colour: unknown field"), "{text}");
}

#[test]
fn text_that_is_no_toml_is_refused_with_its_line() {
    let text = mistake("[control]\nsocket = \n");

    assert!(text.starts_with("r.toml:2: "), "{text}");
    assert_eq!(text.lines().count(), 1);
}

#[test]
fn name_taken_twice_is_refused_at_the_second() {
    let text = mistake(&TWO_PORTS.replace("vm2'", "vm1'"));

    assert!(text.starts_with("r.toml:8: port[2].name: there is a port vm1 already"), "{text}");
}

#[test]
fn socket_or_interface_of_another_port_is_refused() {
    let text = mistake(&TWO_PORTS.replace("/vm2.sock", "/vm1.sock"));

    assert_eq!(text, "r.toml:10: port[2].socket: /run/vm1.sock is used by port vm1 already");
}

#[test]
fn one_path_written_in_two_ways_is_one_path() {
    let text = mistake(&TWO_PORTS.replace("/run/vm2.sock", "/run/.//vm1.sock"));

    assert_eq!(text, "r.toml:10: port[2].socket: /run/vm1.sock is used by port vm1 already");
}

#[test]
fn socket_of_a_port_is_not_the_control_socket() {
    let text = mistake(&format!("[control]\nsocket = '/run/vm1.sock'\n{TWO_PORTS}"));

    assert_eq!(
        text,
        "r.toml:7: port[1].socket: /run/vm1.sock is used by the control socket already"
    );
}

#[test]
fn more_ports_than_a_switch_has_are_refused() {
    let port = |number| {
        format!(
            "[[port]]\nname = 'p{number}'\ntype = 'vhost-user'\nsocket = '/run/{number}.sock'\n"
        )
    };
    let ports = |count| (0..count).map(port).collect::<String>();

    assert!(parse(&ports(1_024)).is_ok());
    assert!(mistake(&ports(1_025)).contains("port[1025]: a switch has at most 1024 ports"));
}

#[test]
fn vlan_out_of_range_is_refused_with_its_line() {
    let text = mistake(&format!("{TWO_PORTS}vlan = {{ access = 4095 }}\n"));

    assert_eq!(text, "r.toml:11: port[2].vlan.access: VLAN 4095 is outside 1 to 4094");
}

#[test]
fn vlan_settings_that_contradict_each_other_are_refused_with_their_line() {
    let text = mistake(&format!("{TWO_PORTS}vlan = {{ access = 1, trunk = [2] }}\n"));

    assert!(text.starts_with("r.toml:11: port[2].vlan.trunk: a port is access or trunk"), "{text}");
}

#[test]
fn core_that_the_machine_lacks_is_refused_with_its_line() {
    let text = mistake("[threads]\npoll = 'always'\ncores = [0, 64]\n");

    assert!(text.starts_with("r.toml:3: threads.cores: core 64 does not exist"), "{text}");
}

#[test]
fn port_of_no_type_is_refused() {
    let text = mistake("[[port]]\nname = 'a'\n");

    assert!(text.starts_with("r.toml:1: port[1]: missing field `type`"), "{text}");
}

#[test]
fn table_that_would_hold_nothing_or_too_much_is_refused() {
    assert!(mistake("[bridge]\naddresses = 0\n").starts_with("r.toml:2: bridge.addresses: "));
    assert!(mistake("[bridge]\nageing_seconds = 2000000\n").contains("bridge.ageing_seconds: "));
    assert!(mistake("[bridge]\naddresses = 99999999\n").contains("bridge.addresses: "));
}

#[test]
fn static_entry_names_a_station_and_a_port() {
    let entry =
        |mac, port| format!("{TWO_PORTS}[[fdb]]\nmac = '{mac}'\nvlan = 1\nport = '{port}'\n");

    assert!(parse(&entry("52:54:00:00:00:01", "vm1")).is_ok());
    assert!(mistake(&entry("52:54:00:00:00:01", "vm9")).starts_with("r.toml:14: fdb[1].port: "));
    assert!(mistake(&entry("01:54:00:00:00:01", "vm1")).starts_with("r.toml:12: fdb[1].mac: "));
}

#[test]
fn static_entry_lies_in_a_vlan_of_its_port() {
    let entry = |vlan| format!("[[fdb]]\nmac = '52:54:00:00:00:01'\nvlan = {vlan}\nport = 'vm2'\n");
    let trunk = format!("{TWO_PORTS}vlan = {{ trunk = [100], native = 5 }}\n");

    assert!(parse(&format!("{trunk}{}", entry(100))).is_ok());
    assert!(parse(&format!("{trunk}{}", entry(5))).is_ok());
    assert_eq!(
        mistake(&format!("{trunk}{}", entry(1))),
        "r.toml:14: fdb[1].vlan: port vm2 is not in VLAN 1"
    );
}

#[test]
fn station_lies_behind_one_port_in_a_vlan() {
    let entry = |port| format!("[[fdb]]\nmac = '52:54:00:00:00:01'\nvlan = 1\nport = '{port}'\n");

    let twice = format!("{TWO_PORTS}{}{}", entry("vm1"), entry("vm1"));
    let elsewhere = format!("{TWO_PORTS}{}{}", entry("vm1"), entry("vm2"));

    assert!(parse(&twice).is_ok());
    assert!(mistake(&elsewhere).starts_with("r.toml:16: fdb[2].mac: there is an entry"));
}

#[test]
fn what_is_saved_reads_back_the_same() {
    let text = format!(
        "[threads]\ncores = [1]\n{TWO_PORTS}mode = '0660'\nvlan = {{ trunk = [100, '200-299'], native = 1 }}\n\
         [[fdb]]\nmac = '52:54:00:00:00:01'\nvlan = 1\nport = 'vm1'\n"
    );
    let config = parse(&text).unwrap();

    let again = parse(&config.to_toml().unwrap());

    assert_eq!(again, Ok(config));
}

#[test]
fn file_is_replaced_whole_and_nothing_is_left_beside_it() {
    let directory = std::env::temp_dir().join(format!("ringway-config-{}", std::process::id()));
    fs::create_dir(&directory).unwrap();
    let file = directory.join("ringway.toml");
    fs::write(&file, "# old").unwrap();

    let config = parse(TWO_PORTS).unwrap();
    config.save(&file).unwrap();

    assert_eq!(Config::load(&file).unwrap(), config);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn shipped_configuration_is_valid() {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/config/ringway.toml"));
    let text = fs::read_to_string(file).unwrap();

    let every_core: Vec<usize> = (0..64).collect();

    assert!(Config::parse(&text, file, &every_core).is_ok());
}
