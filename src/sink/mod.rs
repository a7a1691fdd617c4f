//! One file per kind of peer. A sink sends and classifies what went wrong; `deliver` decides what follows from it.

pub mod amqp;
pub mod file;
pub mod gate;
mod handover;
pub mod kafka;
mod lines;
pub mod nats;
mod peer;
pub mod registry;
pub mod stdout;

use crate::certificate::Unusable;
use crate::route::Outgoing;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// How many records of one sandbox may be unconfirmed at once without their order being at stake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// The client keeps the order of its `send` calls, whatever fails: any number.
    Pipelined,
    /// Only one; other sandboxes go on beside it.
    OnePerSandbox,
    /// None by [`Sink::send`]: records go in batches, by [`Sink::transactions`].
    Batched,
}

/// Why a send failed; label `reason` of the sinks' counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The peer cannot be reached, or the connection broke.
    Connect,
    /// The peer does not accept the credentials, or they do not allow this.
    Auth,
    /// No confirmation in time.
    Timeout,
    /// The peer refused the record.
    Rejected,
    /// The record is larger than the peer takes.
    TooLarge,
    /// The peer has nowhere to put the record.
    Unroutable,
    /// The sink's filter failed on the record.
    Filter,
    /// A template gave no usable address for the record.
    Template,
    /// Anything else; the message tells.
    Other,
}

impl Reason {
    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Auth => "auth",
            Self::Timeout => "timeout",
            Self::Rejected => "rejected",
            Self::TooLarge => "too_large",
            Self::Unroutable => "unroutable",
            Self::Filter => "filter",
            Self::Template => "template",
            Self::Other => "other",
        }
    }
}

/// Whom a failure that may heal concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only this record (and those of its sandbox behind it).
    Record,
    /// Every record would meet the same: connection, credentials, an address that is missing for all.
    Sink,
}

/// A send that was not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// May heal; the same record is to be sent again.
    #[error("{message}")]
    Retry {
        /// Whom it concerns.
        scope: Scope,
        /// The metrics' word for it.
        reason: Reason,
        /// The client's own words; never a credential.
        message: String,
    },
    /// Never will: the record becomes a dead letter.
    #[error("{message}")]
    Reject {
        /// The metrics' word for it.
        reason: Reason,
        /// The client's own words; never a credential.
        message: String,
    },
    /// The peer has nowhere to put it and the settings say that this is to be dropped (counted as filtered).
    #[error("{message}")]
    Drop {
        /// The metrics' word for it.
        reason: Reason,
        /// The client's own words.
        message: String,
    },
}

impl SendError {
    /// The metrics' word for it.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Retry { reason, .. } | Self::Reject { reason, .. } | Self::Drop { reason, .. } => *reason,
        }
    }
}

/// A setting of a sink that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct InvalidSetting {
    /// The key's path below the sink's own, `librdkafka.acks` for one.
    pub key: String,
    /// What is wrong, and what to write instead; never a credential.
    pub message: String,
}

impl InvalidSetting {
    fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self { key: key.into(), message: message.into() }
    }
}

impl From<Unusable> for InvalidSetting {
    fn from(Unusable { key, message }: Unusable) -> Self {
        Self::new(key, message)
    }
}

/// Why a batch was not committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// Nothing of the batch is there. These of its records, by their sequences, will never be taken; the rest may be.
    #[error("{} records of the batch are refused", .0.len())]
    Refused(Vec<(u64, SendError)>),
    /// Nothing of the batch is there; it may be committed again.
    #[error(transparent)]
    Aborted(SendError),
    /// All of the batch may be there, or nothing: [`Transactions::open`] tells.
    #[error(transparent)]
    Unknown(SendError),
}

/// What a peer can do that takes records together with the sink's position: all of it or nothing.
pub trait Transactions: Send + Sync {
    /// Shuts out whoever committed under this name before, ends what he left undone, and tells the last position that was
    /// committed under the first of these names that has one. To be called at the start, and after
    /// [`CommitError::Unknown`].
    fn open<'a>(&'a self, names: &'a [String]) -> BoxFuture<'a, Result<Option<String>, SendError>>;

    /// Commits records, in this order, and the position that follows from them. One at a time.
    fn commit<'a>(&'a self, records: &'a [Arc<Outgoing>], position: String) -> BoxFuture<'a, Result<(), CommitError>>;
}

/// A peer that records are sent to. Made without a connection; it connects when first asked to, and again by itself.
pub trait Sink: Send + Sync {
    /// How many records of one sandbox `deliver` may hand over before the first is confirmed.
    fn order(&self) -> Order;

    /// Connects if need be and asks the peer for a sign of life. Returns what it answered, for people to read.
    fn probe(&self) -> BoxFuture<'_, Result<String, SendError>>;

    /// Hands one record over *before it returns* (so that the calls' order is the records'), and gives a future that
    /// ends when the peer has confirmed it or it failed. Dropping the future does not take the record back.
    fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>>;

    /// Transactions, where the settings ask for them. What goes by [`Self::send`] then is in none.
    fn transactions(&self) -> Option<&dyn Transactions> {
        None
    }

    /// What the client last complained of, if nothing was confirmed since: the reason why something may be waiting in a
    /// client that repeats for ever and so reports no failed send. Means nothing while nothing waits.
    fn trouble(&self) -> Option<(Reason, String)> {
        None
    }

    /// Sequences of records that the peer took for repetitions, and so did not keep, though this process sent each for the
    /// first time: their ids are somebody else's, too. Each is told once.
    fn swallowed(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Whether a record that has nowhere to go means, as long as none ever had, that something is still to be set up at the
    /// peer, rather than that this record is at fault.
    fn waits_for_a_first_route(&self) -> bool {
        false
    }

    /// Reopens what an operator may have moved away (SIGHUP).
    fn reopen(&self) {}

    /// Ends connections after the last send; what is unconfirmed stays unconfirmed.
    fn close(&self) -> BoxFuture<'_, ()>;
}
