//! The daemon: one control thread that owns the switch and waits for everything that may happen
//! to it; the frames are the poll threads' business.
//!
//! ```text
//!   signals ─┐                    ┌─▶ control socket: requests
//!   clients ─┼─▶ epoll ─▶ one ────┼─▶ ports: front ends come, speak, go
//!   sockets ─┤           thread   ├─▶ poll threads' events: logged
//!   timers  ─┘                    └─▶ ageing, connecting again
//! ```

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datapath::bridge::{Fdb, Seconds};
use datapath::{Datapath, PollMode, Settings, StartError, ThreadStatistics};

use crate::api::{Refusal, ThreadStats, Threads};
use crate::config::{Config, StaticAddress, default_core, save};
use crate::control::{Server, ServerError, methods};
use crate::error_text::chain;
use crate::poller::{Poller, Token};
use crate::port_spec::PortSpec;
use crate::switch::{StaticEntry, Switch};

/// Where the control socket is unless somebody says otherwise.
const DEFAULT_CONTROL: &str = "/run/ringway/control.sock";

/// How often addresses age: the filtering database counts in seconds.
const AGEING_PERIOD: Duration = Duration::from_secs(1);

/// How often connecting is considered while a port wants to be connected.
const CONNECT_PERIOD: Duration = Duration::from_millis(50);

/// The daemon could not start or had to end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    #[error("cannot {call}")]
    System { call: &'static str, source: io::Error },
    #[error("poll threads")]
    Datapath(#[from] StartError),
    #[error(transparent)]
    Control(#[from] ServerError),
    #[error("{0}")]
    Refused(Refusal),
}

/// The daemon's state. See the module's drawing.
#[derive(Debug)]
pub(crate) struct Daemon {
    pub(crate) switch: Switch,
    pub(crate) poller: Poller,
    /// What it was started with; ports and static addresses are the switch's.
    started_with: Config,
    config_file: Option<PathBuf>,
    last_sample: (Instant, Vec<ThreadStatistics>),
}

/// Runs the switch until a signal ends it.
///
/// # Errors
///
/// [`DaemonError`] if it cannot start: nothing is left behind then.
pub(crate) fn run(
    config: Config,
    config_file: Option<PathBuf>,
    control: Option<PathBuf>,
) -> Result<(), DaemonError> {
    let failed = |call| move |source| DaemonError::System { call, source };
    virtio::install_sigbus_guard().map_err(failed("install the guard against truncated memory"))?;
    let poller = Poller::new().map_err(failed("make an epoll set"))?;
    let signals = signals().map_err(failed("watch for signals"))?;
    poller.watch(&signals, Token::Signal).map_err(failed("watch for signals"))?;
    let control = control
        .or_else(|| config.control_socket.clone())
        .unwrap_or_else(|| PathBuf::from(DEFAULT_CONTROL));
    let mut server = Server::bind(&control, &poller)?;
    let mut daemon = Daemon::start(config, config_file, poller)?;
    daemon.poller.watch(daemon.switch.datapath.events(), Token::Datapath).map_err(failed(
        "watch the poll threads",
    ))?;
    log::info!("ringway {} ready, control socket {}", env!("CARGO_PKG_VERSION"), control.display());
    let outcome = daemon.serve(&mut server, &signals);
    daemon.switch.close(&daemon.poller);
    outcome.map_err(failed("wait for events"))
}

/// A socket that becomes readable when the process is told to end.
fn signals() -> io::Result<UnixStream> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, writer.try_clone()?)?;
    }
    // Nothing is re-read on SIGHUP, and a terminal that closes must not cut the guests off.
    signal_hook::flag::register(signal_hook::consts::SIGHUP, Arc::default())?;
    Ok(reader)
}

impl Daemon {
    /// Starts the poll threads and adds the ports of the configuration.
    fn start(
        config: Config,
        config_file: Option<PathBuf>,
        poller: Poller,
    ) -> Result<Self, DaemonError> {
        let cores = config.cores.clone().unwrap_or_else(|| vec![default_core()]);
        let fdb = Arc::new(Fdb::new(config.addresses, Seconds(config.ageing_seconds)));
        let poll = if config.always_poll { PollMode::Always } else { PollMode::Adaptive };
        log::info!("poll threads on cores {cores:?}, {poll:?} polling");
        let datapath = Datapath::start(Settings { cores, poll, fdb: Arc::clone(&fdb) })?;
        let last_sample = (Instant::now(), datapath.threads());
        let switch = Switch::new(datapath, fdb);
        let mut daemon = Self { switch, poller, started_with: config, config_file, last_sample };
        if let Err(refusal) = daemon.add_configured() {
            daemon.switch.close(&daemon.poller);
            return Err(DaemonError::Refused(refusal));
        }
        Ok(daemon)
    }

    fn add_configured(&mut self) -> Result<(), Refusal> {
        for options in &self.started_with.ports {
            let spec = PortSpec::try_from(options).map_err(|error| Refusal {
                subject: Some(format!("port {}", options.name)),
                cause: error.to_string(),
                hint: None,
            })?;
            self.switch.add_port(spec, &self.poller)?;
        }
        for entry in &self.started_with.statics {
            let StaticAddress { mac, vlan, port } = entry.clone();
            self.switch.add_static(&StaticEntry { address: mac, vid: vlan, port })?;
        }
        Ok(())
    }

    /// Waits and serves until a signal says otherwise.
    fn serve(&mut self, server: &mut Server, signals: &UnixStream) -> io::Result<()> {
        let mut next_ageing = Instant::now() + AGEING_PERIOD;
        loop {
            let now = Instant::now();
            if now >= next_ageing {
                self.switch.age();
                next_ageing = now + AGEING_PERIOD;
            }
            let wants_to_connect = self.switch.connect(&self.poller, now);
            let longest = next_ageing.saturating_duration_since(now);
            let longest = if wants_to_connect { longest.min(CONNECT_PERIOD) } else { longest };
            for token in self.poller.wait(longest)? {
                match token {
                    Token::Signal => {
                        let mut byte = [0];
                        if (&*signals).read(&mut byte).is_ok() {
                            log::info!("told to end");
                            return Ok(());
                        }
                    }
                    Token::Datapath => self.switch.log_events(),
                    Token::ControlListener => server.accept(&self.poller),
                    Token::Client(key) => self.serve_client(server, key),
                    Token::PortListener(key) => self.switch.accept(key, &self.poller),
                    Token::Session(key) => self.switch.serve(key, &self.poller),
                }
            }
        }
    }

    fn serve_client(&mut self, server: &mut Server, key: u32) {
        // The poller is shared with the requests' own work, so the server gets a reference of
        // the daemon's only between them.
        let requests = server.receive(key, |method, params| methods::carry_out(self, method, params));
        server.send(key, requests, &self.poller);
    }

    /// What the poll threads did since the last call.
    pub(crate) fn thread_rates(&mut self) -> Threads {
        let now = Instant::now();
        let sample = self.switch.datapath.threads();
        let (since, before) = std::mem::replace(&mut self.last_sample, (now, sample.clone()));
        let interval_seconds = now.duration_since(since).as_secs_f64();
        let threads =
            sample.iter().zip(&before).map(|(now, before)| rates(now, before, interval_seconds));
        Threads { interval_seconds, threads: threads.collect() }
    }

    /// The configuration that would start the switch as it is now.
    pub(crate) fn running_config(&self) -> Config {
        let statics = self.switch.statics().into_iter();
        Config {
            ports: self.switch.ports().iter().map(|port| port.spec.to_options()).collect(),
            statics: statics
                .map(|StaticEntry { address, vid, port }| StaticAddress {
                    mac: address,
                    vlan: vid,
                    port,
                })
                .collect(),
            ..self.started_with.clone()
        }
    }

    /// Saves the running configuration to the file that the daemon was started with.
    pub(crate) fn save_config(&self) -> Result<String, Refusal> {
        let Some(file) = &self.config_file else {
            return Err(Refusal {
                subject: Some("configuration".to_owned()),
                cause: "the daemon was started without a file".to_owned(),
                hint: Some("`ringway config show` prints it".to_owned()),
            });
        };
        let text = self.running_config().to_toml();
        save(Path::new(file), &text).map_err(|error| Refusal {
            subject: Some(format!("configuration {}", file.display())),
            cause: chain(&error),
            hint: None,
        })?;
        log::info!("configuration saved to {}", file.display());
        Ok(file.display().to_string())
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates for people to read")]
fn rates(now: &ThreadStatistics, before: &ThreadStatistics, seconds: f64) -> ThreadStats {
    let ratio = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 / whole as f64 };
    let frames = now.frames.wrapping_sub(before.frames);
    let busy = now.busy_ticks.wrapping_sub(before.busy_ticks);
    ThreadStats {
        thread: now.index,
        core: now.core,
        queues: now.queues,
        frames: now.frames,
        sleeps: now.sleeps,
        frames_per_second: if seconds > 0.0 { frames as f64 / seconds } else { 0.0 },
        busy_share: 0.0,
        cycles_per_frame: ratio(busy, frames),
        frames_per_burst: ratio(frames, now.bursts.wrapping_sub(before.bursts)),
    }
}
