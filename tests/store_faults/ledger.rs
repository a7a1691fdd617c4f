//! What the store was asked and what it answered, over all its lives; and whether what it holds agrees.

use crate::support::stored::{Store, events_after};
use bytes::Bytes;
use e2b_relay::event::{Arrival, Event, Origin, Stored, Timestamp};
use e2b_relay::store::{Accepted, Limits, Ordinals, Record, Refused};
use fastrand::Rng;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};

pub(crate) const SINK: &str = "lake";
pub(crate) const NOON: &str = "2026-03-10T12:00:00Z";

/// The event of a number, the same each time it is offered: most are small, a few fill a segment soon.
pub(crate) fn event(number: u64) -> Event {
    let mut hasher = DefaultHasher::new();
    number.hash(&mut hasher);
    let mut rng = Rng::with_seed(hasher.finish());
    let length = match rng.u8(0..20) {
        0 => rng.usize(100_000..400_000),
        1..5 => rng.usize(5_000..40_000),
        _ => rng.usize(2..600),
    };
    let day = if rng.u8(0..4) == 0 { "2026-03-09" } else { "2026-03-10" };
    Event {
        id: format!("event-{number}"),
        kind: "sandbox.lifecycle.updated".to_owned(),
        timestamp: Timestamp::parse(&format!("{day}T11:00:00Z")).unwrap(),
        sandbox_id: format!("sandbox-{}", number % 5),
        body: Bytes::from(vec![rng.u8(b'a'..=b'z'); length]),
    }
}

fn number(id: &str) -> u64 {
    id.strip_prefix("event-").and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("never offered: {id}"))
}

pub(crate) async fn offer(store: &Store, number: u64) -> Result<Accepted, Refused> {
    let received_at = NOON.parse().unwrap();
    let origin = if number.is_multiple_of(3) { Origin::Backfill } else { Origin::Webhook };
    let arrival = Arrival { source: "acme".into(), origin, received_at, webhook_id: None, delivery_id: None };
    store.accept(event(number), arrival).await
}

#[derive(Default)]
pub(crate) struct Ledger {
    pub next: u64,
    /// Answered with a 200, and under which sequence if it was new.
    acknowledged: BTreeMap<u64, Option<u64>>,
    /// Every sequence that anybody was told of or has read.
    sequences: HashMap<u64, u64>,
    /// What a sink has read, so that it may have sent it.
    read: BTreeSet<u64>,
    /// Up to here the sink is settled: segments may go.
    pub settled: u64,
    /// Parked with success, by sequence.
    parked: BTreeSet<u64>,
    /// An operator asked for their end, whatever was answered.
    resolved: BTreeSet<u64>,
    /// Refused since the store was opened: none of it may be read before the store is opened again.
    pub not_there: BTreeSet<u64>,
    pub new: u64,
    pub duplicates: u64,
    pub refused: u64,
    /// Readable under two sequences; the second was never acknowledged as new.
    pub twice: u64,
}

impl Ledger {
    pub(crate) async fn offer(&mut self, store: &Store, numbers: &[u64]) {
        let answers = futures_util::future::join_all(numbers.iter().map(|number| offer(store, *number))).await;
        for (number, answer) in numbers.iter().zip(answers) {
            match answer {
                Ok(Accepted::New { sequence }) => {
                    self.new += 1;
                    let before = self.acknowledged.insert(*number, Some(sequence));
                    assert_eq!(before, None, "{number} was acknowledged before, and is new again as {sequence}");
                    self.note_sequence(sequence, *number);
                }
                Ok(Accepted::Duplicate) => {
                    self.duplicates += 1;
                    self.acknowledged.entry(*number).or_insert(None);
                }
                Err(refused) => {
                    self.refused += 1;
                    // Without its index nobody can say whether it is known.
                    if !refused.to_string().contains("the index of known ids cannot be opened") {
                        self.not_there.insert(*number);
                    }
                    continue;
                }
            }
            self.not_there.remove(number);
        }
    }

    /// `count` events, about half of which were offered before.
    pub(crate) fn pick(&mut self, rng: &mut Rng, count: usize) -> Vec<u64> {
        (0..count)
            .map(|_| {
                if self.next > 0 && rng.bool() {
                    return rng.u64(self.next.saturating_sub(60)..self.next);
                }
                self.next += 1;
                self.next - 1
            })
            .collect()
    }

    /// What a sink does: reads a part of what comes after its position, from memory where it is there, or from the disk.
    pub(crate) fn read(&mut self, store: &Store, rng: &mut Rng) -> Vec<Record> {
        let progress = store.progress(SINK);
        let limits = Limits { events: rng.usize(1..200), bytes: 4 << 20 };
        let batch = if rng.bool() {
            store.reader().read_after(progress.position, limits)
        } else {
            store.tail_reader().read_after(progress.position, limits)
        };
        let Ok(batch) = batch else { return Vec::new() };
        self.check_joins(progress.ordinals, &batch.records);
        for record in &batch.records {
            let stored = &*record.stored;
            self.note(stored);
            let number = number(&stored.event.id);
            assert!(!self.not_there.contains(&number), "{number} was refused, and a sink gets it");
            self.read.insert(stored.sequence);
        }
        batch.records
    }

    /// Nothing lies between two records, whatever became of the sequences between them.
    fn check_joins(&self, mut ordinals: Ordinals, records: &[Record]) {
        for record in records {
            let last = std::mem::replace(ordinals.of_mut(record.log), record.ordinal);
            assert_eq!(record.ordinal, last + 1, "a hole before sequence {}", record.stored.sequence);
        }
    }

    pub(crate) fn note_parked(&mut self, letters: &[Record]) {
        self.parked.extend(letters.iter().map(|record| record.stored.sequence));
    }

    /// One that was parked, of which the operator now wants to be rid.
    pub(crate) fn resolve_one(&mut self, rng: &mut Rng) -> Option<u64> {
        let candidates: Vec<u64> = self.parked.difference(&self.resolved).copied().collect();
        let sequence = rng.choice(candidates)?;
        self.resolved.insert(sequence);
        Some(sequence)
    }

    fn note(&mut self, stored: &Stored) {
        let number = number(&stored.event.id);
        assert!(number < self.next, "{number} was never offered");
        assert!(stored.event == event(number), "{number} has changed");
        self.note_sequence(stored.sequence, number);
    }

    fn note_sequence(&mut self, sequence: u64, number: u64) {
        let before = self.sequences.insert(sequence, number);
        assert!(before.is_none_or(|before| before == number), "sequence {sequence} is {before:?} and {number}");
    }

    /// Everything that was promised is there.
    pub(crate) fn check(&mut self, store: &Store) {
        let position = store.progress(SINK).position;
        assert!(position <= self.settled, "the sink begins at {position}, and settled {}", self.settled);
        let mut there: BTreeMap<u64, u64> = BTreeMap::new();
        let mut readable: BTreeSet<u64> = BTreeSet::new();
        for stored in events_after(store, 0) {
            self.note(&stored);
            let last = there.last_key_value().map_or(0, |(sequence, _)| *sequence);
            assert!(stored.sequence > last, "{} is read after {last}", stored.sequence);
            let number = number(&stored.event.id);
            there.insert(stored.sequence, number);
            self.twice += u64::from(!readable.insert(number));
        }
        assert_eq!(store.damaged_spans().borrow().as_slice(), [], "nothing was damaged");
        let mut settled: BTreeSet<u64> = BTreeSet::new();
        settled.extend(self.sequences.iter().filter(|(sequence, _)| **sequence <= self.settled).map(|(_, id)| *id));
        for (number, sequence) in &self.acknowledged {
            let kept = match sequence {
                Some(sequence) => *sequence <= self.settled || there.contains_key(sequence),
                None => settled.contains(number) || readable.contains(number),
            };
            assert!(kept, "LOST: {number} was acknowledged as {sequence:?}");
        }
        for sequence in self.read.iter().filter(|sequence| **sequence > self.settled) {
            assert!(there.contains_key(sequence), "{sequence} was read by a sink and is gone");
        }
        let letters: BTreeSet<u64> = store.dead_letters(SINK).into_iter().map(|(sequence, _)| sequence).collect();
        for sequence in self.parked.difference(&self.resolved) {
            assert!(letters.contains(sequence), "dead letter {sequence} is gone");
            let letter = store.dead_letter_event(SINK, *sequence).unwrap();
            let letter = letter.unwrap_or_else(|| panic!("dead letter {sequence} cannot be read"));
            assert_eq!(number(&letter.event.id), self.sequences[sequence]);
        }
    }

    /// Whatever was acknowledged is still known.
    pub(crate) async fn check_known(&mut self, store: &Store, rng: &mut Rng, most: usize) {
        let mut numbers: Vec<u64> = self.acknowledged.keys().copied().collect();
        rng.shuffle(&mut numbers);
        numbers.truncate(most);
        let answers = futures_util::future::join_all(numbers.iter().map(|number| offer(store, *number))).await;
        for (number, answer) in numbers.iter().zip(answers) {
            assert_eq!(answer, Ok(Accepted::Duplicate), "{number} was acknowledged");
        }
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.len()
    }
}
