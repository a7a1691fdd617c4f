//! The store by its public calls, at a size that the unit tests do not have.

use crate::support::stored;
use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::event::{Event, Timestamp};
use e2b_relay::store::{Accepted, Progress, Settings, SinkStart, Start, Store};
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
