//! What a start finds missing.

use super::kept_ids;
use crate::store::dedupe::day_index;
use crate::store::kv::judge;
use crate::store::log::frame::Frame;
use crate::store::log::ids::Id;
use crate::store::log::notes::Damaged;
use crate::store::log::record::{End, LogKind};
use crate::store::log::scan::{Hole, scan};
use crate::store::log::{Log, Segment};
use crate::store::shared::Shared;
use crate::store::sinks::positions::Progress;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Holds the logs against what else knows how far they were, and has them go on behind that. Returns the highest sequence.
pub(in crate::store) fn witnessed(
    events: &mut Log,
    samples: &mut Log,
    end: End,
    sinks: &BTreeMap<String, Progress>,
) -> u64 {
    for (log, kind) in [(events, LogKind::Events), (samples, LogKind::Samples)] {
        let most = sinks.values().map(|progress| progress.ordinals.of(kind)).max().unwrap_or(0);
        log.there_were(most.max(end.ordinals.of(kind)));
    }
    sinks.values().map(|progress| progress.position).max().unwrap_or(0).max(end.sequence)
}

/// Looks through what some sink has not had, and for what is missing before and behind it. Ids that are lost go from the
/// indexes in `seen`, which are all closed yet.
pub(in crate::store) fn recover(shared: &Shared, seen: &Path) -> io::Result<()> {
    for noted in shared.damage.spans().iter().filter(|noted| noted.wanted > 0) {
        shared.damage.add_lost(noted, &kept_ids(shared, noted.id)?);
    }
    let mut forgotten = false;
    let mut replaced = Vec::new();
    for log in LogKind::ALL {
        for (segment, hole) in holes(shared, log, &mut replaced)? {
            let Some(found) = shared.note_hole(log, segment.as_deref(), hole)? else { continue };
            if found.damaged.wanted > 0 {
                if found.lost.is_empty() {
                    lost_in_indexes(shared, &found.damaged, seen)?;
                }
                forgotten = true;
            }
        }
    }
    shared.damage.were_accepted(&replaced);
    if forgotten {
        // What they know beyond the journal is what is lost. They are made anew from it.
        for day in day_index::days(&*shared.kv, seen)? {
            shared.kv.remove(&day_index::folder(seen, day))?;
        }
    }
    Ok(())
}

/// Adds to `replaced` which records were accepted anew, as far as some sink has not had that.
fn holes(shared: &Shared, log: LogKind, replaced: &mut Vec<u64>) -> io::Result<Vec<(Option<Arc<Segment>>, Hole)>> {
    let settled = shared.ordinals_settled_by_all().of(log);
    let end = *shared.durable.borrow();
    let segments = shared.log(log).segments.snapshot();
    let mut found = Vec::new();
    if let Some(first) = segments.first()
        && settled < first.header.events_before
    {
        found.push((None, before_all(shared, log, first, settled)));
    }
    for (index, segment) in segments.iter().enumerate() {
        let next = segments.get(index + 1);
        if next.is_some() && segment.last_ordinal() <= settled {
            continue;
        }
        let scan = scan(segment, segment.durable(), |frame| {
            if let Frame::Event(event) = frame {
                replaced.extend(event.replaces);
            }
        })?;
        let (events, through, received_before) = match next {
            Some(next) => (segment.last_ordinal(), segment.last_sequence(), Some(next.header.created_at)),
            None => (end.ordinals.of(log), end.sequence, None),
        };
        // What follows the last sound group of all was never acknowledged, unless somebody had it.
        let has_tail = next.is_some() || events > scan.events;
        let tail = has_tail.then(|| scan.tail(events, through, received_before)).flatten();
        let holes = scan.holes(through, received_before).chain(tail);
        found.extend(holes.map(|hole| (Some(Arc::clone(segment)), hole)));
    }
    Ok(found)
}

/// Segments that some sink had still to read are gone from the front.
fn before_all(shared: &Shared, log: LogKind, first: &Segment, settled: u64) -> Hole {
    let positions = shared.positions.all();
    let after = positions.values().filter(|progress| progress.ordinals.of(log) == settled);
    Hole {
        first: settled + 1,
        last: first.header.events_before,
        after: after.map(|progress| progress.position).min().unwrap_or(0),
        through: first.header.first_sequence.saturating_sub(1),
        offset: 0,
        length: 0,
        received_after: None,
        received_before: Some(first.header.created_at),
    }
}

/// Where there is no file of ids the indexes still know the sequences. One that is not to be had now ends the start: from here
/// on they are made anew, and what only it knows would be gone.
fn lost_in_indexes(shared: &Shared, damaged: &Damaged, seen: &Path) -> io::Result<()> {
    let mut lost: Vec<Id> = Vec::new();
    let sound = shared.sound_in(damaged)?;
    let is_lost = |id: &Id| damaged.holds(id.sequence) && !sound.contains(&id.sequence);
    for day in day_index::days(&*shared.kv, seen)? {
        let folder = day_index::folder(seen, day);
        match judge(&*shared.kv, &folder, || day_index::ids_of(&*shared.kv, seen, day)) {
            Ok(ids) => lost.extend(ids.into_iter().filter(is_lost)),
            Err(error) if error.is_corrupt() => {
                tracing::warn!(day, %error, "the index of a day is damaged: ids that are lost stay unknown")
            }
            Err(error) => {
                let (error, folder) = (io::Error::from(error), folder.display());
                let what = format!("{folder} cannot be read, and it alone knows which events are damaged: {error}");
                return Err(io::Error::new(error.kind(), what));
            }
        }
    }
    let lost = shared.keep_lost(damaged.id, lost, is_lost)?;
    shared.damage.add_lost(damaged, &lost);
    Ok(())
}
