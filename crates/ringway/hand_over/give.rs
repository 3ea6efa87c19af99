//! The old switch's side.

use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::channel::{Channel, ChannelError, Lent};
use super::state::{Answer, Description, Offer, Stopped, Word};
use crate::control::ControlServer;
use crate::refusal::Refusal;
use crate::switch::{Known, Switch, key};

/// How long the new switch may take to adopt everything, while this one forwards.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take while nobody forwards.
const PATIENCE_AT_REST: Duration = Duration::from_secs(1);

/// Gives everything to the switch at the other end. Says whether that has it now; else this one
/// goes on as it was.
pub(crate) fn give(stream: UnixStream, server: &mut ControlServer, switch: &mut Switch) -> bool {
    log::info!("another ringway takes over");
    match try_give(stream, server, switch) {
        Ok(pause) => {
            log::info!("handed over; no ring ran for {:.1} ms", pause.as_secs_f64() * 1e3);
            true
        }
        Err(refusal) => {
            log::warn!("not handed over, this switch goes on: {refusal}");
            false
        }
    }
}

fn try_give(
    stream: UnixStream,
    server: &mut ControlServer,
    switch: &mut Switch,
) -> Result<Duration, Refusal> {
    let is_trusted = ControlServer::trusts(&stream);
    let mut channel = Channel::new(stream)?;
    if !is_trusted {
        let text = "only root and the user that the switch runs as may take over from it";
        channel.send(&Offer::Refused(text.to_owned()), &Lent::default(), PATIENCE)?;
        return Err(Refusal::new(text));
    }
    let known = describe(&mut channel, server, switch)?;
    expect(&mut channel, &Answer::Ready, PATIENCE)?;
    let start = Instant::now();
    switch.pause();
    let uplinks = commit(&mut channel, switch, &known).inspect_err(|_| switch.resume())?;
    let pause = start.elapsed();
    switch.let_go_of(&uplinks);
    server.own_socket(false);
    switch.own_sockets(false);
    switch.close_uplinks();
    // If it is not there to hear that, it does not need to.
    let _ = channel.send(&Word::Closed, &Lent::default(), PATIENCE_AT_REST);
    Ok(pause)
}

/// Describes everything. Returns the learned entries that were named.
fn describe(
    channel: &mut Channel,
    server: &ControlServer,
    switch: &Switch,
) -> Result<Known, Refusal> {
    let mut lent = Lent::default();
    let learned = switch.learned(&Known::new());
    let description = Description {
        config: switch.config().to_toml().map_err(|error| Refusal::caused_by(&error))?,
        file: switch.file().cloned(),
        control: server.describe(&mut lent),
        guests: switch.describe_guests(&mut lent),
        learned: switch.in_words(&learned),
        umems: switch.describe_umems(&mut lent),
        uplinks: switch.describe_uplinks(&mut lent),
    };
    channel.send(&Offer::Description(Box::new(description)), &lent, PATIENCE)?;
    Ok(learned.iter().map(key).collect())
}

/// Gives the rings away, which stand still, and returns the names of the uplinks that the other one
/// goes on with. An error means that all are still this switch's.
fn commit(
    channel: &mut Channel,
    switch: &mut Switch,
    known: &Known,
) -> Result<Vec<String>, Refusal> {
    let uplinks = switch.uplinks_stopped();
    let switch = &*switch;
    let mut lent = Lent::default();
    let stopped = Stopped {
        uplinks,
        guests: switch.rings_stopped(),
        taps: switch.describe_taps(&mut lent),
        learned: switch.in_words(&switch.learned(known)),
    };
    channel.send(&stopped, &lent, PATIENCE_AT_REST)?;
    let uplinks = match channel.receive::<Answer>(PATIENCE_AT_REST)? {
        (Answer::Taken, _) => Vec::new(),
        (Answer::TakenWith(uplinks), _) => uplinks,
        (answer, _) => return Err(refused(answer, &Answer::Taken)),
    };
    channel.send(&Word::Yours, &Lent::default(), PATIENCE_AT_REST)?;
    match channel.receive::<Answer>(PATIENCE) {
        Err(error) if error.is_end() => {
            Err(Refusal::new("the other switch has ended before it started"))
        }
        Ok(_) => Ok(uplinks),
        Err(error) => {
            // It lives and has the rings, whatever it says: two may not have them.
            log::error!("no word that the other switch has started: {error}");
            Ok(uplinks)
        }
    }
}

/// Waits for this answer.
fn expect(channel: &mut Channel, wanted: &Answer, patience: Duration) -> Result<(), Refusal> {
    match channel.receive::<Answer>(patience)? {
        (answer, _) if answer == *wanted => Ok(()),
        (answer, _) => Err(refused(answer, wanted)),
    }
}

/// Why this answer is not the wanted one.
fn refused(answer: Answer, wanted: &Answer) -> Refusal {
    match answer {
        Answer::Refused(reason) => Refusal::new(reason),
        answer => ChannelError::Strange(format!("{answer:?} in place of {wanted:?}")).into(),
    }
}
