//! The door's log is the store.

use super::{Accepted, Log, ProviderClock, Recalled, Refused, State};
use crate::event::{Arrival, Event};
use crate::store::{self, EventLog, Quarantine};
use futures_util::future::BoxFuture;
use std::time::Duration;

/// When it is worth to ask a full store again: by then the sinks may have settled a segment.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// What the door has of the store.
pub struct StoreLog {
    /// Where events are accepted.
    pub log: EventLog,
    /// Where bodies are kept that are no events.
    pub quarantine: Quarantine,
}

impl Log for StoreLog {
    fn accept(&self, event: Event, arrival: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>> {
        let log = self.log.clone();
        Box::pin(async move {
            log.accept(event, arrival).await.map_err(|refused| match refused {
                store::Refused::Full(_) => Refused::Full { retry_after: RETRY_AFTER },
                store::Refused::Overloaded => Refused::Overloaded,
                store::Refused::Draining => Refused::Draining,
                store::Refused::Failed(_) | store::Refused::Unknown(_) => Refused::Failed,
            })
        })
    }

    fn quarantine(&self, source: &str, reason: &str, body: &[u8]) -> std::io::Result<()> {
        self.quarantine.keep(source, reason, body)
    }

    fn ready(&self) -> Result<(), String> {
        match &*self.log.refusing().borrow() {
            None => Ok(()),
            Some(refused) => Err(refused.to_string()),
        }
    }

    fn compare_clock(&self, provider: ProviderClock) {
        self.log.compare_clock(provider);
    }
}

impl State for store::State {
    fn recall(&self, key: &str) -> Recalled {
        match self.get(key).map(String::from_utf8) {
            Some(Ok(value)) => Recalled::Value(value),
            Some(Err(_)) => Recalled::Lost,
            None if self.was_lost() => Recalled::Lost,
            None => Recalled::Nothing,
        }
    }

    fn keep(&self, key: &str, value: &str) -> std::io::Result<()> {
        self.set(key, value.as_bytes())
    }
}
