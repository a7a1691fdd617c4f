//! What was accepted, in order: the door in, and the readers.

use crate::event::{Arrival, Event};
use crate::store::clock::ProviderClock;
use crate::store::damage::{DamagedSpan, Missing};
use crate::store::errors::Refused;
use crate::store::log::reader::{self, Mark, Reader};
use crate::store::log::record::{End, LogKind, Ordinals};
use crate::store::log::tail_reader::TailReader;
use crate::store::shared::Shared;
use crate::store::sinks::registry;
use crate::store::write::inbox::{Accepted, Entry};
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;
use std::io;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// The two logs: events, and samples of metrics beside them.
#[derive(Clone)]
pub struct EventLog {
    shared: Arc<Shared>,
}

impl EventLog {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// The store's UUID.
    pub fn instance(&self) -> &str {
        &self.shared.format.instance
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
        let mut hasher = SipHasher24::new_with_key(&self.shared.format.hash_key);
        hasher.write_usize(source.len());
        hasher.write(source.as_bytes());
        hasher.write(id.as_bytes());
        hasher.finish128().as_u128()
    }

    /// `None` while events are accepted, else why not.
    pub fn refusing(&self) -> watch::Receiver<Option<Refused>> {
        self.shared.refusing.subscribe()
    }

    /// What the providers' clocks say of the host's. While that is in doubt nothing is forgotten.
    pub fn compare_clock(&self, provider: ProviderClock) {
        self.shared.compare_clock(provider);
    }

    /// Reads both logs.
    pub fn reader(&self) -> Reader {
        Reader::new(&self.shared, &LogKind::ALL)
    }

    /// [`Self::reader`] without samples, which have a log of their own.
    pub fn reader_without_samples(&self) -> Reader {
        Reader::new(&self.shared, &[LogKind::Events])
    }

    /// Reads both logs as they grow.
    pub fn tail_reader(&self) -> TailReader {
        TailReader::new(Arc::clone(&self.shared.tail), self.reader())
    }

    /// The end of what is on disk, and when it moves.
    pub fn durable(&self) -> watch::Receiver<End> {
        self.shared.durable.subscribe()
    }

    /// Records of each log up to a sequence. Blocks on the disk.
    pub fn ordinals_at(&self, sequence: u64) -> io::Result<Ordinals> {
        registry::ordinals_at(&self.shared, sequence)
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

    /// How many records from this one on, in its log, are proven to be gone; `None` where nothing is proven.
    pub fn damaged_from(&self, log: LogKind, first: u64) -> Option<u64> {
        self.shared.damage.covers(log, first).map(|last| last + 1 - first)
    }

    /// Spans whose records are gone, as long as they are of interest.
    pub fn damaged_spans(&self) -> watch::Receiver<Vec<DamagedSpan>> {
        self.shared.damage.watch()
    }

    /// What an operator gives up counts from now on as proven to be gone, for good when this returns: every sink passes it,
    /// and the sources are told.
    pub async fn give_up(&self, missing: Missing) -> Result<(), Refused> {
        let shared = Arc::clone(&self.shared);
        let failed = |error: io::Error| Refused::Failed(error.to_string());
        let noted = self.shared.executor.call(move || shared.give_up(missing)).await;
        let noted = noted.map_err(|error| failed(error.into()))?.map_err(failed)?;
        noted.await.unwrap_or(Err(Refused::Draining))
    }
}

impl std::fmt::Debug for EventLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EventLog").field("instance", &self.instance()).finish_non_exhaustive()
    }
}
