//! The thread that opens, checks, rebuilds, closes and forgets the indexes of days, so that the committer never waits
//! for any of it.
//!
//! An index is relied on as it is only if its files are, byte for byte, what was put on disk when it was closed: their
//! checksum is noted then, and the note is taken back, durably, before the index is opened. Any other is checked
//! against the ids in the journal.

use super::closed::Closed;
use super::day_index::{self, DayIndex};
use crate::executor::Worker;
use crate::health::Pulse;
use crate::logging::Occasional;
use crate::sometimes;
use crate::store::errors::Refused;
use crate::store::kv::{Bad, judge};
use crate::store::log::frame::Day;
use crate::store::log::ids::Id;
use crate::store::phase::{Phase, during};
use crate::store::shared::Shared;
use crate::store::write::inbox::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use tokio::time::Instant;

pub(in crate::store) enum Job {
    /// The committer wants this day.
    Open(Day),
    /// A call into this day's index went wrong; the committer let go of it.
    Bad(Day),
    /// This day's index knows ids whose records are gone; the committer let go of it.
    Rebuild(Day),
    /// The committer does not need it any more.
    Close(DayIndex),
    /// The store is being closed, and the committer has ended.
    Finish,
}

/// How often days that are over are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How soon an index that could not be opened is tried again.
pub(in crate::store) const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(in crate::store) struct Librarian {
    shared: Arc<Shared>,
    seen: PathBuf,
    pulse: Pulse,
    said: Occasional,
    open: BTreeMap<Day, DayIndex>,
    closed: Closed,
    /// Open, and not as they were closed. sled may read back less from such files than it shows now, so that they are
    /// checked each time until they are rebuilt or forgotten.
    doubtful: BTreeSet<Day>,
    retry: BTreeSet<Day>,
    next_retry: Instant,
    next_forget: Instant,
    jobs: mpsc::Receiver<Job>,
}

impl Worker for Librarian {
    /// Ends when told to finish.
    fn step(&mut self, patience: Duration) -> bool {
        self.pulse.beat();
        match self.jobs.recv_timeout(patience) {
            Ok(Job::Open(day)) => self.hand_over(day),
            Ok(Job::Bad(day)) => drop(self.open.remove(&day)),
            Ok(Job::Rebuild(day)) => self.discard(day),
            Ok(Job::Close(index)) => self.close(vec![index]),
            Ok(Job::Finish) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                let open = std::mem::take(&mut self.open).into_values().collect();
                self.close(open);
                return false;
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() >= self.next_retry {
            for day in std::mem::take(&mut self.retry) {
                self.hand_over(day);
            }
            self.next_retry = Instant::now() + RETRY_AFTER;
        }
        if Instant::now() >= self.next_forget {
            self.forget_days();
            self.next_forget = Instant::now() + FORGET_EVERY;
        }
        true
    }
}

impl Librarian {
    pub(in crate::store) fn new(
        shared: Arc<Shared>,
        seen: PathBuf,
        pulse: Pulse,
        jobs: mpsc::Receiver<Job>,
    ) -> io::Result<Self> {
        let closed = Closed::read(&*shared.disk, &seen, last_event(&shared))?;
        Ok(Self {
            shared,
            seen,
            pulse,
            said: Occasional::default(),
            open: BTreeMap::new(),
            closed,
            doubtful: BTreeSet::new(),
            retry: BTreeSet::new(),
            next_retry: Instant::now() + RETRY_AFTER,
            next_forget: Instant::now(),
            jobs,
        })
    }

    fn hand_over(&mut self, day: Day) {
        if let Some(index) = self.try_open(day) {
            self.shared.inbox.command(Command::DayOpened(index));
        }
    }

    /// [`Self::open`]; where that fails the committer is told, and it is tried again soon.
    pub(in crate::store) fn try_open(&mut self, day: Day) -> Option<DayIndex> {
        match self.open(day) {
            Ok(index) => Some(index),
            Err(error) => {
                if let Some(suppressed) = self.said.pass(Instant::now()) {
                    tracing::error!(day, %error, suppressed, "the index of a day cannot be opened: its events are refused");
                }
                self.shared.inbox.command(Command::DayUnavailable(day, unavailable(&error)));
                self.retry.insert(day);
                None
            }
        }
    }

    /// Opens a day, checked against the journal if there is doubt.
    fn open(&mut self, day: Day) -> io::Result<DayIndex> {
        if let Some(index) = self.open.get(&day) {
            return Ok(index.clone());
        }
        let folder = day_index::folder(&self.seen, day);
        let as_closed = match self.closed.checksum(day) {
            Some(noted) => {
                sometimes::happened("an index that is opened as it was closed");
                self.withdraw_note(day)?;
                self.shared.kv.checksum(&folder).is_ok_and(|found| found == noted)
            }
            None => false,
        };
        if !as_closed && self.shared.kv.exists(&folder) {
            self.doubtful.insert(day);
        }
        let sound = judge(&*self.shared.kv, &folder, || {
            let index = self.open_index(day)?;
            if !as_closed {
                self.check(&index)?;
            }
            Ok(index)
        });
        let index = match sound {
            Err(bad) if bad.is_corrupt() => self.rebuild(day, &bad)?,
            // It may know what the journal has lost.
            sound => sound?,
        };
        self.open.insert(day, index.clone());
        Ok(index)
    }

    fn open_index(&self, day: Day) -> Result<DayIndex, Bad> {
        DayIndex::open(&*self.shared.kv, &self.seen, day)
    }

    /// On disk before it is gone from memory: a note that outlives a change to the index would vouch for the files as they
    /// were before, and a power cut may bring those back.
    fn withdraw_note(&mut self, day: Day) -> io::Result<()> {
        let mut rest = self.closed.without(day);
        rest.write(&*self.shared.disk, &self.seen, last_event(&self.shared))?;
        self.closed = rest;
        Ok(())
    }

    fn discard(&mut self, day: Day) {
        drop(self.open.remove(&day));
        if let Err(error) = self.shared.kv.remove(&day_index::folder(&self.seen, day)) {
            tracing::error!(day, %error, "the index of a day cannot be made anew: ids of damaged records stay known until a restart");
        }
        self.doubtful.remove(&day);
    }

    fn rebuild(&mut self, day: Day, why: &Bad) -> io::Result<DayIndex> {
        sometimes::happened("an index that is rebuilt");
        tracing::warn!(day, error = %why, "the index of a day is rebuilt from the journal");
        self.shared.kv.set_aside_once(&day_index::folder(&self.seen, day))?;
        self.doubtful.remove(&day);
        let index = self.open_index(day)?;
        self.check(&index)?;
        Ok(index)
    }

    /// Adds what the journal has above the index's own mark. An id that is missing below the mark means that the index
    /// lost what it had: then nothing in it can be relied on.
    fn check(&self, index: &DayIndex) -> Result<(), Bad> {
        let applied = index.applied();
        let mut result: Result<(), Bad> = Ok(());
        let mut lost = 0u64;
        self.shared
            .events
            .for_each_id(
                |lowest, highest| (lowest..=highest).contains(&index.day),
                |id: Id| {
                    self.pulse.beat();
                    if id.day == index.day && result.is_ok() && !index.contains(id.hash) {
                        lost += u64::from(id.sequence <= applied);
                        result = index.insert(&[id]);
                    }
                },
            )
            .map_err(Bad::Unavailable)?;
        if lost > 0 {
            return Err(Bad::Corrupt(format!("{lost} ids are missing that it had")));
        }
        result
    }

    /// Puts indexes on disk and notes what their files are. One for which that fails is checked when it is next opened.
    fn close(&mut self, indexes: Vec<DayIndex>) {
        for index in indexes {
            let day = index.day;
            self.open.remove(&day);
            let synced = during(Phase::IndexFlush, || index.sync()).map_err(io::Error::other);
            // The last handle: its database writes and lets go of the files.
            drop(index);
            let folder = day_index::folder(&self.seen, day);
            if self.doubtful.remove(&day) {
                continue;
            }
            match synced.and_then(|()| self.shared.kv.checksum(&folder)) {
                Ok(checksum) => self.closed = self.closed.with(day, checksum),
                Err(error) => tracing::error!(day, error = %error, "the index of a day cannot be put on disk"),
            }
        }
        if let Err(error) = self.closed.write(&*self.shared.disk, &self.seen, last_event(&self.shared)) {
            tracing::error!(error = %error, "which indexes are complete cannot be noted: they are checked when next opened");
        }
    }

    /// Removes the indexes of days that need not be remembered any more.
    fn forget_days(&mut self) {
        if !self.shared.clock_is_sane() {
            return tracing::warn!("the wall clock is in doubt: nothing is forgotten");
        }
        let days = match day_index::days(&*self.shared.kv, &self.seen) {
            Ok(days) => days,
            Err(error) => return tracing::error!(error = %error, "the indexes cannot be listed"),
        };
        for day in days.into_iter().filter(|day| self.shared.is_forgotten(*day) && !self.open.contains_key(day)) {
            let folder = day_index::folder(&self.seen, day);
            if let Err(error) = during(Phase::DayDrop, || self.shared.kv.remove(&folder)) {
                tracing::error!(day, error = %error, "the index of a day that is over cannot be removed");
            }
        }
    }
}

/// What is answered to whoever sends an event of such a day.
fn unavailable(error: &io::Error) -> Refused {
    let text = format!("the index of known ids cannot be opened: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull => Refused::Full(text),
        _ => Refused::Failed(text),
    }
}

/// The last event of the journal that is on disk.
fn last_event(shared: &Shared) -> u64 {
    shared.events.segments.snapshot().iter().map(|segment| segment.last_sequence()).max().unwrap_or(0)
}
