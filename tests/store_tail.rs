//! What a sink reads as the log grows, from memory and from the disk in turn: what whoever reads it all at once finds.

use crate::support::gated_disk::{Gate, GatedDisk};
use crate::support::seed;
use crate::support::stored::{self, Store};
use bytes::Bytes;
use bytesize::ByteSize;
use e2b_relay::event::{Arrival, Event, Origin, Stored, Timestamp};
use e2b_relay::store::{Accepted, Limits, Parts, Settings, TailReader};
use fastrand::Rng;
use futures_util::future::join_all;
use std::path::Path;
use std::sync::Arc;

/// How many of the newest events the store keeps in memory.
const MEMORY: u64 = 4_096;
/// Of one round.
const EVENTS: u64 = 10_000;
/// About so many bytes of bodies at once: more than any of these reads has.
const BYTES: usize = 4 << 20;

fn open(path: &Path, gate: &Arc<Gate>) -> Store {
    let settings = Settings { path: path.into(), max_size: ByteSize::mib(64), ..Settings::default() };
    Store::open(settings, Parts { disk: Arc::new(GatedDisk(Arc::clone(gate))), ..stored::parts() }).unwrap()
}

/// The one place that reads on: a tail, asked for the next events.
struct Tail {
    reader: TailReader,
    /// Everything up to there it gave.
    after: u64,
}

impl Tail {
    fn new(store: &Store) -> Self {
        Self { reader: store.tail_reader(), after: 0 }
    }

    fn next(&mut self, most: usize) -> Vec<Arc<Stored>> {
        let batch = self.reader.read_after(self.after, Limits { events: most, bytes: BYTES }).unwrap();
        self.after = batch.through;
        batch.records.into_iter().map(|record| record.stored).collect()
    }
}

/// What is in the log, by whoever reads it from its beginning.
fn all(store: &Store) -> Vec<(u64, String)> {
    stored::events_after(store, 0).into_iter().map(|stored| (stored.sequence, stored.event.id)).collect()
}

/// Offers so many events at once, each a sample as often as `samples` says, and returns when they are on disk: in one group, as
/// far as they fit into one.
async fn one_group(store: &Store, gate: &Gate, numbers: std::ops::Range<u64>, samples: f64, random: &mut Rng) {
    let now = jiff::Timestamp::now();
    let offers: Vec<_> = numbers
        .map(|number| {
            let event = Event {
                id: format!("event-{number}"),
                kind: "sandbox.lifecycle.updated".to_owned(),
                timestamp: Timestamp::from(now),
                sandbox_id: format!("sandbox-{}", number % 7),
                body: Bytes::from_static(b"{}"),
            };
            let origin = if random.f64() < samples { Origin::Metrics } else { Origin::Webhook };
            store.accept(event, Arrival { origin, ..stored::arrival(now) })
        })
        .collect();
    let mut offers = offers.into_iter();
    // The first one keeps the writer busy until the others wait.
    gate.close();
    let first = offers.next().into_iter().collect::<Vec<_>>();
    let mut first = Box::pin(join_all(first));
    assert!(futures_util::poll!(&mut first).is_pending());
    gate.until_held();
    let mut rest = Box::pin(join_all(offers));
    let answered = futures_util::poll!(&mut rest);
    gate.open();
    let mut answers = first.await;
    answers.extend(match answered {
        std::task::Poll::Ready(answers) => answers,
        std::task::Poll::Pending => rest.await,
    });
    assert!(answers.into_iter().all(|answer| matches!(answer, Ok(Accepted::New { .. }))));
}

/// One log, and a tail that is asked now and then while it grows. What went wrong, if anything did.
async fn round(samples: f64, random: &mut Rng) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let store = open(folder.path(), &gate);
    let mut tail = Tail::new(&store);
    let mut got = Vec::new();
    let mut accepted = 0;
    while accepted < EVENTS {
        // It keeps up, or falls behind to about where memory begins.
        let behind = if random.u8(..4) == 0 { random.u64(..700) } else { MEMORY + random.u64(..900) };
        while accepted - tail.after <= behind && accepted < EVENTS {
            let most = [1, 40, 1_025, 1_025, 2_500][random.usize(..5)];
            let end = (accepted + random.u64(1..=most)).min(EVENTS);
            one_group(&store, &gate, accepted..end, samples, random).await;
            accepted = end;
        }
        for _ in 0..random.usize(1..=6) {
            got.extend(tail.next(random.usize(1..=500)));
        }
    }
    loop {
        let events = tail.next(random.usize(1..=700));
        if events.is_empty() {
            break;
        }
        got.extend(events);
    }
    let got: Vec<(u64, String)> = got.iter().map(|stored| (stored.sequence, stored.event.id.clone())).collect();
    let all = all(&store);
    assert_eq!(all.len() as u64, EVENTS, "what is in the log itself");
    let same = got.iter().zip(&all).take_while(|(got, all)| got == all).count();
    if same == all.len() && got.len() == all.len() {
        return Ok(());
    }
    let (had, due) = (got.get(same).map(|one| one.0), all.get(same).map(|one| one.0));
    Err(format!("{} of {} events came; after {same} of them came {had:?} where {due:?} is next", got.len(), all.len()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tail_gives_every_event_once_from_wherever_it_reads_it() {
    let mut random = seed::random("tail");
    let rounds = if seed::soak() { 200 } else { 12 };
    let mut wrong = Vec::new();
    for number in 0..rounds {
        let samples = [0.0, 0.3, 0.9][number % 3];
        if let Err(why) = round(samples, &mut random).await {
            wrong.push(format!("round {number}, {samples} of it samples: {why}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {rounds} rounds:\n{}", wrong.len(), wrong.join("\n"));
}

/// In so few steps that one can follow them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_which_the_rest_was_read_from_memory_is_not_skipped_on_disk() {
    let mut random = seed::random("tail in few steps");
    let folder = tempfile::tempdir().unwrap();
    let gate = Arc::new(Gate::default());
    let store = open(folder.path(), &gate);
    let mut tail = Tail::new(&store);
    // 1 to 300 in small groups, 302 to 1,325 in one, and so many more that memory begins at 401.
    for number in 0..150 {
        one_group(&store, &gate, 2 * number..2 * number + 2, 0.0, &mut random).await;
    }
    one_group(&store, &gate, 300..1_325, 0.0, &mut random).await;
    for start in (1_325..4_496).step_by(1_000) {
        one_group(&store, &gate, start..(start + 1_000).min(4_496), 0.0, &mut random).await;
    }
    // The disk, then memory.
    let mut got = tail.next(512);
    got.extend(tail.next(512));
    assert_eq!((got.len(), tail.after), (1_024, 1_024));
    // What was in memory is so no more.
    for start in (4_496..9_500).step_by(1_000) {
        one_group(&store, &gate, start..start + 1_000, 0.0, &mut random).await;
    }
    got.extend(tail.next(512));
    let sequences: Vec<u64> = got.iter().map(|stored| stored.sequence).collect();
    let expected: Vec<u64> = (1..=1_536).collect();
    let skipped = sequences.windows(2).find(|pair| pair[0] + 1 != pair[1]);
    assert_eq!(skipped, None, "after the first of them comes the second");
    assert_eq!(sequences, expected);
}
