//! The durable, deduped log: a journal for the bodies, sled for the index of ids and the positions.
//!
//! ```text
//! format        the store's format number, its UUID, the key of its dedupe hash
//! lock          held by the daemon that has the store open
//! reserve       given up when the disk is full, so that positions, ids and dead letters can still be written
//! journal/      000000000001.seg …  000000000001.ids …  spare-ready
//! samples/      likewise, for metrics samples
//! seen/         one sled database per UTC day of the events' own timestamps: hashes of source and id, many in each value
//! positions/    position and counts per sink
//! meta/         sled: cursors of the backfill, replays, and other small state
//! damaged/      bytes that were not sound, and the ids that were lost with them
//! dead-letters/ letters.log
//! quarantine/   well signed bodies that were no events
//! damaged/      bytes of the files above that were found damaged, for people to look at
//! before-format-1/  a copy from before an upgrade that changed the format; see `format::migrate`
//! ```
//!
//! The journal is the truth. Why not sled for all of it: its `flush()` is `sync_file_range`, not fsync, so that a 200
//! after it would be a broken promise, and random keys beside bodies keep it from ever giving space back.
//!
//! What is durable is kept in memory for a while, too: whoever reads on as the log grows ([`TailReader`]) reads the disk only
//! where he is behind. A reader has no position: it is asked for what lies behind a sequence, and answers with the span that
//! it covers; each record has its ordinal in its log, so that whoever reads proves that nothing lies between two.
//!
//! Four threads: the *committer* alone writes the logs and answers; the *librarian* opens, checks and rebuilds the
//! indexes of days; the *janitor* writes ids, makes spares and removes what nobody needs; the *dead letters* have one of
//! their own. No lock is held over a call of the disk; see `files::guarded`.
//!
//! # Folders
//! | folder | has |
//! |---|---|
//! | `log` | the journal and the samples: their format, who appends, who reads, the memory of what was appended last |
//! | `write` | the committer and its inbox, the janitor, the reserve |
//! | `dedupe` | the indexes of days and the librarian |
//! | `sinks` | which sinks are known, their positions, and the claims that move these |
//! | `dead_letters`, `quarantine`, `state` | what an operator decides about, bodies that were no events, small state |
//! | `damage` | what is proven to be gone |
//! | `format` | the store's format and the way from an older one |
//! | `files`, `kv` | the disk, and databases: a trait, and sled behind it |
//! | `verify` | the proof that a stopped store is sound |
//! | `errors` | whatever the store answers where it does not do what it is asked |
//!
//! # Every durable write
//! "Cut" is a kill or a power cut at that call; whatever a failed call leaves is left by a cut, too. Shown by
//! `tests/store_faults` unless another test is named.
//!
//! | write | durable when | a cut before | a cut behind |
//! |---|---|---|---|
//! | a group of events or samples (`log`) | its `fdatasync` returned | dropped whole at the start, nothing was answered | read at the start; answered or not, it counts |
//! | a note in the journal (`log::notes`): sinks, damage | as a group | the note before counts, whole | the new one counts, whole (`reload::renames::killed…`) |
//! | a segment's header | `fdatasync`, then the folder's fsync; before the first answer from it | the file is removed | an empty segment, gone on with |
//! | the ids of a sealed segment (`log::ids`) | `replace` returned | written at the next start | used to rebuild indexes; the segment may go |
//! | a spare | rename, then the folder's fsync | an unfinished file, made anew | a segment is made of it |
//! | a position (`sinks::positions`) | kill: written to the older of two files; power: that file's `fdatasync`, before a segment goes | the position before; what lies between is sent again | the new position |
//! | small state (`state`, `kv`) | its files are fsynced | the value before | the new value |
//! | an index of ids (`dedupe::day_index`, `kv`) | closed, synced, and its checksum noted in `seen/closed.json` by `replace` | checked against the journal at the start, or rebuilt | relied on |
//! | a dead letter, or what became of one (`dead_letters`) | its frame's `fdatasync`, before the position moves | torn frame dropped; the record is rejected again | it waits, or is resolved |
//! | the dead letters' file written anew | `replace` returned; until then the old one is gone on with | the old file | the new one (`store_faults::letters`) |
//! | a body in quarantine | its file's fsync and the folder's | not kept; nothing was promised of it | kept |
//! | `format`, and a step from an older one (`format::migrate`) | `replace` returned | the step is done again from the copy | done (`store_faults::upgrades`) |
//! | damaged bytes and lost ids (`damage::damaged`) | fsync of file and folder, before the damage is noted | found and kept at the next start | kept once (`damaged::`) |
//! | the reserve | its `fdatasync` | made again | given up once the disk is full (`relay::full`, `relay::starts`) |

mod clock;
mod damage;
mod dead_letters;
mod dedupe;
mod errors;
mod files;
mod format;
mod kv;
mod log;
mod open;
mod phase;
mod quarantine;
mod settings;
mod shared;
mod sinks;
mod state;
#[cfg(test)]
mod tests;
mod verify;
mod write;

pub use clock::{BootClock, Clock, ProviderClock, since_boot};
pub use damage::{DamagedSpan, Missing};
pub use dead_letters::{Cause, DeadLetter, DeadLetterCounts, Resolution};
pub use errors::{AttachError, OpenError, Refused};
pub use files::disk::{Disk, File, Open, RealDisk, Space};
pub use files::guarded::assert_no_lock_held;
pub use files::replace::{Failed, replace};
pub use format::migrate::{Step, Work};
pub use log::reader::{Mark, Reader};
pub use log::record::{Batch, End, Limits, LogKind, Ordinals, Record};
pub use log::tail_reader::TailReader;
pub use open::Parts;
pub use quarantine::Quarantined;
pub use settings::Settings;
pub use sinks::claim::Claim;
pub use sinks::positions::Progress;
pub use sinks::registry::{Removed, SinkStart, Start};
pub use verify::{Proof, Sum, verify};
pub use write::inbox::Accepted;

use crate::event::{Arrival, Event, Stored};
use crate::health::Health;
use dedupe::librarian;
use files::guarded::Guarded;
use files::lock::Lock;
use log::reader;
use phase::{Phase, during};
use shared::Shared;
use sinks::registry;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use tokio::sync::{oneshot, watch};
use write::inbox::Entry;
use write::janitor;

/// The open store. Dropping it closes it like [`Store::close`].
pub struct Store {
    shared: Arc<Shared>,
    format: format::Format,
    threads: Guarded<Option<Threads>>,
}

/// The threads, and how two of them are told to end; the committer ends with the inbox, the dead letters by their handle.
struct Threads {
    committer: JoinHandle<()>,
    letters: JoinHandle<()>,
    librarian: (mpsc::Sender<librarian::Job>, JoinHandle<()>),
    janitor: (mpsc::Sender<janitor::Job>, JoinHandle<()>),
    /// The last thing to go: until then something may be written.
    lock: Lock,
}

impl Store {
    /// Opens or makes the store in `settings.path`, recovering what is there.
    ///
    /// Blocks on the disk.
    pub fn open(settings: Settings, parts: Parts) -> Result<Self, OpenError> {
        Self::open_migrating(settings, parts, format::migrate::STEPS)
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
        self.shared.inbox.offer(Entry { event, arrival, hash, reply })?;
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
    pub async fn attach(&self, sinks: &[SinkStart]) -> Result<(), AttachError> {
        registry::attach(&self.shared, sinks).await
    }

    /// Which of these would go on from another sink's position than they now have, since names were exchanged or handed on.
    pub fn moved(&self, sinks: &[SinkStart]) -> Vec<String> {
        registry::moved(&self.shared, sinks)
    }

    /// What belongs to the sink that has this name now.
    pub fn claim(&self, sink: &str) -> Claim {
        Claim::new(&self.shared, sink)
    }

    /// How far a sink is.
    pub fn progress(&self, sink: &str) -> Progress {
        self.claim(sink).progress()
    }

    /// [`Claim::keep`].
    pub fn advance(&self, sink: &str, progress: Progress) -> io::Result<()> {
        self.claim(sink).keep(progress)
    }

    /// Small state that somebody keeps here under a name of his own.
    pub fn state(&self, key: &str) -> Option<Vec<u8>> {
        self.shared.state.value(key)
    }

    /// Whether the small state that was there could not be read when the store was opened.
    pub fn state_was_lost(&self) -> bool {
        self.shared.state.was_lost()
    }

    /// Keeps small state; on disk for good when this returns.
    ///
    /// Blocks on the disk.
    pub fn set_state(&self, key: &str, value: &[u8]) -> io::Result<()> {
        self.shared.state.set_value(key, value);
        self.shared.reserve.write(|| self.shared.state.sync())
    }

    /// What the providers' clocks say of the host's. While that is in doubt nothing is forgotten.
    pub fn compare_clock(&self, provider: ProviderClock) {
        self.shared.compare_clock(provider);
    }

    /// Reads both logs.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.shared, &LogKind::ALL)
    }

    /// Reads both logs as they grow.
    pub fn tail_reader(&self) -> TailReader {
        TailReader::new(Arc::clone(&self.shared.tail), self.reader())
    }

    /// [`Self::reader`] without samples, which have a log of their own.
    pub fn reader_without_samples(&self) -> Reader {
        Reader::new(&self.shared, &[LogKind::Events])
    }

    /// Records of each log up to a sequence. Blocks on the disk.
    pub fn ordinals_at(&self, sequence: u64) -> io::Result<Ordinals> {
        registry::ordinals_at(&self.shared, sequence)
    }

    /// How many records from this one on, in its log, are proven to be gone; `None` where nothing is proven.
    pub fn damaged_from(&self, log: LogKind, first: u64) -> Option<u64> {
        self.shared.damage.covers(log, first).map(|last| last + 1 - first)
    }

    /// What an operator gives up counts from now on as proven to be gone, for good when this returns: every sink passes it,
    /// and the sources are told.
    pub async fn give_up(&self, missing: Missing) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        let failed = |error: io::Error| Refused::Failed(error.to_string());
        let noted = tokio::task::spawn_blocking(move || shared.give_up(missing)).await;
        let noted = noted.map_err(|error| failed(error.into()))?.map_err(failed)?;
        noted.await.unwrap_or(Err(Refused::Draining))
    }

    /// Spans whose records are gone, as long as they are of interest.
    pub fn damaged_spans(&self) -> watch::Receiver<Vec<DamagedSpan>> {
        self.shared.damage.watch()
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
        registry::removed(&self.shared)
    }

    /// Forgets the position of one of them: should it come back, it is new. `false` if there is none of that name.
    pub async fn forget_sink(&self, name: &str) -> Result<bool, Refused> {
        if !registry::forget(&self.shared, name).await? {
            return Ok(false);
        }
        let shared = Arc::clone(&self.shared);
        let forgotten = tokio::task::spawn_blocking(move || registry::forget_what_is_over(&shared)).await;
        if let Err(error) = forgotten.unwrap_or_else(|error| Err(io::Error::other(error))) {
            // It is forgotten: its key is nobody's any more, and the next start removes what is left.
            tracing::warn!(sink = name, %error, "what a forgotten sink leaves behind cannot be removed yet");
        }
        Ok(true)
    }

    /// Where its threads note that they move.
    pub fn health(&self) -> Health {
        self.shared.health.clone()
    }

    /// The end of what is on disk, and when it moves.
    pub fn durable(&self) -> watch::Receiver<End> {
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

    /// [`Claim::park`].
    pub fn park(&self, sink: &str, letters: &[(Arc<Stored>, Cause)]) -> io::Result<usize> {
        self.claim(sink).park(letters)
    }

    /// [`Claim::dead_letters_waiting`].
    pub fn dead_letters_waiting(&self, sink: &str) -> u64 {
        self.claim(sink).dead_letters_waiting()
    }

    /// [`Claim::dead_letters`].
    pub fn dead_letters(&self, sink: &str) -> Vec<(u64, DeadLetter)> {
        self.claim(sink).dead_letters()
    }

    /// Those of all sinks or of `sink`, by sink and sequence: at most `limit` that are `wanted`, behind the one at `after`.
    pub fn dead_letters_after(
        &self,
        sink: Option<&str>,
        after: Option<(String, u64)>,
        limit: usize,
        wanted: impl Fn(&DeadLetter) -> bool,
    ) -> Vec<(String, u64, DeadLetter)> {
        let sinks = self.shared.sinks().clone();
        let key_of = |name: &str| {
            sinks.iter().find(|sink| sink.name == name).map_or_else(|| name.to_owned(), |sink| sink.key().to_owned())
        };
        let name_of = |key: &str| {
            let known = sinks.iter().find(|sink| sink.key() == key).map(|sink| sink.name.as_str());
            known.or(key.split('#').next()).unwrap_or(key).to_owned()
        };
        let (sink, after) = (sink.map(key_of), after.map(|(sink, sequence)| (key_of(&sink), sequence)));
        let found = self.shared.letters.after(sink.as_deref(), after.as_ref(), limit, wanted);
        found.into_iter().map(|(key, sequence, letter)| (name_of(&key), sequence, letter)).collect()
    }

    /// [`Claim::newest_dead_letters`].
    pub fn newest_dead_letters(&self, sink: &str, limit: usize) -> Vec<(u64, DeadLetter)> {
        self.claim(sink).newest_dead_letters(limit)
    }

    /// [`Claim::dead_letter_event`].
    pub fn dead_letter_event(&self, sink: &str, sequence: u64) -> io::Result<Option<Stored>> {
        self.claim(sink).dead_letter_event(sequence)
    }

    /// [`Claim::resolve`].
    pub fn resolve(&self, sink: &str, sequences: &[u64], how: Resolution) -> io::Result<usize> {
        self.claim(sink).resolve(sequences, how)
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
        self.shared.inbox.close();
        self.shared.refusing.send_replace(Some(Refused::Draining));
    }

    /// Works off what waits, puts everything on disk, and ends the threads.
    ///
    /// Blocks on the disk.
    pub fn close(&self) {
        self.stop_accepting();
        let Some(threads) = self.threads.lock().take() else { return };
        let Threads { committer, letters, librarian, janitor, lock } = threads;
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
        self.shared.positions.witness(*self.shared.durable.borrow());
        if let Err(error) = self.shared.positions.close() {
            tracing::error!(%error, "the positions cannot be put on disk: sinks may repeat what they sent last");
        }
        if let Err(error) = self.shared.state.close() {
            tracing::error!(%error, "the small state cannot be put on disk");
        }
        drop(lock);
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
