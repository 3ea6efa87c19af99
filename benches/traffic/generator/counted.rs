//! What is counted of streams, and sums of it.

/// What became of a stream's frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) sent: u64,
    /// Arrived once, in order, whole.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Arrived with another length, other bytes, twice or late.
    pub(crate) damaged: u64,
}

impl Counted {
    /// What both streams came to.
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            damaged: self.damaged + other.damaged,
        }
    }

    /// What came after this was counted.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent - before.sent,
            delivered: self.delivered - before.delivered,
            lost: self.lost - before.lost,
            damaged: self.damaged - before.damaged,
        }
    }
}
