//! One of the two logs: every header, every group by its CRC, every sequence, every file of ids.

use crate::store::files::disk::{Disk, File, Open, ReadOnlyDisk};
use crate::store::log::frame::{self, Frame, day_of};
use crate::store::log::ids::{self, Id};
use crate::store::log::notes::{Damaged, Notes};
use crate::store::log::record::LogKind;
use crate::store::log::segment::{Cursor, Header, Step};
use crate::store::log::{holds_events, number_of};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a log holds.
#[derive(Default)]
pub(super) struct LogRead {
    pub(super) segments: u64,
    /// The lowest sequence that its oldest segment can have.
    pub(super) first: u64,
    /// The highest sequence that it gave out or could have: gaps are allowed.
    pub(super) last: u64,
    /// Events before the oldest segment.
    pub(super) before: u64,
    /// Events in the segments.
    pub(super) kept: u64,
    /// Events up to the end, those that are missing included.
    pub(super) events: u64,
    /// The newest note of each kind.
    pub(super) notes: Notes,
    /// Spans of ordinals that are missing.
    pub(super) holes: Vec<(u64, u64)>,
}

impl LogRead {
    /// Events ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.events
    }

    /// Events from `from` on are missing: the next one that is there is the one behind `to`.
    fn goes_on_behind(&mut self, to: u64) {
        if to > self.events {
            self.holes.push((self.events + 1, to));
            self.events = to;
        }
    }

    /// What of the holes is not noted as damage.
    pub(super) fn unnoted(&self, noted: &[Damaged], log: LogKind) -> Vec<(u64, u64)> {
        let covered = |first: u64| noted.iter().find_map(|damaged| damaged.covers(log, first));
        let open = |(first, last): &&(u64, u64)| {
            let mut next = *first;
            while let Some(through) = covered(next).filter(|_| next <= *last) {
                next = through + 1;
            }
            next <= *last
        };
        self.holes.iter().filter(open).copied().collect()
    }
}

struct Found {
    header: Header,
    path: PathBuf,
    file: Arc<dyn File>,
}

/// Of a log's segments.
pub(super) fn bytes(dir: &Path) -> io::Result<u64> {
    let files = ReadOnlyDisk.list(dir)?.into_iter();
    Ok(files.filter(|(name, _)| number_of(name, "seg").is_some()).map(|(_, length)| length).sum())
}

/// Reads a log, and counts, per mark, the events in its segments whose sequence is not above it. `told` is told after each
/// segment how many bytes are read.
pub(super) fn read(
    dir: &Path,
    kind: LogKind,
    marks: &mut BTreeMap<u64, u64>,
    faults: &mut Vec<String>,
    told: &mut dyn FnMut(u64),
) -> io::Result<LogRead> {
    let found = headers(dir, kind, faults)?;
    let mut log = LogRead::default();
    let mut counts: BTreeMap<u64, u64> = marks.keys().map(|mark| (*mark, 0)).collect();
    if let Some(oldest) = found.first() {
        log.first = oldest.header.first_sequence;
        log.before = oldest.header.events_before;
        log.events = log.before;
        log.last = log.first.saturating_sub(1);
    }
    let mut kept_ids = BTreeSet::new();
    let mut bytes = 0;
    let mut segments = found.iter().peekable();
    while let Some(segment) = segments.next() {
        let next = segments.peek().map(|next| &next.header);
        let at = segment.path.display();
        log.goes_on_behind(segment.header.events_before);
        if segment.header.events_before != log.events {
            faults.push(format!(
                "{at}: {} events came before it, {} are there",
                segment.header.events_before, log.events
            ));
        }
        if segment.header.first_sequence <= log.last && log.kept > 0 {
            faults.push(format!("{at}: begins with sequence {}, after {}", segment.header.first_sequence, log.last));
        }
        let ids = groups(segment, next, &mut log, faults)?;
        for (mark, count) in &mut counts {
            // Its ordinal in the log: what is missing before it counts.
            if let Some((_, ordinal)) = ids.iter().rev().find(|(id, _)| id.sequence <= *mark) {
                *count = *ordinal - log.before;
            }
        }
        let ids: Vec<Id> = ids.into_iter().map(|(id, _)| id).collect();
        log.segments += 1;
        log.kept += ids.len() as u64;
        log.last = log.last.max(segment.header.first_sequence.saturating_sub(1));
        kept_ids.insert(segment.header.number);
        compare_ids(dir, segment.header.number, &ids, faults)?;
        bytes += segment.file.length()?;
        told(bytes);
    }
    for (mark, count) in counts {
        *marks.entry(mark).or_default() += count;
    }
    for (name, _) in ReadOnlyDisk.list(dir)? {
        let Some(number) = number_of(&name, "ids").filter(|number| !kept_ids.contains(number)) else { continue };
        let path = dir.join(&name);
        match ids::read(&ReadOnlyDisk, &path)? {
            Some(ids) if ids.is_sorted_by(|a, b| a.sequence < b.sequence) => {}
            Some(_) => faults.push(format!("{}: the sequences of segment {number} do not rise", path.display())),
            None => faults.push(format!("{}: damaged", path.display())),
        }
    }
    Ok(log)
}

/// How many events came before the segments, and up to a sequence in them, for one that was not known when the logs
/// were read.
pub(super) fn count(store: &Path, sequence: u64) -> io::Result<(u64, u64)> {
    let mut marks = BTreeMap::from([(sequence, 0)]);
    let mut before = 0;
    for (folder, kind) in [("journal", LogKind::Events), ("samples", LogKind::Samples)] {
        before += read(&store.join(folder), kind, &mut marks, &mut Vec::new(), &mut |_| ())?.before;
    }
    Ok((before, marks.into_values().sum()))
}

/// The segments that count, oldest first: as a start would take them, and nothing is removed.
fn headers(dir: &Path, kind: LogKind, faults: &mut Vec<String>) -> io::Result<Vec<Found>> {
    let mut all = Vec::new();
    for (name, _) in ReadOnlyDisk.list(dir)? {
        let path = dir.join(&name);
        if name.ends_with(".damaged") {
            faults.push(format!("{}: set aside as damaged", path.display()));
        }
        let Some(number) = number_of(&name, "seg") else { continue };
        let file = ReadOnlyDisk.open(&path, Open::Existing)?;
        match Header::read(&*file)? {
            Some(header) if header.number == number && header.log == kind.code() => {
                all.push(Found { header, path, file })
            }
            _ if holds_events(&file)? => faults.push(format!("{}: its header is damaged", path.display())),
            // Cut while it was made, before anything was answered from it.
            _ => {}
        }
    }
    all.sort_by_key(|found| found.header.number);
    let mut kept: Vec<Found> = Vec::with_capacity(all.len());
    for found in all.into_iter().rev() {
        match kept.last().map(|next| (next.header.previous_number, &next.path)) {
            // Begun and given up.
            Some((previous, _)) if previous < found.header.number => continue,
            Some((previous, next)) if previous > found.header.number => {
                faults.push(format!("{}: segment {previous} before it is missing", next.display()));
            }
            _ => {}
        }
        kept.push(found);
    }
    kept.reverse();
    Ok(kept)
}

/// Every group of a segment; the ids of its events, and their ordinals.
fn groups(
    segment: &Found,
    next: Option<&Header>,
    log: &mut LogRead,
    faults: &mut Vec<String>,
) -> io::Result<Vec<(Id, u64)>> {
    let at = segment.path.display();
    let length = segment.file.length()?;
    let sealed = next.filter(|next| next.previous_number == segment.header.number).map(|next| next.previous_length);
    if let Some(sealed) = sealed.filter(|sealed| *sealed > length) {
        faults.push(format!("{at}: has {length} bytes, and {sealed} were acknowledged"));
    }
    let limit = sealed.unwrap_or(length).min(length);
    let mut cursor = Cursor::new(Arc::clone(&segment.file), &segment.header);
    let mut ids: Vec<(Id, u64)> = Vec::new();
    loop {
        let offset = cursor.offset;
        match cursor.step(limit)? {
            Step::Group(group) => {
                let before = ids.len();
                log.goes_on_behind(group.events_before);
                let mut frames = group.frames;
                while let Some(frame) = frame::take(&mut frames) {
                    match frame {
                        Frame::Control(note) => log.notes.take(note),
                        Frame::Event(event) => {
                            let sequence = event.stored.sequence;
                            let rises = ids.last().is_none_or(|(last, _)| sequence > last.sequence);
                            if !rises || sequence < segment.header.first_sequence {
                                faults.push(format!("{at} at {offset}: sequence {sequence} is out of order"));
                            }
                            log.last = log.last.max(sequence);
                            let day = day_of(event.stored.event.timestamp.instant());
                            log.events += 1;
                            ids.push((Id { sequence, day, hash: event.hash }, log.events));
                        }
                    }
                }
                if !frames.is_empty() || ids.len() - before != group.count as usize {
                    let found = ids.len() - before;
                    faults.push(format!("{at} at {offset}: {found} sound events in a group of {}", group.count));
                }
            }
            Step::Bad => match cursor.resync(limit)? {
                Some(passed) => faults.push(format!("{at} at {offset}: {passed} bytes are damaged")),
                // What follows the last sound group of the newest segment was never acknowledged.
                None if sealed.is_none() && next.is_none() => break,
                None => {
                    faults.push(format!("{at} at {offset}: damaged to its end"));
                    break;
                }
            },
            Step::End => break,
        }
    }
    Ok(ids)
}

/// A segment's file of ids, where it has one: a cut may come before it is written, and a start makes up for it.
fn compare_ids(dir: &Path, number: u64, of_segment: &[Id], faults: &mut Vec<String>) -> io::Result<()> {
    let path = dir.join(ids::file_name(number));
    match ids::read(&ReadOnlyDisk, &path) {
        Ok(Some(ids)) if ids == of_segment => {}
        Ok(Some(_)) => faults.push(format!("{}: differs from its segment", path.display())),
        Ok(None) => faults.push(format!("{}: damaged", path.display())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
