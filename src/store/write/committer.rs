//! The one thread that writes: takes what waits, drops what is known, writes one group, syncs it, answers all of it.

#[cfg(test)]
mod tests;

use super::inbox::{Accepted, Command, Entry, Inbox, Reply};
use super::janitor;
use super::room::Refusals;
use crate::event::{Arrival, Origin, Stored};
use crate::executor::Worker;
use crate::health::Pulse;
use crate::sometimes;
use crate::store::dedupe::day_index::DayIndex;
use crate::store::dedupe::librarian;
use crate::store::errors::Refused;
use crate::store::log::frame::{self, Day, DedupeHash, EventFrame};
use crate::store::log::ids::{self, Id};
use crate::store::log::notes::Control;
use crate::store::log::record::{End, LogKind, Ordinals, Record};
use crate::store::log::{Draft, Log};
use crate::store::phase::{Phase, during};
use crate::store::shared::{Claim, Shared};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How often an idle committer looks at clock and disk.
pub(in crate::store) const TICK: Duration = Duration::from_millis(500);
/// How long the index of a day that is neither today nor yesterday stays open unused.
const IDLE: Duration = Duration::from_secs(10);
/// Most such indexes that are open; each has buffers and a thread of sled's.
const MAX_OTHER_DAYS: usize = 16;
/// An event this close to midnight is looked up in the neighbouring day too.
const MIDNIGHT_MARGIN: i64 = 60;
/// After a group of so many events the next are on their way: whoever was answered sends on.
const BUSY: usize = 8;
/// Then they are given this long to gather, or many small groups would each cost an `fdatasync`.
const GATHER: Duration = Duration::from_micros(100);
/// How long events that wait for an index are waited for at the end.
const LAST_WAIT: Duration = Duration::from_secs(5);

pub(in crate::store) struct Committer {
    pub(in crate::store) pulse: Pulse,
    pub(in crate::store) shared: Arc<Shared>,
    pub(in crate::store) inbox: Arc<Inbox>,
    pub(in crate::store) events: Log,
    pub(in crate::store) samples: Log,
    pub(in crate::store) next_sequence: u64,
    pub(in crate::store) librarian: mpsc::Sender<librarian::Job>,
    pub(in crate::store) janitor: mpsc::Sender<janitor::Job>,
    pub(in crate::store) days: HashMap<Day, OpenDay>,
    /// Events whose day's index is being opened.
    pub(in crate::store) waiting: HashMap<Day, Vec<Entry>>,
    /// Why the index of a day is not to be had now: its events are refused, for nobody can say whether they are known.
    pub(in crate::store) unavailable: HashMap<Day, Refused>,
    /// Ids of durable events whose day's index went bad before it had them.
    pub(in crate::store) unindexed: HashMap<Day, Vec<Id>>,
    pub(in crate::store) refusals: Refusals,
    /// A note began the newest segment of the journal: the room for its events is still to be asked for.
    pub(in crate::store) unclaimed: bool,
    /// Events in the last group.
    pub(in crate::store) last_group: usize,
    /// Until when events that wait for an index are waited for, once the inbox is closed.
    pub(in crate::store) last_wait: Option<Instant>,
}

pub(in crate::store) struct OpenDay {
    pub(in crate::store) index: DayIndex,
    pub(in crate::store) used: Instant,
}

type Note = (Control, oneshot::Sender<Result<(), Refused>>);

/// One group in the making.
#[derive(Default)]
struct Batch {
    events: Vec<(EventFrame, Reply)>,
    samples: Vec<(EventFrame, Reply)>,
    /// New in this group; their repeats wait for the same commit.
    new: HashSet<DedupeHash>,
    repeats: Vec<Reply>,
    notes: Vec<Note>,
}

impl Worker for Committer {
    /// Ends once the inbox is closed and empty.
    fn step(&mut self, patience: Duration) -> bool {
        if self.last_group >= BUSY && !patience.is_zero() {
            #[expect(clippy::disallowed_methods, reason = "a thread of its own, and nothing to be awaited")]
            std::thread::sleep(GATHER);
        }
        self.pulse.beat();
        let work = self.inbox.take(patience, !self.waiting.is_empty());
        let mut batch = Batch::default();
        let mut entries = Vec::new();
        for command in work.commands {
            match command {
                Command::Note(note, reply) => batch.notes.push((note, reply)),
                Command::DayOpened(index) => {
                    entries.append(&mut self.waiting.remove(&index.day).unwrap_or_default());
                    self.take_index(index);
                }
                Command::DayUnavailable(day, refused) => self.refuse_day(day, &refused),
                Command::Rebuild(days) => days.into_iter().for_each(|day| self.rebuild(day)),
            }
        }
        entries.extend(work.entries);
        self.last_group = entries.len();
        if self.last_group > 512 {
            sometimes::happened("a group over 512");
        }
        for entry in entries {
            self.sort_in(entry, &mut batch);
        }
        self.commit(batch);
        self.close_idle_days();
        self.look_at_the_disk();
        if !work.closed {
            return true;
        }
        let deadline = *self.last_wait.get_or_insert_with(|| Instant::now() + LAST_WAIT);
        !self.waiting.is_empty() && Instant::now() < deadline
    }
}

impl Committer {
    /// Decides whether an event is new, known, or has to wait for an index.
    fn sort_in(&mut self, entry: Entry, batch: &mut Batch) {
        if entry.arrival.origin == Origin::Metrics {
            // Deduped by the last sample per sandbox, before they come here.
            return batch.samples.push(into_frame(entry));
        }
        let (day, neighbour) = days_of(entry.event.timestamp.instant());
        for wanted in [Some(day), neighbour].into_iter().flatten() {
            let Some(open) = self.days.get_mut(&wanted) else { return self.wait_for(wanted, entry) };
            open.used = Instant::now();
            if open.index.contains(entry.hash) {
                return answer(entry.reply, Ok(Accepted::Duplicate));
            }
        }
        if !batch.new.insert(entry.hash) {
            batch.repeats.push(entry.reply);
        } else {
            let replaces = self.shared.damage.replaced_by(entry.hash);
            let (frame, reply) = into_frame(entry);
            batch.events.push((EventFrame { replaces, ..frame }, reply));
        }
    }

    fn wait_for(&mut self, day: Day, entry: Entry) {
        if let Some(refused) = self.unavailable.get(&day) {
            return answer(entry.reply, Err(refused.clone()));
        }
        let waiting = self.waiting.entry(day).or_default();
        if waiting.len() >= self.inbox.limit() {
            return answer(entry.reply, Err(Refused::Overloaded));
        }
        waiting.push(entry);
        if waiting.len() == 1 {
            sometimes::happened("an event that waits for an index");
            self.send_librarian(librarian::Job::Open(day));
        }
    }

    /// Until its index is there, whoever sends its events is told to send them again.
    fn refuse_day(&mut self, day: Day, refused: &Refused) {
        sometimes::happened("an index that is not to be had");
        for entry in self.waiting.remove(&day).unwrap_or_default() {
            answer(entry.reply, Err(refused.clone()));
        }
        self.unavailable.insert(day, refused.clone());
        self.note(None);
    }

    fn repair(&mut self, day: Day) {
        self.days.remove(&day);
        self.send_librarian(librarian::Job::Bad(day));
    }

    fn rebuild(&mut self, day: Day) {
        self.days.remove(&day);
        self.send_librarian(librarian::Job::Rebuild(day));
        self.send_librarian(librarian::Job::Open(day));
    }

    fn send_librarian(&self, job: librarian::Job) {
        // The librarian ends only after the committer.
        let _ = self.librarian.send(job);
    }

    fn commit(&mut self, mut batch: Batch) {
        let started = Instant::now();
        self.commit_notes(std::mem::take(&mut batch.notes));
        let mut draft = Draft::new();
        let first = self.next_sequence;
        self.number(&mut batch.events, &mut draft);
        let mut samples = Draft::new();
        let first_sample = self.next_sequence;
        self.number(&mut batch.samples, &mut samples);

        let count = batch.events.len() + batch.samples.len();
        let ids = draft.ids.clone();
        let before = self.ordinals();
        let outcome = self.write(LogKind::Events, draft, first);
        let samples_outcome = self.write(LogKind::Samples, samples, first_sample);
        if outcome.is_err() && samples_outcome.is_ok() && !batch.samples.is_empty() {
            sometimes::happened("a failed write of events beside a good one of samples");
        }
        let written = [(LogKind::Events, batch.events, &outcome), (LogKind::Samples, batch.samples, &samples_outcome)];
        let mut end = *self.shared.durable.borrow();
        let written = written.map(|(log, frames, outcome)| {
            let place = end.ordinals.of_mut(log);
            *place = before.of(log);
            (self.keep(log, frames, outcome, &mut end), outcome)
        });
        self.shared.durable.send_if_modified(|durable| std::mem::replace(durable, end) != end);
        if count > 0 && outcome.is_ok() {
            self.shared.metrics.commit(started.elapsed(), count);
        }
        for (sequences, outcome) in written {
            for (sequence, reply) in sequences {
                answer(reply, outcome.clone().map(|()| Accepted::New { sequence }));
            }
        }
        for reply in batch.repeats {
            answer(reply, outcome.clone().map(|()| Accepted::Duplicate));
        }
        if outcome.is_ok() {
            self.remember(&ids);
        }
    }

    /// Puts notes on disk. They are small, and a store that is full may need them before it is drained (a sink has another
    /// name, say): no limit holds them back, and they may use the reserve.
    fn commit_notes(&mut self, notes: Vec<Note>) {
        if notes.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let outcome = shared.reserve.write(|| {
            let mut draft = Draft::new();
            notes.iter().for_each(|(note, _)| frame::put_control(&mut draft.buffer, note));
            self.append(LogKind::Events, draft, self.next_sequence, None)
        });
        // Whoever is refused may take back what he wrote into his settings: a note that turns up behind a crash would
        // contradict him.
        let outcome = outcome.map_err(|error| match during(Phase::Commit, || self.events.void()) {
            Ok(()) => failed(&error),
            Err(_) => {
                sometimes::happened("a note of which nobody knows");
                Refused::Unknown(error.to_string())
            }
        });
        for (note, reply) in notes {
            if let (Ok(()), Control::Sinks(sinks)) = (&outcome, note) {
                // Here, so that no segment begins with the old ones after the note is on disk.
                *shared.sinks() = sinks;
            }
            let _ = reply.send(outcome.clone());
        }
    }

    /// Gives each event its sequence and puts it into the draft. A sequence is never given again, even if the write
    /// fails.
    fn number(&mut self, frames: &mut [(EventFrame, Reply)], draft: &mut Draft) {
        for (frame, _) in frames {
            frame.stored.sequence = self.next_sequence;
            self.next_sequence += 1;
            frame::put_event(&mut draft.buffer, frame);
            let day = frame::day_of(frame.stored.event.timestamp.instant());
            draft.ids.push(Id { sequence: frame.stored.sequence, day, hash: frame.hash });
            draft.last_received = frame.stored.arrival.received_at.as_microsecond();
        }
    }

    fn ordinals(&self) -> Ordinals {
        Ordinals { events: self.events.events(), samples: self.samples.events() }
    }

    /// Keeps in memory what is on disk now, and moves the end behind it. Returns whom to answer.
    fn keep(
        &self,
        log: LogKind,
        frames: Vec<(EventFrame, Reply)>,
        outcome: &Result<(), Refused>,
        end: &mut End,
    ) -> Vec<(u64, Reply)> {
        let mut records = Vec::with_capacity(frames.len());
        let mut replies = Vec::with_capacity(frames.len());
        for (EventFrame { stored, replaces, .. }, reply) in frames {
            replies.push((stored.sequence, reply));
            if outcome.is_err() {
                continue;
            }
            self.shared.damage.accepted(&stored, replaces);
            let ordinal = end.ordinals.of_mut(log);
            *ordinal += 1;
            records.push(Record { log, ordinal: *ordinal, replaces, stored: Arc::new(stored) });
        }
        if let Some(last) = records.last() {
            end.sequence = last.stored.sequence;
            self.shared.tail.push(records, *end);
        }
        replies
    }

    /// Writes one group into one of the two logs, where there is room.
    fn write(&mut self, kind: LogKind, draft: Draft, first: u64) -> Result<(), Refused> {
        let events = kind == LogKind::Events;
        if draft.is_empty() {
            return Ok(());
        }
        let shared = Arc::clone(&self.shared);
        let room = self.check_room(&shared, events, draft.buffer.len());
        if events && room.is_ok() {
            self.unclaimed = false;
        }
        let result = room.and_then(|claim| self.append(kind, draft, first, claim).map_err(|error| failed(&error)));
        if events {
            self.note(result.clone().err());
        }
        result
    }

    /// Appends one group, to a new segment where the last one is full; the room for that is `claim`.
    fn append(&mut self, kind: LogKind, draft: Draft, first: u64, claim: Option<Claim<'_>>) -> io::Result<()> {
        // What failed in the other log must not turn up below this; where it cannot be voided, its log goes on in a new
        // segment, as this one's does.
        let other = if kind == LogKind::Events { LogKind::Samples } else { LogKind::Events };
        if during(Phase::Commit, || self.log(other).void()).is_err() {
            self.begin_segment(other, first, None)?;
        }
        if self.log(kind).needs_segment(draft.buffer.len()) {
            self.begin_segment(kind, first, claim)?;
        } else {
            drop(claim);
        }
        during(Phase::Commit, || self.log(kind).append(draft, first))
    }

    fn log(&mut self, kind: LogKind) -> &mut Log {
        match kind {
            LogKind::Events => &mut self.events,
            LogKind::Samples => &mut self.samples,
        }
    }

    /// Ends a log's segment and begins the next; the room for that is `claim`.
    fn begin_segment(&mut self, kind: LogKind, first: u64, claim: Option<Claim<'_>>) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let (events, share) = (kind == LogKind::Events, shared.log(kind));
        let notes = if events { shared.notes() } else { Vec::new() };
        let spare = share.spare().take();
        if events {
            self.unclaimed = spare.is_none() && claim.is_none();
            if self.unclaimed {
                sometimes::happened("a segment that a note began");
            }
        }
        let log = self.log(kind);
        let sealed = during(Phase::Rotation, || log.start_segment(first, &notes, shared.now(), spare))?;
        if let Some(sealed) = sealed {
            share.ids_bytes.fetch_add(ids::length(sealed.ids.lock().len()), Ordering::Relaxed);
            let _ = self.janitor.send(janitor::Job::Sealed(kind, sealed));
        }
        Ok(())
    }

    /// Puts the ids of a durable group into their days' indexes.
    fn remember(&mut self, ids: &[Id]) {
        let mut by_day: BTreeMap<Day, Vec<Id>> = BTreeMap::new();
        for id in ids {
            by_day.entry(id.day).or_default().push(*id);
        }
        for (day, ids) in by_day {
            match self.days.get(&day).map(|open| open.index.insert(&ids)) {
                Some(Ok(())) => {}
                Some(Err(bad)) => {
                    sometimes::happened("an index that goes bad");
                    tracing::error!(day, error = %bad, "the index of a day is no good: it is rebuilt");
                    self.repair(day);
                    self.unindexed.entry(day).or_default().extend(ids);
                }
                // It went bad while this group was made, and may have been checked before the group was on disk.
                None => self.unindexed.entry(day).or_default().extend(ids),
            }
        }
    }

    /// Takes an index that the librarian has made ready, with the ids that it may have missed.
    fn take_index(&mut self, index: DayIndex) {
        let day = index.day;
        self.unavailable.remove(&day);
        let late = self.unindexed.remove(&day).unwrap_or_default();
        self.days.insert(day, OpenDay { index, used: Instant::now() });
        self.remember(&late);
    }

    /// Today's and yesterday's indexes stay open; of the others those that were used last, for a while.
    fn close_idle_days(&mut self) {
        let today = frame::day_of(self.shared.now());
        let others = self.days.iter().filter(|(day, _)| ![today, today - 1].contains(day));
        let mut others: Vec<(Instant, Day)> = others.map(|(day, open)| (open.used, *day)).collect();
        others.sort_unstable();
        let surplus = others.len().saturating_sub(MAX_OTHER_DAYS);
        for (place, (used, day)) in others.into_iter().enumerate() {
            if place >= surplus && used.elapsed() <= IDLE {
                continue;
            }
            if let Some(open) = self.days.remove(&day) {
                let _ = self.librarian.send(librarian::Job::Close(open.index));
            }
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.dead.send_replace(true);
        }
        // Whoever waits, or comes later, must not wait for ever.
        for entry in std::mem::take(&mut self.waiting).into_values().flatten().chain(self.inbox.end()) {
            answer(entry.reply, Err(Refused::Draining));
        }
    }
}

fn into_frame(entry: Entry) -> (EventFrame, Reply) {
    // As the journal will have it, so that nobody can tell whether an event comes from there or from memory.
    let received_at = jiff::Timestamp::from_microsecond(entry.arrival.received_at.as_microsecond());
    let received_at = received_at.unwrap_or(entry.arrival.received_at);
    let stored = Stored { sequence: 0, arrival: Arrival { received_at, ..entry.arrival }, event: entry.event };
    (EventFrame { stored, hash: entry.hash, replaces: None }, entry.reply)
}

fn answer(reply: Reply, answer: Result<Accepted, Refused>) {
    // Whoever asked may have given up; the event is on disk all the same.
    let _ = reply.send(answer);
}

pub(super) fn failed(error: &io::Error) -> Refused {
    match error.kind() {
        io::ErrorKind::StorageFull => Refused::Full("the disk is full".to_owned()),
        _ => Refused::Failed(error.to_string()),
    }
}

/// The day of an event, and the neighbouring one if it is about midnight.
fn days_of(instant: jiff::Timestamp) -> (Day, Option<Day>) {
    let day = frame::day_of(instant);
    let second = instant.as_second().rem_euclid(86_400);
    let neighbour = if second < MIDNIGHT_MARGIN {
        Some(day - 1)
    } else if second >= 86_400 - MIDNIGHT_MARGIN {
        Some(day + 1)
    } else {
        None
    };
    (day, neighbour)
}
