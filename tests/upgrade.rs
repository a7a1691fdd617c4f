//! Stores of earlier formats and versions, on a real disk: taken on with a copy kept, put back as deploy/OPERATIONS.md says,
//! and those that cannot be taken on refused.

mod backlog;
pub(crate) mod kept;

use crate::support::old_format;
use crate::support::stored::{self, Store};
use bytesize::ByteSize;
use e2b_relay::store::{
    Accepted, Cause, Clock, OpenError, Parts, Progress, RealDisk, Settings, SinkStart, Start, verify,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

const EVENTS: u64 = 6_000;
const PATIENCE: Duration = Duration::from_secs(60);

fn open(path: &Path, later: Duration) -> Result<Store, OpenError> {
    open_by(path, Arc::new(move || jiff::Timestamp::now() + later))
}

fn open_by(path: &Path, clock: Clock) -> Result<Store, OpenError> {
    let settings = Settings {
        path: path.into(),
        // Segments of 1 MiB.
        max_size: ByteSize::mib(64),
        min_free: Some(ByteSize::b(0)),
        ..Settings::default()
    };
    Store::open_migrating(settings, Parts { clock, ..stored::parts() }, old_format::STEPS)
}

/// Several segments, a sink that has had some of it, a dead letter and a body in quarantine; of the old format.
async fn old_store(path: &Path) {
    let store = open(path, Duration::ZERO).unwrap();
    let sink = SinkStart { name: "lake".to_owned(), renamed_from: None, start: Start::Earliest };
    store.attach(&[sink]).await.unwrap();
    stored::accept(&store, 0..EVENTS).await;
    let first = stored::records_after(&store, 0, 1).remove(0).stored;
    let cause = Cause { reason: "too_large".to_owned(), message: "no".to_owned() };
    store.park("lake", &[(first, cause)]).unwrap();
    let progress = store.progress("lake");
    stored::advance(&store, "lake", 100, Progress { delivered: 99, dead_lettered: 1, ..progress });
    store.quarantine.keep("acme", "no event", b"{}").unwrap();
    store.close();
    drop(store);
    old_format::age(&RealDisk, path);
}

/// What an upgrade has to keep; the indexes of ids are made anew from it.
fn files(store: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![store.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(store).unwrap().to_owned();
            let left_out = ["seen", "reserve", "lock"].iter().any(|other| name.starts_with(other));
            if left_out || name.to_str().unwrap().contains("spare-") {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else {
                let mut bytes = std::fs::read(&path).unwrap();
                if name == Path::new("format") {
                    // Whoever writes it, and in whatever order.
                    bytes = serde_json::from_slice::<serde_json::Value>(&bytes).unwrap().to_string().into_bytes();
                }
                found.insert(name, bytes);
            }
        }
    }
    found
}

async fn assert_whole(store: &Store) {
    assert_eq!((store.progress("lake").position, store.dead_letters_waiting("lake")), (100, 1));
    assert_eq!(store.quarantine.after(None, 10, |_| true).len(), 1);
    assert!(stored::accept(store, 10..20).await.iter().all(|accepted| *accepted == Accepted::Duplicate));
    assert_eq!(stored::events_after(store, 0).len() as u64, EVENTS);
}

/// The commands with which OPERATIONS.md goes back.
fn way_back() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/OPERATIONS.md");
    let page = std::fs::read_to_string(page).unwrap();
    let block = page.split("```sh\n").map(|rest| rest.split("```").next().unwrap());
    block.into_iter().find(|block| block.contains("before-format-1/")).expect("the block about going back").to_owned()
}

#[tokio::test]
async fn an_old_store_is_taken_on_with_a_copy_by_which_one_goes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    old_store(&path).await;
    let before = files(&path);
    assert!(before.keys().filter(|name| name.extension().is_some_and(|end| end == "seg")).count() > 4);
    let refused = verify(&path, |_, _| ()).unwrap_err().to_string();
    assert!(refused.contains("not yet of format 2"), "{refused}");

    for again in [false, true] {
        let store = open(&path, Duration::ZERO).unwrap();
        assert_whole(&store).await;
        store.close();
        drop(store);
        let proof = verify(&path, |_, _| ()).unwrap();
        assert_eq!((proof.sound, proof.accepted), (true, EVENTS), "{:?}", proof.faults);
        // What is accepted now must not change the copy.
        let store = open(&path, Duration::ZERO).unwrap();
        stored::accept(&store, EVENTS..EVENTS + 3_000).await;
        store.close();
        drop(store);
        assert!(files(&path.join("before-format-1")) == before, "the copy is not what was there, again {again}");

        // What is not about the store, or asks a daemon.
        let not_here = ["systemctl", "apt-get", "e2b-relay backfill"];
        let script = way_back().replace("/var/lib/e2b-relay/data", path.to_str().unwrap());
        let script: Vec<&str> =
            script.lines().filter(|line| !not_here.iter().any(|command| line.starts_with(command))).collect();
        let output = std::process::Command::new("sh").args(["-euc", &script.join("\n")]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(files(&path) == before, "it is not what it was, again {again}");
    }
}

#[tokio::test]
async fn segments_that_nobody_writes_to_are_not_copied() {
    use std::os::unix::fs::MetadataExt;
    let folder = tempfile::tempdir().unwrap();
    old_store(folder.path()).await;
    let segments = || {
        let files = std::fs::read_dir(folder.path().join("journal")).unwrap().map(|entry| entry.unwrap().path());
        let mut segments: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
        segments.sort();
        segments.iter().map(|path| std::fs::metadata(path).unwrap().ino()).collect::<Vec<_>>()
    };
    let before = segments();
    drop(open(folder.path(), Duration::ZERO).unwrap());
    let copied = |number: usize| {
        let name = format!("before-format-1/journal/{number:012}.seg");
        std::fs::metadata(folder.path().join(name)).unwrap().ino()
    };
    let shared = before.iter().enumerate().map(|(index, inode)| copied(index + 1) == *inode);
    let newest = before.len() - 2;
    assert!(shared.enumerate().all(|(index, shared)| shared == (index < newest)), "{before:?}");
}

#[tokio::test]
async fn the_copy_goes_once_it_is_older_than_what_is_kept_to_be_replayed() {
    let folder = tempfile::tempdir().unwrap();
    old_store(folder.path()).await;
    let copy = folder.path().join("before-format-1");
    let days = |days: u64| Duration::from_secs(days * 86_400);
    // The janitor looks when the store is opened, and each second.
    drop(open(folder.path(), Duration::ZERO).unwrap());
    drop(open(folder.path(), days(6)).unwrap());
    assert!(copy.exists());
    let store = open(folder.path(), days(8)).unwrap();
    let began = Instant::now();
    while copy.exists() {
        assert!(began.elapsed() < PATIENCE, "the copy stays");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(store.dead_letters_waiting("lake"), 1);
    drop(store);
    drop(open(folder.path(), days(8)).unwrap());
}

#[tokio::test]
async fn what_cannot_be_taken_on_is_refused_with_what_to_do_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    old_store(folder.path()).await;
    for (number, words) in [
        (
            3,
            [
                "has format 3 of version 9.9.9",
                concat!("this version, ", env!("CARGO_PKG_VERSION"), ", knows formats up to 2"),
                "Upgrading",
            ],
        ),
        (7, ["has format 7", "use the version that wrote it, or a newer one", "Upgrading"]),
    ] {
        old_format::renumber(folder.path(), number);
        let before = files(folder.path());
        for refused in [open(folder.path(), Duration::ZERO).map(drop), verify(folder.path(), |_, _| ()).map(drop)] {
            let refused = refused.unwrap_err().to_string();
            assert!(words.iter().all(|word| refused.contains(word)), "{refused}");
        }
        assert!(files(folder.path()) == before);
    }
    // No step leads from there, in this version as it is shipped.
    old_format::renumber(folder.path(), 0);
    let settings = Settings { path: folder.path().into(), ..Settings::default() };
    let refused = Store::open(settings, stored::parts()).unwrap_err().to_string();
    assert!(refused.contains("has format 0, which this version cannot take on"), "{refused}");
}
