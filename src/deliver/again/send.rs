//! Sending some events to one sink until each is settled.

use super::Road;
use crate::deliver::decide;
use crate::event::Stored;
use crate::route::{Decision, Outgoing};
use crate::sink::{Reason, SendError};
use crate::store::Cause;
use futures_util::StreamExt;
use futures_util::stream;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Sandboxes whose events are unconfirmed at once.
const SIDE_BY_SIDE: usize = 64;

/// What is said of a record that is sent once more.
pub(super) struct Stamp {
    /// [`crate::route::REPLAY_HEADER`] or [`crate::route::RETRY_HEADER`].
    pub(super) header: &'static str,
    /// Of this replay or retry, so that a broker that knows ids takes it once more, and only once.
    pub(super) id: String,
}

/// The peer's last word on a record, in its or the client's words.
pub(super) enum Refusal {
    /// It has nowhere to put it, and the settings say that this is to be dropped.
    Dropped(String),
    /// It will never take it.
    Rejected(Reason, String),
}

/// What became of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Confirmed.
    Sent,
    /// The sink does not want it.
    Skipped,
    /// The sink will never take it.
    Rejected(Cause),
}

impl Road {
    /// Whether the sink would get an event now; `None` if it wants it and cannot have it.
    pub(super) fn would_send(&self, stored: Stored) -> Option<bool> {
        match decide(&self.router, &self.redaction, self.log.instance(), &mut Arc::new(stored)) {
            Ok(Decision::Send(_)) => Some(true),
            Ok(Decision::Skip(_)) => Some(false),
            Ok(Decision::Reject { .. }) | Err(_) => None,
        }
    }

    /// Sends each sandbox's events in their order, and sandboxes side by side.
    pub(super) async fn send(&self, events: Vec<Stored>, stamp: &Stamp) -> Vec<(u64, Outcome)> {
        let mut sandboxes: BTreeMap<String, Vec<Stored>> = BTreeMap::new();
        for stored in events {
            sandboxes.entry(stored.event.sandbox_id.clone()).or_default().push(stored);
        }
        let in_order = sandboxes.into_values().map(async |events| {
            let mut outcomes = Vec::with_capacity(events.len());
            for stored in events {
                outcomes.push((stored.sequence, self.one(stored, stamp).await));
            }
            outcomes
        });
        stream::iter(in_order).buffer_unordered(SIDE_BY_SIDE).concat().await
    }

    async fn one(&self, stored: Stored, stamp: &Stamp) -> Outcome {
        let rejected = |reason: &str, message| {
            self.metrics.sink_error(&self.name, reason);
            Outcome::Rejected(Cause { reason: reason.to_owned(), message })
        };
        let decision = decide(&self.router, &self.redaction, self.log.instance(), &mut Arc::new(stored));
        let mut outgoing = match decision {
            Ok(Decision::Send(outgoing)) => outgoing,
            Ok(Decision::Skip(_)) => return Outcome::Skipped,
            Ok(Decision::Reject { fault, message }) => return rejected(fault.as_str(), message),
            Err(malformed) => return rejected(Reason::Other.as_str(), malformed.to_string()),
        };
        outgoing.headers.push((stamp.header.to_owned(), stamp.id.clone()));
        match self.insist(outgoing).await {
            Ok(()) => {
                self.metrics.sink_sent(&self.name, 1);
                Outcome::Sent
            }
            Err(Refusal::Dropped(_)) => Outcome::Skipped,
            Err(Refusal::Rejected(reason, message)) => rejected(reason.as_str(), message),
        }
    }

    /// Sends one record until the peer has confirmed it or has refused it for good.
    pub(super) async fn insist(&self, outgoing: Outgoing) -> Result<(), Refusal> {
        let outgoing = Arc::new(outgoing);
        let mut backoff = self.backoff();
        loop {
            match self.sink.send(Arc::clone(&outgoing)).await {
                Ok(()) => return Ok(()),
                Err(SendError::Drop { message, .. }) => return Err(Refusal::Dropped(message)),
                Err(SendError::Reject { reason, message }) => return Err(Refusal::Rejected(reason, message)),
                Err(SendError::Retry { reason, .. }) => self.metrics.sink_error(&self.name, reason.as_str()),
            }
            tokio::time::sleep(backoff.next_delay()).await;
        }
    }
}
