//! The oracle: what was sent and how it was answered, held against what a sink got.
//!
//! It knows nothing of the relay but its promises: what was acknowledged is delivered, or among the dead letters, or still
//! pending; a sandbox's records come in the order in which they were sent; a record comes twice only where that is
//! allowed; one event is one record, with one sequence, and nothing comes that nobody sent.
#![cfg(test)]

mod tests;

use serde::Deserialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Most faults that a verdict spells out.
const MOST_FAULTS: usize = 20;

/// What became of an event at the relay's door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Answer {
    /// It must not come out: it was refused for what it is (a wrong signature, say).
    Rejected,
    /// It may come out: nobody answered, or 503 while it was on its way to the disk.
    Unknown,
    /// It must come out: answered 200, or owed by another road.
    Acknowledged,
}

/// What was sent, per sandbox in the order in which it first was, and how it was answered.
///
/// Whoever sends fills it in: `load` by what it was answered, others by what they emitted.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    answers: HashMap<String, Answer>,
    order: BTreeMap<String, Vec<String>>,
}

impl Ledger {
    /// Notes an answer; of several to one event the best one counts.
    pub(crate) fn note(&mut self, sandbox: &str, id: &str, answer: Answer) {
        match self.answers.get_mut(id) {
            Some(noted) => *noted = answer.max(*noted),
            None => {
                self.answers.insert(id.to_owned(), answer);
                self.order.entry(sandbox.to_owned()).or_default().push(id.to_owned());
            }
        }
    }

    /// Adds what was sent later.
    pub(crate) fn extend(&mut self, later: Self) {
        for (sandbox, ids) in later.order {
            ids.iter().for_each(|id| self.note(&sandbox, id, later.answers[id]));
        }
    }

    /// How many events must come out.
    pub(crate) fn acknowledged(&self) -> usize {
        self.answers.values().filter(|answer| **answer == Answer::Acknowledged).count()
    }

    /// Per sandbox the events that may come out, as they were sent.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.order.iter().map(|(sandbox, ids)| (sandbox.as_str(), ids.as_slice()))
    }
}

/// One copy of a record, as far as the oracle looks at it.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Got {
    pub(crate) id: String,
    pub(crate) sandbox_id: String,
    pub(crate) relay: Stamp,
}

/// What the relay adds to a record.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Stamp {
    pub(crate) sequence: u64,
}

/// Ids that a stopped daemon's store still has for a sink.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    pub(crate) dead_lettered: HashSet<String>,
    pub(crate) pending: HashSet<String>,
}

/// What is allowed to a sink beyond each record once and in order.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Terms {
    /// So many copies beyond the first: no more than was in flight at each kill and each lost confirmation.
    pub(crate) repeats: usize,
    /// Sandboxes need not be in order: their events came by several roads.
    pub(crate) unordered: bool,
}

/// What one sink made of it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) sink: String,
    pub(crate) acknowledged: usize,
    /// Different records.
    pub(crate) delivered: usize,
    pub(crate) dead_lettered: usize,
    pub(crate) pending: usize,
    /// Acknowledged, and nowhere.
    pub(crate) lost: usize,
    /// Copies beyond the first.
    pub(crate) doubled: usize,
    /// Delivered, though nobody was told so.
    pub(crate) unacknowledged: usize,
    /// What breaks the promise, the first of it in words.
    pub(crate) faults: Vec<String>,
}

impl Verdict {
    /// Fails the test unless the promise is kept.
    pub(crate) fn assert_kept(&self) {
        assert!(self.faults.is_empty(), "{}: the promise is broken: {self:#?}", self.sink);
    }

    fn fault(&mut self, fault: impl FnOnce() -> String) {
        if self.faults.len() < MOST_FAULTS {
            self.faults.push(fault());
        }
    }
}

/// Holds what a sink got to the ledger.
pub(crate) fn judge(sink: &str, got: &[Got], remains: &Remains, ledger: &Ledger, terms: Terms) -> Verdict {
    let mut verdict = Verdict {
        sink: sink.to_owned(),
        acknowledged: ledger.acknowledged(),
        dead_lettered: remains.dead_lettered.len(),
        pending: remains.pending.len(),
        ..Verdict::default()
    };
    let sequences = judge_copies(&mut verdict, got, ledger, terms);
    for id in remains.dead_lettered.iter().chain(&remains.pending) {
        judge_origin(&mut verdict, id, ledger);
    }
    let mut in_order: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut seen = HashSet::new();
    for copy in got.iter().filter(|copy| ledger.answers.contains_key(&copy.id) && seen.insert(copy.id.as_str())) {
        in_order.entry(&copy.sandbox_id).or_default().push(&copy.id);
    }
    for (sandbox, sent) in ledger.sandboxes() {
        let there: Vec<&str> = sent.iter().map(String::as_str).filter(|id| sequences.contains_key(id)).collect();
        let came = in_order.remove(sandbox).unwrap_or_default();
        if !terms.unordered && came != there {
            let at = there.iter().zip(&came).take_while(|(sent, came)| sent == came).count();
            let (sent, came) = (there.get(at), came.get(at));
            verdict.fault(|| format!("{sandbox} is out of order: its record {at} is {came:?}, and {sent:?} was sent"));
        }
        for id in sent {
            let stays = remains.dead_lettered.contains(id) || remains.pending.contains(id);
            if ledger.answers[id] == Answer::Acknowledged && !sequences.contains_key(id.as_str()) && !stays {
                verdict.lost += 1;
                verdict.fault(|| format!("{id} of {sandbox} was acknowledged and is lost"));
            }
        }
    }
    verdict
}

/// Each copy by itself; returns the sequence of each id that came.
fn judge_copies<'a>(verdict: &mut Verdict, got: &'a [Got], ledger: &Ledger, terms: Terms) -> HashMap<&'a str, u64> {
    let mut sequences: HashMap<&str, u64> = HashMap::new();
    let mut ids: HashMap<u64, &str> = HashMap::new();
    for copy in got {
        let (id, sequence) = (copy.id.as_str(), copy.relay.sequence);
        match sequences.insert(id, sequence) {
            None => {
                verdict.unacknowledged += usize::from(ledger.answers.get(id) == Some(&Answer::Unknown));
                judge_origin(verdict, id, ledger);
            }
            Some(before) => {
                verdict.doubled += 1;
                if before != sequence {
                    verdict.fault(|| format!("{id} was accepted twice, as {before} and as {sequence}"));
                }
            }
        }
        if let Some(other) = ids.insert(sequence, id).filter(|other| *other != id) {
            verdict.fault(|| format!("sequence {sequence} was given to {other} and to {id}"));
        }
    }
    verdict.delivered = sequences.len();
    if verdict.doubled > terms.repeats {
        let doubled = verdict.doubled;
        verdict.fault(|| format!("{doubled} copies too many, where {} may come", terms.repeats));
    }
    sequences
}

/// Whether it may be there at all.
fn judge_origin(verdict: &mut Verdict, id: &str, ledger: &Ledger) {
    match ledger.answers.get(id) {
        Some(Answer::Acknowledged | Answer::Unknown) => {}
        Some(Answer::Rejected) => verdict.fault(|| format!("{id} was rejected and is there")),
        None => verdict.fault(|| format!("{id} is there, and nobody sent it")),
    }
}
