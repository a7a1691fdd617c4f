//! Proves that what is read of the log joins what was read before: pure.
//!
//! Each record has its ordinal in its log. What lies between two ordinals that do not follow each other is either proven to be
//! gone, and passed over once, or it is a hole that nobody has explained, and the sink stops before it.

use super::status::Gap;
use crate::store::{Batch, LogKind, Ordinals, Record};

/// A record, and how many before it are proven to be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) record: Record,
    pub(super) damaged: u64,
}

/// What a batch brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Joined {
    pub(super) items: Vec<Item>,
    /// Records up to the batch's end.
    pub(super) ordinals: Ordinals,
    /// How many behind the last record are proven to be gone.
    pub(super) damaged: u64,
}

/// Holds `batch`, which was read behind the sequence `after` and so many records, against the ordinals. `damaged_from` tells
/// how many records from an ordinal on are proven to be gone. Where a record comes again, or something is missing without
/// proof, that is the error.
pub(super) fn join(
    after: u64,
    mut ordinals: Ordinals,
    batch: Batch,
    damaged_from: impl Fn(LogKind, u64) -> Option<u64>,
) -> Result<Joined, Gap> {
    // The ordinals at which a log goes on, from the one that was to come.
    let pass = |log: LogKind, from: u64, to: u64, sequences: (u64, u64)| -> Result<u64, Gap> {
        let mut next = from;
        while next < to {
            next += damaged_from(log, next).filter(|count| *count > 0).ok_or(Gap {
                log: log.into(),
                after: sequences.0,
                through: sequences.1,
                events: to.saturating_sub(next),
                first: next,
            })?;
        }
        Ok(next - from)
    };
    let (mut sequence, mut items) = (after, Vec::with_capacity(batch.records.len()));
    for record in batch.records {
        let (log, this) = (record.log, record.stored.sequence);
        let place = ordinals.of_mut(log);
        let damaged = pass(log, *place + 1, record.ordinal, (sequence, this.saturating_sub(1)))?;
        if *place + 1 + damaged != record.ordinal || this <= sequence {
            return Err(Gap { log: log.into(), after: sequence, through: this, events: 0, first: 0 });
        }
        (*place, sequence) = (record.ordinal, this);
        items.push(Item { record, damaged });
    }
    let mut damaged = 0;
    for log in LogKind::ALL {
        let Some(end) = batch.ordinals.map(|end| end.of(log)) else { break };
        let place = ordinals.of_mut(log);
        let passed = pass(log, *place + 1, end + 1, (sequence, batch.through))?;
        if *place + passed != end {
            return Err(Gap { log: log.into(), after: sequence, through: batch.through, events: 0, first: 0 });
        }
        (*place, damaged) = (end, damaged + passed);
    }
    Ok(Joined { items, ordinals, damaged })
}

#[cfg(test)]
mod tests {
    use super::super::status::Log;
    use super::*;
    use crate::event::{Arrival, Event, Origin, Stored, Timestamp};
    use bytes::Bytes;
    use std::sync::Arc;

    fn record(sequence: u64, log: LogKind, ordinal: u64) -> Record {
        let received_at = jiff::Timestamp::UNIX_EPOCH;
        let arrival = Arrival {
            source: "acme".into(),
            origin: Origin::Webhook,
            received_at,
            webhook_id: None,
            delivery_id: None,
        };
        let event = Event {
            id: sequence.to_string(),
            kind: "sandbox.lifecycle.created".into(),
            timestamp: Timestamp::from(received_at),
            sandbox_id: "a".into(),
            body: Bytes::new(),
        };
        Record { stored: Arc::new(Stored { sequence, arrival, event }), log, ordinal, replaces: None }
    }

    fn batch(records: &[(u64, LogKind, u64)], through: u64, end: Option<(u64, u64)>) -> Batch {
        let records = records.iter().map(|(sequence, log, ordinal)| record(*sequence, *log, *ordinal)).collect();
        Batch { records, through, ordinals: end.map(|(events, samples)| Ordinals { events, samples }) }
    }

    /// What is gone before each record, the ordinals behind the last, and what is gone behind it.
    type Told = (Vec<u64>, (u64, u64), u64);

    /// From sequence 10, with 5 events and 2 samples; events 6 to 7 and everything behind 20 are proven to be gone.
    fn joined(batch: Batch) -> Result<Told, Gap> {
        let damaged = |log, first| match (log, first) {
            (LogKind::Events, 6..=7) => Some(8 - first),
            (LogKind::Events, 20..) => Some(100),
            _ => None,
        };
        let joined = join(10, Ordinals { events: 5, samples: 2 }, batch, damaged)?;
        let before = joined.items.iter().map(|item| item.damaged).collect();
        Ok((before, (joined.ordinals.events, joined.ordinals.samples), joined.damaged))
    }

    #[test]
    fn what_joins_is_taken_with_sequences_that_nobody_has() {
        use LogKind::{Events, Samples};
        let whole = batch(&[(11, Samples, 3), (15, Samples, 4)], 20, None);
        assert_eq!(joined(whole), Ok((vec![0, 0], (5, 4), 0)));
        assert_eq!(joined(batch(&[], 20, Some((5, 2)))), Ok((vec![], (5, 2), 0)));
        let proven = batch(&[(11, Samples, 3), (15, Events, 8)], 15, Some((8, 3)));
        assert_eq!(joined(proven), Ok((vec![0, 2], (8, 3), 0)));
        assert_eq!(joined(batch(&[(11, Samples, 3)], 15, Some((7, 3)))), Ok((vec![0], (7, 3), 2)));
    }

    #[test]
    fn what_is_missing_or_comes_again_is_an_error() {
        use LogKind::{Events, Samples};
        let gap = |log, after, through, events, first| Err(Gap { log, after, through, events, first });
        let (of_events, of_samples) = (Log::Events, Log::Samples);
        assert_eq!(joined(batch(&[(12, Samples, 4)], 12, None)), gap(of_samples, 10, 11, 1, 3));
        assert_eq!(joined(batch(&[(12, Events, 9)], 12, None)), gap(of_events, 10, 11, 1, 8));
        assert_eq!(joined(batch(&[], 30, Some((5, 7)))), gap(of_samples, 10, 30, 5, 3));
        assert_eq!(joined(batch(&[(12, Samples, 2)], 12, None)), gap(of_samples, 10, 12, 0, 0));
        assert_eq!(joined(batch(&[(10, Samples, 3)], 12, None)), gap(of_samples, 10, 10, 0, 0));
        assert_eq!(joined(batch(&[], 30, Some((4, 2)))), gap(of_events, 10, 30, 0, 0));
        // What is proven to be gone is there after all.
        assert_eq!(joined(batch(&[(12, Events, 7)], 12, None)), gap(of_events, 10, 12, 0, 0));
    }
}
