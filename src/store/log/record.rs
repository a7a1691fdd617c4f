//! What is read from the log: records with their places, and how far a reading went.

use crate::event::Stored;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Which of the two logs. They share their sequences, and each counts its own records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogKind {
    /// The journal.
    Events,
    /// Samples of metrics.
    Samples,
}

impl LogKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Events, Self::Samples];

    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Events => "events",
            Self::Samples => "samples",
        }
    }

    /// The number in each segment's header.
    pub(in crate::store) fn code(self) -> u32 {
        match self {
            Self::Events => 1,
            Self::Samples => 2,
        }
    }
}

/// How many records of each log there are up to some place. A sequence may belong to no record, since one whose write failed
/// is not used again; an ordinal never: so whoever reads can prove that nothing lies between two records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordinals {
    /// Of the journal.
    pub events: u64,
    /// Of the samples.
    pub samples: u64,
}

impl Ordinals {
    /// Those of one log.
    pub fn of(self, log: LogKind) -> u64 {
        match log {
            LogKind::Events => self.events,
            LogKind::Samples => self.samples,
        }
    }

    /// The place of those of one log.
    pub fn of_mut(&mut self, log: LogKind) -> &mut u64 {
        match log {
            LogKind::Events => &mut self.events,
            LogKind::Samples => &mut self.samples,
        }
    }

    /// Of both logs.
    pub fn sum(self) -> u64 {
        self.events + self.samples
    }
}

/// The end of what is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// The highest sequence.
    pub sequence: u64,
    /// The records up to there.
    pub ordinals: Ordinals,
}

/// An event with its place in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The event.
    pub stored: Arc<Stored>,
    /// Which log it lies in.
    pub log: LogKind,
    /// It is the so manieth of that log, since the store was made; the first is 1.
    pub ordinal: u64,
    /// The sequence under which the same event was accepted before, where that record was damaged and is gone.
    pub replaces: Option<u64>,
}

/// Most that one reading takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Records.
    pub events: usize,
    /// Bytes of bodies, about.
    pub bytes: usize,
}

/// Some records, and the span that they cover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Everything that was asked for up to [`Self::through`], by sequence.
    pub records: Vec<Record>,
    /// The next reading goes on behind this sequence.
    pub through: u64,
    /// How many records each log has up to there, by its own count and not by what was read; known only where the reading
    /// came to the log's end.
    pub ordinals: Option<Ordinals>,
}

impl Batch {
    /// Only the events, for those who need not prove anything.
    pub fn into_events(self) -> impl Iterator<Item = Stored> {
        self.records.into_iter().map(|record| Arc::unwrap_or_clone(record.stored))
    }

    /// `records` behind the sequence `after`, of a log that ends with `end`. `complete` says that there are no more.
    pub(in crate::store) fn new(records: Vec<Record>, after: u64, end: End, complete: bool) -> Self {
        let last = records.last().map_or(after, |record| record.stored.sequence);
        if complete {
            Self { records, through: last.max(end.sequence), ordinals: (end.sequence >= last).then_some(end.ordinals) }
        } else {
            Self { records, through: last, ordinals: None }
        }
    }
}

/// Takes records up to the limits; the body that goes over the limit of bytes is the last one taken.
pub(super) struct Filling {
    limits: Limits,
    bytes: usize,
    pub(in crate::store) records: Vec<Record>,
}

impl Filling {
    pub(in crate::store) fn new(limits: Limits) -> Self {
        Self { limits, bytes: 0, records: Vec::new() }
    }

    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.limits.events || self.bytes >= self.limits.bytes
    }

    pub(in crate::store) fn push(&mut self, record: Record) {
        self.bytes += record.stored.event.body.len();
        self.records.push(record);
    }
}
