//! The door's log is the store.

use super::{Accepted, Log, ProviderClock, Recalled, Refused, State};
use crate::event::{Arrival, Event};
use crate::store::{self, Store};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// When it is worth to ask a full store again: by then the sinks may have settled a segment.
const RETRY_AFTER: Duration = Duration::from_secs(10);

impl Log for Arc<Store> {
    fn accept(&self, event: Event, arrival: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>> {
        let store = Self::clone(self);
        Box::pin(async move {
            Store::accept(&store, event, arrival).await.map_err(|refused| match refused {
                store::Refused::Full(_) => Refused::Full { retry_after: RETRY_AFTER },
                store::Refused::Overloaded => Refused::Overloaded,
                store::Refused::Draining => Refused::Draining,
                store::Refused::Failed(_) => Refused::Failed,
            })
        })
    }

    fn quarantine(&self, source: &str, reason: &str, body: &[u8]) -> std::io::Result<()> {
        Store::quarantine(self, source, reason, body)
    }

    fn ready(&self) -> Result<(), String> {
        match &*self.refusing().borrow() {
            None => Ok(()),
            Some(refused) => Err(refused.to_string()),
        }
    }

    fn compare_clock(&self, provider: ProviderClock) {
        Store::compare_clock(self, provider);
    }
}

impl State for Store {
    fn recall(&self, key: &str) -> Recalled {
        match self.state(key).map(String::from_utf8) {
            Some(Ok(value)) => Recalled::Value(value),
            Some(Err(_)) => Recalled::Lost,
            None if self.state_was_lost() => Recalled::Lost,
            None => Recalled::Nothing,
        }
    }

    fn keep(&self, key: &str, value: &str) -> std::io::Result<()> {
        self.set_state(key, value.as_bytes())
    }
}
