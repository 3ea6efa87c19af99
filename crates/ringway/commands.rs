//! What each command does: `run` and `check` here, all others by one request to the daemon.
//!
//! Exit status: 0 done, 1 refused or failed with one line on standard error, 2 wrong usage.

mod watch;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde_json::{Map, Value, json};

use crate::cli::{
    BridgeOptions, Cli, Command, ConfigCommand, FdbCommand, FdbFilter, PortCommand, PortKind,
    Switched,
};
use crate::client::Client;
use crate::config::Config;
use crate::daemon;
use crate::refusal::Refusal;
use crate::render;

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    // Wrong usage ends here, with status 2 and the usage on standard error.
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            // Nobody is left to be told if this fails.
            let _ = writeln!(io::stderr(), "ringway: {refusal}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<(), Refusal> {
    let socket = cli.socket();
    let client = || Client::connect(&socket);
    match cli.command {
        Command::Run { config, take_over } => {
            daemon::run(config, cli.control.as_deref(), take_over)
        }
        Command::Check { file } => check(&file),
        Command::Port(command) => port(command, &mut client()?),
        Command::Fdb(command) => fdb(command, &mut client()?),
        Command::Stats { name, watch: None, output } => {
            let result = client()?.call("stats.get", parameters([("name", json!(name))]))?;
            show(&result, output.json, |result| render::statistics(result, name.is_some()))
        }
        Command::Stats { name, watch: Some(seconds), output } => {
            watch::statistics(&mut client()?, name.as_deref(), seconds, output.json)
        }
        Command::Threads { output } => {
            let result = watch::threads(&mut client()?)?;
            show(&result, output.json, render::threads)
        }
        Command::Config(ConfigCommand::Show { output }) => {
            let result = client()?.call("config.show", json!({}))?;
            let toml = |result: &Value| result["toml"].as_str().unwrap_or_default().to_owned();
            let shown = if output.json { &result["configuration"] } else { &result };
            show(shown, output.json, toml)
        }
        Command::Config(ConfigCommand::Save) => {
            let result = client()?.call("config.save", json!({}))?;
            print(&format!("saved to {}\n", result["file"].as_str().unwrap_or_default()))
        }
        Command::Version { output } => {
            let version = json!({ "ringway": env!("CARGO_PKG_VERSION") });
            show(&version, output.json, |_| format!("ringway {}\n", env!("CARGO_PKG_VERSION")))
        }
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "ringway", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
        Command::Man => {
            let mut text = Vec::new();
            let man = clap_mangen::Man::new(Cli::command());
            man.render(&mut text).map_err(|error| Refusal::caused_by(&error))?;
            print(&String::from_utf8_lossy(&text))
        }
    }
}

fn check(file: &Path) -> Result<(), Refusal> {
    let config = Config::load(file).map_err(|error| Refusal::caused_by(&error))?;
    for warning in config.warnings() {
        // A warning that nobody can read is no reason to fail.
        let _ = writeln!(io::stderr(), "ringway: {}: {warning}", file.display());
    }
    let (ports, uplinks) = (config.ports.len(), config.uplinks().count());
    print(&format!("{}: fine, {ports} ports, {uplinks} of them uplinks\n", file.display()))
}

fn port(command: PortCommand, client: &mut Client) -> Result<(), Refusal> {
    match command {
        PortCommand::Add { name, kind } => {
            client.call("port.add", port_parameters(&name, kind)).map(drop)
        }
        PortCommand::Set { name, bridge } => {
            let mut all = bridge_parameters(bridge);
            all.push(("name", json!(name)));
            client.call("port.set", parameters(all)).map(drop)
        }
        PortCommand::Remove { name } => {
            client.call("port.remove", json!({ "name": name })).map(drop)
        }
        PortCommand::List { output } => {
            let result = client.call("port.list", json!({}))?;
            show(&result, output.json, render::ports)
        }
        PortCommand::Show { name, output } => {
            let result = client.call("port.show", json!({ "name": name }))?;
            show(&result, output.json, render::port)
        }
    }
}

fn port_parameters(name: &str, kind: PortKind) -> Value {
    let is_set = |flag: bool| json!(flag.then_some(true));
    let mut all = vec![("name", json!(name))];
    match kind {
        PortKind::VhostUser { socket, connect, queues, owner, group, mode, bridge } => {
            // The daemon's working directory is another one.
            let socket = std::path::absolute(&socket).unwrap_or(socket);
            all.extend([
                ("type", json!("vhost-user")),
                ("socket", json!(socket)),
                ("connect", is_set(connect)),
                ("queues", json!(queues)),
                ("owner", json!(owner)),
                ("group", json!(group)),
                ("mode", json!(mode)),
            ]);
            all.extend(bridge_parameters(bridge));
        }
        PortKind::AfXdp { interface, zero_copy, force, bridge } => {
            all.extend([
                ("type", json!("af-xdp")),
                ("interface", json!(interface)),
                ("zero-copy", json!(zero_copy)),
                ("force", is_set(force)),
            ]);
            all.extend(bridge_parameters(bridge));
        }
        PortKind::Tap { interface, queues, bridge } => {
            all.extend([
                ("type", json!("tap")),
                ("interface", json!(interface)),
                ("queues", json!(queues)),
            ]);
            all.extend(bridge_parameters(bridge));
        }
    }
    parameters(all)
}

fn bridge_parameters(options: BridgeOptions) -> Vec<(&'static str, Value)> {
    vec![
        ("access", json!(options.access)),
        ("trunk", json!(options.trunk)),
        ("native", json!(options.native)),
        ("addresses", json!(options.addresses)),
        ("mtu", json!(options.mtu)),
        ("offloads", json!(options.offloads.map(|switched| switched == Switched::On))),
    ]
}

fn fdb(command: FdbCommand, client: &mut Client) -> Result<(), Refusal> {
    let filter = |only: FdbFilter| [("vlan", json!(only.vlan)), ("port", json!(only.port))];
    match command {
        FdbCommand::List { filter: only, output } => {
            let result = client.call("fdb.list", parameters(filter(only)))?;
            show(&result, output.json, render::addresses)
        }
        FdbCommand::Add { mac, vlan, port } => {
            client.call("fdb.add", json!({ "mac": mac, "vlan": vlan, "port": port })).map(drop)
        }
        FdbCommand::Remove { mac, vlan } => {
            client.call("fdb.remove", json!({ "mac": mac, "vlan": vlan })).map(drop)
        }
        FdbCommand::Flush { filter: only, with_static } => {
            let with_static = ("static", json!(with_static.then_some(true)));
            let all = filter(only).into_iter().chain([with_static]);
            let result = client.call("fdb.flush", parameters(all))?;
            print(&format!("{} addresses forgotten\n", result["removed"]))
        }
    }
}

/// The options that were given, as parameters.
fn parameters(all: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let given = all.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

/// Prints a result as it is, or as people read it.
fn show(result: &Value, as_json: bool, text: impl Fn(&Value) -> String) -> Result<(), Refusal> {
    if as_json { print(&format!("{result:#}\n")) } else { print(&text(result)) }
}

/// Prints to standard output. A reader that has gone (`| head`) is no error.
fn print(text: &str) -> Result<(), Refusal> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Refusal::new(format!("cannot print: {error}"))),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_were_not_given_are_not_sent() {
        let line = ["ringway", "port", "add", "a", "af-xdp", "--interface", "e", "--trunk", "1,2"];
        let Command::Port(PortCommand::Add { name, kind }) = Cli::parse_from(line).command else {
            panic!("the line adds a port");
        };

        let sent = port_parameters(&name, kind);

        assert_eq!(sent, json!({"name": "a", "type": "af-xdp", "interface": "e", "trunk": "1,2"}));
    }
}
