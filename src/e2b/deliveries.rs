//! `GET /events/webhooks/{id}/deliveries`: what the provider tried to deliver, by event, with a cursor. Kept for 7 days.

use super::api::{Request, no_json};
use super::rows;
use super::{Answer, Api, ApiError, Endpoint};
use crate::client::{Reply, encode};
use serde::Deserialize;
use serde_json::value::RawValue;

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
#[derive(Debug, Clone, Default)]
pub struct DeliveryPage {
    /// By event.
    pub deliveries: Vec<Delivery>,
    /// `None` on the last page.
    pub next_cursor: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
    #[serde(default)]
    next_cursor: Option<String>,
}

/// Whose row it is, of a row that may hold nothing else that is right.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventId {
    event_id: String,
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
        let page = |reply: &Reply| {
            let page: Page<'_> = serde_json::from_slice(&reply.body).map_err(|error| no_json(&error))?;
            let whose = |text: &str| serde_json::from_str::<EventId>(text).ok().map(|row| row.event_id);
            let (deliveries, odd) = rows::apart(page.data.into_iter().map(|raw| rows::row(raw, whose)));
            Ok((DeliveryPage { deliveries, next_cursor: page.next_cursor }, odd))
        };
        let answer = self.call(request, page).await?;
        self.pass_over(Endpoint::Deliveries, &answer.value.1);
        let mut answer = answer.map(|(page, _)| page);
        for attempt in answer.value.deliveries.iter_mut().flat_map(|delivery| &mut delivery.attempts) {
            let body = attempt.request_body.take().map(|body| self.redaction.body(body.into()));
            attempt.request_body = body.and_then(|body| String::from_utf8(body.into()).ok());
        }
        Ok(answer)
    }
}
