//! What an ingress queue has lent to other threads: plain integers, counted by its owner alone.
//!
//! A frame lent to several threads (a flood) is one loan with several hand-backs to come. Credits
//! are per borrowing thread and at most a quarter of the ring, so one slow thread can hold up
//! at most a quarter of a guest's buffers.

use crate::steering::MAX_OWNERS;

#[derive(Debug, Clone, Copy, Default)]
struct Loan {
    /// The queue's own name of the buffer.
    token: u64,
    /// Hand-backs to come.
    outstanding: u8,
}

/// The loans of one ingress queue.
#[derive(Debug, Default)]
pub(crate) struct Loans {
    loans: Vec<Loan>,
    free: Vec<u32>,
    /// Loans that each thread may still take.
    credits: [u32; MAX_OWNERS],
}

impl Loans {
    /// Starts anew for a ring of so many buffers and so many borrowing threads.
    pub(crate) fn reset(&mut self, buffers: usize, borrowers: usize) {
        let credits = u32::try_from((buffers / 4).max(1)).unwrap_or(u32::MAX);
        let most = u32::try_from(borrowers).unwrap_or(u32::MAX).saturating_mul(credits);
        self.loans = vec![Loan::default(); most as usize];
        self.free = (0..most).collect();
        self.credits = [credits; MAX_OWNERS];
    }

    /// Says whether a frame may be lent to this thread.
    pub(crate) fn has_credit(&self, thread: usize) -> bool {
        self.credits[thread] > 0 && !self.free.is_empty()
    }

    /// How many frames may be lent to this thread.
    pub(crate) fn credits_left(&self, thread: usize) -> usize {
        self.credits.get(thread).copied().unwrap_or_default() as usize
    }

    /// Opens a loan for the buffer of this token. `None` if there are too many: see
    /// [`has_credit`](Self::has_credit).
    pub(crate) fn open(&mut self, token: u64) -> Option<u32> {
        let number = self.free.pop()?;
        self.loans[number as usize] = Loan { token, outstanding: 0 };
        Some(number)
    }

    /// Notes that the loan went to this thread.
    pub(crate) fn lend(&mut self, number: u32, thread: usize) {
        self.credits[thread] -= 1;
        self.loans[number as usize].outstanding += 1;
    }

    /// Notes that this thread handed the loan back. Returns the buffer's token once nobody has it.
    pub(crate) fn settle(&mut self, number: u32, thread: usize) -> Option<u64> {
        let loan = self.loans.get_mut(number as usize).filter(|loan| loan.outstanding > 0)?;
        self.credits[thread] += 1;
        loan.outstanding -= 1;
        let token = loan.token;
        let is_over = loan.outstanding == 0;
        if is_over {
            self.free.push(number);
        }
        is_over.then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thread_gets_a_quarter_of_the_ring_and_no_more() {
        let mut loans = Loans::default();
        loans.reset(8, 2);
        for token in 0..2 {
            let number = loans.open(token).unwrap();
            loans.lend(number, 1);
        }

        assert!(!loans.has_credit(1));
        assert!(loans.has_credit(2));
    }

    #[test]
    fn buffer_comes_back_when_the_last_borrower_hands_it_back() {
        let mut loans = Loans::default();
        loans.reset(8, 2);
        let number = loans.open(77).unwrap();
        loans.lend(number, 1);
        loans.lend(number, 2);

        assert_eq!(loans.settle(number, 2), None);
        assert_eq!(loans.settle(number, 1), Some(77));
        assert_eq!(loans.settle(number, 1), None);
    }

    #[test]
    fn credits_left_are_told_for_each_thread() {
        let mut loans = Loans::default();
        loans.reset(8, 2);

        let number = loans.open(77).unwrap();
        loans.lend(number, 1);
        assert_eq!((loans.credits_left(1), loans.credits_left(2)), (1, 2));
        loans.settle(number, 1);

        assert_eq!(loans.credits_left(1), 2);
    }

    #[test]
    fn single_thread_lends_nothing() {
        let mut loans = Loans::default();
        loans.reset(256, 0);

        assert!(!loans.has_credit(0));
        assert_eq!(loans.open(1), None);
    }
}
