//! A list of events, read from its newest down to a floor into a spool, and offered from there, oldest first.

use super::offer::{self, OUTSIDE, TOO_OLD};
use super::progress::Progress;
use super::spool::Spool;
use super::walk::{Row, Step, Walk};
use super::{Backfill, Cut, MAX_KNOWN, Tally};
use crate::e2b::{ApiError, EventsPage, MAX_EVENTS};
use crate::sometimes;
use bytes::Bytes;
use jiff::Timestamp;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::watch;

/// Why a list by offset may repeat itself.
const BY_OFFSET: &str = "as where `offset` is ignored";

/// Which list.
pub(super) enum List {
    /// Of all the team's sandboxes.
    Team,
    /// Of one.
    Sandbox(String),
}

impl List {
    /// As messages name it.
    fn path(&self) -> &'static str {
        match self {
            Self::Team => "/events/sandboxes",
            Self::Sandbox(_) => "/events/sandboxes/{id}",
        }
    }
}

/// What a walk brought.
pub(super) struct Fetched {
    pub(super) spool: Spool,
    pub(super) newest: Option<Timestamp>,
    pub(super) oldest: Option<Timestamp>,
    pub(super) list_ended: bool,
    /// Why the walk was not let on, or led nowhere.
    pub(super) refused: Option<ApiError>,
    pub(super) known: HashSet<String>,
}

/// A page, understood.
pub(super) struct Page {
    pub(super) rows: Vec<Option<Row>>,
    pub(super) events: Vec<Bytes>,
    pub(super) full: bool,
}

impl Page {
    /// What tells its rows apart: the event's id, or of what is no event the text.
    fn keys(&self) -> impl Iterator<Item = &[u8]> {
        let rows = self.rows.iter().zip(&self.events);
        rows.map(|(row, raw)| row.as_ref().map_or(&**raw, |row| row.id.as_bytes()))
    }
}

impl Backfill {
    pub(super) async fn fetch(
        &mut self,
        list: &List,
        offset: usize,
        limit: usize,
    ) -> Result<(Page, Option<Timestamp>), Cut> {
        let answer = async {
            match list {
                List::Team => self.parts.api.events(offset, limit).await,
                List::Sandbox(id) => self.parts.api.sandbox_events(id, offset, limit).await,
            }
        };
        let answer = tokio::select! {
            biased;
            () = abandoned(self.watcher.as_ref()) => return Err(Cut::Abandoned),
            answer = answer => answer?,
        };
        self.offer.tally.pages += 1;
        self.offer.tally.calls += u64::from(answer.calls);
        self.tell_watcher()?;
        if let Some(date) = answer.date {
            self.offer.provider_time(date);
        }
        let EventsPage { events } = answer.value;
        let rows = events.iter().map(|raw| {
            let event = self.offer.read(raw)?;
            Some(Row { at: event.timestamp.instant(), id: event.id })
        });
        let rows: Vec<_> = rows.collect();
        let full = rows.len() >= limit;
        Ok((Page { rows, events, full }, answer.date))
    }

    /// From the first page down to the floor; everything at the floor or above is then in the spool.
    pub(super) async fn walk(
        &mut self,
        list: &List,
        first: Page,
        floor: Timestamp,
        window: Timestamp,
    ) -> Result<Fetched, Cut> {
        let (folder, source) = (self.parts.spool.clone(), Arc::clone(&self.parts.source));
        let bounds = self.parts.bounds;
        let spool = self.parts.executor.call(move || Spool::new(&folder, &source, bounds));
        let mut spool = spool.await??;
        let (mut newest, mut oldest) = (None, None);
        let mut known = HashSet::new();
        let (mut walk, mut progress, mut page) = (Walk::new(floor), Progress::default(), first);
        loop {
            let step = walk.take(&page.rows, page.full);
            let without_news = progress.take(page.keys());
            if let Step::Next(_) | Step::Done { .. } = step {
                let times = || page.rows.iter().flatten().map(|row| row.at);
                newest = newest.max(times().max());
                oldest = oldest.into_iter().chain(times().min()).min();
                let room = MAX_KNOWN.saturating_sub(known.len());
                known.extend(page.rows.iter().flatten().take(room).map(|row| row.id.clone()));
                spool = self.spool(spool, page, floor, window).await?;
            }
            let offset = match step {
                Step::Next(offset) => offset,
                Step::Again(offset) => {
                    sometimes::happened("equal times across the end of a page");
                    offset
                }
                Step::Done { list_ended } => {
                    return Ok(Fetched { spool, newest, oldest, list_ended, refused: None, known });
                }
            };
            if without_news > walk.patience() {
                let refused = Some(self.parts.api.repeats(list.path(), BY_OFFSET));
                return Ok(Fetched { spool, newest, oldest, list_ended: false, refused, known });
            }
            (page, _) = match self.fetch(list, offset, MAX_EVENTS).await {
                Err(Cut::Api(refused @ ApiError::Refused { .. })) => {
                    sometimes::happened("a list that is refused further down");
                    return Ok(Fetched { spool, newest, oldest, list_ended: false, refused: Some(refused), known });
                }
                fetched => fetched?,
            };
        }
    }

    /// Puts the page's events that are not older than the floor on top, the oldest first.
    async fn spool(&mut self, mut spool: Spool, page: Page, floor: Timestamp, window: Timestamp) -> Result<Spool, Cut> {
        if self.parts.intake.is_draining() {
            return Err(Cut::Draining);
        }
        // The spool is on the store's disk: below `min_free` it does not grow either.
        self.parts.intake.ready().map_err(Cut::Store)?;
        let (mut events, mut oldest) = (Vec::with_capacity(page.events.len()), None);
        for (row, raw) in page.rows.into_iter().zip(page.events).rev() {
            match row {
                Some(row) if row.at >= floor => {
                    oldest = oldest.or(Some(row.at));
                    events.push(raw);
                }
                Some(row) if row.at < window => self.offer.refuse(&raw, TOO_OLD, OUTSIDE),
                Some(_) | None => {}
            }
        }
        let Some(oldest) = oldest else { return Ok(spool) };
        let pushed = self.parts.executor.call(move || spool.push(&events, oldest).map(|()| spool));
        Ok(pushed.await??)
    }

    /// Offers what is in the spool. If pages had to be let go, it returns from where on events are missing.
    pub(super) async fn accept(&mut self, mut spool: Spool) -> Result<Option<Timestamp>, Cut> {
        let lost = spool.lost();
        loop {
            let popped = self.parts.executor.call(move || {
                let page = spool.pop();
                (spool, page)
            });
            let (returned, page) = popped.await?;
            spool = returned;
            let Some(page) = page? else { break };
            self.offer.all(page.into_iter().map(|raw| offer::Fetched { raw, attempt: None })).await?;
            self.tell_watcher()?;
        }
        // What comes next may note that everything was taken.
        if self.offer.take_misjudged() { Err(Cut::ClockSet) } else { Ok(lost) }
    }

    /// Tells what the sweep has come to so far. One that nobody watches any more is not gone on with, unless it is the
    /// poller's own.
    fn tell_watcher(&self) -> Result<(), Cut> {
        let Some(watcher) = &self.watcher else { return Ok(()) };
        watcher.send_replace(self.offer.tally);
        if watcher.is_closed() { Err(Cut::Abandoned) } else { Ok(()) }
    }
}

/// Returns once whoever watched a sweep has gone away. The provider may take long to answer, and ask for a longer while.
async fn abandoned(watcher: Option<&watch::Sender<Tally>>) {
    match watcher {
        Some(watcher) => watcher.closed().await,
        None => std::future::pending().await,
    }
}
