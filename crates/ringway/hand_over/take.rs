//! The new switch's side.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::channel::{Arrived, Channel, ChannelError, Lent};
use super::state::{Answer, Description, Offer, Stopped, VERSION, Word};
use crate::config::Config;
use crate::control::ControlServer;
use crate::poller::Poller;
use crate::refusal::Refusal;
use crate::switch::{Rest, Switch};

/// How long the old switch may take for a step: it may be busy with other requests at first.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes over from the switch that listens at `control`. Threads and bridge are those of `config`, if
/// there is one, else those of the old switch; ports and addresses are always the old one's.
///
/// # Errors
///
/// A [`Refusal`]; the old switch then goes on as it was.
pub(crate) fn take(
    control: &Path,
    config: Option<(Config, Option<PathBuf>)>,
    poller: &Rc<Poller>,
) -> Result<(ControlServer, Switch), Refusal> {
    let mut channel = request(control)?;
    let outcome = adopt_all(&mut channel, config, poller);
    let (mut server, mut switch, mut rest) = match outcome {
        Ok(adopted) => adopted,
        Err(refusal) => {
            // The old switch sees that the connection ends, and why if it can be told.
            let answer = Answer::Refused(refusal.to_string());
            let _ = channel.send(&answer, &Lent::default(), PATIENCE);
            return Err(refusal);
        }
    };
    expect(&mut channel, &Word::Yours)?;
    switch.resume();
    switch.own_sockets(true);
    server.own_socket(true);
    // An old switch that is dead needs no word.
    let _ = channel.send(&Answer::Running, &Lent::default(), PATIENCE);
    switch.note_states();
    log::info!("took over from the ringway that listened on {}", control.display());
    if let Err(refusal) = expect(&mut channel, &Word::Closed) {
        log::warn!("no word that the uplinks are closed: {refusal}");
    }
    switch.open_rest(&mut rest);
    Ok((server, switch))
}

/// Everything up to the word that the rings are ours.
fn adopt_all(
    channel: &mut Channel,
    config: Option<(Config, Option<PathBuf>)>,
    poller: &Rc<Poller>,
) -> Result<(ControlServer, Switch, Rest), Refusal> {
    let (offer, mut arrived) = channel.receive::<Offer>(PATIENCE)?;
    let description = match offer {
        Offer::Description(description) => description,
        Offer::Refused(reason) => return Err(Refusal::new(reason)),
    };
    let (server, mut switch, mut rest) = adopt(*description, config, poller, &mut arrived)?;
    channel.send(&Answer::Ready, &Lent::default(), PATIENCE)?;
    let (stopped, mut arrived) = channel.receive::<Stopped>(PATIENCE)?;
    let Stopped { guests, taps, learned, uplinks } = stopped;
    switch.place_rings(guests);
    rest.learned.extend(learned);
    switch.adopt_taps(taps, &mut rest, &mut arrived)?;
    let uplinks = switch.place_uplinks(uplinks)?;
    // An old switch that describes no uplinks does not know the other word.
    let taken = if uplinks.is_empty() { Answer::Taken } else { Answer::TakenWith(uplinks) };
    channel.send(&taken, &Lent::default(), PATIENCE)?;
    Ok((server, switch, rest))
}

/// Adopts what was described.
fn adopt(
    description: Description,
    given: Option<(Config, Option<PathBuf>)>,
    poller: &Rc<Poller>,
    arrived: &mut Arrived,
) -> Result<(ControlServer, Switch, Rest), Refusal> {
    let Description { config, file, control, guests, learned, umems, uplinks } = description;
    let running: Config = toml::from_str(&config)
        .map_err(|error| ChannelError::Strange(error.message().to_owned()))?;
    let (base, file) = given.unwrap_or_else(|| (running.clone(), file));
    let mut switch = Switch::start(&base, file, Rc::clone(poller))?;
    let server = ControlServer::adopt(control, arrived, Rc::clone(poller))?;
    let mut rest = switch.adopt_guests(running, guests, learned, arrived)?;
    switch.adopt_uplinks(umems, uplinks, &mut rest, arrived)?;
    Ok((server, switch, rest))
}

/// Connects to the old switch and asks it.
fn request(control: &Path) -> Result<Channel, Refusal> {
    let failed = |error: io::Error| {
        Refusal::new(format!("no ringway to take over from at {}: {error}", control.display()))
            .hint("without --take-over a new one is started")
    };
    let stream = UnixStream::connect(control).map_err(failed)?;
    let mut channel = Channel::new(stream)?;
    let greeting: Value = parse(&channel.line(PATIENCE)?)?;
    if greeting["protocol"] != 1 {
        return Err(ChannelError::Strange(greeting.to_string()).into());
    }
    let parameters = json!({ "version": VERSION });
    let request =
        json!({ "jsonrpc": "2.0", "id": 1, "method": "switch.hand_over", "params": parameters });
    channel.send_line(&request.to_string())?;
    let answer: Value = parse(&channel.line(PATIENCE)?)?;
    match answer.get("error") {
        None => Ok(channel),
        Some(error) => {
            let reason = error["message"].as_str().unwrap_or_default();
            Err(Refusal::new(format!("the running switch does not hand over: {reason}")))
        }
    }
}

fn parse(line: &str) -> Result<Value, ChannelError> {
    serde_json::from_str(line).map_err(|error| ChannelError::Strange(error.to_string()))
}

/// Waits for this word.
fn expect(channel: &mut Channel, wanted: &Word) -> Result<(), Refusal> {
    let (word, _) = channel.receive::<Word>(PATIENCE)?;
    if word == *wanted {
        return Ok(());
    }
    Err(ChannelError::Strange(format!("{word:?} in place of {wanted:?}")).into())
}
