//! Dead letters: a damaged byte, a rewrite that fails anywhere, and whoever has to wait for none of it.

use super::corners::{LETTER, PATIENCE, Story, assert_waiting, offer, park, read_all};
use super::ledger::{NOON, SINK};
use super::{runtime, times};
use crate::support::fault_disk::{End, Fault, Plan};
use crate::support::seed;
use crate::support::stored::{self, Store};
use e2b_relay::event::{Origin, Stored};
use e2b_relay::store::{Cause, Parts, Resolution, Settings};
use std::path::Path;
use std::sync::{Arc, mpsc};

fn cause() -> Cause {
    Cause { reason: "rejected".to_owned(), message: "no".to_owned() }
}

fn letters(events: &[Stored]) -> Vec<(Arc<Stored>, Cause)> {
    events.iter().map(|stored| (Arc::new(stored.clone()), cause())).collect()
}

/// The files below `damaged/`, with what is in them.
fn kept_aside(store: &Path) -> Vec<(String, Vec<u8>)> {
    let Ok(entries) = std::fs::read_dir(store.join("damaged")) else { return Vec::new() };
    let entries = entries.map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// L2.
#[tokio::test]
async fn one_damaged_byte_costs_one_dead_letter() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || Settings { path: folder.path().into(), ..Settings::default() };
    let parts = stored::parts();
    let metrics = parts.metrics.clone();
    let store = Store::open(settings(), stored::parts()).unwrap();
    stored::accept(&store, 0..30).await;
    let events = read_all(&store);
    assert_eq!(store.park(SINK, &letters(&events)).unwrap(), 30);
    drop(store);
    let file = folder.path().join("dead-letters/letters.log");
    let mut bytes = std::fs::read(&file).unwrap();
    // In the third letter, all of which are about as long.
    let at = bytes.len() / 30 * 5 / 2;
    bytes[at] ^= 0x10;
    std::fs::write(&file, bytes).unwrap();
    let store = Store::open(settings(), Parts { metrics: metrics.clone(), ..parts }).unwrap();
    let wanted: Vec<Stored> = [&events[..2], &events[3..]].concat();
    assert_waiting(&store, &wanted);
    let (name, kept) = kept_aside(folder.path()).remove(0);
    assert!(name.starts_with("letters.log-") && kept.len() > 600, "{name}: {} bytes", kept.len());
    assert!(metrics.encode().unwrap().contains("e2b_relay_store_damaged_total 1"));
    drop(store);
    // The file is whole again: it is not told twice.
    let store = Store::open(settings(), Parts { metrics: metrics.clone(), ..stored::parts() }).unwrap();
    assert_waiting(&store, &wanted);
    assert!(metrics.encode().unwrap().contains("e2b_relay_store_damaged_total 1"));
    assert_eq!(kept_aside(folder.path()).len(), 1);
}

/// L3: one call fails, whichever it is, letters are parked, and then the process or the power is gone.
#[test]
fn whichever_call_of_a_rewrite_fails_no_letter_is_lost() {
    let mut at = 0;
    loop {
        let mut failed = 0;
        for round in 0..times(4) {
            let story = Story::new(seed::seed().wrapping_add(at * 1_000 + round));
            runtime().block_on(async {
                let store = story.begin().await;
                let parked = park(&store).await;
                for number in 0..4 {
                    offer(&store, &format!("later-{number}"), NOON, Origin::Webhook, 100).await.unwrap();
                }
                let later = read_all(&store).split_off(12);
                let dropped: Vec<u64> = parked[..9].iter().map(|stored| stored.sequence).collect();
                story.world.plan(Plan { at, calls: 1, fault: Fault::Io });
                let noted = store.resolve(SINK, &dropped, Resolution::Dropped).is_ok();
                let mut acknowledged = Vec::new();
                for stored in later {
                    if store.park(SINK, &letters(std::slice::from_ref(&stored))).is_ok() {
                        acknowledged.push(stored);
                    }
                }
                failed += story.world.tally().failed;
                story.world.end(if round % 2 == 0 { End::Kill } else { End::PowerCut });
                drop(store);
                let store = story.open(NOON, None).unwrap();
                let waiting: Vec<u64> = store.dead_letters(SINK).into_iter().map(|(sequence, _)| sequence).collect();
                for stored in parked[9..].iter().chain(&acknowledged) {
                    assert!(
                        waiting.contains(&stored.sequence),
                        "call {at}, round {round}: LOST: dead letter {} was answered Ok; {waiting:?} wait",
                        stored.sequence
                    );
                    assert_eq!(store.dead_letter_event(SINK, stored.sequence).unwrap().as_ref(), Some(stored));
                }
                assert!(
                    !noted || !dropped.iter().any(|sequence| waiting.contains(sequence)),
                    "what was noted is forgotten"
                );
            });
        }
        if failed == 0 {
            break;
        }
        at += 1;
    }
    println!("{at} calls failed in turn");
    assert!(at > 10, "the test does not do what it says");
}

/// S3: the disk takes its time over dead letters; whoever asks for them, and whoever delivers an event, goes on.
#[test]
fn nobody_waits_for_a_dead_letter_that_waits_for_the_disk() {
    let story = Story::new(seed::seed());
    runtime().block_on(async {
        let store = Arc::new(story.begin().await);
        let parked = park(&store).await;
        story.world.block_syncs_below(&story.path.join("dead-letters"));
        let dropping = {
            let store = Arc::clone(&store);
            let sequences: Vec<u64> = parked[..9].iter().map(|stored| stored.sequence).collect();
            std::thread::spawn(move || store.resolve(SINK, &sequences, Resolution::Dropped))
        };
        story.world.until_a_sync_is_blocked();
        let (told, answers) = mpsc::channel();
        let asking = Arc::clone(&store);
        let last = parked[11].sequence;
        let asker = std::thread::spawn(move || {
            let waiting = asking.dead_letters_waiting(SINK);
            let event = asking.dead_letter_event(SINK, last).unwrap();
            let _ = told.send((waiting, event.map(|stored| stored.sequence), asking.engine.used_bytes() > 0));
        });
        let answer = answers.recv_timeout(PATIENCE);
        // More than a segment of 1 MiB: room has to be looked for.
        let mut accepted = 0;
        if answer.is_ok() {
            for number in 0..10 {
                let id = format!("while-{number}");
                accepted += usize::from(offer(&store, &id, NOON, Origin::Webhook, LETTER).await.is_some());
            }
        }
        story.world.release_syncs();
        assert_eq!(dropping.join().unwrap().unwrap(), 9);
        asker.join().unwrap();
        assert_eq!(answer, Ok((12, Some(last), true)), "who asked had to wait");
        assert_eq!(accepted, 10, "deliveries had to wait");
    });
}
