//! The store by its public calls, at a size that the unit tests do not have.

use crate::support::seed;
use crate::support::stored::{self, Store};
use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::event::{Event, Timestamp};
use e2b_relay::store::{Accepted, Progress, Refused, Settings, SinkStart, Start};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

const DAY: i64 = 86_400;

fn open(path: &Path) -> Arc<Store> {
    let settings = Settings { path: path.into(), max_size: ByteSize::mib(64), ..Settings::default() };
    Arc::new(Store::open(settings, stored::parts()).unwrap())
}

/// Offers events `numbers`, spread over three days that end now.
async fn offer(store: &Arc<Store>, now: jiff::Timestamp, numbers: std::ops::Range<u64>, total: u64) -> Vec<Accepted> {
    let offers = numbers.map(|number| {
        let age = 3 * DAY - (3 * DAY * number as i64) / total as i64;
        let event = Event {
            id: format!("event-{number}"),
            kind: "sandbox.lifecycle.updated".into(),
            timestamp: Timestamp::from(now - jiff::SignedDuration::from_secs(age)),
            sandbox_id: format!("sandbox-{}", number % 1000),
            body: Bytes::from(format!("{{\"id\":\"event-{number}\",\"padding\":\"{}\"}}", "x".repeat(450))),
        };
        let store = Arc::clone(store);
        async move { store.accept(event, stored::arrival(jiff::Timestamp::now())).await.unwrap() }
    });
    futures_util::future::join_all(offers).await
}

async fn attach(store: &Store) -> Progress {
    let sink = SinkStart { name: "lake".into(), renamed_from: None, start: Start::Earliest };
    store.attach(&[sink]).await.unwrap();
    store.progress("lake")
}

fn ids_after(store: &Store, position: u64) -> HashSet<String> {
    stored::events_after(store, position).into_iter().map(|stored| stored.event.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_seen_and_meta_200_000_events_of_3_days_are_known_and_no_sink_misses_any() {
    const TOTAL: u64 = 200_000;
    const SETTLED: u64 = 150_000;
    let folder = tempfile::tempdir().unwrap();
    let now = jiff::Timestamp::now();
    {
        let store = open(folder.path());
        attach(&store).await;
        for start in (0..TOTAL).step_by(5_000) {
            let answers = offer(&store, now, start..start + 5_000, TOTAL).await;
            assert!(answers.iter().all(|answer| matches!(answer, Accepted::New { .. })));
            let position = (start + 5_000).min(SETTLED);
            stored::advance(&store, "lake", position, Progress { delivered: position, ..Progress::default() });
        }
    }
    assert!(!folder.path().join("journal/000000000001.seg").exists(), "the first segments are still there");
    std::fs::remove_dir_all(folder.path().join("seen")).unwrap();
    std::fs::remove_dir_all(folder.path().join("meta")).unwrap();

    let store = open(folder.path());
    let position = attach(&store).await.position;
    assert!(position <= SETTLED, "it begins behind what was unsent: {position}");
    let ids = ids_after(&store, position);
    assert!((SETTLED..TOTAL).all(|number| ids.contains(&format!("event-{number}"))), "the sink misses some");
    for start in (0..TOTAL).step_by(5_000) {
        let answers = offer(&store, now, start..start + 5_000, TOTAL).await;
        let new = answers.iter().filter(|answer| **answer != Accepted::Duplicate).count();
        assert_eq!(new, 0, "of {start}..");
    }
    println!("200,000 sent again: 200,000 duplicates; the sink goes on from {position} of {SETTLED} settled");
}

/// Offers events of 32 KiB until they are refused for want of room, with `sink` past each; `None` when `most` were taken.
async fn fill(store: &Store, sink: &str, most: u64) -> Option<Refused> {
    for number in 0..most {
        let event = Event {
            id: format!("large-{number}"),
            kind: "sandbox.lifecycle.updated".into(),
            timestamp: Timestamp::from(jiff::Timestamp::now()),
            sandbox_id: "sandbox".into(),
            body: Bytes::from(vec![b'x'; 32 * 1024]),
        };
        match store.accept(event, stored::arrival(jiff::Timestamp::now())).await {
            Ok(Accepted::New { sequence }) => {
                let before = store.progress(sink);
                store
                    .advance(sink, Progress { position: sequence, delivered: before.delivered + 1, ..before })
                    .unwrap();
            }
            Ok(Accepted::Duplicate) => panic!("{number} is known"),
            Err(refused) => return Some(refused),
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_sink_that_comes_nor_one_that_is_forgotten_at_the_same_time_is_lost() {
    const ROUNDS: usize = 20;
    let mut random = seed::random("a sink comes while another is forgotten");
    let starts = |names: &[&str]| -> Vec<SinkStart> {
        let start = |name: &&str| SinkStart { name: (*name).into(), renamed_from: None, start: Start::Now };
        names.iter().map(start).collect()
    };
    for round in 0..ROUNDS {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings {
            path: folder.path().into(),
            max_size: ByteSize::mib(4),
            min_free: Some(ByteSize::b(0)),
            ..Settings::default()
        };
        let store = Arc::new(Store::open(settings.clone(), stored::parts()).unwrap());
        store.attach(&starts(&["lake", "gone"])).await.unwrap();
        store.attach(&starts(&["lake"])).await.unwrap();
        let yields = [random.usize(..4), random.usize(..4)];
        let later = async |times: usize| {
            for _ in 0..times {
                tokio::task::yield_now().await;
            }
        };
        let (attached, forgotten) = tokio::join!(
            async {
                later(yields[0]).await;
                store.attach(&starts(&["lake", "new"])).await
            },
            async {
                later(yields[1]).await;
                store.registry.forget("gone").await
            }
        );
        attached.unwrap();
        assert!(forgotten.unwrap(), "round {round}");
        assert_eq!(store.registry.removed(), [], "round {round}: it is known although it was forgotten");
        let refused = fill(&store, "lake", 400).await;
        assert!(
            matches!(refused, Some(Refused::Full(_))),
            "round {round}: nothing is held back for the new sink: {refused:?}"
        );
        let first = stored::records_after(&store, store.progress("new").position, 1);
        assert_eq!(first[0].stored.event.id, "large-0", "round {round}: the new sink misses some");
        store.close();
        drop(store);
        let store = Store::open(settings, stored::parts()).unwrap();
        assert_eq!(store.registry.removed(), [], "round {round}: after a restart");
    }
}
