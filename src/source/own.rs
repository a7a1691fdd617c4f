//! Records that the relay makes itself, and their way to the intake.

use super::insist::{GivenUp, Patience, insist};
use crate::event::{Arrival, Event, Origin, Timestamp};
use crate::intake::{Age, Answer, Intake};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// What such a record says.
pub(super) struct Own<'a> {
    pub(super) id: String,
    pub(super) kind: &'a str,
    pub(super) timestamp: Timestamp,
    pub(super) sandbox_id: &'a str,
    pub(super) execution_id: Option<&'a str>,
    pub(super) template_id: Option<&'a str>,
    pub(super) data: Value,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Offered {
    /// On disk.
    Durable,
    /// Never taken: too far from now.
    Refused,
    /// Not now.
    Later {
        /// When it is worth to try again.
        retry_after: Duration,
    },
}

/// One source's way to the intake.
#[derive(Clone)]
pub(super) struct Door {
    pub(super) source: Arc<str>,
    pub(super) team_id: Option<String>,
    pub(super) intake: Arc<Intake>,
}

impl Door {
    pub(super) async fn offer(&self, own: Own<'_>, origin: Origin) -> Offered {
        let event = self.event(own);
        let arrival = Arrival {
            source: Arc::clone(&self.source),
            origin,
            received_at: self.intake.now(),
            webhook_id: None,
            delivery_id: None,
        };
        match insist(&self.intake, &event, &arrival, Age::Known, Patience::Short).await {
            Ok(Answer::TooOld { .. } | Answer::TooNew { .. }) => Offered::Refused,
            Ok(_) => Offered::Durable,
            Err(GivenUp { retry_after }) => Offered::Later { retry_after },
        }
    }

    fn event(&self, own: Own<'_>) -> Event {
        let label = own.kind.rsplit('.').next().unwrap_or_default();
        let mut body = json!({
            "id": own.id, "type": own.kind, "version": "v2", "timestamp": own.timestamp.as_str(),
            "event_category": "relay", "event_label": label, "event_data": own.data, "sandbox_id": own.sandbox_id,
        });
        let known = [
            ("sandbox_execution_id", own.execution_id),
            ("sandbox_template_id", own.template_id),
            ("sandbox_team_id", self.team_id.as_deref()),
        ];
        if let Some(body) = body.as_object_mut() {
            body.extend(known.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
        }
        Event {
            id: own.id,
            kind: own.kind.to_owned(),
            timestamp: own.timestamp,
            sandbox_id: own.sandbox_id.to_owned(),
            body: body.to_string().into(),
        }
    }
}
