//! A group that failed, and what comes behind it.

use super::corners::{Story, offer, read_all};
use super::ledger::{NOON, SINK};
use super::runtime;
use crate::support::fault_disk::{End, Fault, Plan};
use crate::support::seed::seed;
use e2b_relay::event::Origin;
use e2b_relay::store::{Accepted, AttachError, Progress, Refused, SinkStart, Start};

/// More than one group takes.
const CALLS: u64 = 12;
const TIMES: u64 = 12;
/// More than a note takes.
const NOTE_CALLS: u64 = 5;

#[test]
fn events_that_failed_do_not_turn_up_below_samples_that_came_behind_them() {
    let mut met = 0;
    for number in 0..CALLS * TIMES {
        let story = Story::new(seed().wrapping_add(number));
        runtime().block_on(async {
            let store = story.begin().await;
            offer(&store, "first", NOON, Origin::Webhook, 1_000).await.unwrap();
            story.world.plan(Plan { at: number % CALLS, calls: 1, fault: Fault::Io });
            let failed = offer(&store, "failed", NOON, Origin::Webhook, 1_000).await;
            let sample = offer(&store, "sample", NOON, Origin::Metrics, 1_000).await;
            story.world.heal();
            let (None, Some(Accepted::New { sequence })) = (failed, sample) else { return };
            met += 1;
            let end = *store.log.durable().borrow();
            let settled = Progress { position: sequence, ordinals: end.ordinals, delivered: 2, ..store.progress(SINK) };
            store.advance(SINK, settled).unwrap();
            drop(store);
            story.world.end(if number % 2 == 0 { End::PowerCut } else { End::Kill });

            let store = story.begin().await;
            let ids: Vec<_> = read_all(&store).into_iter().map(|stored| stored.event.id).collect();
            assert_eq!(ids, ["first", "sample"], "call {}", number % CALLS);
            assert_eq!(store.log.durable().borrow().ordinals, end.ordinals);
        });
    }
    assert!(met >= TIMES, "{met}: the test does not do what it says");
}

fn named(name: &str, renamed_from: Option<&str>) -> SinkStart {
    SinkStart { name: name.to_owned(), renamed_from: renamed_from.map(str::to_owned), start: Start::Earliest }
}

/// What is refused is not on disk either: whoever takes his settings back has the sink that he had.
#[test]
fn a_rename_that_was_refused_has_not_happened_behind_a_crash() {
    let (mut refused, mut unknown) = (0, 0);
    for number in 0..NOTE_CALLS * TIMES {
        let story = Story::new(seed().wrapping_add(number));
        runtime().block_on(async {
            let store = story.begin().await;
            offer(&store, "first", NOON, Origin::Webhook, 1_000).await.unwrap();
            let end = *store.log.durable().borrow();
            let settled =
                Progress { position: end.sequence, ordinals: end.ordinals, delivered: 1, ..store.progress(SINK) };
            store.advance(SINK, settled).unwrap();
            let calls = if number % 3 == 0 { 8 } else { 1 };
            story.world.plan(Plan { at: number % NOTE_CALLS, calls, fault: Fault::Io });
            let renamed = store.attach(&[named("renamed", Some(SINK))]).await;
            story.world.heal();
            drop(store);
            story.world.end(if number % 2 == 0 { End::PowerCut } else { End::Kill });

            let store = story.begin().await;
            match renamed {
                Err(AttachError::Refused(Refused::Failed(_))) => {
                    refused += 1;
                    let removed = store.registry.removed();
                    assert!(removed.is_empty(), "call {}, {calls}: {removed:?}", number % NOTE_CALLS);
                    assert_eq!(store.progress(SINK).position, end.sequence);
                }
                Err(AttachError::Refused(Refused::Unknown(_))) => unknown += 1,
                Err(other) => panic!("{other:?}"),
                Ok(()) => {}
            }
        });
    }
    println!("{refused} refused, {unknown} of which nobody knew");
    assert!(refused >= TIMES && unknown >= TIMES / 3, "the test does not do what it says");
}
