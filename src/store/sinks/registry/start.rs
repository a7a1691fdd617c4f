//! Where a sink begins.

use super::Start;
use crate::store::Reader;
use crate::store::log::notes::SinkRegistration;
use crate::store::log::record::{Limits, LogKind, Ordinals};
use crate::store::shared::Shared;
use crate::store::sinks::positions::Progress;
use std::io;
use std::sync::Arc;

/// What is read at once on the way to a time.
const PIECE: Limits = Limits { events: 1024, bytes: 1024 * 1024 };

/// One below the first sequence that a new sink gets.
pub(super) fn place(shared: &Arc<Shared>, start: Start) -> io::Result<u64> {
    match start {
        Start::Now => Ok(shared.durable.borrow().sequence),
        Start::Earliest => Ok(oldest(shared)),
        Start::At(time) => first_received_at(shared, time),
    }
}

/// Makes a position for a sink that has none; its key, if so. One that was away for longer than events were kept goes on
/// with the oldest, and what it missed is not counted.
pub(super) fn give_position(shared: &Shared, sink: &SinkRegistration) -> io::Result<Option<String>> {
    let oldest = oldest(shared);
    let Some(progress) = shared.positions.get(sink.key()) else {
        let base = sink.after.max(oldest);
        let ordinals = ordinals_at(shared, base)?;
        let accepted_before = ordinals.sum();
        // A power cut took it before it was ever synced, or its file is damaged.
        shared.reserve.write(|| shared.letters.restart(sink.key()))?;
        let begun = Progress { base, accepted_before, position: base, ordinals, ..Progress::default() };
        shared.positions.set(sink.key(), Progress { accounted_through: base, ..begun });
        return Ok(Some(sink.key().to_owned()));
    };
    // Of a sink that was attached all the time nothing is ever removed that it had not had: that is damage.
    let was_away = shared.sinks().iter().any(|known| known.key() == sink.key() && !known.is_attached());
    let before = was_away.then(|| first_ordinals(shared));
    if let Some(before) = before
        && (before.events > progress.ordinals.events || before.samples > progress.ordinals.samples)
    {
        tracing::warn!(
            sink = sink.name,
            position = progress.position,
            oldest = oldest + 1,
            "the sink was away for longer than events were kept: it goes on with the oldest that is there"
        );
        let mut ordinals = progress.ordinals;
        for log in LogKind::ALL {
            *ordinals.of_mut(log) = ordinals.of(log).max(before.of(log));
        }
        let missed = ordinals.sum() - progress.ordinals.sum();
        let accepted_before = progress.accepted_before + missed;
        let position = progress.position.max(oldest);
        shared.positions.set(sink.key(), Progress { ordinals, accepted_before, position, ..progress });
    }
    Ok(None)
}

/// One below the oldest sequence that is kept.
fn oldest(shared: &Shared) -> u64 {
    shared.events.oldest().map_or(0, |segment| segment.header.first_sequence.saturating_sub(1))
}

/// Records before the oldest that is kept.
fn first_ordinals(shared: &Shared) -> Ordinals {
    let of = |log: LogKind| shared.log(log).oldest().map_or(0, |segment| segment.header.events_before);
    Ordinals { events: of(LogKind::Events), samples: of(LogKind::Samples) }
}

/// Records of each log up to a sequence.
pub(in crate::store) fn ordinals_at(shared: &Shared, sequence: u64) -> io::Result<Ordinals> {
    let end = *shared.durable.borrow();
    if sequence >= end.sequence {
        return Ok(end.ordinals);
    }
    let mut ordinals = Ordinals::default();
    for log in LogKind::ALL {
        let segments = shared.log(log).segments.snapshot();
        // Sequences leave gaps, so the segment that holds this one is counted through.
        let Some(segment) =
            segments.iter().rev().find(|segment| segment.header.first_sequence <= sequence).or(segments.first())
        else {
            continue;
        };
        let place = ordinals.of_mut(log);
        *place = segment.header.events_before;
        segment.for_each_record(|record, ordinal| {
            if record.stored.sequence <= sequence {
                *place = ordinal;
            }
        })?;
    }
    Ok(ordinals)
}

/// One below the first sequence that was received at `time` or later.
fn first_received_at(shared: &Arc<Shared>, time: jiff::Timestamp) -> io::Result<u64> {
    // Segments that end before the time are not read at all.
    let segments = shared.events.segments.snapshot();
    let skipped = segments.iter().take_while(|segment| segment.last_received() < time.as_microsecond()).last();
    let mut after = skipped.map_or_else(|| oldest(shared), |segment| segment.last_sequence());
    let mut reader = Reader::new(shared, &LogKind::ALL);
    let mut last = after;
    loop {
        let batch = reader.read_after(after, PIECE)?;
        if batch.records.is_empty() {
            return Ok(last);
        }
        after = batch.through;
        for record in batch.records {
            if record.stored.arrival.received_at >= time {
                return Ok(record.stored.sequence - 1);
            }
            last = record.stored.sequence;
        }
    }
}
