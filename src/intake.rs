//! The one door in: whatever a source has understood is offered here, and the answer says what became of it.

mod clock;
mod store;

pub use crate::store::{Accepted, DamagedSpan, ProviderClock};
pub use clock::MAX_CLOCK_OFFSET;
pub use store::StoreLog;

use crate::event::{Arrival, Event, Origin};
use crate::metrics::Metrics;
use crate::shutdown::Shutdown;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::sync::Semaphore;

/// How far ahead of the host's clock an event may be: an hour wrong by a time zone is not a reason to lose it.
pub const MAX_AHEAD: Duration = Duration::from_secs(24 * 60 * 60);

/// Where accepted events are kept.
pub trait Log: Send + Sync {
    /// Ends once the event is durable, known, or refused. Dropping the future does not take the event back.
    fn accept(&self, event: Event, arrival: Arrival) -> BoxFuture<'static, Result<Accepted, Refused>>;

    /// Keeps a copy of a well signed body that is no event, and why. Blocks on the disk.
    fn quarantine(&self, source: &str, reason: &str, body: &[u8]) -> std::io::Result<()>;

    /// Whether [`Log::accept`] could take an event now; what is in the way otherwise, for people to read.
    fn ready(&self) -> Result<(), String>;

    /// What the providers' clocks say of the host's. While that is in doubt nothing is forgotten that rests on it.
    fn compare_clock(&self, _provider: ProviderClock) {}
}

/// Where a source keeps how far it is.
pub trait State: Send + Sync {
    /// What was kept last under this name.
    fn recall(&self, key: &str) -> Recalled;

    /// Durable when this returns. Blocks on the disk.
    fn keep(&self, key: &str, value: &str) -> std::io::Result<()>;
}

/// What a source finds of what it kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recalled {
    /// It never kept anything.
    Nothing,
    /// It may have, and it cannot be read any more.
    Lost,
    /// This.
    Value(String),
}

/// The log did not take the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// No room left.
    Full {
        /// When it is worth to ask again.
        retry_after: Duration,
    },
    /// More waits for the disk than may.
    Overloaded,
    /// Shutting down.
    Draining,
    /// The disk did not do what it was told.
    Failed,
}

/// How old an event may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Age {
    /// Not older than the dedupe window: whether it was accepted before is known.
    Known,
    /// Any: its id may have been forgotten, and then it is accepted a second time. Only for an operator who has asked for
    /// that.
    Any,
}

/// What became of an offered event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Durable.
    Accepted,
    /// Durable since before.
    Duplicate,
    /// It could be a replay that nobody would notice.
    TooOld {
        /// Of the event.
        timestamp: jiff::Timestamp,
        /// The oldest that is accepted now.
        floor: jiff::Timestamp,
    },
    /// Further ahead than a wrong clock explains.
    TooNew {
        /// Of the event.
        timestamp: jiff::Timestamp,
        /// The newest that is accepted now.
        ceiling: jiff::Timestamp,
    },
    /// No room left.
    StoreFull {
        /// When it is worth to ask again.
        retry_after: Duration,
    },
    /// More waits for the disk than may.
    Overloaded,
    /// Shutting down.
    Draining,
    /// Not durable in time. It may still become so; the same event is then a duplicate.
    TimedOut,
    /// The disk did not do what it was told.
    Failed,
}

/// What the door rests on, from the settings of other rooms.
#[derive(Debug, Clone)]
pub struct Limits {
    /// How long an event id is remembered, and so how old an event may be.
    pub dedupe_window: Duration,
    /// How long an event may wait for the disk.
    pub commit_timeout: Duration,
    /// How many events may wait for the disk.
    pub max_in_flight: usize,
}

/// An event on its way to the disk. When the time is up or the sender has gone away it still waits, still counts as in
/// flight, and is still to be counted when it lands: what is dropped unfinished goes on as a task of its own.
struct Landing(Option<BoxFuture<'static, Result<Accepted, Refused>>>);

impl Landing {
    fn new(landing: impl Future<Output = Result<Accepted, Refused>> + Send + 'static) -> Self {
        Self(Some(Box::pin(landing)))
    }
}

impl Future for Landing {
    type Output = Result<Accepted, Refused>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        // Not polled again once it has ended.
        let Some(landing) = &mut self.0 else { return Poll::Ready(Err(Refused::Failed)) };
        let outcome = ready!(landing.as_mut().poll(context));
        self.0 = None;
        Poll::Ready(outcome)
    }
}

impl Drop for Landing {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let (Some(landing), Ok(runtime)) = (self.0.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(landing);
        }
    }
}

/// The host's clock, a parameter so that tests have their own.
pub type Clock = Arc<dyn Fn() -> jiff::Timestamp + Send + Sync>;

/// The door.
pub struct Intake {
    log: Arc<dyn Log>,
    limits: Limits,
    in_flight: Arc<Semaphore>,
    clock: Clock,
    provider_clocks: clock::Offsets,
    /// Shared whole: each event's landing has it, and a clone of it is a clone of every family.
    metrics: Arc<Metrics>,
    draining: Shutdown,
}

impl Intake {
    /// Opens the door in front of `log`. Once `draining` is requested nothing new is let in.
    pub fn new(log: Arc<dyn Log>, limits: Limits, clock: Clock, metrics: Metrics, draining: Shutdown) -> Self {
        let in_flight = Arc::new(Semaphore::new(limits.max_in_flight.min(Semaphore::MAX_PERMITS)));
        let (provider_clocks, metrics) = (clock::Offsets::default(), Arc::new(metrics));
        Self { log, limits, in_flight, clock, provider_clocks, metrics, draining }
    }

    /// The host's time.
    pub fn now(&self) -> jiff::Timestamp {
        (self.clock)()
    }

    /// Whether the daemon is about to end.
    pub fn is_draining(&self) -> bool {
        self.draining.is_requested()
    }

    /// Whether an event could come in now; what is in the way otherwise, for people to read.
    pub fn ready(&self) -> Result<(), String> {
        if self.is_draining() { Err("draining".to_owned()) } else { self.log.ready() }
    }

    /// How long an event's id is remembered.
    pub fn dedupe_window(&self) -> Duration {
        self.limits.dedupe_window
    }

    /// The time that a source's provider has just told. While it and the host's are more than [`MAX_CLOCK_OFFSET`]
    /// apart, no event of the source is too old or too new.
    pub fn provider_time(&self, source: &Arc<str>, time: jiff::Timestamp) {
        let seconds = self.provider_clocks.tell(source, time, self.now());
        self.metrics.api_clock_offset(source, seconds);
        self.log.compare_clock(self.provider_clocks.all());
    }

    /// A source is no more, and what its provider's clock said means nothing.
    pub fn forget(&self, source: &str) {
        let before = self.provider_clocks.all();
        self.provider_clocks.forget(source);
        let after = self.provider_clocks.all();
        // That the others agree is no news.
        if after != before {
            self.log.compare_clock(after);
        }
    }

    /// Offers one event. On [`Answer::Accepted`] and [`Answer::Duplicate`] it is on disk.
    pub async fn accept(&self, event: Event, arrival: Arrival) -> Answer {
        self.accept_of(Age::Known, event, arrival).await
    }

    /// The same for events that may be as old as `age` says.
    pub async fn accept_of(&self, age: Age, event: Event, arrival: Arrival) -> Answer {
        match self.outside_window(&arrival.source, event.timestamp.instant()) {
            Some(Answer::TooOld { .. }) if age == Age::Any => self.land(event, arrival).await,
            Some(refusal) => refusal,
            None => self.land(event, arrival).await,
        }
    }

    async fn land(&self, event: Event, arrival: Arrival) -> Answer {
        // What the relay fetches by itself waits in a lane of its own, and takes no delivery's place.
        let permit = match arrival.origin {
            Origin::Webhook => match Arc::clone(&self.in_flight).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => return Answer::Overloaded,
            },
            Origin::Backfill | Origin::Metrics | Origin::Reconcile | Origin::Relay => None,
        };
        let (source, origin, kind) = (Arc::clone(&arrival.source), arrival.origin, event.kind.clone());
        let metrics = Arc::clone(&self.metrics);
        let outcome = self.log.accept(event, arrival);
        let landing = Landing::new(async move {
            let outcome = outcome.await;
            if let Ok(Accepted::New { .. }) = outcome {
                metrics.event(&source, origin.as_str(), &kind);
            }
            drop(permit);
            outcome
        });
        match tokio::time::timeout(self.limits.commit_timeout, landing).await {
            Err(_) => Answer::TimedOut,
            Ok(Ok(Accepted::New { .. })) => Answer::Accepted,
            Ok(Ok(Accepted::Duplicate)) => Answer::Duplicate,
            Ok(Err(Refused::Full { retry_after })) => Answer::StoreFull { retry_after },
            Ok(Err(Refused::Overloaded)) => Answer::Overloaded,
            Ok(Err(Refused::Draining)) => Answer::Draining,
            Ok(Err(Refused::Failed)) => Answer::Failed,
        }
    }

    /// Keeps a copy of a well signed body that is no event, and why.
    pub async fn quarantine(&self, source: &Arc<str>, reason: String, body: Bytes) -> std::io::Result<()> {
        let (log, name) = (Arc::clone(&self.log), Arc::clone(source));
        tokio::task::spawn_blocking(move || log.quarantine(&name, &reason, &body)).await??;
        self.metrics.quarantined(source);
        Ok(())
    }

    /// Times that are neither too old nor too new when it is `now`.
    pub fn window(&self, now: jiff::Timestamp) -> RangeInclusive<jiff::Timestamp> {
        // Past the ends of jiff's range nothing is outside.
        let floor = now.checked_sub(self.limits.dedupe_window).unwrap_or(jiff::Timestamp::MIN);
        floor..=now.checked_add(MAX_AHEAD).unwrap_or(jiff::Timestamp::MAX)
    }

    /// The answer to a time that is too far from the host's.
    fn outside_window(&self, source: &str, timestamp: jiff::Timestamp) -> Option<Answer> {
        if self.provider_clocks.is_apart(source) {
            return None;
        }
        let (floor, ceiling) = self.window(self.now()).into_inner();
        if timestamp < floor {
            Some(Answer::TooOld { timestamp, floor })
        } else if timestamp > ceiling {
            Some(Answer::TooNew { timestamp, ceiling })
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests;
