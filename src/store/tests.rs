//! The store as a whole, on real files.

mod clocks;
mod feeds;
mod notes;
mod renames;

use super::*;
use crate::event::{Arrival, Event, Origin, Stored, Timestamp};
use crate::executor::Executor;
use crate::health::Health;
use crate::metrics::Metrics;
use ::bytes::Bytes;
use bytesize::ByteSize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const NOON: &str = "2026-03-10T12:00:00Z";

fn settings(path: &Path) -> Settings {
    Settings { path: path.into(), min_free: Some(ByteSize::b(0)), max_size: ByteSize::mib(64), ..Settings::default() }
}

fn parts(now: &str) -> Parts {
    let now: jiff::Timestamp = now.parse().unwrap();
    Parts {
        disk: Arc::new(RealDisk),
        kv: Arc::new(OnSled),
        executor: Executor::default(),
        tail: TAIL,
        clock: Arc::new(move || now),
        boot_clock: Arc::new(|| std::time::Duration::ZERO),
        metrics: Metrics::new("test", "test").unwrap(),
        max_in_flight: 1_000_000,
        health: Health::default(),
    }
}

fn open(path: &Path) -> Handles {
    super::open(settings(path), parts(NOON)).unwrap()
}

fn event(id: &str, timestamp: &str) -> Event {
    Event {
        id: id.to_owned(),
        kind: "sandbox.lifecycle.created".to_owned(),
        timestamp: Timestamp::parse(timestamp).unwrap(),
        sandbox_id: format!("sandbox-{}", id.len()),
        body: Bytes::from(format!("{{\"id\":\"{id}\",\"padding\":\"{}\"}}", "x".repeat(500))),
    }
}

fn arrival(origin: Origin) -> Arrival {
    let received_at = "2026-03-10T12:00:00.123456789Z".parse().unwrap();
    Arrival { source: "acme".into(), origin, received_at, webhook_id: None, delivery_id: Some("d-1".to_owned()) }
}

async fn accept(store: &Handles, id: &str, timestamp: &str) -> Accepted {
    store.log.accept(event(id, timestamp), arrival(Origin::Webhook)).await.unwrap()
}

async fn accept_many(store: &Handles, ids: impl Iterator<Item = String>, timestamp: &str) -> Vec<Accepted> {
    let all = ids.map(|id| async move { accept(store, &id, timestamp).await });
    futures_util::future::join_all(all).await
}

async fn attach(store: &Handles, name: &str, start: Start) {
    store.registry.attach(&[SinkStart { name: name.to_owned(), renamed_from: None, start }]).await.unwrap();
}

fn read_all(store: &Handles, after: u64) -> Vec<Stored> {
    let (mut reader, mut after) = (store.log.reader(), after);
    let mut all = Vec::new();
    loop {
        let batch = reader.read_after(after, Limits { events: 1000, bytes: 1_000_000 }).unwrap();
        after = batch.through;
        if batch.records.is_empty() {
            return all;
        }
        all.extend(batch.into_events());
    }
}

/// Settles everything up to a sequence.
fn advance(store: &Handles, sink: &str, position: u64, progress: Progress) {
    let ordinals = store.log.ordinals_at(position).unwrap();
    store.registry.claim(sink).keep(Progress { position, ordinals, ..progress }).unwrap();
}

fn is_new(accepted: &Accepted) -> bool {
    matches!(accepted, Accepted::New { .. })
}

#[tokio::test]
async fn what_was_accepted_is_read_in_order_and_known_again_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (instance, before) = {
        let store = open(folder.path());
        let answers = accept_many(&store, (0..5_000).map(|n| format!("event-{n}")), NOON).await;
        assert!(answers.iter().all(is_new));
        assert_eq!(accept(&store, "event-17", NOON).await, Accepted::Duplicate);
        (store.log.instance().to_owned(), read_all(&store, 0))
    };
    assert_eq!(before.len(), 5_000);
    assert!(before.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let store = open(folder.path());
    assert_eq!(store.log.instance(), instance);
    assert_eq!(read_all(&store, 0), before);
    assert_eq!(accept(&store, "event-4999", NOON).await, Accepted::Duplicate);
    let Accepted::New { sequence } = accept(&store, "another", NOON).await else { panic!("known?") };
    assert!(sequence > before.last().unwrap().sequence);
}

#[tokio::test]
async fn repeats_in_one_group_wait_for_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let answers = accept_many(&store, (0..1_000).map(|n| format!("event-{}", n % 10)), NOON).await;
    assert_eq!(answers.iter().filter(|answer| is_new(answer)).count(), 10);
    assert_eq!(read_all(&store, 0).len(), 10);
}

#[tokio::test]
async fn an_id_is_known_per_source_and_about_midnight_in_both_days() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    assert!(is_new(&accept(&store, "one", "2026-03-10T00:00:10Z").await));
    assert_eq!(accept(&store, "one", "2026-03-09T23:59:50Z").await, Accepted::Duplicate);
    let other = Arrival { source: "beta".into(), ..arrival(Origin::Webhook) };
    assert!(is_new(&store.log.accept(event("one", "2026-03-10T00:00:10Z"), other).await.unwrap()));
}

#[tokio::test]
async fn events_of_older_days_are_deduped_too() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for day in ["2026-03-03", "2026-03-05", "2026-03-11"] {
        let at = format!("{day}T12:00:00Z");
        let first = accept_many(&store, (0..50).map(|n| format!("{day}-{n}")), &at).await;
        assert!(first.iter().all(is_new));
        let again = accept_many(&store, (0..50).map(|n| format!("{day}-{n}")), &at).await;
        assert!(again.iter().all(|answer| *answer == Accepted::Duplicate));
    }
}

#[tokio::test]
async fn without_indexes_and_positions_all_is_known_again_from_journal_and_ids() {
    let folder = tempfile::tempdir().unwrap();
    let days = ["2026-03-08T12:00:00Z", "2026-03-09T12:00:00Z", "2026-03-10T11:00:00Z"];
    {
        let store = open(folder.path());
        attach(&store, "lake", Start::Earliest).await;
        for at in days {
            accept_many(&store, (0..3_000).map(|n| format!("{at}-{n}")), at).await;
        }
        assert!(std::fs::read_dir(folder.path().join("journal")).unwrap().count() > 4, "no segment was sealed");
    }
    std::fs::remove_dir_all(folder.path().join("seen")).unwrap();
    std::fs::remove_dir_all(folder.path().join("positions")).unwrap();
    let store = open(folder.path());
    attach(&store, "lake", Start::Now).await;
    assert_eq!(read_all(&store, store.registry.claim("lake").progress().position).len(), 9_000);
    for at in days {
        let again = accept_many(&store, (0..3_000).map(|n| format!("{at}-{n}")), at).await;
        assert!(again.iter().all(|answer| *answer == Accepted::Duplicate), "{at}");
    }
}

#[tokio::test]
async fn an_index_that_changed_while_nobody_had_it_open_is_not_relied_on() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    let db = folder.path().join("seen/2026-03-10/db");
    type Harm = fn(&Path);
    let harms: [Harm; 3] = [
        |db| std::fs::remove_dir_all(db.parent().unwrap()).unwrap(),
        |db| std::fs::write(db, vec![0x5a; std::fs::metadata(db).unwrap().len() as usize]).unwrap(),
        |db| {
            let mut bytes = std::fs::read(db).unwrap();
            let middle = bytes.iter().rposition(|byte| *byte != 0).unwrap() / 2;
            bytes[middle] ^= 0x10;
            std::fs::write(db, bytes).unwrap();
        },
    ];
    for (round, harm) in harms.into_iter().enumerate() {
        let ids = || (0..2_000).map(|n| format!("event-{round}-{n}"));
        accept_many(&open(folder.path()), ids(), NOON).await;
        harm(&db);
        let again = accept_many(&open(folder.path()), ids(), NOON).await;
        assert!(again.iter().all(|answer| *answer == Accepted::Duplicate), "round {round}");
    }
}

#[tokio::test]
async fn segments_go_only_when_every_sink_is_past_them_and_their_ids_stay() {
    let folder = tempfile::tempdir().unwrap();
    let small = Settings { max_size: ByteSize::mib(8), ..settings(folder.path()) };
    let store = super::open(small.clone(), parts(NOON)).unwrap();
    attach(&store, "lake", Start::Earliest).await;
    let mut accepted = Vec::new();
    let refused = loop {
        let id = format!("event-{}", accepted.len());
        match store.log.accept(event(&id, NOON), arrival(Origin::Webhook)).await {
            Ok(_) => accepted.push(id),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(&refused, Refused::Full(why) if why.contains("store.max_size")), "{refused}");
    assert!(store.log.refusing().borrow().is_some());
    assert!(store.engine.used_bytes() <= small.max_size.as_u64());
    let unsent = read_all(&store, 0);
    assert_eq!(unsent.len(), accepted.len());

    let last = unsent.last().unwrap().sequence;
    advance(&store, "lake", last, Progress { delivered: last, ..Progress::default() });
    let mut refusing = store.log.refusing();
    store.engine.janitor_now();
    refusing.wait_for(Option::is_none).await.unwrap();
    for n in 0..10_000 {
        match store.log.accept(event(&format!("later-{n}"), NOON), arrival(Origin::Webhook)).await {
            Ok(_) => {}
            Err(Refused::Full(_)) => break,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(read_all(&store, 0).first().unwrap().sequence > 1, "nothing went");
    for id in &accepted {
        assert_eq!(accept(&store, id, NOON).await, Accepted::Duplicate);
    }
}

#[tokio::test]
async fn a_torn_last_group_is_dropped_and_damage_before_it_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        for n in 0..20 {
            accept(&store, &format!("event-{n}"), NOON).await;
        }
    }
    let segment = folder.path().join("journal/000000000001.seg");
    let whole = std::fs::read(&segment).unwrap();
    let starts: Vec<usize> = (0..whole.len()).step_by(8).filter(|at| whole[*at..].starts_with(b"GRP2")).collect();
    let last = *starts.last().unwrap();

    // Torn at every length: the first 19 stay, the last one is new again. It was never acknowledged, so that nobody else
    // knows of it.
    for length in [last + 1, last + 40, whole.len() - 9] {
        std::fs::write(&segment, &whole[..length]).unwrap();
        std::fs::remove_dir_all(folder.path().join("seen")).unwrap();
        std::fs::remove_dir_all(folder.path().join("positions")).unwrap();
        let store = open(folder.path());
        assert_eq!(read_all(&store, 0).len(), 19, "cut at {length}");
        assert_eq!(accept(&store, "event-18", NOON).await, Accepted::Duplicate);
        assert!(is_new(&accept(&store, "event-19", NOON).await));
        assert_eq!(read_all(&store, 0).len(), 20);
    }

    // A flipped bit in the middle loses that group alone.
    let mut damaged = whole.clone();
    damaged[starts[10] + 60] ^= 1;
    std::fs::write(&segment, &damaged).unwrap();
    let store = open(folder.path());
    assert_eq!(read_all(&store, 0).len(), 19);
    assert!(store.engine.shared.metrics.encode().unwrap().contains("e2b_relay_store_damaged_total 1"));
}

#[tokio::test]
async fn a_sequence_is_never_used_twice_even_if_the_journals_end_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        attach(&store, "lake", Start::Earliest).await;
        accept_many(&store, (0..100).map(|n| format!("event-{n}")), NOON).await;
        advance(&store, "lake", 100, Progress::default());
    }
    std::fs::remove_file(folder.path().join("journal/000000000001.seg")).unwrap();
    let store = open(folder.path());
    assert_eq!(accept(&store, "fresh", NOON).await, Accepted::New { sequence: 101 });
}

#[tokio::test]
async fn samples_are_read_in_sequence_with_the_events_and_have_their_own_room() {
    let folder = tempfile::tempdir().unwrap();
    let tight = Settings { max_samples_size: ByteSize::mib(2), ..settings(folder.path()) };
    let store = super::open(tight, parts(NOON)).unwrap();
    attach(&store, "lake", Start::Earliest).await;
    let mut full = false;
    for n in 0..10_000 {
        accept(&store, &format!("event-{n}"), NOON).await;
        if store.log.accept(event(&format!("sample-{n}"), NOON), arrival(Origin::Metrics)).await.is_err() {
            full = true;
            break;
        }
    }
    assert!(full, "samples were never refused");
    accept(&store, "an event goes on", NOON).await;
    assert_eq!(*store.log.refusing().borrow(), None);
    let all = read_all(&store, 0);
    assert!(all.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    let origins: BTreeSet<_> = all.iter().map(|stored| stored.arrival.origin.as_str()).collect();
    assert_eq!(origins.len(), 2);
}

#[tokio::test]
async fn sinks_keep_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, start| SinkStart { name: name.to_owned(), renamed_from: None, start };
    {
        let store = open(folder.path());
        accept_many(&store, (0..10).map(|n| format!("event-{n}")), NOON).await;
        store.registry.attach(&[start("new", Start::Now), start("old", Start::Earliest)]).await.unwrap();
        let ordinals = Ordinals { events: 10, samples: 0 };
        let begun = Progress { base: 10, accepted_before: 10, position: 10, ordinals, ..Progress::default() };
        assert_eq!(store.registry.claim("new").progress(), Progress { accounted_through: 10, ..begun });
        assert_eq!(store.registry.claim("old").progress(), Progress::default());
        accept(&store, "event-10", NOON).await;
        advance(&store, "new", 11, Progress { delivered: 1, ..begun });
    }
    std::fs::remove_dir_all(folder.path().join("positions")).unwrap();
    let store = open(folder.path());
    let renamed = SinkStart { name: "newer".into(), renamed_from: Some("new".into()), start: Start::Now };
    store.registry.attach(&[renamed, start("old", Start::Now)]).await.unwrap();
    assert_eq!(store.registry.claim("newer").progress().position, 10, "without positions it starts at its birth");
    assert_eq!(store.registry.claim("old").progress().position, 0);
    let at = Start::At(NOON.parse().unwrap());
    store.registry.attach(&[start("newer", Start::Now), start("old", Start::Now), start("timed", at)]).await.unwrap();
    assert_eq!(store.registry.claim("timed").progress().position, 0);
}

#[tokio::test]
async fn dead_letters_survive_once_each_until_they_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let cause = Cause { reason: "too_large".to_owned(), message: "1 MiB is the limit".to_owned() };
    {
        let store = open(folder.path());
        accept_many(&store, (0..3).map(|n| format!("event-{n}")), NOON).await;
        let letters: Vec<_> = read_all(&store, 0).into_iter().map(|stored| (Arc::new(stored), cause.clone())).collect();
        assert_eq!(store.registry.claim("lake").park(&letters[..2]).unwrap(), 2);
        assert_eq!(store.registry.claim("lake").park(&letters).unwrap(), 3, "the first two wait already");
        assert_eq!(store.registry.claim("other").park(&letters[..1]).unwrap(), 1);
        assert_eq!(store.letters.resolve("lake", &[2, 2, 7], Resolution::Dropped).unwrap(), 1);
        assert_eq!(store.letters.resolve("lake", &[2], Resolution::Dropped).unwrap(), 0);
    }
    let file = folder.path().join("dead-letters/letters.log");
    let mut torn = std::fs::read(&file).unwrap();
    torn.extend_from_slice(&[200, 0, 0, 0, 1, 2, 3]);
    std::fs::write(&file, torn).unwrap();
    let store = open(folder.path());
    let waiting = store.letters.of("lake");
    assert_eq!(waiting.iter().map(|(sequence, _)| *sequence).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(waiting[0].1.cause, cause);
    assert_eq!(store.letters.event("lake", 3).unwrap().unwrap().event.id, "event-2");
    assert_eq!(store.letters.waiting("other"), 1);
    let counts = DeadLetterCounts { waiting: 2, dropped: 1, ..DeadLetterCounts::default() };
    assert_eq!(store.registry.claim("lake").dead_letter_counts(3), counts);
    // Its position is past none of them.
    assert_eq!(store.registry.claim("lake").dead_letter_counts(0).sum(), 0);
    store.registry.claim("lake").keep(Progress { position: 2, dead_lettered: 2, ..Progress::default() }).unwrap();
    assert_eq!(store.registry.claim("lake").dead_letter_counts(2), DeadLetterCounts { waiting: 1, ..counts });
}

#[test]
fn a_second_daemon_a_newer_format_and_a_lost_format_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let second = super::open(settings(folder.path()), parts(NOON)).unwrap_err();
    assert!(matches!(second, OpenError::InUse { .. }), "{second}");
    drop(store);
    let format = folder.path().join("format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("\"format\":2", "\"format\":3")).unwrap();
    let newer = super::open(settings(folder.path()), parts(NOON)).unwrap_err();
    assert!(newer.to_string().contains("has format 3 of version 0."), "{newer}");
    std::fs::remove_file(&format).unwrap();
    let lost = super::open(settings(folder.path()), parts(NOON)).unwrap_err();
    assert!(lost.to_string().contains("is missing, yet there is a journal"), "{lost}");
}

#[test]
fn nobody_else_can_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data");
    drop(open(&path));
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn days_that_are_over_are_forgotten_with_their_ids() {
    let folder = tempfile::tempdir().unwrap();
    {
        let store = open(folder.path());
        accept(&store, "one", "2026-03-09T12:00:00Z").await;
    }
    let later = super::open(settings(folder.path()), parts("2026-03-18T00:00:01Z")).unwrap();
    assert!(later.engine.shared.is_forgotten(super::log::frame::day_of("2026-03-09T12:00:00Z".parse().unwrap())));
    assert!(!later.engine.shared.is_forgotten(super::log::frame::day_of("2026-03-10T12:00:00Z".parse().unwrap())));
    assert!(later.engine.shared.clock_is_sane());
}

#[tokio::test]
async fn closing_answers_what_waits_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(open(folder.path()));
    let pending = accept_many(&store, (0..500).map(|n| format!("event-{n}")), NOON);
    let closing = Arc::clone(&store);
    let (answers, ()) = tokio::join!(pending, async move { closing.engine.stop_accepting() });
    assert_eq!(answers.len(), 500);
    let late = store.log.accept(event("late", NOON), arrival(Origin::Webhook)).await;
    assert_eq!(late, Err(Refused::Draining));
    let refusing = store.log.refusing();
    let unreachable = Duration::from_secs(5);
    tokio::time::timeout(unreachable, tokio::task::spawn_blocking(move || store.engine.close()))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(*refusing.borrow(), Some(Refused::Draining));
}
