//! Dead letters that are sent once more.

use super::letter::Read;
use super::send::{Outcome, Stamp};
use super::{Handle, Refused};
use crate::logging::Occasional;
use crate::route::RETRY_HEADER;
use crate::store::Resolution;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::{OwnedMutexGuard, watch};
use tokio::time::Instant;
use uuid::Uuid;

/// Letters in memory at once.
const AT_ONCE: usize = 64;

/// What a retry has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RetryTally")]
pub struct Retried {
    /// Letters that were asked for and waited.
    pub found: u64,
    /// Sent; they wait no more.
    pub sent: u64,
    /// Not wanted by the sink any more, by its types, sources or filter: they wait still.
    pub skipped: u64,
    /// Refused again, or not to be read: they wait still.
    pub rejected: u64,
}

/// The right to retry letters of one sink; there is one at a time.
pub struct Retrying {
    handle: Handle,
    _only: OwnedMutexGuard<()>,
}

impl Handle {
    /// Nothing is sent yet.
    pub fn retrying(&self) -> Result<Retrying, Refused> {
        let only = Arc::clone(&self.retrying).try_lock_owned();
        let only = only.map_err(|_| Refused::Busy("dead letters of this sink are being retried already"))?;
        Ok(Retrying { handle: self.clone(), _only: only })
    }
}

impl Retrying {
    /// Sends letters by their sequences, and tells how far it is; what is confirmed is a letter no more. Dropping the
    /// future leaves the rest as it is.
    pub async fn run(self, sequences: Vec<u64>, progress: &watch::Sender<Retried>) -> Result<Retried, Refused> {
        let mut ending = self.handle.ending.clone();
        tokio::select! {
            biased;
            () = ending.requested() => Err(Refused::Ending),
            retried = self.work(sequences, progress) => retried,
        }
    }

    async fn work(&self, sequences: Vec<u64>, progress: &watch::Sender<Retried>) -> Result<Retried, Refused> {
        let road = &self.handle.road;
        let stamp = Stamp { header: RETRY_HEADER, id: Uuid::new_v4().to_string() };
        let mut tally = Retried::default();
        let (said, unreadable) = (Occasional::default(), Occasional::default());
        for some in sequences.chunks(AT_ONCE) {
            let mut events = Vec::new();
            for sequence in some {
                match road.read_letter(*sequence).await {
                    Read::Event(stored) => events.push(*stored),
                    Read::Gone => continue,
                    Read::Unreadable(error) => {
                        road.tell_unreadable(*sequence, &error, &unreadable);
                        tally.rejected += 1;
                    }
                }
                tally.found += 1;
            }
            let mut sent = Vec::new();
            for (sequence, outcome) in road.send(events, &stamp).await {
                match outcome {
                    Outcome::Sent => sent.push(sequence),
                    Outcome::Skipped => tally.skipped += 1,
                    Outcome::Rejected(cause) => {
                        if let Some(suppressed) = said.pass(Instant::now()) {
                            tracing::warn!(
                                sink = road.name,
                                sequence,
                                reason = cause.reason,
                                error = cause.message,
                                suppressed,
                                "a dead letter was refused again"
                            );
                        }
                        tally.rejected += 1;
                    }
                }
            }
            tally.sent += self.handle.resolve(sent, Resolution::Retried).await? as u64;
            progress.send_replace(tally);
        }
        Ok(tally)
    }
}

impl Handle {
    pub(super) async fn resolve(&self, sequences: Vec<u64>, how: Resolution) -> Result<usize, Refused> {
        let road = Arc::clone(&self.road);
        let resolved = self.road.executor.call(move || {
            let resolved = road.claim.resolve(&sequences, how);
            road.metrics.dead_letters_waiting(&road.name, road.claim.dead_letters_waiting());
            resolved
        });
        Ok(resolved.await.map_err(std::io::Error::other)??)
    }
}
