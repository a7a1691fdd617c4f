//! How a broker's sink takes records: `send` puts them into a bounded queue before it returns, one worker takes them out
//! in that order. So a call neither waits for the connection nor for another record's confirmation.

use super::{Reason, Scope, SendError};
use crate::backoff::Backoff;
use crate::route::Outgoing;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// What waits for the worker at most, in records. Above the most that `deliver` may be set to hand over unconfirmed: a
/// full queue is a failed send.
const QUEUE: usize = 131_072;

/// Delays between attempts to connect: at most 100 ms, 200 ms … 10 s.
const CONNECT_BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What a sink asks of its worker.
pub(super) enum Command {
    Send(Job),
    Probe(oneshot::Sender<Result<String, SendError>>),
    /// Answered once the connection is closed.
    Close(oneshot::Sender<()>),
}

/// One record, and who waits for its outcome.
pub(super) struct Job {
    pub(super) outgoing: Arc<Outgoing>,
    answer: oneshot::Sender<Result<(), SendError>>,
}

impl Job {
    pub(super) fn finish(self, outcome: Result<(), SendError>) {
        // An error means that nobody waits any more, and then nobody counts the record as delivered either.
        let _ = self.answer.send(outcome);
    }
}

/// The sink's end of the queue.
pub(super) struct Handover {
    commands: mpsc::Sender<Command>,
    peer: Arc<str>,
}

/// The queue to a worker; `peer` names the broker in messages.
pub(super) fn channel(peer: Arc<str>) -> (Handover, mpsc::Receiver<Command>) {
    let (commands, receiver) = mpsc::channel(QUEUE);
    (Handover { commands, peer }, receiver)
}

impl Handover {
    /// See [`super::Sink::send`].
    pub(super) fn send(&self, outgoing: Arc<Outgoing>) -> BoxFuture<'static, Result<(), SendError>> {
        let (answer, outcome) = oneshot::channel();
        if let Err(error) = self.commands.try_send(Command::Send(Job { outgoing, answer })) {
            return std::future::ready(Err(self.refused(&error))).boxed();
        }
        let closed = self.closed();
        async move { outcome.await.unwrap_or(Err(closed)) }.boxed()
    }

    /// See [`super::Sink::probe`].
    pub(super) async fn probe(&self) -> Result<String, SendError> {
        let (answer, outcome) = oneshot::channel();
        self.commands.try_send(Command::Probe(answer)).map_err(|error| self.refused(&error))?;
        outcome.await.unwrap_or_else(|_| Err(self.closed()))
    }

    /// See [`super::Sink::close`].
    pub(super) async fn close(&self) {
        let (done, closed) = oneshot::channel();
        // Both errors mean that the worker has ended, which is what is asked for.
        if self.commands.send(Command::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }

    fn refused(&self, error: &mpsc::error::TrySendError<Command>) -> SendError {
        match error {
            mpsc::error::TrySendError::Full(_) => {
                sink_wide(Reason::Timeout, format!("{QUEUE} records wait for {} already", self.peer))
            }
            mpsc::error::TrySendError::Closed(_) => self.closed(),
        }
    }

    fn closed(&self) -> SendError {
        sink_wide(Reason::Connect, format!("the connection to {} is closed", self.peer))
    }
}

/// A [`SendError::Retry`] that every record would meet.
pub(super) fn sink_wide(reason: Reason, message: impl Into<String>) -> SendError {
    SendError::Retry { scope: Scope::Sink, reason, message: message.into() }
}

/// A [`SendError::Retry`] of one record.
pub(super) fn record_only(reason: Reason, message: impl Into<String>) -> SendError {
    SendError::Retry { scope: Scope::Record, reason, message: message.into() }
}

/// A [`SendError::Reject`].
pub(super) fn reject(reason: Reason, message: impl Into<String>) -> SendError {
    SendError::Reject { reason, message: message.into() }
}

/// Spaces the attempts to connect. Until the next is due, records get the last attempt's error instead of a further attempt.
pub(super) struct Attempts {
    backoff: Backoff,
    shut: Option<(Instant, SendError)>,
}

impl Attempts {
    pub(super) fn new(random: fastrand::Rng) -> Self {
        let (base, cap) = CONNECT_BACKOFF;
        Self { backoff: Backoff::new(base, cap, random), shut: None }
    }

    /// Whether a further attempt is due; if not, why the last one failed.
    pub(super) fn check(&self, now: Instant) -> Result<(), SendError> {
        match &self.shut {
            Some((until, error)) if now < *until => Err(error.clone()),
            _ => Ok(()),
        }
    }

    /// An attempt failed at `now`.
    pub(super) fn failed(&mut self, now: Instant, error: SendError) {
        self.shut = Some((now + self.backoff.next_delay(), error));
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
        self.shut = None;
    }

    /// Lets the next attempt through at once: somebody asked for it.
    pub(super) fn allow(&mut self) {
        self.shut = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn outgoing(id: &str) -> Arc<Outgoing> {
        Arc::new(Outgoing {
            sequence: 1,
            id: id.to_owned(),
            kind: "sandbox.lifecycle.created".to_owned(),
            sandbox_id: "sbx".to_owned(),
            address: "e2b".to_owned(),
            key: String::new(),
            payload: Bytes::from_static(b"{}"),
            content_type: "application/json",
            unix_seconds: 0,
            headers: Vec::new(),
        })
    }

    #[tokio::test]
    async fn records_come_out_in_the_order_of_the_calls_though_nobody_awaits_them() {
        let (handover, mut commands) = channel("peer".into());
        let _unawaited: Vec<_> = (0..100).map(|n| handover.send(outgoing(&n.to_string()))).collect();
        for n in 0..100 {
            let Some(Command::Send(job)) = commands.recv().await else { panic!("record {n} was not handed over") };
            assert_eq!(job.outgoing.id, n.to_string());
        }
    }

    #[tokio::test]
    async fn a_full_queue_and_a_dead_worker_are_errors_at_once() {
        let (handover, commands) = channel("peer".into());
        let waiting: Vec<_> = (0..QUEUE).map(|_| handover.send(outgoing("x"))).collect();
        let refused = handover.send(outgoing("one too many")).await;
        assert!(
            matches!(refused, Err(SendError::Retry { scope: Scope::Sink, reason: Reason::Timeout, .. })),
            "{refused:?}"
        );
        drop(commands);
        for outcome in waiting {
            let outcome = outcome.await;
            assert!(matches!(outcome, Err(SendError::Retry { reason: Reason::Connect, .. })), "{outcome:?}");
        }
        assert!(handover.probe().await.is_err());
        handover.close().await;
    }

    #[test]
    fn the_last_error_is_repeated_until_the_next_attempt_is_due() {
        let mut attempts = Attempts::new(fastrand::Rng::with_seed(3));
        let now = Instant::now();
        assert_eq!(attempts.check(now), Ok(()));
        let error = sink_wide(Reason::Auth, "no");
        attempts.failed(now, error.clone());
        assert_eq!(attempts.check(now), Err(error.clone()));
        assert_eq!(attempts.check(now + CONNECT_BACKOFF.1), Ok(()));
        attempts.allow();
        assert_eq!(attempts.check(now), Ok(()));
        attempts.failed(now, error);
        attempts.succeeded();
        assert_eq!(attempts.check(now), Ok(()));
    }
}
