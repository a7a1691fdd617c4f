//! The one thing on the belt: an event, how it arrived, and the record that consumers get.
//!
//! Pure: no clock, no I/O, no tokio.

mod identity;
mod record;
mod timestamp;

pub use identity::{body_id, gap_id, metrics_id, reconcile_id, unconfirmed_id, usage_id};
pub use record::{Record, RelayPart};
pub use timestamp::{ParseTimestampError, Timestamp};

use bytes::Bytes;
use std::sync::Arc;

/// By which of the relay's roads an event came; `relay.origin` of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A signed delivery.
    Webhook,
    /// The provider's events API.
    Backfill,
    /// A sample of the provider's metrics API.
    Metrics,
    /// A state that the sandbox list shows and no event told.
    Reconcile,
    /// Made by the relay itself.
    Relay,
}

impl Origin {
    /// The word in a record and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Metrics => "metrics",
            Self::Reconcile => "reconcile",
            Self::Relay => "relay",
        }
    }

    /// The number in the journal; never change or reuse one.
    pub fn code(self) -> u8 {
        match self {
            Self::Webhook => 1,
            Self::Backfill => 2,
            Self::Metrics => 3,
            Self::Reconcile => 4,
            Self::Relay => 5,
        }
    }

    /// The origin of a [`Origin::code`].
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::Webhook, Self::Backfill, Self::Metrics, Self::Reconcile, Self::Relay]
            .into_iter()
            .find(|origin| origin.code() == code)
    }
}

/// What was received, with what the relay needs to know of it. The body is kept as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The provider's id, or a derived one; 1 to 255 characters without control characters.
    pub id: String,
    /// `sandbox.lifecycle.created` and the like; `type` on the wire.
    pub kind: String,
    /// When it happened, by the provider's clock.
    pub timestamp: Timestamp,
    /// Whose life it tells of.
    pub sandbox_id: String,
    /// Strict JSON, one object, UTF-8.
    pub body: Bytes,
}

/// How, when and with which unsigned evidence an event arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// The source's name in the settings.
    pub source: Arc<str>,
    /// The road.
    pub origin: Origin,
    /// By the host's clock, microseconds.
    pub received_at: jiff::Timestamp,
    /// `e2b-webhook-id`, 1 to 128 visible ASCII characters; not signed.
    pub webhook_id: Option<String>,
    /// `e2b-delivery-id`, likewise.
    pub delivery_id: Option<String>,
}

/// An event with its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Rises by arrival, per store; never used twice.
    pub sequence: u64,
    /// How it came.
    pub arrival: Arrival,
    /// What came.
    pub event: Event,
}
