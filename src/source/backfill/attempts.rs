//! Failed deliveries as a third witness: what the provider could not deliver it keeps for 7 days, with its body, even if
//! the list of events lacks it.

use super::offer::{Draining, Fetched, Offer};
use super::progress::{PATIENCE, Progress};
use super::saved::Saved;
use crate::e2b::{Api, ApiError, Attempt, DeliveryQuery};
use crate::logging::Occasional;
use bytes::Bytes;
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How the id of the relay's own webhook is known: whoever keeps the registration tells it.
pub type WebhookId = watch::Receiver<Option<String>>;

pub(super) struct Attempts {
    webhook_id: WebhookId,
    /// For this one the API keeps no log.
    not_offered: Option<String>,
    told_invalid: Occasional,
}

/// Why a list by cursor may repeat itself.
const BY_CURSOR: &str = "as where a cursor leads back";
/// How often it is told that the log cannot be understood.
const TELL_EVERY: Duration = Duration::from_secs(60 * 60);

/// A look at the log came to nothing.
#[derive(Debug)]
pub(super) enum Trouble {
    Api(ApiError),
    Draining,
}

impl From<ApiError> for Trouble {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<Draining> for Trouble {
    fn from(_: Draining) -> Self {
        Self::Draining
    }
}

impl Attempts {
    pub(super) fn new(webhook_id: WebhookId) -> Self {
        Self { webhook_id, not_offered: None, told_invalid: Occasional::every(TELL_EVERY) }
    }

    /// Tells of trouble that the list of events does not have as well.
    pub(super) fn tell(&self, error: &ApiError, source: &str) {
        if let (ApiError::Invalid { .. }, Some(suppressed)) = (error, self.told_invalid.pass(Instant::now())) {
            tracing::warn!(%source, %error, suppressed, "failed deliveries cannot be looked at");
        }
    }

    /// Offers the body of every attempt that failed since the last look, less the overlap. Returns up to when the log
    /// was read, if it was.
    pub(super) async fn look(
        &mut self,
        api: &Api,
        offer: &mut Offer,
        saved: &Saved,
        overlap: Duration,
    ) -> Result<Option<Timestamp>, Trouble> {
        let Some(id) = self.webhook_id.borrow_and_update().clone() else { return Ok(None) };
        if self.not_offered.as_ref() == Some(&id) {
            return Ok(None);
        }
        let from = saved.attempts.or(saved.cursor).or(saved.since);
        let start = from.and_then(|from| from.checked_sub(overlap).ok());
        let mut query = DeliveryQuery { start, failed_only: true, ..DeliveryQuery::default() };
        let (mut began, mut progress) = (None, Progress::default());
        loop {
            let answer = match api.deliveries(&id, &query).await {
                Ok(answer) => answer,
                // 403: a plan without the log; the key itself was good for the list of events.
                Err(ApiError::NotFound { .. } | ApiError::Unauthorized { status: 403, .. }) => {
                    tracing::info!(source = api.source(), "the API keeps no log of deliveries to this webhook");
                    self.not_offered = Some(id);
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            };
            began = began.or(answer.date);
            let page = answer.value;
            if progress.take(page.deliveries.iter().map(|delivery| &delivery.event_id)) > PATIENCE {
                return Err(api.repeats("/events/webhooks/{id}/deliveries", BY_CURSOR).into());
            }
            let bodies = page.deliveries.into_iter().filter_map(|delivery| {
                // Every attempt sends the same body.
                let body = |attempt: Attempt| Some((attempt.id, attempt.request_body?));
                let (attempt, body) = delivery.attempts.into_iter().find_map(body)?;
                let attempt = (is_evidence(&attempt) && is_evidence(&id)).then(|| (id.clone(), attempt));
                Some(Fetched { raw: Bytes::from(body), attempt })
            });
            offer.all(bodies).await?;
            // A cursor that does not move is the end.
            if page.next_cursor.is_none() || page.next_cursor == query.cursor {
                return Ok(began);
            }
            query.cursor = page.next_cursor;
        }
    }
}

/// What a record may hold of it: 1 to 128 visible ASCII characters, as of a delivery's own headers.
fn is_evidence(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}
