//! Which of the stream's `duplicate` answers are news.
//!
//! One to a record whose earlier attempt ended without an answer is what deduplication is for. One to a record that was
//! sent for the first time means that the stream had its id from somebody else, and that this record is not in it.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sequences that are kept until somebody asks for them; of more than that nobody learns the number.
const MOST: usize = 65_536;

/// Shared by the worker, which learns of them, and the sink, which is asked.
#[derive(Default)]
pub(super) struct Doubts(Mutex<State>);

#[derive(Default)]
struct State {
    /// Sent, and not answered: it may be in the stream. As many as `deliver` hands over, since each of them comes again.
    unanswered: HashSet<u64>,
    swallowed: Vec<u64>,
}

impl Doubts {
    /// An attempt ended without an answer.
    pub(super) fn unanswered(&self, sequence: u64) {
        self.lock().unanswered.insert(sequence);
    }

    /// An attempt was answered.
    pub(super) fn answered(&self, sequence: u64, as_duplicate: bool) {
        let mut state = self.lock();
        let is_repetition = state.unanswered.remove(&sequence);
        if as_duplicate && !is_repetition && state.swallowed.len() < MOST {
            state.swallowed.push(sequence);
        }
    }

    /// See [`crate::sink::Sink::swallowed`].
    pub(super) fn swallowed(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().swallowed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_duplicate_of_what_was_never_sent_before_is_news_and_told_once() {
        let doubts = Doubts::default();
        doubts.answered(1, false);
        doubts.answered(2, true);
        doubts.unanswered(3);
        doubts.answered(3, true);
        assert_eq!(doubts.swallowed(), [2]);
        // The doubt about 3 is settled, so a further answer is one to a new attempt.
        doubts.answered(3, true);
        assert_eq!(doubts.swallowed(), [3]);
        assert!(doubts.swallowed().is_empty());
    }
}
