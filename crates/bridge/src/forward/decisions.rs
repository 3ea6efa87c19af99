//! The decisions on a burst, and what is noted of its frames on the way to them.
//!
//! Two passes over the burst instead of one: the first asks for the cache lines of all addresses, the
//! second finds them there.

use frame::{BURST_FRAMES, DropReason, Header, MacAddr, VlanId, VlanTag};

use super::{Decision, Egress, Forward};
use crate::VlanPolicy;
use crate::fdb::{Fdb, Key, Location};

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
    /// The source need not be learned.
    is_learned: bool,
    /// The destination is a group, and has no entry.
    is_group: bool,
    /// The VLAN in which it may pass if it has somewhere to go, and its tag from now on.
    vlan: Result<(VlanId, VlanTag), DropReason>,
}

impl Default for Decisions {
    fn default() -> Self {
        let none = Noted {
            source_at: Location::default(),
            destination_at: Location::default(),
            place: 0,
            is_learned: false,
            is_group: false,
            vlan: Err(DropReason::NoEgressPort),
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
    #[inline(always)]
    pub(super) fn classify<'a>(
        &mut self,
        policy: &VlanPolicy,
        fdb: &Fdb,
        learned: &mut Key,
        headers: impl Iterator<Item = (usize, &'a Header)>,
    ) {
        self.count = 0;
        let untagged = policy.classify(None);
        for (noted, (place, header)) in self.frames.iter_mut().zip(headers) {
            self.count += 1;
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
                noted.is_learned = source == *learned;
                noted.is_group = destination.is_group();
                *learned = source;
            }
        }
    }

    /// The second step: `learn` notes a source, `look_up` finds the port of a destination, and
    /// `has_egress` says whether a frame leaves by any port.
    #[inline(always)]
    pub(super) fn forward(
        &mut self,
        mut learn: impl FnMut(Location),
        look_up: impl Fn(Location) -> Option<u16>,
        has_egress: impl Fn(&Forward) -> bool,
    ) {
        self.runs.clear();
        // What the frame before asked for, as one number: a comparison of enums goes through memory,
        // in pieces that the processor has to wait for.
        let mut last = None;
        for noted in self.frames.iter().take(self.count) {
            let (vid, tag) = match noted.vlan {
                Ok(vlan) => vlan,
                Err(reason) => {
                    last = None;
                    self.runs.push((noted.place, Err(reason)));
                    continue;
                }
            };
            if !noted.is_learned {
                learn(noted.source_at); // 8.7
            }
            let known = if noted.is_group { None } else { look_up(noted.destination_at) }; // 8.6.3
            let wanted =
                u32::from(tag.to_bits()) << 16 | known.map_or(u32::from(u16::MAX), u32::from);
            if last == Some(wanted) {
                continue;
            }
            last = Some(wanted);
            let forward = Forward { vid, tag, egress: known.map_or(Egress::Flood, Egress::Port) };
            let has_egress = has_egress(&forward);
            let decision = if has_egress { Ok(forward) } else { Err(DropReason::NoEgressPort) };
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
