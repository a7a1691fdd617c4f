//! Indexes of ids that are not to be had for now: what they know is not given up for that.

use super::corners::{Story, offer};
use super::damage::with_damage_at_the_end;
use super::ledger::{NOON, SINK};
use super::runtime;
use crate::support::fault_disk::End;
use crate::support::seed::seed;
use e2b_relay::event::Origin;
use e2b_relay::store::{Accepted, Bad, Database, KeyValue, Limits, OnSled, Visit};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// What of the indexes is not to be had.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Away {
    All,
    Writing,
}

struct Databases {
    away: Away,
    is_back: AtomicBool,
    moved_aside: AtomicU32,
}

impl Databases {
    fn without(away: Away) -> Arc<Self> {
        Arc::new(Self { away, is_back: AtomicBool::new(false), moved_aside: AtomicU32::new(0) })
    }
}

fn no_room() -> Bad {
    Bad::Unavailable(io::ErrorKind::StorageFull.into())
}

struct Full(Arc<dyn Database>);

impl Database for Full {
    fn insert(&self, _: &[u8], _: &[u8]) -> Result<(), Bad> {
        Err(no_room())
    }

    fn remove(&self, key: &[u8]) -> Result<(), Bad> {
        self.0.remove(key)
    }

    fn for_each(&self, visit: Visit<'_>) -> Result<(), Bad> {
        self.0.for_each(visit)
    }

    fn sync(&self) -> Result<(), Bad> {
        self.0.sync()
    }
}

impl KeyValue for Databases {
    fn open(&self, folder: &Path, cache_bytes: u64) -> Result<Arc<dyn Database>, Bad> {
        let is_index = folder.parent().is_some_and(|parent| parent.ends_with("seen"));
        match self.away {
            _ if !is_index || self.is_back.load(Ordering::Relaxed) => OnSled.open(folder, cache_bytes),
            Away::All => Err(no_room()),
            Away::Writing => Ok(Arc::new(Full(OnSled.open(folder, cache_bytes)?))),
        }
    }

    fn works_beside(&self, folder: &Path) -> bool {
        OnSled.works_beside(folder)
    }

    fn exists(&self, folder: &Path) -> bool {
        OnSled.exists(folder)
    }

    fn names(&self, parent: &Path) -> io::Result<Vec<String>> {
        OnSled.names(parent)
    }

    fn checksum(&self, folder: &Path) -> io::Result<u32> {
        OnSled.checksum(folder)
    }

    fn set_aside(&self, folder: &Path) -> io::Result<PathBuf> {
        OnSled.set_aside(folder)
    }

    fn set_aside_once(&self, folder: &Path) -> io::Result<()> {
        self.moved_aside.fetch_add(1, Ordering::Relaxed);
        OnSled.set_aside_once(folder)
    }

    fn remove(&self, folder: &Path) -> io::Result<()> {
        OnSled.remove(folder)
    }
}

#[test]
fn what_only_an_index_knows_of_damage_is_not_given_up_because_it_is_away() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let sequence = with_damage_at_the_end(&story, true).await;
        let error = story.open_with(Databases::without(Away::All), NOON, None).map(drop).expect_err("it would forget");
        let error = error.to_string();
        assert!(error.contains("no storage space") && error.contains("/seen/"), "{error}");
        story.world.end(End::Kill);
        let store = story.open(NOON, None).unwrap();
        offer(&store, "event-11", NOON, Origin::Backfill, 1_000).await.unwrap();
        let records = store.reader().read_after(sequence, Limits { events: 100, bytes: 8 << 20 }).unwrap().records;
        assert_eq!(records.last().and_then(|record| record.replaces), Some(sequence));
        assert!(store.registry.claim(SINK).had(sequence));
    });
}

#[test]
fn an_index_that_cannot_be_written_is_not_made_anew() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let store = story.begin().await;
        // So many that they are written while they are taken in.
        for number in 0..600 {
            offer(&store, &format!("event-{number}"), NOON, Origin::Webhook, 10).await.unwrap();
        }
        drop(store);
        story.world.end(End::Kill);
        // It has to be brought up to the journal.
        std::fs::read_dir(story.path.join("seen"))
            .unwrap()
            .for_each(|day| OnSled.remove(&day.unwrap().path()).unwrap());
        let databases = Databases::without(Away::Writing);
        let store = story.open_with(Arc::clone(&databases) as Arc<dyn KeyValue>, NOON, None).unwrap();
        assert_eq!(offer(&store, "event-0", NOON, Origin::Webhook, 10).await, None, "it is refused");
        databases.is_back.store(true, Ordering::Relaxed);
        // It is tried again every second.
        let mut refusing = store.log.refusing();
        refusing.wait_for(Option::is_none).await.unwrap();
        let again = offer(&store, "event-0", NOON, Origin::Webhook, 10).await;
        assert_eq!(again, Some(Accepted::Duplicate));
        assert_eq!(databases.moved_aside.load(Ordering::Relaxed), 0);
    });
}
