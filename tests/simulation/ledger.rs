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
}

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
    pub(super) given_up: BTreeSet<u64>,
}

impl Ledger {
    /// How many answers there were before it.
    pub(super) fn offers(&mut self, id: &str) -> u64 {
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
                let fine = before.as_ref().is_none_or(beside);
                assert!(fine, "DOUBLED: {id} was acknowledged ({before:?}), and is new as {sequence}");
            }
            Ok(Accepted::Duplicate) => {
                self.acknowledged.entry(id.to_owned()).or_insert(Acknowledged { sequence: None, at });
            }
            Err(_) => {}
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
            assert!(self.offered.contains(id), "{sink}: FORGED: nobody offered {id}");
            let before = *sequences.entry(id).or_insert(*sequence);
            assert_eq!(before, *sequence, "{sink}: DOUBLED: {id} came as two records");
            if *again {
                continue;
            }
            let count = copies.entry(*sequence).or_default();
            *count += 1;
            if *count == 1 && !broker.has_refused(*sequence) {
                let before = last.insert(sandbox, *sequence);
                assert!(
                    before < Some(*sequence),
                    "{sink}: OUT OF ORDER: {sequence} came behind {before:?} of {sandbox}"
                );
            }
        }
        let letters_of_all: BTreeSet<u64> = letters.waiting.keys().chain(&letters.given_up).copied().collect();
        for sequence in &letters_of_all {
            *copies.entry(*sequence).or_default() += 1;
        }
        for (sequence, copies) in copies {
            let most = 1 + broker.may_repeat(sequence);
            assert!(
                copies <= most,
                "{sink}: DOUBLED: {sequence} is there {copies} times, and {most} times at most: {}; given up {}, waiting {}",
                broker.story(sequence),
                letters.given_up.contains(&sequence),
                letters.waiting.contains_key(&sequence)
            );
        }
        let dead: BTreeMap<&str, u64> = letters.waiting.iter().map(|(sequence, id)| (id.as_str(), *sequence)).collect();
        for (id, Acknowledged { sequence, .. }) in &self.acknowledged {
            let there = sequences.get(id.as_str()).or(dead.get(id.as_str())).copied();
            let given_up = sequence.is_some_and(|sequence| letters.given_up.contains(&sequence));
            // One whose sequence nobody was told may be among those that were given up.
            let may_be = sequence.is_none() && !letters.given_up.is_empty();
            assert!(
                there.is_some() || given_up || may_be,
                "{sink}: LOST: {id} was acknowledged as {sequence:?}: {}",
                broker.story(sequence.unwrap_or(0))
            );
            if let (Some(there), Some(sequence)) = (there, sequence) {
                assert_eq!(there, *sequence, "{sink}: {id} was acknowledged as {sequence} and came as {there}");
            }
        }
    }
}
