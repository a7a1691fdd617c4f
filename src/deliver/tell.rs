//! What a delivery tells of itself: to its status, the metrics, and the log.

use super::status::{Failure, Unaccounted};
use super::{Delivery, PATIENCE};
use crate::logging::Occasional;
use crate::sink::Reason;
use std::time::Duration;
use tokio::time::Instant;

/// Lines that may come again and again, each at its own pace.
pub(super) struct Lines {
    pub(super) parked: Occasional,
    pub(super) unparked: Occasional,
    pub(super) unnoted: Occasional,
    pub(super) unaccounted: Occasional,
}

impl Default for Lines {
    fn default() -> Self {
        // Each dead letter is listed by the admin API; the log has enough of them to see what they have in common.
        let parked = Occasional::every(Duration::from_secs(1));
        Self {
            parked,
            unparked: Occasional::default(),
            unnoted: Occasional::default(),
            unaccounted: Occasional::every(Duration::from_secs(60)),
        }
    }
}

impl Delivery {
    /// Notes a failure for operators to read.
    pub(super) fn failed(&self, reason: Reason, message: &str) {
        let failure = Failure::new((self.parts.clock)(), reason, message);
        self.status.send_modify(|status| status.last_error = Some(failure));
    }

    pub(super) fn set_up(&mut self, up: bool, error: &str) {
        if self.status.borrow().up == Some(up) {
            return;
        }
        self.status.send_modify(|status| status.up = Some(up));
        self.parts.metrics.sink_up(&self.parts.name, up);
        if up {
            tracing::info!(sink = self.parts.name, "the sink takes records");
        } else {
            tracing::warn!(
                sink = self.parts.name,
                error,
                "the sink is halted: what comes is kept and sent once it is mended"
            );
        }
    }

    /// Tells lag and age, and what the client says of records that stay unconfirmed.
    pub(super) fn tell(&mut self) {
        let position = self.window.progress().position;
        let lag = self.durable.borrow().sequence.saturating_sub(position);
        let now = (self.parts.clock)();
        let read = || self.reading.buffer.front().map(|item| item.record.stored.arrival.received_at);
        let oldest = self.window.oldest_received_at().or_else(read);
        let age =
            oldest.map_or(Duration::ZERO, |at| Duration::try_from(now.duration_since(at)).unwrap_or(Duration::ZERO));
        self.parts.metrics.sink_lag(&self.parts.name, lag, age);
        let unaccounted = self.unaccounted();
        self.parts.metrics.sink_unaccounted(&self.parts.name, unaccounted.as_ref().map_or(0, |missing| missing.events));
        self.status.send_modify(|status| {
            status.unaccounted_events = unaccounted.as_ref().map_or(0, |missing| missing.events);
            status.unaccounted = unaccounted;
            status.position = position;
            status.lag_events = lag;
            status.oldest_unsent_age_seconds = age.as_secs_f64();
        });
        self.tell_swallowed();
        if age > PATIENCE
            && (!self.in_flight.is_empty() || !self.delayed.is_empty() || self.batches.is_busy())
            && let Some((reason, message)) = self.parts.sink.trouble()
        {
            self.parts.metrics.sink_error(&self.parts.name, reason.as_str());
            self.failed(reason, &message);
            self.set_up(false, &format!("{}: {message}", reason.as_str()));
        }
    }

    /// Holds what the sink has passed, by the ordinals of the log, against what became of it, and its dead letters against
    /// those in their file.
    fn unaccounted(&self) -> Option<Unaccounted> {
        let progress = self.window.progress();
        let letters = self.parts.claim.dead_letter_counts(progress.position);
        // Between what is gone of one log the position moves over the records of the other.
        let gone = if self.letters_gone.is_empty() { 0 } else { self.window.letters_to_come() };
        let passed = self.letters_gone.iter().rev().take(gone).filter(|letter| **letter <= progress.position);
        let to_come = passed.chain(self.dead_lettered.range(..=progress.position)).count() as u64;
        let events = progress.unaccounted() + letters.unaccounted(progress.dead_lettered + to_come);
        if events == 0 {
            return None;
        }
        let (since_sequence, through_sequence) = (progress.accounted_through, progress.position);
        let unaccounted = Unaccounted { since_sequence, through_sequence, events };
        if let Some(suppressed) = self.lines.unaccounted.pass(Instant::now()) {
            tracing::error!(
                sink = self.parts.name,
                events,
                after_sequence = since_sequence,
                through_sequence,
                suppressed,
                "what became of these events is not known: `{}` sends them once more",
                unaccounted.remedy(&self.parts.name)
            );
        }
        Some(unaccounted)
    }

    /// Alarms of records that a peer which dedupes has not kept, because it got their ids from somebody else.
    pub(super) fn tell_swallowed(&self) {
        let new = self.parts.sink.swallowed().into_iter().filter(|sequence| *sequence > self.repeated_through);
        let sequences: Vec<u64> = new.collect();
        let Some(first) = sequences.first() else { return };
        self.parts.metrics.sink_swallowed(&self.parts.name, sequences.len() as u64);
        tracing::error!(
            sink = self.parts.name,
            records = sequences.len(),
            first_sequence = first,
            "the stream took records for repetitions though they were sent for the first time, and has not kept them: another \
             sink or relay feeds it with the same ids; give each its own stream"
        );
    }
}
