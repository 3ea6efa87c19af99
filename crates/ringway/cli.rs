//! The command line: what can be typed, with its help. What it does is in `commands`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::config::DEFAULT_SOCKET;
use crate::port_spec::{Mode, ZeroCopy};

/// A virtual switch in user space: vhost-user guests and AF_XDP uplinks.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// The daemon's control socket. With `run`, where to make it, instead of what the
    /// configuration says
    #[arg(long, global = true, value_name = "PATH", env = "RINGWAY_CONTROL")]
    pub(crate) control: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// The control socket of a command that talks to the daemon.
    pub(crate) fn socket(&self) -> PathBuf {
        self.control.clone().unwrap_or_else(|| DEFAULT_SOCKET.into())
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the switch in the foreground; logs go to standard error (RUST_LOG sets how much)
    Run {
        /// The configuration; without one the switch starts empty
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Take over from the switch that runs: ports, guests, interfaces and addresses are that
        /// one's, only threads and bridge are the configuration's. All notice a pause of
        /// milliseconds
        #[arg(long)]
        take_over: bool,
    },
    /// Parse a configuration, print what is wrong with line and key
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Add, change, remove and list ports
    #[command(subcommand)]
    Port(PortCommand),
    /// List and change the filtering database
    #[command(subcommand)]
    Fdb(FdbCommand),
    /// Show frames, bytes and drops by reason, per port and queue
    Stats {
        /// Only this port, with its queues
        name: Option<String>,
        /// Show again every so many seconds, with rates, until interrupted
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        watch: Option<f64>,
        #[command(flatten)]
        output: Output,
    },
    /// Show what each poll thread does, measured over half a second
    Threads {
        #[command(flatten)]
        output: Output,
    },
    /// Show or save the running configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the version
    Version {
        #[command(flatten)]
        output: Output,
    },
    /// Print completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, in roff
    Man,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortCommand {
    /// Add a port
    Add {
        /// Its name: 1 to 63 letters, digits, dots, dashes or underscores
        name: String,
        #[command(subcommand)]
        kind: PortKind,
    },
    /// Change a port while traffic flows
    Set {
        /// The port
        name: String,
        #[command(flatten)]
        bridge: BridgeOptions,
    },
    /// Remove a port
    Remove {
        /// The port
        name: String,
    },
    /// List the ports
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show all about a port
    Show {
        /// The port
        name: String,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum PortKind {
    /// A guest: QEMU, Cloud Hypervisor, DPDK
    VhostUser {
        /// Path of the socket
        #[arg(long, value_name = "PATH")]
        socket: PathBuf,
        /// Connect to the socket, again and again for ever, instead of listening on it
        #[arg(long)]
        connect: bool,
        /// Most queue pairs offered to the guest, 1 to 32
        #[arg(long, value_name = "N")]
        queues: Option<u16>,
        /// User that the socket belongs to, by name or number
        #[arg(long, value_name = "USER")]
        owner: Option<String>,
        /// Group that the socket belongs to, by name or number
        #[arg(long, value_name = "GROUP")]
        group: Option<String>,
        /// Permissions of the socket, in octal
        #[arg(long, value_name = "MODE")]
        mode: Option<Mode>,
        #[command(flatten)]
        bridge: BridgeOptions,
    },
    /// A network interface, through AF_XDP sockets
    AfXdp {
        /// Name of the interface
        #[arg(long, value_name = "IFACE")]
        interface: String,
        /// Whether the NIC reads and writes frames in place
        #[arg(long, value_name = "WHEN")]
        zero_copy: Option<ZeroCopy>,
        /// Take an interface that the host uses
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        bridge: BridgeOptions,
    },
    /// The host itself, through a tap that is made if it is missing
    Tap {
        /// Name of the interface
        #[arg(long, value_name = "IFACE")]
        interface: String,
        /// Its queues, 1 to 64 (default: 1)
        #[arg(long, value_name = "N")]
        queues: Option<u16>,
        #[command(flatten)]
        bridge: BridgeOptions,
    },
}

/// What may change while traffic flows. A number that no VLAN has is refused by the daemon, with
/// the port's name.
#[derive(Debug, Args)]
pub(crate) struct BridgeOptions {
    /// Untagged port in one VLAN (default: 1)
    #[arg(long, value_name = "VID", conflicts_with_all = ["trunk", "native"])]
    pub(crate) access: Option<i64>,
    /// Tagged member of these VLANs, like 100,200-299
    #[arg(long, value_name = "VID,VID-VID")]
    pub(crate) trunk: Option<String>,
    /// VLAN of untagged frames on a trunk
    #[arg(long, value_name = "VID", requires = "trunk")]
    pub(crate) native: Option<i64>,
    /// Most addresses learned behind the port (default: 1024 for a guest, no limit for an uplink)
    #[arg(long, value_name = "N")]
    pub(crate) addresses: Option<u32>,
    /// Longest packet, in bytes behind the Ethernet header, 68 to 9202 (default: 9202, or what the
    /// interface takes)
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<u32>,
    /// Whether checksums and segmentation are left to the other side (default: on). What a guest
    /// may leave to the switch changes for a QEMU that is started anew; others keep what they have
    #[arg(long, value_name = "WHETHER")]
    pub(crate) offloads: Option<Switched>,
}

/// Whether something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Switched {
    On,
    Off,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FdbCommand {
    /// List addresses and the ports they lie behind
    List {
        #[command(flatten)]
        filter: FdbFilter,
        #[command(flatten)]
        output: Output,
    },
    /// Add a static address, which neither moves nor ages
    Add {
        /// The station's address
        mac: String,
        /// Its VLAN
        #[arg(long, value_name = "VID")]
        vlan: i64,
        /// The port it lies behind
        #[arg(long, value_name = "NAME")]
        port: String,
    },
    /// Remove a static address
    Remove {
        /// The station's address
        mac: String,
        /// Its VLAN
        #[arg(long, value_name = "VID")]
        vlan: i64,
    },
    /// Forget learned addresses
    Flush {
        #[command(flatten)]
        filter: FdbFilter,
        /// Static addresses as well
        #[arg(long = "static")]
        with_static: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FdbFilter {
    /// Only those of this VLAN
    #[arg(long, value_name = "VID")]
    pub(crate) vlan: Option<i64>,
    /// Only those behind this port
    #[arg(long, value_name = "NAME")]
    pub(crate) port: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Print the running configuration as TOML
    Show {
        #[command(flatten)]
        output: Output,
    },
    /// Save the running configuration to the file the daemon was started with
    Save,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Output {
    /// Print JSON instead of columns
    #[arg(long)]
    pub(crate) json: bool,
}

/// Seconds between two listings.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "want a number of seconds".to_owned())?;
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("want 0.1 to 86400".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn access_and_trunk_together_are_wrong_usage() {
        let line = ["ringway", "port", "set", "a", "--access", "1", "--trunk", "2"];

        assert!(Cli::try_parse_from(line).is_err());
    }

    #[test]
    fn json_and_control_may_stand_behind_the_command() {
        let line = ["ringway", "port", "list", "--json", "--control", "/x"];

        let cli = Cli::try_parse_from(line).unwrap();

        assert_eq!(cli.socket(), PathBuf::from("/x"));
    }
}
