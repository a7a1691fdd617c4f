//! The journal, read on like a sink reads it.

use super::Sandboxes;
use crate::executor::Executor;
use crate::shutdown::Shutdown;
use crate::store::{EventLog, Limits, TailReader};
use std::io;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is read at once.
const AT_ONCE: Limits = Limits { events: 512, bytes: 4 * 1024 * 1024 };
/// Events are let come together for so long: the set need not be the first to know.
const REST: Duration = Duration::from_millis(100);
/// Between two countings of the sets.
const COUNT: Duration = Duration::from_secs(1);
/// Between two keepings of the sets; so much of the journal is read again after a kill.
const KEEP: Duration = Duration::from_secs(60);
/// How soon a disk is tried again that could not be read.
const DISK_RETRY: Duration = Duration::from_secs(1);

/// Keeps the sets up with the journal.
pub struct Follower {
    sandboxes: Sandboxes,
    log: EventLog,
    caught_up: watch::Sender<bool>,
    executor: Executor,
}

impl Follower {
    /// Nothing is read yet. `caught_up` becomes true once the sets hold what the journal held at the start.
    pub fn new(sandboxes: Sandboxes, log: EventLog, caught_up: watch::Sender<bool>, executor: Executor) -> Self {
        Self { sandboxes, log, caught_up, executor }
    }

    /// Reads on until told to end; keeps the sets at the end.
    pub async fn run(self, mut shutdown: Shutdown) {
        let Self { sandboxes, log, caught_up, executor } = self;
        let mut after = sandboxes.all().values().map(|live| live.set().applied).min().unwrap_or(u64::MAX);
        let mut durable = log.durable();
        let mut reader = Some(log.tail_reader());
        let (mut counted, mut kept) = (Instant::now(), Instant::now());
        while let Some(mut open) = reader.take() {
            durable.mark_unchanged();
            let sets = sandboxes.clone();
            let keep = kept.elapsed() >= KEEP;
            let read = executor.call(move || {
                let read = read_all(&mut open, after, &sets);
                if keep {
                    sets.all().values().for_each(super::Live::keep);
                }
                (open, read)
            });
            let Ok((open, read)) = read.await else {
                tracing::error!("the reading of the journal for the live sets panicked");
                return;
            };
            reader = Some(open);
            if keep {
                kept = Instant::now();
            }
            if counted.elapsed() >= COUNT || !*caught_up.borrow() {
                sandboxes.all().values().for_each(super::Live::count);
                counted = Instant::now();
            }
            let rest = match read {
                Ok(through) => {
                    after = through;
                    caught_up.send_replace(true);
                    REST
                }
                Err(error) => {
                    tracing::error!(%error, "the journal cannot be read for the live sets");
                    DISK_RETRY
                }
            };
            tokio::select! {
                biased;
                () = shutdown.requested() => break,
                () = async {
                    tokio::time::sleep(rest).await;
                    // The tick is for the counts; an error means that the store is gone, and the end near.
                    let _ = tokio::time::timeout(COUNT, durable.changed()).await;
                } => {}
            }
        }
        let kept = executor.call(move || sandboxes.all().values().for_each(super::Live::keep));
        if kept.await.is_err() {
            tracing::error!("the keeping of the live sets panicked");
        }
    }
}

/// Returns up to where it has read. What is read again after an error is known to the sets by its sequence.
fn read_all(reader: &mut TailReader, mut after: u64, sandboxes: &Sandboxes) -> io::Result<u64> {
    let all = sandboxes.all();
    loop {
        let batch = reader.read_after(after, AT_ONCE)?;
        after = batch.through;
        if batch.records.is_empty() {
            return Ok(after);
        }
        for stored in batch.records.iter().map(|record| &record.stored) {
            if let Some(live) = all.get(&*stored.arrival.source) {
                live.set().apply(stored);
            }
        }
    }
}
