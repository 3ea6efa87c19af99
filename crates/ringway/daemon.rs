//! `ringway run`: the one control thread and its loop.
//!
//! It owns everything but the rings: control socket, front ends, ports. One epoll set tells it
//! what is ready; nothing it does waits for a peer. SIGTERM and SIGINT end the loop, after which
//! everything is dropped in order: ports, their queues and sockets, the poll threads. SIGHUP is
//! ignored, as there is nothing to read again. With `--take-over` another daemon's ports are taken
//! over instead of opened (`hand_over`).

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

use crate::config::Config;
use crate::control::ControlServer;
use crate::hand_over;
use crate::poller::{Poller, Token};
use crate::refusal::Refusal;
use crate::switch::Switch;

/// How often addresses age and what failed for want of descriptors is tried again.
const TICK: Duration = Duration::from_secs(1);

/// Runs the switch until a signal ends it.
///
/// # Errors
///
/// A [`Refusal`] if the configuration is wrong, or something that it names cannot be had: the
/// daemon starts with all its ports or not at all. (A front end that is not there yet is no error.)
pub(crate) fn run(
    file: Option<PathBuf>,
    control: Option<&Path>,
    take_over: bool,
) -> Result<(), Refusal> {
    let log = env_logger::Env::default().default_filter_or("info");
    env_logger::Builder::from_env(log).format_target(false).init();
    // As an absolute path: it is written to later, and named in answers to others.
    let file = file.map(|file| std::path::absolute(&file).unwrap_or(file));
    let config = match &file {
        Some(file) => Config::load(file).map_err(|error| Refusal::caused_by(&error))?,
        None => Config::default(),
    };
    let failed = |what: &'static str| {
        move |error: io::Error| Refusal::new(format!("cannot {what}: {error}"))
    };
    raise_descriptor_limit();
    virtio::install_sigbus_guard().map_err(failed("guard against truncated guest memory"))?;
    let poller = Rc::new(Poller::new().map_err(failed("make an epoll set"))?);
    let signals = signals().map_err(failed("take signals"))?;
    poller.add(&signals, Token::Signal).map_err(failed("wait for signals"))?;

    let socket = control.unwrap_or(&config.control.socket);
    let (mut server, mut switch) = if take_over {
        let given = file.is_some().then(|| (config.clone(), file));
        hand_over::take(socket, given, &poller)?
    } else {
        // The control socket first: a second daemon of the same configuration ends here, before
        // it has touched an interface.
        let server = ControlServer::bind(socket, Rc::clone(&poller))?;
        let mut switch = Switch::start(&config, file, Rc::clone(&poller))?;
        set_up(&mut switch, &config)?;
        (server, switch)
    };
    poller.add(switch.datapath.events(), Token::Datapath).map_err(failed("watch the data path"))?;
    log::info!("ringway {} listens on {}", env!("CARGO_PKG_VERSION"), socket.display());

    let outcome = serve(&poller, &mut server, &mut switch);
    log::info!("ending");
    outcome.map_err(failed("wait for events"))
}

/// Adds what the configuration names.
fn set_up(switch: &mut Switch, config: &Config) -> Result<(), Refusal> {
    for warning in config.warnings() {
        log::warn!("{warning}");
    }
    for port in &config.ports {
        switch.add_port(port.clone())?;
        switch.warn_of_loops(&port.name);
    }
    switch.add_entries(&config.entries)?;
    switch.begin_reunion();
    Ok(())
}

/// Lets the process have as many descriptors as it may: a guest takes several for each queue, and
/// a shell's usual 1,024 end at 200 guests. Nothing here uses select(2), which this would break.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit on open files stays at {:?}: {error}", limit.current);
    }
}

/// A descriptor that is readable once a signal has asked for the end.
fn signals() -> io::Result<UnixStream> {
    let (reader, writer) = UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    for signal in [SIGTERM, SIGINT] {
        pipe::register(signal, writer.try_clone()?)?;
    }
    // A handler that does nothing visible: a terminal that closes is no reason to end.
    let (_, nobody) = UnixStream::pair()?;
    pipe::register(SIGHUP, nobody)?;
    Ok(reader)
}

/// The loop. Returns when a signal has asked for the end, or another switch has taken over.
fn serve(poller: &Poller, server: &mut ControlServer, switch: &mut Switch) -> io::Result<()> {
    let mut ready = Vec::new();
    let mut next_tick = Instant::now() + TICK;
    loop {
        let now = Instant::now();
        if now >= next_tick {
            next_tick = now + TICK;
            switch.tick();
            server.tick();
        }
        let until_tick = next_tick.saturating_duration_since(Instant::now());
        let timeout = switch.do_due().map_or(until_tick, |due| due.min(until_tick));
        poller.wait(timeout, &mut ready)?;
        for &token in &ready {
            match token {
                Token::Signal => return Ok(()),
                Token::Datapath => switch.take_events(),
                Token::Control => server.accept(),
                Token::Client(key) => {
                    let successor = server.serve(key, switch);
                    if successor.is_some_and(|stream| hand_over::give(stream, server, switch)) {
                        return Ok(());
                    }
                }
                Token::Listener(key) => switch.accept(key),
                Token::Session(key) => switch.converse(key),
                Token::Commands(key) => switch.serve_control(key),
            }
        }
    }
}
