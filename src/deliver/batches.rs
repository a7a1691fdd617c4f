//! Delivery in batches: to a sink that takes records together with the position, all of it or nothing.
//!
//! The peer's copy of the position is the one that counts for what was delivered; the store's may be older, for it is
//! noted after the commit. So the sink begins at the greater of both, and where nobody knows whether a batch was
//! committed the peer is asked before anything is sent again.

use super::{Delivery, Parts};
use crate::executor::Executor;
use crate::sink::{CommitError, Reason, SendError};
use crate::sometimes;
use crate::store::{Claim, EventLog, Ordinals, Progress};
use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::time::Instant;

/// Where a sink's transactions stand.
pub(super) enum Batches {
    /// The sink has none.
    None,
    /// The peer has to be asked for its copy of the position before anything is sent.
    Closed,
    Opening(BoxFuture<'static, Result<Option<Found>, SendError>>),
    Open,
    Committing(Vec<u64>, BoxFuture<'static, Result<(), CommitError>>),
}

/// What became of what was under way.
pub(super) enum Outcome {
    Opened(Result<Option<Found>, SendError>),
    Committed(Vec<u64>, Result<(), CommitError>),
}

/// The position as the peer keeps it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Position {
    /// Tells one life of a sink's name from the next, see [`Progress::base`].
    base: u64,
    position: u64,
    delivered: u64,
    filtered: u64,
    dead_lettered: u64,
    /// Not there in what version 0.1.0 wrote.
    #[serde(default)]
    damaged: u64,
    #[serde(default)]
    ordinals: Option<Ordinals>,
}

/// [`Position`], or why it cannot be read.
type Found = Result<Position, String>;

/// What the store knows while the peer is asked.
struct Asking {
    log: EventLog,
    executor: Executor,
    claim: Claim,
    own: Progress,
}

/// Reads what the peer keeps, and has the store know what of it was damaged here meanwhile.
async fn learn(asking: Asking, found: String) -> Found {
    let Asking { log, executor, claim, own } = asking;
    let durable = log.durable().borrow().sequence;
    let position = count(log, executor, &found).await?;
    let is_ahead = position.base == own.base && (own.position + 1..=durable).contains(&position.position);
    // It has none of this behind damage: what has been damaged meanwhile, it had before.
    if is_ahead && position.damaged == own.damaged {
        let noted = claim.had_through(position.position).await;
        noted.map_err(|refused| format!("what the peer has cannot be noted: {refused}"))?;
    }
    Ok(position)
}

/// Where version 0.1.0 wrote it, the records up to there are still to be counted.
async fn count(log: EventLog, executor: Executor, found: &str) -> Found {
    let unreadable =
        |error: &dyn std::fmt::Display| format!("the position that the peer keeps cannot be read: {error}");
    let mut position: Position = serde_json::from_str(found).map_err(|error| unreadable(&error))?;
    if position.ordinals.is_none() {
        let through = position.position;
        let counted = executor.call(move || log.ordinals_at(through)).await;
        let counted = counted.map_err(|error| unreadable(&error))?;
        position.ordinals = Some(counted.map_err(|error| unreadable(&error))?);
    }
    Ok(position)
}

impl Batches {
    /// Whether nothing may be read or routed yet.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self, Self::Closed | Self::Opening(_))
    }

    /// Whether the peer is waited for.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self, Self::Opening(_) | Self::Committing(..))
    }

    /// The end of what is under way; never, where nothing is.
    pub(super) async fn outcome(&mut self) -> Outcome {
        match self {
            Self::Opening(opening) => {
                let result = opening.await;
                *self = Self::Closed;
                Outcome::Opened(result)
            }
            Self::Committing(sequences, committing) => {
                let result = committing.await;
                let sequences = std::mem::take(sequences);
                *self = Self::Open;
                Outcome::Committed(sequences, result)
            }
            Self::None | Self::Closed | Self::Open => std::future::pending().await,
        }
    }
}

impl Delivery {
    /// Asks for the position, or begins a batch, if it is time.
    pub(super) fn start_batch(&mut self) {
        if self.halted_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        let sink = Arc::clone(&self.parts.sink);
        match self.batches {
            Batches::Closed => {
                self.halted_until = None;
                let names = self.position_names();
                let Parts { log, executor, claim, .. } = &self.parts;
                let (log, executor, claim) = (log.clone(), executor.clone(), claim.clone());
                let asking = Asking { log, executor, claim, own: self.window.progress() };
                self.batches = Batches::Opening(Box::pin(async move {
                    let Some(transactions) = sink.transactions() else { return Ok(None) };
                    match transactions.open(&names).await? {
                        Some(found) => Ok(Some(learn(asking, found).await)),
                        None => Ok(None),
                    }
                }));
            }
            Batches::Open => {
                let Some((jobs, progress)) = self.window.start_batch() else { return };
                let sequences = jobs.iter().map(|job| job.stored.sequence).collect();
                let records: Vec<_> = jobs.into_iter().map(|job| job.outgoing).collect();
                let position = position(progress);
                self.batches = Batches::Committing(
                    sequences,
                    Box::pin(async move {
                        match sink.transactions() {
                            Some(transactions) => transactions.commit(&records, position).await,
                            None => Ok(()),
                        }
                    }),
                );
            }
            Batches::None | Batches::Opening(_) | Batches::Committing(..) => {}
        }
    }

    /// The store's own id is part of it: another store's sink has its own. By its key, so that what a broker has of an earlier
    /// sink of the name counts for nothing; version 0.1.0 went by names.
    fn position_names(&self) -> Vec<String> {
        let Parts { name, renamed_from, log, .. } = &self.parts;
        let key = self.parts.claim.key();
        let older = if key.contains('#') { [None, None] } else { [Some(name), renamed_from.as_ref()] };
        let names =
            std::iter::once(key).chain(older.into_iter().flatten().map(String::as_str).filter(|name| *name != key));
        names.map(|name| format!("{}/{name}", log.instance())).collect()
    }

    pub(super) fn batch_ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Opened(Ok(found)) => match self.catch_up(found) {
                Ok(()) => self.batches = Batches::Open,
                Err(message) => self.halt_all(&[], Reason::Other, &message),
            },
            Outcome::Opened(Err(error)) => self.batch_failed(&[], &error),
            Outcome::Committed(sequences, Ok(())) => {
                for sequence in sequences {
                    self.confirmed(sequence, Ok(()));
                }
            }
            Outcome::Committed(sequences, Err(CommitError::Aborted(error))) => self.batch_failed(&sequences, &error),
            Outcome::Committed(sequences, Err(CommitError::Unknown(error))) => {
                sometimes::happened("a commit of which nobody knows");
                self.batches = Batches::Closed;
                self.batch_failed(&sequences, &error);
            }
            Outcome::Committed(sequences, Err(CommitError::Refused(refused))) => {
                self.batch_refused(&sequences, refused)
            }
        }
    }

    fn batch_failed(&mut self, sequences: &[u64], error: &SendError) {
        let (SendError::Retry { reason, message, .. }
        | SendError::Reject { reason, message }
        | SendError::Drop { reason, message }) = error;
        self.count_error(sequences.first().copied().unwrap_or_default(), *reason, message);
        self.halt_all(sequences, *reason, message);
    }

    /// Those that will never be taken go where a single record would go; the rest is committed again without them.
    fn batch_refused(&mut self, sequences: &[u64], refused: Vec<(u64, SendError)>) {
        sometimes::happened("a batch that is refused");
        for (sequence, error) in refused {
            if sequences.contains(&sequence) {
                self.confirmed(sequence, Err(error));
            } else {
                // The position itself.
                self.batch_failed(&[], &error);
            }
        }
        for sequence in sequences {
            self.window.put_back(*sequence);
        }
    }

    /// Goes on where the peer says, if that is further than the store knows.
    fn catch_up(&mut self, found: Option<Found>) -> Result<(), String> {
        let Some(peers) = found.transpose()? else { return Ok(()) };
        let own = self.window.progress();
        if peers.position <= own.position {
            return Ok(());
        }
        if peers.base != own.base {
            let (peers, own) = (peers.base, own.base);
            tracing::warn!(
                sink = self.parts.name,
                peers,
                own,
                "the peer's position is of an earlier life of this sink"
            );
            return Ok(());
        }
        let durable = self.durable.borrow().sequence;
        if peers.position > durable {
            return Err(format!(
                "the peer has events up to {}, and this store only up to {durable}: it is an older copy, whose next events \
                 would be taken for those; put the newest back, or give the sink another name",
                peers.position
            ));
        }
        let is_unread = !self.reading.has_read(peers.position);
        let Position { position, delivered, filtered, dead_lettered, damaged, ordinals, .. } = peers;
        let ordinals = ordinals.unwrap_or(own.ordinals);
        let progress = Progress { position, ordinals, delivered, filtered, dead_lettered, damaged, ..own };
        tracing::info!(
            sink = self.parts.name,
            position = own.position,
            committed = peers.position,
            "the peer has more than was noted: the sink goes on behind it"
        );
        sometimes::happened("a peer that has more than was noted");
        self.window.catch_up(progress);
        if is_unread {
            self.log_end = None;
            self.reading.go_to(&progress);
            self.dead_lettered = self.parts.claim.dead_lettered_behind(progress.position);
        }
        Ok(())
    }
}

fn position(progress: Progress) -> String {
    let Progress { base, position, ordinals, delivered, filtered, dead_lettered, damaged, .. } = progress;
    let ordinals = Some(ordinals);
    // A struct of numbers: it cannot fail.
    serde_json::to_string(&Position { base, position, delivered, filtered, dead_lettered, damaged, ordinals })
        .unwrap_or_default()
}
