//! What a delivery has done beside its loop: reading ahead, noting its position, writing dead letters, asking the peer for
//! a sign of life. At most one of each is under way.

use super::reading::Read;
use super::{Delivery, NOTE_EVERY, Parts};
use crate::event::Stored;
use crate::executor::Lost;
use crate::sink::{Reason, Scope, SendError, Sink};
use crate::sometimes;
use crate::store::{Cause, Progress};
use futures_util::future::BoxFuture;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How soon the disk is tried again that did not take a position or a dead letter.
const DISK_RETRY: Duration = Duration::from_secs(1);
/// How long the peer may take to give a sign of life at the start.
const PROBE: Duration = Duration::from_secs(10);

pub(super) type Task<T> = BoxFuture<'static, Result<T, Lost>>;

/// An event to become a dead letter.
pub(super) type Letter = (Arc<Stored>, Cause);

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
            let claim = self.parts.claim.clone();
            self.parking = Some(Box::pin(self.parts.executor.call(move || {
                let result = claim.park(&letters);
                Parked { letters, result }
            })));
        }
        let progress = self.window.progress();
        let now = Instant::now();
        if self.noting.is_none() && progress != self.noted && (now >= self.note_at || !self.window.has_room()) {
            self.note_at = now + NOTE_EVERY;
            let claim = self.parts.claim.clone();
            let note = move || Noted { progress, result: claim.keep(progress) };
            self.noting = Some(Box::pin(self.parts.executor.call(note)));
        }
    }

    /// Whether there is a place for further events.
    pub(super) fn takes_more(&self) -> bool {
        self.window.has_room() && !self.handing_on && !self.batches.is_closed()
    }

    /// Takes the next events from memory where they are there, else has them read from the disk.
    fn read_on(&mut self) {
        if !self.reading.buffer.is_empty() || !self.takes_more() || !self.has_more() {
            return;
        }
        if let Some(read) = self.reading.start() {
            self.read(read);
        }
    }

    /// Whether the log may hold events that were not read.
    pub(super) fn has_more(&self) -> bool {
        self.reading.is_behind(*self.durable.borrow())
    }

    pub(super) fn read(&mut self, read: Read) {
        let name = &self.parts.name;
        match read {
            Read::Joined(end) => {
                self.log_end = end;
                // Before anything is read behind it.
                self.pass_log_end();
            }
            Read::Doubted(gap) => {
                tracing::warn!(sink = name, %gap, "what was read of the journal does not join what was read before: it is read again");
            }
            Read::Stopped(gap) => {
                tracing::error!(
                    sink = name, %gap,
                    "events are missing in the journal, and nothing proves that they are damaged: the sink stops before them; \
                     `e2b-relay sinks resume --accept-gap {name}` goes on without them"
                );
                self.parts.metrics.sink_error(name, Reason::Other.as_str());
                self.failed(Reason::Other, &gap.to_string());
                self.status.send_modify(|status| status.gap = Some(gap.clone()));
                self.set_up(false, &gap.to_string());
            }
            Read::Failed(problem) => {
                tracing::error!(sink = name, error = problem, "the journal cannot be read");
                self.parts.metrics.sink_error(name, Reason::Other.as_str());
                self.halted_until.get_or_insert(Instant::now() + self.backoff.next_delay());
            }
        }
    }

    pub(super) fn parked(&mut self, result: Result<Parked, Lost>) {
        let Parts { name, metrics, .. } = &self.parts;
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
                metrics.dead_letters_waiting(name, self.parts.claim.dead_letters_waiting());
                self.handle.parked();
                let sequences: Vec<u64> = letters.iter().map(|(stored, _)| stored.sequence).collect();
                self.window.parked(&sequences);
            }
            Ok(Parked { letters, result: Err(error) }) => {
                sometimes::happened("dead letters that cannot be written");
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

    pub(super) fn noted(&mut self, result: Result<Noted, Lost>) {
        let problem = match result {
            Ok(Noted { progress, result: Ok(()) }) => {
                self.noted = progress;
                return self.window.noted(progress);
            }
            Ok(Noted { result: Err(error), .. }) => error.to_string(),
            Err(error) => error.to_string(),
        };
        sometimes::happened("a position that cannot be noted");
        // The window fills and holds the sink until positions can be noted again.
        if let Some(suppressed) = self.lines.unnoted.pass(Instant::now()) {
            tracing::error!(sink = self.parts.name, error = problem, suppressed, "the position cannot be noted");
        }
        self.failed(Reason::Other, &format!("the position cannot be noted: {problem}"));
        self.parts.metrics.sink_error(&self.parts.name, Reason::Other.as_str());
        self.disk_retry_at = Some(Instant::now() + DISK_RETRY);
    }

    pub(super) fn probed(&mut self, result: Result<Result<String, SendError>, Lost>) {
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
    let asked = tokio::spawn(async move {
        tokio::time::timeout(PROBE, sink.probe()).await.unwrap_or_else(|_| {
            let message = format!("no answer within {} s", PROBE.as_secs());
            Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Timeout, message })
        })
    });
    Box::pin(async move { asked.await.map_err(|_| Lost) })
}

/// The task's result, and the place empty; `None`, for `select!` to pass over, where there is no task.
pub(super) async fn wait<T>(task: &mut Option<Task<T>>) -> Option<Result<T, Lost>> {
    let result = task.as_mut()?.await;
    *task = None;
    Some(result)
}
