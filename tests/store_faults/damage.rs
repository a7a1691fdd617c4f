//! Damage that readers meet while the store is open.

use super::corners::{Story, at_each_call, offer, read_all};
use super::ledger::{NOON, SINK};
use super::runtime;
use crate::support::fault_disk::End;
use crate::support::seed::seed;
use crate::support::stored::Store;
use e2b_relay::event::Origin;
use e2b_relay::store::{Accepted, Batch, Limits, LogKind, Open, Progress, SinkStart, Start};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// Whoever comes second has nothing to wait for but the first: if he does not, he returns at once.
const LONG_ENOUGH: Duration = Duration::from_millis(300);

/// Another bit in the middle of the group that holds this event, for good.
fn damage(story: &Story, id: &str) {
    let segment = story.path.join("journal/000000000001.seg");
    let file = story.world.disk(None).open(&segment, Open::Existing).unwrap();
    let mut bytes = vec![0; file.length().unwrap() as usize];
    file.read_at(&mut bytes, 0).unwrap();
    let at = bytes.windows(id.len()).position(|window| window == id.as_bytes()).expect("it is there");
    file.write_all_at(&[bytes[at] ^ 1], at as u64).unwrap();
    file.sync_data().unwrap();
}

/// What a fresh reader gets, and whether the hole in it is explained by then.
fn read(store: &Store, missing: u64) -> (Batch, bool) {
    let batch = store.reader().read_after(0, Limits { events: 100, bytes: 8 << 20 }).unwrap();
    (batch, store.log.damaged_from(LogKind::Events, missing).is_some())
}

/// How much was accepted anew of each damaged span.
fn recovered(store: &Store) -> Vec<u64> {
    store.damaged_spans().borrow().iter().map(|span| span.recovered).collect()
}

#[test]
fn of_two_readers_that_meet_damage_at_once_neither_goes_on_before_it_is_noted() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let store = story.begin().await;
        for number in 0..12 {
            offer(&store, &format!("event-{number:02}"), NOON, Origin::Webhook, 1_000).await.unwrap();
        }
        let whole = read_all(&store);
        damage(&story, "event-05");
        let (kept, store) = (story.path.join("damaged"), &store);
        story.world.block_syncs_below(Path::new(&kept));
        std::thread::scope(|scope| {
            let (first_done, second_done) = (mpsc::channel(), mpsc::channel());
            scope.spawn(move || first_done.0.send(read(store, 6)).unwrap());
            // It is keeping the bytes.
            story.world.until_a_sync_is_blocked();
            scope.spawn(move || second_done.0.send(read(store, 6)).unwrap());
            let early = second_done.1.recv_timeout(LONG_ENOUGH);
            story.world.release_syncs();
            let second = early.unwrap_or_else(|_| second_done.1.recv().unwrap());
            for (batch, is_explained) in [first_done.1.recv().unwrap(), second] {
                assert!(is_explained, "a hole without proof");
                let ids: Vec<_> = batch.records.iter().map(|record| record.stored.event.id.clone()).collect();
                let sound = whole.iter().filter(|stored| stored.event.id != "event-05");
                assert_eq!(ids, sound.map(|stored| stored.event.id.clone()).collect::<Vec<_>>());
            }
        });
        assert_eq!(store.damaged_spans().borrow().len(), 1, "it is one");
    });
}

fn sinks(names: &[&str]) -> Vec<SinkStart> {
    let start = |name: &&str| SinkStart { name: (*name).to_owned(), renamed_from: None, start: Start::Now };
    names.iter().map(start).collect()
}

/// A store that has ended in peace, with 12 events that [`SINK`] has had and the sink `behind` has not; behind them there is
/// nothing, or a note. Of the last of them, `event-11`, a bit is another since. Returns the sequence that it had.
pub(super) async fn with_damage_at_the_end(story: &Story, has_note: bool) -> u64 {
    let (store, sequence) = with_one_that_is_behind(story).await;
    if has_note {
        store.attach(&sinks(&[SINK, "behind", "later"])).await.unwrap();
    }
    store.close();
    drop(store);
    story.world.end(End::Kill);
    damage(story, "event-11");
    sequence
}

/// 12 events that [`SINK`] has had and the sink `behind` has not. Returns the sequence of the last.
async fn with_one_that_is_behind(story: &Story) -> (Store, u64) {
    let store = story.open(NOON, None).unwrap();
    store.attach(&sinks(&[SINK, "behind"])).await.unwrap();
    for number in 0..12 {
        offer(&store, &format!("event-{number:02}"), NOON, Origin::Webhook, 1_000).await.unwrap();
    }
    let end = *store.log.durable().borrow();
    let settled = Progress { position: end.sequence, ordinals: end.ordinals, delivered: 12, ..store.progress(SINK) };
    store.advance(SINK, settled).unwrap();
    (store, end.sequence)
}

/// Also of the segment that is being written, whose ids are in no file yet.
#[test]
fn what_a_reader_finds_damaged_is_accepted_anew_once() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let (store, end) = with_one_that_is_behind(&story).await;
        damage(&story, "event-05");
        assert!(read(&store, 6).1, "it is explained");
        let anew = offer(&store, "event-05", NOON, Origin::Backfill, 1_000).await;
        assert!(matches!(anew, Some(Accepted::New { .. })), "its id is forgotten: {anew:?}");
        let records = store.reader().read_after(end, Limits { events: 100, bytes: 8 << 20 }).unwrap().records;
        assert_eq!(records.last().and_then(|record| record.replaces), Some(6));
        let had = |name| store.registry.claim(name).had(6);
        assert_eq!((had(SINK), had("behind")), (true, false));
        assert_eq!(recovered(&store), [1]);
        drop(store);
        story.world.end(End::Kill);
        let store = story.open(NOON, None).unwrap();
        assert_eq!(recovered(&store), [1], "whoever tells of it behind a kill would tell of one too many");
        let again = offer(&store, "event-05", NOON, Origin::Backfill, 1_000).await;
        assert_eq!(again, Some(Accepted::Duplicate));
    });
}

#[test]
fn what_is_damaged_before_a_note_at_the_end_is_known_to_whoever_had_it() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let sequence = with_damage_at_the_end(&story, true).await;
        let store = story.open(NOON, None).unwrap();
        store.attach(&sinks(&[SINK, "behind", "later"])).await.unwrap();
        assert_eq!(recovered(&store), [0]);
        // What nobody had told of is no part of what is lost.
        offer(&store, "never seen", NOON, Origin::Backfill, 1_000).await.unwrap();
        assert_eq!(recovered(&store), [0]);
        let anew = offer(&store, "event-11", NOON, Origin::Backfill, 1_000).await;
        assert!(matches!(anew, Some(Accepted::New { .. })), "its id is forgotten: {anew:?}");
        let records = store.reader().read_after(sequence, Limits { events: 100, bytes: 8 << 20 }).unwrap().records;
        let replaces: Vec<_> = records.iter().map(|record| record.replaces).collect();
        assert_eq!(replaces, [None, Some(sequence)]);
        let had = |name| store.registry.claim(name).had(sequence);
        assert_eq!((had(SINK), had("behind")), (true, false));
        assert_eq!(recovered(&store), [1]);
    });
}

/// A life that finds the damage, and is cut short at a call; and one that comes behind it, to which neither the journal nor the
/// indexes tell any more which ids are lost. Whether the first came to its end.
fn finds_out(seed: u64, has_note: bool, cut_at: Option<u64>) -> bool {
    let story = Story::new(seed);
    runtime().block_on(async {
        let sequence = with_damage_at_the_end(&story, has_note).await;
        let ended = match story.open(NOON, cut_at) {
            Ok(store) => {
                // Behind it the note of the damage is on disk, too.
                offer(&store, "behind it", NOON, Origin::Webhook, 1_000).await;
                !story.world.is_cut()
            }
            Err(_) => false,
        };
        story.world.end(End::PowerCut);

        let store = story.open(NOON, None).unwrap();
        store.attach(&sinks(&[SINK, "behind", "later"])).await.unwrap();
        let anew = offer(&store, "event-11", NOON, Origin::Backfill, 1_000).await;
        assert!(matches!(anew, Some(Accepted::New { .. })), "{cut_at:?}: its id is forgotten: {anew:?}");
        let records = store.reader().read_after(sequence, Limits { events: 100, bytes: 8 << 20 }).unwrap().records;
        assert_eq!(records.last().and_then(|record| record.replaces), Some(sequence), "{cut_at:?}, {has_note}");
        let had = |name| store.registry.claim(name).had(sequence);
        assert_eq!((had(SINK), had("behind")), (true, false), "{cut_at:?}, {has_note}");
        ended
    })
}

#[test]
fn what_a_start_found_out_of_damage_is_known_to_the_next_behind_a_cut_at_each_call() {
    at_each_call(|at| finds_out(seed().wrapping_add(at), true, Some(at)));
    at_each_call(|at| finds_out(seed().wrapping_add(at), false, Some(at)));
}

/// The power cut behind it takes what was not synced, or a part of that, or nothing.
#[test]
fn what_a_start_found_out_of_damage_is_on_disk_once_the_damage_is_noted() {
    for round in 0..20 {
        assert!(finds_out(seed().wrapping_add(round), false, None));
    }
}

#[test]
fn that_the_peer_has_more_is_on_disk_before_anything_is_sent() {
    let story = Story::new(seed());
    runtime().block_on(async {
        let store = story.begin().await;
        for number in 0..12 {
            offer(&store, &format!("event-{number:02}"), NOON, Origin::Webhook, 1_000).await.unwrap();
        }
        damage(&story, "event-05");
        let (_, is_explained) = read(&store, 6);
        assert!(is_explained);
        let claim = store.registry.claim(SINK);
        story.world.block_syncs();
        let noted = claim.had_through(12);
        let mut noted = std::pin::pin!(noted);
        let at_once = futures_util::poll!(&mut noted);
        story.world.release_syncs();
        assert!(at_once.is_pending(), "it cannot be on disk");
        noted.await.unwrap();
        drop(store);
        story.world.end(End::Kill);
        let store = story.begin().await;
        assert!(store.registry.claim(SINK).had(6));
    });
}
