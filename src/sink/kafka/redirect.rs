//! Records whose own topic does not exist, on their way to the fallback topic.
//!
//! librdkafka says of some that their topic is missing when they are handed over, of others later, by a report. One that
//! is known at once must not overtake those of its topic that are still to be reported, or a sandbox's order would be
//! lost in the fallback topic: so the unreported ones are counted, by topic.

use super::producer::Handover;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared by the thread that hands over and the one that serves reports.
#[derive(Debug)]
pub(super) struct Redirect {
    /// Where they go instead.
    pub(super) topic: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How many records of each topic are neither reported nor on their way to the fallback topic; none is zero.
    unreported: HashMap<String, usize>,
    /// Reported, to be sent to the fallback topic in this order.
    waiting: VecDeque<Box<Handover>>,
}

impl Redirect {
    pub(super) fn new(topic: String) -> Self {
        Self { topic, state: Mutex::default() }
    }

    /// A record is about to be handed over.
    pub(super) fn enter(&self, topic: &str) {
        let mut state = self.lock();
        match state.unreported.get_mut(topic) {
            Some(count) => *count += 1,
            None => drop(state.unreported.insert(topic.to_owned(), 1)),
        }
    }

    /// A record was confirmed or failed, or is in the fallback topic's queue. Says whether it was its topic's last.
    pub(super) fn leave(&self, topic: &str) -> bool {
        let mut state = self.lock();
        match state.unreported.get_mut(topic) {
            Some(count) if *count > 1 => {
                *count -= 1;
                false
            }
            Some(_) | None => {
                state.unreported.remove(topic);
                true
            }
        }
    }

    pub(super) fn push(&self, handover: Box<Handover>) {
        self.lock().waiting.push_back(handover);
    }

    pub(super) fn pop(&self) -> Option<Box<Handover>> {
        self.lock().waiting.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_a_topic_is_known_as_such() {
        let redirect = Redirect::new("fallback".to_owned());
        for topic in ["a", "a", "b"] {
            redirect.enter(topic);
        }
        assert!(!redirect.leave("a") && redirect.leave("b") && redirect.leave("a"));
        assert!(redirect.lock().unreported.is_empty());
    }
}
