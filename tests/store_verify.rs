//! `store verify`: a sound store is proven so and left as it was; each kind of damage is told.

use crate::admin::{command, run};
use crate::support::daemon::Home;
use crate::support::load::SECRET;
use crate::support::stored::{self, Store};
use bytesize::ByteSize;
use e2b_relay::store::{Cause, OpenError, Progress, Resolution, Settings, SinkStart, Start, Sum, verify};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const EVENTS: u64 = 4_000;

fn open(path: &Path) -> Store {
    let settings = Settings { path: path.into(), max_size: ByteSize::mib(64), ..Settings::default() };
    Store::open(settings, stored::parts()).unwrap()
}

/// Several segments; a sink that has settled half with letters of every kind, and one that has had nothing.
async fn fill(path: &Path) {
    let store = open(path);
    stored::accept(&store, 0..100).await;
    let sink = |name: &str| SinkStart { name: name.to_owned(), renamed_from: None, start: Start::Now };
    store.attach(&[sink("lake"), sink("bus")]).await.unwrap();
    stored::accept(&store, 100..EVENTS).await;
    let progress = store.progress("lake");
    let events = stored::records_after(&store, progress.base, 100);
    let cause = || Cause { reason: "too_large".to_owned(), message: "no".to_owned() };
    let letters: Vec<_> = events.iter().take(4).map(|record| (Arc::clone(&record.stored), cause())).collect();
    store.park("lake", &letters).unwrap();
    store.resolve("lake", &[letters[0].0.sequence], Resolution::Retried).unwrap();
    store.resolve("lake", &[letters[1].0.sequence], Resolution::Dropped).unwrap();
    let settled = Progress { delivered: 40, filtered: 6, dead_lettered: 4, ..progress };
    stored::advance(&store, "lake", progress.base + 50, settled);
    store.close();
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.append(&mut files(&path));
        } else {
            found.insert(path.clone(), std::fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn a_sound_store_is_proven_so_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let before = files(folder.path());
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert_eq!((proof.sound, proof.faults), (true, vec![]));
    assert_eq!((proof.accepted, proof.kept), (EVENTS, EVENTS));
    assert!(proof.segments > 3, "not even one segment was sealed");
    let lake = Sum {
        sink: "lake".to_owned(),
        removed: false,
        accepted: EVENTS - 100,
        delivered: 41,
        filtered: 6,
        dead_lettered: 2,
        dropped_by_hand: 1,
        damaged: 0,
        pending: EVENTS - 150,
    };
    let bus = Sum {
        sink: "bus".to_owned(),
        delivered: 0,
        filtered: 0,
        dead_lettered: 0,
        dropped_by_hand: 0,
        pending: EVENTS - 100,
        ..lake.clone()
    };
    assert_eq!(proof.sinks, [bus, lake]);
    assert!(before == files(folder.path()), "it changed the store");
}

#[tokio::test]
async fn a_store_that_is_open_or_not_there_is_no_proof() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(verify(folder.path(), |_, _| ()), Err(OpenError::Io { .. })));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "it made something");
    let _store = open(folder.path());
    assert!(matches!(verify(folder.path(), |_, _| ()), Err(OpenError::InUse { .. })));
}

/// As in a container whose root is read-only.
#[tokio::test]
async fn it_writes_nothing_anywhere() {
    let home = Home::new(&format!(
        "sources: {{acme: {{webhook: {{secrets: ['{SECRET}']}}}}}}\nsinks: {{audit: {{type: file, path: ./audit.ndjson}}}}\n"
    ));
    assert!(home.start().await.terminate().await.success());
    let mut command = command(&["store", "verify", "--config", home.configuration().to_str().unwrap()]);
    command.env("TMPDIR", "/nosuch");
    let ran = run(command).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

fn flip(path: &Path, offset: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[offset] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// What the faults say after `damage` was done to a fresh store.
async fn faults(damage: impl FnOnce(&Path)) -> String {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    damage(folder.path());
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert!(!proof.sound);
    proof.faults.join("\n")
}

#[tokio::test]
async fn damage_is_told_with_its_place() {
    let said = faults(|store| flip(&store.join("journal/000000000001.seg"), 5_000)).await;
    assert!(said.contains("000000000001.seg at ") && said.contains("bytes are damaged"), "{said}");
    let said = faults(|store| flip(&store.join("journal/000000000001.seg"), 20)).await;
    assert!(said.contains("000000000001.seg: its header is damaged"), "{said}");
    let said = faults(|store| std::fs::remove_file(store.join("journal/000000000002.seg")).unwrap()).await;
    assert!(said.contains("segment 2 before it is missing"), "{said}");
    let said = faults(|store| {
        let segment = std::fs::OpenOptions::new().write(true).open(store.join("journal/000000000002.seg")).unwrap();
        segment.set_len(400_000).unwrap();
    })
    .await;
    assert!(said.contains("000000000002.seg: has 400000 bytes"), "{said}");
    let said = faults(|store| flip(&store.join("journal/000000000001.ids"), 100)).await;
    assert!(said.contains("000000000001.ids: damaged"), "{said}");
    let said = faults(|store| {
        std::fs::copy(store.join("journal/000000000002.ids"), store.join("journal/000000000001.ids")).unwrap();
    })
    .await;
    assert!(said.contains("000000000001.ids: differs from its segment"), "{said}");
    let said = faults(|store| flip(&store.join("dead-letters/letters.log"), 20)).await;
    assert!(said.contains("letters.log at 0: damaged"), "{said}");
}

#[tokio::test]
async fn a_sum_that_does_not_come_out_is_told() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let store = open(folder.path());
    let progress = store.progress("lake");
    // A position that moved past an event nobody had.
    stored::advance(&store, "lake", progress.position + 1, progress);
    store.close();
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert_eq!(proof.faults, ["sink lake: 3900 events accepted since its birth, and 3899 accounted for"]);
    let store = open(folder.path());
    store.advance("lake", Progress { dead_lettered: 5, delivered: 39, ..progress }).unwrap();
    store.close();
    let faults = verify(folder.path(), |_, _| ()).unwrap().faults.join("\n");
    assert!(faults.contains("it noted 5 dead letters, and 4 are there"), "{faults}");
}
