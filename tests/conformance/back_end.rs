//! The back end under test: two sockets, and what it offers.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use virtio::Features;

use crate::guest::{Guest, Plan};
use crate::protocol::{PROTOCOL_FEATURES, Talk};
use crate::support::messages::{GET_FEATURES, GET_PROTOCOL_FEATURES};
use crate::support::switch::{Switch, guests};
use crate::support::{ALICE, BOB, PATIENCE, frame, wait_for};

/// Two sockets of a back end that runs already.
const SOCKETS: &str = "RINGWAY_CONFORMANCE_SOCKETS";

/// A back end that runs already has one pair of ports, so one case has it at a time.
static TURN: Mutex<()> = Mutex::new(());

/// The back end, while one case has it.
#[derive(Debug)]
pub(crate) struct BackEnd {
    sockets: [PathBuf; 2],
    /// If it is our own.
    switch: Option<Switch>,
    _turn: Option<MutexGuard<'static, ()>>,
}

impl BackEnd {
    /// Starts our own, or waits for its turn with the one that runs.
    pub(crate) fn start() -> Self {
        match std::env::var(SOCKETS) {
            Ok(sockets) => {
                let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
                let (alice, bob) = sockets.split_once(',').expect("two sockets, a comma between");
                Self { sockets: [alice.into(), bob.into()], switch: None, _turn: Some(turn) }
            }
            Err(_) => {
                let switch = Switch::with_config(&guests(&["alice", "bob"]));
                let sockets = ["alice.sock", "bob.sock"].map(|name| switch.path(name));
                Self { sockets, switch: Some(switch), _turn: None }
            }
        }
    }

    /// A connection to the first port, on which nothing has been said.
    pub(crate) fn talk(&self) -> Talk {
        Talk::connect(&self.sockets[0])
    }

    /// Says whether these features are offered. If not, the case is listed.
    pub(crate) fn offers(&self, features: Features) -> bool {
        let mut talk = self.talk();
        talk.send(GET_FEATURES, &[], &[]);
        let missing = features.0 & !talk.reply_u64();
        drop(talk);
        missing == 0 || self.not_offered(&format!("features {missing:#x}"))
    }

    /// The same for protocol features.
    pub(crate) fn offers_protocol(&self, features: u64) -> bool {
        let mut talk = self.talk();
        talk.send(GET_FEATURES, &[], &[]);
        talk.reply_u64();
        talk.send(GET_PROTOCOL_FEATURES, &[], &[]);
        let missing = features & !talk.reply_u64();
        drop(talk);
        missing == 0 || self.not_offered(&format!("protocol features {missing:#x}"))
    }

    /// Lists the case as one that is not tested. Returns false.
    fn not_offered(&self, what: &str) -> bool {
        assert!(self.switch.is_none(), "{what}: not offered, and ours is to offer all");
        let case = std::thread::current().name().unwrap_or("a case").to_owned();
        // Past the harness, which keeps what a passing test prints to itself.
        let _ = writeln!(std::io::stderr(), "not offered: {case}: {what}");
        false
    }

    /// Plugs a guest in at the first port, which its frames come in by.
    pub(crate) fn alice(&self, plan: Plan) -> Guest {
        Guest::plug_in(&self.sockets[0], plan, ALICE)
    }

    /// Plugs a guest in at the second port.
    pub(crate) fn bob(&self, plan: Plan) -> Guest {
        Guest::plug_in(&self.sockets[1], plan, BOB)
    }

    /// Plugs two guests in of the same plan, if the back end offers what they need, and waits until
    /// frames pass both ways.
    pub(crate) fn pair(&self, plan: Plan) -> Option<(Guest, Guest)> {
        self.pair_of(plan, plan)
    }

    /// The same with a plan for each.
    pub(crate) fn pair_of(&self, alices: Plan, bobs: Plan) -> Option<(Guest, Guest)> {
        if !self.offers(alices.features | bobs.features) {
            return None;
        }
        let (mut alice, mut bob) = (self.alice(alices), self.bob(bobs));
        await_path(&mut alice, &mut bob);
        await_path(&mut bob, &mut alice);
        Some((alice, bob))
    }
}

/// Sends until a frame comes through, and takes all that came. A back end may have more to do behind
/// its last answer before it forwards.
pub(crate) fn await_path(from: &mut Guest, to: &mut Guest) {
    let start = Instant::now();
    for number in 0..=u8::MAX {
        let probe = frame(to.address, from.address, &[number; 46]);
        from.send(&probe);
        wait_for("the transmit buffer", || (from.in_flight() == 0).then_some(()));
        if arrives(to, &probe, Duration::from_millis(200)) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "no frame comes through");
    }
}

fn arrives(to: &mut Guest, probe: &[u8], longest: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < longest {
        if to.try_receive().is_some_and(|received| received.frame == probe) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    false
}

/// Starts the back end if it offers these protocol features beside the means to talk about them.
pub(crate) fn with_protocol(features: u64) -> Option<BackEnd> {
    let back_end = BackEnd::start();
    (back_end.offers(Features(PROTOCOL_FEATURES)) && back_end.offers_protocol(features))
        .then_some(back_end)
}
