//! Which sinks there are, and from where on each gets events.
//!
//! One note in the journal decides: it names every sink with its key, and by the key its position, its dead letters and its
//! small state are kept. So a sink gets another name, two exchange theirs, and one is forgotten by that note alone, whole or
//! not at all. Notes are made one after another: whoever makes one holds [`Shared::registry`] from reading the list to the
//! answer.

mod plan;
mod start;

pub(in crate::store) use start::ordinals_at;

use crate::store::errors::{AttachError, Refused};
use crate::store::log::notes::{Control, SinkRegistration};
use crate::store::shared::Shared;
use crate::store::write::inbox::Command;
use std::io;
use std::sync::Arc;
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
    /// The name that it had before.
    pub renamed_from: Option<String>,
    /// Where it begins if neither is known.
    pub start: Start,
}

pub(in crate::store) async fn attach(shared: &Arc<Shared>, wanted: &[SinkStart]) -> Result<(), AttachError> {
    // It is never closed.
    let _writer = shared.registry.acquire().await;
    let before = shared.sinks().clone();
    let position = |sink: &SinkRegistration| position_of(shared, sink);
    let now = shared.now().as_second();
    let mut plan = plan::plan(&before, wanted, now, position).map_err(AttachError::Rename)?;
    let failed = |error: io::Error| Refused::Failed(error.to_string());
    let mut placed = Vec::new();
    let begin = |placed: &mut Vec<String>, sinks: &mut Vec<SinkRegistration>| -> io::Result<()> {
        for new in &plan.new {
            let registration = SinkRegistration::new(&new.name, start::place(shared, new.start)?);
            sinks.push(SinkRegistration { renamed_from: new.renamed_from.clone(), ..registration });
        }
        for sink in sinks.iter().filter(|sink| sink.is_attached()) {
            placed.extend(start::give_position(shared, sink)?);
        }
        Ok(())
    };
    let over = retire(shared, &mut plan.sinks);
    let begun = begin(&mut placed, &mut plan.sinks).map_err(failed);
    let noted = match begun {
        Ok(()) if plan.sinks == before => Ok(()),
        Ok(()) => note(shared, plan.sinks).await,
        Err(refused) => Err(refused),
    };
    match &noted {
        Ok(()) => plan.told.iter().for_each(|line| tracing::warn!("{line}")),
        Err(_) => shared.positions.retain(|key| !placed.iter().any(|placed| placed == key)),
    }
    noted?;
    if over && let Err(error) = forget_what_is_over(shared) {
        // The list says that they are gone; the next start removes what is left.
        tracing::warn!(%error, "what forgotten sinks leave behind cannot be removed yet");
    }
    Ok(())
}

/// The names of those that would go on from another sink's position than they now have: whoever delivers for them has to end
/// first.
pub(in crate::store) fn moved(shared: &Shared, wanted: &[SinkStart]) -> Vec<String> {
    let before = shared.sinks().clone();
    let Ok(plan) = plan::plan(&before, wanted, 0, |sink| position_of(shared, sink)) else { return Vec::new() };
    let key = |sinks: &[SinkRegistration], name: &str| {
        sinks.iter().find(|sink| sink.name == name && sink.is_attached()).map(|sink| sink.key().to_owned())
    };
    let names = wanted.iter().map(|sink| sink.name.clone());
    names.filter(|name| key(&before, name).is_some_and(|old| key(&plan.sinks, name) != Some(old))).collect()
}

fn position_of(shared: &Shared, sink: &SinkRegistration) -> u64 {
    shared.positions.get(sink.key()).map_or(sink.after, |progress| progress.position)
}

/// Puts the list on disk; the committer makes it the one that counts.
async fn note(shared: &Shared, sinks: Vec<SinkRegistration>) -> Result<(), Refused> {
    let (reply, answer) = oneshot::channel();
    shared.inbox.command(Command::Note(Control::Sinks(sinks), reply));
    answer.await.unwrap_or_else(|_| Err(Refused::Unknown("its writer has ended".to_owned())))
}

/// Takes off the list whose time is over, unless the clock is in doubt. Whether there were any.
fn retire(shared: &Shared, sinks: &mut Vec<SinkRegistration>) -> bool {
    if !shared.clock_is_sane() {
        return false;
    }
    let now = shared.now().as_second();
    let before = sinks.len();
    sinks.retain(|sink| {
        let Some(removed_at) = sink.removed_at else { return true };
        let over = removed_at.saturating_add_unsigned(shared.settings.retention.as_secs()) < now;
        if over {
            tracing::warn!(sink = sink.name, "the position of a sink that is no longer in the settings is forgotten");
        }
        !over
    });
    sinks.len() < before
}

/// Positions and small state of sinks that are not on the list any more. Blocks on the disk.
pub(in crate::store) fn forget_what_is_over(shared: &Shared) -> io::Result<()> {
    let known: Vec<String> = shared.sinks().iter().map(|sink| sink.key().to_owned()).collect();
    shared.positions.retain(|key| known.iter().any(|known| known == key));
    shared.state.retain_sinks(|key| known.iter().any(|known| known == key));
    shared.reserve.write(|| shared.positions.sync())
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

pub(in crate::store) fn removed(shared: &Shared) -> Vec<Removed> {
    let removed = |sink: &SinkRegistration| {
        let removed_at = jiff::Timestamp::from_second(sink.removed_at?).ok()?;
        Some(Removed { name: sink.name.clone(), position: position_of(shared, sink), removed_at })
    };
    shared.sinks().iter().filter_map(removed).collect()
}

/// Forgets a sink that is in the settings no more, on disk for good when this returns; `false` if there is none of that
/// name.
pub(in crate::store) async fn forget(shared: &Shared, name: &str) -> Result<bool, Refused> {
    // It is never closed.
    let _writer = shared.registry.acquire().await;
    let mut sinks = shared.sinks().clone();
    let before = sinks.len();
    sinks.retain(|sink| sink.name != name || sink.is_attached());
    if sinks.len() == before {
        return Ok(false);
    }
    // By a kill behind this its position stays until the next start, under a key that no sink has again.
    note(shared, sinks).await?;
    Ok(true)
}
