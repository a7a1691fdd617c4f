//! Which sinks there are, and from where on each gets events.

use super::frame::{Control, SinkBirth};
use super::inbox::{Command, Inbox};
use super::meta::Progress;
use super::shared::{Refused, Shared};
use std::io;
use tokio::sync::oneshot;

/// Where a sink begins whose name is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With what comes from now on.
    Now,
    /// With the oldest event that is kept.
    Earliest,
    /// With the first event that is kept and was received at this time or later.
    At(jiff::Timestamp),
}

/// A sink that is in the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkStart {
    /// Its name.
    pub name: String,
    /// The name whose position it takes over, if its own is new.
    pub renamed_from: Option<String>,
    /// Where it begins if neither is known.
    pub start: Start,
}

pub(super) async fn attach(shared: &Shared, inbox: &Inbox, wanted: &[SinkStart]) -> Result<(), Refused> {
    let before = shared.sinks().clone();
    let mut undo = Vec::new();
    let noted = note(shared, inbox, wanted, &before, &mut undo).await;
    if noted.is_err() {
        // As if nothing had been asked: sinks that run go on under the names that they have.
        undo.into_iter().rev().for_each(|undo| undo.run(shared));
    }
    noted
}

/// What takes back one change of what is known of a sink.
enum Undo {
    Renamed { old: String, new: String },
    Placed(String),
}

impl Undo {
    fn run(self, shared: &Shared) {
        match self {
            Self::Renamed { old, new } => {
                if let Err(error) = carry_over(shared, &new, &old) {
                    tracing::error!(%error, "the dead letters of sink {old} stay under the name {new}");
                }
            }
            Self::Placed(sink) => shared.meta.forget(&sink),
        }
    }
}

async fn note(
    shared: &Shared,
    inbox: &Inbox,
    wanted: &[SinkStart],
    before: &[SinkBirth],
    undo: &mut Vec<Undo>,
) -> Result<(), Refused> {
    let failed = |error: io::Error| Refused::Failed(error.to_string());
    let mut births = before.to_vec();
    // A damaged journal may have lost the note; a position tells of the sink too.
    for (name, progress) in shared.meta.sinks() {
        if !births.iter().any(|birth| birth.name == name) {
            births.push(SinkBirth { name, after: progress.base, removed_at: None });
        }
    }
    for sink in wanted {
        let after = match position_of(shared, &mut births, sink, undo).map_err(failed)? {
            Some(after) => after,
            None => start_of(shared, sink.start).map_err(failed)?,
        };
        births.retain(|birth| birth.name != sink.name);
        births.push(SinkBirth { name: sink.name.clone(), after, removed_at: None });
        if let Some(progress) = shared.meta.progress(&sink.name) {
            if progress.position < oldest(shared) {
                tracing::warn!(
                    sink = sink.name,
                    position = progress.position,
                    oldest = oldest(shared) + 1,
                    "the sink was away for longer than events were kept: it goes on with the oldest that is there"
                );
            }
        } else {
            let base = after.max(oldest(shared));
            let accepted_before = accepted_up_to(shared, base).map_err(failed)?;
            let progress = Progress { base, accepted_before, position: base, ..Progress::default() };
            // One of its name had some, and is forgotten, or its position is lost: the numbers begin again.
            shared.reserve.write(|| shared.letters.restart(&sink.name)).map_err(failed)?;
            undo.push(Undo::Placed(sink.name.clone()));
            shared.meta.set_progress(&sink.name, progress);
        }
    }
    retire(shared, &mut births, wanted);
    if births == before {
        return Ok(());
    }
    let (reply, answer) = oneshot::channel();
    inbox.command(Command::Note(Control::Sinks(births.clone()), reply));
    answer.await.unwrap_or_else(|_| Err(Refused::Failed("its writer has ended".to_owned())))
}

/// Where a known sink was born, under its own name or the one it had.
fn position_of(
    shared: &Shared,
    births: &mut Vec<SinkBirth>,
    sink: &SinkStart,
    undo: &mut Vec<Undo>,
) -> io::Result<Option<u64>> {
    if let Some(birth) = births.iter().find(|birth| birth.name == sink.name) {
        return Ok(Some(birth.after));
    }
    let Some(old) = &sink.renamed_from else { return Ok(None) };
    let Some(index) = births.iter().position(|birth| &birth.name == old) else { return Ok(None) };
    let birth = births.remove(index);
    undo.push(Undo::Renamed { old: old.clone(), new: sink.name.clone() });
    carry_over(shared, old, &sink.name)?;
    tracing::info!(
        sink = sink.name,
        renamed_from = old,
        "the sink goes on from the position it had under its old name"
    );
    Ok(Some(birth.after))
}

/// Gives what is kept of one sink to another, on disk before the journal notes the new name: a sink that is known there and
/// has no position begins at its birth. The dead letters first: a kill after that is made up for by the next start, which
/// finds the position under the old name still.
fn carry_over(shared: &Shared, old: &str, new: &str) -> io::Result<()> {
    shared.reserve.write(|| shared.letters.rename(old, new))?;
    let (progress, state) = (shared.meta.progress(old), shared.meta.sink_value(old));
    if progress.is_none() && state.is_none() {
        return Ok(());
    }
    if let Some(progress) = progress {
        shared.meta.set_progress(new, progress);
    }
    if let Some(state) = state {
        shared.meta.set_sink_value(new, state);
    }
    shared.meta.forget(old);
    shared.reserve.write(|| shared.meta.sync())
}

/// Notes when sinks were taken out, and forgets those whose time is over.
fn retire(shared: &Shared, births: &mut Vec<SinkBirth>, wanted: &[SinkStart]) {
    let now = shared.now().as_second();
    births.retain_mut(|birth| {
        if wanted.iter().any(|sink| sink.name == birth.name) {
            return true;
        }
        let removed_at = *birth.removed_at.get_or_insert(now);
        let over = removed_at.saturating_add_unsigned(shared.settings.retention.as_secs()) < now;
        if over {
            tracing::warn!(sink = birth.name, "the position of a sink that is no longer in the settings is forgotten");
            shared.meta.forget(&birth.name);
        }
        !over
    });
}

/// A sink that is in the settings no more; should it come back, it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Its name.
    pub name: String,
    /// Every event up to this sequence was settled.
    pub position: u64,
    /// When it was found to be gone.
    pub removed_at: jiff::Timestamp,
}

pub(super) fn removed(shared: &Shared) -> Vec<Removed> {
    let removed = |birth: &SinkBirth| {
        let removed_at = jiff::Timestamp::from_second(birth.removed_at?).ok()?;
        let position = shared.meta.progress(&birth.name).map_or(birth.after, |progress| progress.position);
        Some(Removed { name: birth.name.clone(), position, removed_at })
    };
    shared.sinks().iter().filter_map(removed).collect()
}

/// Forgets the position of a sink that is in the settings no more; `false` if there is none of that name.
pub(super) async fn forget(shared: &Shared, inbox: &Inbox, name: &str) -> Result<bool, Refused> {
    let mut births = shared.sinks().clone();
    let before = births.len();
    births.retain(|birth| birth.name != name || birth.removed_at.is_none());
    if births.len() == before {
        return Ok(false);
    }
    let (reply, answer) = oneshot::channel();
    inbox.command(Command::Note(Control::Sinks(births), reply));
    answer.await.unwrap_or_else(|_| Err(Refused::Failed("its writer has ended".to_owned())))?;
    // By a kill before this the position stays, unused: a sink of that name that comes back is told of by it.
    shared.meta.forget(name);
    Ok(true)
}

/// One below the oldest sequence that is kept.
fn oldest(shared: &Shared) -> u64 {
    let first = |log: &super::shared::LogShare| {
        log.oldest().map_or(0, |segment| segment.header.first_sequence.saturating_sub(1))
    };
    first(&shared.events)
}

/// How many events the store had accepted when it gave out `sequence`.
fn accepted_up_to(shared: &Shared, sequence: u64) -> io::Result<u64> {
    let mut accepted = 0;
    for log in shared.logs() {
        let segments = log.segments.snapshot();
        // Sequences leave gaps, so the segment that holds this one is counted through.
        let Some(segment) =
            segments.iter().rev().find(|segment| segment.header.first_sequence <= sequence).or(segments.first())
        else {
            continue;
        };
        accepted += segment.header.events_before;
        segment.for_each_id(|id| accepted += u64::from(id.sequence <= sequence))?;
    }
    Ok(accepted)
}

fn start_of(shared: &Shared, start: Start) -> io::Result<u64> {
    match start {
        Start::Now => Ok(*shared.durable.borrow()),
        Start::Earliest => Ok(oldest(shared)),
        Start::At(time) => first_received_at(shared, time),
    }
}

/// One below the first sequence that was received at `time` or later.
fn first_received_at(shared: &Shared, time: jiff::Timestamp) -> io::Result<u64> {
    // Segments that end before the time are not read at all.
    let segments = shared.events.segments.snapshot();
    let skipped = segments.iter().take_while(|segment| segment.last_received() < time.as_microsecond()).last();
    let after = skipped.map_or_else(|| oldest(shared), |segment| segment.last_sequence());
    let logs = [std::sync::Arc::clone(&shared.events.segments), std::sync::Arc::clone(&shared.samples.segments)];
    let mut reader = super::Reader::new(&logs, after, shared.durable.subscribe(), shared.metrics.clone());
    let mut last = after;
    loop {
        let events = reader.read(1024, 1024 * 1024)?;
        if events.is_empty() {
            return Ok(last);
        }
        for stored in events {
            if stored.arrival.received_at >= time {
                return Ok(stored.sequence - 1);
            }
            last = stored.sequence;
        }
    }
}
