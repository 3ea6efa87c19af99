//! Chains of a receiveq that were walked before a frame needs them.
//!
//! ```text
//!   walked   │ taken │ taken │ chain │ chain │ chain │
//!   pieces   │ … taken …     │ │ │ │ │ │ │ │ │ │ │ │      a chain's end where the next one begins
//! ```
//!
//! Nothing is consumed here: the ring knows only of chains that were filled. What a guest does to
//! a chain after it was walked changes nothing, since the ring keeps the memory that its pieces
//! lie in.

mod list;

use frame::BURST_FRAMES;

use crate::memory::Piece;
use list::List;

/// Most pieces that one frame may take. A chain whose pieces do not fit gives what fits.
pub(super) const MAX_PIECES: usize = 4 * BURST_FRAMES;

/// A chain that was walked: it will take a part of a frame.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Walked<Head> {
    pub(super) head: Head,
    /// Where its pieces end within `Ahead::pieces`.
    pub(super) pieces_end: usize,
    /// What its pieces hold.
    pub(super) room_bytes: usize,
    /// How many descriptors it has.
    pub(super) descriptors: u32,
}

/// Chains that were walked and not filled yet, the oldest first. Never grows.
#[derive(Debug)]
pub(super) struct Ahead<Head> {
    pub(super) walked: List<Walked<Head>>,
    pub(super) pieces: List<Piece>,
    /// How many of `walked` were taken.
    taken: usize,
    /// Where the pieces of those end.
    pieces_taken: usize,
}

impl<Head: Copy + Default> Ahead<Head> {
    pub(super) fn new() -> Self {
        let walked = List::new(MAX_PIECES, Walked::default());
        let pieces = List::new(MAX_PIECES, Piece::NONE);
        Self { walked, pieces, taken: 0, pieces_taken: 0 }
    }

    /// The chain that is `count` behind the oldest.
    #[inline]
    pub(super) fn get(&self, count: usize) -> Option<Walked<Head>> {
        self.walked.get(self.taken + count).copied()
    }

    /// How many chains there are, and what they hold.
    pub(super) fn totals(&self) -> (usize, usize) {
        let left = self.walked.get(self.taken..).unwrap_or_default();
        (left.len(), left.iter().fold(0, |sum, walked| walked.room_bytes.saturating_add(sum)))
    }

    /// Says whether to walk no further ahead than needed.
    pub(super) fn is_half_full(&self) -> bool {
        self.walked.len().max(self.pieces.len()) >= MAX_PIECES / 2
    }

    /// Makes room for one more chain by forgetting what was taken.
    pub(super) fn make_room(&mut self) {
        if !self.is_half_full() || self.taken == 0 {
            return;
        }
        self.walked.remove_front(self.taken);
        self.pieces.remove_front(self.pieces_taken);
        for walked in self.walked.iter_mut() {
            walked.pieces_end -= self.pieces_taken;
        }
        (self.taken, self.pieces_taken) = (0, 0);
    }

    /// Forgets the pieces of a chain that could not be walked to its end.
    pub(super) fn forget_last_pieces(&mut self) {
        self.pieces.truncate(self.walked.last().map_or(0, |walked| walked.pieces_end));
    }

    /// Takes the oldest chain: with its pieces, and the one that comes after them.
    #[inline]
    pub(super) fn take(&mut self) -> Option<(Walked<Head>, &[Piece], Option<&Piece>)> {
        if self.taken == self.walked.len() {
            return None;
        }
        let chain = self.walked[self.taken];
        let start = self.pieces_taken;
        self.taken += 1;
        self.pieces_taken = chain.pieces_end;
        Some((chain, &self.pieces[start..chain.pieces_end], self.pieces.get(chain.pieces_end)))
    }

    /// The oldest chains as long as they are single pieces, each with its piece and the one that comes
    /// after it.
    #[inline(always)]
    pub(super) fn singles(&self) -> impl Iterator<Item = (Head, Piece, Option<Piece>)> {
        let walked = self.walked.get(self.taken..).unwrap_or_default();
        let mut pieces = self.pieces.get(self.pieces_taken..).unwrap_or_default();
        walked.iter().zip(self.pieces_taken..).map_while(move |(walked, place)| {
            let (piece, behind) = pieces.split_first()?;
            pieces = behind;
            let is_single = walked.pieces_end == place.wrapping_add(1);
            is_single.then(|| (walked.head, *piece, behind.first().copied()))
        })
    }

    /// Adds chains that are single pieces, as many as there is room for. Returns how many there were and
    /// what they hold.
    #[inline(always)]
    pub(super) fn add_singles(
        &mut self,
        singles: impl Iterator<Item = (Head, Piece)>,
    ) -> (usize, usize) {
        let (mut count, mut room_bytes) = (0usize, 0usize);
        let mut pieces_end = self.pieces.len();
        let places = self.walked.unused().iter_mut().zip(self.pieces.unused());
        for ((walked, place), (head, piece)) in places.zip(singles) {
            let bytes = piece.length_bytes as usize;
            count = count.wrapping_add(1);
            pieces_end = pieces_end.wrapping_add(1);
            room_bytes = room_bytes.wrapping_add(bytes);
            *walked = Walked { head, pieces_end, room_bytes: bytes, descriptors: 1 };
            *place = piece;
        }
        self.walked.add(count);
        self.pieces.add(count);
        (count, room_bytes)
    }

    /// Takes the oldest `count` chains, which are [single pieces](Self::singles).
    #[inline]
    pub(super) fn take_singles(&mut self, count: usize) {
        self.taken += count;
        self.pieces_taken += count;
        self.rewind();
    }

    /// Starts at the front again once all chains are taken.
    #[inline]
    pub(super) fn rewind(&mut self) {
        if self.taken == self.walked.len() {
            self.walked.clear();
            self.pieces.clear();
            (self.taken, self.pieces_taken) = (0, 0);
        }
    }
}
