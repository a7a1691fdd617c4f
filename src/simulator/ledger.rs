//! What the simulator said, and what became of it: the other side of every claim about what the relay holds.

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One event that was made.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The event's id, where the body holds one.
    pub id: Option<String>,
    /// Its type.
    pub kind: String,
    /// Whose life it tells of.
    pub sandbox_id: String,
    /// As it is sent, every time.
    pub body: Bytes,
    /// Whether the events API lists it, now or later.
    pub listed: bool,
    /// What became of it.
    pub fate: Fate,
}

/// What became of an event's delivery.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Under way, or cut off by the simulator's end.
    Underway,
    /// Never sent, on purpose.
    Withheld,
    /// Never sent, since nobody was registered for it.
    Unaddressed,
    /// Signed with another secret, on purpose, and sent once; with the answer's status, if there was one.
    Forged(Option<u16>),
    /// Answered 2xx, as often as told; more than once only on purpose.
    Delivered {
        /// How many deliveries of the event were answered 2xx.
        times: u32,
        /// All attempts, those that failed included.
        attempts: u32,
    },
    /// Every attempt failed.
    GivenUp {
        /// All attempts.
        attempts: u32,
        /// What the last one met.
        problem: String,
    },
}

/// Counts of a ledger.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Summary {
    /// Events made.
    pub made: u64,
    /// Events with at least one 2xx.
    pub delivered: u64,
    /// Further deliveries of those, on purpose.
    pub repeated: u64,
    /// Events not sent, on purpose.
    pub withheld: u64,
    /// Events not sent, for want of a registration.
    pub unaddressed: u64,
    /// Events sent with a wrong signature, on purpose.
    pub forged: u64,
    /// Events whose attempts all failed.
    pub given_up: u64,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} events made, {} delivered", self.made, self.delivered)?;
        // Of the rest only what there was.
        let rest = [
            (self.repeated, "delivered again"),
            (self.withheld, "withheld"),
            (self.forged, "forged"),
            (self.given_up, "given up"),
        ];
        rest.iter().filter(|(count, _)| *count > 0).try_for_each(|(count, fate)| write!(f, ", {count} {fate}"))
    }
}

/// Shared by whoever makes events and whoever looks. Keeps the first `capacity` entries and counts all.
#[derive(Debug, Clone)]
pub struct Ledger(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    capacity: usize,
    entries: Vec<Entry>,
    summary: Summary,
}

/// Names an entry until its fate is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place(usize);

impl Ledger {
    /// Keeps at most `capacity` entries.
    pub fn new(capacity: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { capacity, entries: Vec::new(), summary: Summary::default() })))
    }

    /// A copy of the entries kept, in the order in which the events were made.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }

    /// The counts, of all events ever made.
    pub fn summary(&self) -> Summary {
        self.lock().summary
    }

    pub(super) fn made(&self, entry: Entry) -> Place {
        let mut inner = self.lock();
        inner.summary.made += 1;
        let place = Place(inner.entries.len());
        if place.0 < inner.capacity {
            inner.entries.push(entry);
            place
        } else {
            Place(usize::MAX)
        }
    }

    pub(super) fn settle(&self, place: Place, fate: Fate) {
        let mut inner = self.lock();
        let summary = &mut inner.summary;
        match &fate {
            Fate::Underway => {}
            Fate::Withheld => summary.withheld += 1,
            Fate::Unaddressed => summary.unaddressed += 1,
            Fate::Forged(_) => summary.forged += 1,
            Fate::Delivered { times, .. } => {
                summary.delivered += 1;
                summary.repeated += u64::from(times.saturating_sub(1));
            }
            Fate::GivenUp { .. } => summary.given_up += 1,
        }
        if let Some(entry) = inner.entries.get_mut(place.0) {
            entry.fate = fate;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change leaves the ledger whole, so one that panicked elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ledger_goes_on_counting() {
        let ledger = Ledger::new(1);
        for id in ["a", "b"] {
            let place = ledger.made(Entry {
                id: Some(id.to_owned()),
                kind: "t".to_owned(),
                sandbox_id: "s".to_owned(),
                body: Bytes::new(),
                listed: false,
                fate: Fate::Underway,
            });
            ledger.settle(place, Fate::Delivered { times: 2, attempts: 3 });
        }
        assert_eq!(ledger.summary(), Summary { made: 2, delivered: 2, repeated: 2, ..Summary::default() });
        let entries = ledger.entries();
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].fate, Fate::Delivered { times: 2, attempts: 3 });
    }
}
