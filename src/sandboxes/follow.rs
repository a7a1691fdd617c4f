//! The journal, read on like a sink reads it.

use super::Sandboxes;
use crate::shutdown::Shutdown;
use crate::store::{Feed, Store};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What is read at once.
const READ_EVENTS: usize = 512;
const READ_BYTES: usize = 4 * 1024 * 1024;
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
    store: Arc<Store>,
    caught_up: watch::Sender<bool>,
}

impl Follower {
    /// Nothing is read yet. `caught_up` becomes true once the sets hold what the journal held at the start.
    pub fn new(sandboxes: Sandboxes, store: Arc<Store>, caught_up: watch::Sender<bool>) -> Self {
        Self { sandboxes, store, caught_up }
    }

    /// Reads on until told to end; keeps the sets at the end.
    pub async fn run(self, mut shutdown: Shutdown) {
        let Self { sandboxes, store, caught_up } = self;
        let after = sandboxes.all().values().map(|live| live.set().applied).min().unwrap_or(u64::MAX);
        let mut durable = store.durable();
        let mut feed = Some(store.feed(after));
        let (mut counted, mut kept) = (Instant::now(), Instant::now());
        while let Some(mut open) = feed.take() {
            durable.mark_unchanged();
            let sets = sandboxes.clone();
            let keep = kept.elapsed() >= KEEP;
            let read = tokio::task::spawn_blocking(move || {
                let read = read_all(&mut open, &sets);
                if keep {
                    sets.all().values().for_each(super::Live::keep);
                }
                (open, read)
            });
            let Ok((open, read)) = read.await else {
                tracing::error!("the reading of the journal for the live sets panicked");
                return;
            };
            feed = Some(open);
            if keep {
                kept = Instant::now();
            }
            if counted.elapsed() >= COUNT || !*caught_up.borrow() {
                sandboxes.all().values().for_each(super::Live::count);
                counted = Instant::now();
            }
            let rest = match read {
                Ok(()) => {
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
        let kept = tokio::task::spawn_blocking(move || sandboxes.all().values().for_each(super::Live::keep));
        if kept.await.is_err() {
            tracing::error!("the keeping of the live sets panicked");
        }
    }
}

fn read_all(feed: &mut Feed, sandboxes: &Sandboxes) -> io::Result<()> {
    let all = sandboxes.all();
    loop {
        let events = feed.read(READ_EVENTS, READ_BYTES)?;
        if events.is_empty() {
            return Ok(());
        }
        for stored in &events {
            if let Some(live) = all.get(&*stored.arrival.source) {
                live.set().apply(stored);
            }
        }
    }
}
