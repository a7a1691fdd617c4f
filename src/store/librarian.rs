//! The thread that opens, checks, rebuilds, closes and forgets the indexes of days, so that the committer never waits
//! for any of it.

use super::day_index::{self, DayIndex};
use super::frame::Day;
use super::ids::Id;
use super::inbox::{Command, Inbox};
use super::shared::Shared;
use super::sled_guard::{self, Bad};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

pub(super) enum Job {
    /// The committer wants this day.
    Open(Day),
    /// A call into this day's index went wrong; it was let go of.
    Suspect(Day),
    /// The committer does not need it any more.
    Close(DayIndex),
    /// The store is being closed: put everything on disk and note that it is complete.
    Finish,
}

/// How often what is indexed is put on disk for good. After a crash, the days written to since then are checked.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// How soon an index that could not be opened is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Ids that are put into an index at once while it is rebuilt.
const CHUNK: usize = 999;

pub(super) struct Librarian {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    seen: PathBuf,
    open: BTreeMap<Day, DayIndex>,
    suspects: Suspects,
    retry: HashSet<Day>,
    checkpointed: u64,
}

/// Days whose index may lack what the journal has.
enum Suspects {
    All { cleared: HashSet<Day> },
    Some(HashSet<Day>),
}

impl Suspects {
    fn contains(&self, day: Day) -> bool {
        match self {
            Self::All { cleared } => !cleared.contains(&day),
            Self::Some(days) => days.contains(&day),
        }
    }

    fn clear(&mut self, day: Day) {
        match self {
            Self::All { cleared } => drop(cleared.insert(day)),
            Self::Some(days) => drop(days.remove(&day)),
        }
    }

    fn add(&mut self, day: Day) {
        match self {
            Self::All { cleared } => drop(cleared.remove(&day)),
            Self::Some(days) => drop(days.insert(day)),
        }
    }
}

/// All indexes hold, for good, every id up to this sequence.
#[derive(Serialize, Deserialize)]
struct Checkpoint {
    through: u64,
}

impl Librarian {
    /// Finds out which days were written to since the last checkpoint.
    pub(super) fn new(shared: Arc<Shared>, inbox: Arc<Inbox>, seen: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&seen)?;
        let through = read_checkpoint(&seen);
        let suspects = match through {
            None => Suspects::All { cleared: HashSet::new() },
            Some(through) if through >= *shared.durable.borrow() => Suspects::Some(HashSet::new()),
            Some(through) => {
                let mut days = HashSet::new();
                shared.events.for_each_id(
                    |_, _| true,
                    |id| {
                        if id.sequence > through {
                            days.insert(id.day);
                        }
                    },
                )?;
                Suspects::Some(days)
            }
        };
        Ok(Self {
            shared,
            inbox,
            seen,
            open: BTreeMap::new(),
            suspects,
            retry: HashSet::new(),
            checkpointed: through.unwrap_or(0),
        })
    }

    /// Works until told to finish.
    pub(super) fn run(mut self, jobs: &mpsc::Receiver<Job>) {
        let mut next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
        loop {
            match jobs.recv_timeout(RETRY_AFTER) {
                Ok(Job::Open(day)) => self.hand_over(day),
                Ok(Job::Suspect(day)) => {
                    self.open.remove(&day);
                    self.suspects.add(day);
                }
                Ok(Job::Close(index)) => self.close(index),
                Ok(Job::Finish) | Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    for day in std::mem::take(&mut self.retry) {
                        self.hand_over(day);
                    }
                }
            }
            if Instant::now() >= next_checkpoint {
                self.checkpoint();
                self.forget_days();
                next_checkpoint = Instant::now() + CHECKPOINT_EVERY;
            }
        }
        self.checkpoint();
    }

    fn hand_over(&mut self, day: Day) {
        match self.open(day) {
            Ok(index) => self.inbox.command(Command::DayOpened(index)),
            Err(error) => {
                tracing::error!(day, error = %error, "the index of a day cannot be opened: its events wait");
                self.retry.insert(day);
            }
        }
    }

    /// Opens a day, checked against the journal if there is doubt.
    pub(super) fn open(&mut self, day: Day) -> io::Result<DayIndex> {
        if let Some(index) = self.open.get(&day) {
            return Ok(index.clone());
        }
        let was_there = day_index::folder(&self.seen, day).is_dir();
        let index = match DayIndex::open(&self.seen, day) {
            Ok(index) if was_there && !self.suspects.contains(day) => index,
            Ok(index) => match self.check(&index) {
                Ok(()) => index,
                Err(error) => {
                    drop(index);
                    self.rebuild(day, &error)?
                }
            },
            Err(bad) => self.rebuild(day, &io::Error::other(bad))?,
        };
        self.suspects.clear(day);
        self.open.insert(day, index.clone());
        if self.retry.is_empty() {
            self.shared.index_in_repair.store(false, Ordering::Release);
        }
        Ok(index)
    }

    fn rebuild(&self, day: Day, why: &io::Error) -> io::Result<DayIndex> {
        tracing::warn!(day, error = %why, "the index of a day is rebuilt from the journal");
        sled_guard::set_aside(&day_index::folder(&self.seen, day))?;
        let index = DayIndex::open(&self.seen, day).map_err(io::Error::other)?;
        self.check(&index)?;
        Ok(index)
    }

    /// Adds what the journal has above the index's own mark. An id that is missing below the mark means that the index
    /// lost what it had: then nothing in it can be relied on.
    fn check(&self, index: &DayIndex) -> io::Result<()> {
        let applied = index.applied().map_err(io::Error::other)?;
        let mut missing = Vec::with_capacity(CHUNK);
        let mut result: Result<(), Bad> = Ok(());
        let mut lost = 0u64;
        self.shared.events.for_each_id(
            |lowest, highest| (lowest..=highest).contains(&index.day),
            |id: Id| {
                if id.day != index.day || result.is_err() {
                    return;
                }
                match index.contains(id.hash) {
                    Ok(true) => {}
                    Ok(false) => {
                        lost += u64::from(id.sequence <= applied);
                        missing.push(id);
                    }
                    Err(bad) => result = Err(bad),
                }
                if missing.len() == CHUNK && result.is_ok() {
                    result = index.insert(&missing);
                    missing.clear();
                }
            },
        )?;
        result.and_then(|()| index.insert(&missing)).map_err(io::Error::other)?;
        if lost > 0 {
            return Err(io::Error::other(format!("{lost} ids are missing that it had")));
        }
        Ok(())
    }

    fn close(&mut self, index: DayIndex) {
        let day = index.day;
        self.open.remove(&day);
        // Later it is opened without doubt, so it must be complete on disk first.
        if let Err(bad) = index.sync() {
            tracing::error!(day, error = %bad, "the index of a day cannot be put on disk");
            self.suspects.add(day);
        }
    }

    /// Puts every open index on disk, then notes up to where they are complete.
    fn checkpoint(&mut self) {
        // Read before the sync: what is indexed meanwhile may or may not be covered.
        let through = self.shared.indexed.load(Ordering::Acquire);
        let unsure = matches!(&self.suspects, Suspects::Some(days) if !days.is_empty());
        let unchecked = matches!(&self.suspects, Suspects::All { .. }) && !self.check_all();
        if unsure || unchecked || self.shared.index_in_repair.load(Ordering::Acquire) || through <= self.checkpointed {
            return;
        }
        let synced = self.open.values().try_for_each(|index| index.sync().map_err(io::Error::other));
        match synced.and_then(|()| write_checkpoint(&self.seen, through)) {
            Ok(()) => {
                self.checkpointed = through;
                self.suspects = Suspects::Some(HashSet::new());
            }
            Err(error) => {
                tracing::error!(error = %error, "the indexes cannot be put on disk: they are checked at the next start")
            }
        }
    }

    /// Checks every day that the journal has ids of. Done in pieces by the caller's loop would be finer; a store whose
    /// indexes were all lost is rare, and each day that is asked for is checked first.
    fn check_all(&mut self) -> bool {
        let mut days = HashSet::new();
        let listed = self.shared.events.for_each_id(
            |_, _| true,
            |id| {
                days.insert(id.day);
            },
        );
        days.retain(|day| self.suspects.contains(*day) && !self.shared.is_forgotten(*day));
        listed.is_ok()
            && days.into_iter().all(|day| {
                let was_open = self.open.contains_key(&day);
                let opened = self.open(day).and_then(|index| index.sync().map_err(io::Error::other));
                if !was_open {
                    self.open.remove(&day);
                }
                opened.is_ok()
            })
    }

    /// Removes the indexes of days that need not be remembered any more.
    fn forget_days(&mut self) {
        if !self.shared.clock_is_sane() {
            tracing::warn!("the wall clock and the monotonic clock disagree: nothing is forgotten");
            return;
        }
        let days = match day_index::days(&self.seen) {
            Ok(days) => days,
            Err(error) => return tracing::error!(error = %error, "the indexes cannot be listed"),
        };
        for day in days {
            if self.shared.is_forgotten(day) && !self.open.contains_key(&day) {
                if let Err(error) = sled_guard::remove(&day_index::folder(&self.seen, day)) {
                    tracing::error!(day, error = %error, "the index of a day that is over cannot be removed");
                }
            }
        }
    }
}

fn checkpoint_path(seen: &Path) -> PathBuf {
    seen.join("checkpoint.json")
}

/// `None` when there is none that can be read: then every day is checked.
fn read_checkpoint(seen: &Path) -> Option<u64> {
    let text = std::fs::read(checkpoint_path(seen)).ok()?;
    serde_json::from_slice::<Checkpoint>(&text).ok().map(|checkpoint| checkpoint.through)
}

fn write_checkpoint(seen: &Path, through: u64) -> io::Result<()> {
    let temporary = seen.join("checkpoint.new");
    std::fs::write(&temporary, serde_json::to_vec(&Checkpoint { through })?)?;
    std::fs::File::open(&temporary)?.sync_all()?;
    std::fs::rename(&temporary, checkpoint_path(seen))?;
    std::fs::File::open(seen)?.sync_all()
}
