//! The decisions on a burst, and what is noted of its frames on the way to them.
//!
//! Three passes over the burst instead of one: the first asks for the cache lines of all addresses, the
//! second finds them there, the third puts together what goes the same way. Each is a function of its
//! own, so that what its loop needs stays in registers: inlined into the turn of a poll thread, the
//! three took a fifth more instructions.

use frame::{BURST_FRAMES, DropReason, Header, MacAddr, VlanId, VlanTag};

use super::{Decision, Egress, Forward};
use crate::VlanPolicy;
use crate::fdb::{Fdb, Hearing, Key, Location, Reader};

/// Frames one behind the other that go the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What becomes of each.
    pub decision: Decision,
    /// The place in the burst behind the last of them, at most [`BURST_FRAMES`].
    pub end: usize,
}

/// The decisions on a burst. Made to be used again: it keeps its memory.
#[derive(Debug)]
pub struct Decisions {
    /// Room for a burst; the first `count` are its frames.
    frames: Box<[Noted]>,
    count: usize,
    /// By run: the place of its first frame, and what becomes of all.
    runs: Vec<(u16, Decision)>,
}

/// What is noted of a frame.
#[derive(Debug, Clone, Copy)]
struct Noted {
    source_at: Location,
    destination_at: Location,
    /// Its place in the burst.
    place: u16,
    /// The VLAN in which it may pass if it has somewhere to go, and its tag from now on.
    vlan: Result<(VlanId, VlanTag), DropReason>,
    /// The port behind which the destination lies, or [`UNKNOWN`].
    known: u16,
    /// The source need not be learned.
    is_learned: bool,
    /// The destination is a group, and has no entry.
    is_group: bool,
}

/// No port's slot.
const UNKNOWN: u16 = u16::MAX;

/// What no frame asks for: there is no VLAN 4095.
const NOTHING: u32 = u32::MAX;

impl Default for Decisions {
    fn default() -> Self {
        let none = Noted {
            source_at: Location::default(),
            destination_at: Location::default(),
            place: 0,
            vlan: Err(DropReason::NoEgressPort),
            known: UNKNOWN,
            is_learned: false,
            is_group: false,
        };
        Self { frames: vec![none; BURST_FRAMES].into(), count: 0, runs: Vec::new() }
    }
}

impl Decisions {
    /// The run of this number, counted from 0: each begins where the one before it ends.
    #[must_use]
    #[inline]
    pub fn run(&self, number: usize) -> Option<Run> {
        let &(_, decision) = self.runs.get(number)?;
        let next = number.checked_add(1).and_then(|next| self.runs.get(next));
        Some(Run { decision, end: next.map_or(BURST_FRAMES, |&(start, _)| start.into()) })
    }

    /// All runs.
    pub fn runs(&self) -> impl Iterator<Item = Run> {
        (0..).map_while(|number| self.run(number))
    }

    /// Lets no frame pass.
    pub(super) fn refuse<'a>(
        &mut self,
        headers: impl Iterator<Item = (usize, &'a Header)>,
        reason: DropReason,
    ) {
        self.runs.clear();
        self.runs.extend(headers.map(|_| (0, Err(reason))).next());
    }

    /// The first step: what frames and policy say, and where addresses lie. `learned` is the source
    /// that was learned last.
    #[inline(never)]
    pub(super) fn classify<'a>(
        &mut self,
        policy: &VlanPolicy,
        fdb: Reader<'_>,
        learned: &mut Key,
        headers: impl Iterator<Item = (usize, &'a Header)>,
    ) {
        let untagged = policy.classify(None);
        let mut last = *learned;
        let mut count = 0;
        for (noted, (place, header)) in self.frames.iter_mut().zip(headers) {
            count += 1;
            #[expect(clippy::cast_possible_truncation, reason = "below BURST_FRAMES")]
            let place = place as u16;
            noted.place = place;
            let (source, destination) = (header.source(), header.destination());
            noted.vlan = admit(source, destination).and_then(|()| match header.tag() {
                None => untagged,
                tag => policy.classify(tag), // 6.9, 8.6.2
            });
            if let Ok((vid, _)) = noted.vlan {
                let source = Key::new(vid, source);
                noted.source_at = fdb.locate(source);
                noted.destination_at = fdb.locate(Key::new(vid, destination));
                noted.is_learned = source == last;
                noted.is_group = destination.is_group();
                last = source;
            }
        }
        self.count = count;
        *learned = last;
    }

    /// The second step: learns sources (8.7), and finds the ports of destinations (8.6.3).
    #[inline(never)]
    pub(super) fn look_up(&mut self, fdb: &Fdb, hearing: &Hearing) {
        let reader = fdb.reader();
        let heard = hearing.rest();
        for noted in &mut self.frames[..self.count] {
            if noted.vlan.is_err() {
                continue;
            }
            if !noted.is_learned && !reader.is_known(noted.source_at, heard) {
                let _ = fdb.learn_at(noted.source_at, hearing);
            }
            if noted.is_group {
                noted.known = UNKNOWN;
                continue;
            }
            noted.known = match reader.slot(noted.destination_at) {
                Some(slot) => slot,
                None => fdb.look_up_at(noted.destination_at).unwrap_or(UNKNOWN),
            };
        }
    }

    /// The last step: those that go the same way become runs. `has_egress` says whether a frame leaves
    /// by any port.
    #[inline(never)]
    pub(super) fn gather(&mut self, has_egress: impl Fn(&Forward) -> bool) {
        self.runs.clear();
        // What the frame before asked for, as one number: a comparison of enums goes through memory,
        // in pieces that the processor has to wait for.
        let mut last = NOTHING;
        for noted in &self.frames[..self.count] {
            let decision = match noted.vlan {
                Ok((vid, tag)) => {
                    let wanted = u32::from(tag.to_bits()) << 16 | u32::from(noted.known);
                    if wanted == last {
                        continue;
                    }
                    last = wanted;
                    let is_known = noted.known != UNKNOWN;
                    let egress = if is_known { Egress::Port(noted.known) } else { Egress::Flood };
                    let forward = Forward { vid, tag, egress };
                    if has_egress(&forward) { Ok(forward) } else { Err(DropReason::NoEgressPort) }
                }
                Err(reason) => {
                    last = NOTHING;
                    Err(reason)
                }
            };
            self.runs.push((noted.place, decision));
        }
    }
}

/// Refuses what no bridge forwards, whatever its VLAN.
#[inline(always)]
fn admit(source: MacAddr, destination: MacAddr) -> Result<(), DropReason> {
    if source.is_group() {
        Err(DropReason::SourceIsGroup)
    } else if destination.is_reserved_group() {
        Err(DropReason::ReservedGroup) // 8.6.3, table 8-1
    } else {
        Ok(())
    }
}
