//! How a delivery comes to its end.

use super::Delivery;
use super::batches::Batches;
use super::tasks::Noted;
use crate::sometimes;
use tokio::time::Instant;

impl Delivery {
    /// At the end: everything is settled and noted, or the time is up, or the sink takes nothing anyway.
    pub(super) fn is_done(&self, deadline: Instant) -> bool {
        let all_read = self.reading.buffer.is_empty() && self.reading.task.is_none() && !self.has_more();
        let idle = self.window.is_empty() && (all_read || self.handing_on);
        let noted = self.noting.is_none() && self.window.progress() == self.noted;
        let waits = !self.in_flight.is_empty() || self.batches.is_busy();
        let halted = self.halted_until.is_some() && !waits && self.parking.is_none();
        Instant::now() >= deadline || ((idle || halted) && noted)
    }

    pub(super) async fn end(mut self) {
        if let Some(parking) = self.parking.take() {
            let result = parking.await;
            self.parked(result);
        }
        if let Some(noting) = self.noting.take() {
            let result = noting.await;
            self.noted(result);
        }
        let progress = self.window.progress();
        if progress != self.noted {
            let claim = self.parts.claim.clone();
            let note = move || Noted { progress, result: claim.keep(progress) };
            let result = self.parts.executor.call(note).await;
            self.noted(result);
        }
        // What is not committed by now is dropped, and aborted by the peer.
        self.batches = Batches::None;
        if !self.in_flight.is_empty() {
            sometimes::happened("records that are unconfirmed at the end");
            tracing::warn!(
                sink = self.parts.name,
                unconfirmed = self.in_flight.len(),
                "what is not confirmed is sent again at the next start"
            );
        }
        self.tell();
        self.parts.sink.close().await;
    }
}
