//! Proves a stopped daemon's store sound, by reading all of it and changing none of it.
//!
//! For every sink: accepted since its birth = delivered + filtered + dead-lettered + dropped by hand + damaged + pending. What
//! was accepted is counted in the journal, the rest comes from the sink's own notes, so that neither can vouch for itself.
//! The indexes in `seen` are not read: a start checks them against the journal and rebuilds them.

mod letters;
mod logs;
mod positions;

use super::dead_letters::DeadLetterCounts;
use super::errors::OpenError;
use super::files::disk::ReadOnlyDisk;
use super::files::lock::Lock;
use super::format;
use super::log::record::LogKind;
use super::sinks::positions::Progress;
use letters::Letters;
use logs::LogRead;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Proof {
    /// The store's UUID.
    pub instance: String,
    /// Whether there is no fault.
    pub sound: bool,
    /// Segments of both logs that are there.
    pub segments: u64,
    /// Events in them.
    pub kept: u64,
    /// Events ever accepted.
    pub accepted: u64,
    /// The sum of each sink.
    pub sinks: Vec<Sum>,
    /// What is not sound, and where.
    pub faults: Vec<String>,
}

/// What became of a sink's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Its name.
    pub sink: String,
    /// It is no longer in the settings.
    pub removed: bool,
    /// Since its birth, counted in the journal.
    pub accepted: u64,
    /// Confirmed by the peer, dead letters that were retried with success included.
    pub delivered: u64,
    /// Not wanted by the sink.
    pub filtered: u64,
    /// Dead letters that wait, or that the peer has where it keeps them.
    pub dead_lettered: u64,
    /// Dead letters that an operator dropped.
    pub dropped_by_hand: u64,
    /// Gone from the log before the sink had them, or dead letters that are lost, since their bytes were damaged.
    #[serde(skip_serializing_if = "is_none")]
    pub damaged: u64,
    /// Behind the sink's position.
    pub pending: u64,
}

impl Sum {
    fn accounted(&self) -> u64 {
        self.delivered + self.filtered + self.dead_lettered + self.dropped_by_hand + self.damaged + self.pending
    }
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Reads the whole store in `path`. `told` is told now and then how many bytes of how many are read.
///
/// # Errors
/// If there is none, if a daemon has it open, or if it cannot be read. That it is not sound is no error: see
/// [`Proof::faults`].
pub fn verify(path: &Path, mut told: impl FnMut(u64, u64)) -> Result<Proof, OpenError> {
    // As a daemon takes it, but without making the file.
    let _lock = Lock::take(path, |path| File::open(path))?;
    let format = format::read(path)?;
    let at = |folder: &str| {
        let folder = path.join(folder);
        move |error| OpenError::io(&folder, error)
    };
    let mut faults = Vec::new();
    let content = positions::read(&path.join("positions"), &mut faults).map_err(at("positions"))?;
    let mut sinks = content.sinks;
    let mut letters =
        Letters::read(&ReadOnlyDisk, &path.join("dead-letters"), &mut faults).map_err(at("dead-letters"))?;

    let mut marks = positions::marks(&sinks);
    let of_events = logs::bytes(&path.join("journal")).map_err(at("journal"))?;
    let whole = of_events + logs::bytes(&path.join("samples")).map_err(at("samples"))?;
    told(0, whole);
    let journal =
        logs::read(&path.join("journal"), LogKind::Events, &mut marks, &mut faults, &mut |read| told(read, whole));
    let journal = journal.map_err(at("journal"))?;
    let samples = logs::read(&path.join("samples"), LogKind::Samples, &mut marks, &mut faults, &mut |read| {
        told(of_events + read, whole)
    });
    let samples = samples.map_err(at("samples"))?;
    let logs = [&journal, &samples];
    let registrations = journal.notes.sinks.clone().unwrap_or_default();
    // A sink that was born a moment before a cut has no position yet; a start gives it the one of its birth.
    let unknown: Vec<_> = registrations.iter().filter(|sink| !sinks.contains_key(sink.key())).collect();
    for sink in unknown {
        let base = sink.after.max(journal.first.saturating_sub(1));
        let (before, in_segments) = logs::count(path, base).map_err(at("journal"))?;
        marks.insert(base, in_segments);
        letters.restart(sink.key());
        let progress = Progress { base, accepted_before: before + in_segments, position: base, ..Progress::default() };
        sinks.insert(sink.key().to_owned(), progress);
    }
    for (log, kind) in logs.into_iter().zip(LogKind::ALL) {
        for (first, last) in log.unnoted(&journal.notes.damaged, kind) {
            faults.push(format!("{}: the records {first} to {last} are missing", kind.as_str()));
        }
        let most = sinks.values().map(|progress| progress.ordinals.of(kind)).max().unwrap_or(0);
        let most = most.max(content.end.ordinals.of(kind));
        if most > log.accepted() {
            faults.push(format!("{}: {most} records were there, and {} are", kind.as_str(), log.accepted()));
        }
    }
    let mut sums = Vec::new();
    for registration in &registrations {
        let (name, removed) = (&registration.name, !registration.is_attached());
        let Some(progress) = sinks.get(registration.key()) else { continue };
        let of_sink = letters.of(registration.key(), progress.base, progress.position);
        sums.extend(judge((name, removed), progress, &logs, &marks, &of_sink, &mut faults));
    }
    sums.sort_by(|a, b| a.sink.cmp(&b.sink));
    Ok(Proof {
        instance: format.instance,
        sound: faults.is_empty(),
        segments: logs.iter().map(|log| log.segments).sum(),
        kept: logs.iter().map(|log| log.kept).sum(),
        accepted: logs.iter().map(|log| log.accepted()).sum(),
        sinks: sums,
        faults,
    })
}

/// Holds one sink's notes against the journal; `None` where what it has not had is gone since it was taken out.
fn judge(
    (sink, removed): (&str, bool),
    progress: &Progress,
    logs: &[&LogRead; 2],
    marks: &BTreeMap<u64, u64>,
    of_sink: &DeadLetterCounts,
    faults: &mut Vec<String>,
) -> Option<Sum> {
    let accepted: u64 = logs.iter().map(|log| log.accepted()).sum();
    // Only from the oldest event that is kept on can the journal tell how many came up to a sequence.
    let counted = |sequence: u64| {
        let kept = logs.iter().all(|log| log.before == 0 || sequence + 1 >= log.first);
        kept.then(|| logs.iter().map(|log| log.before).sum::<u64>() + marks.get(&sequence).copied().unwrap_or(0))
    };
    let last = logs.iter().map(|log| log.last).max().unwrap_or(0);
    if progress.position > last.max(progress.base) {
        faults.push(format!(
            "sink {sink}: its position is {}, and the last event of the journal is {last}",
            progress.position
        ));
    }
    if let Some(before) = counted(progress.base).filter(|before| *before != progress.accepted_before) {
        faults.push(format!(
            "sink {sink}: it noted {} events before its birth, the journal has {before}",
            progress.accepted_before
        ));
    }
    let Some(settled) = counted(progress.position) else {
        if !removed {
            faults.push(format!("sink {sink}: events behind its position {} are gone", progress.position));
        }
        return None;
    };
    let sum = Sum {
        sink: sink.to_owned(),
        removed,
        accepted: accepted.saturating_sub(progress.accepted_before),
        delivered: progress.delivered + of_sink.retried,
        filtered: progress.filtered,
        dead_lettered: of_sink.waiting + of_sink.forwarded,
        dropped_by_hand: of_sink.dropped,
        damaged: progress.damaged + of_sink.damaged,
        pending: accepted.saturating_sub(settled),
    };
    if sum.accepted != sum.accounted() {
        faults.push(format!(
            "sink {sink}: {} events accepted since its birth, and {} accounted for",
            sum.accepted,
            sum.accounted()
        ));
    }
    if of_sink.unaccounted(progress.dead_lettered) > 0 {
        let (noted, there) = (progress.dead_lettered, of_sink.sum());
        faults.push(format!("sink {sink}: it noted {noted} dead letters, and {there} are there"));
    }
    Some(sum)
}
