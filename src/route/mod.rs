//! What a sink takes, where it goes, and as which bytes. Pure: no clock, no I/O, no tokio.
//!
//! [`Router`] asks in this order: types, sources, the [`Filter`]; then renders the [`Template`]s and encodes the
//! record in its [`Format`]. Metadata is chosen by strangers: what fails on one record is that record's dead letter.

mod avro;
mod cloudevents;
mod filter;
#[cfg(test)]
mod fixture;
mod format;
mod quotes;
mod router;
mod settings;
mod template;
mod view;

pub use avro::SCHEMA as AVRO_SCHEMA;
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
    /// Further headers: those that the format asks for, and what is said of a record that is sent once more.
    pub headers: Vec<(String, String)>,
}

/// Header of a record of the past that is sent once more; its value is the replay's id.
pub const REPLAY_HEADER: &str = "e2b-relay-replay";
/// Header of a dead letter that is sent once more; its value is the retry's id.
pub const RETRY_HEADER: &str = "e2b-relay-retry";

impl Outgoing {
    /// The id of the replay or retry by which this is sent once more.
    pub fn again(&self) -> Option<&str> {
        let is_mark = |name: &str| [REPLAY_HEADER, RETRY_HEADER].contains(&name);
        self.headers.iter().find(|(name, _)| is_mark(name)).map(|(_, id)| id.as_str())
    }
}
