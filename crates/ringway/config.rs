//! The configuration: what `ringway run -c FILE` reads, `ringway check` judges, `config show`
//! prints and `config save` writes.
//!
//! A mistake is an error that names file, line and key. Those of form are found by the parser; those
//! of sense (a name taken twice, a core the machine lacks) are found by `check`, by the path of their
//! key, and `place` finds the line. Unknown keys are mistakes.
//!
//! Saving writes a new file beside the old one and renames it, so that a crash or a full disk leaves
//! the old one whole. Comments are not kept: the file says what runs.

mod check;
mod place;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use datapath::PollMode;
use datapath::bridge::{DEFAULT_ADDRESSES, DEFAULT_AGEING};
use serde::{Deserialize, Serialize};

use crate::cores;
use crate::port_spec::{PortSpec, PortType};
use crate::vlan_spec::Vid;
use place::{Key, key_at, line_of, line_of_offset};

/// Where the control socket is unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ringway/control.sock";

/// The longest ageing time in seconds (802.1Q-2018, table 8-6).
const AGEING_MAX: u32 = 1_000_000;

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    pub(crate) socket: PathBuf,
}

impl Default for Control {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into() }
    }
}

/// What idle poll threads do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Poll {
    #[default]
    Adaptive,
    Always,
}

impl From<Poll> for PollMode {
    fn from(poll: Poll) -> Self {
        match poll {
            Poll::Adaptive => Self::Adaptive,
            Poll::Always => Self::Always,
        }
    }
}

/// `[threads]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Threads {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) cores: Option<Vec<usize>>,
    #[serde(default)]
    pub(crate) poll: Poll,
}

/// `[metrics]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) listen: SocketAddr,
}

/// `[bridge]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Bridge {
    pub(crate) ageing_seconds: u32,
    pub(crate) addresses: u32,
}

impl Default for Bridge {
    fn default() -> Self {
        Self { ageing_seconds: DEFAULT_AGEING.0, addresses: DEFAULT_ADDRESSES }
    }
}

/// `[[fdb]]`: a static entry of the filtering database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StaticEntry {
    pub(crate) mac: String,
    pub(crate) vlan: Vid,
    pub(crate) port: String,
}

/// The whole configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) control: Control,
    #[serde(default)]
    pub(crate) threads: Threads,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metrics: Option<Metrics>,
    #[serde(default)]
    pub(crate) bridge: Bridge,
    #[serde(default, rename = "port", skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PortSpec>,
    #[serde(default, rename = "fdb", skip_serializing_if = "Vec::is_empty")]
    pub(crate) entries: Vec<StaticEntry>,
}

/// Why a configuration cannot be used or saved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("{file}: cannot read the configuration")]
    Read { file: PathBuf, source: io::Error },
    /// What it says cannot be.
    #[error("{file}:{line}: {key}: {reason}")]
    Invalid { file: PathBuf, line: usize, key: String, reason: String },
    /// It cannot be written.
    #[error("{file}: cannot save the configuration")]
    Write { file: PathBuf, source: io::Error },
    /// It cannot be put into TOML, which would be a mistake in this program.
    #[error("cannot put the configuration into words")]
    Format(#[from] toml::ser::Error),
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] with file, line and key of the first mistake.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file)
            .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
        Self::parse(&text, file, &cores::allowed())
    }

    /// Reads and checks the text of a file, for a machine with these cores.
    pub(crate) fn parse(
        text: &str,
        file: &Path,
        allowed_cores: &[usize],
    ) -> Result<Self, ConfigError> {
        let file = file.to_owned();
        let config: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            ConfigError::Invalid {
                file: file.clone(),
                line: line_of_offset(text, offset),
                key: key_at(text, offset),
                reason: error.message().replace('\n', " "),
            }
        })?;
        config.check(allowed_cores).map_err(|(path, reason)| ConfigError::Invalid {
            file,
            line: line_of(text, &path),
            key: Key::join(&path),
            reason,
        })?;
        Ok(config)
    }

    /// What it asks for that this version does not do. The switch runs all the same.
    pub(crate) fn warnings(&self) -> impl Iterator<Item = String> {
        self.metrics
            .iter()
            .map(|metrics| format!("metrics on {}: this version has none to serve", metrics.listen))
    }

    /// The ports that are uplinks.
    pub(crate) fn uplinks(&self) -> impl Iterator<Item = &PortSpec> {
        self.ports.iter().filter(|port| port.port_type == PortType::AfXdp)
    }

    /// The configuration as TOML.
    pub(crate) fn to_toml(&self) -> Result<String, ConfigError> {
        Ok(toml::to_string(self)?)
    }

    /// Writes it to a file in one step: whoever reads sees the old one or the new one.
    pub(crate) fn save(&self, file: &Path) -> Result<(), ConfigError> {
        let text = self.to_toml()?;
        let failed = |source| ConfigError::Write { file: file.to_owned(), source };
        // A link stays one: what it points to is replaced.
        let target = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let mut name = target.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let beside = target.with_file_name(name);
        let outcome = write_whole(&beside, &target, &text);
        if outcome.is_err() {
            // What could not be finished is in nobody's way.
            let _ = fs::remove_file(&beside);
        }
        outcome.map_err(failed)
    }
}

fn write_whole(beside: &Path, target: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::File::create(beside)?;
    file.write_all(text.as_bytes())?;
    // The permissions of the file that is replaced stay.
    let mode = fs::metadata(target).map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.sync_all()?;
    fs::rename(beside, target)
}

#[cfg(test)]
mod tests;
