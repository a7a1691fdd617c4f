//! What the store's log has lost although a sink still lacked it: what is listed is fetched again, and what then is still
//! missing is told as a gap, once per source. A source whose list nobody reads tells it at once.

use super::offer::{Draining, Offer};
use super::saved::{Gap, Reason};
use super::{Backfill, Cut, earlier, gap};
use crate::e2b::ApiError;
use crate::executor::Executor;
use crate::intake::{DamagedSpan, Intake, State};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use crate::source::keeper::Keeper;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How soon a gap is reported again that could not be noted.
const AGAIN: Duration = Duration::from_secs(10);

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Saved {
    /// Spans up to this one are answered for.
    through: u64,
    /// The last one's gap, which may not be in the store yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<Gap>,
}

/// A gap that could not be reported; it is tried again.
#[derive(Debug)]
pub(super) enum Unreported {
    /// It cannot be noted.
    Disk(io::Error),
    Draining,
}

impl From<Draining> for Unreported {
    fn from(_: Draining) -> Self {
        Self::Draining
    }
}

/// What one source has to answer for.
pub(super) struct Damage {
    key: String,
    keeper: Keeper,
    spans: watch::Receiver<Vec<DamagedSpan>>,
    /// `None` before anything was kept.
    saved: Option<Saved>,
    /// The last span that [`Self::found`] has told of.
    told: u64,
}

impl Damage {
    pub(super) fn new(source: &str, keeper: Keeper, spans: watch::Receiver<Vec<DamagedSpan>>) -> Self {
        let key = format!("damage/{source}");
        // Where it is lost, what was reported is reported again rather than never.
        let (saved, _) = keeper.recall(&key);
        Self { key, keeper, spans, saved, told: 0 }
    }

    fn through(&self) -> u64 {
        self.saved.as_ref().map_or(0, |saved| saved.through)
    }

    /// Spans that hold events, and that are not answered for.
    fn open(&self) -> Vec<DamagedSpan> {
        let through = self.through();
        let spans = self.spans.borrow();
        let mut open: Vec<_> = spans.iter().filter(|span| span.events > 0 && span.id > through).cloned().collect();
        open.sort_by_key(|span| span.id);
        open
    }

    /// Returns once there is a span that this has not told of yet.
    pub(super) async fn found(&mut self) {
        let last = self.told.max(self.through());
        let is_new = |span: &DamagedSpan| span.events > 0 && span.id > last;
        let found = self.spans.wait_for(|spans| spans.iter().any(is_new)).await;
        match found.map(|spans| spans.iter().filter(|span| is_new(span)).map(|span| span.id).max()) {
            Ok(newest) => self.told = newest.unwrap_or(last),
            // The store is gone, and the daemon with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Whether nothing is missing any more of the spans up to this one.
    pub(super) fn is_recovered(&self, through: u64) -> bool {
        self.open().iter().all(|span| span.id > through || span.recovered >= span.events)
    }

    /// Spans that were found before anything was kept for the source are none of its own. One that was found by this process
    /// may be: the source may have had records before anything could be kept for it.
    pub(super) async fn pass_over(&mut self) -> Result<(), Unreported> {
        if self.saved.is_some() {
            return Ok(());
        }
        let through = self.open().into_iter().filter(|span| !span.is_new).map(|span| span.id).max().unwrap_or(0);
        self.keep(Saved { through, gap: None }).await
    }

    /// Answers for the spans up to `through`: whatever is still missing of one is a gap. Where nothing is left before it,
    /// the gap is as long as an event may be old.
    async fn report(&mut self, through: u64, offer: &Offer) -> Result<(), Unreported> {
        let at = offer.intake.now();
        let oldest = earlier(at, offer.intake.dedupe_window());
        // One that a kill may have kept from the store.
        self.report_noted(offer).await?;
        for span in self.open().into_iter().filter(|span| span.id <= through) {
            let missing = span.recovered < span.events;
            let (from, to) = (span.received_after.unwrap_or(oldest), span.received_before.unwrap_or(at));
            let gap = missing.then(|| Gap { from, to: to.max(from), at, reason: Reason::StoreDamaged });
            self.keep(Saved { through: span.id, gap }).await?;
            self.report_noted(offer).await?;
        }
        // So that the next time it is known what came before.
        self.keep(Saved { through: self.through(), gap: None }).await
    }

    async fn report_noted(&self, offer: &Offer) -> Result<(), Unreported> {
        match self.saved.as_ref().and_then(|saved| saved.gap.as_ref()) {
            Some(gap) => Ok(gap::report(offer, gap).await?),
            None => Ok(()),
        }
    }

    async fn keep(&mut self, saved: Saved) -> Result<(), Unreported> {
        if self.saved.as_ref() != Some(&saved) {
            self.keeper.keep(self.key.clone(), &saved).await.map_err(Unreported::Disk)?;
            self.saved = Some(saved);
        }
        Ok(())
    }
}

impl Backfill {
    /// Fetches what the log has lost, and tells what of it cannot be had.
    pub(super) async fn mend(&mut self) -> Result<(), Cut> {
        let spans = self.damage.as_ref().map(Damage::open).unwrap_or_default();
        // Without any there may be a gap that the store has not taken yet: it was full, or a kill came before.
        let Some(through) = spans.last().map(|span| span.id) else { return self.report_through(0).await };
        let received = spans.iter().map(|span| span.received_after.unwrap_or(Timestamp::MIN)).min();
        let near = earlier(received.unwrap_or(Timestamp::MIN), self.parts.settings.overlap);
        // What was itself fetched late is older than its receipt: before it is given up, the whole list is looked at.
        for from in BTreeSet::from([near, Timestamp::MIN]).into_iter().rev() {
            let is_recovered = self.damage.as_ref().is_none_or(|damage| damage.is_recovered(through));
            if is_recovered || !self.fetch_again(from).await? {
                break;
            }
        }
        self.report_through(through).await
    }

    async fn report_through(&mut self, through: u64) -> Result<(), Cut> {
        match &mut self.damage {
            Some(damage) => Ok(damage.report(through, &self.offer).await?),
            None => Ok(()),
        }
    }

    /// Sweeps from there on. Returns whether an earlier start could bring more.
    async fn fetch_again(&mut self, from: Timestamp) -> Result<bool, Cut> {
        // Whatever was seen before it was lost is to be seen again.
        (self.known, self.shallow, self.mending) = (None, None, Some(from));
        let swept = self.sweep_all().await;
        self.mending = None;
        match swept {
            Ok(()) => Ok(self.shallow.is_none()),
            // There is nothing to wait for.
            Err(Cut::Api(ApiError::NotOffered { .. })) => Ok(false),
            Err(cut) => Err(cut),
        }
    }
}

/// What a [`DamageReporter`] is made of.
pub struct ReporterParts {
    /// The source's name.
    pub source: Arc<str>,
    /// The team whose events are taken, if the settings name one.
    pub team_id: Option<String>,
    /// The door.
    pub intake: Arc<Intake>,
    /// Where it keeps what it has told.
    pub state: Arc<dyn State>,
    /// Runs what may block.
    pub executor: Executor,
    /// What the log has lost.
    pub damaged: watch::Receiver<Vec<DamagedSpan>>,
    /// Counts.
    pub metrics: Metrics,
}

/// Answers for a source whose list nobody reads by himself: there is none, or it is to be left alone.
pub struct DamageReporter {
    damage: Damage,
    offer: Offer,
}

impl DamageReporter {
    /// Nothing is told yet.
    pub fn new(parts: ReporterParts) -> Self {
        let ReporterParts { source, team_id, intake, state, executor, damaged, metrics } = parts;
        let damage = Damage::new(&source, Keeper::new(&state, &executor), damaged);
        Self { damage, offer: Offer::new(source, team_id, intake, metrics) }
    }

    /// Tells what is lost as soon as it is known, until told to end.
    pub async fn run(mut self, mut shutdown: Shutdown) {
        tokio::select! {
            biased;
            () = shutdown.requested() => {}
            () = self.report_all() => {}
        }
    }

    async fn report_all(&mut self) {
        loop {
            match self.damage.report(u64::MAX, &self.offer).await {
                Ok(()) => self.damage.found().await,
                Err(Unreported::Draining) => return,
                Err(Unreported::Disk(error)) => {
                    tracing::error!(source = %self.offer.source, %error, "what the store has lost cannot be told as a gap yet");
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
}
