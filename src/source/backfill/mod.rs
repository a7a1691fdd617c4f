//! What the deliveries missed, fetched from the provider's list of events.
//!
//! ```text
//! every interval: a small page ─► anything new? ─► pages down to cursor − overlap ─► spool ─► intake, oldest first
//!                                                                                              └─► cursor, once
//! ```
//!
//! The cursor moves after the whole of a sweep is durable, to the newest time seen, or to when the sweep began by the
//! API's own clock if that is earlier: an event from a machine whose clock is fast does not move it past what is still
//! to come. A sweep that is cut short begins anew at the old cursor. One that its spool holds in pieces only counts from when
//! its first piece began. See `walk` for why the pages hold everything.
//!
//! What the store's log has lost while a sink still lacked it (`damage`) is fetched by a sweep that goes back further.
//!
//! An API may refuse a page that is too far down. What came before it is then accepted and followed up, and the cursor
//! stays where it was, and with it the time up to which everything is verified.

mod attempts;
mod by_hand;
mod damage;
mod fetch;
mod gap;
mod offer;
mod progress;
mod saved;
mod settings;
mod spool;
mod status;
mod walk;

pub use attempts::WebhookId;
pub use by_hand::{Busy, Handle, Handles, Order, Tally, Underway, Unfinished};
pub use damage::{DamageReporter, ReporterParts};
pub use settings::Settings;
pub use spool::Bounds;
pub use status::{Poll, Status};

use crate::e2b::{Api, ApiError, MAX_EVENTS};
use crate::executor::{Executor, Lost};
use crate::intake::{DamagedSpan, Intake, State};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::sometimes;
use crate::source::keeper::Keeper;
use attempts::{Attempts, Trouble};
use by_hand::Task;
use damage::{Damage, Unreported};
use fetch::{Fetched, List, Page};
use jiff::Timestamp;
use offer::{Draining, Offer};
use saved::{Found, Saved};
use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Events of the page that is asked for while nothing is new.
const SMALL_PAGE: usize = 10;
/// Newest events of a sweep whose ids are remembered, to see on a small page whether anything is new.
const MAX_KNOWN: usize = MAX_EVENTS;
/// An API that refuses the key or has no events is asked more rarely by this factor.
const PATIENCE: u32 = 10;
/// The longest that an API may ask to be left alone.
const LONGEST_REST: Duration = Duration::from_secs(60 * 60);

/// How soon a list is read to its full depth again whose depths were refused.
const DEPTHS_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What a backfill is made of.
pub struct Parts {
    /// The source's name.
    pub source: Arc<str>,
    /// The team whose events are taken, if the settings name one.
    pub team_id: Option<String>,
    /// Where it looks.
    pub api: Api,
    /// How it looks.
    pub settings: Settings,
    /// The door.
    pub intake: Arc<Intake>,
    /// Where the cursor is kept.
    pub state: Arc<dyn State>,
    /// Runs what may block.
    pub executor: Executor,
    /// A folder for pages that wait.
    pub spool: PathBuf,
    /// What they may take.
    pub bounds: Bounds,
    /// Counts.
    pub metrics: Metrics,
    /// Of the webhook whose failed deliveries are looked at, once known.
    pub webhook_id: WebhookId,
    /// What the log has lost.
    pub damaged: watch::Receiver<Vec<DamagedSpan>>,
    /// Told how it is doing.
    pub status: watch::Sender<Status>,
}

/// One source's backfill.
pub struct Backfill {
    parts: Parts,
    keeper: Keeper,
    offer: Offer,
    attempts: Attempts,
    found: Found,
    /// Where the list is left alone, a [`DamageReporter`] answers for it.
    damage: Option<Damage>,
    /// How far back a sweep goes for what the log has lost.
    mending: Option<Timestamp>,
    /// Ids of the newest events of the last whole sweep; `None` before the first.
    known: Option<HashSet<String>>,
    /// When one more sweep is due though nothing is new: by then whatever is listed late is listed.
    settle_at: Option<Instant>,
    /// Of a sweep in pieces: when its first one began, by the API's own clock and by the slower of both. What was listed
    /// late while the others were fetched stands below them.
    first_piece: Option<(Timestamp, Timestamp)>,
    /// Where the API did not let a sweep down to the cursor.
    shallow: Option<Shallow>,
    /// The last outcome, so that the log tells of changes only.
    outcome: &'static str,
    handle: Handle,
    /// What operators ask for.
    tasks: mpsc::Receiver<Task>,
    /// Who asked for the sweep that is under way, and watches it.
    watcher: Option<watch::Sender<Tally>>,
}

/// Nothing is missed above; what is below and above the cursor could not be asked for.
struct Shallow {
    above: Timestamp,
    since: Instant,
    refused: ApiError,
}

/// Why a sweep did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the spool in the store's folder: {0}")]
    Spool(#[from] io::Error),
    #[error("nothing more is fetched while the store takes nothing: {0}")]
    Store(String),
    #[error("the host's clock was set while the list was read; it is read again")]
    ClockSet,
    #[error("the daemon ends")]
    Draining,
    #[error("whoever asked for it has gone away")]
    Abandoned,
}

impl From<Lost> for Cut {
    fn from(lost: Lost) -> Self {
        Self::Spool(lost.into())
    }
}

impl From<Draining> for Cut {
    fn from(_: Draining) -> Self {
        Self::Draining
    }
}

impl From<Unreported> for Cut {
    fn from(unreported: Unreported) -> Self {
        match unreported {
            Unreported::Disk(error) => Self::Spool(error),
            Unreported::Draining => Self::Draining,
        }
    }
}

impl Cut {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Api(error) => error.outcome(),
            Self::Spool(_) | Self::Store(_) | Self::ClockSet | Self::Draining | Self::Abandoned => "unavailable",
        }
    }
}

impl Backfill {
    /// Nothing is asked yet. Reads the cursor.
    pub fn new(parts: Parts) -> Self {
        let keeper = Keeper::new(&parts.state, &parts.executor);
        let found = saved::recall(&keeper, &parts.source);
        let offer = Offer::new(
            Arc::clone(&parts.source),
            parts.team_id.clone(),
            Arc::clone(&parts.intake),
            parts.metrics.clone(),
        );
        let attempts = Attempts::new(parts.webhook_id.clone());
        let damage = || Damage::new(&parts.source, keeper.clone(), parts.damaged.clone());
        let damage = parts.settings.enabled.then(damage);
        let (handle, tasks) = by_hand::channel();
        let this = Self {
            parts,
            keeper,
            offer,
            attempts,
            found,
            damage,
            mending: None,
            known: None,
            settle_at: None,
            first_piece: None,
            shallow: None,
            outcome: "",
            handle,
            tasks,
            watcher: None,
        };
        this.tell_verified(None);
        this
    }

    /// By which operators ask for a sweep.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// To be called before the source takes anything: from then on it answers for what is lost. What cannot be kept now is
    /// kept with the first look.
    pub async fn prepare(&mut self) {
        if !self.parts.settings.enabled {
            return;
        }
        if let Err(error) = self.note_first_start().await {
            tracing::warn!(source = %self.parts.source, %error, "that the source is new cannot be kept yet");
        }
    }

    /// Looks every interval, unless the settings say not to, and whenever an operator asks; until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        let mut due = self.parts.settings.enabled.then(Instant::now);
        loop {
            let task = tokio::select! {
                biased;
                () = shutdown.requested() => return,
                task = self.tasks.recv() => task,
                () = found(self.damage.as_mut()) => None,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => None,
            };
            let work = async {
                match task {
                    Some(task) => self.obey(task).await,
                    None => {
                        let started = Instant::now();
                        due = Some(started + self.turn().await);
                    }
                }
            };
            // Whatever is cut off here is not noted as done.
            tokio::select! {
                biased;
                () = shutdown.requested() => return,
                () = work => {}
            }
        }
    }

    /// One look, counted; returns how long after its start the next one is due.
    async fn turn(&mut self) -> Duration {
        let interval = self.parts.settings.interval;
        let ended = self.poll().await;
        let outcome = ended.as_ref().map_or_else(Cut::outcome, |()| "ok");
        self.parts.metrics.backfill_poll(&self.parts.source, outcome);
        let poll = Poll {
            at: self.parts.intake.now(),
            outcome: outcome.to_owned(),
            problem: ended.as_ref().err().map(ToString::to_string),
        };
        self.parts.status.send_modify(|status| status.last_poll = Some(poll));
        let changed = std::mem::replace(&mut self.outcome, outcome) != outcome;
        let source = &self.parts.source;
        match &ended {
            // It is not the API's trouble.
            Err(Cut::Draining) => {}
            Ok(()) if changed => tracing::info!(%source, "the events API is read"),
            Err(cut) if changed => {
                tracing::warn!(%source, outcome, error = %cut, "what the deliveries miss cannot be fetched")
            }
            Ok(()) => {}
            Err(cut) => tracing::debug!(%source, outcome, error = %cut, "what the deliveries miss cannot be fetched"),
        }
        match ended {
            Err(Cut::Api(ApiError::Unauthorized { .. } | ApiError::NotOffered { .. })) => interval * PATIENCE,
            Err(Cut::Api(error)) => interval.max(error.retry_after().unwrap_or_default().min(LONGEST_REST)),
            _ => interval,
        }
    }

    async fn poll(&mut self) -> Result<(), Cut> {
        self.note_first_start().await?;
        self.mend().await?;
        self.sweep_all().await?;
        self.look_at_attempts().await?;
        self.shallow.as_ref().map_or(Ok(()), |shallow| Err(shallow.refused.clone().into()))
    }

    /// Fetches and accepts all that is new.
    async fn sweep_all(&mut self) -> Result<(), Cut> {
        self.first_piece = None;
        // As long as pages had to be let go, the next sweep fetches what they held.
        let mut rest = self.sweep(Timestamp::MIN).await?;
        while let Some(from) = rest {
            rest = self.sweep(from).await?;
            if rest == Some(from) {
                return Err(io::Error::new(io::ErrorKind::StorageFull, "too small for the events of one time").into());
            }
        }
        Ok(())
    }

    /// Fetches and accepts what is new, from `least` on. If that was more than a spool holds, it returns from where on
    /// events are missing.
    async fn sweep(&mut self, least: Timestamp) -> Result<Option<Timestamp>, Cut> {
        let limit = if self.known.is_some() { SMALL_PAGE } else { MAX_EVENTS };
        let (page, date) = self.fetch(&List::Team, 0, limit).await?;
        let host = self.parts.intake.now();
        let began = date.unwrap_or(host);
        // Of two clocks that are apart the slower goes back further, and can only repeat.
        let now = began.min(host);
        let is_quiet = self.is_quiet(&page);
        let settles = self.settle_at.is_some_and(|at| Instant::now() >= at);
        if is_quiet && !settles {
            if self.settle_at.is_none() && self.shallow.is_none() {
                self.tell_verified(Some(now));
            }
            return Ok(None);
        }
        let window = earlier(now, self.parts.intake.dedupe_window());
        let depth = self.floor(now).max(window);
        let shallow = self.shallow.take().filter(|shallow| shallow.since.elapsed() < DEPTHS_AGAIN);
        let reached = shallow.as_ref().map(|shallow| earlier(shallow.above, self.parts.settings.overlap));
        let floor = depth.max(least).max(reached.unwrap_or(depth));
        let fetched = self.walk(&List::Team, page, floor, window).await;
        let fetched = match fetched {
            Ok(fetched) => fetched,
            Err(cut) => {
                self.shallow = shallow;
                return Err(cut);
            }
        };
        self.tell_gap(now, depth, &fetched).await?;
        let Fetched { spool, newest, known, refused, list_ended, .. } = fetched;
        let lost = self.accept(spool).await?;
        if lost.is_some() {
            sometimes::happened("a sweep in pieces");
        }
        let first_piece = self.first_piece.take().unwrap_or((began, now));
        self.first_piece = lost.map(|_| first_piece);
        let (began, now) = first_piece;
        let seen = lost.or(newest).map(|seen| seen.min(began));
        let missed = refused.map(|refused| (Instant::now(), refused));
        let missed = missed.or(shallow.filter(|_| !list_ended).map(|shallow| (shallow.since, shallow.refused)));
        match (missed, seen) {
            (Some((since, refused)), Some(above)) => self.shallow = Some(Shallow { above, since, refused }),
            (None, seen) => {
                if let Some(seen) = seen.max(self.found.saved.cursor) {
                    self.keep(Saved { cursor: Some(seen), since: None, gap: None, ..self.found.saved.clone() }).await?;
                }
                self.tell_verified(lost.is_none().then_some(now));
            }
            (Some(_), None) => {}
        }
        // One more sweep when everything that is listed late has had its time; then only what is new.
        self.settle_at = (!is_quiet).then(|| Instant::now() + self.parts.settings.overlap);
        self.known = lost.is_none().then_some(known);
        Ok(lost)
    }

    /// Whether the newest events are those of the last sweep. Some of them must be as old as the cursor: above it may
    /// stand events from a machine whose clock is fast, and what is new stands below them.
    fn is_quiet(&self, page: &Page) -> bool {
        let Some(known) = &self.known else { return false };
        let is_known = page.rows.iter().all(|row| row.as_ref().is_none_or(|row| known.contains(&row.id)));
        let last = page.rows.iter().rev().flatten().next();
        let cursor = self.shallow.as_ref().map(|shallow| shallow.above).or(self.found.saved.cursor);
        let reaches_cursor = last.is_some_and(|row| cursor.is_some_and(|cursor| row.at <= cursor));
        is_known && (reaches_cursor || !page.full)
    }

    /// How far a sweep goes back that has no cursor.
    fn lookback(&self) -> Duration {
        if self.found.lost { self.parts.intake.dedupe_window() } else { self.parts.settings.lookback }
    }

    /// Before anything is asked: if the API cannot be reached for long, or the very first sweep is cut short, the one that
    /// comes to its end goes back as far as that one would have.
    async fn note_first_start(&mut self) -> Result<(), Cut> {
        if self.found.saved.cursor.or(self.found.saved.since).is_some() {
            return Ok(());
        }
        if let Some(damage) = self.damage.as_mut().filter(|_| !self.found.lost) {
            damage.pass_over().await?;
        }
        let since = earlier(self.parts.intake.now(), self.lookback());
        self.keep(Saved { since: Some(since), ..self.found.saved.clone() }).await
    }

    /// How far the next sweep goes back.
    fn floor(&self, now: Timestamp) -> Timestamp {
        let Saved { cursor, since, .. } = self.found.saved;
        let depth = match cursor {
            Some(cursor) => earlier(cursor, self.parts.settings.overlap),
            // The host's clock may have been fast.
            None => earlier(now, self.lookback()).min(since.unwrap_or(Timestamp::MAX)),
        };
        self.mending.map_or(depth, |from| from.min(depth))
    }

    /// Makes a record of what nobody can know any more, before anything that came later.
    async fn tell_gap(&mut self, now: Timestamp, floor: Timestamp, fetched: &Fetched) -> Result<(), Cut> {
        if let (None, Some(cursor)) = (&self.found.saved.gap, self.found.saved.cursor) {
            let Fetched { oldest, list_ended, .. } = *fetched;
            if let Some(gap) = gap::find(&gap::Seen { now, cursor, floor, oldest, list_ended }) {
                self.keep(Saved { gap: Some(gap), ..self.found.saved.clone() }).await?;
            }
        }
        match &self.found.saved.gap {
            Some(gap) => Ok(gap::report(&self.offer, gap).await?),
            None => Ok(()),
        }
    }

    async fn look_at_attempts(&mut self) -> Result<(), Cut> {
        let overlap = self.parts.settings.overlap;
        let looked = self.attempts.look(&self.parts.api, &mut self.offer, &self.found.saved, overlap).await;
        let through = match looked {
            Ok(through) => through,
            Err(Trouble::Draining) => return Err(Cut::Draining),
            // The list of events was read all the same; the requests are counted.
            Err(Trouble::Api(error)) => {
                self.attempts.tell(&error, &self.parts.source);
                tracing::debug!(source = %self.parts.source, %error, "failed deliveries cannot be looked at");
                return Ok(());
            }
        };
        if self.offer.take_misjudged() {
            return Err(Cut::ClockSet);
        }
        let last = self.found.saved.attempts;
        // Kept now and then only: what is read again is known.
        if through.is_some_and(|through| last.is_none_or(|last| earlier(through, overlap) > last)) {
            self.keep(Saved { attempts: through, ..self.found.saved.clone() }).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, saved: Saved) -> Result<(), Cut> {
        if saved != self.found.saved {
            saved::keep(&self.keeper, &self.parts.source, &saved).await?;
            self.found = Found { saved, lost: false };
        }
        Ok(())
    }

    /// `complete` is when a look began after which everything that was listed is in the store; without one it is known of
    /// what stands before the cursor. What is younger than the overlap may be listed yet.
    fn tell_verified(&self, complete: Option<Timestamp>) {
        if let Some(through) = complete.or(self.found.saved.cursor) {
            let verified = earlier(through, self.parts.settings.overlap);
            self.parts.metrics.backfill_verified_through(&self.parts.source, verified.as_duration().as_secs_f64());
            self.parts.status.send_modify(|status| status.verified_through = Some(verified));
        }
    }
}

/// Returns once the log has lost something that is to be fetched.
async fn found(damage: Option<&mut Damage>) {
    match damage {
        Some(damage) => damage.found().await,
        None => std::future::pending().await,
    }
}

/// Before the beginning of jiff's range nothing happened.
fn earlier(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_sub(by).unwrap_or(Timestamp::MIN)
}
