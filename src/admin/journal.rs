//! Reading the journal for operators: on threads that may block, a bounded piece at a time, and few at once.
//!
//! What the committer writes does not wait for it: the two share nothing but the disk.

use crate::event::Stored;
use crate::route::Types;
use crate::sandboxes::METRICS;
use crate::store::{End, EventLog, Limits, Mark, Reader};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use tokio::sync::{Semaphore, watch};

/// Readings side by side; further ones wait for their turn.
const SIDE_BY_SIDE: usize = 2;
/// What is read at once.
const AT_ONCE: Limits = Limits { events: 512, bytes: 4 << 20 };
/// What one piece of work goes through, in bytes of bodies, before it tells how far it is.
const PIECE: usize = 64 << 20;
/// About how many bytes of bodies one page holds.
const PAGE_BYTES: usize = 8 << 20;

/// Which events.
#[derive(Debug, Clone, Default)]
pub(super) struct Query {
    /// Received then or later.
    pub(super) since: Option<Timestamp>,
    pub(super) types: Types,
    /// Samples of metrics are looked at, too.
    pub(super) samples: bool,
    pub(super) sandbox_id: Option<String>,
    pub(super) source: Option<String>,
}

impl Query {
    /// `kind` is a glob. Samples are many, and there only for who asks for them by their type.
    pub(super) fn of_type(kind: Option<&str>) -> Result<Self, String> {
        let types = Types::parse(kind.as_slice())?;
        let samples = kind.is_some() && types.take(METRICS);
        Ok(Self { types, samples, ..Self::default() })
    }

    fn matches(&self, stored: &Stored) -> bool {
        let Stored { arrival, event, .. } = stored;
        self.since.is_none_or(|since| arrival.received_at >= since)
            && self.types.take(&event.kind)
            && self.sandbox_id.as_ref().is_none_or(|id| *id == event.sandbox_id)
            && self.source.as_ref().is_none_or(|source| **source == *arrival.source)
    }

    /// Whether what was received before `mark` is all too early.
    fn is_before(&self, mark: &Mark) -> bool {
        self.since.is_some_and(|since| mark.is_before(since))
    }
}

/// Some of the events that were asked for.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// By sequence, in the direction of the reading.
    pub(super) events: Vec<Stored>,
    /// Where the next page goes on; `None` where there are no more.
    pub(super) next: Option<u64>,
}

/// The store's log, for reading. Cloning shares it.
#[derive(Clone)]
pub(super) struct Journal {
    log: EventLog,
    turns: Arc<Semaphore>,
}

impl Journal {
    pub(super) fn new(log: EventLog) -> Self {
        Self { log, turns: Arc::new(Semaphore::new(SIDE_BY_SIDE)) }
    }

    /// The store's UUID.
    pub(super) fn instance(&self) -> &str {
        self.log.instance()
    }

    /// Since when there is anything to be read, if the store once had more.
    pub(super) fn begins(&self) -> Option<Timestamp> {
        let first = self.log.marks(false).into_iter().next()?;
        (first.after > 0).then_some(first.at)
    }

    /// The oldest events behind the sequence `after`, `limit` at most. A page may have fewer, even none, and yet not be
    /// the last.
    pub(super) async fn oldest_first(&self, query: Query, after: Option<u64>, limit: usize) -> io::Result<Page> {
        self.at_work(move |log| oldest_first(log, &query, after, limit)).await
    }

    /// The newest events before the sequence `before`, likewise, the newest first.
    pub(super) async fn newest_first(&self, query: Query, before: Option<u64>, limit: usize) -> io::Result<Page> {
        self.at_work(move |log| newest_first(log, &query, before.unwrap_or(u64::MAX), limit)).await
    }

    /// Reads events without samples; for whoever keeps up by himself.
    pub(super) fn events(&self) -> Reader {
        self.log.reader_without_samples()
    }

    /// What comes from now on.
    pub(super) fn tail(&self, query: Query) -> Tail {
        let mut durable = self.log.durable();
        let after = durable.borrow_and_update().sequence;
        Tail { reader: reader(&self.log, &query), after, query, durable }
    }

    async fn at_work(&self, work: impl FnOnce(&EventLog) -> io::Result<Page> + Send + 'static) -> io::Result<Page> {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(io::Error::other)?;
        let log = self.log.clone();
        let done = tokio::task::spawn_blocking(move || {
            let page = work(&log);
            drop(turn);
            page
        });
        done.await.map_err(io::Error::other)?
    }
}

/// The journal's end, as it grows.
pub(super) struct Tail {
    reader: Reader,
    /// What comes is behind this sequence.
    after: u64,
    query: Query,
    durable: watch::Receiver<End>,
}

impl Tail {
    /// Returns once there may be more to read.
    pub(super) async fn more(&mut self) {
        // An error means that the store is gone; whoever reads is told to end then.
        if self.durable.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Hands on what has come. Blocks on the disk.
    pub(super) fn read_all(&mut self, mut each: impl FnMut(&Stored)) -> io::Result<()> {
        loop {
            let batch = self.reader.read_after(self.after, AT_ONCE)?;
            self.after = batch.through;
            if batch.records.is_empty() {
                return Ok(());
            }
            let events = batch.records.iter().map(|record| &*record.stored);
            events.filter(|stored| self.query.matches(stored)).for_each(&mut each);
        }
    }
}

fn reader(log: &EventLog, query: &Query) -> Reader {
    if query.samples { log.reader() } else { log.reader_without_samples() }
}

fn oldest_first(log: &EventLog, query: &Query, after: Option<u64>, limit: usize) -> io::Result<Page> {
    let mut reader = reader(log, query);
    let mut after = after.unwrap_or(0).max(log.sequence_before(query.since));
    let (mut page, mut gone_through, mut held) = (Page::default(), 0, 0);
    loop {
        let batch = reader.read_after(after, AT_ONCE)?;
        after = batch.through;
        if batch.records.is_empty() {
            return Ok(Page { next: None, ..page });
        }
        for stored in batch.into_events() {
            gone_through += stored.event.body.len();
            page.next = Some(stored.sequence);
            if query.matches(&stored) {
                held += stored.event.body.len();
                page.events.push(stored);
            }
            if page.events.len() >= limit || held >= PAGE_BYTES {
                return Ok(page);
            }
        }
        if gone_through >= PIECE {
            return Ok(page);
        }
    }
}

/// Segment by segment from the last one back; each can only be read forwards.
fn newest_first(log: &EventLog, query: &Query, before: u64, limit: usize) -> io::Result<Page> {
    let marks = log.marks(query.samples);
    let (mut page, mut gone_through, mut held, mut end) = (Page::default(), 0, 0, before);
    for mark in marks.iter().rev().filter(|mark| mark.after.saturating_add(1) < before) {
        let (mut found, mut was_cut) = (VecDeque::new(), false);
        let (mut reader, mut after) = (reader(log, query), mark.after);
        'segment: loop {
            let batch = reader.read_after(after, AT_ONCE)?;
            after = batch.through;
            if batch.records.is_empty() {
                break;
            }
            for stored in batch.into_events() {
                if stored.sequence >= end {
                    break 'segment;
                }
                gone_through += stored.event.body.len();
                if !query.matches(&stored) {
                    continue;
                }
                held += stored.event.body.len();
                found.push_back(stored);
                while found.len() + page.events.len() > limit || (held > PAGE_BYTES && found.len() > 1) {
                    let oldest: Option<Stored> = found.pop_front();
                    held -= oldest.map_or(0, |oldest| oldest.event.body.len());
                    was_cut = true;
                }
            }
        }
        end = found.front().filter(|_| was_cut).map_or(mark.after.saturating_add(1), |oldest| oldest.sequence);
        page.events.extend(found.into_iter().rev());
        let is_full = was_cut || page.events.len() >= limit || held >= PAGE_BYTES || gone_through >= PIECE;
        let is_last = mark.after == 0 || query.is_before(mark);
        if is_full || is_last {
            page.next = (was_cut || !is_last).then_some(end);
            return Ok(page);
        }
    }
    Ok(page)
}
