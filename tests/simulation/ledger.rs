//! What was offered and how it was answered; and whether each sink has it. It knows nothing of the core but its promises.

use super::broker::{Broker, Taken};
use e2b_relay::store::{Accepted, Refused};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) next: u64,
    /// Whatever was offered: it may come out.
    offered: BTreeSet<String>,
    /// It must come out; by its sequence, where that was told.
    acknowledged: BTreeMap<String, Acknowledged>,
    /// Answers so far.
    answers: u64,
    /// When it was received, each time that it was offered.
    received: BTreeMap<String, Vec<jiff::Timestamp>>,
    /// The medium loses what was written to it: what is acknowledged may be gone, and then it is fetched again, accepted
    /// again, or told to be gone.
    pub(super) rots: bool,
    /// Of times within these it was told that something may be gone.
    pub(super) gaps: Vec<(jiff::Timestamp, jiff::Timestamp)>,
}

/// `sandbox_id` of what the relay itself tells.
const RELAY: &str = "relay";

#[derive(Debug)]
struct Acknowledged {
    sequence: Option<u64>,
    /// Which answer said so first.
    at: u64,
}

/// What a sink's dead letters are, and what its operator gave up.
#[derive(Default)]
pub(super) struct Letters {
    pub(super) waiting: BTreeMap<u64, String>,
    pub(super) given_up: BTreeMap<u64, String>,
    /// So many are told to be lost.
    pub(super) lost: u64,
    /// What is written of them rots.
    pub(super) rot: bool,
    /// It was not among the sinks for a while.
    pub(super) was_away: bool,
}

impl Ledger {
    pub(super) fn new(rots: bool) -> Self {
        Self { rots, ..Self::default() }
    }

    /// How many answers there were before it.
    pub(super) fn offers(&mut self, id: &str, received: Option<jiff::Timestamp>) -> u64 {
        self.received.entry(id.to_owned()).or_default().extend(received);
        self.offered.insert(id.to_owned());
        self.answers
    }

    /// `asked`: when it was offered, by what [`Self::offers`] said.
    pub(super) fn answered(&mut self, id: &str, asked: u64, answer: &Result<Accepted, Refused>) {
        self.answers += 1;
        let at = self.answers;
        match answer {
            Ok(Accepted::New { sequence }) => {
                let before = self.acknowledged.insert(id.to_owned(), Acknowledged { sequence: Some(*sequence), at });
                // A repeat that was under way beside it may have its answer first.
                let beside = |before: &Acknowledged| before.sequence.is_none() && before.at > asked;
                let fine = self.rots || before.as_ref().is_none_or(beside);
                assert!(fine, "DOUBLED: {id} was acknowledged ({before:?}), and is new as {sequence}");
            }
            Ok(Accepted::Duplicate) => {
                self.acknowledged.entry(id.to_owned()).or_insert(Acknowledged { sequence: None, at });
            }
            Err(_) => {}
        }
    }

    /// What came behind the end of the log is gone, and nothing can know of it.
    pub(super) fn ends_at(&mut self, end: u64) {
        let known = self.acknowledged.values().filter_map(|known| known.sequence).max().unwrap_or(0);
        if self.rots && end < known {
            self.acknowledged.retain(|_, known| known.sequence.is_some_and(|sequence| sequence <= end));
        }
    }

    fn is_told_to_be_gone(&self, id: &str) -> bool {
        let mut received = self.received.get(id).into_iter().flatten();
        // When it was fetched, if that came first, nobody has written down.
        let may_be_fetched = self.acknowledged.get(id).is_some_and(|known| known.sequence.is_none());
        let is_in = |at, (from, to)| (may_be_fetched || from <= at) && at <= to;
        received.any(|at| self.gaps.iter().any(|(from, to)| is_in(at, (from, to))))
    }

    /// The provider tells of them as long as it is asked: they must come out, however they came in.
    pub(super) fn are_listed(&mut self, ids: Vec<String>) {
        for id in ids {
            let at = self.answers;
            self.acknowledged.entry(id).or_insert(Acknowledged { sequence: None, at });
        }
    }

    pub(super) fn was_offered(&self, id: &str) -> bool {
        self.offered.contains(id)
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }

    /// The promise to one sink: everything once, in order per sandbox, and nothing else.
    pub(super) fn judge(&self, sink: &str, broker: &Broker, letters: &Letters) {
        let log = broker.log();
        let mut sequences: BTreeMap<&str, u64> = BTreeMap::new();
        let mut copies: BTreeMap<u64, usize> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for Taken { id, sandbox, sequence, again } in &log {
            let is_own = self.rots && sandbox == RELAY;
            assert!(is_own || self.offered.contains(id), "{sink}: FORGED: nobody offered {id}");
            let before = *sequences.entry(id).or_insert(*sequence);
            // What a sink took without being known to have it comes again, as another record where that one is gone.
            let is_replaced = self.rots && (*again || broker.may_repeat(before) > 0);
            let stories = (broker.story(before), broker.story(*sequence));
            assert!(
                before == *sequence || is_replaced,
                "{sink}: DOUBLED: {id} came as {before} and {sequence}: {stories:?}"
            );
            if *again {
                continue;
            }
            let count = copies.entry(*sequence).or_default();
            *count += 1;
            if *count == 1 && !broker.has_refused(*sequence) {
                let before = last.insert(sandbox, *sequence);
                // What began anew gets what it had before, and then all of it.
                let is_anew = self.rots && letters.was_away;
                assert!(
                    before < Some(*sequence) || is_anew,
                    "{sink}: OUT OF ORDER: {sequence} ({}) came behind {before:?} ({}) of {sandbox}",
                    broker.story(*sequence),
                    broker.story(before.unwrap_or(0)),
                );
            }
        }
        // One that was lost before its sink's position had moved past it was sent again, whatever became of it.
        let given_up = letters.given_up.keys().filter(|_| !letters.rot);
        let letters_of_all: BTreeSet<u64> = letters.waiting.keys().chain(given_up).copied().collect();
        for sequence in &letters_of_all {
            *copies.entry(*sequence).or_default() += 1;
        }
        for (sequence, copies) in copies {
            let most = 1 + broker.may_repeat(sequence);
            assert!(
                copies <= most,
                "{sink}: DOUBLED: {sequence} is there {copies} times, and {most} times at most: {}; given up {}, waiting {}",
                broker.story(sequence),
                letters.given_up.contains_key(&sequence),
                letters.waiting.contains_key(&sequence)
            );
        }
        let dead = letters.waiting.iter().chain(&letters.given_up);
        let dead: BTreeMap<&str, u64> = dead.map(|(sequence, id)| (id.as_str(), *sequence)).collect();
        let mut lost = letters.lost;
        for (id, Acknowledged { sequence, .. }) in &self.acknowledged {
            let there = sequences.get(id.as_str()).or(dead.get(id.as_str())).copied();
            if there.is_none() && lost > 0 {
                lost -= 1;
                continue;
            }
            assert!(
                there.is_some() || (self.rots && (letters.was_away || self.is_told_to_be_gone(id))),
                "{sink}: LOST: {id} was acknowledged as {sequence:?}: {}; received {:?}, gaps {:?}",
                broker.story(sequence.unwrap_or(0)),
                self.received.get(id),
                self.gaps
            );
            if let (Some(there), Some(sequence), false) = (there, sequence, self.rots) {
                assert_eq!(there, *sequence, "{sink}: {id} was acknowledged as {sequence} and came as {there}");
            }
        }
    }
}
