//! Offering what was fetched to the intake until it is durable, in order per sandbox.

use super::by_hand::Tally;
use crate::decode;
use crate::event::{Arrival, Event, Origin};
use crate::intake::{Age, Answer, Intake};
use crate::metrics::Metrics;
use crate::sometimes;
use crate::source::insist::{Patience, insist};
use bytes::Bytes;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use tokio::time::Instant;

/// Refused events that are remembered, so that each is counted once; they are listed again in every sweep.
const MAX_REFUSED: usize = 10_000;

/// Why an event is refused that could be a replay.
pub(super) const TOO_OLD: &str = "too_old";
/// The same in words.
pub(super) const OUTSIDE: &str = "outside the dedupe window";

/// Something fetched.
pub(super) struct Fetched {
    /// Its JSON.
    pub(super) raw: Bytes,
    /// Webhook and attempt that failed to deliver it, where that is how it is known.
    pub(super) attempt: Option<(String, String)>,
}

/// The daemon ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Draining;

/// One source's way to the intake.
pub(super) struct Offer {
    pub(super) source: Arc<str>,
    pub(super) team_id: Option<String>,
    pub(super) intake: Arc<Intake>,
    pub(super) metrics: Metrics,
    refused: HashSet<u64>,
    /// How old events may be.
    pub(super) age: Age,
    /// What became of whatever was offered since this was last emptied.
    pub(super) tally: Tally,
    /// What the host's clock said when the provider's was last held against it.
    compared: Option<(Timestamp, Instant)>,
    /// Events were refused for their age by a clock that had been set meanwhile.
    misjudged: bool,
}

impl Offer {
    pub(super) fn new(source: Arc<str>, team_id: Option<String>, intake: Arc<Intake>, metrics: Metrics) -> Self {
        Self {
            source,
            team_id,
            intake,
            metrics,
            refused: HashSet::new(),
            age: Age::Known,
            tally: Tally::default(),
            compared: None,
            misjudged: false,
        }
    }

    /// The provider has told its time. From here on the host's clock can be believed as far as it goes evenly.
    pub(super) fn provider_time(&mut self, time: Timestamp) {
        self.intake.provider_time(&self.source, time);
        self.compared = Some((self.intake.now(), Instant::now()));
    }

    /// Whether anything that was refused since this was last asked has to be offered again.
    pub(super) fn take_misjudged(&mut self) -> bool {
        std::mem::take(&mut self.misjudged)
    }

    /// Whether an event is within the window by a clock that goes evenly.
    fn is_misjudged(&self, timestamp: Timestamp) -> bool {
        self.compared.is_some_and(|(host, at)| {
            let now = host.saturating_add(SignedDuration::try_from(at.elapsed()).unwrap_or(SignedDuration::MAX));
            self.intake.window(now.unwrap_or(Timestamp::MAX)).contains(&timestamp)
        })
    }

    /// The event, if it is one and this source's; another is counted.
    pub(super) fn read(&mut self, raw: &Bytes) -> Option<Event> {
        match decode::listed(raw) {
            Ok(decoded) if self.is_own(decoded.team_id.as_deref()) => Some(decoded.event),
            Ok(_) => {
                self.refuse(raw, "wrong_team", "another team's");
                None
            }
            Err(malformed) => {
                self.refuse(raw, "malformed", &malformed.to_string());
                None
            }
        }
    }

    fn is_own(&self, team: Option<&str>) -> bool {
        self.team_id.as_deref().is_none_or(|own| team.is_none_or(|team| team == own))
    }

    /// Counts an event that is not taken, and says so, once.
    pub(super) fn refuse(&mut self, raw: &Bytes, reason: &'static str, why: &str) {
        self.tally.found += 1;
        *if reason == TOO_OLD { &mut self.tally.too_old } else { &mut self.tally.refused } += 1;
        let mut hasher = DefaultHasher::new();
        raw.hash(&mut hasher);
        if self.refused.len() >= MAX_REFUSED {
            self.refused.clear();
        }
        if self.refused.insert(hasher.finish()) {
            tracing::debug!(source = %self.source, reason, error = why, "a listed event is not taken");
            self.metrics.backfill_skipped(&self.source, reason);
        }
    }

    /// Offers events, each sandbox's in their order and sandboxes side by side, until each is durable or refused for
    /// good.
    pub(super) async fn all(&mut self, fetched: impl IntoIterator<Item = Fetched>) -> Result<(), Draining> {
        let mut sandboxes: BTreeMap<String, Vec<(Event, Arrival)>> = BTreeMap::new();
        for Fetched { raw, attempt } in fetched {
            if let Some(event) = self.read(&raw) {
                let (webhook_id, delivery_id) = attempt.unzip();
                let arrival = Arrival { webhook_id, delivery_id, ..self.arrival(Origin::Backfill) };
                sandboxes.entry(event.sandbox_id.clone()).or_default().push((event, arrival));
            }
        }
        let this = &*self;
        let ended = join_all(sandboxes.into_values().map(|events| this.in_order(events))).await;
        for (raw, answer) in ended.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().flatten() {
            match answer {
                Answer::TooOld { timestamp, .. } | Answer::TooNew { timestamp, .. } if self.is_misjudged(timestamp) => {
                    sometimes::happened("an event that is refused by a clock that was set");
                    self.misjudged = true;
                }
                Answer::TooOld { .. } => self.refuse(&raw, TOO_OLD, OUTSIDE),
                Answer::TooNew { .. } => self.refuse(&raw, "too_new", OUTSIDE),
                Answer::Duplicate => self.count(|tally| &mut tally.known),
                _ => {
                    sometimes::happened("an event that only the list told");
                    self.count(|tally| &mut tally.new);
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, which: impl FnOnce(&mut Tally) -> &mut u64) {
        self.tally.found += 1;
        *which(&mut self.tally) += 1;
    }

    pub(super) fn arrival(&self, origin: Origin) -> Arrival {
        let received_at = self.intake.now();
        Arrival { source: Arc::clone(&self.source), origin, received_at, webhook_id: None, delivery_id: None }
    }

    async fn in_order(&self, events: Vec<(Event, Arrival)>) -> Result<Vec<(Bytes, Answer)>, Draining> {
        let mut answers = Vec::with_capacity(events.len());
        for (event, arrival) in events {
            let raw = Bytes::clone(&event.body);
            answers.push((raw, self.one(event, arrival).await?));
        }
        Ok(answers)
    }

    /// Offers one event until it is durable or refused for good.
    pub(super) async fn one(&self, event: Event, arrival: Arrival) -> Result<Answer, Draining> {
        insist(&self.intake, &event, &arrival, self.age, Patience::Endless).await.map_err(|_| Draining)
    }
}
