//! What follows from a confirmation, or from its being refused.

use super::window::{Job, Settled};
use super::{BACKOFF, CONFIRM_AT_ONCE, Delivery, MAX_REJECTED_IN_A_ROW};
use crate::backoff::Backoff;
use crate::sink::{Order, Reason, Scope, SendError};
use crate::sometimes;
use crate::store::Cause;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::Instant;

impl Delivery {
    pub(super) fn confirmed(&mut self, sequence: u64, result: Result<(), SendError>) {
        match result {
            Ok(()) => {
                self.parts.metrics.sink_sent(&self.parts.name, 1);
                self.took_something = true;
                self.succeeded(sequence);
                let next = self.window.settle(sequence, Settled::Delivered);
                self.go_on(next);
            }
            Err(SendError::Drop { .. }) => {
                self.parts.metrics.sink_filtered(&self.parts.name, Reason::Unroutable.as_str());
                self.succeeded(sequence);
                let next = self.window.settle(sequence, Settled::Filtered);
                self.go_on(next);
            }
            Err(SendError::Reject { reason, message }) => {
                self.count_error(sequence, reason, &message);
                if self.was_nothing_ever_routed(reason) || self.is_one_too_many(reason) {
                    return self.halt(sequence, reason, &message);
                }
                let (stored, next) = self.window.reject(sequence);
                if let Some(stored) = stored {
                    self.retries.remove(&sequence);
                    self.rejected.push((stored, Cause { reason: reason.as_str().to_owned(), message }));
                }
                self.go_on(next);
            }
            Err(SendError::Retry { scope, reason, message }) => {
                self.count_error(sequence, reason, &message);
                // Where several of one sandbox are in flight, those behind it must not be overtaken by its repetition.
                if scope == Scope::Sink || self.parts.sink.order() != Order::OnePerSandbox {
                    return self.halt(sequence, reason, &message);
                }
                sometimes::happened("one record that is sent later");
                self.window.put_back(sequence);
                let random = self.parts.random.fork();
                let retry = self.retries.entry(sequence).or_insert_with(|| Backoff::new(BACKOFF.0, BACKOFF.1, random));
                self.delayed.insert((Instant::now() + retry.next_delay(), sequence), ());
            }
        }
    }

    /// What has come together with another confirmation: an fdatasync, or a broker's acknowledgement, is of many records.
    pub(super) fn confirmed_too(&mut self) {
        for _ in 1..CONFIRM_AT_ONCE {
            let Some(Some((sequence, result))) = self.in_flight.next().now_or_never() else { return };
            self.confirmed(sequence, result);
        }
    }

    /// The sandbox's next record, unless the sink is halted: then it waits for the end of that.
    fn go_on(&mut self, next: Option<Job>) {
        let Some(job) = next else { return };
        if self.halted_until.is_some() {
            self.window.put_back(job.stored.sequence);
        } else {
            self.hand_over(job);
        }
    }

    fn succeeded(&mut self, sequence: u64) {
        self.retries.remove(&sequence);
        self.rejected_in_a_row = (None, 0);
        self.backoff.reset();
        self.set_up(true, "");
    }

    /// Where nothing was ever taken, what has nowhere to go is no fault of the record: something is still to be set up.
    fn was_nothing_ever_routed(&self, reason: Reason) -> bool {
        reason == Reason::Unroutable && !self.took_something && self.parts.sink.waits_for_a_first_route()
    }

    /// A long run of rejections for one cause is no fault of the records.
    fn is_one_too_many(&mut self, reason: Reason) -> bool {
        let (last, count) = self.rejected_in_a_row;
        let count = if last == Some(reason) { count.saturating_add(1) } else { 1 };
        self.rejected_in_a_row = (Some(reason), count);
        count > MAX_REJECTED_IN_A_ROW
    }

    pub(super) fn count_error(&self, sequence: u64, reason: Reason, message: &str) {
        self.parts.metrics.sink_error(&self.parts.name, reason.as_str());
        self.failed(reason, message);
        tracing::debug!(
            sink = self.parts.name,
            sequence,
            reason = reason.as_str(),
            error = message,
            "a record was not taken"
        );
    }

    /// Hands nothing over for a while; the record keeps its place.
    fn halt(&mut self, sequence: u64, reason: Reason, message: &str) {
        self.halt_all(&[sequence], reason, message);
    }

    pub(super) fn halt_all(&mut self, sequences: &[u64], reason: Reason, message: &str) {
        for sequence in sequences {
            self.window.put_back(*sequence);
        }
        if self.halted_until.is_none() {
            sometimes::happened("a sink that is halted");
            let delay = self.backoff.next_delay();
            self.halted_until = Some(Instant::now() + delay);
            self.set_up(false, &format!("{}: {message}", reason.as_str()));
        }
    }
}
