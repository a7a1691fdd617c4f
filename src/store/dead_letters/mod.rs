//! Records that a sink will never take, kept until an operator decides.
//!
//! One append-only file of frames. A letter is synced before its sink's position moves past it; what became of it later is
//! a frame too. Sinks are known by a key, whatever that is.
//!
//! A thread of its own writes the file: whoever dead-letters or resolves waits for it, and nobody else does. What waits is in
//! memory, behind a lock that is never held over the disk; how large the file is, is a number beside it. A file that holds
//! little but what is over is written anew in pieces, between which letters are taken as ever, and then put in the old
//! one's place.
//!
//! A byte that is damaged costs its frame: the frame is stepped over, kept in `damaged/`, and counted; see `recover`.

mod coding;
#[cfg(test)]
mod fuzz;
mod index;
mod recover;
mod rewrite;
#[cfg(test)]
mod tests;
mod writer;

pub(super) use coding::SHAPE;
pub(super) use index::{Fate, Index};
pub(super) use writer::{TICK, Working, Writer};

use super::files::disk::{Disk, File};
use super::files::frames;
use super::files::guarded::{Guarded, assert_no_lock_held};
use super::sinks::positions::Progress;
use crate::event::Stored;
use crate::executor::Answers;
use crate::metrics::Metrics;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};

/// Why a record became a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// One of the metrics' reasons.
    pub reason: String,
    /// The peer's or the client's own words.
    pub message: String,
}

/// A dead letter that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The event's id.
    pub id: String,
    /// Why.
    pub cause: Cause,
    /// Since when.
    pub at: jiff::Timestamp,
}

/// What an operator did with a dead letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// Sent again with success.
    Retried,
    /// Given up.
    Dropped,
    /// Handed on to where the peer keeps dead letters.
    Forwarded,
}

impl From<Resolution> for Fate {
    fn from(how: Resolution) -> Self {
        match how {
            Resolution::Retried => Self::Retried,
            Resolution::Dropped => Self::Dropped,
            Resolution::Forwarded => Self::Forwarded,
        }
    }
}

/// What became of a sink's dead letters, each counted once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeadLetterCounts {
    /// They are there.
    pub waiting: u64,
    /// Sent again with success.
    pub retried: u64,
    /// Handed on to where the peer keeps dead letters.
    pub forwarded: u64,
    /// Given up.
    pub dropped: u64,
    /// Lost with bytes that were damaged.
    pub damaged: u64,
}

impl DeadLetterCounts {
    /// All of them: as many as the sink has dead-lettered.
    pub fn sum(&self) -> u64 {
        self.waiting + self.retried + self.forwarded + self.dropped + self.damaged
    }

    /// By how many these differ from what the sink has dead-lettered. Always 0.
    pub fn unaccounted(&self, dead_lettered: u64) -> u64 {
        // A record whose letter was damaged before the position moved past it was sent again, and may have been taken.
        let twice = self.sum().saturating_sub(dead_lettered).min(self.damaged);
        (self.sum() - twice).abs_diff(dead_lettered)
    }
}

/// What is known of a sink's position, by its key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    pub(super) progress: Progress,
    /// The position that is on disk for good.
    pub(super) durable: u64,
}

/// Asked when the file is written anew, and when it is damaged.
pub(super) type Positions = Arc<dyn Fn() -> BTreeMap<String, Known> + Send + Sync>;

/// What the letters are given.
pub(super) struct Context {
    pub(super) disk: Arc<dyn Disk>,
    /// The store's folder.
    pub(super) store: PathBuf,
    /// Most bytes of letters that wait.
    pub(super) max_live: u64,
    pub(super) positions: Positions,
    pub(super) metrics: Metrics,
}

/// What reading needs, and whoever counts.
struct Shared {
    state: Guarded<State>,
    /// The length of the file.
    size: AtomicU64,
}

struct State {
    index: Index,
    /// In which the places are. It stays readable when another takes its place.
    file: Arc<dyn File>,
}

/// The handle to the letters. It is answered by whoever runs [`Writer`].
pub(super) struct Letters {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
    /// Set once the writer works.
    answers: OnceLock<Answers>,
}

type Reply<T> = mpsc::SyncSender<io::Result<T>>;

enum Job {
    /// Letters of one sink, by sequence, as they are written.
    Park {
        sink: String,
        letters: Vec<(u64, Vec<u8>)>,
        reply: Reply<usize>,
    },
    Resolve {
        sink: String,
        sequences: Vec<u64>,
        fate: Fate,
        reply: Reply<usize>,
    },
    Restart {
        sink: String,
        reply: Reply<()>,
    },
    /// A letter could not be read.
    Unreadable {
        sink: String,
        sequence: u64,
        reply: Reply<()>,
    },
    /// The file is to be written anew, whether or not that is worth it.
    #[cfg(test)]
    Rewrite {
        reply: Reply<()>,
    },
    Finish,
}

impl Letters {
    /// Reads the file, and makes it where there is none.
    pub(super) fn open(context: Context) -> io::Result<(Self, Writer)> {
        let (jobs, received) = mpsc::channel();
        let (shared, writer) = Writer::open(context, received)?;
        Ok((Self { shared, jobs, answers: OnceLock::new() }, writer))
    }

    /// The writer works from now on.
    pub(super) fn answered_by(&self, answers: Answers) {
        // It is started once.
        let _ = self.answers.set(answers);
    }

    fn ask<T>(&self, job: impl FnOnce(Reply<T>) -> Job) -> io::Result<T> {
        assert_no_lock_held();
        let ended = || io::Error::other("the store's dead letters are closed");
        let (reply, answer) = mpsc::sync_channel(1);
        self.jobs.send(job(reply)).map_err(|_| ended())?;
        self.answers.get_or_init(Answers::default).wait(&answer).ok_or_else(ended)?
    }

    /// Bytes on disk.
    pub(super) fn size(&self) -> u64 {
        self.shared.size.load(Ordering::Relaxed)
    }

    pub(super) fn highest_sequence(&self) -> u64 {
        self.shared.state.lock().index.highest_sequence()
    }

    pub(super) fn waiting(&self, sink: &str) -> u64 {
        self.shared.state.lock().index.waiting(sink)
    }

    /// Those that came after `base` and up to `through`.
    pub(super) fn counts(&self, sink: &str, base: u64, through: u64) -> DeadLetterCounts {
        self.shared.state.lock().index.counts(sink, base, through)
    }

    /// Sequences above this one of which there is a letter, or was one until somebody resolved it.
    pub(super) fn above(&self, sink: &str, sequence: u64) -> BTreeSet<u64> {
        self.shared.state.lock().index.above(sink, sequence)
    }

    /// Whether there is a letter of this sequence, or was one until somebody resolved it.
    pub(super) fn has(&self, sink: &str, sequence: u64) -> bool {
        self.shared.state.lock().index.has(sink, sequence)
    }

    /// Those of a sink, by sequence.
    pub(super) fn of(&self, sink: &str) -> Vec<(u64, DeadLetter)> {
        let state = self.shared.state.lock();
        state.index.of(sink).map(|(sequence, letter)| (sequence, letter.clone())).collect()
    }

    /// So many of the newest of them, the newest first.
    pub(super) fn newest(&self, sink: &str, limit: usize) -> Vec<(u64, DeadLetter)> {
        let state = self.shared.state.lock();
        state.index.of(sink).rev().take(limit).map(|(sequence, letter)| (sequence, letter.clone())).collect()
    }

    /// Those of all sinks or of one, by sink and sequence: at most `limit` that are `wanted`, behind the one at `after`.
    pub(super) fn after(
        &self,
        sink: Option<&str>,
        after: Option<&(String, u64)>,
        limit: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Vec<(String, u64, DeadLetter)> {
        let state = self.shared.state.lock();
        let found = state.index.after(sink, after).filter(|(.., letter)| wanted(letter)).take(limit);
        found.map(|(sink, sequence, letter)| (sink.to_owned(), sequence, letter.clone())).collect()
    }

    /// The event of a letter that waits. One whose bytes are damaged waits no more then.
    pub(super) fn event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        let (file, place) = {
            let state = self.shared.state.lock();
            let Some(waiting) = state.index.letter(sink, sequence) else { return Ok(None) };
            (Arc::clone(&state.file), waiting.place)
        };
        if let Some(stored) = frames::read(&*file, place)?.as_ref().and_then(coding::event) {
            return Ok(Some(stored));
        }
        self.ask(|reply| Job::Unreadable { sink: sink.to_owned(), sequence, reply })?;
        Ok(None)
    }

    /// Adds letters of one sink, durably, as many of the first ones as there is room for, and returns how many these are.
    /// One that waits already is not added twice (its position did not move last time), and counts.
    pub(super) fn park(&self, sink: &str, letters: &[(Arc<Stored>, Cause)], now: jiff::Timestamp) -> io::Result<usize> {
        let write =
            |(stored, cause): &(Arc<Stored>, Cause)| (stored.sequence, coding::letter(sink, stored, cause, now));
        let letters = letters.iter().map(write).collect();
        self.ask(|reply| Job::Park { sink: sink.to_owned(), letters, reply })
    }

    /// Notes what became of letters. Returns how many of them waited.
    pub(super) fn resolve(&self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        let (sink, sequences, fate) = (sink.to_owned(), sequences.to_vec(), how.into());
        self.ask(|reply| Job::Resolve { sink, sequences, fate, reply })
    }

    /// The position of the sink of this key is lost, and it passes its records once more. Those that became letters are
    /// still known, unless only their number was kept: then it begins with none. What waits goes on waiting, and counts no
    /// more.
    pub(super) fn restart(&self, sink: &str) -> io::Result<()> {
        if !self.shared.state.lock().index.has_totals(sink) {
            return Ok(());
        }
        self.ask(|reply| Job::Restart { sink: sink.to_owned(), reply })
    }

    #[cfg(test)]
    pub(super) fn rewrite(&self) -> io::Result<()> {
        self.ask(|reply| Job::Rewrite { reply })
    }

    /// Has the thread end.
    pub(super) fn finish(&self) {
        // It may have ended by a panic.
        let _ = self.jobs.send(Job::Finish);
    }
}

pub(super) fn folder(store: &Path) -> PathBuf {
    store.join("dead-letters")
}

pub(super) fn file_path(folder: &Path) -> PathBuf {
    folder.join(NAME)
}

const NAME: &str = "letters.log";
