//! The store by its public calls, at a size that the unit tests do not have.

use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::event::{Arrival, Event, Origin, Timestamp};
use e2b_relay::health::Health;
use e2b_relay::metrics::Metrics;
use e2b_relay::store::{Accepted, Parts, Progress, RealDisk, Settings, SinkStart, Start, Store};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

const DAY: i64 = 86_400;

fn open(path: &Path) -> Arc<Store> {
    let settings = Settings { path: path.into(), max_size: ByteSize::mib(64), ..Settings::default() };
    let parts = Parts {
        disk: Arc::new(RealDisk),
        clock: Arc::new(jiff::Timestamp::now),
        metrics: Metrics::new("test", "test").unwrap(),
        max_in_flight: 100_000,
        health: Health::default(),
    };
    Arc::new(Store::open(settings, parts).unwrap())
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
        let arrival = Arrival {
            source: "acme".into(),
            origin: Origin::Webhook,
            received_at: jiff::Timestamp::now(),
            webhook_id: None,
            delivery_id: None,
        };
        let store = Arc::clone(store);
        async move { store.accept(event, arrival).await.unwrap() }
    });
    futures_util::future::join_all(offers).await
}

async fn attach(store: &Store) -> Progress {
    let sink = SinkStart { name: "lake".into(), renamed_from: None, start: Start::Earliest };
    store.attach(&[sink]).await.unwrap();
    store.progress("lake")
}

fn ids_after(store: &Store, position: u64) -> HashSet<String> {
    let mut reader = store.reader(position);
    let mut ids = HashSet::new();
    loop {
        let events = reader.read(4096, 8 << 20).unwrap();
        if events.is_empty() {
            return ids;
        }
        ids.extend(events.into_iter().map(|stored| stored.event.id));
    }
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
            store.advance("lake", Progress { position, delivered: position, ..Progress::default() }).unwrap();
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

/// Written once by the version that made the format; every later one opens a copy of it.
#[tokio::test]
async fn a_store_of_format_1_opens() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores/format-1");
    let folder = tempfile::tempdir().unwrap();
    copy(&kept, folder.path());
    let store = open(folder.path());
    assert_eq!(store.instance(), "8c3f0a5e-6f0d-4c9b-9a53-2f4f6f1f6a01");
    let ids = ids_after(&store, 0);
    assert_eq!(ids.len(), 20);
    assert_eq!(store.progress("lake").position, 10);
    assert_eq!(store.dead_letters("lake").iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [4]);
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Makes the store that is kept under `tests/data/stores`; run by hand when a format is new.
#[tokio::test]
#[ignore = "writes into the source tree; only for a new format"]
async fn make_the_store_that_is_kept() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/stores/format-1");
    std::fs::create_dir_all(&path).unwrap();
    std::fs::write(
        path.join("format"),
        r#"{"format":1,"instance":"8c3f0a5e-6f0d-4c9b-9a53-2f4f6f1f6a01","hash_key":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]}"#,
    )
    .unwrap();
    let store = open(&path);
    attach(&store).await;
    offer(&store, jiff::Timestamp::now(), 0..20, 20).await;
    let fourth = store.reader(0).read(20, 1 << 20).unwrap().into_iter().find(|stored| stored.sequence == 4).unwrap();
    let cause = e2b_relay::store::Cause { reason: "too_large".into(), message: "1 MiB is the limit".into() };
    store.park("lake", &[(Arc::new(fourth), cause)]).unwrap();
    store.advance("lake", Progress { position: 10, delivered: 9, dead_lettered: 1, ..Progress::default() }).unwrap();
    drop(store);
    // Zeros, made anew when they are missing.
    std::fs::remove_file(path.join("reserve")).unwrap();
}
