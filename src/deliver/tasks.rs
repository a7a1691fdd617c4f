//! What a delivery has done beside its loop: reading ahead, noting its position, writing dead letters, asking the peer for
//! a sign of life. At most one of each is under way.

use super::{Delivery, NOTE_EVERY, Parts};
use crate::event::Stored;
use crate::sink::{Reason, Scope, SendError, Sink};
use crate::store::{Cause, Feed, Progress};
use futures_util::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinError;
use tokio::time::Instant;

/// What is read ahead at once.
const READ_EVENTS: usize = 512;
const READ_BYTES: usize = 4 * 1024 * 1024;
/// How soon the disk is tried again that did not take a position or a dead letter.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// How long the peer may take to give a sign of life at the start.
const PROBE: Duration = Duration::from_secs(10);

pub(super) type Task<T> = BoxFuture<'static, Result<T, JoinError>>;

/// An event to become a dead letter.
pub(super) type Letter = (Arc<Stored>, Cause);

pub(super) struct ReadAhead {
    feed: Feed,
    /// What was on disk when the reading began.
    durable: u64,
    events: io::Result<Vec<Arc<Stored>>>,
}

pub(super) struct Parked {
    letters: Vec<Letter>,
    result: io::Result<usize>,
}

pub(super) struct Noted {
    pub(super) progress: Progress,
    pub(super) result: io::Result<()>,
}

impl Delivery {
    /// Starts everything that can be started now.
    pub(super) fn start_work(&mut self) {
        self.resume();
        self.read_on();
        self.route_some();
        self.start_batch();
        self.read_on();
        if self.disk_retry_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.disk_retry_at = None;
        if self.parking.is_none() && !self.rejected.is_empty() {
            let letters = std::mem::take(&mut self.rejected);
            let (store, name) = (Arc::clone(&self.parts.store), self.parts.name.clone());
            self.parking = Some(blocking(move || {
                let result = store.park(&name, &letters);
                Parked { letters, result }
            }));
        }
        let progress = self.window.progress();
        let now = Instant::now();
        if self.noting.is_none() && progress != self.noted && (now >= self.note_at || !self.window.has_room()) {
            self.note_at = now + NOTE_EVERY;
            let (store, name) = (Arc::clone(&self.parts.store), self.parts.name.clone());
            self.noting = Some(blocking(move || Noted { progress, result: store.advance(&name, progress) }));
        }
    }

    /// Whether there is a place for further events.
    pub(super) fn takes_more(&self) -> bool {
        self.window.has_room() && !self.handing_on && !self.batches.is_closed()
    }

    /// Takes the next events from memory where they are there, else has them read from the disk.
    fn read_on(&mut self) {
        if !self.buffer.is_empty() || !self.takes_more() || !self.has_more() {
            return;
        }
        let Some(mut feed) = self.feed.take() else { return };
        let durable = *self.durable.borrow();
        if let Some(events) = feed.recent(READ_EVENTS, READ_BYTES) {
            self.read(Ok(ReadAhead { feed, durable, events: Ok(events) }));
            return;
        }
        self.reading = Some(blocking(move || {
            let events = feed.read(READ_EVENTS, READ_BYTES);
            ReadAhead { feed, durable, events }
        }));
    }

    /// Whether the log may hold events that were not read. Its highest sequence may belong to none, since a sequence
    /// whose write failed is not used again.
    pub(super) fn has_more(&self) -> bool {
        *self.durable.borrow() > self.window.newest().max(self.read_through)
    }

    pub(super) fn read(&mut self, result: Result<ReadAhead, JoinError>) {
        let problem = match result {
            Ok(ReadAhead { feed, durable, events: Ok(events) }) => {
                self.feed = Some(feed);
                if events.is_empty() {
                    self.read_through = durable;
                    self.window.nothing_up_to(durable);
                }
                self.buffer.extend(events);
                return;
            }
            Ok(ReadAhead { events: Err(error), .. }) => error.to_string(),
            Err(error) => error.to_string(),
        };
        tracing::error!(sink = self.parts.name, error = problem, "the journal cannot be read");
        self.parts.metrics.sink_error(&self.parts.name, Reason::Other.as_str());
        // From the last event that was taken from the old one: everything before it is in the window.
        self.feed = Some(self.parts.store.feed(self.window.newest()));
        self.halted_until.get_or_insert(Instant::now() + self.backoff.next_delay());
    }

    pub(super) fn parked(&mut self, result: Result<Parked, JoinError>) {
        let Parts { name, metrics, store, .. } = &self.parts;
        match result {
            Ok(Parked { mut letters, result: Ok(kept) }) => {
                self.rejected.splice(0..0, letters.drain(kept.min(letters.len())..));
                for (stored, cause) in &letters {
                    metrics.dead_letter(name, &cause.reason);
                    let Some(suppressed) = self.lines.parked.pass(Instant::now()) else { continue };
                    tracing::warn!(
                        sink = name,
                        event_id = stored.event.id,
                        sandbox_id = stored.event.sandbox_id,
                        reason = cause.reason,
                        error = cause.message,
                        suppressed,
                        "a record became a dead letter"
                    );
                }
                metrics.dead_letters_waiting(name, store.dead_letters_waiting(name));
                self.handle.parked();
                let sequences: Vec<u64> = letters.iter().map(|(stored, _)| stored.sequence).collect();
                self.window.parked(&sequences);
            }
            Ok(Parked { letters, result: Err(error) }) => {
                if let Some(suppressed) = self.lines.unparked.pass(Instant::now()) {
                    tracing::error!(sink = name, %error, suppressed, "dead letters cannot be written: the sink waits");
                }
                metrics.sink_error(name, Reason::Other.as_str());
                self.failed(Reason::Other, &format!("dead letters cannot be written: {error}"));
                self.rejected.splice(0..0, letters);
                self.disk_retry_at = Some(Instant::now() + DISK_RETRY);
            }
            // The task panicked and took the letters along; they are in the journal still, and come again.
            Err(error) => tracing::error!(sink = name, error = %error, "dead letters were not written"),
        }
    }

    pub(super) fn noted(&mut self, result: Result<Noted, JoinError>) {
        let problem = match result {
            Ok(Noted { progress, result: Ok(()) }) => {
                self.noted = progress;
                return self.window.noted(progress);
            }
            Ok(Noted { result: Err(error), .. }) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // The window fills and holds the sink until positions can be noted again.
        if let Some(suppressed) = self.lines.unnoted.pass(Instant::now()) {
            tracing::error!(sink = self.parts.name, error = problem, suppressed, "the position cannot be noted");
        }
        self.failed(Reason::Other, &format!("the position cannot be noted: {problem}"));
        self.parts.metrics.sink_error(&self.parts.name, Reason::Other.as_str());
        self.disk_retry_at = Some(Instant::now() + DISK_RETRY);
    }

    pub(super) fn probed(&mut self, result: Result<Result<String, SendError>, JoinError>) {
        // A record that was taken or not meanwhile tells more.
        let is_known = self.status.borrow().up.is_some();
        match result {
            Ok(Ok(answer)) => {
                tracing::info!(sink = self.parts.name, answer, "the sink's peer answers");
                self.status.send_modify(|status| status.peer = Some(answer));
                if !is_known {
                    self.set_up(true, "");
                }
            }
            Ok(Err(error)) => {
                if let SendError::Retry { reason, message, .. } | SendError::Reject { reason, message } = &error {
                    self.failed(*reason, message);
                }
                if !is_known {
                    self.set_up(false, &error.to_string());
                }
            }
            Err(error) => tracing::error!(sink = self.parts.name, %error, "the peer was not asked"),
        }
    }
}

/// Asks the peer for a sign of life, beside everything else.
pub(super) fn probe(sink: Arc<dyn Sink>) -> Task<Result<String, SendError>> {
    Box::pin(tokio::spawn(async move {
        tokio::time::timeout(PROBE, sink.probe()).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", PROBE.as_secs());
            Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Timeout, message })
        })
    }))
}

pub(super) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
    Box::pin(tokio::task::spawn_blocking(work))
}

/// The task's result, and the place empty; `None`, for `select!` to pass over, where there is no task.
pub(super) async fn wait<T>(task: &mut Option<Task<T>>) -> Option<Result<T, JoinError>> {
    let result = task.as_mut()?.await;
    *task = None;
    Some(result)
}
