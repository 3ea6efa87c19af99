//! Working the ring of a control queue, of either kind.
//!
//! A chain is walked twice, for the command and for the place of its acknowledgement. A driver that
//! changes it in between confuses itself: each walk checks all that it uses.

#![allow(unsafe_code)]

use std::ptr;

use frame::Room;

use super::{Acknowledgement, MAX_COMMAND_BYTES};
use crate::chain::{Chains, Wanted};
use crate::memory::Piece;
use crate::signal::Signals;
use crate::vring::{Position, Ring};
use crate::{QueueFault, SetupError, VringLog, VringSetup};

/// The control queue of a guest, with either kind of ring: see [`ControlQueue`](crate::ControlQueue).
#[derive(Debug)]
pub(crate) struct Control<R: Ring> {
    chains: Chains<R>,
    signals: Signals,
    /// Up to here chains went back to the driver.
    published: R::Position,
    /// The next chain to take; up to here used entries are written.
    next: R::Position,
    /// The command that was copied last.
    command: Vec<u8>,
}

impl<R: Ring> Control<R> {
    pub(crate) fn new(setup: &VringSetup) -> Result<Self, SetupError> {
        let chains = Chains::<R>::new(setup)?;
        let next = chains.ring.start(setup.base)?;
        let mut queue =
            Self { signals: Signals::new(), published: next, next, command: Vec::new(), chains };
        let _ = queue.enable_notifications();
        Ok(queue)
    }

    pub(crate) fn serve(
        &mut self,
        limit: usize,
        mut carry_out: impl FnMut(&[u8]) -> Acknowledgement,
    ) -> Result<usize, QueueFault> {
        for served in 0..limit {
            self.chains.check_alive()?;
            if self.chains.ring.available(self.published, self.next)? == 0
                || !self.copy_command()?
            {
                return Ok(served);
            }
            let Some((head, piece)) = self.find_place()? else { return Ok(served) };
            let answer = if self.command.len() > MAX_COMMAND_BYTES {
                Acknowledgement::Error
            } else {
                carry_out(&self.command)
            };
            self.write(piece, answer);
            self.chains.ring.set_used(self.next, head, 1);
            self.next = self.chains.ring.after(self.next, head);
        }
        Ok(limit)
    }

    /// Copies the next command, and of one that is too long a byte too many. False if there is none
    /// after all.
    fn copy_command(&mut self) -> Result<bool, QueueFault> {
        let command = &mut self.command;
        command.clear();
        let walked = self.chains.walk(
            self.published,
            self.next,
            Wanted::Readable,
            &mut |piece: Piece| {
                let start = command.len();
                let room_bytes = MAX_COMMAND_BYTES + 1 - start;
                let count = room_bytes.min(piece.length_bytes as usize);
                command.resize(start + count, 0);
                // SAFETY: the piece has `count` readable bytes, by `Translator::translate`, and
                // `resize` has made as many behind `start`; private memory does not overlap the
                // guest's.
                unsafe {
                    ptr::copy_nonoverlapping(
                        piece.host.0.cast_const(),
                        command[start..].as_mut_ptr(),
                        count,
                    );
                }
            },
        )?;
        Ok(walked.is_some())
    }

    /// Finds where the acknowledgement goes: into the first device-writable byte.
    fn find_place(&mut self) -> Result<Option<(R::Head, Piece)>, QueueFault> {
        let mut place = None;
        let walked =
            self.chains.walk(self.published, self.next, Wanted::Answer, &mut |piece: Piece| {
                place.get_or_insert(Piece { length_bytes: 1, ..piece });
            })?;
        let Some((head, _)) = walked else { return Ok(None) };
        place.map(|place| Some((head, place))).ok_or(QueueFault::NoAcknowledgement)
    }

    fn write(&self, place: Piece, answer: Acknowledgement) {
        // SAFETY: the piece is a byte of mapped guest memory by `Translator::translate`, and this queue
        // holds the map; there are no references to guest memory.
        let mut room = unsafe { Room::new(place.host.0, place.length_bytes) };
        room.write(&[answer.to_byte()]);
        self.chains.log_pieces(&[place], 1);
    }

    pub(crate) fn release(&mut self) -> bool {
        let before = std::mem::replace(&mut self.published, self.next);
        let is_awaited = self.signals.publish(&mut self.chains.ring, before, self.next);
        self.chains.log_used(before, self.next);
        is_awaited
    }

    pub(crate) fn enable_notifications(&mut self) -> bool {
        let is_there = self.signals.enable(&self.chains.ring, self.next);
        self.chains.log_events();
        is_there
    }

    pub(crate) fn set_log(&mut self, log: Option<Box<VringLog>>) {
        self.chains.set_log(log);
    }

    pub(crate) fn base(&self) -> u32 {
        self.next.base()
    }
}
