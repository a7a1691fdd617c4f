//! What the random lives seldom come to: days gone by, days that are forgotten, samples, the space that is set aside, and
//! dead letters that are written anew. Each is a story of two lives, the second of which is cut at each call in turn.

use super::ledger::{NOON, SINK};
use super::{runtime, times};
use crate::support::fault_disk::{End, Fault, Plan, World};
use crate::support::seed;
use crate::support::stored::Store;
use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::event::{Arrival, Event, Origin, Stored, Timestamp};
use e2b_relay::executor::Executor;
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::{
    Accepted, Cause, KeyValue, OnSled, OpenError, Parts, Progress, Resolution, Settings, SinkStart, Start, TAIL,
};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// For what is answered at once, on whatever machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
pub(super) const LETTER: usize = 150_000;

pub(super) struct Story {
    pub(super) world: World,
    pub(super) path: PathBuf,
    metrics: Metrics,
    /// Removed with this.
    _folder: tempfile::TempDir,
}

impl Story {
    pub(super) fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let (world, path) = (World::new(folder.path(), seed), folder.path().join("store"));
        Self { world, path, metrics: Metrics::new("test", "test").unwrap(), _folder: folder }
    }

    pub(super) fn open(&self, now: &str, cut_at: Option<u64>) -> Result<Store, OpenError> {
        self.open_with(Arc::new(OnSled), now, cut_at)
    }

    pub(super) fn open_with(&self, kv: Arc<dyn KeyValue>, now: &str, cut_at: Option<u64>) -> Result<Store, OpenError> {
        let now: jiff::Timestamp = now.parse().unwrap();
        let settings = Settings {
            path: self.path.clone(),
            max_size: ByteSize::mib(16),
            max_samples_size: ByteSize::mib(4),
            min_free: Some(ByteSize::b(0)),
            ..Settings::default()
        };
        let parts = Parts {
            disk: self.world.disk(cut_at.map(|at| Plan { at, calls: 1, fault: Fault::Cut })),
            kv,
            executor: Executor::default(),
            tail: TAIL,
            clock: Arc::new(move || now),
            boot_clock: Arc::new(|| std::time::Duration::ZERO),
            metrics: self.metrics.clone(),
            max_in_flight: 10_000,
            health: Health::default(),
        };
        Store::open(settings, parts)
    }

    pub(super) async fn begin(&self) -> Store {
        let store = self.open(NOON, None).unwrap();
        let sink = SinkStart { name: SINK.to_owned(), renamed_from: None, start: Start::Now };
        store.attach(&[sink]).await.unwrap();
        store
    }
}

/// Tells `story` where its second life is cut, until it says that this was behind the end.
pub(super) fn at_each_call(story: impl Fn(u64) -> bool) {
    let mut random = seed::random("corners");
    let (mut at, mut cuts) = (0, 0);
    while !story(at) {
        at += random.u64(1..=3.min(1 + 20 / times(1)));
        cuts += 1;
        assert!(at < 1_000, "it has no end");
    }
    println!("{cuts} cuts, the last possible at call {at}");
    assert!(cuts > 5, "the test does not do what it says");
}

pub(super) async fn offer(store: &Store, id: &str, at: &str, origin: Origin, length: usize) -> Option<Accepted> {
    let event = Event {
        id: id.to_owned(),
        kind: "sandbox.lifecycle.updated".to_owned(),
        timestamp: Timestamp::parse(at).unwrap(),
        sandbox_id: "sandbox".to_owned(),
        body: Bytes::from(vec![b'x'; length]),
    };
    let received_at = NOON.parse().unwrap();
    let arrival = Arrival { source: "acme".into(), origin, received_at, webhook_id: None, delivery_id: None };
    tokio::time::timeout(PATIENCE, store.accept(event, arrival)).await.ok()?.ok()
}

pub(super) fn read_all(store: &Store) -> Vec<Stored> {
    crate::support::stored::events_after(store, 0)
}

#[test]
fn days_gone_by_and_samples_survive_a_cut_at_each_call() {
    let days = ["2026-03-03T11:00:00Z", "2026-03-05T11:00:00Z", "2026-03-10T11:00:00Z"];
    at_each_call(|at| {
        let story = Story::new(seed::seed().wrapping_add(at));
        runtime().block_on(async {
            let mut acknowledged: BTreeMap<u64, (String, Option<&str>)> = BTreeMap::new();
            let mut work = async |store: &Store, life: u32| {
                for number in 0..16 {
                    let id = format!("{life}-{number}");
                    let day = days[number % days.len()];
                    let (origin, of_day) =
                        if number % 4 == 0 { (Origin::Metrics, None) } else { (Origin::Webhook, Some(day)) };
                    match offer(store, &id, day, origin, 2_000 * number).await {
                        Some(Accepted::New { sequence }) => drop(acknowledged.insert(sequence, (id, of_day))),
                        Some(Accepted::Duplicate) => panic!("{id} was never offered"),
                        None => return,
                    }
                }
            };
            let store = story.begin().await;
            work(&store, 1).await;
            drop(store);
            story.world.end(End::Kill);
            let ended = match story.open(NOON, Some(at)) {
                Ok(store) => {
                    work(&store, 2).await;
                    !story.world.is_cut()
                }
                Err(_) => false,
            };
            story.world.end(End::PowerCut);
            let store = story.open(NOON, None).unwrap();
            let there: BTreeMap<u64, String> =
                read_all(&store).into_iter().map(|stored| (stored.sequence, stored.event.id)).collect();
            for (sequence, (id, day)) in &acknowledged {
                assert_eq!(there.get(sequence), Some(id), "cut at {at}: LOST: {id} was acknowledged as {sequence}");
                if let Some(day) = day {
                    let again = offer(&store, id, day, Origin::Webhook, 10).await;
                    assert_eq!(again, Some(Accepted::Duplicate), "cut at {at}: {id} is not known any more");
                }
            }
            ended
        })
    });
}

#[test]
fn what_is_forgotten_takes_nothing_along_at_a_cut_at_each_call() {
    // The old day's ids need not be known any more at the later time, the others' must.
    let (old_day, later) = ("2026-03-03T11:00:00Z", "2026-03-18T12:00:00Z");
    at_each_call(|at| {
        let story = Story::new(seed::seed().wrapping_add(at));
        let ids = story.path.join("journal/000000000001.ids");
        runtime().block_on(async {
            let store = story.begin().await;
            for (day, name) in [(old_day, "old"), (NOON, "new")] {
                for number in 0..12 {
                    offer(&store, &format!("{name}-{number}"), day, Origin::Webhook, 100_000).await.unwrap();
                }
            }
            let last = read_all(&store).last().unwrap().sequence;
            let ordinals = store.ordinals_at(last).unwrap();
            let settled = Progress { position: last, ordinals, ..store.progress(SINK) };
            store.advance(SINK, settled).unwrap();
            drop(store);
            assert!(story.world.holds(&ids), "no segment was sealed");
            story.world.end(End::Kill);
            let ended = match story.open(later, Some(at)) {
                Ok(_store) => {
                    // The janitor's first look removes the segment, and then its ids.
                    let look = async {
                        while story.world.holds(&ids) && !story.world.is_cut() {
                            tokio::task::yield_now().await;
                        }
                    };
                    tokio::time::timeout(Duration::from_secs(20), look).await.expect("the ids go");
                    !story.world.is_cut()
                }
                Err(_) => false,
            };
            story.world.end(End::PowerCut);
            if at % 2 == 0 {
                // What is known then comes from the files of ids and the journal alone.
                let _ = std::fs::remove_dir_all(story.path.join("seen"));
            }
            let store = story.open(later, None).unwrap();
            for number in 0..12 {
                let again = offer(&store, &format!("new-{number}"), NOON, Origin::Webhook, 10).await;
                assert_eq!(again, Some(Accepted::Duplicate), "cut at {at}: new-{number} is not known any more");
            }
            ended
        })
    });
}

/// Twelve letters that wait.
pub(super) async fn park(store: &Store) -> Vec<Stored> {
    for number in 0..12 {
        offer(store, &format!("event-{number}"), NOON, Origin::Webhook, LETTER).await.unwrap();
    }
    let events = read_all(store);
    let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
    let letters: Vec<_> = events.iter().map(|stored| (Arc::new(stored.clone()), cause.clone())).collect();
    assert_eq!(store.park(SINK, &letters).unwrap(), 12);
    events
}

pub(super) fn assert_waiting(store: &Store, wanted: &[Stored]) {
    let waiting: Vec<u64> = store.dead_letters(SINK).into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(waiting, wanted.iter().map(|stored| stored.sequence).collect::<Vec<_>>());
    for stored in wanted {
        assert_eq!(store.dead_letter_event(SINK, stored.sequence).unwrap().as_ref(), Some(stored));
    }
}

#[test]
fn dead_letters_that_are_written_anew_survive_a_cut_at_each_call() {
    at_each_call(|at| {
        let story = Story::new(seed::seed().wrapping_add(at));
        runtime().block_on(async {
            let store = story.begin().await;
            let letters = park(&store).await;
            drop(store);
            story.world.end(End::Kill);
            let dropped: Vec<u64> = letters[..9].iter().map(|stored| stored.sequence).collect();
            let second = story.open(NOON, Some(at));
            let noted = second.as_ref().is_ok_and(|store| store.resolve(SINK, &dropped, Resolution::Dropped).is_ok());
            // The thread writes the file anew in its own time.
            let file = story.path.join("dead-letters/letters.log");
            let is_short = || story.world.length(&file).is_some_and(|length| length < 4 * LETTER);
            while noted && !is_short() && !story.world.is_cut() {
                tokio::task::yield_now().await;
            }
            let ended = noted && !story.world.is_cut();
            drop(second);
            story.world.end(End::PowerCut);
            let store = story.open(NOON, None).unwrap();
            let are_dropped = store.dead_letters_waiting(SINK) == 3;
            assert!(are_dropped || !noted, "what was noted is forgotten");
            assert_waiting(&store, if are_dropped { &letters[9..] } else { &letters });
            ended
        })
    });
}

#[test]
fn on_a_full_disk_the_space_that_is_set_aside_takes_the_dead_letters() {
    let story = Story::new(seed::seed());
    story.world.set_free(64 << 20);
    let reserve = story.path.join("reserve");
    runtime().block_on(async {
        let store = story.begin().await;
        offer(&store, "event", NOON, Origin::Webhook, 10).await.unwrap();
        let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
        let letters: Vec<_> = read_all(&store).into_iter().map(|stored| (Arc::new(stored), cause.clone())).collect();
        let held = async {
            let disk = story.world.disk(None);
            let is_held = |(name, length): &(String, u64)| name == "reserve" && *length == 4 << 20;
            while !disk.list(&story.path).unwrap().iter().any(is_held) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), held).await.expect("the janitor sets it aside");
        story.world.set_free(0);
        story.world.fill();
        assert_eq!(offer(&store, "refused", NOON, Origin::Webhook, 10).await, None);
        assert!(story.world.holds(&reserve), "an event is not worth the reserve");
        assert_eq!(store.park(SINK, &letters).unwrap(), 1);
        assert!(!story.world.holds(&reserve), "it was not given up");
        drop(store);
        story.world.end(End::PowerCut);
        let store = story.open(NOON, None).unwrap();
        assert_waiting(&store, &[Stored::clone(&letters[0].0)]);
    });
}
