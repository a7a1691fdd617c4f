//! What a sink takes, where it goes, and as which bytes. Pure: no clock, no I/O, no tokio.
//!
//! [`Router`] asks in this order: types, sources, the [`Filter`]; then renders the [`Template`]s and encodes the
//! record in its [`Format`]. Metadata is chosen by strangers: what fails on one record is that record's dead letter.

mod cloudevents;
mod filter;
#[cfg(test)]
mod fixture;
mod format;
mod router;
mod settings;
mod template;
mod view;

pub use filter::{Filter, FilterError, FilterFault, Verdict};
pub use format::{Format, Framing};
pub use router::{Addressing, Decision, Fault, Router, RouterError, Skip, Types};
pub use settings::Settings;
pub use template::{Escape, Template, TemplateError};
pub use view::View;

use bytes::Bytes;

/// One record on its way to one sink: where to, and the bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// Place in the log.
    pub sequence: u64,
    /// The event's id; never changes, whatever is sent again.
    pub id: String,
    /// The event's type.
    pub kind: String,
    /// Whose order is kept.
    pub sandbox_id: String,
    /// Kafka topic, NATS subject or AMQP routing key, rendered and escaped; empty for `file` and `stdout`.
    pub address: String,
    /// Kafka record key; empty elsewhere.
    pub key: String,
    /// The encoded record.
    pub payload: Bytes,
    /// Of the payload, `application/json` and the like.
    pub content_type: &'static str,
    /// Unix time of the event, in seconds.
    pub unix_seconds: i64,
    /// Further headers that the format asks for.
    pub headers: Vec<(String, String)>,
}
