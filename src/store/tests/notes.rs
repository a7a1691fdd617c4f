//! What is noted beside the events: which sinks there are, which indexes are complete.

use super::*;

#[tokio::test]
async fn a_segment_that_begins_behind_a_sinks_note_knows_the_sink() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        let sink = [SinkStart { name: "lake".to_owned(), renamed_from: None, start: Start::Now }];
        // It is asked, and then nobody looks for the answer while segments begin.
        let mut attaching = std::pin::pin!(store.registry.attach(&sink));
        let _ = futures_util::poll!(attaching.as_mut());
        accept_many(&store, (0..5_000).map(|n| format!("event-{n}")), NOON).await;
    }
    let segments = std::fs::read_dir(folder.path().join("journal")).unwrap();
    let names = segments.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.filter(|name| name.ends_with(".seg")).count() > 1, "no segment was begun");
    // The position would tell of the sink too.
    std::fs::remove_dir_all(folder.path().join("positions")).unwrap();
    let store = open(folder.path());
    attach(&store, "lake", Start::Now).await;
    assert_eq!(store.registry.claim("lake").progress().position, 0, "its birth was forgotten");
}

#[tokio::test]
async fn a_note_of_complete_indexes_is_worth_nothing_once_the_journal_has_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    accept(&open(&path("store")), "one", NOON).await;
    // The indexes and their note, as after a start that found "two" in the journal though its write had failed.
    copy(&path("store/seen"), &path("seen"));
    accept(&open(&path("store")), "two", NOON).await;
    std::fs::remove_dir_all(path("store/seen")).unwrap();
    copy(&path("seen"), &path("store/seen"));
    let store = open(&path("store"));
    assert_eq!(accept(&store, "one", NOON).await, Accepted::Duplicate);
    assert_eq!(accept(&store, "two", NOON).await, Accepted::Duplicate, "it is in no index");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}
