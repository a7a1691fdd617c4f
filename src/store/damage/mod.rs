//! Records that are gone: what proves it, what is kept of it, and how they come back.
//!
//! A span of ordinals is proven to be gone by a group that is not sound before a sound one, by a segment that is shorter than
//! the next one says or is missing, or by a position behind the log's end. It is told, counted and noted in the journal; each
//! sink passes it once and counts its records as damaged. The ids of events that some sink had not had are forgotten, so that
//! they are accepted anew if the provider still lists them; such a record says which sequence it replaces, and a sink that
//! was past that one passes over it.

pub(super) mod damaged;
mod recover;

pub(super) use recover::{recover, witnessed};

use super::errors::Refused;
use super::files::guarded::{Guard, Guarded, Turns};
use super::log::frame::DedupeHash;
use super::log::ids::{self, Id};
use super::log::notes::{Control, Damaged};
use super::log::record::LogKind;
use super::log::scan::{Hole, scan};
use super::log::{Segment, ids_path, number_of};
use super::shared::Shared;
use super::write::inbox::Command;
use crate::event::{Origin, Stored};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// Spans that are kept; beyond that the oldest are.
const MAX_SPANS: usize = 256;
/// Answered once a note is on disk.
pub(super) type Noted = tokio::sync::oneshot::Receiver<Result<(), Refused>>;

/// Bytes that are kept of one hole.
const MAX_KEPT: u64 = 4 * 1024 * 1024;

/// A span of the log whose records are gone for some sink, as proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSpan {
    /// Rises; names the span.
    pub id: u64,
    /// Events that are gone and that not every sink had. Samples are never fetched again.
    pub events: u64,
    /// When the last sound record before it was received; `None` where there is none.
    pub received_after: Option<Timestamp>,
    /// When the first sound record behind it was received; `None` where it reaches to the end.
    pub received_before: Option<Timestamp>,
    /// How many of [`Self::events`] were accepted anew since; in earlier processes, as far as some sink still waits for that.
    pub recovered: u64,
    /// It was found since the store was opened, and not in an earlier process.
    pub is_new: bool,
}

pub(super) struct Damage {
    spans: watch::Sender<Vec<DamagedSpan>>,
    known: Guarded<Known>,
    /// Log, segment and offset of what was told already. Whoever meets damage that another is at waits until it is noted: else
    /// it would be a hole without proof to him.
    inspected: Turns<HashSet<(LogKind, u64, u64)>>,
    /// Whether [`Known::lost`] has any.
    has_lost: AtomicBool,
}

#[derive(Default)]
struct Known {
    noted: Vec<Damaged>,
    /// Ids of damaged records that are accepted anew, and the sequences that they had.
    lost: HashMap<DedupeHash, u64>,
    /// By span: events of which not even the ids are known, and of which none was accepted anew so far.
    unknown: HashMap<u64, u64>,
}

impl Damage {
    pub(super) fn new(noted: Vec<Damaged>) -> Self {
        let spans = watch::Sender::new(noted.iter().map(|damaged| span(damaged, false)).collect());
        let known = Known { noted, ..Known::default() };
        let inspected = Turns::new(HashSet::new());
        Self { spans, known: Guarded::new(known), inspected, has_lost: AtomicBool::new(false) }
    }

    fn known(&self) -> Guard<'_, Known> {
        self.known.lock()
    }

    /// As they are noted.
    pub(super) fn spans(&self) -> Vec<Damaged> {
        self.known().noted.clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Vec<DamagedSpan>> {
        self.spans.subscribe()
    }

    /// The last ordinal of the span that holds `first`; `None` where that record is not proven to be gone.
    pub(super) fn covers(&self, log: LogKind, first: u64) -> Option<u64> {
        self.known().noted.iter().find_map(|damaged| damaged.covers(log, first))
    }

    fn has_noted(&self, log: LogKind, hole: Hole) -> bool {
        hole.count() > 0 && self.covers(log, hole.first).is_some_and(|last| last >= hole.last)
    }

    /// Whether a sink was past a record, by the sequence that it had before it was damaged.
    pub(super) fn had(&self, key: &str, replaced: u64) -> bool {
        let known = self.known();
        let of = known.noted.iter().filter(|damaged| damaged.holds(replaced));
        of.filter_map(|damaged| damaged.positions.get(key)).any(|position| *position >= replaced)
    }

    /// The sequence that a damaged record of this id had.
    pub(super) fn replaced_by(&self, hash: DedupeHash) -> Option<u64> {
        if !self.has_lost.load(Ordering::Acquire) {
            return None;
        }
        self.known().lost.get(&hash).copied()
    }

    /// These ids are all that is known of a span.
    fn add_lost(&self, damaged: &Damaged, lost: &[Id]) {
        let mut known = self.known();
        known.lost.extend(lost.iter().map(|id| (id.hash, id.sequence)));
        let records = damaged.last + 1 - damaged.first;
        known.unknown.insert(damaged.id, records.saturating_sub(lost.len() as u64).min(damaged.wanted));
        drop(known);
        self.has_lost.fetch_or(!lost.is_empty(), Ordering::Release);
    }

    /// Before the store was opened, records were accepted anew that had these sequences.
    fn were_accepted(&self, replaced: &[u64]) {
        let noted = self.spans();
        self.spans.send_modify(|spans| {
            for span in spans {
                let damaged = noted.iter().find(|damaged| damaged.id == span.id);
                let anew =
                    replaced.iter().filter(|sequence| damaged.is_some_and(|damaged| damaged.is_wanted(**sequence)));
                span.recovered = span.events.min(anew.count() as u64);
            }
        });
    }

    /// An event is on disk, for the first time as far as is known.
    pub(super) fn accepted(&self, stored: &Stored, replaces: Option<u64>) {
        if self.spans.borrow().is_empty() || stored.arrival.origin == Origin::Metrics {
            return;
        }
        let mut guard = self.known();
        let Known { noted, unknown, .. } = &mut *guard;
        // Of an id that was in no index any more only the time tells that it may be one of those.
        let happened = stored.event.timestamp.instant().as_microsecond();
        let holds = |damaged: &&Damaged| match replaces {
            Some(replaced) => damaged.is_wanted(replaced),
            None => {
                stored.arrival.origin == Origin::Backfill
                    && unknown.get(&damaged.id).is_some_and(|unknown| *unknown > 0)
                    && damaged.received_after.is_none_or(|after| happened > after.saturating_sub(MINUTE))
                    && damaged.received_before.is_none_or(|before| happened < before)
            }
        };
        let Some(id) = noted.iter().find(holds).map(|damaged| damaged.id) else { return };
        if replaces.is_none() {
            unknown.entry(id).and_modify(|unknown| *unknown -= 1);
        }
        drop(guard);
        self.spans.send_if_modified(|spans| {
            let span = spans.iter_mut().find(|span| span.id == id && span.recovered < span.events);
            span.map(|span| span.recovered += 1).is_some()
        });
    }
}

const MINUTE: i64 = 60_000_000;

fn span(damaged: &Damaged, is_new: bool) -> DamagedSpan {
    let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_microsecond(at).ok());
    DamagedSpan {
        id: damaged.id,
        events: damaged.wanted,
        received_after: time(damaged.received_after),
        received_before: time(damaged.received_before),
        recovered: 0,
        is_new,
    }
}

/// Records that the log counts and does not have, without a proof of damage: an operator has said that nobody waits for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// In which log.
    pub log: LogKind,
    /// Ordinals of the first …
    pub first: u64,
    /// … and the last of them.
    pub last: u64,
    /// Their sequences are above this one …
    pub after: u64,
    /// … and not above this one.
    pub through: u64,
}

/// What has to be done about a hole that was not known.
struct Found {
    damaged: Damaged,
    lost: Vec<Id>,
}

impl Shared {
    /// A reader has met bytes of a segment that are no sound group: says what is missing there, and notes it.
    ///
    /// Blocks on the disk.
    pub(super) fn inspect_damage(&self, log: LogKind, segment: &Segment) -> io::Result<()> {
        let sealed = segment.sealed.load(Ordering::Acquire);
        let scan = scan(segment, segment.durable(), |_| ())?;
        let tail = sealed.then(|| scan.tail(segment.last_ordinal(), segment.last_sequence(), None)).flatten();
        let through = if sealed { segment.last_sequence() } else { self.durable.borrow().sequence };
        let mut lost = Vec::new();
        for hole in scan.holes(through, None).chain(tail) {
            if let Some(found) = self.note_hole(log, Some(segment), hole)? {
                lost.extend(found.lost);
            }
        }
        self.rebuild_indexes(lost);
        Ok(())
    }

    /// Tells, counts and notes a hole, unless that was done before; keeps its bytes; finds the ids that are lost with it. Where
    /// that fails it is done when the hole is next met.
    fn note_hole(&self, log: LogKind, segment: Option<&Segment>, hole: Hole) -> io::Result<Option<Found>> {
        let place = (log, segment.map_or(0, |segment| segment.header.number), hole.offset);
        self.damage.inspected.take(|inspected| {
            if inspected.contains(&place) || self.damage.has_noted(log, hole) {
                return Ok(None);
            }
            let found = self.note_new_hole(log, segment, hole)?;
            inspected.insert(place);
            Ok(found)
        })
    }

    /// From now on these are proven to be gone, for good once the note is answered.
    ///
    /// Blocks on the disk.
    pub(super) fn give_up(&self, missing: Missing) -> io::Result<Noted> {
        let Missing { log, first, last, after, through } = missing;
        let (received_after, received_before) = self.received_around(missing)?;
        let (offset, length) = (0, 0);
        let hole = Hole { first, last, after, through, offset, length, received_after, received_before };
        self.damage.inspected.take(|_| {
            if !self.damage.has_noted(log, hole)
                && let Some(found) = self.note_new_hole(log, None, hole)?
            {
                self.rebuild_indexes(found.lost);
            }
            Ok(self.note_damage())
        })
    }

    /// When the last record before and the first behind were received.
    fn received_around(&self, missing: Missing) -> io::Result<(Option<i64>, Option<i64>)> {
        let Missing { log, after, through, .. } = missing;
        let (mut before, mut behind) = (None, None);
        for segment in self.log(log).segments.snapshot() {
            // Only what the gap lies in or before is read.
            if segment.last_sequence() <= after {
                before = Some(segment.last_received());
                continue;
            }
            if behind.is_some() {
                break;
            }
            segment.for_each_record(|record, _| {
                let received = record.stored.arrival.received_at.as_microsecond();
                if record.stored.sequence <= after {
                    before = Some(received);
                } else if record.stored.sequence > through {
                    behind.get_or_insert(received);
                }
            })?;
        }
        Ok((before, behind))
    }

    fn rebuild_indexes(&self, lost: Vec<Id>) {
        let days: BTreeSet<_> = lost.into_iter().map(|id| id.day).collect();
        if !days.is_empty() {
            self.inbox.command(Command::Rebuild(days.into_iter().collect()));
        }
    }

    fn note_new_hole(&self, log: LogKind, segment: Option<&Segment>, hole: Hole) -> io::Result<Option<Found>> {
        let kept = segment.and_then(|segment| self.keep_bytes(log, segment, hole));
        let damaged = self.damaged(log, hole, kept.as_deref());
        let lost = if damaged.wanted > 0 { self.lost_ids(&damaged)? } else { Vec::new() };
        self.metrics.store_damaged(1);
        tracing::error!(
            log = log.as_str(),
            segment = segment.map(|segment| segment.path.display().to_string()),
            offset = hole.offset,
            bytes = hole.length,
            records = hole.count(),
            first_sequence = hole.after + 1,
            last_sequence = hole.through,
            kept = kept.as_ref().map(|path| path.display().to_string()),
            "the store is damaged: these records are gone, and every sink that had not had them passes them over; what the \
             provider still lists of them is fetched again"
        );
        if hole.count() == 0 {
            return Ok(None);
        }
        self.damage.add_lost(&damaged, &lost);
        self.damage.spans.send_modify(|spans| spans.push(span(&damaged, true)));
        {
            let mut known = self.damage.known();
            known.noted.push(damaged.clone());
            let surplus = known.noted.len().saturating_sub(MAX_SPANS);
            known.noted.drain(..surplus);
        }
        drop(self.note_damage());
        Ok(Some(Found { damaged, lost }))
    }

    /// [`super::Claim::had_through`].
    pub(super) fn had_through(&self, key: &str, sequence: u64) -> Option<Noted> {
        let mut changed = false;
        for damaged in &mut self.damage.known().noted {
            let Some(position) = damaged.positions.get_mut(key) else { continue };
            // The same again where it could not be noted before.
            if *position < sequence.min(damaged.through) || *position == sequence {
                (*position, changed) = (sequence, true);
            }
        }
        changed.then(|| self.note_damage())
    }

    /// If it cannot be written now, each new segment begins with it, and the next start finds it anew.
    fn note_damage(&self) -> Noted {
        let (reply, noted) = tokio::sync::oneshot::channel();
        self.inbox.command(Command::Note(Control::Damaged(self.damage.spans()), reply));
        noted
    }

    fn damaged(&self, log: LogKind, hole: Hole, kept: Option<&Path>) -> Damaged {
        let sinks = self.sinks().clone();
        let positions = sinks.iter().filter_map(|sink| Some((sink.key().to_owned(), self.positions.get(sink.key())?)));
        let settled = self.ordinals_settled_by_all().of(log);
        let wanted = if log == LogKind::Events { hole.last.saturating_sub(settled.max(hole.first - 1)) } else { 0 };
        let wanted_after =
            self.least_of_attached(|sink| self.positions.get(sink.key()).map_or(0, |progress| progress.position));
        let id = self.damage.known().noted.last().map_or(1, |last| last.id + 1);
        Damaged {
            id,
            log,
            first: hole.first,
            last: hole.last,
            after: hole.after,
            through: hole.through,
            found_at: self.now().as_second(),
            received_after: hole.received_after,
            received_before: hole.received_before,
            kept: kept.map(|path| path.display().to_string()),
            wanted,
            wanted_after,
            positions: positions.map(|(key, progress)| (key, progress.position)).collect(),
        }
    }

    /// The ids that are known of the span, and that no sound record has: of files of ids, and of segments that have none yet.
    /// Both go on without them, so that indexes that are rebuilt from them do not know them either. A segment that is missing
    /// has left its file.
    fn lost_ids(&self, damaged: &Damaged) -> io::Result<Vec<Id>> {
        let share = self.log(damaged.log);
        let (disk, place) = (&*share.place.disk, &share.place);
        let sound = self.sound_in(damaged)?;
        let is_lost = |id: &Id| damaged.holds(id.sequence) && !sound.contains(&id.sequence);
        let (mut lost, mut rewritten) = (Vec::new(), Vec::new());
        let segments = share.segments.snapshot();
        for segment in &segments {
            lost.extend(segment.ids.lock().iter().filter(|id| is_lost(id)));
        }
        for number in disk.list(&place.dir)?.iter().filter_map(|(name, _)| number_of(name, "ids")) {
            let path = ids_path(place, number);
            let (Some(summary), Some(all)) = (ids::summary(disk, &path)?, ids::read(disk, &path)?) else { continue };
            let (gone, kept): (Vec<Id>, Vec<Id>) = all.into_iter().partition(is_lost);
            if !gone.is_empty() {
                rewritten.push((number, summary.first_sequence, kept));
                lost.extend(gone);
            }
        }
        let lost = self.keep_lost(damaged.id, lost, is_lost)?;
        for segment in &segments {
            segment.ids.lock().retain(|id| !is_lost(id));
        }
        for (number, first, kept) in rewritten {
            self.reserve.write(|| ids::write(disk, &place.dir, number, first, &kept))?;
        }
        Ok(lost)
    }

    /// The sequences of sound records within the span.
    fn sound_in(&self, damaged: &Damaged) -> io::Result<BTreeSet<u64>> {
        let mut sound = BTreeSet::new();
        for segment in self.log(damaged.log).segments.snapshot() {
            if segment.last_sequence() > damaged.after && segment.header.first_sequence <= damaged.through {
                segment.for_each_id(|id| {
                    if damaged.holds(id.sequence) {
                        sound.insert(id.sequence);
                    }
                })?;
            }
        }
        Ok(sound)
    }

    /// Puts the ids where the next start finds them. Returns them with those that a process has put there which was ended
    /// before the span was noted: nothing else knows them any more.
    fn keep_lost(&self, id: u64, mut lost: Vec<Id>, is_lost: impl Fn(&Id) -> bool) -> io::Result<Vec<Id>> {
        let kept = kept_ids(self, id)?.into_iter().filter(is_lost);
        lost.extend(kept);
        lost.sort_unstable_by_key(|id| id.sequence);
        lost.dedup();
        let Some(first) = lost.first().map(|id| id.sequence) else { return Ok(lost) };
        let folder = folder(&self.settings.path);
        self.disk.create_dir_all(&folder)?;
        self.reserve.write(|| ids::write(&*self.disk, &folder, id, first, &lost))?;
        self.disk.sync_dir(&self.settings.path)?;
        Ok(lost)
    }

    fn keep_bytes(&self, log: LogKind, segment: &Segment, hole: Hole) -> Option<PathBuf> {
        let keep = || {
            let mut bytes = vec![0; hole.length.min(MAX_KEPT) as usize];
            let read = segment.file.read_at(&mut bytes, hole.offset)?;
            bytes.truncate(read);
            if bytes.is_empty() {
                return Ok(None);
            }
            let name = format!("{}-{:012}", log.as_str(), segment.header.number);
            damaged::keep(&*self.disk, &self.settings.path, &name, hole.offset, &bytes).map(Some)
        };
        keep().unwrap_or_else(|error: io::Error| {
            tracing::warn!(
                %error,
                "the damaged bytes cannot be kept for people to look at; they stay in the segment for as long as that does"
            );
            None
        })
    }
}

fn folder(store: &Path) -> PathBuf {
    store.join("damaged")
}

/// The ids that are lost with a span, as far as they are known.
fn kept_ids(shared: &Shared, id: u64) -> io::Result<Vec<Id>> {
    match ids::read(&*shared.disk, &folder(&shared.settings.path).join(ids::file_name(id))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        ids => Ok(ids?.unwrap_or_default()),
    }
}
