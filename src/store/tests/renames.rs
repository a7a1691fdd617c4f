//! A sink that is renamed keeps what is its own: position, counts, dead letters, and what others note of it.

use super::*;

fn sink(name: &str, renamed_from: Option<&str>) -> SinkStart {
    SinkStart { name: name.to_owned(), renamed_from: renamed_from.map(str::to_owned), start: Start::Earliest }
}

/// Three events for `old`: one dropped by hand, one retried, and one that waits.
async fn fill(path: &Path) {
    let store = open(path);
    store.registry.attach(&[sink("old", None)]).await.unwrap();
    accept_many(&store, (0..3).map(|n| format!("event-{n}")), NOON).await;
    let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
    let letters: Vec<_> = read_all(&store, 0).into_iter().map(|stored| (Arc::new(stored), cause.clone())).collect();
    store.registry.claim("old").park(&letters).unwrap();
    store.letters.resolve("old", &[1], Resolution::Dropped).unwrap();
    store.letters.resolve("old", &[2], Resolution::Retried).unwrap();
    advance(&store, "old", 3, Progress { dead_lettered: 3, ..Progress::default() });
    store.registry.claim("old").set_state(b"noted".to_vec()).unwrap();
}

fn assert_moved(store: &Handles) {
    assert_eq!((store.letters.waiting("old"), store.letters.waiting("new")), (0, 1));
    assert_eq!(store.letters.of("new")[0].1.id, "event-2");
    assert_eq!(store.letters.event("new", 3).unwrap().unwrap().event.id, "event-2");
    assert_eq!(store.registry.claim("new").progress().dead_lettered, 3);
    assert_eq!(
        (store.registry.claim("old").state(), store.registry.claim("new").state()),
        (None, Some(b"noted".to_vec()))
    );
}

#[tokio::test]
async fn dead_letters_go_along_with_a_renamed_sink() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    {
        let store = open(folder.path());
        store.registry.attach(&[sink("new", Some("old"))]).await.unwrap();
        assert_moved(&store);
    }
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert!(proof.sound, "{:?}", proof.faults);
    let sums: Vec<_> =
        proof.sinks.iter().map(|sum| (sum.sink.as_str(), sum.dead_lettered, sum.dropped_by_hand)).collect();
    assert_eq!(sums, [("new", 1, 1)]);
    let store = open(folder.path());
    assert_moved(&store);
    assert_eq!(store.letters.resolve("new", &[3], Resolution::Retried).unwrap(), 1);
    assert_eq!(store.letters.waiting("new"), 0);
}

#[tokio::test]
async fn a_file_of_dead_letters_that_is_made_anew_knows_the_new_name() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    {
        let store = open(folder.path());
        store.registry.attach(&[sink("new", Some("old"))]).await.unwrap();
        store.engine.shared.letters.rewrite().unwrap();
        assert_moved(&store);
    }
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert!(proof.sound, "{:?}", proof.faults);
    assert_moved(&open(folder.path()));
}

#[tokio::test]
async fn dead_letters_have_a_limit_that_never_takes_one_away() {
    let folder = tempfile::tempdir().unwrap();
    let bounded = Settings { max_dead_letters_size: Some(bytesize::ByteSize::kib(1)), ..settings(folder.path()) };
    let store = crate::store::open(bounded, parts(NOON)).unwrap();
    accept_many(&store, (0..20).map(|n| format!("event-{n}")), NOON).await;
    let cause = Cause { reason: "rejected".to_owned(), message: "no".to_owned() };
    let letters: Vec<_> = read_all(&store, 0).into_iter().map(|stored| (Arc::new(stored), cause.clone())).collect();
    let kept = store.registry.claim("lake").park(&letters).unwrap();
    assert!((1..20).contains(&kept), "{kept}");
    let full = store.registry.claim("lake").park(&letters[kept..=kept]).unwrap_err();
    assert!(full.to_string().contains("store.max_dead_letters_size"), "{full}");
    assert_eq!(store.letters.waiting("lake"), kept as u64);
    store.letters.resolve("lake", &[1], Resolution::Dropped).unwrap();
    assert_eq!(store.registry.claim("lake").park(&letters[kept..=kept]).unwrap(), 1);
}

#[tokio::test]
async fn an_attachment_that_cannot_be_noted_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    let store = open(folder.path());
    store.registry.attach(&[sink("old", None)]).await.unwrap();
    let before = store.registry.claim("old").progress();
    store.engine.close();
    store.registry.attach(&[sink("new", Some("old")), sink("newer", None)]).await.unwrap_err();
    assert_eq!((store.registry.claim("old").progress(), store.letters.waiting("old")), (before, 1));
    assert_eq!((store.registry.claim("new").progress(), store.letters.waiting("new")), (Progress::default(), 0));
    assert_eq!(store.engine.shared.positions.all().len(), 1);
}

#[tokio::test]
async fn records_that_became_letters_are_known_to_a_sink_whose_position_was_lost() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path()).await;
    // As a power cut leaves it: positions are synced where a segment goes, and at the end.
    std::fs::remove_dir_all(folder.path().join("positions")).unwrap();
    let wanted = DeadLetterCounts { waiting: 1, retried: 1, dropped: 1, ..DeadLetterCounts::default() };
    {
        let store = open(folder.path());
        store.registry.attach(&[sink("old", None)]).await.unwrap();
        let claim = store.registry.claim("old");
        assert_eq!(claim.progress(), Progress::default());
        // It passes them once more, and sends none of them besides.
        assert_eq!(claim.dead_lettered_behind(0), BTreeSet::from([1, 2, 3]));
        advance(&store, "old", 3, Progress { dead_lettered: 3, ..claim.progress() });
        assert_eq!(claim.dead_letter_counts(3), wanted);
    }
    let proof = verify(folder.path(), |_, _| ()).unwrap();
    assert!(proof.sound, "{:?}", proof.faults);
}

#[tokio::test]
async fn a_store_that_is_full_of_what_is_unsent_takes_other_names_of_sinks() {
    let folder = tempfile::tempdir().unwrap();
    let small = || Settings { max_size: ByteSize::mib(5), ..settings(folder.path()) };
    let refused = {
        let store = crate::store::open(small(), parts(NOON)).unwrap();
        store.registry.attach(&[sink("old", None)]).await.unwrap();
        let mut number = 0;
        let mut refused = None;
        // The newest segment is filled up to its end, so that a note needs another.
        for length in [100_000, 10_000, 1_000, 10] {
            loop {
                let body = Bytes::from("x".repeat(length));
                let event = Event { body, ..event(&format!("event-{number}"), NOON) };
                number += 1;
                if let Err(full) = store.log.accept(event, arrival(Origin::Webhook)).await {
                    refused = Some(full);
                    break;
                }
            }
        }
        refused
    };
    assert!(matches!(&refused, Some(Refused::Full(text)) if text.contains("store.max_size")), "{refused:?}");
    for _ in 0..2 {
        let store = crate::store::open(small(), parts(NOON)).unwrap();
        store.registry.attach(&[sink("new", Some("old")), sink("newer", None)]).await.unwrap();
        let again = store.log.accept(event("another", NOON), arrival(Origin::Webhook)).await;
        assert!(matches!(again, Err(Refused::Full(_))), "{again:?}");
    }
    let store = crate::store::open(small(), parts(NOON)).unwrap();
    store.registry.attach(&[sink("new", Some("old")), sink("newer", None)]).await.unwrap();
    // What makes room is that they get their events.
    let end = *store.log.durable().borrow();
    for name in ["new", "newer"] {
        advance(&store, name, end.sequence, Progress { delivered: end.ordinals.sum(), ..Progress::default() });
    }
    store.log.accept(event("another", NOON), arrival(Origin::Webhook)).await.unwrap();
}
