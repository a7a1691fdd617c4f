//! The durable, deduped log: a journal for the bodies, sled for the index of ids and the positions.
//!
//! ```text
//! format        the store's format number, its UUID, the key of its dedupe hash
//! lock          held by the daemon that has the store open
//! reserve       given up when the disk is full, so that positions, ids and dead letters can still be written
//! journal/      000000000001.seg …  000000000001.ids …  spare-ready
//! samples/      likewise, for metrics samples
//! seen/         one sled database per UTC day of the events' own timestamps: hashes of source and id, many in each value
//! meta/         sled: position and counts per sink
//! dead-letters/ letters.log
//! quarantine/   well signed bodies that were no events
//! damaged/      bytes of the files above that were found damaged, for people to look at
//! before-format-1/  a copy from before an upgrade that changed the format; see `migrate`
//! ```
//!
//! The journal is the truth. Why not sled for all of it: its `flush()` is `sync_file_range`, not fsync, so that a 200
//! after it would be a broken promise, and random keys beside bodies keep it from ever giving space back.
//!
//! What is durable is kept in memory for a while, too: whoever reads on as the log grows (`feed`) reads the disk only where
//! he is behind.
//!
//! Four threads: the *committer* alone writes the logs and answers; the *librarian* opens, checks and rebuilds the
//! indexes of days; the *janitor* writes ids, makes spares and removes what nobody needs; the *dead letters* have one of
//! their own. No lock is held over a call of the disk; see `guarded`.

mod births;
mod bytes;
mod closed;
mod committer;
mod damaged;
mod day_index;
mod dead_letters;
mod disk;
mod feed;
mod format;
mod frame;
mod frames;
mod guarded;
mod ids;
mod inbox;
mod janitor;
mod librarian;
mod lock;
mod log;
mod meta;
mod migrate;
mod open;
mod phase;
mod quarantine;
mod reader;
mod recent;
mod replace;
mod reserve;
mod segment;
mod settings;
mod shared;
mod sled_guard;
mod sweep;
#[cfg(test)]
mod tests;
mod verify;

pub use births::{Removed, SinkStart, Start};
pub use dead_letters::{Cause, DeadLetter, DeadLetterCounts, Resolution};
pub use disk::{Disk, File, Open, RealDisk, Space};
pub use feed::Feed;
pub use guarded::assert_no_lock_held;
pub use inbox::Accepted;
pub use meta::Progress;
pub use migrate::{Step, Work};
pub use open::{OpenError, Parts};
pub use quarantine::Quarantined;
pub use reader::{Mark, Reader};
pub use replace::{Failed, replace};
pub use settings::Settings;
pub use shared::{Clock, Refused};
pub use verify::{Proof, Sum, verify};

use crate::event::{Arrival, Event, Stored};
use crate::health::Health;
use guarded::Guarded;
use inbox::{Entry, Inbox};
use phase::{Phase, during};
use shared::Shared;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};

/// The open store. Dropping it closes it like [`Store::close`].
pub struct Store {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    format: format::Format,
    threads: Guarded<Option<Threads>>,
}

/// The threads, and how two of them are told to end; the committer ends with the inbox, the dead letters by their handle.
struct Threads {
    committer: JoinHandle<()>,
    letters: JoinHandle<()>,
    librarian: (mpsc::Sender<librarian::Job>, JoinHandle<()>),
    janitor: (mpsc::Sender<janitor::Job>, JoinHandle<()>),
}

impl Store {
    /// Opens or makes the store in `settings.path`, recovering what is there.
    ///
    /// Blocks on the disk.
    pub fn open(settings: Settings, parts: Parts) -> Result<Self, OpenError> {
        Self::open_migrating(settings, parts, migrate::STEPS)
    }

    /// The same with other steps from older formats than this version's own.
    pub fn open_migrating(settings: Settings, parts: Parts, steps: &[Step]) -> Result<Self, OpenError> {
        during(Phase::Recovery, || open::open(settings, parts, steps))
    }

    /// The store's UUID.
    pub fn instance(&self) -> &str {
        &self.format.instance
    }

    /// Offers an event, and answers once it is on disk or known not to come there. An id is known per source.
    pub async fn accept(&self, event: Event, arrival: Arrival) -> Result<Accepted, Refused> {
        let (reply, answer) = oneshot::channel();
        let hash = self.dedupe_hash(&arrival.source, &event.id);
        self.inbox.offer(Entry { event, arrival, hash, reply })?;
        // A committer that died dropped the reply.
        answer.await.unwrap_or_else(|_| Err(Refused::Failed("its writer has ended".to_owned())))
    }

    fn dedupe_hash(&self, source: &str, id: &str) -> u128 {
        let mut hasher = SipHasher24::new_with_key(&self.format.hash_key);
        hasher.write_usize(source.len());
        hasher.write(source.as_bytes());
        hasher.write(id.as_bytes());
        hasher.finish128().as_u128()
    }

    /// Tells which sinks there are. A new one begins where its `start` says, a known one goes on where it was, one that
    /// is not listed any more keeps its position for `store.retention`.
    pub async fn attach(&self, sinks: &[SinkStart]) -> Result<(), Refused> {
        births::attach(&self.shared, &self.inbox, sinks).await
    }

    /// How far a sink is.
    pub fn progress(&self, sink: &str) -> Progress {
        self.shared.meta.progress(sink).unwrap_or_default()
    }

    /// Notes how far a sink is, on the peer's own confirmation only. Survives a kill of the process once this returns.
    ///
    /// Blocks on the disk.
    pub fn advance(&self, sink: &str, progress: Progress) -> io::Result<()> {
        self.shared.meta.set_progress(sink, progress);
        during(Phase::Position, || self.shared.reserve.write(|| self.shared.meta.flush()))
    }

    /// Small state that somebody keeps here under a name of his own.
    pub fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.meta.value(key)
    }

    /// Whether the small state that was there could not be read when the store was opened.
    pub fn state_was_lost(&self) -> bool {
        self.shared.meta.was_lost()
    }

    /// Keeps small state; on disk for good when this returns.
    ///
    /// Blocks on the disk.
    pub fn set_state(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.shared.meta.set_value(key, value);
        self.shared.reserve.write(|| self.shared.meta.sync())
    }

    /// Small state about a sink, which goes along when that is renamed, and is forgotten with it.
    pub fn sink_state(&self, sink: &str) -> Option<Vec<u8>> {
        self.shared.meta.sink_value(sink)
    }

    /// Keeps [`Self::sink_state`]; on disk for good when this returns.
    ///
    /// Blocks on the disk.
    pub fn set_sink_state(&self, sink: &str, value: Vec<u8>) -> io::Result<()> {
        self.shared.meta.set_sink_value(sink, value);
        self.shared.reserve.write(|| self.shared.meta.sync())
    }

    /// While the host's clock is in doubt no id is forgotten.
    pub fn doubt_clock(&self, doubtful: bool) {
        self.shared.doubtful_clock.store(doubtful, Ordering::Relaxed);
    }

    /// Reads the events after a sequence.
    pub fn reader(&self, after: u64) -> Reader {
        let logs = [Arc::clone(&self.shared.events.segments), Arc::clone(&self.shared.samples.segments)];
        Reader::new(&logs, after, self.shared.durable.subscribe(), self.shared.metrics.clone())
    }

    /// Reads on from a sequence as the log grows.
    pub fn feed(&self, after: u64) -> Feed {
        Feed::new(Arc::clone(&self.shared.recent), self.reader(after), after)
    }

    /// [`Self::reader`] without samples, which have a log of their own.
    pub fn reader_without_samples(&self, after: u64) -> Reader {
        let logs = [Arc::clone(&self.shared.events.segments)];
        Reader::new(&logs, after, self.shared.durable.subscribe(), self.shared.metrics.clone())
    }

    /// When which sequence was received, as far as it can be told without reading: oldest first, one mark for each
    /// segment that is there.
    pub fn marks(&self, samples: bool) -> Vec<Mark> {
        let events = self.shared.events.segments.snapshot();
        let samples = if samples { self.shared.samples.segments.snapshot() } else { Vec::new() };
        reader::marks(events.iter().chain(&samples))
    }

    /// Whatever was received then or later has a higher sequence than this, and so has what is kept at all.
    pub fn sequence_before(&self, since: Option<jiff::Timestamp>) -> u64 {
        let marks = self.marks(true);
        let is_before = |mark: &&Mark| since.is_some_and(|since| mark.is_before(since));
        marks.iter().rev().find(is_before).or(marks.first()).map_or(0, |mark| mark.after)
    }

    /// Sinks that are in the settings no more and whose positions are kept.
    pub fn removed_sinks(&self) -> Vec<Removed> {
        births::removed(&self.shared)
    }

    /// Forgets the position of one of them: should it come back, it is new. `false` if there is none of that name.
    pub async fn forget_sink(&self, name: &str) -> Result<bool, Refused> {
        births::forget(&self.shared, &self.inbox, name).await
    }

    /// Where its threads note that they move.
    pub fn health(&self) -> Health {
        self.shared.health.clone()
    }

    /// The highest sequence that is on disk, and when it rises.
    pub fn durable(&self) -> watch::Receiver<u64> {
        self.shared.durable.subscribe()
    }

    /// `None` while events are accepted, else why not.
    pub fn refusing(&self) -> watch::Receiver<Option<Refused>> {
        self.shared.refusing.subscribe()
    }

    /// Becomes true if the store's writer ends without being told to: then the process has to end too.
    pub fn died(&self) -> watch::Receiver<bool> {
        self.shared.dead.subscribe()
    }

    /// Puts records among a sink's dead letters, on disk, before its position may move past them. Returns how many of the
    /// first ones are there now; it fails where there is not even room for one.
    ///
    /// Blocks on the disk.
    pub fn park(&self, sink: &str, letters: &[(Arc<Stored>, Cause)]) -> io::Result<usize> {
        let now = self.shared.now();
        during(Phase::DeadLettering, || self.shared.reserve.write(|| self.shared.letters.park(sink, letters, now)))
    }

    /// How many dead letters of a sink wait.
    pub fn dead_letters_waiting(&self, sink: &str) -> u64 {
        self.shared.letters.waiting(sink)
    }

    /// What became of a sink's dead letters, those aside that its position is not past yet: as many as it has noted.
    pub fn dead_letter_counts(&self, sink: &str) -> DeadLetterCounts {
        let progress = self.progress(sink);
        self.dead_letter_counts_through(sink, progress.position)
    }

    /// The same up to another position than the one that was noted last.
    pub fn dead_letter_counts_through(&self, sink: &str, position: u64) -> DeadLetterCounts {
        self.shared.letters.counts(sink, self.progress(sink).base, position)
    }

    /// The dead letters of a sink, by sequence.
    pub fn dead_letters(&self, sink: &str) -> Vec<(u64, DeadLetter)> {
        self.shared.letters.of(sink)
    }

    /// Those of all sinks or of `sink`, by sink and sequence: at most `limit` that are `wanted`, behind the one at `after`.
    pub fn dead_letters_after(
        &self,
        sink: Option<&str>,
        after: Option<(String, u64)>,
        limit: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Vec<(String, u64, DeadLetter)> {
        self.shared.letters.after(sink, after.as_ref(), limit, wanted)
    }

    /// So many of the newest of them, the newest first.
    pub fn newest_dead_letters(&self, sink: &str, limit: usize) -> Vec<(u64, DeadLetter)> {
        self.shared.letters.newest(sink, limit)
    }

    /// The event of a dead letter; `None` when none waits there, or none any more, since its bytes are damaged.
    ///
    /// Blocks on the disk.
    pub fn dead_letter_event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        self.shared.letters.event(sink, sequence)
    }

    /// Notes, durably, what became of dead letters. Returns how many of them waited.
    ///
    /// Blocks on the disk.
    pub fn resolve(&self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        self.shared.reserve.write(|| self.shared.letters.resolve(sink, sequences, how))
    }

    /// Keeps a copy of a body that was well signed and yet no event, and why it is none.
    ///
    /// Blocks on the disk.
    pub fn quarantine(&self, source: &str, reason: &str, body: &[u8]) -> io::Result<()> {
        self.shared.quarantine.keep(source, reason, body, self.shared.now())
    }

    /// Such copies whose id is above `after`, oldest first: at most `limit` that are `wanted`.
    pub fn quarantined(
        &self,
        after: Option<i64>,
        limit: usize,
        wanted: impl Fn(&Quarantined) -> bool,
    ) -> Vec<Quarantined> {
        self.shared.quarantine.after(after, limit, wanted)
    }

    /// One of them with its body.
    ///
    /// Blocks on the disk.
    pub fn quarantined_body(&self, id: i64) -> io::Result<Option<(Quarantined, Vec<u8>)>> {
        self.shared.quarantine.read(id)
    }

    /// Gives them up. Returns how many there were.
    ///
    /// Blocks on the disk.
    pub fn drop_quarantined(&self, ids: &[i64]) -> io::Result<usize> {
        ids.iter().try_fold(0, |dropped, id| Ok(dropped + usize::from(self.shared.quarantine.remove(*id)?)))
    }

    /// Bytes that count towards `store.max_size`.
    pub fn used_bytes(&self) -> u64 {
        self.shared.used()
    }

    /// Has the janitor look now rather than at its next tick.
    #[cfg(test)]
    fn janitor_now(&self) {
        if let Some(threads) = &*self.threads.lock() {
            threads.janitor.0.send(janitor::Job::Sweep).unwrap();
        }
    }

    /// Refuses what comes from now on; what waits is still answered.
    pub fn stop_accepting(&self) {
        self.inbox.close();
        self.shared.refusing.send_replace(Some(Refused::Draining));
    }

    /// Works off what waits, puts everything on disk, and ends the threads.
    ///
    /// Blocks on the disk.
    pub fn close(&self) {
        self.stop_accepting();
        let Some(threads) = self.threads.lock().take() else { return };
        let Threads { committer, letters, librarian, janitor } = threads;
        if committer.join().is_err() {
            self.shared.dead.send_replace(true);
        }
        let _ = librarian.0.send(librarian::Job::Finish);
        let _ = janitor.0.send(janitor::Job::Finish);
        self.shared.letters.finish();
        for thread in [letters, librarian.1, janitor.1] {
            if thread.join().is_err() {
                tracing::error!("a thread of the store panicked");
            }
        }
        if let Err(error) = self.shared.meta.sync() {
            tracing::error!(error = %error, "the positions cannot be put on disk: sinks may repeat what they sent last");
        }
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("instance", &self.format.instance).finish_non_exhaustive()
    }
}
