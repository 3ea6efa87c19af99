//! Frames that have left, or were dropped: their buffers go back to whom they came from.

use afxdp::Chunk;

use super::{Kind, Queue};

impl Queue {
    /// The frame of this token has left, or was dropped: its buffer may go back.
    #[inline]
    pub(crate) fn complete(&mut self, token: u64) {
        match &mut self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => transmitq.ring.complete(token),
            Kind::Guest { .. } => {}
            Kind::Interface(queue) => queue.complete(token),
            Kind::Tap(queue, _) => queue.complete(token),
        }
    }

    /// The same for all frames of the burst that was taken in last, which have these tokens.
    #[inline]
    pub(crate) fn complete_burst(&mut self, tokens: impl Iterator<Item = u64>) {
        match &mut self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => transmitq.ring.complete_burst(),
            Kind::Guest { .. } => {}
            Kind::Interface(queue) => tokens.for_each(|token| queue.complete(token)),
            Kind::Tap(queue, _) => tokens.for_each(|token| queue.complete(token)),
        }
    }

    /// The same for a frame that was lent, or whose chunk another queue may have kept:
    /// `replacement` then takes its place.
    #[inline]
    pub(crate) fn complete_lent(&mut self, token: u64, replacement: Option<Chunk>) {
        match (&mut self.kind, replacement) {
            (Kind::Interface(queue), Some(chunk)) => queue.complete_with(token, chunk),
            (Kind::Guest { .. } | Kind::Interface(_) | Kind::Tap(..), _) => self.complete(token),
        }
    }

    /// Gives completed buffers back: one store, and at most one notification.
    pub(crate) fn release_ingress(&mut self) {
        match &mut self.kind {
            Kind::Guest { transmitq: Some(transmitq), .. } => {
                if transmitq.ring.release()
                    && let Some(call) = &transmitq.call
                {
                    call.signal();
                }
            }
            Kind::Guest { .. } | Kind::Tap(..) => {}
            Kind::Interface(queue) => queue.release(),
        }
    }
}
