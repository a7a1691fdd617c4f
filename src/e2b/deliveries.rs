//! `GET /events/webhooks/{id}/deliveries`: what the provider tried to deliver, by event, with a cursor. Kept for 7 days.

use super::api::Request;
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::encode;
use serde::Deserialize;

/// Most events of one page.
const LIMIT: usize = 100;

/// Which deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliveryQuery {
    /// From this time on.
    pub start: Option<jiff::Timestamp>,
    /// Before this time.
    pub end: Option<jiff::Timestamp>,
    /// Only attempts that failed.
    pub failed_only: bool,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

/// One page, oldest first.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeliveryPage {
    /// By event.
    #[serde(rename = "data")]
    pub deliveries: Vec<Delivery>,
    /// `None` on the last page.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// The attempts for one event.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// The event's id.
    pub event_id: String,
    /// Those that the query asked for.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
}

/// One attempt.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Of the attempt, not of the event; the receiver saw it as `e2b-delivery-id`.
    pub id: String,
    /// `success` or `failed`.
    pub status: String,
    /// The exact body that was sent.
    #[serde(default)]
    pub request_body: Option<String>,
    /// When it was tried, RFC 3339.
    pub timestamp: String,
    /// `timeout`, `http_error` and the like; `None` or empty on success.
    #[serde(default)]
    pub error_class: Option<String>,
    /// What the receiver answered.
    #[serde(default)]
    pub response_http_status_code: Option<i64>,
}

impl Api {
    /// A page of what was delivered to a webhook. [`ApiError::NotFound`] means that the webhook is not there or that
    /// this installation keeps no such log.
    pub async fn deliveries(&self, webhook_id: &str, query: &DeliveryQuery) -> Result<Answer<DeliveryPage>, ApiError> {
        let path = format!("/events/webhooks/{}/deliveries", encode(webhook_id));
        let mut request = Request::get(Endpoint::Deliveries, &path).query("limit", LIMIT).query("orderAsc", true);
        if query.failed_only {
            request = request.query("deliveryStatus", "failed");
        }
        for (name, time) in [("start", query.start), ("end", query.end)] {
            if let Some(time) = time {
                request = request.query(name, time);
            }
        }
        if let Some(cursor) = &query.cursor {
            request = request.query("cursor", cursor);
        }
        let mut answer: Answer<DeliveryPage> = self.json(request).await?;
        for attempt in answer.value.deliveries.iter_mut().flat_map(|delivery| &mut delivery.attempts) {
            let body = attempt.request_body.take().map(|body| self.redaction.body(body.into()));
            attempt.request_body = body.and_then(|body| String::from_utf8(body.into()).ok());
        }
        Ok(answer)
    }
}
